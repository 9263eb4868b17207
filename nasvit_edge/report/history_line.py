"""One line of a history in words: levels, steps and what changed at them, and a small picture of characters."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nasvit_edge.benchmark.history import Point, series
from nasvit_edge.benchmark.metrics import METRICS, Metric
from nasvit_edge.benchmark.steps import Fit, Level, fit, levels
from nasvit_edge.machines import Machine, finer
from nasvit_edge.report.figures import one
from nasvit_edge.report.model import Column, Table, figure, name, own, table, text

BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH = 60
_NEAR = 2  # runs that a step may be off
_SHOWN_DRIFT = 0.01
_SHOWN_CHANGES = 3  # of the runner, each in words


@dataclass(frozen=True, slots=True)
class RunnerChange:
    """The run at `index` of a line is the first after runs of the same setting by another machine."""

    index: int
    before: Machine


@dataclass(frozen=True, slots=True)
class Line:
    """A series in order of time (at least one point), and what was found in it.

    Attributes:
        alone: whether no other machine has runs of its setting.
        earlier: how many runs before these were left out.
    """

    points: tuple[Point, ...]
    fit: Fit
    levels: tuple[Level, ...]
    runner_changes: tuple[RunnerChange, ...] = ()
    alone: bool = True
    earlier: int = 0

    @property
    def metric(self) -> Metric:
        """Of all its points."""
        return METRICS[self.points[0].metric]

    @property
    def runtime_changes(self) -> list[int]:
        """Indices of the first runs by another version of the runtime."""
        versions = [point.runtime_version for point in self.points]
        return [i for i in range(1, len(versions)) if versions[i] != versions[i - 1]]

    @property
    def name(self) -> str:
        """`model.onnx on jetson: latency_p50 (onnxruntime, 1 thread, fp32)`."""
        point = self.points[0]
        threads = f"{point.threads} thread{'s' if point.threads > 1 else ''}"
        setting = f"{point.runtime}, {threads}, {point.precision}"
        by = "" if self.alone else f" by {point.machine.name}"
        return plain(f"{point.artifact} on {point.device}: {point.metric} ({setting}){by}")


def line_of(points: Sequence[Point]) -> Line:
    """A series in order of time with its levels."""
    fitted = fit(points)
    return Line(tuple(points), fitted, tuple(levels(points, fitted.starts)))


def lines_of(points: Sequence[Point], last: int | None = None) -> list[Line]:
    """A line for each series, of its last runs only where that is asked for.

    Runs of one setting by several machines are as many lines: what differs between machines is no commit's doing.
    """
    settings: dict[tuple[str, ...], list[list[Point]]] = {}
    for runs in series(points).values():
        settings.setdefault(runs[0].setting, []).append(runs)
    return [_line(runs, parts, last) for parts in settings.values() for runs in parts]


def _line(runs: Sequence[Point], parts: Sequence[Sequence[Point]], last: int | None) -> Line:
    """The line of a series of those of its setting."""
    first = 0 if last is None else max(0, len(runs) - last)
    line = line_of(runs[first:])
    return replace(
        line, runner_changes=_runner_changes(runs, parts, first), alone=len(parts) == 1, earlier=first
    )


def _runner_changes(
    runs: Sequence[Point], parts: Sequence[Sequence[Point]], first: int
) -> tuple[RunnerChange, ...]:
    """Where a series goes on, or begins, after another machine's run; indices from its run `first` on."""
    if len(parts) == 1:
        return ()
    everyone = sorted((point for part in parts for point in part), key=lambda point: point.moment)
    places = {id(point): place for place, point in enumerate(runs)}
    return tuple(
        RunnerChange(places[id(now)] - first, before.machine)
        for before, now in itertools.pairwise(everyone)
        if before.machine != now.machine and places.get(id(now), -1) >= first
    )


def summary(line: Line) -> str:
    """`60 runs, 10.0 ms at first, 10.6 ms at last; last step +6.1 % at 2026-01-09 12:00 (0123abcd)`."""
    points, count = line.points, len(line.points)
    ends = [one(line.metric, point.value) for point in (points[0], points[-1])]
    if count == 1:
        return f"1 run, {ends[0]}{runners(line)}"
    sentence = f"{count} runs, {ends[0]} at first, {ends[1]} at last"
    if abs(line.fit.drift) >= _SHOWN_DRIFT:
        sentence += f", a drift of {100 * line.fit.drift:+.1f} %"
    if len(line.levels) == 1:
        return f"{sentence}; no step{runners(line)}"
    last = line.levels[-1]
    return f"{sentence}; last step {change_text(line, last)} at {when(points[last.start])}{runners(line)}"


