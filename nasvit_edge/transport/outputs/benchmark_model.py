"""What TFLite's and LiteRT's `benchmark_model` print: latencies, delegation and op profiles.

Both print a `count=...` line for the warm-up and one for the timed runs, in whole microseconds (only their mean has
fractions), older builds without percentiles. TFLite's ends with `Inference timings in us:`, LiteRT's with a block in
ms of two decimals. Builds with `--result_file_path` also write a `BenchmarkResult` message.
Source: `tflite/tools/benchmark/benchmark_model.cc`, `litert/tools/benchmark_litert_model.h` of google-ai-edge/LiteRT.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nasvit_edge.errors import MeasurementError
from nasvit_edge.transport.outputs.result_file import ToolResult

FINE = 100.0  # us: a median in whole us is good to 1 % from here on; the mean below
_COARSE = 0.02  # of the latency: a larger step of the printed figure is said
_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_COUNT = re.compile(r"(?:^|[\s\]:])(count=.*)$")
_PAIR = re.compile(rf"([a-z0-9]+)=({_NUMBER})")
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: ({_NUMBER}), First inference: ({_NUMBER}), "
    rf"Warmup \(avg\): ({_NUMBER}), Inference \(avg\): ({_NUMBER})$"
)
_BLOCK = re.compile(
    r"(Model initialization|Warmup \(first\)|Warmup \(avg\)|Inference \((?:avg|min|max|std)\)):\s+(\S+)(?: (\S+))?"
    r"(?: \((\d+) runs\))?$"
)
_OLD_TIMINGS = re.compile(r"Average inference timings in us:")
_PLAIN = {"count", "curr"}  # what a line has where all samples are the same
_FULL = {"count", "first", "curr", "min", "max", "avg", "std"}
_PERCENTILES = {"p5", "median", "p95"}
_UNKNOWN_FLAGS = re.compile(r"Unconsumed cmdline flags:\s*(.*)")
_ERROR = re.compile(
    r"\bERROR\b|Benchmarking failed|Failed to|not executable|Permission denied|CANNOT LINK|Exec format|Aborted|abort"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What one launch measured; us.

    Attributes:
        median_us: None where the build prints no percentiles.
        step_us: of the printed figures other than the mean.
        mean_step_us: of the printed mean.
    """

    generation: str
    count: int
    avg_us: float
    min_us: float
    max_us: float
    init_us: float
    first_us: float
    median_us: float | None = None
    p95_us: float | None = None
    step_us: float = 1.0
    mean_step_us: float = 0.0

    @property
    def latency_us(self) -> float:
        """The median; where its step is too coarse for it the mean, but no further than a step from the median."""
        if self.median_us is None:
            return self.avg_us
        if self.median_us >= FINE * self.step_us:
            return self.median_us
        return min(max(self.avg_us, self.median_us - self.step_us), self.median_us + self.step_us)

    @property
    def coarse(self) -> bool:
        """Whether the step of what was taken is more than 2 % of it."""
        step = self.mean_step_us if self.latency_us == self.avg_us else self.step_us
        return step > _COARSE * self.latency_us


def parse(text: str, result: bytes | None = None) -> Launch:
    """The figures of a launch from what it printed and, where it wrote one, its result file.

    Raises:
        MeasurementError: it failed, ignored flags, or printed what is not understood; with the lines.
    """
    lines = [line.strip() for line in lines_of(text)]
    _refuse_unknown_flags(lines)
    phases = [_phase(line) for line in lines if _is_phase(line)]
    block = _block(lines)
    if any(_OLD_TIMINGS.search(line) for line in lines):
        raise MeasurementError(
            f"this benchmark_model is too old (TensorFlow 2.1 or earlier): take a newer build; it printed {_shown(lines)}"
        )
    if block is None and not any(_TIMINGS.search(line) for line in lines):
        raise MeasurementError(f"benchmark_model did not finish: {trouble(lines)}")
    if len(phases) not in (0, 2):
        raise MeasurementError(
            f"benchmark_model printed {len(phases)} 'count=' lines, not 2: {_shown(lines)}"
        )
    if block is not None and not phases:
        launch = block  # two decimals of a ms
        if launch.avg_us <= 0:
            raise MeasurementError(f"the model is too short for benchmark_model's figures: {_shown(lines)}")
    elif phases:
        launch = _classic(lines, phases, block)
    else:
        raise MeasurementError(f"benchmark_model printed no 'count=' lines: {_shown(lines)}")
    return launch if result is None else _finer(launch, ToolResult.parse(result))


