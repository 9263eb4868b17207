"""Pages of searches: whole without network, drawn by a real browser, and pictures that are pictures."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import require_tool
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import COMPOSITION, SETTING, predictor, table
from msgspec.structs import asdict, replace

from nasvit_edge.report import front
from nasvit_edge.searching.evolution import Effort
from nasvit_edge.searching.result import describe, file_of
from nasvit_edge.searching.saved import Confirmation, MeasuredCandidate
from nasvit_edge.searching.search import Problem, search
from nasvit_edge.searching.stages import described
from nasvit_edge.space import load_space

pytest.importorskip("jinja2")
pytest.importorskip("vl_convert")
NANO = load_space("nano")
TITLE = "best <nano> & co"


@pytest.fixture(scope="module")
def result():
    latencies = table(NANO, 0, COMPOSITION)
    budget = 2 * latencies.predict(NANO.smallest()).ms
    actual = search(NANO, latencies, predictor(NANO), budget, effort=Effort(population=20, generations=4))
    problem = Problem(space=NANO, tables=(latencies,), accuracy=predictor(NANO))
    rows = [
        MeasuredCandidate(
            **asdict(describe(c)) | {"median_ms": c.latency_ms, "p90_ms": 1.1 * c.latency_ms}, inside=True
        )
        for c in actual.front[:2]
    ]
    return replace(
        file_of(actual, SETTING),
        stages=described(problem.evaluator, actual.best.config),
        confirmation=Confirmation(by="p90", rounds=1, factor=1.0, subnets=tuple(rows)),
    )


def test_a_page_holds_all_it_needs(result, tmp_path):
    path = tmp_path / "s.html"
    front.write_html(result, path, TITLE, ["a <remark>"])
    text = path.read_text()
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?(?:https?:)?//", text)
    assert "best &lt;nano&gt; &amp; co" in text
    assert "a &lt;remark&gt;" in text
    assert TITLE not in text


def test_a_browser_draws_the_page(result, tmp_path):
    chromium = shutil.which("chromium")
    require_tool("chromium", chromium is not None)
    path = tmp_path / "s.html"
    front.write_html(result, path, TITLE, [])
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
    done = subprocess.run(
        [
            chromium,
            *flags,
            *quiet,
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=10000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    drawn = done.stdout
    assert "<canvas" in drawn or "<svg" in drawn, done.stderr
    assert "vega-embed" in drawn


def test_a_name_that_is_no_text_is_written_as_text(result, tmp_path):
    front.write_html(result, tmp_path / "s.html", "caf\udce9", ["weights caf\udce9"])
    assert "<h1>caf\\udce9</h1>" in (tmp_path / "s.html").read_text()
    front.write_png(result, tmp_path / "s.png", "caf\udce9")
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_is_a_picture(result, tmp_path):
    path = tmp_path / "s.png"
    front.write_png(result, path, TITLE)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    width, height = (int.from_bytes(content[i : i + 4], "big") for i in (16, 20))
    assert width > 1500
    assert height > 800


@pytest.mark.parametrize(
    "change", [{"beyond": ()}, {"budget_ms": None}, {"confirmation": None}, "no interval"]
)
def test_what_a_result_does_not_have_is_not_drawn(result, tmp_path, change):
    if change == "no interval":
        change = {"best": replace(result.best, low_ms=None, high_ms=None)}
    front.write_png(replace(result, **change), tmp_path / "s.png", TITLE)
    assert Path(tmp_path / "s.png").stat().st_size > 10_000


@given(device=st.text(min_size=1, max_size=40))
@settings(max_examples=20)
def test_no_name_breaks_out_of_the_page(result, tmp_path_factory, device):
    path = tmp_path_factory.mktemp("x") / "s.html"
    hostile = f"</script><script>alert(1)</script>{device}"
    changed = replace(result, setting=replace(result.setting, device=hostile))
    front.write_html(changed, path, hostile, [hostile])
    assert "<script>alert(1)</script>" not in path.read_text()
