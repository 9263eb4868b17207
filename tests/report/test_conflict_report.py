"""The conflict report: the numbers of the file, damage as one line, pages that are whole and pictures that are."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import one_line, only_user_errors, require_tool
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.errors import DataError, NasvitEdgeError
from nasvit_edge.report import conflict_page
from nasvit_edge.report.conflicts import over_time, summarise
from nasvit_edge.train.conflict_file import read_conflicts
from nasvit_edge.train.conflicts import DENSE, KINDS, kind
from nasvit_edge.train.logs import Rows

PLACES = [
    "all",
    *("first_conv", "first_conv.body.conv", "first_conv.body.norm"),
    *("mb1.0", "mb1.0.depthwise.conv", "mb1.0.se.reduce"),
    *("mb2.1", "mb2.1.scale_mlp", "mb2.1.norm2", "mb2.1.attention.query", "mb2.1.mlp2.inner"),
    *("last_conv", "last_conv.features", "classifier", "classifier.linear"),
]


def made(folder: Path, steps, seed: int = 0, *, per_epoch: int | None = 10) -> Path:
    """A run's folder; one cell in six is empty, but never `all`."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = Rows(folder / "conflicts.csv", ["step", *PLACES])
    for step in steps:
        cells = [f"{v:.4g}" if i == 0 or rng.random() > 1 / 6 else "" for i, v in enumerate(_cosines(rng))]
        rows.add([step, *cells])
    rows.close()
    if per_epoch:
        about = {"steps_per_epoch": per_epoch, "space": "tiny", "recipe": {"name": "nasvit"}, "data": "spots"}
        (folder / "recipe.json").write_text(json.dumps(about))
    return folder


