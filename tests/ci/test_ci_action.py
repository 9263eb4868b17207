"""The GitHub Action and the examples for CI: they parse, their inputs exist, and their steps run as a runner runs them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import bench_results
import pytest
import yaml
from comment_server import TOKEN, serving
from conftest import require_program
from made_up import SETTING, result_of
from msgspec.structs import replace

from nasvit_edge import records
from nasvit_edge.benchmark.budgets import read_budgets
from nasvit_edge.benchmark.history import read_history
from nasvit_edge.export.artifact import sidecar_path
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.report.bench_comment import MARKER
from nasvit_edge.space import load_space

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".github/actions/benchmark"
ACTION = yaml.safe_load((FOLDER / "action.yml").read_text())
STEPS = ACTION["runs"]["steps"]
RUNS = [step for step in STEPS if "run" in step]
EXAMPLES = {"github-jetson.yml": (ROOT / "docs/ci/github-jetson.yml").read_text()}
EXAMPLES |= {
    f"ci.md {number}": text
    for number, text in enumerate(
        re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/ci.md").read_text(), re.DOTALL)
    )
}
WORKFLOWS = {name: actual for name, text in EXAMPLES.items() if "jobs" in (actual := yaml.safe_load(text))}
GITLAB = yaml.safe_load((ROOT / "docs/ci/gitlab-ci.yml").read_text())
BASH = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]  # as a runner calls it for `shell: bash`
ODD = "new $(touch pwned) `touch pwned` 'x'; touch pwned #"
FILES = ("benchmark.json", "report.json", "comment.md", "report.html", "junit.xml")


@dataclass
class Job:
    """What a runner keeps of a job while the action's steps run in it."""

    work: Path
    env: dict[str, str]
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    log: str = ""
    code: int = 0

    @classmethod
    def at(cls, folder, **env):
        work = folder / "work space"
        (folder / "runner temp").mkdir()
        work.mkdir()
        event = folder / "event.json"
        event.write_text(json.dumps({"pull_request": {"number": 3}}))
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        variables = {"PATH": path, "HOME": str(folder), "GITHUB_ACTIONS": "true", "OMP_NUM_THREADS": "1"}
        variables |= {
            "GITHUB_ACTION_PATH": str(FOLDER),
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_REPOSITORY": "owner/name",
        }
        variables |= {
            "RUNNER_TEMP": str(folder / "runner temp"),
            "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        }
        return cls(work, variables | env)

    def run(self, inputs, names=None):
        """The steps (or those of these names) with these inputs, until one fails that may not."""
        usual = {name: self.value(about.get("default", ""), {}) for name, about in ACTION["inputs"].items()}
        inputs = usual | inputs
        for step in STEPS:
            if names is not None and step["name"] not in names:
                continue
            if "if" in step and not self.value(step["if"], inputs):
                continue
            if "uses" in step:
                self.outputs[step["id"]] = {"artifact-url": "https://example.org/artifacts/1"}
                continue
            code = self._step(step, inputs)
            if code and not step.get("continue-on-error"):
                self.code = code
                break
        return self

    def _step(self, step, inputs):
        script, fields = self.work.parent / "step.sh", self.work.parent / "output"
        script.write_text(step["run"])
        fields.write_text("")
        variables = {name: str(self.value(value, inputs)) for name, value in step.get("env", {}).items()}
        process = subprocess.run(
            [*BASH, script],
            cwd=self.work,
            env=self.env | {"GITHUB_OUTPUT": str(fields)} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=500,
            check=False,
        )
        self.log += f"== {step['name']}\n{process.stdout}"
        assert "Traceback" not in process.stdout, self.log
        match = re.findall(r"^([\w-]+)<<(\S+)\n(.*?)\n\2$", fields.read_text(), re.DOTALL | re.MULTILINE)
        self.outputs[step.get("id", "")] = {name: value for name, _, value in match}
        return process.returncode

    def value(self, text, inputs):
        """What an expression of the action is; one that this does not know is an error."""
        if not (match := re.fullmatch(r"\$\{\{ (.+) \}\}", text)):
            assert "${{" not in text
            return text
        words = match[1].split(" ")
        if len(words) == 3 and words[1] in ("==", "!="):
            same = self.value(f"${{{{ {words[0]} }}}}", inputs) == words[2].strip("'")
            return same == (words[1] == "==")
        assert len(words) == 1, text
        place, *keys = words[0].split(".")
        if place == "inputs":
            return inputs[keys[0]]
        if place == "github":
            return {"token": TOKEN}[keys[0]]
        assert (place, keys[1]) == ("steps", "outputs")
        return self.outputs.get(keys[0], {}).get(keys[2], "")

    def result(self, name):
        """An output of the action."""
        return self.value(ACTION["outputs"][name]["value"], {})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("models")
    return Models(load_space("nano"), "onnxruntime", folder).path(Item("empty"))[0]


# what stands in the files


def _steps_of(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def _used(text):
    return set(re.findall(r"inputs\.([\w-]+)", text))


def test_each_input_is_described_and_used_and_each_used_one_exists():
    assert set(ACTION["inputs"]) == _used(yaml.safe_dump(STEPS))
    assert all(about["description"] for about in (*ACTION["inputs"].values(), *ACTION["outputs"].values()))
    assert all(isinstance(about.get("default", ""), str) for about in ACTION["inputs"].values())


def test_outputs_are_of_steps_that_exist():
    ids = {step["id"] for step in STEPS if "id" in step}
    expressions = re.findall(r"steps\.(\w+)\.", yaml.safe_dump(ACTION))
    assert set(expressions) <= ids


def _scripts():
    scripts = {f"action {step['name']}": step["run"] for step in RUNS}
    for name, workflow in WORKFLOWS.items():
        scripts |= {f"{name} {i}": step["run"] for i, step in enumerate(_steps_of(workflow)) if "run" in step}
    return scripts | {
        "gitlab": "\n".join([*GITLAB["benchmark"]["before_script"], *GITLAB["benchmark"]["script"]])
    }


@pytest.mark.parametrize("name", _scripts())
def test_no_text_of_anybody_becomes_part_of_a_script_and_each_parses(name):
    script = _scripts()[name]
    assert "${{" not in script
    process = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.parametrize("name", _scripts())
def test_shellcheck_finds_nothing(name):
    program = require_program("shellcheck")
    process = subprocess.run(
        # 1091: the environment that is sourced does not exist yet
        [program, "--shell=bash", "--exclude=SC1091", "-"],
        input=f"set -eo pipefail\n{_scripts()[name]}",  # as BASH has it
        text=True,
        capture_output=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout


def test_every_step_of_the_action_names_its_shell():
    assert all(step["shell"] == "bash" for step in RUNS)


def test_actions_of_others_are_pinned_to_a_commit():
    texts = [*EXAMPLES.values(), (FOLDER / "action.yml").read_text()]
    uses = [line for text in texts for line in re.findall(r"uses: (.+)", text)]
    assert len(uses) > 5
    for line in uses:
        assert line.startswith("./") or re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_gives_inputs_that_exist_and_all_that_are_required(name):
    uses = [step for step in _steps_of(WORKFLOWS[name]) if step.get("uses") == "./.github/actions/benchmark"]
    assert len(uses) == 1
    required = {name for name, about in ACTION["inputs"].items() if about.get("required")}
    assert required <= set(uses[0]["with"]) <= set(ACTION["inputs"])


def test_there_is_a_short_workflow_and_one_for_a_board():
    assert {"github-jetson.yml", "ci.md 0"} <= set(WORKFLOWS)
    board = WORKFLOWS["github-jetson.yml"]["jobs"]["measure"]
    assert board["concurrency"] == {"group": "jetson", "cancel-in-progress": False}
    assert (
        "--lock-clocks"
        in next(s for s in board["steps"] if s.get("id") == "bench")["with"]["benchmark-options"]
    )


def _toml():
    match = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/ci.md").read_text(), re.DOTALL)
    return [(ROOT / "docs/ci/budgets.toml").read_text(), *match]


@pytest.mark.parametrize("text", _toml())
def test_budgets_that_are_shown_are_read(tmp_path, text):
    (tmp_path / "budgets.toml").write_text(text)
    assert read_budgets(tmp_path / "budgets.toml")


def test_every_input_and_output_is_in_the_documentation():
    page = (ROOT / "docs/ci.md").read_text()
    missing = [name for name in (*ACTION["inputs"], *ACTION["outputs"]) if f"`{name}`" not in page]
    assert not missing


# the steps, run


def _made_up(job, effects, **options):
    (job.work / "bench").mkdir(exist_ok=True)
    bench_results.write(job.work / "bench/benchmark.json", 1, effects, **options)
    job.outputs["measure"] = {"exit-code": "0", "line": ""}
    return job


AFTER = {step["name"] for step in STEPS} - {"Install nasvit-edge", "Measure"}


@pytest.mark.parametrize(
    ("effects", "options", "code", "said"),
    [
        pytest.param((0.0,), {"between": 0.004}, 0, "no regression", marks=pytest.mark.slow),
        ((0.2, 0.0), {}, 1, "regression"),
        pytest.param((0.0,), {"within": 0.4}, 3, "retry on 3 only", marks=pytest.mark.slow),
    ],
)
def test_the_verdict_is_the_exit_code_a_comment_a_summary_and_all_files(
    tmp_path, effects, options, code, said
):
    pytest.importorskip("jinja2")
    with serving() as server:
        job = _made_up(Job.at(tmp_path, GITHUB_API_URL=server.url), effects, **options)
        history = job.work / "kept figures"
        job.run({"artifacts": "m", "history": history.name, "min-effect": "3%"}, AFTER)
        assert job.code == code, job.log
        assert said in job.log.split("== Verdict\n")[1]
        assert ("::error title=nasvit-edge benchmark::" in job.log) == (code != 0)
        assert job.result("exit-code") == str(code)
        assert job.result("headline") == json.loads((job.work / "bench/report.json").read_text())["headline"]
        assert (job.work / job.result("report")).read_text().startswith("<!")
        assert all((job.work / "bench" / name).stat().st_size for name in FILES)
        summary = (tmp_path / "summary.md").read_text()
        assert summary == (job.work / "bench/comment.md").read_text()
        assert server.bodies()[0].startswith(summary.rstrip())
        assert "(https://example.org/artifacts/1)" in server.bodies()[0]
        assert any(point.metric == "latency_p50" for point in read_history(history)) == (code != 3)


@pytest.mark.parametrize("wanted", ["true", "false"])
def test_a_token_that_may_not_comment_is_a_warning_and_without_a_comment_nobody_is_asked(tmp_path, wanted):
    with serving() as server:
        server.denied = ("POST",)
        job = Job.at(tmp_path, GITHUB_API_URL=server.url)
        (job.work / "bench").mkdir()
        (job.work / "bench/comment.md").write_text(f"{MARKER}\n### no regression\n")
        job.outputs["report"] = {"exit-code": "0", "headline": "no regression"}
        job.run({"artifacts": "m", "comment": wanted}, {"Summary", "Comment", "Verdict"})
        assert job.code == 0
        assert ("::warning title=nasvit-edge benchmark::no comment: POST" in job.log) == (wanted == "true")
        assert bool(server.asked) == (wanted == "true")


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"artifacts": ""}, "input 'artifacts' is empty"),
        ({"artifacts": "models/*.onnx"}, "'models/*.onnx' matches no file"),
        ({"artifacts": "a.onnx", "retries": "-1"}, "input 'retries' is '-1'"),
        ({"artifacts": "a.onnx", "benchmark-options": "--data 'x"}, "input 'benchmark-options' is"),
        ({"artifacts": "absent.onnx"}, "absent.onnx"),
        ({"artifacts": f"{ODD}.onnx", "baseline": ODD}, "touch pwned"),
        ({"artifacts": "--help"}, "error: "),
        ({"artifacts": "a.onnx", "device": ODD, "rounds": "$(touch pwned)", "data": ODD}, "$(touch pwned)"),
        ({"artifacts": "a.onnx", "benchmark-options": f"--wait {shlex.quote(ODD)}"}, "touch pwned"),
        ({"artifacts": "a.onnx", "rounds": "many"}, "Invalid value for '--rounds'"),
        ({"artifacts": "a.onnx", "out": "file"}, "input 'out' is 'file'"),
    ],
)
def test_bad_input_is_said_in_the_comment_and_fails_with_2(tmp_path, inputs, said):
    job = Job.at(tmp_path)
    (job.work / "file").write_text("")
    job.run({"install": "", "comment": "false"} | inputs)
    assert said in job.log
    assert not list(tmp_path.rglob("pwned"))
    if inputs.get("out"):
        assert job.code
        return
    assert job.code == 2, job.log
    assert job.result("exit-code") == "2"
    assert job.result("report") == ""
    first, headline, *rest = (job.work / "bench/comment.md").read_text().splitlines()
    assert first == MARKER
    assert headline == "### ⚠️ The benchmark did not run (exit code 2)"
    assert re.fullmatch(r"\n(`{3,})\n.*\w.*\n\1", "\n".join(rest))


