"""Is an artifact what it should be: its numbers against the elastic supernet, its facts against the space.

fp32 is judged by its largest error; fp16 and int8 by signal-to-noise ratio, by agreement with the
supernet on images and by top-1 where images are labelled; a segmenter by the labels of pixels, and by mean IoU
where labelled scenes are given; and every file by whether it still gives what it gave when it was exported
(`reproduction`), which shows damage too small for a quantised file's limits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import asdict

from nasvit_edge import data_sets
from nasvit_edge.data_sets.scenes import SceneSet, load_scenes
from nasvit_edge.data_sets.sets import Images
from nasvit_edge.data_sets.trained_on import Overlap
from nasvit_edge.errors import NasvitEdgeError, VerifyError
from nasvit_edge.export import arithmetic, dense, parity, reproduction, scene_checks
from nasvit_edge.export.arithmetic import Shares
from nasvit_edge.export.artifact import Artifact, open_artifact, versions
from nasvit_edge.export.checks import Check
from nasvit_edge.export.references import Reference, StoredReference, read_stored, reference
from nasvit_edge.export.reproduction import Outputs, Reproduction
from nasvit_edge.export.sidecar import Scenes
from nasvit_edge.hints import command
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.preparation import PUBLISHED
from nasvit_edge.records import Record
from nasvit_edge.space import SearchSpace
from nasvit_edge.trusting import is_trusted

if TYPE_CHECKING:
    from nasvit_edge.model.supernet import Supernet


class OnImages(Record, frozen=True, kw_only=True, omit_defaults=False):
    """A classifier's top-1; `checked`: by its sidecar, `arithmetic` of a file that claims 8 bits."""

    artifact: str
    checked: bool
    precision: str
    arithmetic: Shares | None
    split: str
    trained_on: Overlap
    data: str
    chain: str
    images: int
    correct: int
    accuracy: float


class OnScenes(Scenes, frozen=True, kw_only=True, omit_defaults=False):
    """A segmenter's figures; the rest as of `OnImages`."""

    artifact: str
    checked: bool
    precision: str
    arithmetic: Shares | None
    split: str
    trained_on: Overlap


def verify(
    path: Path, *, weights: str | None = None, space_path: str | None = None, data: str | None = None
) -> Check:
    """Repeat the check of an artifact against the elastic supernet and the search space.

    The supernet is `weights` where given, rebuilt where it was random or is shipped with the package;
    otherwise the logits stored at export time stand in for it, and the outcome says "stored".
    `data`: labelled scenes, on which a segmenter is compared besides.
    """
    artifact = open_artifact(path)
    space = artifact.space(space_path)
    config = artifact.config(space)
    artifact.check_facts(space, config)
    if data is not None and not space.is_dense:
        raise NasvitEdgeError(
            f"{str(path)!r} is a classifier, and --data takes labelled scenes for segmenters; leave it out: "
            + command("verify", path, space=space_path, supernet=weights)
        )
    stored = read_stored(artifact, space, config)
    threshold = artifact.form.threshold(artifact.precision)
    supernet = _supernet_of(artifact, space, weights)
    expected, kind = stored.reference, "stored"
    if supernet is not None:
        labelled = stored.reference.choices is not None and threshold.agreement is not None
        output = stored.reference.output
        expected = reference(supernet, space, config, stored.statistics, images=labelled, output=output)
        kind = "supernet"
    run = artifact.form.module().runner(path)
    scenes = None
    if data is not None:
        exact = None if supernet is None else scene_checks.elastic(supernet, config, stored.statistics)
        scenes = scene_checks.compared(run, exact, data, space, config)
    in_8_bits = arithmetic.arithmetic(path, artifact.form.name, artifact.precision)
    check, outputs = expected.check(run, space, threshold, kind, in_8_bits)
    return replace(check, scenes=scenes, reproduction=_reproduced(artifact, stored, expected, outputs))


def _reproduced(
    artifact: Artifact, stored: StoredReference, expected: Reference, outputs: Outputs
) -> Reproduction:
    """What the file gives now against what it gave; plainly besides, on another processor or with other versions."""
    code, threshold = artifact.form.module(), artifact.form.threshold(artifact.precision)
    same = artifact.sidecar is not None and artifact.sidecar.versions == versions()
    first = expected.inputs[: reproduction.PLAIN_INPUTS]
    if not same and stored.own.plain is not None:
        outputs = replace(outputs, plain=code.plain_runner(artifact.path)(first))
    reproduced = reproduction.compared(
        outputs,
        stored.own,
        threshold,
        same_machine=same,
        labels=expected.output == dense.LABELS,
        real=expected.real_images,
    )
    if reproduced.failures() and not same and artifact.precision == "int8" and hasattr(code, "saturates"):
        return replace(reproduced, saturates=code.saturates(artifact.path, first))
    return reproduced


def _supernet_of(artifact: Artifact, space: SearchSpace, weights: str | None) -> Supernet | None:
    from nasvit_edge.model.checkpoint import load_supernet, shipped_weights

    source = artifact.weights()
    if weights is None and space.network is not None and not is_trusted(space.network.source):
        return None
    if weights is not None:
        supernet = load_supernet(weights, space)
        if any(supernet.source.get(key) != source.get(key) for key in ("sha256", "seed", "weights_key")):
            part = f" (those under {source['weights_key']!r})" if "weights_key" in source else ""
            raise VerifyError(
                f"{weights!r} are not the weights that {str(artifact.path)!r} was made from{part}"
            )
        return supernet
    if source.get("kind") == "random" and type(source.get("seed")) is int:
        return load_supernet(f"random:{source['seed']}", space)
    name = shipped_weights(str(source.get("sha256")))
    return load_supernet(name, space) if name else None


