"""A table after the code changed: entries of graphs that are as they were stay, the others are measured again.

Whole subnets that contain one of those ops are measured again with them, the composition is fitted anew on all of them, and the
table's `renewed` says when, which and how many.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.latency import LatencyTable, load_table
from nasvit_edge.latency.table import parsed
from nasvit_edge.ops import all_ops, lower
from nasvit_edge.profile.models import Item, subnet_id
from nasvit_edge.profile.plan import Plan
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

    def told(self, plan: Plan) -> str:
        """A line on what is measured, what stays, and about how long it takes."""
        ops, count = len(all_ops(self.table.space)), len(self.keys) + len(self.subnets)
        minutes = count * plan.protocol.visits * (plan.protocol.seconds + AROUND_S) / 60
        subnets = f" and {len(self.subnets)} whole subnets with them" if self.subnets else ""
        return (
            f"table {self.table.path.name}: {len(self.keys)} of {ops} ops are computed another way since: measuring them{subnets}, "
            f"about {max(1, round(minutes))} min; {ops - len(self.keys)} stay (all again: --again)"
        )

    def content(self, plan: Plan, found: Mapping[str, Any], canaries: Mapping[str, Any]) -> dict[str, Any]:
        """The table's file with what was measured, by item id, in place of what it replaces."""
        raw = self.table.raw
        told = {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "tool_version": importlib.metadata.version("nasvit-edge"),
            "code": plan.code,
            "ops": list(self.keys),
            "subnets": len(self.subnets),
            "canaries": dict(canaries),
        }
        made = raw | {
            "code": plan.code,
            "ops": {op.key(): _entry(raw, found, op.key()) for op in all_ops(self.table.space)},
            "subnets": [
                {"config": entry["config"]} | found.get(_id(self.table.space, entry), entry)
                for entry in raw["subnets"]
            ],
            "validation": self._still_valid(raw.get("validation")),
            "renewed": [*(raw.get("renewed") or ()), told],
        }
        return refitted(parsed(self.table.path, made, self.table.space)).raw

    def _still_valid(self, validation: Any) -> Any:
        """What was measured of subnets without a changed op; None where that is too little to say anything."""
        if not isinstance(validation, dict):
            return None
        space, changed = self.table.space, set(self.keys)
        kept = [
            entry
            for entry in validation.get("subnets") or ()
            if not changed & {op.key() for op in lower(space, space.config_from(entry["config"]))}
        ]
        return validation | {"subnets": kept} if len(kept) >= FEWEST else None


def renewal(path: Path, space: SearchSpace, plan: Plan) -> Renewal | None:
    """What of the table of this plan is to be measured again; None where that is all of it, or nothing at all.

    It is all where there is no table, or one of another machine, program, runtime's version, protocol or seed, or a sampled one.
    """
    try:
        table = load_table(path, space=space)
        subnets = [(entry, space.config_from(entry["config"])) for entry in table.raw["subnets"]]
    except (NasvitEdgeError, KeyError, TypeError):
        return None
    wanted = json.loads(json.dumps(asdict(plan)))  # as a file has it: tuples are lists
    if any(table.raw.get(key) != wanted[key] for key in _SAME) or table.estimates:
        return None
    if other_machine(table, plan.fingerprint) is not None:
        return None
    ops = all_ops(space)
    changed = set(outdated(table, ops)) | {op.key() for op in ops if op.key() not in table.ops_ms}
    if not changed or len(changed) > _MOST * len(ops):
        return None
    touched = [config for _, config in subnets if any(op.key() in changed for op in lower(space, config))]
    return Renewal(table, [op.key() for op in ops if op.key() in changed], touched)


def _entry(raw: Mapping[str, Any], found: Mapping[str, Any], key: str) -> Any:
    return found[key] if key in found else raw["ops"][key]


def _id(space: SearchSpace, entry: Mapping[str, Any]) -> str:
    return subnet_id(space.config_from(entry["config"]))
