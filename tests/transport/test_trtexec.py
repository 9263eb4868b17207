"""trtexec: its reports are read or refused, and a table of TensorRT is made with it over ssh."""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import threading

import pytest
from conftest import one_line, only_user_errors
from hypothesis import given
from hypothesis import strategies as st
from made_up import parsed_table
from transport.sshd import running_sshd, wait_until
from transport.standins import JETSON_CLOCKS, NO_SUDO, NVPMODEL, SUDO, TEGRASTATS, trtexec
from transport.test_ssh import QUICK, SPACE, job, once, runners, start_profile, told

from nasvit_edge import files
from nasvit_edge.errors import MeasurementError
from nasvit_edge.ops import all_ops
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.profile.run import measure_table, profile
from nasvit_edge.transport.answers import Failure, Measurement
from nasvit_edge.transport.connect import check
from nasvit_edge.transport.jetson import completed, number_types
from nasvit_edge.transport.outputs.trtexec import read_report, read_run, read_times, version, windows
from nasvit_edge.transport.ways import Ways

RUN = """&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec --loadEngine=m.engine
[04/07/2025-23:59:50] [I] Timing trace has 2077 queries over 3.0039 s
[04/07/2025-23:59:50] [I] === Performance summary ===
[04/07/2025-23:59:50] [I] Throughput: 130.298 qps
[04/07/2025-23:59:50] [I] Latency: min = 5.38672 ms, max = 13.3664 ms, mean = 7.60628 ms, median = 7.16092 ms, percentile(90%) = 10.2996 ms, percentile(95%) = 10.8698 ms, percentile(99%) = 12.9675 ms
[04/07/2025-23:59:50] [I] GPU Compute Time: min = 5.3 ms, max = 13.3 ms, mean = 7.6 ms, median = 7.1 ms, percentile(90%) = 10.2 ms, percentile(95%) = 10.8 ms, percentile(99%) = 12.9 ms
[04/07/2025-23:59:50] [W] * GPU compute time is unstable, with coefficient of variance = 12.3891%.
&&&& PASSED TensorRT.trtexec [TensorRT v100300] # trtexec --loadEngine=m.engine
"""
OLD = """[I] Latency: min = 5.4 ms, max = 13.4 ms, mean = 7.6 ms, median = 7.2 ms, percentile(99%) = 13.0 ms
[I] End-to-End Host Latency: min = 9 ms, max = 19 ms, mean = 12 ms, median = 12 ms, percentile(99%) = 19 ms
[I] GPU Compute Time: min = 5.3 ms, max = 13.3 ms, mean = 7.6 ms, median = 7.1 ms, percentile(99%) = 12.9 ms
&&&& PASSED TensorRT.trtexec [TensorRT v8400] # trtexec
"""
TIMES = [{"startComputeMs": 10.0 * i, "endComputeMs": 10.0 * i + 7.1, "computeMs": 7.1} for i in range(300)]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("v8400", "8.4.0"),
        ("v8502", "8.5.2"),
        ("v100300", "10.3.0"),
        ("v101401", "10.14.1"),
        ("10.3.0", "10.3.0"),
    ],
)
def test_versions_are_read(text, plain):
    assert version(text) == plain


@pytest.mark.parametrize(("text", "plain", "unstable"), [(RUN, "10.3.0", True), (OLD, "8.4.0", False)])
def test_a_report_of_each_generation_is_read(text, plain, unstable):
    report = read_report(text)
    assert (report.version, report.median_ms, report.unstable) == (plain, 7.1, unstable)


def test_samples_are_the_gpus_compute_times():
    assert read_run(RUN, TIMES)[1] == [7100.0] * 300
    without = [{key: entry[key] for key in ("startComputeMs", "endComputeMs")} for entry in TIMES]
    assert read_run(RUN, without)[1] == pytest.approx([7100.0] * 300)
    assert windows(TIMES) == [[1.0, 7100.0], [2.0, 7100.0], [3.0, 7100.0]]


@pytest.mark.parametrize(
    ("text", "times", "said"),
    [
        (RUN.replace("PASSED", "FAILED") + "[E] Error Code 1: Cuda Runtime", TIMES, "Cuda Runtime"),
        (RUN.split("&&&& PASSED")[0], TIMES, "did not pass"),
        (RUN.replace("GPU Compute Time", "GPU Compute Duration"), TIMES, "GPU Compute Duration"),
        (RUN.replace("median = 7.1 ms", "median = 7.1 us"), TIMES, "7.1 us"),
        (RUN, [{"computeUs": 7100}], "computeUs"),
        (RUN, "{}", "format that is not known"),
        (RUN, [], "format that is not known"),
        (RUN, [{"computeMs": -1.0}], "-1.0"),
        (RUN, [{"computeMs": 7100.0}] * 5, "7100 ms"),
        ("", TIMES, "it printed nothing"),
    ],
)
def test_what_is_not_known_is_an_error_with_the_line(text, times, said):
    with pytest.raises(MeasurementError) as error:
        read_run(text, times)
    assert said in one_line(error)


