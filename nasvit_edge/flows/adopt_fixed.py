"""`adopt --fixed`: a network of others becomes a space of one, with files that every other command takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasvit_edge import data_sets, files, systems
from nasvit_edge.errors import CheckpointError, NasvitEdgeError
from nasvit_edge.export.quiet import quiet
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.preparation import Preparation
from nasvit_edge.records import Record
from nasvit_edge.requests.adopt import Request
from nasvit_edge.space import space_toml
from nasvit_edge.trusting import TIMM, trust

if TYPE_CHECKING:
    from nasvit_edge.space import SearchSpace

SPACE, WEIGHTS, CONFIG = "space.toml", "supernet.safetensors", "config.json"


class AdoptReport(Record, frozen=True, kw_only=True):
    """The files that were written, and what the network is.

    Attributes:
        weights: where they are from, as `Supernet.source` says.
        trust_code: whether commands have to be told that they may run it.
        preparation: how images become its input.
        file_bytes: of an fp32 ONNX file, computed.
    """

    out: str
    space: str
    supernet: str
    config: str
    network: str
    name: str
    size: int
    classes: int
    macs: int
    parameters: int
    activations: int
    file_bytes: int
    preparation: Preparation
    weights: dict[str, Any]
    trust_code: bool


def adopt_fixed(request: Request, *, listener: Listener = SILENT) -> AdoptReport:
    """Write `space.toml`, `supernet.safetensors` and `config.json` of a network that stays as it is.

    Raises:
        NasvitEdgeError: one line about a network, weights, names of classes or a folder that do not fit.
    """
    systems.require_command("adopt")
    source = source_of(request.network)
    out = files.writable_folder(request.out)
    if (out / WEIGHTS).exists():
        raise CheckpointError(f"{str(out)!r} holds weights already; choose another --out")
    labels = _labels(request)
    from nasvit_edge.adopting import fixed
    from nasvit_edge.model.checkpoint import save_supernet

    if not source.startswith(TIMM):
        trust(source)  # the user named it
    known = fixed.facts(source, request.size)
    for note in known.notes:
        listener.note(note)
    classes = request.classes or len(labels) or fixed.classes_of(request.weights, known)
    listener.progress(0, 2, f"making {source} and counting what it costs")
    space = fixed.space_of(source, known, classes, labels)
    listener.progress(1, 2, "its weights")
    with quiet():  # what fetches weights tells of every attempt
        supernet = fixed.filled(space, request.weights)
    if "note" in supernet.source:
        listener.note(str(supernet.source["note"]))
    files.write_text(out / SPACE, space_toml(space))
    files.write_json(out / CONFIG, space.largest().to_dict())
    save_supernet(supernet, out / WEIGHTS, {"space": space.name, **supernet.source})
    listener.progress(2, 2, "written")
    return _report(space, out, supernet.source)


def source_of(net: str) -> str:
    """`timm:NAME` of a name, and what has a colon as it is; NasvitEdgeError for what only elastic networks are."""
    if net.startswith("torchvision:"):
        name = net.removeprefix("torchvision:")
        raise NasvitEdgeError(
            f"--fixed takes networks of timm and functions: torchvision.models:{name} is one, without weights; give them by --weights FILE"
        )
    return net if ":" in net else f"{TIMM}{net}"


def _labels(request: Request) -> tuple[str, ...]:
    """The names of the classes; empty where none are given."""
    if request.labels is not None and request.data is not None:
        raise NasvitEdgeError("--labels and --data both name the classes; give one")
    names: tuple[str, ...] = ()
    if request.data is not None:
        names = data_sets.classes(request.data)
    elif request.labels is not None:
        text = files.read_bytes(request.labels, "labels").decode("utf-8", errors="surrogateescape")
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if names and request.classes not in (None, len(names)):
        raise NasvitEdgeError(f"--classes is {request.classes}, but there are {len(names)} names of classes")
    return names


def _report(space: SearchSpace, out: Path, source: dict[str, object]) -> AdoptReport:
    from nasvit_edge import ops, sizes

    assert space.network is not None
    (op,) = ops.lower(space, space.largest())
    return AdoptReport(
        out=str(out),
        space=str(out / SPACE),
        supernet=str(out / WEIGHTS),
        config=str(out / CONFIG),
        network=space.network.source,
        name=space.name,
        size=space.resolutions[0],
        classes=space.classes,
        macs=op.macs(),
        parameters=sizes.parameters(op),
        activations=sizes.activations(op),
        file_bytes=round(sizes.file_bytes(op, "onnx", "fp32")),
        preparation=space.preparation(),
        weights=source,
        trust_code=space.network.is_program,
    )