def lines_of(text: str) -> list[str]:
    """The lines, however adb ends them."""
    return re.split(r"\r*\n|\r+", text)


def trouble(lines: Iterable[str]) -> str:
    """The line that says most of why a program failed, as one line."""
    texts = [line.strip() for line in lines if line.strip()]
    errors = [line for line in texts if _ERROR.search(line)]
    named = [line for line in errors if "Benchmarking failed" not in line] or errors
    line = (named or texts or ["it printed nothing"])[-1]
    return repr(line[:200])


def _refuse_unknown_flags(lines: Sequence[str]) -> None:
    for line in lines:
        unknown = _UNKNOWN_FLAGS.search(line)
        if unknown:
            raise MeasurementError(
                f"this benchmark_model does not know {unknown[1][:120]!r}: take a newer or an older build"
            )


def _is_phase(line: str) -> bool:
    """Whether a line sums up runs; op profiles have such lines too, of other things."""
    return _COUNT.search(line) is not None and "(microseconds)" not in line and "(bytes)" not in line


def _phase(line: str) -> dict[str, float]:
    """The figures of a `count=` line, all of them known and in order of size."""
    text = _COUNT.search(line)
    assert text is not None
    words = re.sub(r"( curr=\S+?)\(all same\)", r"\1", text[1]).split()
    pairs = [_PAIR.fullmatch(word) for word in words]
    values = {pair[1]: float(pair[2]) for pair in pairs if pair}
    names = set(values) - _PERCENTILES
    whole = len(values) == len(pairs) and (set(values) & _PERCENTILES) in (set(), _PERCENTILES)
    if not whole or names not in (_PLAIN, _FULL) or not all(math.isfinite(v) for v in values.values()):
        raise MeasurementError(f"benchmark_model's line is not understood: {line[:200]!r}")
    if names == _PLAIN:
        values |= dict.fromkeys(("first", "min", "max", "avg"), values["curr"])
    _check_order(values, line)
    return values


def _check_order(values: dict[str, float], line: str) -> None:
    """MeasurementError where the figures cannot be of one sample."""
    slack = 1 + 1e-5 * values["max"]  # six digits are printed
    good = values["count"] >= 1 and values["count"] == int(values["count"])
    good &= values["min"] <= values["avg"] + slack and values["avg"] <= values["max"] + slack
    if "median" in values:
        ordered = [values[key] for key in ("min", "p5", "median", "p95", "max")]
        good &= all(a <= b for a, b in itertools.pairwise(ordered))
    if not good or values["avg"] <= 0:
        raise MeasurementError(f"benchmark_model's figures contradict one another: {line[:200]!r}")


def _classic(lines: Sequence[str], phases: Sequence[dict[str, float]], block: Launch | None) -> Launch:
    """From the two `count=` lines, checked against what is printed at the end."""
    warm, timed = phases
    ends = [match for match in map(_TIMINGS.search, lines) if match]
    if ends:
        init, first, average = float(ends[-1][1]), float(ends[-1][2]), float(ends[-1][4])
        good = _near(average, timed["avg"], 1e-4 * average) and _near(first, warm["first"], 1 + 1e-4 * first)
    else:
        assert block is not None
        init, first = block.init_us, warm["first"]
        good = _near(block.avg_us, timed["avg"], 6) and block.count == timed["count"]
    if not good:
        raise MeasurementError(f"benchmark_model contradicts itself: {_shown(lines)}")
    return Launch(
        generation="classic" if ends else "litert",
        count=int(timed["count"]),
        avg_us=timed["avg"],
        min_us=timed["min"],
        max_us=timed["max"],
        init_us=init,
        first_us=first,
        median_us=timed.get("median"),
        p95_us=timed.get("p95"),
        mean_step_us=10 ** (math.floor(math.log10(timed["avg"])) - 5),
    )