ENTRY = st.dictionaries(
    st.sampled_from(["startComputeMs", "endComputeMs", "computeMs", "x"]),
    st.floats() | st.integers() | st.text(max_size=3) | st.none() | st.booleans(),
)


@given(st.sampled_from([RUN, OLD]), st.integers(0, 900), st.integers(0, 60), st.text(max_size=20))
def test_a_damaged_report_is_refused_or_the_same(text, start, length, put):
    outcome = only_user_errors(read_run, text[:start] + put + text[start + length :], TIMES)
    if not isinstance(outcome, str):
        assert outcome[1] == [7100.0] * 300


@given(st.lists(ENTRY, max_size=4) | ENTRY | st.text() | st.none())
def test_times_are_latencies_or_refused(times):
    outcome = only_user_errors(read_times, times)
    if not isinstance(outcome, str):
        assert all(0 < us < 1e13 for _, us in outcome)
    answer = completed({"id": "m", "trtexec": {"stdout": RUN, "times": times}}, sustained=True)
    assert isinstance(answer, Failure) or answer["samples_us"]


assert once  # a fixture of every test here too


@pytest.fixture(scope="module")
def board():
    """A server whose sessions find the programs of a Jetson."""
    with running_sshd() as server:
        state = server.home / "clocks"
        state.write_text("729600\n")
        state.chmod(0o666)
        programs = {"tegrastats": TEGRASTATS, "nvpmodel": NVPMODEL, "sudo": SUDO}
        programs["jetson_clocks"] = JETSON_CLOCKS.replace("@STATE@", str(state))
        programs["trtexec"] = trtexec(str(server.python), "100300")
        for name, text in programs.items():
            server.program(name, text)
        server.state = state
        yield server


def jetson(board, **changes):
    return board.device(**({"runtimes": ["tensorrt", "onnxruntime"], "power_mode": "MAXN_SUPER"} | changes))


def clock(board):
    return int(board.state.read_text())


@pytest.fixture
def model(tmp_path):
    return Models(SPACE, "tensorrt", tmp_path / "models").path(Item("whole", config=SPACE.smallest()))[0]


@pytest.mark.slow
def test_a_table_of_tensorrt_predicts_as_one_of_the_host_does(board, tmp_path, record_property):
    device = jetson(board)
    with told(board, device, Ways(wait_s=30, lock_clocks=True)) as (runner, _):
        raw = json.loads(measure_table(SPACE, device, runner, QUICK, out=tmp_path).read_text())
        table = parsed_table(tmp_path / "t.json", raw, SPACE)
    assert sorted(raw["ops"]) == sorted(op.key() for op in all_ops(SPACE))
    assert raw["runtime_version"] == "10.3.0"
    for whole in raw["subnets"]:
        predicted = table.predict(SPACE.config(**whole["config"])).ms
        assert 0.4 < predicted / whole["median_ms"] < 2.5  # test machines are busy
    path = profile(SPACE, protocol="quick", out=tmp_path)  # the stand-in runs ONNX Runtime as the host does
    host = parsed_table(path, json.loads(path.read_text()), SPACE)
    configs = [SPACE.config(**whole["config"]) for whole in raw["subnets"]]
    ratios = [table.predict(config).ms / host.predict(config).ms for config in configs]
    record_property("ratios", sorted(ratios))
    assert 0.4 < statistics.median(ratios) < 2.5
    told_of = raw["conditions"]
    assert (told_of["power_mode"], told_of["clocks_locked"], told_of["idle_power_mw"]) == (
        "MAXN_SUPER",
        True,
        4673,
    )
    for flag in ("--warmUp=200", "--noDataTransfers", "--useSpinWait", "--useCudaGraph", "--iterations=10"):
        assert flag in told_of["trtexec_flags"]
    for entry in raw["ops"].values():
        assert entry["energy_mj"] == pytest.approx(4673 * entry["median_ms"] / 1e3, rel=0.02)
        assert "unlocked clocks" not in entry["flags"]
    assert clock(board) == 729600, "the clocks are as before"
    assert board.left() == []


