"""The runner process: real models, crashing programs, garbage on its output."""

from __future__ import annotations

import json
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.device import load_device
from nasvit_edge.profile.local import Job, _parsed, local_runner
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.space import load_space


def job(model, name="m"):
    return Job(id=name, model=str(model), runtime="onnxruntime", threads=1, runs=10, seconds=0.02, seed=0)


def program(tmp_path, body):
    path = tmp_path / "runner.py"
    path.write_text(textwrap.dedent(body))
    return path


def test_a_model_is_measured_as_often_as_asked(tmp_path):
    pytest.importorskip("onnxruntime")
    model, _ = Models(load_space("nano"), "onnxruntime", tmp_path).path(Item("empty"))
    with local_runner(load_device("host").runner) as runner:
        answer = runner.measure(job(model))
        assert len(answer["samples_us"]) >= 10
        assert min(answer["samples_us"]) > 0
        assert {"load_ms", "first_ms", "inner", "runtime_version"} <= set(answer)


def test_a_model_that_cannot_be_read_is_an_error_and_the_next_one_works(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    model, _ = Models(load_space("nano"), "onnxruntime", tmp_path).path(Item("empty"))
    with local_runner(load_device("host").runner) as runner:
        assert "error" in runner.measure(job(tmp_path / "bad.onnx"))
        assert "samples_us" in runner.measure(job(model))


def test_a_runtime_that_crashes_is_said_so_and_restarted(tmp_path):
    path = program(
        tmp_path,
        """
        import json, os, sys
        for line in sys.stdin:
            job = json.loads(line)
            if job["id"] == "crash":
                os.abort()
            print(json.dumps({"id": job["id"], "samples_us": [1.0], "runtime_version": "1"}), flush=True)
        """,
    )
    with local_runner(path) as runner:
        assert "crashed" in runner.measure(job("m", "crash"))["error"]
        assert runner.measure(job("m", "fine"))["samples_us"] == [1.0]


def test_a_runner_that_hangs_is_given_up(tmp_path):
    path = program(tmp_path, "import time\ntime.sleep(100)\n")
    with local_runner(path) as runner:
        assert "no answer in 0.3 s" in runner.measure(job("m"), timeout_s=0.3)["error"]


def test_garbage_on_its_output_is_never_a_number(tmp_path):
    path = program(tmp_path, "import sys\nfor line in sys.stdin: print('12.5 ms', flush=True)\n")
    with local_runner(path) as runner:
        assert "12.5 ms" in runner.measure(job("m"))["error"]


@given(
    st.one_of(
        st.text(max_size=60),
        st.fixed_dictionaries(
            {
                "id": st.sampled_from(["m", "other", 3, None]),
                "samples_us": st.one_of(
                    st.none(),
                    st.lists(
                        st.one_of(st.floats(), st.integers(), st.text(max_size=2), st.booleans()), max_size=4
                    ),
                ),
                "runtime_version": st.sampled_from(["1", 1]),
            }
        ).map(json.dumps),
    )
)
def test_only_whole_answers_to_the_question_count(line):
    answer = _parsed(line, job("m"))
    if "error" not in answer:
        assert answer["id"] == "m"
        assert answer["samples_us"]
        assert all(0 < s < 1e10 for s in answer["samples_us"])