def evaluate(
    path: Path,
    data: str,
    *,
    threads: int = 1,
    space_path: str | None = None,
    chain: str = PUBLISHED,
    in_order: bool = False,
    split: str = "test",
    listener: Listener = SILENT,
) -> OnImages | OnScenes:
    """The artifact's top-1 on labelled images (`bundled`, `fashion-mnist` or a folder), by its own runtime.

    `chain`, `in_order` and `note` are as in `hits`; `split` is as in `data_sets.split_to_judge`. The report says how many of the
    images trained the weights (`trained_on`). Of a segmenter: mean IoU and pixel accuracy on the test scenes of a folder, beside the supernet's where it is here.
    """
    artifact = open_artifact(path, bare=True)
    space = artifact.space(space_path)
    _require_bundled(data, space)
    chosen, remark = data_sets.split_to_judge(data, space, artifact.trained_on(), split)
    if remark:
        listener.note(remark)
    if space.is_dense:
        return _on_scenes(artifact, space, data, threads, chosen)
    how = Judging(threads, space_path, chain, in_order, chosen)
    images, right = _hits(artifact, data, how, listener)
    return OnImages(
        **_about(artifact, images, chosen),
        data=images.name,
        chain=chain,
        images=len(right),
        correct=int(right.sum()),
        accuracy=int(right.sum()) / len(right),
    )


def _about(artifact: Artifact, images: Images | SceneSet, split: str) -> dict[str, Any]:
    """What both kinds of evaluation say of a file."""
    return {
        "artifact": artifact.path.name,
        "checked": artifact.checked,
        "precision": artifact.precision,
        "arithmetic": arithmetic.told(artifact.path, artifact.form.name, artifact.precision),
        "split": split,
        "trained_on": data_sets.overlap(artifact.trained_on(), images),
    }


def _on_scenes(artifact: Artifact, space: SearchSpace, data: str, threads: int, split: str) -> OnScenes:
    config = artifact.config(space)
    artifact.check_facts(space, config)
    run = artifact.form.module().runner(artifact.path, threads)
    supernet, exact = _supernet_of(artifact, space, None), None
    if (
        supernet is not None and artifact.checked
    ):  # without its sidecar the statistics are not known to be its own
        statistics = read_stored(artifact, space, config).statistics
        exact = scene_checks.elastic(supernet, config, statistics)
    scenes = scene_checks.compared(run, exact, data, space, config, split)
    return OnScenes(**asdict(scenes), **_about(artifact, load_scenes(data, split, space), split))


def hits(
    path: Path,
    data: str,
    *,
    threads: int = 1,
    space_path: str | None = None,
    chain: str = PUBLISHED,
    in_order: bool = False,
    split: str = "test",
    listener: Listener = SILENT,
) -> tuple[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    """The name of the images, and which of them the artifact gives their label, by its own runtime.

    Args:
        chain: how images are prepared (`Preparation.chain`).
        in_order: class folders whose names do not say which of the file's labels they are take these in order.
        split: as in `data_sets.load_images`.
        note: told what the images are.
    """
    artifact = open_artifact(path, bare=True)
    images, right = _hits(artifact, data, Judging(threads, space_path, chain, in_order, split), listener)
    return images.name, right


@dataclass(frozen=True, slots=True)
class Judging:
    """The options of `hits`."""

    threads: int
    space_path: str | None
    chain: str
    in_order: bool
    split: str


def _hits(
    artifact: Artifact, data: str, how: Judging, listener: Listener
) -> tuple[Images, np.ndarray[Any, np.dtype[np.bool_]]]:
    """The images, and which of them the artifact gives their label."""
    space = artifact.space(how.space_path)
    config = artifact.config(space)
    _require_bundled(data, space)
    rule = space.preparation(config.resolution, how.chain)
    space = artifact.named(space)
    images = data_sets.load_images(data, how.split, space, rule, in_order=how.in_order, listener=listener)
    if isinstance(images, SceneSet):
        raise NasvitEdgeError(
            f"{artifact.path.name} labels pixels: there are no images that it gets right or wrong"
        )
    run = artifact.form.module().runner(artifact.path, how.threads)
    return images, parity.hits(run, images, space, config.resolution)


def _require_bundled(data: str, space: SearchSpace) -> None:
    if data == data_sets.BUNDLED and not data_sets.has_bundled(space):
        raise NasvitEdgeError(f"no images are bundled for space {space.name!r}; give a folder with --data")


def overlaps(
    path: Path, data: str, *, threads: int = 1, space_path: str | None = None, split: str = "test"
) -> tuple[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """The name of the scenes, and what a segmenter's labels have in common with each one's mask, by its own runtime.

    (N, 2, C): of each scene and class the pixels that are right, and those of the union.
    """
    artifact = open_artifact(path, bare=True)
    space = artifact.space(space_path)
    config = artifact.config(space)
    artifact.check_facts(space, config)
    run = artifact.form.module().runner(artifact.path, threads)
    return scene_checks.overlaps(run, data, space, config, split)
