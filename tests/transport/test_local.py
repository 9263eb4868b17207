"""The runner process: real models, crashing programs, garbage on its output."""

from __future__ import annotations

import json
import shutil
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.device import load_device
from nasvit_edge.errors import MeasurementError
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.space import load_space
from nasvit_edge.transport.job import Job, measurement, parsed
from nasvit_edge.transport.local import fastest_cores, local_runner


def job(model, name="m"):
    return Job(
        id=name,
        model=str(model),
        runtime="onnxruntime",
        threads=1,
        cores=(),
        runs=10,
        seconds=0.02,
        most_seconds=0.5,
        precision=0.02,
        seed=0,
    )


def _answer(line):
    answer = parsed(line, "m")
    return answer if "error" in answer else measurement(answer, "m")


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
                "inner": st.one_of(st.integers(), st.text(max_size=2)),
                "cpu_share": st.one_of(st.floats(), st.none()),
                "before": st.one_of(
                    st.none(),
                    st.fixed_dictionaries(
                        {"clocks_mhz": st.lists(st.one_of(st.floats(), st.text(max_size=2)))}
                    ),
                ),
            }
        ).map(json.dumps),
    )
)
def test_only_whole_answers_to_the_question_count(line):
    answer = _answer(line)
    if "error" not in answer:
        assert answer["id"] == "m"
        assert answer["samples_us"]
        assert all(0 < s < 1e10 for s in answer["samples_us"])


def test_the_runner_says_what_the_machine_is():
    with local_runner(load_device("host").runner) as runner:
        answer = runner.about()
    assert answer["about"]["architecture"]
    assert answer["about"]["cores"] >= 1
    assert answer["busy_cores"] is None or answer["busy_cores"] >= 0


def test_a_runner_that_says_nothing_of_itself_is_an_error(tmp_path):
    path = program(tmp_path, "import sys\nfor line in sys.stdin: print('{}', flush=True)\n")
    with local_runner(path) as runner, pytest.raises(MeasurementError, match="does not answer"):
        runner.about()


def test_a_model_that_takes_the_runtime_down_is_an_error_and_the_next_one_works(tmp_path):
    """The real runner, with a runtime that aborts for one file: only its fork dies."""
    pytest.importorskip("onnxruntime")
    source = load_device("host").runner.read_text()
    patch = "\nreal = onnxruntime_call\ndef crashing(path, threads, seed):\n    if 'crash' in path:\n        os.abort()\n    return real(path, threads, seed)\nRUNTIMES['onnxruntime'] = crashing\n"
    path = program(tmp_path, "")
    path.write_text(source.replace('if __name__ == "__main__":', patch + 'if __name__ == "__main__":'))
    for name in ("forks.py", "machine.py"):
        shutil.copy(load_device("host").runner.with_name(name), tmp_path)
    model, _ = Models(load_space("nano"), "onnxruntime", tmp_path).path(Item("empty"))
    with local_runner(path) as runner:
        assert "crashed" in runner.measure(job("crash.onnx"))["error"]
        pid = runner.child.process.pid
        assert "samples_us" in runner.measure(job(model))
        assert runner.child.process.pid == pid


def test_a_killed_runner_is_started_again(tmp_path):
    pytest.importorskip("onnxruntime")
    model, _ = Models(load_space("nano"), "onnxruntime", tmp_path).path(Item("empty"))
    with local_runner(load_device("host").runner) as runner:
        assert "samples_us" in runner.measure(job(model))
        runner.child.process.kill()
        runner.child.process.wait()
        answers = [runner.measure(job(model)) for _ in range(2)]
        assert "samples_us" in answers[-1]


def test_a_clock_that_jumps_is_no_latency(tmp_path):
    body = "import json, sys\nfor line in sys.stdin: print(json.dumps({'id': 'm', 'samples_us': [5.0, -3.2e9], 'runtime_version': '1'}), flush=True)\n"
    with local_runner(program(tmp_path, body)) as runner:
        assert "no latencies" in runner.measure(job("m"))["error"]


def test_one_thread_gets_one_core_and_all_threads_get_none():
    assert len(fastest_cores(1)) <= 1
    assert fastest_cores(10_000) == ()
