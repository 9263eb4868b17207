"""A benchmark's page: drawn by a real browser without network, at two widths, whatever the names are."""

from __future__ import annotations

import base64
import html.parser
import itertools
import json
import re

import bench_results
import history_points
import numpy as np
import pytest
from conftest import require_program
from hypothesis import given, settings
from hypothesis import strategies as st
from transport.chromium import Chromium

from nasvit_edge.benchmark.budgets import read_budgets
from nasvit_edge.benchmark.report import make_report
from nasvit_edge.benchmark.result import read_result
from nasvit_edge.benchmark.verdicts import Rule
from nasvit_edge.report import bench_charts, bench_page, bench_samples, page
from nasvit_edge.report.model import Document, Drawing, Figure, Section

pytest.importorskip("jinja2")
pytest.importorskip("vl_convert")
BUDGETS = 'schema = 1\n[[budget]]\nlatency_p50 = "10.5ms"\nsize = { max = "1MB", level = "warn" }\n'
HOSTILE = "</script><script>window.hit=1</script><img src=x onerror=window.hit=1>'\"&"
PHONE, DESKTOP = 360, 1280
LISTEN = """
window.failures = [];
const told = (...parts) => window.failures.push(parts.map(String).join(' '));
console.error = told;
console.warn = told;
addEventListener('error', (event) => told('error', event.message || event.target.outerHTML), true);
addEventListener('unhandledrejection', (event) => told('rejection', event.reason));
addEventListener('securitypolicyviolation', (event) => told('policy', event.violatedDirective, event.blockedURI));
"""
DRAWN = "document.readyState === 'complete' && (!document.querySelector('[data-chart]') || document.documentElement.dataset.drawn)"
EMPTY = """[...document.querySelectorAll('[data-chart]')].filter((place) => {
  const svg = place.querySelector('svg.marks'), canvas = place.querySelector('canvas');
  const box = (svg || canvas || place).getBoundingClientRect();
  if (box.width < 200 || box.height < 100 || box.right > innerWidth) return true;
  if (svg) return !svg.querySelector('.mark-symbol path, .mark-line path, .mark-rule line');
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  return !pixels.some((value, i) => i % 4 === 3 && value > 0);
}).length"""


def result(folder, content, name="r"):
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return read_result(path)


def rich(seed=1, effects=(0.12, 0.0, -0.1), **options):
    """A result with accuracies, predictions, a disturbed round and a very slow inference."""
    rng = np.random.default_rng(seed)
    content = bench_results.content(seed, effects, between=0.008, **options)
    for place, artifact in enumerate(content["artifacts"]):
        hits = rng.random(1000) < 0.85 + 0.01 * place
        packed = base64.b64encode(np.packbits(hits).tobytes()).decode()
        artifact["accuracy"] = {"data": "bundled", "images": 1000, "top1": float(hits.mean()), "hits": packed}
        artifact["predicted_ms"] = [10.0 + place / 10, 9.0, 12.0]
    disturbed = content["artifacts"][1]["rounds"][2]
    disturbed |= {"flags": ["throttled"], "samples_us": [1.5 * s for s in disturbed["samples_us"]]}
    content["artifacts"][0]["rounds"][3]["samples_us"][7] *= 20
    return content


def alone(seed=2):
    """A result without baselines."""
    content = bench_results.content(seed, (0.0, 0.1))
    content["artifacts"] = [
        artifact | {"baseline": None} for artifact in content["artifacts"] if artifact["baseline"] is not None
    ]
    return content


def broken(seed=3):
    """A result of which nothing holds, with one round."""
    content = bench_results.content(seed, (0.0,))
    for artifact in content["artifacts"]:
        artifact["rounds"] = artifact["rounds"][:1]
    return content | {"complete": False, "stopped": "interrupted after 1 of 8 rounds"}


def runs(count, step=30, device="board", artifact="model0.onnx", runtime="onnxruntime"):
    """A history with one step of 20 %."""
    rng = np.random.default_rng(0)
    points = []
    for n in range(count):
        value = 10 * (1.2 if n >= step else 1.0) * float(np.exp(0.01 * rng.normal()))
        bounds = (None, None) if n % 7 == 0 else (0.98 * value, 1.02 * value)
        about = {"device": device, "artifact": artifact, "runtime": runtime, "git_sha": f"{n + 1:x}" * 8}
        about |= {"utc": f"2026-{1 + n // 28:02d}-{1 + n % 28:02d}T10:00:00+00:00", "uuid": f"u{n}"}
        version = "1.30.0" if n > 10 else "1.29.0"
        interval = dict(zip(("value", "low", "high"), (value, *bounds), strict=True))
        points.extend(history_points.points([value], **about, **interval, runtime_version=version))
    return points


