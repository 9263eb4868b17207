"""From measured subnets to a searched segmenter: what is said is mean IoU, or what it stands in for."""

from __future__ import annotations

import csv
import json
import random

import pytest
from conftest import one_line, only_user_errors
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import COMPOSITION, table
from msgspec.structs import replace

from nasvit_edge import records
from nasvit_edge.choosing.accuracy import AccuracyChoice, about, accuracy_source
from nasvit_edge.errors import BudgetError, NasvitEdgeError
from nasvit_edge.flows import explain, fitting, tables
from nasvit_edge.flows import prepared as flow
from nasvit_edge.listening import SILENT
from nasvit_edge.ops import lower, macs
from nasvit_edge.report import explain_text
from nasvit_edge.report import search_text as shown
from nasvit_edge.requests.accuracy import Request as FitRequest
from nasvit_edge.requests.explain import Request as ExplainRequest
from nasvit_edge.requests.options import TableChoice
from nasvit_edge.requests.predict import Request as PredictRequest
from nasvit_edge.requests.search import Request
from nasvit_edge.searching import measured
from nasvit_edge.searching.accuracy import load_accuracy, predictor_of
from nasvit_edge.searching.proxy import proxy
from nasvit_edge.space import load_space

DENSE = load_space("nano-dense")
_HEADER = ["subnet", "accuracy", "macs", "parameters", "config"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table, the CSV of an evaluation (mean IoU rises with MACs), and a predictor fitted to it."""
    root = tmp_path_factory.mktemp("dense")
    whole = table(DENSE, 0, COMPOSITION)
    records.write(root / "t.json", replace(whole.file, provenance="imported"))
    rng = random.Random(0)
    with (root / "miou.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(_HEADER)
        for _ in range(60):
            config = DENSE.sample(rng)
            miou = 0.3 + 0.3 * macs(DENSE, config) / macs(DENSE, DENSE.largest())
            writer.writerow(["random", miou, 0, 0, json.dumps(config.to_dict())])
    fitting.fit(FitRequest(space=DENSE.name, out=root / "miou.json", measured=root / "miou.csv"))
    return root


def asked_for(folder, wanted, **more):
    given = {"accuracy": str(folder / "miou.json"), "table": TableChoice(table=folder / "t.json")}
    return Request(space=DENSE.name, **given | wanted | more)


@pytest.fixture(scope="module", params=["evolutionary", "exact"])
def result(request, folder):
    wanted = {"latency": ["1s"], "max_macs": "400M", "max_params": "10M", "max_memory": "100MB"}
    effort = {"population": 40, "generations": 10} if request.param == "evolutionary" else {}
    actual = flow.search_prepared(
        flow.prepare(asked_for(folder, wanted, method=request.param, **effort), SILENT)
    )
    records.write(folder / "search.json", actual)
    return actual


def test_a_predictor_of_mean_iou_is_fitted_to_an_evaluation(folder):
    fitted = load_accuracy(folder / "miou.json", DENSE)
    assert fitted.quality == "mean IoU"
    assert fitted.source == "60 subnets of miou.csv"
    assert fitted(DENSE.largest()) > fitted(DENSE.smallest())


def test_a_segmenter_is_found_within_its_limits_and_told_in_mean_iou(result):
    best = result.best
    config = DENSE.config_from(best.config.to_dict())
    assert best.macs == macs(DENSE, config) <= 400e6
    assert best.peak_bytes <= 100e6
    assert result.quality == "mean IoU"
    assert "mean IoU (%) over predicted latency" in shown.plot(result)
    assert [stage.name for stage in result.stages][-1] == "decoder"
    blocks = [block for stage in result.stages for block in stage.blocks]
    assert blocks.count("lateral") == len(DENSE.levels)
    assert len(blocks) == len(lower(DENSE, config))


def test_the_latency_is_that_of_the_whole_segmenter(result, folder, tmp_path):
    subnet = tmp_path / "config.json"
    subnet.write_text(json.dumps(result.best.config.to_dict()))
    prediction = tables.predict(
        PredictRequest(subnet=subnet, table=TableChoice(table=folder / "t.json"), space=DENSE.name), SILENT
    )
    assert prediction.ms == pytest.approx(result.best.latency_ms)
    assert [op.name for op in prediction.ops][-5:] == [
        *(f"lateral.{i}" for i in range(3)),
        "pixel_classifier",
        "labels",
    ]


def test_a_searched_segmenter_is_explained(result, folder):
    explained = explain.explain(
        ExplainRequest(result=folder / "search.json", table=folder / "t.json"), SILENT
    )
    assert "mean IoU" in explain_text.headline(explained)
    assert "mean IoU" in explain_text.changes(explained).columns
    rows = [[cell.text for cell in row.cells] for row in explain_text.stages(explained).rows]
    height, width = DENSE.input_size(explained.config.resolution)
    assert rows[-1][:3] == ["decoder", "pixels + labels", f"{height}x{width}x{DENSE.classes}"]
    assert rows[1][1].endswith("+ lateral")
    added = sum(stage.latency_ms for stage in explained.stages) + explained.offset_ms
    assert added == pytest.approx(explained.latency_ms)


def test_pages_draw_the_decoder(result, tmp_path):
    pytest.importorskip("jinja2")
    pytest.importorskip("vl_convert")
    from nasvit_edge.report import front

    front.write_html(result, tmp_path / "s.html", "t", shown.remarks(result))
    text = (tmp_path / "s.html").read_text()
    assert "mean IoU (%)" in text
    assert '"block":"lateral"' in text
    assert "decoder" in text


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"latency": ["1us"]}, "smallest reachable latency"),
        ({"max_macs": "1M"}, "smallest reachable macs"),
        ({"max_memory": "1kB"}, "smallest reachable activation memory"),
        ({"min_accuracy": "99%"}, "largest reachable mean IoU"),
    ],
)
def test_the_impossible_is_said_in_one_line(folder, wanted, said):
    with pytest.raises(BudgetError, match=said) as caught:
        flow.search_prepared(flow.prepare(asked_for(folder, wanted), SILENT))
    assert "mean IoU" in one_line(caught)


def test_without_any_mean_iou_a_search_says_what_to_run():
    with pytest.raises(NasvitEdgeError, match=r"nasvit-edge accuracy fit --space nano-dense") as caught:
        accuracy_source(AccuracyChoice(), DENSE)
    assert "--accuracy accuracy.json" in one_line(caught)


def test_a_report_and_a_plain_list_are_read_too(folder, tmp_path):
    configs, values = measured.read_measured(folder / "miou.csv", DENSE)
    rows = [{"config": c.to_dict(), "accuracy": v} for c, v in zip(configs, values, strict=True)]
    for content in (rows, {"kind": "supernet evaluation", "subnets": rows}):
        path = tmp_path / "m.json"
        path.write_text(json.dumps(content))
        assert measured.read_measured(path, DENSE) == (configs, values)


@given(
    suffix=st.sampled_from([".csv", ".json"]),
    cut=st.integers(0, 3000),
    junk=st.binary(max_size=30) | st.text('{}[]",\n0.é', max_size=30).map(str.encode),
)
@settings(max_examples=150)
def test_what_is_no_measured_subnet_gives_one_line(folder, tmp_path_factory, suffix, cut, junk):
    whole = (folder / "miou.csv").read_bytes()
    if suffix == ".json":
        config = DENSE.smallest().to_dict()
        whole = json.dumps({"subnets": [{"config": config, "accuracy": 0.5}] * 8}).encode()
    path = tmp_path_factory.mktemp("m") / f"m{suffix}"
    path.write_bytes(whole[:cut] + junk + whole[cut + len(junk) :])
    only_user_errors(measured.read_measured, path, DENSE)


def test_a_proxy_is_the_predictor_of_the_same_stages():
    nasvit, dense, known = load_space("nasvit"), load_space("nasvit-dense"), load_accuracy("nasvit")
    predictor = predictor_of("proxy", proxy(dense, known), dense)
    assert predictor.quality == "top-1 proxy"
    assert predictor.source.startswith("proxy: top-1 of the same stages at 224")
    rng = random.Random(0)
    for _ in range(20):
        config = dense.sample(rng)
        same = config.to_dict() | {"resolution": 224, "width": [*config.width[:-1], 1792]}
        assert predictor(config) == pytest.approx(known(nasvit.config_from(same)), abs=2e-3)
    assert "top-1 proxy" not in about(known)
    assert "proxy: top-1" in about(predictor)


def test_a_proxy_of_other_stages_is_refused():
    for space, resolution in ((DENSE, 224), (load_space("nasvit-dense"), 200)):
        with pytest.raises(NasvitEdgeError) as caught:
            proxy(space, load_accuracy("nasvit"), resolution)
        one_line(caught)


@given(quality=st.one_of(st.text(max_size=60), st.integers()))
@settings(max_examples=30)
def test_what_a_predictor_calls_itself_is_a_word_or_two(folder, quality):
    path = folder / "fuzzed.json"
    path.write_text(json.dumps(json.loads((folder / "miou.json").read_text()) | {"quality": quality}))
    outcome = only_user_errors(load_accuracy, path, DENSE)
    assert "'quality'" in outcome if isinstance(outcome, str) else outcome.quality == quality
