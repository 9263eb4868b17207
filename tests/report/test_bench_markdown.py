"""The comment on a pull request, as GitHub renders it."""

from __future__ import annotations

import re
from collections import Counter

import bench_reports
import bench_results
import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import given, settings
from lxml import etree, html

from nasvit_edge.benchmark.verdicts import VERDICTS, Rule
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.report.bench_comment import MARKER, MOST, marker
from nasvit_edge.report.bench_comment import comment as markdown
from nasvit_edge.report.labels import unique
from nasvit_edge.report.markdown import Fold, fitted
from nasvit_edge.report.markdown import markdown as written
from nasvit_edge.report.model import Column, Document, Section, name, plain, table, text

OWN = {"a", "br", "code", "details", "div", "h3", "p", "pre", "span", "strong", "summary", "em"}
OWN |= {"table", "thead", "tbody", "tr", "th", "td"}


def rendered(text):
    """As GitHub does, but that raw HTML is kept: that what we write of it is all there is can be seen then."""
    fragment = cmarkgfm.github_flavored_markdown_to_html(text, options=Options.CMARK_OPT_UNSAFE)
    return html.fragment_fromstring(fragment, create_parent="div")


def tables(page):
    return {(t.xpath("string(ancestor::details/summary)")).split(" (")[0]: t for t in page.iter("table")}


def rows(actual):
    names = [th.text_content() for th in actual.iter("th")]
    return [
        dict(zip(names, [td.text_content() for td in tr.iter("td")], strict=True))
        for tr in actual.xpath("tbody/tr")
    ]


@pytest.fixture(scope="module")
def full():
    return bench_reports.full(baseline=None)


def test_the_first_line_finds_the_comment_and_the_second_gives_the_verdict(full):
    lines = markdown(full).splitlines()
    assert lines[0] == MARKER == marker()
    assert lines[1] == f"### ❌ {full.headline}"
    assert markdown(full, key="gpu/int8").splitlines()[0] == "<!-- nasvit-edge bench: gpu/int8 -->"


@pytest.mark.parametrize("key", ["-->", "a\nb", "x" * 101, "<b>", "é"])
def test_a_key_that_would_end_the_marker_is_refused(full, key):
    with pytest.raises(NasvitEdgeError, match="letters, digits"):
        markdown(full, key=key)


def test_the_marker_is_not_seen(full):
    text = rendered(markdown(full)).text_content()
    assert "nasvit-edge bench " not in text
    assert "<!--" not in text


def test_every_row_of_a_table_has_the_columns_of_its_head(full):
    actual = list(rendered(markdown(full)).iter("table"))
    assert len(actual) == 8
    for one in actual:
        assert len({len(tr) for tr in one.iter("tr")}) == 1


def test_the_table_before_the_folds_has_each_artifact_with_its_verdict_and_none_is_left_out(full):
    main = rows(tables(rendered(markdown(full)))[""])
    p50 = [cell for cell in full.cells if cell.metric.name == "latency_p50"]
    assert [(row["artifact"], row["device"]) for row in main] == [(c.artifact.name, c.device) for c in p50]
    for row, cell in zip(main, p50, strict=True):
        assert cell.verdict in row["verdict"]
    assert {cell.verdict for cell in p50} == set(VERDICTS)


def test_a_regression_of_another_metric_is_seen_in_the_row_whatever_the_latency_says():
    content = bench_results.content(1, (-0.2,), between=0.005)
    content["artifacts"][1]["bytes"] *= 2
    (row,) = rows(tables(rendered(markdown(bench_reports.report(content))))[""])
    assert "regression" in row["verdict"]
    assert "(size)" in row["verdict"]
    assert row["size"].startswith("+100.0")


def test_the_details_have_every_cell_budget_and_reason(full):
    by_title = tables(rendered(markdown(full)))
    figures = rows(by_title["Verdicts"])
    assert Counter((r["artifact"], r["device"], r["metric"]) for r in figures) == Counter(
        (c.artifact.name, c.device, c.metric.name) for c in full.cells
    )
    budgets = rows(by_title["Budgets"])
    assert [r["status"].split("\u00a0", 1)[1].replace("\u00a0", " ") for r in budgets] == [
        o.status for o in full.outcomes
    ]
    names = {r["why"] for r in rows(by_title["Why invalid or inconclusive"])}
    assert names == {c.reason for c in full.cells if c.verdict in ("invalid", "inconclusive")}


def test_noise_environment_and_commands_are_told(full):
    page = rendered(markdown(full))
    assert "9 of 10" in page.xpath("string(//details[starts-with(summary, 'Noise floor')])")
    environment = "".join(tables(page)[name].text_content() for name in ("Environment", "Remarks"))
    for message in ("aarch64", "onnxruntime 1.30.0", "1 on core 3", "throttled", f"{1:040x}"[:12]):
        assert message in environment
    assert page.xpath("//a/@href") == ["https://github.com/owner/repository/actions/runs/12"]
    commands = page.xpath("string(//pre)")
    assert "nasvit-edge benchmark model0.onnx model1.onnx" in commands
    assert "--aa" in commands
    assert "nasvit-edge report bench" in commands


