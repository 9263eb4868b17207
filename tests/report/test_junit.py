"""JUnit XML: valid, counted right, and failing exactly where the command does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import bench_reports
import bench_results
import pytest
from hypothesis import given, settings
from lxml import etree

from nasvit_edge.benchmark.verdicts import Rule
from nasvit_edge.report.junit import junit

SCHEMA = etree.XMLSchema(etree.parse(Path(__file__).with_name("junit.xsd")))
OUTCOMES = ("failure", "error", "skipped")


def parsed(report):
    """The root of the XML, which the schema allows."""
    root = etree.fromstring(junit(report).encode())
    SCHEMA.assertValid(root)
    return root


def case(root, classname, name):
    (actual,) = root.xpath("//testcase[@classname=$c and @name=$n]", c=classname, n=name)
    return actual


def said(element):
    """The element that is neither properties nor output; empty of a case that passed."""
    return next((child.tag for child in element if child.tag in OUTCOMES), "")


def properties(element):
    return {p.get("name"): p.get("value") for p in element.find("properties")}


@pytest.fixture(scope="module")
def full():
    return bench_reports.full()


@pytest.fixture(scope="module")
def root(full):
    return parsed(full)


def test_there_is_a_suite_a_device_and_a_case_for_each_cell_and_budget(full, root):
    assert [suite.get("name") for suite in root] == ["board", "pixel-8", "jetson", "host"]
    for suite in root:
        cells = [c for c in full.cells if c.device == suite.get("name")]
        outcomes = [o for o in full.outcomes if o.device == suite.get("name")]
        assert len(suite.findall("testcase")) == len(cells) + len(outcomes)
    assert len(root.findall(".//testcase")) == len(full.cells) + len(full.outcomes)


def test_the_counts_are_of_the_cases(root):
    for suite in root:
        count = Counter(said(one) for one in suite.findall("testcase"))
        assert int(suite.get("tests")) == sum(count.values())
        assert [int(suite.get(key)) for key in ("failures", "errors", "skipped")] == [
            count[key] for key in OUTCOMES
        ]
    for key in ("tests", "failures", "errors"):
        assert int(root.get(key)) == sum(int(suite.get(key)) for suite in root)


def test_each_verdict_is_shown_as_what_it_means_for_the_exit_code(full, root):
    seen = set()
    for cell in full.cells:
        element = case(root, f"{cell.device}.{cell.artifact.name.replace('.', '_')}", cell.metric.name)
        expected = {
            ("regression", True): "failure",
            ("invalid", True): "error",
            ("invalid", False): "skipped",
            ("inconclusive", True): "skipped",
            ("inconclusive", False): "skipped",
        }.get((cell.verdict, cell.gates), "")
        seen.add((cell.verdict, cell.gates))
        assert said(element) == expected
        assert f"verdict: {cell.verdict}" in element.findtext("system-out")
    assert {("regression", True), ("regression", False), ("invalid", True), ("invalid", False)} <= seen


def test_budgets_fail_by_their_level(full, root):
    seen = set()
    for outcome in full.outcomes:
        name = f"budget {outcome.budget.metric}"
        actual = root.xpath(
            "//testcase[@classname=$c and starts-with(@name, $n)]",
            c=f"{outcome.device}.{outcome.artifact.replace('.', '_')}",
            n=name,
        )
        entries = [e for e in actual if properties(e)["level"] == outcome.budget.level]
        expected = "failure" if outcome.fails else "error" if outcome.unjudged else ""
        if outcome.status == "unknown" and not expected:
            expected = "skipped"
        seen.add((outcome.budget.level, outcome.status))
        assert {said(e) for e in entries if properties(e)["status"] == outcome.status} == {expected}
        assert outcome.status in entries[0].findtext("system-out")
    assert {("error", "exceeded"), ("error", "too close"), ("error", "unknown"), ("warn", "exceeded")} <= seen


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("budgets", ["", bench_reports.BUDGETS.replace("board", "*")], ids=["none", "some"])
@pytest.mark.parametrize("rule", [Rule(), Rule(gates=frozenset({"load_cold"}))], ids=["usual", "load"])
def test_failures_and_errors_are_there_exactly_where_the_exit_code_says_so(seed, budgets, rule):
    report = bench_reports.report(bench_reports.contents()[seed], budgets=budgets, rule=rule)
    root = parsed(report)
    expected = 1 if int(root.get("failures")) else 3 if int(root.get("errors")) else 0
    assert report.exit_code == expected


def test_figures_are_properties_that_read_back(full, root):
    for cell in full.cells:
        element = case(root, f"{cell.device}.{cell.artifact.name.replace('.', '_')}", cell.metric.name)
        values = properties(element)
        assert values["artifact"] == cell.artifact.name
        for name, value in (
            ("value", cell.value.value),
            ("low", cell.value.low),
            ("high", cell.value.high),
            ("base", cell.base.value),
            ("change", cell.change.value),
            ("change_high", cell.change.high),
        ):
            assert float(values[name]) == pytest.approx(value, rel=1e-8)
        assert int(values["pairs"]) == cell.pairs
        assert ("chance" in values) == (cell.chance is not None)


def test_unknown_ends_of_intervals_are_left_out():
    root = parsed(bench_reports.report(bench_results.content(1, rounds=1)))
    values = properties(case(root, "board.model0_onnx", "latency_p50"))
    assert "low" in values
    assert "high" not in values
    assert "inf" not in " ".join(values.values())


def test_the_suite_tells_what_was_measured(full, root):
    values = properties(root[0])
    assert values["threads"] == "1"
    assert values["onnxruntime"] == "1.30.0"
    assert values["device.soc"] == "Chip"
    assert values["url"].startswith("https://github.com/")
    assert root[0].get("timestamp") == "2026-01-02T12:00:00"
    assert full.headline in root[0].findtext("system-out")
    assert "throttled" in root[2].findtext("system-out")


def test_without_a_baseline_every_case_passes_with_its_figures():
    root = parsed(bench_reports.alone())
    assert {said(one) for one in root.iter("testcase")} == {""}
    values = properties(case(root, "board.model0_onnx", "latency_p50"))
    assert "value" in values
    assert "verdict" not in values


def test_two_results_of_one_device_are_one_suite_whose_cases_are_told_apart():
    root = parsed(bench_reports.report(bench_results.content(1), bench_results.content(2)))
    (suite,) = root
    names = [one.get("name") for one in suite.iter("testcase")]
    assert "latency_p50" in names
    assert "latency_p50 (2)" in names


@settings(max_examples=40, deadline=None)
@given(made=bench_reports.nasty())
def test_no_text_of_a_result_breaks_the_xml(made):
    root = parsed(made)
    assert int(root.get("tests")) == len(made.cells) + len(made.outcomes)
