"""Importing nn-Meter's block tables for phones: JSON objects of key -> ms.

Keys (hw: input side, c: channels, e: expansion, s: stride, k: kernel):

    firstconv_{hw}_{cin}_{cout}_{s}_{k}_swish
    conv_{hw}_{cin}_{cout}_{e}_{s}_swish_{k}_{se|nose}     MBConv
    nasvit_{se|nose}_transds_{hw}_{cin}_{cout}_{s}_{e}     the MBConv that opens a hybrid stage (kernel 3)
    nasvit_transattn_{hw}_{c}_swish_{v}_ln                 attention with value expansion v
    nasvit_transffn_{hw}_{c}_{ratio}_swish_ln              one MLP
    mbpool_{hw}_{cin}_{cout}_6_swish                       the head

Sides are floored at each stride there, and rounded up here; threads, delegate and clocks were not recorded.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import re
from pathlib import Path

from nasvit_edge import files
from nasvit_edge.errors import TableError
from nasvit_edge.latency.estimate import (
    Features,
    head_features,
    head_rates,
    mbconv_features,
    stem_features,
)
from nasvit_edge.latency.file import SCHEMA, Guess, Imported, OpEntry, TableFile
from nasvit_edge.latency.unit_check import MS, Unit
from nasvit_edge.ops import Classifier, Head, MBConv, Op, Stem, TransformerBlock, all_ops, round8
from nasvit_edge.space import SearchSpace

SOURCE = "nn-Meter block table"
_HEAD_EXPANSION = 6
_DERIVED_ERROR = 0.5  # of the classifier, which these tables do not have
_SMALLEST_MS, _LARGEST_MS = 1e-12, 1e5


def read(path: Path, unit: Unit = "ms") -> dict[str, float]:
    """Key -> ms of a file whose figures are in `unit`; TableError where it is no table of this kind."""
    raw = files.read_json(path, "nn-Meter table")
    table = {}
    for key, value in raw.items():
        known = not isinstance(value, bool) and isinstance(value, int | float)
        if not known or not _SMALLEST_MS / MS[unit] < value < _LARGEST_MS / MS[unit]:
            todo = "--unit says what else its figures are in: s, ms, us or ns" if known else ""
            raise TableError(
                f"nn-Meter table {str(path)!r}: entry {key!r} is {value!r}, not a latency in {unit}", todo
            )
        table[key] = value * MS[unit]
    if not any(key_features(key) for key in table):
        raise TableError(
            f"nn-Meter table {str(path)!r} has no key of this family, like 'conv_56_24_24_4_1_swish_3_se' or 'nasvit_transattn_14_64_swish_4_ln'"
        )
    return table


def imported(
    table: dict[str, float], space: SearchSpace, device: str
) -> tuple[TableFile, dict[str, list[str]]]:
    """A latency table, which says what was approximated, and the keys of the ops that are missing, by kind.

    Raises:
        TableError: no op of the space is in the table.
    """
    entries: dict[str, OpEntry] = {}
    missing: dict[str, list[str]] = {}
    joined = 0
    for op in all_ops(space):
        ms = op_ms(table, op)
        if ms is None:
            missing.setdefault(op.kind, []).append(op.key())
        else:
            entries[op.key()] = OpEntry(median_ms=float(f"{ms:.6g}"), flags=("imported",))
            joined += isinstance(op, TransformerBlock)
    if not entries:
        raise TableError(f"the table has no op of space {space.name!r}")
    derived = _classifiers(table, space)
    approximated = [
        f"{joined} transformer blocks are the sum of one attention and two MLP entries",
        f"{len(derived)} classifiers are derived from the rate of the heads' last layer (error about {_DERIVED_ERROR:.0%})",
        "odd sides are floored in the table, so ops on an odd side after a stride are missing, not replaced by smaller ones",
        "no whole network is in the table: predictions are plain sums, without interval",
    ]
    file = TableFile(
        schema=SCHEMA,
        provenance="imported",
        source=SOURCE,
        unknown=("threads", "delegate", "runtime_version", "clocks", "protocol"),
        device=device,
        runtime="litert",
        threads=1,
        precision="fp32",
        space=space.name,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        tool_version=importlib.metadata.version("nasvit-edge"),
        fingerprint={},
        seed=0,
        call_ms=0.0,
        ops=entries,
        estimates=derived,
        imported=Imported(
            entries=len(entries),
            missing={kind: len(keys) for kind, keys in missing.items()},
            approximated=tuple(approximated),
        ),
    )
    return file, missing


def op_ms(table: dict[str, float], op: Op) -> float | None:
    """What the table says of an op; None where it says nothing, as of any block that NASViT has not."""
    if isinstance(op, Stem | MBConv | TransformerBlock | Head) and op.more():
        return None
    match op:
        case Stem():
            key = f"firstconv_{op.height}_3_{op.channels}_{op.stride}_{op.kernel_size}_swish"
            return table.get(key)
        case MBConv():
            return next((table[key] for key in _mbconv_keys(op) if key in table), None)
        case TransformerBlock():
            attention = table.get(f"nasvit_transattn_{op.height}_{op.channels}_swish_{op.value_ratio}_ln")
            mlp = table.get(f"nasvit_transffn_{op.height}_{op.channels}_1_swish_ln")
            return None if attention is None or mlp is None else attention + 2 * mlp
        case Head():
            if op.expanded != round8(op.in_channels * _HEAD_EXPANSION):
                return None
            return table.get(f"mbpool_{op.height}_{op.in_channels}_{op.features}_{_HEAD_EXPANSION}_swish")
        case _:  # classifier, decoder
            return None


def _mbconv_keys(op: MBConv) -> list[str]:
    """The keys that stand for an MBConv: by whichever expansion gives its hidden width."""
    se = "se" if op.squeezed else "nose"
    ratios = [e for e in range(1, 11) if round8(op.in_channels * e) == op.expanded]
    if not op.expands:
        ratios = [1]
    stem = f"{op.height}_{op.in_channels}_{op.channels}"
    keys = [f"conv_{stem}_{e}_{op.stride}_swish_{op.kernel_size}_{se}" for e in ratios]
    if op.kernel_size == 3:
        keys += [f"nasvit_{se}_transds_{stem}_{op.stride}_{e}" for e in ratios]
    return keys


def key_features(key: str) -> Features | None:
    """Features of a key of this family, None for another's; kinds as in the key."""
    if match := re.fullmatch(r"conv_(\d+)_(\d+)_(\d+)_(\d+)_(\d)_swish_(\d)_(se|nose)", key):
        hw, cin, cout, e, s, k = map(int, match.groups()[:6])
        return _mbconv(f"conv-{match[7]}", hw, cin, cout, e, s, k, match[7] == "se")
    if match := re.fullmatch(r"nasvit_(se|nose)_transds_(\d+)_(\d+)_(\d+)_(\d)_(\d+)", key):
        hw, cin, cout, s, e = map(int, match.groups()[1:])
        return _mbconv(f"transds-{match[1]}", hw, cin, cout, e, s, 3, match[1] == "se")
    if match := re.fullmatch(r"nasvit_transattn_(\d+)_(\d+)_swish_(\d)_ln", key):
        hw, c, v = map(int, match.groups())
        n = hw * hw
        work = (
            n * c * c,
            n * c * c * v,
            n * n * c,
            n * n * c * v,
            n * n * (c / 8) ** 2,
            n * n * c / 8,
            n * c * v,
            1,
        )
        return Features("transattn", (hw, c, v), work) if min(hw, c, v) > 0 else None
    if match := re.fullmatch(r"nasvit_transffn_(\d+)_(\d+)_(\d+)_swish_ln", key):
        hw, c, ratio = map(int, match.groups())
        n = hw * hw
        return (
            Features("transffn", (hw, c, ratio), (n * c * c * ratio, n * c, n * c * ratio, 1))
            if min(hw, c, ratio) > 0
            else None
        )
    if match := re.fullmatch(r"mbpool_(\d+)_(\d+)_(\d+)_6_swish", key):
        hw, cin, cout = map(int, match.groups())
        return head_features(hw * hw, cin, cin * _HEAD_EXPANSION, cout) if min(hw, cin, cout) > 0 else None
    if match := re.fullmatch(r"firstconv_(\d+)_3_(\d+)_(\d)_(\d)_swish", key):
        hw, c, s, k = map(int, match.groups())
        return stem_features(hw * hw, c, k, s) if min(hw, c, s, k) > 0 else None
    return None


def _mbconv(kind: str, hw: int, cin: int, cout: int, e: int, s: int, k: int, se: bool) -> Features | None:
    if min(hw, cin, cout, e, s, k) < 1:
        return None
    expanded = round8(cin * e)
    op = MBConv(
        in_channels=cin,
        expanded=expanded,
        channels=cout,
        expands=e > 1,
        squeezed=round8(expanded // 4) if se else 0,
        kernel_size=k,
        stride=s,
        height=hw,
        width=hw,
    )
    base = mbconv_features(op)
    return Features(kind, base.sizes, base.work)


def _classifiers(table: dict[str, float], space: SearchSpace) -> dict[str, Guess]:
    """Estimates for the classifiers from the heads, which end in the same kind of layer."""
    heads = {f: ms for key, ms in table.items() if (f := key_features(key)) and f.kind == "head"}
    if len(heads) < 4:
        return {}
    rate = head_rates(list(heads), list(heads.values()))
    return {
        op.key(): Guess(median_ms=round(max(1e-4, rate * op.macs()), 6), error=_DERIVED_ERROR)
        for op in all_ops(space)
        if isinstance(op, Classifier)
    }
