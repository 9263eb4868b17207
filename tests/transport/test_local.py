"""The runner process: real models, crashing programs, garbage on its output."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.device import load_device
from nasvit_edge.errors import MeasurementError
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.space import load_space
from nasvit_edge.transport.answers import Broken, Failure, Measurement, measured, parsed
from nasvit_edge.transport.job import Job
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
    return measured(answer, "m") if answer is not None else None


def program(tmp_path, body):
    path = tmp_path / "runner.py"
    path.write_text(textwrap.dedent(body))
    return path


def test_a_model_is_measured_as_often_as_asked(tmp_path):
    pytest.importorskip("onnxruntime")
    model, _ = Models(load_space("nano"), "onnxruntime", tmp_path).path(Item("empty"))
    with local_runner(load_device("host").runner) as runner:
        answer = runner.measure(job(model))
        assert len(answer.samples_us) >= 10
        assert min(answer.samples_us) > 0
        assert None not in (answer.load_ms, answer.first_ms, answer.inner)


def test_a_model_that_cannot_be_read_is_an_error_and_the_next_one_works(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    model, _ = Models(load_space("nano"), "onnxruntime", tmp_path).path(Item("empty"))
    with local_runner(load_device("host").runner) as runner:
        assert isinstance(runner.measure(job(tmp_path / "bad.onnx")), Failure)
        assert isinstance(runner.measure(job(model)), Measurement)


def test_a_runtime_that_crashes_is_said_so_and_restarted(tmp_path):
    path = program(
        tmp_path,
        """
        import json, os, sys
        for line in sys.stdin:
            job = json.loads(line)
            if job["id"] == "crash":
                print("no such instruction", file=sys.stderr, flush=True)
                os.abort()
            print(json.dumps({"id": job["id"], "samples_us": [1.0], "runtime_version": "1"}), flush=True)
        """,
    )
    with local_runner(path) as runner:
        answer = runner.measure(job("m", "crash"))
        assert isinstance(answer, Broken)
        assert "the runtime crashed (SIGABRT; it said last: 'no such instruction')" in answer.error
        assert runner.measure(job("m", "fine")).samples_us == (1.0,)


def test_a_runner_that_hangs_is_given_up(tmp_path):
    path = program(tmp_path, "import time\ntime.sleep(100)\n")
    with local_runner(path) as runner:
        assert "no answer in 0.3 s" in runner.measure(job("m"), timeout_s=0.3).error


def test_a_runner_that_does_not_even_listen_is_given_up(tmp_path):
    path = program(tmp_path, "import time\ntime.sleep(100)\n")
    with local_runner(path) as runner:
        answer = runner.child.request({"id": "m", "much": "x" * 1_000_000}, 0.5)  # more than a pipe holds
        assert "no answer in 0.5 s" in answer.error


def test_a_request_of_any_length_arrives_whole(tmp_path):
    body = """
        import json, sys
        for line in sys.stdin:
            asked = json.loads(line)
            print(json.dumps({"id": asked["id"], "length": len(asked["much"])}), flush=True)
        """
    with local_runner(program(tmp_path, body)) as runner:
        for length in (0, 1_000, 65_536, 3_000_000):
            assert runner.child.request({"id": "m", "much": "x" * length}, 20.0)["length"] == length


def test_garbage_on_its_output_is_never_a_number(tmp_path):
    path = program(tmp_path, "import sys\nfor line in sys.stdin: print('12.5 ms', flush=True)\n")
    with local_runner(path) as runner:
        assert "12.5 ms" in runner.measure(job("m")).error


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
    if isinstance(answer, Measurement):
        assert answer.id == "m"
        assert answer.samples_us
        assert all(0 < s < 1e10 for s in answer.samples_us)


def test_the_runner_says_what_the_machine_is():
    with local_runner(load_device("host").runner) as runner:
        answer = runner.about()
    assert answer.about["architecture"]
    assert answer.about["cores"] >= 1
    assert answer.busy_cores is None or answer.busy_cores >= 0


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
    for module in load_device("host").runner.parent.glob("*.py"):
        if module.name != path.name:
            shutil.copy(module, tmp_path)
    model, _ = Models(load_space("nano"), "onnxruntime", tmp_path).path(Item("empty"))
    with local_runner(path) as runner:
        assert "the runtime crashed (SIGABRT)" in runner.measure(job("crash.onnx")).error
        pid = runner.child.process.pid
        assert isinstance(runner.measure(job(model)), Measurement)
        assert runner.child.process.pid == pid


def test_a_killed_runner_is_started_again(tmp_path):
    pytest.importorskip("onnxruntime")
    model, _ = Models(load_space("nano"), "onnxruntime", tmp_path).path(Item("empty"))
    with local_runner(load_device("host").runner) as runner:
        assert isinstance(runner.measure(job(model)), Measurement)
        runner.child.process.kill()
        runner.child.process.wait()
        answers = [runner.measure(job(model)) for _ in range(2)]
        assert isinstance(answers[-1], Measurement)


def test_a_clock_that_jumps_is_no_latency(tmp_path):
    body = "import json, sys\nfor line in sys.stdin: print(json.dumps({'id': 'm', 'samples_us': [5.0, -3.2e9], 'runtime_version': '1'}), flush=True)\n"
    with local_runner(program(tmp_path, body)) as runner:
        assert "no latencies" in runner.measure(job("m")).error


def test_one_thread_gets_one_core_and_all_threads_get_none():
    assert len(fastest_cores(1)) <= 1
    assert fastest_cores(10_000) == ()


HUNG = """
import sys, time
sys.path.insert(0, {host!r})
import runner
def hang(*arguments):
    print("hangs", file=sys.stderr, flush=True)
    time.sleep(1000)
runner.RUNTIMES["onnxruntime"] = hang
runner.PRELOAD.clear()
runner.main()
"""
ASKER = """
import json, subprocess, sys
child = subprocess.Popen([sys.executable, {program!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=2, start_new_session=True)
print(child.pid, flush=True)
child.stdin.write(json.dumps({job!r}).encode() + b"\\n")
child.stdin.flush()
child.wait()
"""


def test_a_model_that_hangs_does_not_outlive_whoever_asked(tmp_path):
    host = load_device("host").runner.parent
    (tmp_path / "hung.py").write_text(HUNG.format(host=str(host)))
    (tmp_path / "asker.py").write_text(
        ASKER.format(program=str(tmp_path / "hung.py"), job=job("m").request())
    )
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "asker.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as asker:
        assert asker.stdout is not None
        assert asker.stderr is not None
        group = int(asker.stdout.readline())
        assert asker.stderr.readline() == "hangs\n"
        asker.kill()
    end = time.monotonic() + 10
    while _members(group) and time.monotonic() < end:
        time.sleep(0.1)
    assert not _members(group)


def _members(group: int) -> list[str]:
    """The processes of a group."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                members.append(stat.parent.name)
    return members