@pytest.mark.parametrize(
    "inputs",
    [
        {"budget": ODD},
        {"min-effect": ODD},
        {"report-options": "'"},
        {"report-options": f"--gate {shlex.quote(ODD)}"},
    ],
)
def test_bad_input_of_the_report_is_said_too(tmp_path, inputs):
    job = _made_up(Job.at(tmp_path), (0.0,))
    job.run({"artifacts": "m", "comment": "false"} | inputs, AFTER)
    assert (job.code, job.result("exit-code")) == (2, "2"), job.log
    assert "The benchmark did not run (exit code 2)" in (tmp_path / "summary.md").read_text()
    assert not list(tmp_path.rglob("pwned"))


def test_a_history_at_fault_fails_the_job_with_2_and_the_verdict_is_there(tmp_path):
    job = _made_up(Job.at(tmp_path), (0.0,))
    job.run({"artifacts": "m", "comment": "false", "history": "/dev/null/x"}, AFTER)
    assert (job.code, job.result("exit-code")) == (2, "2"), job.log
    assert job.result("headline").startswith("no regression")
    assert "history '/dev/null/x" in job.result("headline")
    assert "no regression" in (tmp_path / "summary.md").read_text()


def test_a_measurement_that_does_not_hold_is_repeated_as_often_as_asked_for(tmp_path, model):
    job = Job.at(tmp_path)
    (job.work / "broken.onnx").write_bytes(b"no model")
    inputs = {"artifacts": "broken.onnx", "rounds": "1", "install": "", "comment": "false"}
    job.run(inputs | {"retries": "1", "retry-wait": "0"})
    assert (job.code, job.result("exit-code")) == (3, "3"), job.log
    assert job.log.count("$ nasvit-edge benchmark ") == 2
    assert "retry on 3 only" in job.log
    assert "'broken.onnx' could not be measured" in (tmp_path / "summary.md").read_text()