def reports(folder):
    """Name -> a report and its history."""
    (folder / "budgets.toml").write_text(BUDGETS)
    budgets = read_budgets(folder / "budgets.toml")
    whole = [result(folder, rich(), "whole"), result(folder, alone(), "alone")]
    whole[1:] = [result(folder, alone() | {"device": {**alone()["device"], "name": "phone"}}, "phone")]
    stored = result(folder, bench_results.content(9, (0.0, 0.0, 0.0)), "stored")
    hostile = rich(5, (0.1, 0.0), device=HOSTILE)
    for place, artifact in enumerate(hostile["artifacts"]):
        artifact["name"] = f"{place}{HOSTILE}" + ("\ud800" if place else "x" * 500)
        artifact["accuracy"]["data"] = HOSTILE
    hostile["run"] |= {"ci_url": f"https://x/{HOSTILE}", "git_sha": HOSTILE, "utc": f"2026-01-01 {HOSTILE}"}
    hostile["device"] |= {"conditions": {HOSTILE: [HOSTILE, {HOSTILE: 1.5}]}}
    name = hostile["artifacts"][1]["name"]
    aa = result(folder, bench_results.content(4, (0.0,), aa=True), "aa")
    return {
        "whole": (make_report(whole, Rule(), budgets=budgets), runs(60)),
        "with a stored run": (make_report(whole[:1], Rule(), baseline=stored), []),
        "of the same file": (make_report([aa], Rule()), runs(2, 9)),
        "without baselines": (make_report([result(folder, alone(), "only")], Rule()), []),
        "invalid": (make_report([result(folder, broken(), "broken")], Rule(), budgets=budgets), []),
        "with hostile names": (
            make_report([result(folder, hostile, "hostile")], Rule(), budgets=budgets),
            runs(9, device=HOSTILE, artifact=name),
        ),
    }


