"""`accuracy fit`: measure subnets, fit a predictor to them, write it."""

from __future__ import annotations

from pathlib import Path

from nasvit_edge import files, records
from nasvit_edge.choosing.accuracy import AccuracyChoice
from nasvit_edge.choosing.fitted import Fitting
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.requests.accuracy import Request
from nasvit_edge.searching import fitting
from nasvit_edge.searching.accuracy import predictor_of
from nasvit_edge.searching.measured import read_measured
from nasvit_edge.space import SearchSpace, load_space

USUAL_SAMPLES = 200


def fit(request: Request, *, listener: Listener = SILENT) -> fitting.FittedFile:
    """Measure subnets on images, or take those of a file, and write the predictor.

    What was measured is kept in the cache: an interrupted run goes on where it was. Under torchrun every process
    measures its part, and the first one writes.

    Raises:
        NasvitEdgeError: neither weights nor images are given or shipped; too few samples; a file that holds something else.
    """
    files.writable_folder(request.out.parent)
    space, out, samples = load_space(request.space), request.out, _samples(request)
    if request.measured is not None:
        return _from_file(request.measured, space, out)
    if request.minutes is None and samples < fitting.FEWEST:
        raise NasvitEdgeError(
            f"--samples {samples} are too few for a predictor; give at least {fitting.FEWEST}"
        )
    choice = AccuracyChoice(
        supernet=request.supernet,
        data=request.data,
        workers=request.workers,
        in_order=request.labels_in_order,
    ).with_shipped(space)
    fit_of = Fitting.of(choice, space, request.seed, listener)
    if request.minutes is None:
        fit_of.drawn(samples)
    else:
        fit_of.within(request.minutes)
    return fit_of.write(out)


def _samples(request: Request) -> int:
    """How many are measured; 0 where minutes say it."""
    if request.samples is not None and request.minutes is not None:
        raise NasvitEdgeError(
            f"--samples {request.samples} and --minutes {request.minutes:g} both say how many are measured; leave out one of the two"
        )
    if request.minutes is not None:
        return 0
    return USUAL_SAMPLES if request.samples is None else request.samples


def _from_file(path: Path, space: SearchSpace, out: Path) -> fitting.FittedFile:
    configs, accuracies = read_measured(path, space)
    file = fitting.fit(space, configs, accuracies, f"{len(configs)} subnets of {path.name}")
    predictor_of(out.stem, file, space)
    records.write(out, file)
    return file
