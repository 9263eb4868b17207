"""Charts of the samples of one benchmarked artifact beside its baseline: in their order, and as a distribution.

Positions on the first one's axis are ranks in the order of the session; a round's samples lie around its rank, also in
their order, so that a drift shows within a round and from round to round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nasvit_edge.benchmark.result import MeasuredArtifact, Result
from nasvit_edge.benchmark.session import DISTURBED
from nasvit_edge.benchmark.verdicts import JudgedMetric
from nasvit_edge.report.drawing import figure_of
from nasvit_edge.report.model import Datum, Figure
from nasvit_edge.units import show_ms

BASE, CANDIDATE = "base", "candidate"
COLOURS = {BASE: "#8794a8", CANDIDATE: "#d9681d"}
MOST_SAMPLES = 200  # of a round in the strip
_MOST_POINTS = 6000  # of a strip
_WIDTH = 0.8  # of a round, in ranks
_QUANTILES = 400  # of a distribution
_Array = npt.NDArray[np.float64]


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
        return bool(set(DISTURBED) & set(self.flags))


def sample_figures(cell: JudgedMetric, results: Sequence[Result]) -> list[Figure]:
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
    clean = [r for r in rounds if not r.disturbed]
    return [*figures, _distribution(about, clean, top)] if clean else figures


def _rounds(artifact: MeasuredArtifact, side: str) -> list[_Round]:
    return [
        _Round(
            side,
            entry.round,
            entry.position,
            np.asarray(entry.samples_us, np.float64) / 1e3,
            entry.flags,
        )
        for entry in artifact.rounds
    ]


def _top(rounds: Sequence[_Round]) -> float:
    """The slowest sample that is drawn at its place: well above what undisturbed rounds mostly take."""
    times = [r.ms for r in rounds if not r.disturbed] or [r.ms for r in rounds]
    low, high = min(float(ms.min()) for ms in times), max(float(np.quantile(ms, 0.95)) for ms in times)
    return min(high + 0.35 * (high - low), max(float(r.ms.max()) for r in rounds))


def _strip(about: str, rounds: Sequence[_Round], top: float) -> Figure:
    most = max(10, min(MOST_SAMPLES, _MOST_POINTS // len(rounds)))
    placed: dict[bool, list[Datum]] = {False: [], True: []}  # whether beyond the upper edge
    for rank, entry in enumerate(rounds, 1):
        chosen = np.unique(np.linspace(0, len(entry.ms) - 1, min(most, len(entry.ms))).round().astype(int))
        places = rank + _WIDTH * ((chosen + 0.5) / len(entry.ms) - 0.5)
        for x, ms in zip(places, entry.ms[chosen], strict=True):
            placed[bool(ms > top)].append(
                {"x": round(float(x), 4), "ms": _digits(min(ms, top)), "side": entry.side}
            )
    return figure_of(
        "samples",
        f"Samples of {about} by round",
        _caption(rounds, most, top),
        {
            "samples": placed[False],
            "beyond": placed[True],
            "rounds": [_mark(rank, entry, top) for rank, entry in enumerate(rounds, 1)],
        },
        _sides(rounds) | {"first": 0.5, "last": len(rounds) + 0.5},
        dense=True,
    )


def _sides(rounds: Sequence[_Round]) -> dict[str, object]:
    """Those that were measured, with their colours; a legend where there are two."""
    sides = [side for side in COLOURS if any(r.side == side for r in rounds)]
    return {
        "sides": sides,
        "colours": [COLOURS[side] for side in sides],
        "legend": {"orient": "top"} if len(sides) > 1 else None,
    }


def _mark(rank: int, entry: _Round, top: float) -> Datum:
    """A round's median, and what the pointer tells of it."""
    median, tenth = (float(np.quantile(entry.ms, q)) for q in (0.5, 0.9))
    return {
        "from": rank - 0.5,
        "to": rank + 0.5,
        "left": rank - 0.42,
        "right": rank + 0.42,
        "median": _digits(min(median, top)),
        "side": entry.side,
        "shade": 1 if entry.disturbed else 0,
        "round": entry.number + 1,
        "p50": show_ms(median),
        "p90": show_ms(tenth),
        "slowest": show_ms(float(entry.ms.max())),
        "samples": len(entry.ms),
        "flags": ", ".join(entry.flags) or "none",
    }


def _caption(rounds: Sequence[_Round], most: int, top: float) -> str:
    lines = ["Each dot is an inference, each bar a round's median."]
    if any(len(r.ms) > most for r in rounds):
        total = sum(len(r.ms) for r in rounds)
        lines.append(f"Thinned out to {most} samples a round ({total} were measured).")
    if beyond := sum(int((r.ms > top).sum()) for r in rounds if not r.disturbed):
        lines.append(f"Triangles at the upper edge: {beyond} above {show_ms(top)}.")
    if flags := sorted({f for r in rounds for f in r.flags if f in DISTURBED}):
        lines.append(f"Shaded rounds were disturbed ({', '.join(flags)}) and count for nothing.")
    return " ".join(lines)


def _distribution(about: str, rounds: Sequence[_Round], top: float) -> Figure:
    """Empirical distribution functions, of a round as many samples as it has."""
    rows: list[Datum] = []
    lines = [
        "Share of all samples of undisturbed rounds that took at most so long. Verdicts are of rounds, not of these samples."
    ]
    for side in dict.fromkeys(r.side for r in rounds):
        pooled = np.concatenate([r.ms for r in rounds if r.side == side])
        shares = np.linspace(0, 1, min(_QUANTILES, len(pooled) + 1))
        rows += [
            {"ms": _digits(ms), "share": round(float(share), 4), "side": side, "latency": show_ms(float(ms))}
            for share, ms in zip(shares, np.quantile(pooled, shares), strict=True)
            if ms <= top
        ]
        if beyond := int((pooled > top).sum()):
            lines.append(f"Not shown: {beyond} of {len(pooled)} of the {side}, above {show_ms(top)}.")
    title = f"Distribution of the samples of {about}"
    return figure_of("distribution", title, " ".join(lines), {"samples": rows}, _sides(rounds))


def _digits(value: float) -> float:
    """Five that mean something: all that a screen shows, in a third of the bytes."""
    return float(f"{value:.5g}")
