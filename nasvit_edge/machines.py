"""Which machine figures are of: what has to be equal for two of them to be of one, by what devices tell of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

_LONGEST = 300  # characters of a text that a device tells


@dataclass(frozen=True, slots=True)
class Machine:
    """Board, chip, architecture and number of cores; None is what was not told."""

    board: str | None = None
    soc: str | None = None
    architecture: str | None = None
    cores: int | None = None

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Machine:
        """The machine of a fingerprint, whatever else that holds."""
        board, soc, architecture = (_text(about.get(key)) for key in ("board", "soc", "architecture"))
        cores = about.get("cores")
        whole = type(cores) is int and 0 < cores < 1 << 16
        return cls(board, soc, architecture, cores if whole else None)

    @property
    def key(self) -> tuple[str, ...]:
        """As texts."""
        return tuple("" if value is None else str(value) for value in astuple(self))

    @property
    def name(self) -> str:
        """`Neoverse N1 (c6g.large, 2 cores)`, of what is known."""
        known = [part for part in (self.soc or self.architecture, self.board) if part]
        if self.cores is not None:
            known.append(f"{self.cores} core{'s' if self.cores > 1 else ''}")
        if len(known) < 2:
            return known[0] if known else "unknown machine"
        return f"{known[0]} ({', '.join(known[1:])})"

    @property
    def is_coarse(self) -> bool:
        """Whether the chip is called by its architecture alone, as Arm servers were by versions that did not know their cores."""
        return self.soc is not None and self.soc == self.architecture


def _text(value: Any) -> str | None:
    """What was told as a text that can be kept."""
    text = "" if value is None else str(value).encode(errors="replace").decode()[:_LONGEST]
    return text or None


def differences(then: Machine, now: Machine) -> list[str]:
    """`soc 'a' there and 'b' here` for each field in which the two differ, and why that may be none."""
    names = ("board", "soc", "architecture", "cores")
    pairs = [(name, getattr(then, name), getattr(now, name)) for name in names]
    texts = [f"{name} {one!r} there and {other!r} here" for name, one, other in pairs if one != other]
    return [*texts, note] if (note := finer(then, now)) else texts


def finer(then: Machine, now: Machine) -> str:
    """That two machines may be one, of which earlier versions told the architecture only; empty where that is not so."""
    if then.is_coarse == now.is_coarse or (then.board, then.cores) != (now.board, now.cores):
        return ""
    coarse, fine = (then, now) if then.is_coarse else (now, then)
    if coarse.architecture != fine.architecture:
        return ""
    return (
        f"earlier versions called every Arm server {coarse.soc!r}, so this may be the {fine.soc} or any other"
    )
