"""How long work will still take: what is under way by its pace, what has not begun by what its kind of work takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nasvit_edge.listening import PlannedStep

_TRUST = 0.02  # of a step's pieces: done so many, its pace counts as much as what was thought before
_SETTLED_S = 2.0  # of expected work: done so much, what its kind takes counts as much as what was thought


@dataclass(slots=True)
class TimeLeft:
    """Follows progress; `seconds` is what is left of everything that is known of.

    Attributes:
        coming: steps that have not begun.
        spent: kind -> seconds that its steps took, and that they were thought to take.
    """

    clock: Callable[[], float] = time.monotonic
    coming: list[PlannedStep] = field(default_factory=list)
    spent: dict[str, tuple[float, float]] = field(default_factory=dict)
    step: PlannedStep | None = None  # under way, where it was planned
    heading: tuple[str, int] | None = None
    begun: tuple[float, int] = (0.0, 0)
    now: tuple[float, int] = (0.0, 0)

    def plan(self, steps: Sequence[PlannedStep]) -> None:
        """What is still to come, instead of what was thought before."""
        self._settle()
        self.coming, self.step, self.heading = list(steps), None, None

    def progress(self, done: int, total: int, detail: str = "") -> None:
        """So much of what is under way is done."""
        name = self._name(detail)
        if (name, total) != self.heading:
            self._begin(name, total, done)
        self.now = (self.clock(), done)

    def seconds(self) -> float | None:
        """None while nothing says how long a piece takes."""
        each = self._each()
        if each is None or self.heading is None:
            return None
        return each * (self.heading[1] - self.now[1]) + sum(
            step.count * step.each_s * self._slower(step.kind) for step in self.coming
        )

    def _name(self, detail: str) -> str:
        """Of a planned step its name; "" of others, whose details change as they go on."""
        names = [step.name for step in (*([self.step] if self.step else []), *self.coming)]
        return next((name for name in names if detail == name or detail.startswith(f"{name},")), "")

    def _begin(self, name: str, total: int, done: int) -> None:
        self._settle()
        if self.step is None or name != self.step.name:  # one that goes on with another total stays
            at = next((i for i, step in enumerate(self.coming) if step.name == name), None)
            self.step = None if at is None else self.coming[at]
            self.coming = self.coming if at is None else self.coming[at + 1 :]
        self.heading, self.begun = (name, total), (self.clock(), done)

    def _settle(self) -> None:
        """What was under way is over: what its kind took is known."""
        if self.step is not None:
            took, thought = self._taken()
            before = self.spent.get(self.step.kind, (0.0, 0.0))
            self.spent[self.step.kind] = (before[0] + took, before[1] + thought)

    def _taken(self) -> tuple[float, float]:
        """Seconds of the step under way, and those that its pieces were thought to take."""
        assert self.step is not None
        return self.now[0] - self.begun[0], (self.now[1] - self.begun[1]) * self.step.each_s

    def _each(self) -> float | None:
        """Seconds of a piece of what is under way: by its pace, at first by what its kind takes."""
        pieces, took = self.now[1] - self.begun[1], self.now[0] - self.begun[0]
        if self.step is None or self.heading is None:
            return took / pieces if pieces > 0 else None
        trust = max(1.0, _TRUST * self.heading[1])
        thought = self.step.each_s * self._slower(self.step.kind)
        return (trust * thought + took) / (trust + pieces)

    def _slower(self, kind: str) -> float:
        """How much longer a kind of work takes than was thought, as far as that was seen."""
        took, thought = self.spent.get(kind, (0.0, 0.0))
        if self.step is not None and self.step.kind == kind:
            took, thought = (a + b for a, b in zip((took, thought), self._taken(), strict=True))
        return (took + _SETTLED_S) / (thought + _SETTLED_S)