def test_no_word_of_a_command_is_an_option_or_leads_to_a_program_that_a_result_names():
    content = bench_results.content(1, device="shared/lab.toml")
    content["artifacts"][1]["path"] = "--out=/etc/x"
    message = markdown(bench_reports.report(content))
    assert "nasvit-edge benchmark ./--out=/etc/x " in message
    assert "--device DEVICE " in message


def test_the_commands_give_the_rule_that_was_used():
    report = bench_reports.report(
        bench_results.content(1), rule=Rule(alpha=0.05, min_effect=0.1, gates=frozenset({"size"}))
    )
    assert "--min-effect 10% --alpha 5% --gate size" in markdown(report)


def test_trends_are_told_as_no_verdict():
    report = bench_reports.report(bench_results.content(1), baseline=bench_results.content(2))
    by_title = tables(rendered(markdown(report)))
    assert len(rows(by_title["Trends"])) == len(report.trends) > 0
    assert "no verdict" in markdown(report)


def test_without_a_baseline_there_are_figures_and_no_columns_for_changes():
    text = markdown(bench_reports.alone())
    assert "### ✅ 1 artifact measured" in text
    assert "no verdicts" in text
    (row,) = rows(tables(rendered(text))[""])
    assert set(row) == {"artifact", "device", "precision", "p50", "p90", "size", "memory"}
    assert all(row.values())


def test_the_sign_is_of_the_exit_code():
    kept = bench_reports.report(bench_results.content(1, between=0.001, within=0.001, drift=0.0))
    assert "### ✅" in markdown(kept) or "### 🟡" in markdown(kept)
    broken = bench_reports.report(bench_reports.contents()[2])
    assert broken.exit_code == 3
    assert "### ⚠️" in markdown(broken)


@settings(max_examples=40, deadline=None)
@given(made=bench_reports.nasty())
def test_no_text_of_a_result_breaks_a_table_or_becomes_markup(made):
    text = markdown(made)
    assert text.splitlines()[0] == MARKER
    assert text.count("\n### ") == 1
    page = rendered(text)
    assert {e.tag for e in page.iter() if isinstance(e.tag, str)} <= OWN
    assert len(list(page.iter(etree.Comment))) == 1
    for one in page.iter("table"):
        assert len({len(tr) for tr in one.iter("tr")}) == 1
    assert len(rows(tables(page)[""])) == 2
    assert all(re.fullmatch(r"https?://[\w./:%?=-]+", url) for url in page.xpath("//@href"))
    outside = "".join(page.xpath("//text()[not(ancestor::code) and not(ancestor::a)]"))
    assert not re.search(r"@\w|#\d|https?://|www\.", outside)
    assert len(page.xpath("//details")) == len(page.xpath("//details/summary")) >= 4


@settings(max_examples=300, deadline=None)
@given(words=bench_reports.NASTY)
def test_a_name_is_read_in_a_table_as_it_is_written(words):
    table_of = table([words], Column("a", name), Column("b", text))
    content = written(Document("", [Section("", [table_of])]), "", MOST)
    (row,) = rows(next(rendered(content).iter("table")))
    shown = plain(words, 80)
    assert row["a"].replace("¦", "|") == shown.replace("¦", "|")
    assert row["b"].replace("\u2060", "") == plain(words, 300)


@settings(max_examples=300)
@given(text=bench_reports.NASTY)
def test_plain_text_is_one_short_line_that_can_be_encoded(text):
    line = plain(text, 50)
    assert 0 < len(line) <= 50
    assert len(line.splitlines()) == 1
    line.encode()
    assert plain(line, 50) == line


def test_labels_are_told_apart_by_numbers_and_stay_as_they_are_where_they_are_alone():
    assert unique(["a", "a (2)", "a", "a", "b"]) == ["a", "a (2)", "a (3)", "a (4)", "b"]


def test_a_comment_that_is_too_long_keeps_the_urgent_lines_and_says_how_many_are_left_out():
    content = bench_results.content(
        1, [0.0] * 100 + [0.3] * 3 + [0.0] * 100, rounds=3, count=10, between=0.0003, within=0.001, drift=0.0
    )
    report = bench_reports.report(content, budgets=bench_reports.BUDGETS)
    text = markdown(report)
    assert len(text.encode()) <= MOST
    assert len(text.encode()) > 0.9 * MOST
    page = rendered(text)
    assert len(page.xpath("//details")) >= 4
    worst = {c.artifact.name for c in report.cells if c.fails}
    assert worst <= {row["artifact"] for row in rows(tables(page)[""])}
    assert "lines left out, the least urgent ones" in text
    for fold in page.xpath("//details"):
        title = int((re.findall(r"\((\d+)\)", fold.findtext("summary")) or [0])[0])
        missing = [int(n) for n in re.findall(r"(\d+) of \d+ lines left out", fold.text_content())]
        if title:
            assert len(rows(fold.find("table"))) + sum(missing) == title


def test_sections_give_way_by_length():
    long = Fold(title="long", lines=[(i % 2, f"line {i}") for i in range(1000)])
    short = Fold(title="short", lines=[(0, "kept")])
    text = fitted([long, short], 1000)
    assert len(text.encode()) <= 1000
    assert "kept" in text
    assert "line 0\n" in text
    assert "line 1\n" not in text  # of the rank that goes first
    assert fitted([short], 1000) == short.text(1)
