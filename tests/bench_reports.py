"""Benchmark reports for the tests of their forms: of each verdict, and with texts that nobody would choose."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import bench_results
import numpy as np
from hypothesis import strategies as st

from nasvit_edge.benchmark.budgets import read_budgets
from nasvit_edge.benchmark.report import BenchmarkReport, make_report
from nasvit_edge.benchmark.result import read_result
from nasvit_edge.benchmark.verdicts import Rule

BUDGETS = """
schema = 1
[[budget]]
latency_p50 = "10.5ms"
size = { max = "1MB", level = "warn" }
[[budget]]
device = "board"
latency_p50 = { max = "11ms", level = "warn" }
top1_drop = "1%"
"""


def read(content: dict[str, Any]) -> Any:
    """A result with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmark.json"
        path.write_text(json.dumps(content))
        return read_result(path)


def report(
    *contents: dict[str, Any],
    budgets: str = "",
    baseline: dict[str, Any] | None = None,
    rule: Rule | None = None,
) -> BenchmarkReport:
    """The report on results with these contents."""
    chosen = []
    if budgets:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "budgets.toml"
            path.write_text(budgets)
            chosen = read_budgets(path)
    stored = None if baseline is None else read(baseline)
    return make_report([read(c) for c in contents], rule or Rule(), budgets=chosen, baseline=stored)


def contents() -> list[dict[str, Any]]:
    """Four results with all verdicts: of many models, of a noisy device, of one that throttles, of an A/A run."""
    hits = (np.random.default_rng(0).random(400) < 0.9).tolist()
    models = bench_results.content(1, (0.0, 0.15, -0.12, 0.03), between=0.006, hits=hits)
    models["artifacts"][3] |= {"bytes": 1_300_000, "precision": "int8"}
    models["run"]["ci_url"] = "https://github.com/owner/repository/actions/runs/12"
    noisy = bench_results.content(2, (0.05,), device="pixel-8", between=0.06)
    hot = bench_results.content(3, (0.05,), device="jetson")
    for entry in hot["artifacts"][1]["rounds"][:4]:
        entry["flags"] = ["throttled"]
    return [models, noisy, hot, bench_results.content(4, device="host", aa=True)]


def full(**options: Any) -> BenchmarkReport:
    """All of them, with budgets that are kept, exceeded, too close and not judged."""
    return report(*contents(), budgets=BUDGETS, **options)


def alone() -> BenchmarkReport:
    """One artifact without a baseline."""
    content = bench_results.content(5)
    content["artifacts"] = [content["artifacts"][1] | {"baseline": None}]
    return report(content)


NASTY = st.one_of(
    st.text(min_size=1, max_size=40),
    st.text(alphabet="|`\\<>&*_[]()!#@~$:-+=.\"'\n\r\t ab1", min_size=1, max_size=40),
    st.sampled_from(
        [
            "a|b|c",
            "a\\|b",
            "``` x",
            "`|`",
            "</details><script>alert(1)</script>",
            "-->",
            "<!-- nasvit-edge bench -->",
            "@everyone",
            "see #1 and owner/repository#2",
            "[x](javascript:alert(1))",
            "![x](https://example.org/x.png)",
            "www.example.org",
            "https://example.org",
            "me@example.org",
            ":tada: $x$ ~~y~~ **z**",
            "line\n| --- |\n\n# head",
            "\u202eevil\u2028\x00\x1b[31m",
            "\ud800",
            "]]>",
            "x" * 5000,
            "&#64;everyone &lt;b&gt;",
            "\u0085\ufffe\uffff",
        ]
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NASTY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NASTY, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def nasty(draw: st.DrawFn) -> BenchmarkReport:
    """A report on a result whose every free text is nasty."""
    content = bench_results.content(6, (0.1, 0.0), rounds=3, count=10)
    content["device"] |= {"name": draw(NASTY), "about": draw(st.dictionaries(NASTY, JSON, max_size=3))}
    content["device"]["conditions"] = draw(st.none() | st.dictionaries(NASTY, JSON, max_size=3))
    content["run"] |= {key: draw(NASTY) for key in ("uuid", "utc", "tool_version")}
    content["run"] |= {key: draw(st.none() | NASTY) for key in ("git_sha", "ci_url")}
    content["run"]["git_dirty"] = draw(st.none() | st.booleans())
    content["protocol"] |= {"order": draw(st.none() | NASTY), "seed": draw(st.none() | st.integers(-9, 9))}
    content["protocol"]["cores"] = draw(st.none() | st.lists(st.integers(0, 99)))
    content["protocol"]["seconds"] = draw(st.none() | st.floats(0, 1e300))
    for artifact in content["artifacts"]:
        artifact |= {key: draw(NASTY) for key in ("name", "runtime", "format", "precision", "sha256")}
        artifact["path"] = draw(st.none() | NASTY)
        version = draw(NASTY)
        for entry in artifact["rounds"]:
            entry["runtime_version"] = version
    if draw(st.booleans()):
        content |= {"complete": False, "stopped": draw(NASTY)}
    return report(content, budgets="schema = 1\n[[budget]]\nlatency_p50 = '1ms'\ntop1_drop = '1%'\n")
