"""`nasvit-edge benchmark` and `report bench`, as a user and a CI job meet them."""

from __future__ import annotations

import json

import bench_results
import pytest
from conftest import one_line
from typer.testing import CliRunner

from nasvit_edge.benchmark import participants
from nasvit_edge.cli import app
from nasvit_edge.device import load_device
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.flows import benchmark as flow
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.space import load_space


def call(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two small files that ONNX Runtime runs, and one of LiteRT's format."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("models")
    converter = Models(load_space("nano"), "onnxruntime", folder)
    first, _ = converter.path(Item("empty"))
    second = folder / "second.onnx"
    second.write_bytes(first.read_bytes())
    (folder / "third.tflite").write_bytes(b"not looked into")
    return {"first": first, "second": second, "third": folder / "third.tflite"}


def test_a_benchmark_is_a_table_a_result_and_what_to_do_next(models, tmp_path):
    out = tmp_path / "folder" / "r.json"
    options = ("--rounds", 3, "--seconds", 0.02, "--out", out)
    result = call("benchmark", models["first"], "--baseline", models["second"], *options)
    assert result.exit_code in (0, 3), result.output  # 3: other work disturbed it
    assert "latency_p50" in result.stdout
    assert f"report bench {out}" in result.stderr
    content = json.loads(out.read_text())
    assert content["complete"] is True
    assert [a["name"] for a in content["artifacts"]] == ["second.onnx", models["first"].name]
    assert call("report", "bench", out, "--json").exit_code in (0, 1, 3)


def test_against_itself_the_noise_floor_is_told(models, tmp_path):
    result = call(
        "benchmark",
        models["first"],
        "--aa",
        "--rounds",
        3,
        "--seconds",
        0.02,
        "--out",
        tmp_path / "r.json",
        "--json",
    )
    content = json.loads(result.stdout)
    assert content["kind"] == "benchmark report"
    assert json.loads((tmp_path / "r.json").read_text())["aa"] is True


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"artifacts": ("first",), "device": "toaster"}, "unknown device 'toaster'"),
        ({"artifacts": ("first",), "baseline": ("second", "second")}, "2 --baseline for 1 artifacts"),
        ({"artifacts": ("first",), "baseline": ("second",), "aa": True}, "leave out --baseline"),
        ({"artifacts": ("first",), "baseline": ("third",)}, "compare files of one runtime"),
        ({"artifacts": ("first",), "runtime": "litert"}, "by litert; it has onnxruntime, litert"),
        ({"artifacts": ("first",), "device": "iphone"}, "does not run"),
    ],
)
def test_options_that_do_not_fit_are_one_line_before_anything_is_measured(models, tmp_path, options, match):
    given = {
        k: tuple(models[n] for n in v) if k in ("artifacts", "baseline") else v for k, v in options.items()
    }
    with pytest.raises(NasvitEdgeError, match=match) as caught:
        flow.run(flow.Request(**given, out=tmp_path / "r.json"))
    assert one_line(caught)
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("name", ["absent.onnx", "model.keras"])
def test_a_file_that_cannot_be_measured_is_one_line(tmp_path, name):
    with pytest.raises(NasvitEdgeError, match=r"absent\.onnx|'\.keras'"):
        flow.run(flow.Request(artifacts=(tmp_path / name,), out=tmp_path / "r.json"))


def test_files_of_one_name_are_told_apart_by_their_folders(models, tmp_path):
    for side in ("main", "branch"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "m.onnx").write_bytes(models["first"].read_bytes())
    options = ("--rounds", 1, "--seconds", 0.01, "--out", tmp_path / "r.json", "--json")
    call("benchmark", tmp_path / "branch/m.onnx", "--baseline", tmp_path / "main/m.onnx", *options)
    content = json.loads((tmp_path / "r.json").read_text())
    assert [a["name"] for a in content["artifacts"]] == ["main/m.onnx", "branch/m.onnx"]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ({"effects": (0.0,), "between": 0.004}, 0, "no regression; "),
        ({"effects": (0.2,)}, 1, "regression"),
        ({"effects": (-0.2,)}, 0, "improvement"),
        ({"effects": (0.0,), "within": 0.4}, 3, "invalid"),
    ],
)
def test_the_exit_code_is_the_verdict(tmp_path, options, code, said):
    result = call("report", "bench", bench_results.write(tmp_path / "r.json", 1, **options))
    assert result.exit_code == code
    assert said in result.stderr.splitlines()[-1]


def test_budgets_and_trends_are_shown(tmp_path):
    (tmp_path / "b.toml").write_text('schema = 1\n[[budget]]\nlatency_p50 = "9ms"\nsize = "2MB"\n')
    new, old = (bench_results.write(tmp_path / f"{n}.json", n, (0.0,), between=0.004) for n in (1, 2))
    result = call("report", "bench", new, "--budget", tmp_path / "b.toml", "--baseline", old)
    assert result.exit_code == 1
    assert "exceeded" in result.stdout
    assert "trends are of two runs" in result.stderr