@pytest.mark.parametrize(
    ("number", "precision"),
    [("8400", "fp32"), ("8502", "fp16"), pytest.param("100300", "fp16", marks=pytest.mark.slow)],
)
def test_each_generation_builds_and_times_with_its_own_flags(board, tmp_path, number, precision):
    tool = board.program(f"trtexec-{number}", trtexec(str(board.python), number))
    typed = Models(SPACE, "tensorrt", tmp_path, precision=precision)
    model = typed.path(Item("whole", config=SPACE.smallest()))[0]
    assert number_types(model) == (["fp16"] if precision == "fp16" else [])
    with told(board, jetson(board, tool=str(tool))) as (runner, _):
        assert runner.about().runtimes["tensorrt"] == version(f"v{number}")
        answer = runner.measure(job(model, runtime="tensorrt"))
    assert answer.runtime_version == version(f"v{number}")
    assert len(answer.samples_us) >= 10
    assert answer.flags == ("unlocked clocks",)


@pytest.mark.slow
def test_an_engine_is_built_once(board, model):
    with told(board, jetson(board)) as (runner, _):
        runner.measure(job(model, runtime="tensorrt"))
        runner.fresh()
        request = job(model, runtime="tensorrt").request(model=runner.files.push(model)) | {"ask": "build"}
        assert runner.link.ask(request, 30)["built"] is False


def test_a_model_that_trtexec_refuses_is_an_error_with_its_line_and_the_next_one_works(
    board, model, tmp_path
):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"nothing")
    with told(board, jetson(board)) as (runner, _):
        answer = runner.measure(job(bad, runtime="tensorrt"))
        assert "trtexec did not build an engine" in answer.error
        assert "Engine could not be created" in answer.error
        assert isinstance(runner.measure(job(model, runtime="tensorrt")), Measurement)


REFUSAL = """#!/bin/sh
case "$*" in *--help*) echo '&&&& RUNNING TensorRT.trtexec [TensorRT v8601] # trtexec --help'; exit 0 ;; esac
cat <<'END'
[E] Error[2]: Assertion !layerImpls.empty() failed. /head/Atan has no runners that implement it
[E] Engine could not be created from network
[E] Engine set up failed
&&&& FAILED TensorRT.trtexec [TensorRT v8601] # trtexec --onnx=m.onnx
END
exit 1
"""
SEVEN = """#!/bin/sh
echo "&&&& RUNNING TensorRT.trtexec # trtexec $*"
[ "$1" = --help ] && exit 0
echo '&&&& FAILED TensorRT.trtexec # trtexec'
exit 1
"""


def test_the_node_that_has_no_implementation_is_named(board, model):
    tool = board.program("trtexec-refuses", REFUSAL)
    with told(board, jetson(board, tool=str(tool))) as (runner, _):
        answer = runner.measure(job(model, runtime="tensorrt"))
    assert "/head/Atan has no runners that implement it | Engine set up failed" in answer.error


def test_a_tensorrt_that_is_too_old_is_none_and_that_is_said(board, model):
    tool = board.program("trtexec-7", SEVEN)
    with told(board, jetson(board, tool=str(tool))) as (runner, notes):
        assert "tensorrt" not in runner.about().runtimes
        answer = runner.measure(job(model, runtime="tensorrt"))
    assert any("too old (7 or earlier)" in note for note in notes)
    assert "TensorRT 7 or older, which is too old" in answer.error


@pytest.mark.slow
def test_a_tegrastats_without_power_is_said(board):
    board.program("tegrastats", TEGRASTATS.replace(" VDD_", " off_"))
    try:
        with told(board, jetson(board)) as (runner, notes):
            assert "idle_power_mw" not in runner.about().conditions
        assert any("tegrastats tells no power" in note for note in notes)
    finally:
        board.program("tegrastats", TEGRASTATS)
    with told(board, jetson(board)) as (runner, notes):
        assert runner.about().conditions["idle_power_mw"] == 4673
    assert not any("tells no power" in note for note in notes)


@pytest.mark.slow
def test_a_sustained_run_gives_windows_power_and_temperature_and_unstable_times_are_flagged(board, model):
    tool = board.program("trtexec-unstable", trtexec(str(board.python), "100300", unstable=True))
    with told(board, jetson(board, tool=str(tool))) as (runner, _):
        runner.about()
        answer = runner.measure(job(model, runtime="tensorrt", sustained_s=2.0))
    assert [at for at, _ in answer.windows] == [1.0, 2.0]
    assert answer.flags == ("unlocked clocks", "unsteady")
    assert answer.power_mw == 4673
    assert answer.after.hottest_c == 56.656