def _cosines(rng):
    return np.clip(rng.normal(0, 0.3, len(PLACES)), -1, 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return made(tmp_path_factory.mktemp("runs") / "hybrid", range(1, 201))


def cells(run: Path, names) -> list[float]:
    """Straight from the text."""
    lines = [line.split(",") for line in (run / "conflicts.csv").read_text().splitlines()]
    columns = [lines[0].index(name) for name in names]
    return [float(line[i]) for line in lines[1:] for i in columns if line[i]]


@pytest.mark.parametrize(
    ("stage", "layers_kind", "names"),
    [
        ("mb2", "attention", ["mb2.1.attention.query"]),
        ("mb2", "scaling", ["mb2.1.scale_mlp"]),
        ("mb1", "SE", ["mb1.0.se.reduce"]),
        ("first_conv", "norm", ["first_conv.body.norm"]),
        ("last_conv", "head", ["last_conv.features"]),
    ],
)
def test_a_group_counts_the_cells_of_its_layers(run, stage, layers_kind, names):
    (group,) = [g for g in summarise(read_conflicts(run)).groups if (g.stage, g.kind) == (stage, layers_kind)]
    expected = cells(run, names)
    assert group.negative == pytest.approx(np.mean(np.array(expected) < 0))
    assert group.mean_cosine == pytest.approx(np.mean(expected), abs=1e-6)
    assert group.steps == len(expected)


def test_figures_over_all_are_of_the_parameters_together_and_of_every_layer(run):
    summary = summarise(read_conflicts(run))
    together, layers = cells(run, ["all"]), cells(run, [p for p in PLACES if p in LAYERS])
    assert summary.all.negative == pytest.approx(np.mean(np.array(together) < 0))
    assert summary.layers.negative == pytest.approx(np.mean(np.array(layers) < 0))
    assert summary.layers.layers == len(LAYERS)
    assert (summary.steps, summary.space, summary.recipe) == (200, "tiny", "nasvit")
    assert {b.block for b in summary.blocks} == set(PLACES) - set(LAYERS) - {"all"}


LAYERS = [p for p in PLACES if p.count(".") >= (2 if p.startswith("mb") else 1)]


def test_kinds_of_layers_are_told_from_their_names():
    of = {
        "mb3.0.shortcut.conv": "MBConv conv",
        "mb3.0.project.norm": "norm",
        "mb3.0.se.expand": "SE",
        "mb3.1.attention.position_table": "attention",
        "mb3.1.mlp1.outer": "MLP",
        "mb3.1.scale_attention": "scaling",
        "mb3.1.norm1": "norm",
        "first_conv.body.conv": "stem",
        "classifier.linear": "classifier",
    }
    assert {name: kind(name) for name in of} == of
    assert set(of.values()) < set(KINDS)


def test_every_layer_of_a_real_space_has_a_kind_of_its_block(nano):
    from nasvit_edge.model.supernet import Supernet
    from nasvit_edge.train.conflicts import layer

    layers = {layer(name) for name, _ in Supernet(nano).named_parameters()}
    transformers = {name for name in layers if re.match(r"mb[34]\.[12]\.", name)}
    assert {kind(name) for name in transformers} == {"attention", "MLP", "scaling", "norm"}
    assert {kind(name) for name in layers if re.match(r"mb\d\.0\.", name)} == {"MBConv conv", "SE", "norm"}


def test_rows_that_stand_for_ten_steps_count_ten_times(tmp_path):
    steps = [DENSE - 1, DENSE, DENSE + 10, DENSE + 20]
    rows = Rows(tmp_path / "conflicts.csv", ["step", "all", "mb1.0", "mb1.0.norm"])
    for step, value in zip(steps, (0.5, 0.5, -0.1, 0.2), strict=True):
        rows.add([step, value, "", value])
    rows.close()
    figures = summarise(read_conflicts(tmp_path)).all
    assert figures.negative == pytest.approx(10 / 22)
    assert figures.mean_cosine == pytest.approx((0.5 + 0.5 - 1 + 2) / 22)
    assert figures.steps == 4


def test_what_was_never_measured_has_no_share(tmp_path):
    rows = Rows(tmp_path / "conflicts.csv", ["step", "all", "mb1.0", "mb1.0.norm"])
    rows.add([1, 0.5, "", ""])
    rows.close()
    summary = summarise(read_conflicts(tmp_path))
    assert summary.groups[0].negative is None
    conflict_page.write_png([read_conflicts(tmp_path)], tmp_path / "c.png", "x")


@given(first=st.integers(1, 200), last=st.integers(1, 200))
def test_a_part_is_what_lies_between(run, first, last):
    whole = read_conflicts(run)
    if first > last:
        assert "no step" in only_user_errors(whole.between, first, last)
    else:
        assert whole.between(first, last).steps.tolist() == list(range(first, last + 1))


def test_epochs_count_from_zero_and_need_the_recipe(run, tmp_path):
    whole = read_conflicts(run)
    assert whole.epochs(None, None) is whole
    assert whole.epochs(1, 2).steps.tolist() == list(range(11, 31))
    assert whole.epochs(None, 0).steps[-1] == 10
    assert whole.epochs(19, None).steps.tolist() == list(range(191, 201))
    bare = read_conflicts(made(tmp_path / "bare", range(1, 5), per_epoch=None))
    with pytest.raises(DataError, match="--steps") as caught:
        bare.epochs(1, None)
    one_line(caught)


@given(bins=st.integers(1, 300), first=st.integers(1, 150))
def test_parts_of_the_training_cover_every_step_once(run, bins, first):
    part = read_conflicts(run).between(first, 200)
    actual = over_time(part, [0], bins)
    assert len(actual) <= bins
    assert [step for step, _, _ in actual] == sorted({step for step, _, _ in actual})
    assert all(0 <= negative[0] <= 1 and -1 <= mean[0] <= 1 for _, negative, mean in actual)


def test_a_last_line_without_its_end_is_left_out(run, tmp_path):
    content = (run / "conflicts.csv").read_bytes()
    (tmp_path / "conflicts.csv").write_bytes(content + b"201,0.1,0.2")
    assert read_conflicts(tmp_path).steps[-1] == 200


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.replace("\n7,", "\n6,"), "line 8 repeats step 6"),
        (lambda t: re.sub(r"\n9,[^,]*", "\n9,1.5", t), "line 10 holds no cosines"),
        (lambda t: re.sub(r"\n9,[^,]*", "\n9,nan", t), "line 10 is damaged"),
        (lambda t: re.sub(r"\n9,[^,]*", "\n9,0_1", t), "line 10 is damaged"),
        (lambda t: re.sub(r"\n9,[^,]*,", "\n9,", t), "line 10 is damaged"),
        (lambda t: t.replace("\n30,", "\n\x00\x00,"), "line 31 is damaged"),
        (lambda t: t.replace("mb1.0.se.reduce", "mb1.0", 1), "names a layer twice"),
        (lambda t: t.replace("step,all", "epoch,loss"), "not the log of a conflict meter"),
        (lambda t: t.replace("mb1.0.se", "<b>", 1), "not the log of a conflict meter"),
        (lambda t: t.splitlines()[0] + "\n", "holds no steps yet"),
        (lambda t: "", "not the log"),
    ],
)
def test_damage_names_the_line(run, tmp_path, change, said):
    (tmp_path / "conflicts.csv").write_text(change((run / "conflicts.csv").read_text()))
    with pytest.raises(DataError, match=said) as caught:
        read_conflicts(tmp_path)
    one_line(caught)


