"""Who hears what long work says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Told of what a person should know, and of how far the work is; without anything given, nobody hears.

    Attributes:
        note: takes a line. progress: takes (done, total, what is being done).
    """

    note: Callable[[str], None] = lambda text: None
    progress: Callable[[int, int, str], None] = lambda done, total, detail: None

    def once(self) -> Listener:
        """The same, without what was noted before."""
        texts = set[str]()

        def tell(text: str) -> None:
            if text not in texts:
                texts.add(text)
                self.note(text)

        return replace(self, note=tell)


SILENT = Listener()