def test_all_forms_are_written_at_once(tmp_path):
    pytest.importorskip("jinja2")
    names = ["c.md", "r.html", "j.xml", "g.json", "b.json", "o.json", "h.jsonl"]
    options = [
        "--markdown",
        "--html",
        "--junit",
        "--github-action-benchmark",
        "--bencher",
        "--out",
        "--history",
    ]
    files = [part for option, name in zip(options, names, strict=True) for part in (option, tmp_path / name)]
    result = call("report", "bench", bench_results.write(tmp_path / "r.json", 1, (0.0, 0.2)), *files)
    assert result.exit_code == 1
    assert all((tmp_path / name).stat().st_size > 100 for name in names)
    assert all(f"wrote {tmp_path / name}" in result.stderr for name in names)


FORMS = {
    "--markdown": "c.md",
    "--html": "r.html",
    "--junit": "j.xml",
    "--github-action-benchmark": "g.json",
    "--bencher": "b.json",
    "--out": "o.json",
}


def damaged(path):
    path.write_text("dear diary\n")


def of_another_kind(path):
    path.mkdir()


def behind_a_file(path):
    path.parent.rmdir()
    path.parent.write_text("a file")


@pytest.mark.parametrize("fault", [damaged, of_another_kind, behind_a_file])
@pytest.mark.parametrize("effect", [0.0, 0.2])
def test_a_history_at_fault_is_told_once_the_report_is_written(tmp_path, fault, effect):
    pytest.importorskip("jinja2")
    history = tmp_path / "kept" / "h.jsonl"
    history.parent.mkdir()
    fault(history)
    files = [part for option, name in FORMS.items() for part in (option, tmp_path / name)]
    result = bench_results.write(tmp_path / "r.json", 1, (effect,), between=0.004)
    done = call("report", "bench", result, *files, "--history", history)
    assert done.exit_code == 2
    assert all((tmp_path / name).stat().st_size > 100 for name in FORMS.values())
    *_, headline, last = [line for line in done.stderr.splitlines() if not line.startswith("wrote")]
    assert ("regression" in headline, last.startswith("error: ")) == (True, True)
    assert "h.jsonl" in last
    content = json.loads((tmp_path / "o.json").read_text())
    assert content["exit_code"] == (1 if effect else 0)
    assert any("not in the history: " in remark for remark in content["remarks"])
    assert "not in the history" in (tmp_path / "c.md").read_text()


def test_a_history_that_cannot_be_written_is_still_drawn(tmp_path):
    """A missing folder for the lock stands for a disk that is read-only, which root would write to."""
    pytest.importorskip("jinja2")
    for seed in (1, 2):
        result = bench_results.write(tmp_path / f"{seed}.json", seed)
        assert call("report", "bench", result, "--history", tmp_path / "h.jsonl").exit_code in (0, 1)
    (tmp_path / ".h.jsonl.lock").unlink(missing_ok=True)
    (tmp_path / ".h.jsonl.lock").mkdir()
    before = (tmp_path / "h.jsonl").read_bytes()
    result = bench_results.write(tmp_path / "3.json", 3)
    done = call("report", "bench", result, "--history", tmp_path / "h.jsonl", "--html", tmp_path / "r.html")
    assert (done.exit_code, "error: cannot write" in done.stderr) == (2, True), done.stderr
    assert "2 runs with their intervals" in (tmp_path / "r.html").read_text()
    assert (tmp_path / "h.jsonl").read_bytes() == before


@pytest.mark.parametrize("soc", ["Neoverse N1", "aarch64"])
def test_a_baseline_that_calls_an_arm_server_by_its_architecture_is_never_taken_in_silence(tmp_path, soc):
    for name, called in (("old", "aarch64"), ("new", soc)):
        content = bench_results.content(1 if name == "old" else 2)
        content["device"]["about"]["soc"] = called
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    done = call("report", "bench", tmp_path / "new.json", "--baseline", tmp_path / "old.json")
    assert done.exit_code == (2 if soc == "Neoverse N1" else 0)
    assert "called every Arm server 'aarch64'" in done.output.replace("\n", " ") + done.stderr


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--gate", "speed"), "'speed' is no metric"),
        (("--alpha", "50%"), "between"),
        (("--alpha", "x"), "'x'"),
        (("--min-effect", "-3%"), "percentage"),
        (("--budget", "absent.toml"), "absent.toml"),
        (("--baseline", "absent.json"), "absent.json"),
    ],
)
def test_bad_options_of_a_report_are_one_line_and_exit_code_2(tmp_path, arguments, match):
    result = call("report", "bench", bench_results.write(tmp_path / "r.json"), *arguments)
    assert result.exit_code == 2
    assert match in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_of_a_tensorrt_artifact_the_device_reads_the_model_it_builds_its_engine_from(tmp_path):
    folder = tmp_path / "m.tensorrt"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"model")
    (folder / "rtx.plan").write_bytes(b"plan")
    entry = participants.participant(folder, "m", flow.Request(artifacts=(folder,)), load_device("jetson"))
    assert (entry.runtime, entry.file, entry.facts.bytes) == ("tensorrt", folder / "model.onnx", 9)