def runners(line: Line) -> str:
    """`; the runner changed from A to B at 2026-01-09 12:00 (0123abcd)`, or how often it did; empty where it never did."""
    changes = line.runner_changes
    if not changes:
        return ""
    now = line.points[0].machine
    if len(changes) > 1:
        others = ", ".join(dict.fromkeys(change.before.name for change in changes))
        return plain(f"; runs by {now.name} and by {others} in turns, each with a line of its own")
    (change,) = changes
    sentence = f"; the runner changed from {change.before.name} to {now.name} at {when(line.points[change.index])}: not compared"
    note = finer(change.before, now)
    return plain(f"{sentence} ({note})" if note else sentence)


def change_text(line: Line, level: Level) -> str:
    """How far a level is from the one before: in percent, of an accuracy in points, of ops in their number."""
    if level.start == 0:
        return ""
    before = line.levels[line.levels.index(level) - 1]
    difference = level.value - before.value
    if line.metric.unit == "points":
        return f"{100 * difference:+.2f} points"
    if line.metric.unit == "ops" or level.change is None:
        return f"{difference:+g}"
    return f"{100 * level.change:+.1f} %"


def level_table(line: Line) -> Table:
    """A row a level."""
    return table(
        line.levels,
        Column("since", lambda level: own(minute(line.points[level.start]))),
        Column("commit", lambda level: name(plain(line.points[level.start].git_sha or "-")[:8])),
        Column("runs", lambda level: figure(str(level.end - level.start))),
        Column("level", lambda level: figure(one(line.metric, level.value))),
        Column("step by", lambda level: figure(change_text(line, level))),
        Column("about", lambda level: text(about(line, level))),
    )


def about(line: Line, level: Level) -> str:
    """What else changed at the start of a level, or within it."""
    parts = [_file_text(line, level.start)] if level.start else []
    for i in line.runtime_changes:
        if _owner(line, i) is not level:
            continue
        before, after = (plain(line.points[j].runtime_version) or "unknown" for j in (i - 1, i))
        place = "" if abs(i - level.start) <= _NEAR else f" at {when(line.points[i])}"
        parts.append(f"runtime {before} -> {after}{place}")
    parts += [
        _runner_text(line, change) for change in few_runner_changes(line) if _holds(level, change.index)
    ]
    return "; ".join(text for text in parts if text)


def few_runner_changes(line: Line) -> tuple[RunnerChange, ...]:
    """The changes of the runner, where they are few; runners in turns are told once, of the line."""
    return line.runner_changes if len(line.runner_changes) <= _SHOWN_CHANGES else ()


def _holds(level: Level, index: int) -> bool:
    return level.start <= index < level.end


def _runner_text(line: Line, change: RunnerChange) -> str:
    now = line.points[change.index]
    place = "" if _first(line, change.index) else f" at {when(now)}"
    return plain(f"runner {change.before.name} -> {now.machine.name}{place}")


def _first(line: Line, index: int) -> bool:
    """Whether a level starts with this run."""
    return any(level.start == index for level in line.levels)


def _owner(line: Line, index: int) -> Level:
    """The level whose start a change of the runtime is at, as exactly as steps are found, or that it lies within."""
    near = [level for level in line.levels[1:] if abs(level.start - index) <= _NEAR]
    if near:
        return min(near, key=lambda level: abs(level.start - index))
    return next(level for level in line.levels if _holds(level, index))


def _file_text(line: Line, start: int) -> str:
    """Whether the step can come from the artifact at all."""
    around = {point.sha256 for point in line.points[max(0, start - 1 - _NEAR) : start + 1 + _NEAR]}
    return "same file before and after" if len(around) == 1 else ""


def when(point: Point) -> str:
    """Time and commit of a run: `2026-01-09 12:00 (0123abcd)`."""
    commit = f" ({plain(point.git_sha)[:8]})" if point.git_sha else ""
    return f"{minute(point)}{commit}"


def minute(point: Point) -> str:
    """When a run was, to the minute, in the time zone it was written in."""
    from datetime import datetime

    return datetime.fromisoformat(point.utc).strftime("%Y-%m-%d %H:%M")


def sparkline(values: Sequence[float], width: int = _WIDTH) -> str:
    """A bar of eight heights for each value; of more values than `width` medians of neighbours.

    Single runs far off do not flatten the rest: the scale ends at twice the range of the middle nine tenths.
    """
    parts = [
        np.median(part) for part in np.array_split(np.asarray(values, np.float64), min(width, len(values)))
    ]
    low, high = np.quantile(values, [0.05, 0.95])
    reach = max(high - low, 0.05 * abs(high), 1e-12)  # noise of a flat line stays small
    bottom = max(min(parts), low - reach / 2)
    top = max(min(max(parts), high + reach / 2), bottom + reach)
    scaled = (np.clip(parts, bottom, top) - bottom) / (top - bottom)
    return "".join(BLOCKS[round(float(share) * (len(BLOCKS) - 1))] for share in scaled)


def plain(text: str) -> str:
    """A name without what would move a terminal's cursor."""
    return "".join(c if c.isprintable() else "�" for c in text)
