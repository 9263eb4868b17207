"""Files for other programs' charts."""

from __future__ import annotations

import json
import math

import bench_reports
import bench_results
import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings

from nasvit_edge.benchmark.metrics import METRICS
from nasvit_edge.report.exchange import FORMS

CUSTOM, BENCHER = FORMS["github-action-benchmark"], FORMS["bencher"]
ENTRIES = {  # what github-action-benchmark reads of customSmallerIsBetter
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 1, "pattern": "^[^`|\n]+$"},
            "unit": {"enum": ["ms", "bytes", "ops", "%"]},
            "value": {"type": "number", "minimum": 0},
            "range": {"type": "string", "pattern": "^± [0-9.e+-]+$"},
            "extra": {"type": "string"},
        },
    },
}
METRIC = {
    "type": "object",
    "required": ["value"],
    "additionalProperties": False,
    "properties": {key: {"type": "number"} for key in ("value", "lower_value", "upper_value")},
}
FORMAT = {  # Bencher Metric Format; its own schema leaves lengths to its documentation
    "type": "object",
    "propertyNames": {"minLength": 1, "maxLength": 1024},
    "additionalProperties": {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": "^[a-z0-9-]{1,64}$"},
        "additionalProperties": METRIC,
    },
}


def read(form, report):
    """What another program reads of it: strict JSON."""
    return json.loads(json.dumps(FORMS[form](report), allow_nan=False))


@pytest.fixture(scope="module")
def full():
    return bench_reports.full()


def test_the_forms_are_what_their_readers_expect(full):
    jsonschema.validate(read("github-action-benchmark", full), ENTRIES)
    jsonschema.validate(read("bencher", full), FORMAT)


def test_what_holds_is_there_once_and_what_is_invalid_is_not(full):
    holding = [c for c in full.cells if c.verdict != "invalid"]
    assert 0 < len(holding) < len(full.cells)
    entries = CUSTOM(full)
    assert len(entries) == len({entry["name"] for entry in entries}) == len(holding)
    assert sum(map(len, BENCHER(full).values())) == len(holding)


def test_latency_is_in_nanoseconds_with_its_interval_for_bencher():
    report = bench_reports.report(bench_results.content(1, ms=10.0))
    (metrics,) = BENCHER(report).values()
    cell = next(c for c in report.cells if c.metric.name == "latency_p50")
    assert metrics["latency"]["value"] == pytest.approx(1e6 * cell.value.value)
    assert metrics["latency"]["lower_value"] == pytest.approx(1e6 * cell.value.low)
    assert metrics["latency"]["upper_value"] == pytest.approx(1e6 * cell.value.high)
    assert metrics["file-size"] == {"value": 1_400_000}


def test_accuracy_is_for_bencher_and_its_error_for_the_chart_on_which_less_is_better():
    report = bench_reports.report(bench_results.content(1, hits=[True] * 9 + [False]))
    (metrics,) = BENCHER(report).values()
    assert metrics["accuracy"] == {"value": 0.9}
    (entry,) = [e for e in CUSTOM(report) if e["name"].endswith("top1_error")]
    assert (entry["value"], entry["unit"]) == (10.0, "%")
    assert not [e for e in CUSTOM(report) if e["name"].endswith("top1")]


def test_every_metric_has_a_measure_of_its_own():
    overlaps = np.ones((5, 2, 3), int)
    measures = set()
    for accuracy in ({"hits": [True] * 10}, {"overlaps": overlaps}):
        content = bench_results.content(1, **accuracy)
        for artifact in content["artifacts"]:
            artifact["fallback_ops"] = 2
        report = bench_reports.report(content)
        (metrics,) = BENCHER(report).values()
        measures |= {(c.metric.name, measure) for c, measure in zip(report.cells, metrics, strict=True)}
    assert {name for name, _ in measures} == set(METRICS)
    assert len(measures) == len({measure for _, measure in measures}) == len(METRICS)


def test_of_too_few_rounds_there_is_no_interval():
    report = bench_reports.report(bench_results.content(1, rounds=2))
    assert not [e for e in CUSTOM(report) if "range" in e]
    assert {tuple(metric) for metrics in BENCHER(report).values() for metric in metrics.values()} == {
        ("value",)
    }


def test_names_are_the_same_whatever_else_is_in_the_report():
    alone = bench_reports.report(bench_results.content(1))
    among = bench_reports.report(bench_results.content(2, device="other"), bench_results.content(1))
    assert {e["name"] for e in CUSTOM(alone)} < {e["name"] for e in CUSTOM(among)}
    assert set(BENCHER(alone)) < set(BENCHER(among))


def test_threads_and_runtimes_are_series_of_their_own():
    contents = [bench_results.content(seed) for seed in range(3)]
    contents[1]["protocol"]["threads"] = 4
    for artifact in contents[2]["artifacts"]:
        artifact["runtime"] = "litert"
    report = bench_reports.report(*contents)
    assert set(BENCHER(report)) == {
        "model0.onnx on board by onnxruntime, 1 thread",
        "model0.onnx on board by onnxruntime, 4 threads",
        "model0.onnx on board by litert, 1 thread",
    }


def test_the_extra_text_tells_the_verdict():
    report = bench_reports.report(bench_results.content(1, (0.2,), between=0.005))
    entry = CUSTOM(report)[0]
    assert entry["name"].endswith("latency_p50")
    assert "regression: +2" in entry["extra"]
    assert "runtime: onnxruntime 1.30.0" in entry["extra"]


@settings(max_examples=40, deadline=None)
@given(made=bench_reports.nasty())
def test_no_text_of_a_result_breaks_the_forms(made):
    jsonschema.validate(read("github-action-benchmark", made), ENTRIES)
    jsonschema.validate(read("bencher", made), FORMAT)
    for metrics in BENCHER(made).values():
        for metric in metrics.values():
            assert (
                metric.get("lower_value", -math.inf) <= metric["value"] <= metric.get("upper_value", math.inf)
            )
