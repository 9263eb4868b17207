"""Who hears what long work says of itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """Work to come: `count` pieces of about `each_s` seconds, whose progress is called `name`.

    Attributes:
        kind: where steps of one kind take longer than was thought, later ones of that kind will, too.
    """

    name: str
    kind: str
    count: int
    each_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Told of what a person should know, and of how far the work is; without anything given, nobody hears.

    Attributes:
        note: takes a line. progress: takes (done, total, what is being done).
        plan: takes the steps that are still to come, in order, where these are known before they begin.
    """

    note: Callable[[str], None] = lambda text: None
    progress: Callable[[int, int, str], None] = lambda done, total, detail: None
    plan: Callable[[Sequence[PlannedStep]], None] = lambda steps: None

    def once(self) -> Listener:
        """The same, without what was noted before."""
        texts = set[str]()

        def tell(text: str) -> None:
            if text not in texts:
                texts.add(text)
                self.note(text)

        return replace(self, note=tell)


SILENT = Listener()