def test_what_an_earlier_run_left_is_never_taken_for_this_one_s(tmp_path):
    job = _made_up(Job.at(tmp_path), (0.0,))
    kept = job.work / "bench/mine.txt"
    kept.write_text("stays")
    assert job.run({"artifacts": "absent.onnx", "install": "", "comment": "false"}).code == 2
    assert not (job.work / "bench/benchmark.json").exists()
    assert kept.exists()


@pytest.mark.slow
def test_the_whole_action_measures_and_reports(tmp_path, model):
    """Everything real but the packages: a link to this installation is what `install` makes."""
    pytest.importorskip("jinja2")
    with serving() as server:
        job = Job.at(tmp_path, GITHUB_API_URL=server.url)
        for side in ("head", "base"):
            (job.work / side).mkdir()
            shutil.copy(model, job.work / side / "a model's $HOME.onnx")
        program = Path(sys.executable).parent / "nasvit-edge"
        job.env["PATH"] = os.environ["PATH"].replace(str(program.parent), "")
        job.run(
            {
                "artifacts": "\n  head/*.onnx\n\n",
                "baseline": "base/a model's $HOME.onnx",
                "rounds": "2",
                "benchmark-options": "--seconds 0.02",
                "install": f'ln -s "{program}" "$VIRTUAL_ENV/bin/nasvit-edge"',
                "python": sys.executable,
                "key": "odd",
            }
        )
        assert job.code in (0, 3), job.log  # 3: other work disturbed it
        content = json.loads((job.work / "bench/benchmark.json").read_text())
        assert content["complete"] is True
        assert [a["name"] for a in content["artifacts"]] == [
            f"{s}/a model's $HOME.onnx" for s in ("base", "head")
        ]
        assert server.bodies()[0].startswith("<!-- nasvit-edge bench: odd -->\n### ")
        assert job.result("report") == "bench/report.html"


