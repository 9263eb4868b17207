"""The commands that measure again what a report is about."""

from __future__ import annotations

import shlex

from nasvit_edge import files
from nasvit_edge.benchmark.metrics import METRICS
from nasvit_edge.benchmark.plan import BenchmarkProtocol
from nasvit_edge.benchmark.report import BenchmarkReport
from nasvit_edge.benchmark.result import Result, SavedProtocol
from nasvit_edge.benchmark.statistics import ALPHA, MIN_EFFECT
from nasvit_edge.benchmark.verdicts import Rule, candidates
from nasvit_edge.report.model import plain


def commands(report: BenchmarkReport) -> list[str]:
    """A `benchmark` for each result, then the `report bench`; files that the report does not know are in capitals."""
    judge = ["nasvit-edge report bench", *(_word(result.path) for result in report.results)]
    if report.outcomes:
        judge.append("--budget BUDGETS")
    if report.trends:
        judge.append("--baseline STORED")
    return [*(_benchmark(result) for result in report.results), " ".join([*judge, *_rule(report.rule)])]


def _benchmark(result: Result) -> str:
    bases = [a.baseline for a in candidates(result) if a.baseline is not None]
    chosen = [(place, a) for place, a in enumerate(result.artifacts) if place not in bases]
    paths = [_path(result, place) for place, _ in chosen]
    words = ["nasvit-edge benchmark", *paths]
    if result.aa:
        words.append("--aa")
    else:
        others = [_path(result, base) for base in bases]
        words += [f"--baseline {other}" for other in (others[:1] if len(set(others)) == 1 else others)]
    words.append(f"--device {_word(result.device) if files.is_name(result.device) else 'DEVICE'}")
    runtimes = {artifact.runtime for _, artifact in chosen}
    if len(runtimes) == 1:
        words.append(f"--runtime {_word(*runtimes)}")
    words += [f"--rounds {result.rounds}", f"--threads {result.threads}", *_protocol(result.protocol)]
    return " ".join([*words, f"--out {_word(result.path)}"])


def _protocol(protocol: SavedProtocol) -> list[str]:
    """What is not as usual."""
    usual = BenchmarkProtocol()
    options = []
    if protocol.seconds and protocol.seconds <= 600 and protocol.seconds != usual.seconds:
        options.append(f"--seconds {protocol.seconds:g}")
    if protocol.seed is not None and protocol.seed != usual.seed:
        options.append(f"--seed {_word(protocol.seed)}")
    return options


def _rule(rule: Rule) -> list[str]:
    options = []
    if rule.min_effect != MIN_EFFECT:
        options.append(f"--min-effect {100 * rule.min_effect:g}%")
    if rule.alpha != ALPHA:
        options.append(f"--alpha {100 * rule.alpha:g}%")
    return options + [f"--gate {name}" for name in METRICS if name in (rule.gates or ())]


def _path(result: Result, place: int) -> str:
    artifact = result.artifacts[place]
    return _word(artifact.path or artifact.name)


def _word(value: object) -> str:
    """One word of a command, never an option."""
    word = plain(value, 400)
    return shlex.quote(f"./{word}" if word.startswith("-") else word)