def _block(lines: Sequence[str]) -> Launch | None:
    """LiteRT's results in ms; None where there is no such block."""
    by_name: dict[str, tuple[str, str | None, str | None, str]] = {}
    for line in lines:
        match = _BLOCK.search(line)
        if "timings in us" in line:  # the other generation's: it has these words too
            continue
        if match:
            by_name[match[1]] = (match[2], match[3], match[4], line)
        elif re.search(r"Inference \((?:avg|min|max)\):", line):
            raise MeasurementError(f"benchmark_model's line is not understood: {line[:200]!r}")
    if "Inference (avg)" not in by_name:
        return None
    if any("No inference runs were performed" in line for line in lines) or not by_name["Inference (avg)"][2]:
        raise MeasurementError("benchmark_model timed no run: 'No inference runs were performed.'")
    us = {name: _ms(*values) * 1e3 for name, values in by_name.items() if name != "Inference (std)"}
    lost = {"Model initialization", "Warmup (first)", "Inference (min)", "Inference (max)"} - set(us)
    low, mean, high = (us.get(f"Inference ({name})", 0.0) for name in ("min", "avg", "max"))
    if lost or not low - 10 <= mean <= high + 10:
        raise MeasurementError(f"benchmark_model's results are not understood: {_shown(lines)}")
    return Launch(
        generation="litert",
        count=int(by_name["Inference (avg)"][2] or 0),
        avg_us=mean,
        min_us=low,
        max_us=high,
        init_us=us["Model initialization"],
        first_us=us["Warmup (first)"],
        step_us=10.0,
        mean_step_us=10.0,
    )


def _ms(number: str, unit: str | None, _: str | None, line: str) -> float:
    if unit != "ms" or not re.fullmatch(_NUMBER, number) or not math.isfinite(float(number)):
        raise MeasurementError(f"benchmark_model's line is not understood: {line[:200]!r}")
    return float(number)


def _finer(printed: Launch, file: ToolResult) -> Launch:
    """With the result file's figures in place of the rounded ones, where both are of the same runs."""
    reach = max(printed.step_us, 1.0) + 1e-4 * printed.avg_us
    if not _near(file.avg_us, printed.avg_us, reach) or file.num_runs not in (0, printed.count):
        raise MeasurementError(
            f"benchmark_model printed {printed.avg_us:g} us a run ({printed.count} runs), but wrote "
            f"{file.avg_us:g} us ({file.num_runs} runs) to its result file"
        )
    return replace(
        printed,
        avg_us=file.avg_us,
        median_us=file.median_us if file.median_us is not None else printed.median_us,
        p95_us=file.p95_us if file.p95_us is not None else printed.p95_us,
        step_us=1.0,  # what the tool's clock counts
        mean_step_us=1e-6 * file.avg_us,
    )


def _near(a: float, b: float, reach: float) -> bool:
    return abs(a - b) <= reach


def _shown(lines: Sequence[str]) -> str:
    """The lines with figures, as one line."""
    telling = [line for line in lines if "count=" in line or "Inference" in line or "timings" in line]
    return " / ".join(line[:120] for line in telling[:4]) or trouble(lines)


def known_flags(usage: str) -> set[str]:
    """The flags that `--help` lists."""
    return set(re.findall(r"^\s*--?([a-zA-Z0-9_]+)(?:=|\s|$)", usage.replace("\r", "\n"), re.MULTILINE))
