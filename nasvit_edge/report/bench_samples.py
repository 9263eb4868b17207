"""Charts of the samples of one benchmarked artifact beside its baseline: in their order, and as a distribution.

Positions on the first one's axis are ranks in the order of the session; a round's samples lie around its rank, also in
their order, so that a drift shows within a round and from round to round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasvit_edge.benchmark.result import Measured, Result
from nasvit_edge.benchmark.session import DISTURBED, clean
from nasvit_edge.benchmark.verdicts import Cell
from nasvit_edge.errors import require
from nasvit_edge.report.page import Figure, figure_of
from nasvit_edge.units import show_ms

BASE, CANDIDATE = "base", "candidate"
COLOURS = {BASE: "#8794a8", CANDIDATE: "#d9681d"}
MOST_SAMPLES = 200  # of a round in the strip
_MOST_POINTS = 6000  # of a strip
_WIDTH = 0.8  # of a round, in ranks
_QUANTILES = 400  # of a distribution
_Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class _Round:
    """A round's samples in ms, where it stood, and what was flagged."""

    side: str
    number: int
    position: int
    ms: _Array
    flags: tuple[str, ...]

    @property
    def disturbed(self) -> bool:
        return not clean({"flags": self.flags})


def sample_figures(cell: Cell, results: Sequence[Result]) -> list[Figure]:
    """The strip of all samples and their distribution; none where there are no samples."""
    aa = any(r.aa for r in results if any(a is cell.artifact for a in r.artifacts))
    rounds = _rounds(cell.artifact, CANDIDATE)
    if cell.baseline is not None:
        rounds += _rounds(cell.baseline, BASE)
    rounds.sort(key=lambda r: r.position)
    if not rounds:
        return []
    about = f"{cell.artifact.name}, both sides the same file" if aa else cell.artifact.name
    top = _top(rounds)
    figures = [_strip(about, rounds, top)]
    kept = [r for r in rounds if not r.disturbed]
    return [*figures, _distribution(about, kept, top)] if kept else figures


def _rounds(artifact: Measured, side: str) -> list[_Round]:
    return [
        _Round(
            side,
            entry["round"],
            entry["position"],
            np.asarray(entry["samples_us"], np.float64) / 1e3,
            tuple(entry["flags"]),
        )
        for entry in artifact.rounds
    ]


def _top(rounds: Sequence[_Round]) -> float:
    """The slowest sample that is drawn at its place: well above what undisturbed rounds mostly take."""
    counted = [r.ms for r in rounds if not r.disturbed] or [r.ms for r in rounds]
    low, high = min(float(ms.min()) for ms in counted), max(float(np.quantile(ms, 0.95)) for ms in counted)
    return min(high + 0.35 * (high - low), max(float(r.ms.max()) for r in rounds))