# the examples, run


def _git(folder, *words):
    command = ["git", "-c", "user.name=n", "-c", "user.email=e@localhost", "-C", folder, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _search_result():
    """A result of the bundled supernet: its smallest subnet."""
    choices = {"space": "nano", "supernet": "nano", "calibration": "bundled", "accuracy": None}
    setting = replace(SETTING, **choices, accuracy_sha256=None, accuracy_source="measured")
    saved = result_of(setting, load_space("nano").smallest(), 1.0, 0.9)
    return json.dumps(records.content(saved) | {"seal": ""})


@pytest.fixture
def repository(tmp_path):
    """A repository of two commits, as the examples expect it."""
    work = tmp_path / "repository"
    work.mkdir()
    _git(work, "init", "--quiet", "--initial-branch=main")
    (work / "search.json").write_text(_search_result())
    (work / "ci").mkdir()
    shutil.copy(FOLDER / "comment.py", work / "ci/comment.py")
    shutil.copy(ROOT / "docs/ci/budgets.toml", work / "budgets.toml")
    _git(work, "add", ".")
    _git(work, "commit", "--quiet", "-m", "one")
    _git(work, "commit", "--quiet", "--allow-empty", "-m", "two")
    return work


def _script(work, lines, **env):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        [*BASH, "-c", "\n".join(lines)],
        cwd=work,
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.mark.slow
def test_the_gitlab_example_measures_comments_and_keeps_junit(repository):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("jinja2")
    job = GITLAB["benchmark"]
    with serving() as server:
        variables = {
            "CI_API_V4_URL": server.url,
            "CI_PROJECT_ID": "7",
            "CI_MERGE_REQUEST_IID": "3",
            "GITLAB_TOKEN": TOKEN,
        }
        variables |= {"CI_MERGE_REQUEST_DIFF_BASE_SHA": _git(repository, "rev-parse", "HEAD~1")}
        variables |= job["variables"] | {"ROUNDS": "2", "SAMPLES_S": "0.02"}
        process = _script(repository, job["script"], **variables)
        assert process.returncode in (0, 1, 3), (
            process.stdout
        )  # 3: disturbed; 1: two rounds are too close to a budget
        assert "error: " not in process.stdout
        assert (repository / job["artifacts"]["reports"]["junit"]).read_text().startswith("<?xml")
        assert server.bodies()[0] == (repository / "bench/comment.md").read_text()
    assert job["retry"]["exit_codes"] == [3]


def test_the_gitlab_example_ends_with_the_code_of_what_could_not_be_measured(repository, tmp_path):
    lines = GITLAB["benchmark"]["script"]
    first = next(i for i, line in enumerate(lines) if line == "rm -rf bench")
    variables = GITLAB["benchmark"]["variables"] | {"DEVICE": "toaster"}
    process = _script(tmp_path, lines[first:], **variables)
    assert process.returncode == 2
    assert "unknown device 'toaster'" in process.stdout
    assert "report bench" not in process.stdout


@pytest.mark.slow
def test_the_build_of_the_board_s_example_exports_both_sides(repository):
    pytest.importorskip("onnxruntime")
    steps = WORKFLOWS["github-jetson.yml"]["jobs"]["build"]["steps"]
    script = next(step["run"] for step in steps if step.get("name") == "Export")
    process = _script(repository, [script])
    assert process.returncode == 0, process.stdout
    for side in ("head", "base"):
        path = repository / f"models/{side}/model.tensorrt"
        assert (path / "model.onnx").is_file()
        assert sidecar_path(path).is_file()


def test_the_board_s_example_pushes_the_history_once_there_is_something_new(tmp_path):
    origin, work = tmp_path / "origin.git", tmp_path / "history"
    _git(tmp_path, "init", "--quiet", "--bare", origin)
    _git(tmp_path, "init", "--quiet", "--initial-branch=bench-history", work)
    _git(work, "remote", "add", "origin", origin)
    _git(work, "commit", "--quiet", "--allow-empty", "-m", "Benchmarks")
    _git(work, "push", "--quiet", "origin", "bench-history")
    steps = WORKFLOWS["github-jetson.yml"]["jobs"]["measure"]["steps"]
    keep = next(step for step in steps if step.get("name") == "Keep the history")
    assert keep["working-directory"] == "history"
    for text, count in (("", 1), ("a\n", 2), ("a\n", 2), ("a\nb\n", 3)):
        if text:
            (work / "jetson.jsonl").write_text(text)
        process = _script(work, [keep["run"]], GITHUB_SHA="0" * 40)
        assert process.returncode == 0, process.stdout
        assert _git(origin, "rev-list", "--count", "bench-history") == str(count)