def test_without_sudo_it_is_measured_and_flagged(board, model):
    board.program("sudo", NO_SUDO)
    try:
        with told(board, jetson(board), Ways(lock_clocks=True)) as (runner, notes):
            runner.about()
            answer = runner.measure(job(model, runtime="tensorrt"))
        assert "unlocked clocks" in answer.flags
        assert any("a password is required" in note for note in notes)
        assert clock(board) == 729600
    finally:
        board.program("sudo", SUDO)


@pytest.mark.slow
def test_another_power_mode_is_said(board):
    with told(board, jetson(board, power_mode="15W")) as (runner, notes):
        runner.about()
    assert any("its power mode is 'MAXN_SUPER', not '15W'" in note for note in notes)


def test_clocks_are_restored_after_an_error(board):
    try:
        with told(board, jetson(board), Ways(lock_clocks=True)):
            assert clock(board) == 1728000
            raise ZeroDivisionError
    except ZeroDivisionError:
        assert clock(board) == 729600


@pytest.mark.slow
def test_clocks_are_restored_after_a_lost_connection(board, model):
    slow = job(model, runtime="tensorrt", seconds=2, most_seconds=2)
    with told(board, jetson(board), Ways(lock_clocks=True)) as (runner, _):
        assert clock(board) == 1728000
        asking = threading.Thread(target=runner.measure, args=(slow,), daemon=True)
        asking.start()
        wait_until(
            lambda: len(runners(board)) >= 3, "a model that is timed"
        )  # the guard of the clocks is one
        board.stop()
        try:
            wait_until(lambda: clock(board) == 729600, "restored clocks")
        finally:
            board.start()
        asking.join(60)
        assert clock(board) == 1728000, "set again when the connection is back"
    assert clock(board) == 729600


@pytest.mark.slow
def test_clocks_are_restored_after_ctrl_c(board, tmp_path):
    process = start_profile(board, tmp_path, "lock")
    assert clock(board) == 1728000
    process.send_signal(2)
    process.communicate(timeout=30)
    assert clock(board) == 729600
    assert board.left() == []


def test_the_check_of_a_jetson_names_what_it_found(board):
    steps = {step.name: step for step in check(jetson(board), Ways())}
    assert steps["tensorrt"].found == "10.3.0"
    assert steps["power_mode"].found == "MAXN_SUPER"
    assert steps["clocks_locked"].found == "False"


def test_the_python_module_tells_why_as_trtexec_does(monkeypatch, tmp_path):
    """With TensorRT for RTX, which refuses without a GPU what TensorRT refuses."""
    trt = pytest.importorskip("tensorrt_rtx")
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.syspath_prepend(files.shipped("devices") / "jetson")
    module = importlib.import_module("tensorrt_python")
    for name in ("complaints", "tensorrt_python"):  # plain names, not to stay
        del sys.modules[name]
    engine = tmp_path / "m.engine"
    engine.write_bytes(b"nothing at all " * 10)
    with pytest.raises(RuntimeError, match=r"another version of TensorRT: .*magicTag"):
        module._engine(trt, str(engine))
    model = tmp_path / "m.onnx"
    model.write_bytes(b"nothing")
    with pytest.raises(RuntimeError, match="does not read the model"):
        module.build(str(model), str(tmp_path / "other.engine"))


def test_the_python_modules_names_are_those_of_the_library():
    """Without a GPU the names are what can be compared, with TensorRT for RTX, whose module has the same."""
    trt = pytest.importorskip("tensorrt_rtx")
    source = (files.shipped("devices") / "jetson" / "tensorrt_python.py").read_text()
    for owner, names in {
        trt: ("Logger", "Builder", "OnnxParser", "Runtime", "TensorIOMode", "nptype"),
        trt.IExecutionContext: ("execute_async_v3", "set_tensor_address"),
        trt.ICudaEngine: ("get_tensor_name", "get_tensor_dtype", "get_tensor_shape", "get_tensor_mode"),
        trt.Builder: ("create_network", "create_builder_config", "build_serialized_network"),
        trt.OnnxParser: ("parse_from_file", "get_error"),
        trt.Runtime: ("deserialize_cuda_engine",),
    }.items():
        for name in names:
            assert name in source
            assert hasattr(owner, name), name
    assert hasattr(trt.ICudaEngine, "num_io_tensors")