def _strip(about: str, rounds: Sequence[_Round], top: float) -> Figure:
    most = max(10, min(MOST_SAMPLES, _MOST_POINTS // len(rounds)))
    placed: dict[bool, list[dict[str, Any]]] = {False: [], True: []}  # whether beyond the upper edge
    marks = []
    for rank, own in enumerate(rounds, 1):
        chosen = np.unique(np.linspace(0, len(own.ms) - 1, min(most, len(own.ms))).round().astype(int))
        places = rank + _WIDTH * ((chosen + 0.5) / len(own.ms) - 0.5)
        for x, ms in zip(places, own.ms[chosen], strict=True):
            row = {"x": round(float(x), 4), "ms": _digits(min(ms, top)), "side": own.side}
            placed[bool(ms > top)].append(row)
        marks.append(_mark(rank, own, top))
    caption = _caption(rounds, most, top)
    title = f"Samples of {about} by round"
    chart = _strip_chart(len(rounds), _sides(rounds))
    data = {"samples": placed[False], "beyond": placed[True], "rounds": marks}
    return figure_of(title, caption, chart, data, dense=True)


def _mark(rank: int, own: _Round, top: float) -> dict[str, Any]:
    """A round's median, and what the pointer tells of it."""
    median, tenth = (float(np.quantile(own.ms, q)) for q in (0.5, 0.9))
    return {
        "from": rank - 0.5,
        "to": rank + 0.5,
        "left": rank - 0.42,
        "right": rank + 0.42,
        "median": _digits(min(median, top)),
        "side": own.side,
        "shade": 1 if own.disturbed else 0,
        "round": own.number + 1,
        "p50": show_ms(median),
        "p90": show_ms(tenth),
        "slowest": show_ms(float(own.ms.max())),
        "samples": len(own.ms),
        "flags": ", ".join(own.flags) or "none",
    }


def _caption(rounds: Sequence[_Round], most: int, top: float) -> str:
    told = ["Each dot is an inference, each bar a round's median."]
    if any(len(r.ms) > most for r in rounds):
        total = sum(len(r.ms) for r in rounds)
        told.append(f"Thinned out to {most} samples a round ({total} were measured).")
    if beyond := sum(int((r.ms > top).sum()) for r in rounds if not r.disturbed):
        told.append(f"Triangles at the upper edge: {beyond} above {show_ms(top)}.")
    if flags := sorted({f for r in rounds for f in r.flags if f in DISTURBED}):
        told.append(f"Shaded rounds were disturbed ({', '.join(flags)}) and count for nothing.")
    return " ".join(told)


def _sides(rounds: Sequence[_Round]) -> list[str]:
    return [side for side in COLOURS if any(r.side == side for r in rounds)]


def _colour(altair: Any, sides: Sequence[str]) -> Any:
    scale = altair.Scale(domain=list(sides), range=[COLOURS[side] for side in sides])
    more = {} if len(sides) > 1 else {"legend": None}
    return altair.Color("side:N", title=None, scale=scale, **more)


def _strip_chart(count: int, sides: Sequence[str]) -> Any:
    altair = require("altair", "report")
    reach = altair.Scale(domain=[0.5, count + 0.5], nice=False)
    axis = altair.Axis(grid=False, tickMinStep=1, format="d", labelOverlap=True)
    x = altair.X("x:Q", title="rounds, in the order of the session", scale=reach, axis=axis)
    y = altair.Y("ms:Q", title="latency (ms)", scale=altair.Scale(zero=False))
    colour = _colour(altair, sides)
    samples, beyond = (
        altair.Chart(altair.NamedData(name)).encode(x=x, y=y, color=colour) for name in ("samples", "beyond")
    )
    rounds = altair.Chart(altair.NamedData("rounds"))
    medians = rounds.encode(x="left:Q", x2="right:Q", y="median:Q")
    tips = [
        altair.Tooltip(f"{key}:N") for key in ("side", "round", "p50", "p90", "slowest", "samples", "flags")
    ]
    return altair.layer(
        samples.mark_circle(size=9, opacity=0.45),
        beyond.mark_point(size=26, shape="triangle-up", filled=True, opacity=0.8),
        medians.mark_rule(strokeWidth=5, style="halo", strokeCap="round"),
        medians.mark_rule(strokeWidth=2.5, strokeCap="round").encode(color=colour),
        rounds.mark_rect(style="shade").encode(
            x="from:Q", x2="to:Q", fillOpacity=altair.FillOpacity("shade:Q", scale=None), tooltip=tips
        ),
    ).properties(width="container", height=260)


def _distribution(about: str, rounds: Sequence[_Round], top: float) -> Figure:
    """Empirical distribution functions, of a round as many samples as it has."""
    rows, told = [], []
    for side in _sides(rounds):
        pooled = np.concatenate([r.ms for r in rounds if r.side == side])
        shares = np.linspace(0, 1, min(_QUANTILES, len(pooled) + 1))
        values = np.quantile(pooled, shares)
        rows += [
            {"ms": _digits(ms), "share": round(float(share), 4), "side": side, "latency": show_ms(float(ms))}
            for share, ms in zip(shares, values, strict=True)
            if ms <= top
        ]
        if beyond := int((pooled > top).sum()):
            told.append(f"Not shown: {beyond} of {len(pooled)} of the {side}, above {show_ms(top)}.")
    caption = "Share of all samples of undisturbed rounds that took at most so long. Verdicts are of rounds, not of these samples."
    chart = _distribution_chart(_sides(rounds))
    title = f"Distribution of the samples of {about}"
    return figure_of(title, " ".join([caption, *told]), chart, {"samples": rows})


def _distribution_chart(sides: Sequence[str]) -> Any:
    altair = require("altair", "report")
    axis = altair.Axis(format="%", values=[0, 0.25, 0.5, 0.75, 0.9, 1])
    tips = [
        altair.Tooltip("side:N"),
        altair.Tooltip("share:Q", format=".1%"),
        altair.Tooltip("latency:N", title="at most"),
    ]
    return (
        altair.Chart(altair.NamedData("samples"))
        .mark_line(strokeWidth=2, interpolate="step-after")
        .encode(
            x=altair.X("ms:Q", title="latency (ms)", scale=altair.Scale(zero=False, nice=False)),
            y=altair.Y("share:Q", title="share of samples", scale=altair.Scale(domain=[0, 1]), axis=axis),
            color=_colour(altair, sides),
            tooltip=tips,
        )
        .properties(width="container", height=260)
    )


def _digits(value: float) -> float:
    """Five that mean something: all that a screen shows, in a third of the bytes."""
    return float(f"{value:.5g}")
