"""Whether a delegate took the whole graph, and what each op took: the other things `benchmark_model` prints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nasvit_edge.errors import MeasurementError
from nasvit_edge.transport.outputs.benchmark_model import lines_of, trouble

_FALLBACK = re.compile(
    r"will not be executed by the delegate|partially executed by the delegate|Disallowed CPU fallback"
    r"|not supported by GPU delegate|[Ss]ome ops are not accelerated|remaining (\d+) operations will run on the CPU"
    r"|Failed to apply \w* ?\w+ delegate|\(TfLiteGpuDelegate\w*\) failed to|GPU delegate (?:creation )?failed|TfLiteGpuDelegate \w+: .*(?:fail|not)"
    r"|delegate is not initialized|Restored original execution plan",
)
_NO_GPU = re.compile(
    r"GPU accelerator could not be\b|Failed to load GPU accelerator|GPU accelerator registration disabled"
)
_REGISTERED = re.compile(
    r"GPU accelerator(?:\([^)]*\))? registered|RegisterAccelerator: .*\bname=\w*GPU", re.I
)
_OTHER_DELEGATE = re.compile("XNNPack|NNAPI|Dispatch|Hexagon|Flex", re.I)
_REPLACED = re.compile(
    r"Replacing (\d+) out of (\d+) node\(s\) with delegate \(([^)]*)\) node, yielding (\d+) partitions"
)
_WHOLE = re.compile(r"completely executed by the delegate|\bApplied GPU delegate\.")
_SECTION = "Operator-wise Profiling Info for Regular Benchmark Runs:"


def gpu_fallback(text: str, strict: bool) -> str | None:
    """Why a run was not wholly on the GPU, or None where it was.

    Args:
        text: what the program printed.
        strict: the program was given no CPU to fall back to and accepted that (LiteRT's `--use_cpu=false`): that it has a GPU is enough.
    """
    lines = [line.strip() for line in lines_of(text)]
    why = refusal(lines)
    if why is not None or any(map(_replaced, lines)) or any(_WHOLE.search(line) for line in lines):
        return why
    registered = any(_REGISTERED.search(line) for line in lines)
    if strict and registered:
        return None
    missing = next((line[:200] for line in lines if _NO_GPU.search(line)), None)
    return missing or "no line says that the GPU delegate took the graph"


def refusal(lines: Sequence[str]) -> str | None:
    """The line that says that an op was not the GPU's."""
    for line in lines:
        match = _FALLBACK.search(line)
        if match and match[1] != "0":
            return line[:200]
    return next((match[0] for match in map(_replaced, lines) if match and match[1] != match[2]), None)


def _replaced(line: str) -> re.Match[str] | None:
    match = _REPLACED.search(line)
    return match if match and not _OTHER_DELEGATE.search(match[3]) else None


@dataclass(frozen=True, slots=True)
class OpTime:
    """One row of an op profile: a fraction `share` of the whole, `times` calls a run."""

    kind: str
    name: str
    avg_ms: float
    share: float
    times: int


def op_profile(text: str) -> list[OpTime]:
    """The ops of the timed runs in the order they ran.

    Raises:
        MeasurementError: there is no such table, or it is not understood; with the line.
    """
    lines = lines_of(text)
    start = _start(lines)
    if start is None:
        raise MeasurementError(f"benchmark_model printed no op profile: {trouble(lines)}")
    head = next((i for i in range(start, len(lines)) if "[node type]" in lines[i]), len(lines))
    columns = re.findall(r"\[([^\]]*)\]", lines[head]) if head < len(lines) else []
    if "avg ms" not in columns or columns[:1] != ["node type"] or columns[-1:] != ["Name"]:
        raise MeasurementError(
            f"benchmark_model's op profile is not understood: {''.join(lines[head : head + 1])[:200]!r}"
        )
    rows = _rows(lines[head + 1 :], columns)
    match = next(
        (m for m in (re.search(r"Number of nodes executed: (\d+)", line) for line in lines[head:]) if m), None
    )
    if not rows or (match and int(match[1]) != len(rows)):
        raise MeasurementError(
            f"benchmark_model's op profile has {len(rows)} rows, not {match[1] if match else 'some'}"
        )
    return rows


def _start(lines: Sequence[str]) -> int | None:
    """Where the table of the timed runs begins: after its heading; LiteRT 2 has no other table, and no heading."""
    start = next((i for i, line in enumerate(lines) if _SECTION in line), None)
    if start is not None:
        return start
    head = next((i for i, line in enumerate(lines) if "[node type]" in line), None)
    if head is not None and "[start]" in lines[head]:
        raise MeasurementError(
            f"benchmark_model's op profile has no heading that is known ({_SECTION!r}): its build is too old (TensorFlow 1)"
        )
    return head


def _rows(lines: Sequence[str], columns: Sequence[str]) -> list[OpTime]:
    """Rows up to the first empty line: a kind, numbers under the columns between, a name."""
    numbers = len(columns) - 2
    row = re.compile(rf"\s*(.+?)((?:\s+[0-9][0-9.]*%?){{{numbers}}})\s+(\S.*?)\s*$")
    times = []
    for line in lines:
        if not line.strip() or "=====" in line or "Number of nodes executed" in line:
            break
        match = row.match(line)
        if match is None:
            raise MeasurementError(f"benchmark_model's op profile is not understood: {line.strip()[:200]!r}")
        times.append(_op_time(match[1], match[2].split(), match[3], columns[1:-1], line))
    return times


def _op_time(kind: str, numbers: Sequence[str], name: str, columns: Sequence[str], line: str) -> OpTime:
    values = dict(zip(columns, numbers, strict=True))
    try:
        share = float(values["%"].rstrip("%")) / 100 if "%" in values else 0.0
        return OpTime(
            kind.strip(), name, float(values["avg ms"]), share, int(float(values.get("times called", "1")))
        )
    except (KeyError, ValueError):
        raise MeasurementError(
            f"benchmark_model's op profile is not understood: {line.strip()[:200]!r}"
        ) from None
