"""`accuracy fit`: measure subnets, fit a predictor to them, write it."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from nasvit_edge import files, records
from nasvit_edge.choosing.accuracy import AccuracyChoice, measured_accuracy
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.requests.accuracy import Request
from nasvit_edge.searching import fitting
from nasvit_edge.searching.accuracy import predictor_of
from nasvit_edge.searching.measured import read_measured
from nasvit_edge.space import SearchSpace, load_space

_AT_ONCE = 8  # subnets measured between two signs of life


def fit(request: Request, *, listener: Listener = SILENT) -> fitting.FittedFile:
    """Measure subnets on images, or take those of a file, and write the predictor.

    What was measured is kept in the cache: an interrupted run goes on where it was. Under torchrun every process
    measures its part, and the first one writes.

    Raises:
        NasvitEdgeError: neither weights nor images are given or shipped; too few samples; a file that holds something else.
    """
    files.writable_folder(request.out.parent)
    space, out, samples = load_space(request.space), request.out, request.samples
    if request.measured is not None:
        return _from_file(request.measured, space, out)
    if samples < fitting.FEWEST:
        raise NasvitEdgeError(
            f"--samples {samples} are too few for a predictor; give at least {fitting.FEWEST}"
        )
    choice = AccuracyChoice(
        supernet=request.supernet,
        data=request.data,
        workers=request.workers,
        in_order=request.labels_in_order,
    ).with_shipped(space)
    supernet = choice.supernet
    if supernet is None or choice.data is None:
        raise NasvitEdgeError("fitting a predictor takes weights and images: add --supernet W --data D")
    source = measured_accuracy(choice, space, listener)
    configs = fitting.drawn(space, samples, request.seed)
    accuracies: list[float] = []
    for at in range(0, len(configs), _AT_ONCE):
        accuracies += source.many(configs[at : at + _AT_ONCE])
        listener.progress(len(accuracies), len(configs), f"best {max(accuracies):.2%}")
    images = f"{len(source.validation)} images of {source.validation.name}"
    origin = f"{len(configs)} subnets of {Path(supernet).name} measured on {images}"
    weights = source.supernet.source.get("sha256")  # of generic ones none
    fitted = replace(
        fitting.fit(space, configs, accuracies, origin),
        seed=request.seed,
        weights_sha256=None if weights is None else str(weights),
        weights_key=files.file_and_key(supernet)[1],
    )
    predictor_of(out.stem, fitted, space)
    if source.writes:
        records.write(out, fitted)
    return fitted


def _from_file(path: Path, space: SearchSpace, out: Path) -> fitting.FittedFile:
    configs, accuracies = read_measured(path, space)
    fitted = fitting.fit(space, configs, accuracies, f"{len(configs)} subnets of {path.name}")
    predictor_of(out.stem, fitted, space)
    records.write(out, fitted)
    return fitted
