"""One profile's measuring: visits in random order, canaries between, and again what drifted."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nasvit_edge.errors import DeviceError
from nasvit_edge.listening import Listener
from nasvit_edge.profile import canary
from nasvit_edge.profile.conversion import convert_all
from nasvit_edge.profile.journal import Entry, Journal
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.profile.protocol import Protocol
from nasvit_edge.transport.answers import Answer, Broken, Failure, Measurement
from nasvit_edge.transport.job import Runner

_BROKEN = 3  # models in a row that break the runtime: the next will as well


@dataclass(slots=True, kw_only=True)
class Session:
    """Measures items into a journal.

    Attributes:
        device: its name, for messages.
        failures: item id -> why it could not be measured.
        broken: item id -> how it broke the runtime, since one was answered.
    """

    protocol: Protocol
    runtime: str
    threads: int
    cores: tuple[int, ...]
    seed: int
    models: Models
    journal: Journal
    runner: Runner
    canaries: Sequence[Item]
    listener: Listener
    device: str = ""
    failures: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    prepared: dict[str, tuple[str, str]] = field(default_factory=dict)
    reading: int = -1
    read_at: float = 0.0

    def measure(self, items: Sequence[Item]) -> None:
        """Measure what the journal lacks of `items`, visit after visit; then again what drifted."""
        wanted = [i for i in items if any(not self._done(i, v) for v in range(self.protocol.visits))]
        self._prepare([*wanted, *(self.canaries if wanted else ())])
        total = self.protocol.visits * len(wanted)
        left = sum(not self._done(i, v) for i in wanted for v in range(self.protocol.visits))
        done = total - left
        for visit in range(self.protocol.visits):
            done = self._visit(
                [i for i in wanted if not self._done(i, visit)], visit, done, total, "measuring"
            )
        for again in range(self.protocol.repeats):
            visit = self.protocol.visits + again
            suspects = [i for i in self.suspects(items) if not self._done(i, visit)]
            if suspects:
                self._prepare(suspects)
                self._visit(
                    suspects, visit, 0, len(suspects), "the machine changed its speed: measuring again"
                )

    def suspects(self, items: Iterable[Item]) -> list[Item]:
        """Items with too few measurements while the canaries were steady."""
        factors = canary.factors(self.journal.entries)
        steady: dict[str, int] = {}
        for entry in self.journal.entries:
            if not canary.drifted(entry, factors, self.protocol.drift):
                steady[entry.id] = steady.get(entry.id, 0) + 1
        least = (self.protocol.visits + 1) // 2  # the median of three is safe with two good ones
        return [i for i in items if steady.get(i.id, 0) < least and i.id not in self.failures]

    def _done(self, item: Item, visit: int) -> bool:
        return (item.id, visit) in self.journal.done

    def _prepare(self, items: Sequence[Item]) -> None:
        """Convert first, all of it: the converter would disturb what is measured."""
        new = [item for item in items if item.id not in self.prepared]
        converted = convert_all(new, self.models, self.listener)
        self.runner.bring([Path(path) for path, _ in converted.values()], self.listener)
        self.prepared |= converted

    def _visit(self, items: list[Item], visit: int, done: int, total: int, what: str) -> int:
        random.Random(self.seed * 1009 + visit).shuffle(items)
        for item in items:
            if time.monotonic() - self.read_at > self.protocol.canary_seconds:
                self._read_canaries()
            answer = self._ask(item)
            if isinstance(answer, Failure):
                self.failures[item.id] = answer.error
                continue
            self.failures.pop(item.id, None)
            self._keep(answer, visit)
            done += 1
            self.listener.progress(done, total, what)
        if items:
            self._read_canaries()
        return done

    def _read_canaries(self) -> None:
        """Time the canaries once more."""
        visits = (e.visit for e in self.journal.entries if e.id.startswith(canary.PREFIX))
        last = max(visits, default=-1)
        self.reading = last + 1
        for item in self.canaries:
            answer = self._ask(item)
            if isinstance(answer, Measurement):
                self._keep(answer, self.reading)
        self.read_at = time.monotonic()

    def _keep(self, measured: Measurement, visit: int) -> None:
        graph = self.prepared[measured.id][1]
        self.journal.add(Entry.of(measured, visit=visit, graph=graph, reading=self.reading))

    def _ask(self, item: Item) -> Answer:
        job = self.protocol.job(
            id=item.id,
            model=self.prepared[item.id][0],
            runtime=self.runtime,
            threads=self.threads,
            cores=self.cores,
            seed=self.seed,
        )
        answer = self.runner.measure(job)
        self._stop_where_all_break(answer)
        return answer

    def _stop_where_all_break(self, answer: Answer) -> None:
        """DeviceError where several models in a row broke the runtime or its runner."""
        if not isinstance(answer, Broken):
            self.broken.clear()
            return
        self.broken[answer.id] = answer.error
        if len(self.broken) == _BROKEN:
            todo = f"see that its {self.runtime} is built for its processor and that memory is free, or install another version of it"
            raise DeviceError(
                f"{_BROKEN} models in a row could not be measured: {answer.error}", todo, device=self.device
            )