@given(seed=st.integers(0, 2**31), changes=st.integers(1, 5), cut=st.booleans())
@settings(max_examples=150)
def test_a_damaged_file_is_one_line_or_cosines(run, tmp_path_factory, seed, changes, cut):
    rng = random.Random(seed)
    content = bytearray((run / "conflicts.csv").read_bytes()[:4000])
    for _ in range(changes):
        content[rng.randrange(len(content))] = rng.choice(b"0123456789,-.e\n \x00\xffanif_")
    path = tmp_path_factory.getbasetemp() / "damaged.csv"
    path.write_bytes(content[: rng.randrange(len(content))] if cut else content)
    outcome = only_user_errors(read_conflicts, path)
    if not isinstance(outcome, str):
        known = outcome.cosines[~np.isnan(outcome.cosines)]
        assert (np.abs(known) <= 1).all()
        assert (np.diff(outcome.steps) > 0).all()
        summarise(outcome)


@given(content=st.binary(max_size=200))
def test_any_other_file_is_one_line(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "foreign.csv"
    path.write_bytes(content)
    assert isinstance(only_user_errors(read_conflicts, path), str)


def test_a_folder_without_the_meter_says_how_to_get_it(tmp_path):
    for missing in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=r"train .*--conflicts") as caught:
            read_conflicts(missing)
        one_line(caught)
    assert isinstance(only_user_errors(read_conflicts, Path("a\x00b")), str)


def test_a_damaged_recipe_is_one_line(run, tmp_path):
    shutil.copy(run / "conflicts.csv", tmp_path)
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(NasvitEdgeError, match="not valid JSON"):
        read_conflicts(tmp_path)


pages = pytest.mark.usefixtures("_altair")


@pytest.fixture
def _altair():
    pytest.importorskip("jinja2")
    pytest.importorskip("vl_convert")


@pages
def test_a_page_holds_all_it_needs(run, tmp_path):
    other = made(tmp_path / "c<n>n", range(1, 90), 1)
    conflict_page.write_html([read_conflicts(r) for r in (run, other)], tmp_path / "c.html", "a & <b>")
    text = (tmp_path / "c.html").read_text()
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?(?:https?:)?//", text)
    assert "a &amp; &lt;b&gt;" in text
    assert "c<n>n" not in text
    assert "mb2.1.attention.query" in text


@pages
def test_a_browser_draws_the_page(run, tmp_path):
    chromium = shutil.which("chromium")
    require_tool("chromium", chromium is not None)
    conflict_page.write_html([read_conflicts(run)], tmp_path / "c.html", "conflicts")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
    options = (f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom")
    done = subprocess.run(
        [chromium, *flags, *quiet, *options, (tmp_path / "c.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "<canvas" in done.stdout or "<svg" in done.stdout, done.stderr


@pages
@pytest.mark.parametrize("count", [1, 4])
def test_a_picture_is_a_picture_for_one_run_and_for_several(run, tmp_path, count):
    runs = [read_conflicts(run)] * count  # of the same name too
    conflict_page.write_png(runs, tmp_path / "c.png", "conflicts")
    content = (tmp_path / "c.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    width, height = (int.from_bytes(content[i : i + 4], "big") for i in (16, 20))
    assert width > 1500
    assert height > 1000


def test_runs_of_one_name_are_told_apart(run):
    assert conflict_page.named([read_conflicts(run)] * 2) == ["hybrid (1)", "hybrid (2)"]