NAMES = (
    "whole",
    "with a stored run",
    "of the same file",
    "without baselines",
    "invalid",
    "with hostile names",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    named = reports(folder)
    assert tuple(named) == NAMES
    for name, (report, history) in named.items():
        bench_page.write_html(report, folder / f"{name}.html", history)
    return folder, named


@pytest.fixture(scope="module")
def browser():
    with Chromium(require_program("chromium"), "--host-resolver-rules=MAP * ~NOTFOUND") as running:
        running.open("about:blank")
        running.ask("Page.enable")
        running.ask("Page.addScriptToEvaluateOnNewDocument", source=LISTEN)
        yield running


def look(browser, path, width, mode="light"):
    """Open a page on a screen of this width, and wait for its charts."""
    phone = width == PHONE
    browser.ask(
        "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=phone
    )
    scheme = [{"name": "prefers-color-scheme", "value": mode}]
    browser.ask("Emulation.setEmulatedMedia", features=scheme)
    browser.open(path.as_uri())
    browser.until(f"location.href === {json.dumps(path.as_uri())} && {DRAWN}", 120)


@pytest.mark.parametrize("width", [PHONE, pytest.param(DESKTOP, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_a_browser_draws_every_chart_without_network_errors_or_sideways_scrolling(made, browser, name, width):
    look(browser, made[0] / f"{name}.html", width)
    assert browser.value("window.failures") == []
    assert browser.value("performance.getEntriesByType('resource').map((entry) => entry.name)") == []
    assert browser.value("document.querySelectorAll('[data-chart]').length") >= 1
    assert browser.value(EMPTY) == 0
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("window.hit") is None


def test_charts_are_drawn_again_in_the_colours_of_the_dark(made, browser):
    look(browser, made[0] / "of the same file.html", PHONE)
    ink = "document.querySelector('svg.marks text').getAttribute('fill')"
    before = browser.value(ink)
    browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.until("document.documentElement.dataset.drawn === 'dark'", 60)
    assert browser.value(ink) != before
    assert browser.value(EMPTY) == 0
    assert browser.value("window.failures") == []


class _Text(html.parser.HTMLParser):
    """Tags, and the text outside of scripts and styles."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.skipped = [], [], False

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.skipped = tag in ("script", "style")

    def handle_endtag(self, tag):
        self.skipped = self.skipped and tag not in ("script", "style")

    def handle_data(self, data):
        if not self.skipped:
            self.text.append(data)


def parsed(path):
    """The text, the tags and the charts of a page."""
    content = path.read_text()
    reader = _Text()
    reader.feed(content)
    match = re.search(r'<script type="application/json" id="charts">(.*?)</script>', content, re.S)
    return " ".join("".join(reader.text).split()), reader.tags, json.loads(match[1]) if match else []


def written(tmp_path, report, history=()):
    bench_page.write_html(report, tmp_path / "p.html", history)
    return parsed(tmp_path / "p.html")


def test_the_text_is_what_the_report_says(made):
    folder, actual = made
    for name, (report, _) in actual.items():
        text, tags, _ = parsed(folder / f"{name}.html")
        assert report.headline in text
        verdicts = [t["class"].split()[1] for tag, t in tags if t.get("class", "").startswith("verdict ")]
        for cell in report.cells:
            assert cell.metric.name in text
            assert cell.verdict is None or cell.verdict in verdicts
            assert cell.reason in text
        for remark in report.remarks:
            assert " ".join(remark.encode("utf-8", "replace").decode().split())[:80] in text


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("whole", {"Trends", "Noise floor", "Figures"}),
        ("with a stored run", {"Budgets", "History", "Noise floor", "Figures"}),
        ("of the same file", {"Budgets", "Predicted and measured", "Pareto front", "Trends", "Figures"}),
        ("without baselines", {"Verdicts", "Budgets", "Changes", "History", "Predicted and measured", "Trends", "Noise floor", "Remarks"}),
        ("invalid", {"History", "Pareto front", "Predicted and measured", "Trends", "Noise floor", "Figures", "Remarks"}),
    ],
)  # fmt: skip
def test_what_a_report_does_not_have_has_no_section(made, name, absent):
    content = (made[0] / f"{name}.html").read_text()
    sections = re.findall(r'<section id="part-\d+"><h2>([^<]+)</h2>', content)
    every = {"Verdicts", "Figures", "Budgets", "Samples", "Changes", "History", "Pareto front"}
    every |= {"Predicted and measured", "Trends", "Noise floor", "Environment", "Remarks"}
    assert every - set(sections) == absent
    assert len(re.findall(r'<a href="#part-\d+">', content)) == len(sections)


def test_vega_is_there_once_and_no_element_asks_for_anything(made):
    for path in made[0].glob("*.html"):
        content = path.read_text()
        assert content.count("window.vegaEmbed=") == 1
        _, tags, _ = parsed(path)
        assert not [t for tag, t in tags if "src" in t or tag in ("link", "img", "iframe")]
        assert all(re.match(r"#part-\d+$|https://x/", t["href"]) for tag, t in tags if tag == "a")


names = st.text(min_size=1, max_size=30) | st.sampled_from(
    [HOSTILE, "<!--<script>", "]]>", "${body}", "$title"]
)


TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "section",
        "nav",
        "h1",
        "h2",
        "h3",
        "p",
        "b",
        "i",
        "br",
    ),
    *("a", "small", "span", "code", "div", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"),
    *("figure", "figcaption", "script", "noscript"),
}


@given(
    name=names, device=names, more=st.dictionaries(names, names | st.integers() | st.lists(names), max_size=3)
)
@settings(max_examples=25)
def test_no_name_becomes_a_tag(tmp_path_factory, name, device, more):
    folder = tmp_path_factory.mktemp("x")
    content = bench_results.content(1, (0.0,), rounds=3, count=10, device=device)
    content["artifacts"][1]["name"] = name
    content["device"] |= {"about": more, "conditions": more}
    content["run"] |= {"ci_url": name, "git_sha": device}
    _, tags, charts = written(folder, make_report([result(folder, content)], Rule()))
    assert {tag for tag, _ in tags} <= TAGS
    assert [tag for tag, _ in tags].count("script") == 3
    assert len(charts) >= 3


nothing = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names
anything = st.recursive(
    nothing, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)
)


@given(
    conditions=st.none() | st.dictionaries(names, anything, max_size=3),
    run=st.dictionaries(st.sampled_from(["git_sha", "ci_url"]), st.none() | names),
    more=anything,
)
@settings(max_examples=25)
def test_whatever_a_result_says_of_its_run_there_is_a_page(tmp_path_factory, conditions, run, more):
    folder = tmp_path_factory.mktemp("x")
    content = bench_results.content(1, (0.0,), rounds=3, count=10)
    content["run"] |= run
    content["device"] |= {"conditions": conditions}
    content["protocol"]["more"] = more
    text, _, _ = written(folder, make_report([result(folder, content)], Rule()))
    assert "Environment" in text


def test_tables_nested_without_end_are_cut(tmp_path):
    deep = {"a": 1}
    for _ in range(400):
        deep = {"a": [deep]}
    content = bench_results.content(1, (0.0,), rounds=3, count=10)
    content["device"]["conditions"] = deep
    assert "Environment" in written(tmp_path, make_report([result(tmp_path, content)], Rule()))[0]


def test_samples_are_thinned_out_and_the_page_says_so(tmp_path):
    report = make_report([result(tmp_path, bench_results.content(1, (0.0,), count=900))], Rule())
    text, _, charts = written(tmp_path, report)
    rows = charts[0]["spec"]["datasets"]["samples"]
    rounds = {}
    for row in rows:
        rounds.setdefault(round(row["x"]), []).append(row["x"])
    assert {len(samples) for samples in rounds.values()} == {bench_samples.MOST_SAMPLES}
    assert all(samples == sorted(samples) for samples in rounds.values())
    assert "Thinned out to 200 samples a round (14400 were measured)" in text


def test_the_strip_is_in_the_order_of_the_session_with_each_rounds_median(tmp_path):
    one = result(tmp_path, bench_results.content(1, (0.1,)))
    _, _, charts = written(tmp_path, make_report([one], Rule()))
    marks = charts[0]["spec"]["datasets"]["rounds"]
    expected = sorted(
        (entry.position, side, np.median(entry.samples_us) / 1e3)
        for side_of, side in zip(one.artifacts, ("base", "candidate"), strict=True)
        for entry in side_of.rounds
    )
    assert [mark["side"] for mark in marks] == [side for _, side, _ in expected]
    assert [mark["median"] for mark in marks] == pytest.approx([ms for *_, ms in expected], rel=1e-4)


def test_disturbed_rounds_are_shaded_and_not_in_the_distribution(tmp_path):
    one = rich()
    text, _, charts = written(tmp_path, make_report([result(tmp_path, one)], Rule()))
    strip, distribution = (chart["spec"]["datasets"] for chart in charts[:2])
    assert [m["flags"] for m in strip["rounds"] if m["shade"]] == ["throttled"]
    assert "Shaded rounds were disturbed (throttled) and count for nothing." in text
    slowest = max(row["ms"] for row in distribution["samples"] if row["side"] == "candidate")
    clean = [s for entry in one["artifacts"][1]["rounds"] if not entry["flags"] for s in entry["samples_us"]]
    assert slowest <= max(clean) / 1e3 * (1 + 1e-4)


def test_one_very_slow_sample_is_told_and_does_not_flatten_the_rest(tmp_path):
    content = bench_results.content(1, (0.0,))
    content["artifacts"][1]["rounds"][0]["samples_us"][5] = 5e6
    text, _, charts = written(tmp_path, make_report([result(tmp_path, content)], Rule()))
    data = charts[0]["spec"]["datasets"]
    assert max(row["ms"] for row in [*data["samples"], *data["beyond"]]) < 20
    assert [round(row["x"]) for row in data["beyond"]] == [2]
    assert "Triangles at the upper edge: 1 above" in text
    assert "Not shown: 1 of 800 of the candidate" in text


def test_of_many_artifacts_the_most_urgent_twelve_are_drawn(tmp_path):
    effects = (*[0.0] * 13, 0.3)
    report = make_report(
        [result(tmp_path, bench_results.content(1, effects, count=20, between=0.004))], Rule()
    )
    text, _, charts = written(tmp_path, report)
    strips = [c["spec"]["description"] for c in charts if c["spec"]["description"].startswith("Samples of")]
    assert len(strips) == bench_page.MOST_CHARTS == 12
    assert "Samples of model13.onnx by round" in strips
    assert "2 more artifacts are not drawn" in text
    cells = next(
        c["spec"]["datasets"]["cells"] for c in charts if c["spec"]["description"].startswith("Changes")
    )
    assert len(cells) == bench_charts.MOST_CHANGES
    left = sum(cell.change is not None for cell in report.cells) - len(cells)
    assert f"{left} cells are left out" in text


def test_changes_have_their_intervals_and_the_zone_that_does_not_count(tmp_path):
    report = make_report([result(tmp_path, rich())], Rule(min_effect=0.04))
    figure = bench_charts.changes(report)
    rows = {row["label"]: row for row in figure.spec["datasets"]["cells"]}
    for cell in report.cells:
        row = rows[f"{cell.artifact.name}, {cell.metric.name}"]
        ends = [100 * end for end in (cell.change.low, cell.change.value, cell.change.high)]
        assert [row[key] for key in ("low", "change", "high")] == pytest.approx(ends)
        assert row["to"] == -row["from"] == pytest.approx(0.5 if cell.metric.name == "top1" else 4)
        assert row["verdict"] == cell.verdict


def test_a_change_without_bounds_ends_at_the_edge(tmp_path):
    report = make_report([result(tmp_path, bench_results.content(1, (0.0,), rounds=2))], Rule())
    rows = bench_charts.changes(report).spec["datasets"]["cells"]
    assert {(row["low"], row["high"]) for row in rows if row["label"].endswith("p50")} == {(-100.0, 1000.0)}


@given(
    files=st.lists(
        st.tuples(st.integers(50, 200), st.integers(1, 50), st.integers(0, 100)), min_size=2, max_size=7
    ),
    with_images=st.booleans(),
)
@settings(max_examples=25)
def test_the_front_is_exactly_what_nothing_beats_in_both(tmp_path_factory, files, with_images):
    folder = tmp_path_factory.mktemp("x")
    content = bench_results.content(1, (0.0,), rounds=3, count=10)
    content["artifacts"] = [
        bench_results.artifact(
            np.random.default_rng(i), f"m{i}", ms / 10, range(3), 3, count=10, between=0.0, within=0.0,
            drift=0.0, size=size * 1000, hits=[True] * top + [False] * (100 - top) if with_images else None,
        )
        for i, (ms, size, top) in enumerate(files)
    ]  # fmt: skip
    (figure,) = bench_charts.fronts(make_report([result(folder, content)], Rule()))
    rows = figure.spec["datasets"]["files"]
    better = (lambda a, b: a >= b) if with_images else (lambda a, b: a <= b)

    def beaten(row):
        return any(
            o["ms"] <= row["ms"] and better(o["y"], row["y"]) and (o["ms"], o["y"]) != (row["ms"], row["y"])
            for o in rows
        )

    assert len(rows) == len(files)
    assert all(row["front"] != beaten(row) or _twin(row, rows) for row in rows)
    line = figure.spec["datasets"]["front"]
    assert all(a["ms"] < b["ms"] and better(b["y"], a["y"]) for a, b in itertools.pairwise(line))
    assert {(p["ms"], p["y"]) for p in line} == {(r["ms"], r["y"]) for r in rows if not beaten(r)}


def _twin(row, rows):
    return sum((o["ms"], o["y"]) == (row["ms"], row["y"]) for o in rows) > 1


def test_predictions_are_beside_what_was_measured(tmp_path):
    one = result(tmp_path, rich())
    figure = bench_charts.predictions(make_report([one], Rule()))
    rows = figure.spec["datasets"]["files"]
    assert [row["predicted"] for row in rows] == [a.predicted_ms[0] for a in one.artifacts]
    inside = sum(9 <= row["ms"] <= 12 for row in rows)
    assert f"{inside} of {len(rows)} measured medians are within" in figure.caption
    assert all(row["low"] <= row["ms"] <= row["high"] for row in rows)


def test_the_history_shows_runs_intervals_steps_and_new_versions(tmp_path):
    report = make_report([result(tmp_path, bench_results.content(1, (0.0,)))], Rule())
    others = runs(20, artifact="other.onnx") + runs(20, device="elsewhere")
    text, _, charts = written(tmp_path, report, [*runs(60), *others])
    results = [c["spec"] for c in charts if "levels" in c["spec"]["datasets"]]
    assert [spec["description"] for spec in results] == [
        "model0.onnx on board: latency_p50 (onnxruntime, 1 thread, fp32)"
    ]
    data = results[0]["datasets"]
    assert len(data["runs"]) == 60
    assert [step["day"] for step in data["steps"]] == ["2026-02-03"]
    assert [version["told"] for version in data["versions"]] == ["onnxruntime 1.30.0"]
    assert re.search(r"New level 2026-02-03 \(\w+\): \+(19|20|21)\.\d %, to 1[12]\.\d ms\.", text)


@pytest.mark.parametrize("count", [0, 1])
def test_a_history_of_one_run_is_not_drawn(tmp_path, count):
    report = make_report([result(tmp_path, bench_results.content(1, (0.0,)))], Rule())
    assert "History" not in written(tmp_path, report, runs(count))[0]


def test_a_page_without_charts_has_no_scripts(tmp_path):
    page.write_html(Document("title", [Section("s", ["body $title {{ title }}"])]), tmp_path / "p.html")
    text, tags, charts = parsed(tmp_path / "p.html")
    assert "body $title {{ title }}" in text
    assert "script" not in {tag for tag, _ in tags}
    assert charts == []


def test_what_is_no_number_in_json_is_null(tmp_path):
    figure = Figure(title="t", caption="c", spec={"values": [float("nan"), float("inf"), 1.5]})
    page.write_html(Document("title", [Section("s", [Drawing((figure,))])]), tmp_path / "p.html")
    assert parsed(tmp_path / "p.html")[2][0]["spec"] == {"values": [None, None, 1.5]}
