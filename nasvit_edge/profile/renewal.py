"""A table after the code changed: entries of graphs that are as they were stay, the others are measured again.

Whole subnets that contain one of those ops are measured again with them, the composition is fitted anew on all of them, and the
table's `renewed` says when, which and how many.
"""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from msgspec.structs import replace

from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.latency import LatencyTable, load_table
from nasvit_edge.latency.file import Canaries, OpEntry, Renewed, SubnetEntry, TableFile, Validation
from nasvit_edge.ops import all_ops, lower
from nasvit_edge.profile.models import Item, subnet_id
from nasvit_edge.profile.plan import ProfilePlan
from nasvit_edge.profile.refit import refitted
from nasvit_edge.profile.trust import other_machine, outdated
from nasvit_edge.profile.validate import FEWEST
from nasvit_edge.space import SearchSpace, SubnetConfig

_SAME = (
    "device",
    "runtime",
    "runtime_version",
    "threads",
    "precision",
    "space",
    "protocol",
    "seed",
    "program_sha256",
)
_MOST = 0.5  # of the ops: beyond, all is measured anew
AROUND_S = 0.3  # around each measurement: loading, and the canaries' share


@dataclass(frozen=True, slots=True)
class Renewal:
    """What of a table is to be measured again: keys of ops, and the subnets that contain one of them."""

    table: LatencyTable
    keys: Sequence[str]
    subnets: Sequence[SubnetConfig]

    def items(self) -> list[Item]:
        """What to measure."""
        ops = {op.key(): op for op in all_ops(self.table.space)}
        return [
            *(Item(key, op=ops[key]) for key in self.keys),
            *(Item(subnet_id(config), config=config) for config in self.subnets),
        ]

    def told(self, plan: ProfilePlan) -> str:
        """A line on what is measured, what stays, and about how long it takes."""
        ops, count = len(all_ops(self.table.space)), len(self.keys) + len(self.subnets)
        minutes = count * plan.protocol.visits * (plan.protocol.seconds + AROUND_S) / 60
        subnets = f" and {len(self.subnets)} whole subnets with them" if self.subnets else ""
        return (
            f"table {self.table.path.name}: {len(self.keys)} of {ops} ops are computed another way since: measuring them{subnets}, "
            f"about {max(1, round(minutes))} min; {ops - len(self.keys)} stay (all again: --again)"
        )

    def content(self, plan: ProfilePlan, entries: Mapping[str, OpEntry], canaries: Canaries) -> TableFile:
        """The table's file with what was measured, by item id, in place of what it replaces."""
        file, space = self.table.file, self.table.space
        renewed = Renewed(
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            tool_version=importlib.metadata.version("nasvit-edge"),
            code=plan.code,
            ops=tuple(self.keys),
            subnets=len(self.subnets),
            canaries=canaries,
        )
        keys = [op.key() for op in all_ops(space)]
        updated = self.table.holding(
            code=plan.code,
            ops={key: entries[key] if key in entries else file.ops[key] for key in keys},
            subnets=tuple(_subnet(space, entries, entry) for entry in file.subnets),
            validation=self._still_valid(file.validation),
            renewed=(*file.renewed, renewed),
        )
        return refitted(updated).file

    def _still_valid(self, validation: Validation | None) -> Validation | None:
        """What was measured of subnets without a changed op; None where that is too little to say anything."""
        if validation is None:
            return None
        space, changed = self.table.space, set(self.keys)
        rows = tuple(
            entry
            for entry in validation.subnets
            if not changed & {op.key() for op in lower(space, space.config_from(entry.config))}
        )
        return replace(validation, subnets=rows) if len(rows) >= FEWEST else None


def renewal(path: Path, space: SearchSpace, plan: ProfilePlan) -> Renewal | None:
    """What of the table of this plan is to be measured again; None where that is all of it, or nothing at all.

    It is all where there is no table, or one of another machine, program, runtime's version, protocol or seed, or a sampled one.
    """
    try:
        table = load_table(path, space=space)
        subnets = [space.config_from(entry.config) for entry in table.file.subnets]
    except NasvitEdgeError:
        return None
    wanted = asdict(plan)
    same = all((getattr(table.file, key) or None) == (wanted[key] or None) for key in _SAME)
    if not same or table.estimates or not subnets:
        return None
    if other_machine(table, plan.fingerprint) is not None:
        return None
    ops = all_ops(space)
    changed = set(outdated(table, ops)) | {op.key() for op in ops if op.key() not in table.ops_ms}
    if not changed or len(changed) > _MOST * len(ops):
        return None
    touched = [config for config in subnets if any(op.key() in changed for op in lower(space, config))]
    return Renewal(table, [op.key() for op in ops if op.key() in changed], touched)


def _subnet(space: SearchSpace, entries: Mapping[str, OpEntry], entry: SubnetEntry) -> SubnetEntry:
    """A subnet's entry, the new one where it was measured again."""
    name = subnet_id(space.config_from(entry.config))
    return SubnetEntry.of(entry.config, entries[name]) if name in entries else entry
