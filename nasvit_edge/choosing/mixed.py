"""What `--precision mixed` means: the tables of all precisions that a runtime's files may mix, and what these cost on images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from nasvit_edge.choosing.accuracy import FITTED, AccuracyChoice, fitting, measured_accuracy
from nasvit_edge.choosing.noises import Noises, noises
from nasvit_edge.choosing.table import Answering, answering
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.export.formats import format_for
from nasvit_edge.hints import DATA, WEIGHTS
from nasvit_edge.latency.names import MIXED
from nasvit_edge.listening import Listener
from nasvit_edge.profile.speed import relative_speeds
from nasvit_edge.requests.options import TableChoice
from nasvit_edge.requests.search import Request
from nasvit_edge.searching.accuracy import AccuracyPredictor
from nasvit_edge.searching.limits import Limit
from nasvit_edge.searching.mixing import Mixing
from nasvit_edge.space import SearchSpace

_USUAL_LOSS = "0.5"
_SAME = 0.02  # what tables of one speed differ by


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixable:
    """What precisions cost, as it was measured and as it is searched with."""

    measured: Noises
    mixing: Mixing


def is_mixed(request: Request) -> bool:
    """Whether a precision is searched for each stage; NasvitEdgeError where that, or what is said of it, cannot be."""
    if request.table.precision != MIXED:
        if request.max_loss is not None:
            raise NasvitEdgeError(
                f"--max-loss {request.max_loss} is for --precision {MIXED}: give that too, or leave it out"
            )
        return False
    others = {
        "--table": request.table.table,
        "--confirm": request.confirm,
        "--minutes": request.minutes,
        "--population": request.population,
        "--generations": request.generations,
        "--confidence": request.confidence,
        "--size-front": request.with_size or None,
    }
    for option, value in others.items():
        if value is not None:
            given = option if value is True else f"{option} {value}"
            raise NasvitEdgeError(
                f"--precision {MIXED} takes the tables of all precisions and the exact method; {given} does not go with it"
            )
    return True


def loss_limit(request: Request) -> Limit:
    """The limit on what precisions cost."""
    text = request.max_loss or _USUAL_LOSS
    try:
        points = float(text.strip().removesuffix("%"))
    except ValueError:
        points = -1.0
    if not 0 <= points <= 100:
        raise NasvitEdgeError(f"--max-loss is {text!r}; it is in points of accuracy, from 0 to 100, as 0.5")
    return Limit.of("loss", points / 100, "--max-loss")


def tables_to_mix(asked: TableChoice, space: SearchSpace, listener: Listener) -> tuple[Answering, ...]:
    """A table a precision, the exact one first; those of this machine that are not there are measured.

    Raises:
        TableError: another device has none of a precision.
        NasvitEdgeError: the runtime's files have one precision.
    """
    first = answering(replace(asked, precision="fp32"), space, listener, measures=True)
    file = first.table.file
    form = format_for(file.runtime)
    if form.mixed is None:
        raise NasvitEdgeError(
            f"--precision {MIXED} is for onnxruntime and litert; a file for {file.runtime} has one precision for all its stages"
        )
    same = replace(asked, runtime=file.runtime, threads=file.threads)
    others = [
        answering(replace(same, precision=precision), space, listener, measures=True)
        for precision in form.mixed.of[1:]
    ]
    return _at_one_speed((first, *others), asked, listener)


def _at_one_speed(
    answers: tuple[Answering, ...], asked: TableChoice, listener: Listener
) -> tuple[Answering, ...]:
    """With tables of this machine as if all were measured at the speed that it had for the first: a tenth between them would decide for its precision."""
    if asked.no_canary:
        return answers
    speeds = relative_speeds([answer.table for answer in answers], listener)
    if speeds is None:
        return answers
    placed = []
    for answer, speed in zip(answers, speeds, strict=True):
        apart = abs(math.log(speed.factor)) > max(_SAME, 2 * speed.error)
        if apart:
            listener.note(
                f"table {answer.table.path.name}: taken times {speed.factor:.3f}, since this machine's speed was another when it was measured "
                f"(timed beside the first table's, good to {speed.error:.1%})"
            )
        placed.append(replace(answer, table=answer.table.slowed(speed.factor)) if apart else answer)
    return tuple(placed)


def mixable(
    answers: tuple[Answering, ...],
    choice: AccuracyChoice,
    accuracy: object,
    space: SearchSpace,
    listener: Listener,
) -> Mixable:
    """Measure what precisions cost on the images that accuracy is of.

    Raises:
        NasvitEdgeError: accuracies are measured and not predicted; or there are no weights or images.
    """
    asked = choice.with_shipped(space)
    if not isinstance(accuracy, AccuracyPredictor):
        raise NasvitEdgeError(
            f"--precision {MIXED} adds predicted accuracies up: fit a predictor ({fitting(asked, space)}), then add --accuracy {FITTED}"
        )
    if asked.supernet is None or asked.data is None:
        raise NasvitEdgeError(
            f"what precisions cost is unknown without weights and images: add --supernet {WEIGHTS} --data {DATA}"
        )
    form = format_for(answers[0].table.file.runtime)
    source = measured_accuracy(asked, space, listener)
    measured = noises(source, asked.supernet, asked.data, form, listener)
    mixing = Mixing(
        tables=tuple(answer.table for answer in answers),
        noise=measured.by_stage(),
        losses=tuple((at, lost) for at, lost in measured.losses),
    )
    return Mixable(measured=measured, mixing=mixing)
