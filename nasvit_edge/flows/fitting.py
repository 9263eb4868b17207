"""`accuracy fit`: measure subnets, fit a predictor to them, write it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nasvit_edge import data_sets, files
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.flows.measured import read_measured
from nasvit_edge.flows.search import Request, measured_accuracy
from nasvit_edge.searching import fitting
from nasvit_edge.searching.accuracy import parsed
from nasvit_edge.space import SearchSpace, has_weights, load_space

_AT_ONCE = 8  # subnets measured between two signs of life


def fit(
    *,
    space: str,
    supernet: str | None,
    data: str | None,
    samples: int,
    seed: int,
    out: Path,
    workers: int | None = None,
    measured: Path | None = None,
    in_order: bool = False,
    on_progress: Callable[[int, int, str], None] = lambda done, total, detail: None,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure `samples` subnets on images, or take those of the file `measured`, and write the predictor to `out`; returns its content.

    What was measured is kept in the cache: an interrupted run goes on where it was. Under torchrun every process
    measures its part, and the first one writes.

    Raises:
        NasvitEdgeError: neither weights nor images are given or shipped; too few samples; a file that holds something else.
    """
    loaded = load_space(space)
    if measured is not None:
        return _from_file(measured, loaded, out)
    if samples < fitting.FEWEST:
        raise NasvitEdgeError(
            f"--samples {samples} are too few for a predictor; give at least {fitting.FEWEST}"
        )
    supernet, data = _shipped(loaded, supernet, data)
    asked = Request(space=space, supernet=supernet, data=data, workers=workers, in_order=in_order)
    source = measured_accuracy(asked, loaded, note, on_progress)
    configs = fitting.drawn(loaded, samples, seed)
    accuracies: list[float] = []
    for at in range(0, len(configs), _AT_ONCE):
        accuracies += source.many(configs[at : at + _AT_ONCE])
        on_progress(len(accuracies), len(configs), f"best {max(accuracies):.2%}")
    images = f"{len(source.validation)} images of {source.validation.name}"
    told = f"{len(configs)} subnets of {Path(supernet).name} measured on {images}"
    content = fitting.fit(loaded, configs, accuracies, told) | {"seed": seed}
    content |= {"weights_sha256": source.supernet.source.get("sha256")}  # of generic weights None
    key = files.file_and_key(supernet)[1]
    content |= {"weights_key": key} if key is not None else {}
    parsed(out.stem, content, loaded)
    if source.writes:
        files.write_json(out, content)
    return content


def _from_file(path: Path, space: SearchSpace, out: Path) -> dict[str, Any]:
    configs, accuracies = read_measured(path, space)
    content = fitting.fit(space, configs, accuracies, f"{len(configs)} subnets of {path.name}")
    parsed(out.stem, content, space)
    files.write_json(out, content)
    return content


def _shipped(space: SearchSpace, supernet: str | None, data: str | None) -> tuple[str, str]:
    """Weights and images: what is given, else what is shipped for the space."""
    if supernet is None and has_weights(space):
        supernet = space.name
    if data is None and supernet is not None and data_sets.has_bundled(space):
        data = data_sets.BUNDLED
    if supernet is None or data is None:
        raise NasvitEdgeError("fitting a predictor takes weights and images: add --supernet W --data D")
    return supernet, data
