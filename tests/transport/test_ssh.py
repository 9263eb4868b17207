"""Devices over ssh, against a real OpenSSH server: whole tables, lost connections, full disks, wrong keys."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from conftest import TINY, edited, one_line, only_user_errors, require_tool, space_of
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import parsed_table
from msgspec import structs
from transport.sshd import Proxy, descendants, running_sshd, wait_until

from nasvit_edge import files
from nasvit_edge.benchmark.plan import BenchmarkProtocol, Participant
from nasvit_edge.benchmark.session import measure
from nasvit_edge.errors import DeviceError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.ops import all_ops
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.profile.protocol import PROTOCOLS
from nasvit_edge.profile.run import Choice, measure_table
from nasvit_edge.profile.subnets import measure_subnets
from nasvit_edge.records import content
from nasvit_edge.transport.answers import Failure, Lost, Measurement
from nasvit_edge.transport.connect import check, connect
from nasvit_edge.transport.job import Job
from nasvit_edge.transport.process import LineProcess
from nasvit_edge.transport.ssh_errors import remote_trouble, trouble
from nasvit_edge.transport.ssh_link import ssh_command
from nasvit_edge.transport.ways import Ways

pytest.importorskip("onnxruntime")
SMALL = edited(
    TINY,
    ("resolutions = [8, 12]", "resolutions = [8]"),
    ("width = [8, 16]\ndepth = [1, 2]\nkernel_size = [3, 5]", "width = [8]\ndepth = [1]\nkernel_size = [3]"),
    ("width = [16, 24]\ndepth = [1, 2, 3]", "width = [16]\ndepth = [1, 2, 3]"),
    ("width = [16, 32]", "width = [16]"),
    ("expand_ratio = [2, 3]", "expand_ratio = [2]"),
)
SPACE = space_of(SMALL)
QUICK = Choice(protocol="quick")
SCHEMA = json.loads((files.shipped("devices") / "protocol.json").read_text())
REMOTE = [
    *(files.shipped("devices") / "host").glob("*.py"),
    *(files.shipped("devices") / "jetson").glob("*.py"),
    *(files.shipped("devices") / "linux-ssh").glob("*.py"),
]


@pytest.fixture(autouse=True)
def once(monkeypatch):
    """Test machines are busy: what drifts is not measured again."""
    once = dataclasses.replace(PROTOCOLS["quick"], repeats=0, canary_seconds=60.0)
    monkeypatch.setitem(PROTOCOLS, "quick", once)


@pytest.fixture(scope="module")
def server():
    with running_sshd() as actual:
        yield actual


@pytest.fixture
def model(tmp_path):
    return Models(SPACE, "onnxruntime", tmp_path / "models").path(Item("empty"))[0]


def job(model, name="m", **changes):
    values = {"runtime": "onnxruntime", "threads": 1, "cores": (), "runs": 10, "seconds": 0.02}
    values |= {"most_seconds": 0.2, "precision": 0.02, "seed": 0, "id": name, "model": str(model)}
    return Job(**values | changes)


def journal(out):
    lines = next(out.glob(".*.partial.jsonl")).read_text().splitlines()[1:]
    return [(entry["id"], entry["visit"]) for entry in map(json.loads, lines)]


def runners(server):
    """The processes of runners below the server."""
    pids = []
    for pid in descendants(server.process.pid):
        command = Path(f"/proc/{pid}/cmdline")
        if command.exists() and b"request[" in command.read_bytes():
            pids.append(pid)
    return pids


def when(count, action):
    """Progress that does something once, when so many are measured."""
    done = []

    def progress(finished, total, what):
        if what == "measuring" and finished >= count and not done:
            done.append(action())

    return progress


def valid(kind, value):
    """A line as the schema has it."""
    fields = json.loads(json.dumps(value))
    pytest.importorskip("jsonschema").validate(fields, {"$ref": f"#/$defs/{kind}", "$defs": SCHEMA["$defs"]})
    return value


@contextmanager
def told(server, device, ways=None):
    """A runner of which each line is held against the protocol, and what it had to say."""
    notes: list[str] = []
    real = LineProcess.request

    def checked(child, request, timeout_s):
        answer = real(child, valid("ssh_request", request), timeout_s)
        if not isinstance(answer, Lost):
            valid("ssh_answer", content(answer))
        return answer

    with (
        mock.patch.object(LineProcess, "request", checked),
        connect(device, ways or Ways(wait_s=30), Listener(note=notes.append)) as runner,
    ):
        yield runner, notes


@pytest.mark.slow
def test_a_space_is_measured_whole_and_nothing_is_left(server, tmp_path):
    device = server.device()
    with told(server, device) as (runner, _):
        path = measure_table(SPACE, device, runner, QUICK, out=tmp_path)
        raw = json.loads(path.read_text())
        table = parsed_table(path, raw, SPACE)
        config = SPACE.largest()
        whole = measure_subnets(table, [config], 0, runner=runner)[config]
    assert sorted(raw["ops"]) == sorted(op.key() for op in all_ops(SPACE))
    assert (raw["transport"], raw["target"]) == ("ssh", "board")
    assert 0.4 < table.predict(config).ms / min(v.median_ms for v in whole) < 2.5  # test machines are busy
    assert server.left() == []
    wait_until(lambda: not runners(server), "the end of the runner")


@pytest.mark.slow
def test_nano_is_measured_whole_though_the_server_is_killed_and_the_network_stalls(server, nano, tmp_path):
    proxy = Proxy(server.port)
    kill, stall = [60], [150]  # measured when it happens

    def trouble(finished, total, what):
        if what == "measuring" and kill and finished >= kill[0]:
            kill.clear()
            server.stop()
            threading.Timer(3, server.start).start()
        if what == "measuring" and stall and finished >= stall[0]:
            stall.clear()
            proxy.stalled = True
            threading.Timer(30, lambda: setattr(proxy, "stalled", False)).start()

    server.trust(port=proxy.port)
    try:
        device = server.device(port=proxy.port)
        with told(server, device, Ways(wait_s=90)) as (runner, _):
            path = measure_table(
                nano, device, runner, QUICK, out=tmp_path, listener=Listener(progress=trouble)
            )
            raw, starts = json.loads(path.read_text()), runner.link.starts
    finally:
        server.trust()
        proxy.close()
    assert not kill
    assert not stall
    assert starts == 3
    assert sorted(raw["ops"]) == sorted(op.key() for op in all_ops(nano))
    assert all(entry["visits"] == 1 for entry in raw["ops"].values())
    assert server.left() == []


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_loses_nothing(server, tmp_path):
    def away():
        server.stop()
        threading.Timer(1.5, server.start).start()

    device = server.device()
    with told(server, device) as (runner, notes):
        progress = when(8, away)
        raw = json.loads(
            measure_table(
                SPACE, device, runner, QUICK, out=tmp_path, listener=Listener(progress=progress)
            ).read_text()
        )
        assert runner.link.starts == 2
    assert all(entry["visits"] == 1 for entry in raw["ops"].values())
    assert any("was lost" in note or "is away" in note for note in notes)
    assert server.left() == []


@pytest.mark.slow
def test_a_server_that_stays_away_is_said_and_the_same_command_continues(server, tmp_path):
    device = server.device()
    try:
        with told(server, device, Ways(wait_s=1)) as (runner, _), pytest.raises(DeviceError) as error:
            measure_table(
                SPACE, device, runner, QUICK, out=tmp_path, listener=Listener(progress=when(5, server.stop))
            )
        assert "refuses the connection" in one_line(error)
        assert "finished measurements are kept, the same command continues" in one_line(error)
    finally:
        server.start()
    finished = journal(tmp_path)
    assert len(finished) >= 5
    left = server.left()
    with told(server, device) as (runner, _):
        assert runner.link.started.files, "what was sent before is found again"
        assert left == [Path(runner.link.folder).name]
        seen = []
        progress = when(1, lambda: seen.extend(journal(tmp_path)))
        measure_table(SPACE, device, runner, QUICK, out=tmp_path, listener=Listener(progress=progress))
    assert seen[: len(finished)] == finished
    assert server.left() == []


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_a_network_that_stalls_is_waited_for(server, tmp_path, seconds):
    proxy = Proxy(server.port)

    def stall():
        proxy.stalled = True
        threading.Timer(seconds, lambda: setattr(proxy, "stalled", False)).start()

    server.trust(port=proxy.port)
    try:
        device, start = server.device(port=proxy.port), time.monotonic()
        with told(server, device, Ways(wait_s=90)) as (runner, _):
            progress = when(5, stall)
            path = measure_table(
                SPACE, device, runner, QUICK, out=tmp_path, listener=Listener(progress=progress)
            )
            assert runner.link.starts == (1 if seconds < 15 else 2)
    finally:
        server.trust()
        proxy.close()
    assert time.monotonic() - start > seconds
    assert all(entry["visits"] == 1 for entry in json.loads(path.read_text())["ops"].values())
    assert server.left() == []


@pytest.fixture
def small_disk(server):
    """A file system of one megabyte on the device."""
    folder = server.home / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=1777", "none", str(folder)]
    possible = os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    require_tool("mount (as root)", possible)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def fill(folder):
    with (folder / "filler").open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 4096)
        except OSError:
            pass


@pytest.mark.slow
def test_a_disk_that_fills_is_said_and_continues_when_there_is_space(server, small_disk, tmp_path):
    device = server.device(folder=str(small_disk))
    with told(server, device) as (runner, notes), pytest.raises(DeviceError) as error:
        measure_table(
            SPACE,
            device,
            runner,
            QUICK,
            out=tmp_path,
            listener=Listener(progress=when(6, lambda: fill(small_disk))),
        )
    assert "its disk is full" in one_line(error)
    assert any("each travels when it is measured" in note for note in notes)
    finished = journal(tmp_path)
    assert len(finished) >= 6
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
    fill(small_disk)  # what was sent has made room
    with pytest.raises(DeviceError, match="disk is full"), told(server, device) as (runner, _):
        measure_table(SPACE, device, runner, QUICK, out=tmp_path)
    assert journal(tmp_path) == finished
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
    (small_disk / "filler").unlink()
    with told(server, device) as (runner, notes):
        raw = json.loads(measure_table(SPACE, device, runner, QUICK, out=tmp_path).read_text())
    assert sorted(raw["ops"]) == sorted(op.key() for op in all_ops(SPACE))
    assert list(small_disk.iterdir()) == []


def refused(device, **ways):
    with pytest.raises(DeviceError) as error, connect(device, Ways(**ways), SILENT):
        pass
    steps = list(check(device, Ways(**ways)))
    assert not steps[-1].good
    assert steps[-1].todo
    return one_line(error)


def test_an_unknown_host_key_is_one_line_that_says_how_to_accept_it(server):
    server.known.write_text("")
    try:
        line = refused(server.device())
    finally:
        server.trust()
    assert "host key is not known" in line
    assert f"ssh -p {server.port} {server.user}@127.0.0.1" in line
    assert server.known.read_text(), "nothing was accepted on the way"


def test_a_changed_host_key_is_one_line(server):
    server.trust("other")
    try:
        line = refused(server.device())
        assert "host key is another one" in line
        assert f"ssh-keygen -R '[127.0.0.1]:{server.port}'" in line
        assert (server.root / "other.pub").read_text().split()[1] in server.known.read_text()
    finally:
        server.trust()


def test_a_wrong_key_is_one_line(server):
    line = refused(server.device(key=str(server.root / "other")))
    assert "does not accept the key" in line
    assert "ssh-copy-id" in line


def test_a_missing_python_is_one_line(server):
    line = refused(server.device(python="/nowhere/python3"))
    assert "no python at '/nowhere/python3'" in line


def test_a_shell_that_prints_is_one_line(server):
    noisy = server.program("noisy", f'#!/bin/sh\necho "Welcome to the board"\nexec {server.python} "$@"\n')
    assert "prints something before commands" in refused(server.device(python=str(noisy)))


def test_a_missing_runtime_or_numpy_is_one_line_before_anything_is_sent(server, tmp_path):
    system = f"/usr/bin/python3.{sys.version_info[1]}"
    program = system if Path(system).exists() else sys.executable
    bare = server.program("bare", f'#!/bin/sh\nexec {program} -I -S "$@"\n')
    device = server.device(python=str(bare))
    with told(server, device) as (runner, _), pytest.raises(DeviceError) as error:
        measure_table(SPACE, device, runner, QUICK, out=tmp_path)
    assert "does not have onnxruntime; run there: python3 -m pip install numpy onnxruntime" in one_line(error)
    steps = {step.name: step for step in check(device, Ways())}
    assert steps["ssh"].good
    assert not steps["numpy"].good
    assert not steps["onnxruntime"].good


def test_a_server_that_is_not_there_is_one_line(server):
    assert "refuses the connection" in refused(server.device(port=1))
    assert "is not found in the network" in refused(server.device(address="board.invalid"))


def test_the_check_goes_step_by_step_and_leaves_nothing(server):
    steps = list(check(server.device(runtimes=["onnxruntime"]), Ways()))
    assert [step.name for step in steps[:5]] == ["ssh", "python", "folder", "device", "onnxruntime"]
    assert all(step.good for step in steps if step.name != "other work")
    assert server.left() == []


EVIL = "a b'c\"d;touch canary;$(touch canary)`touch canary`&|<>*?~#{}"


def test_names_and_paths_are_never_executed(server, tmp_path, model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    key = tmp_path / EVIL
    shutil.copy(server.key, key)
    key.chmod(0o600)
    python = server.program(EVIL, server.python.read_text())
    tool = server.program(EVIL + "t", "#!/bin/sh\nexit 1\n")
    device = server.device(
        key=str(key), python=str(python), tool=str(tool), folder=str(server.home / "work" / EVIL)
    )
    strange = tmp_path / f"{EVIL}.onnx"
    shutil.copy(model, strange)
    with told(server, device) as (runner, _):
        assert EVIL in runner.link.folder
        runner.bring([strange], SILENT)
        assert isinstance(runner.measure(job(strange, EVIL + "\n")), Measurement)
    shutil.rmtree(server.home / "work")
    places = [tmp_path, server.home, server.root, server.bin, Path("/"), Path.cwd()]
    assert not [place for place in places if (place / "canary").exists()]


@given(
    address=st.text(max_size=20) | st.sampled_from([EVIL, "-oProxyCommand=x", "u@h", "::1", "$(x)", "a\nb"]),
    user=st.text(max_size=10) | st.sampled_from(["", EVIL, "-l", "pi"]),
    python=st.text(max_size=20) | st.sampled_from([EVIL, "", "/usr/bin/python3"]),
)
def test_an_address_user_or_python_stays_one_word_or_is_refused(server, address, user, python):
    device = structs.replace(server.device(), address=address, user=user, python=python)
    command = only_user_errors(ssh_command, device)
    if isinstance(command, str):
        return
    assert command[-3:-1] == ["--", address]
    assert not address.startswith("-")
    assert not set(address + user) & set("\n '\"`$;&|<>(){}*?!\\#~")
    assert shlex.split(command[-1])[:4] == ["exec", python or "python3", "-u", "-c"]


@given(st.lists(st.text(max_size=40), max_size=6), st.one_of(st.none(), st.integers(-300, 300)))
def test_whatever_ssh_says_is_one_line(lines, code):
    for actual in (
        trouble(lines, "h{}", "u", "ssh h", "h"),
        remote_trouble(code, lines, "python3", "ssh h"),
    ):
        assert str(actual).strip()
        assert len(str(actual).splitlines()) == 1


def test_a_runner_that_is_killed_is_started_again_and_measures_the_same_model(server, model):
    with told(server, server.device()) as (runner, _):
        answers = []
        asking = threading.Thread(
            target=lambda: answers.append(runner.measure(job(model, seconds=1.5, most_seconds=3)))
        )
        asking.start()
        wait_until(lambda: len(runners(server)) == 2, "a model that is timed")
        for pid in runners(server):
            os.kill(pid, signal.SIGKILL)
        asking.join(30)
        assert isinstance(answers[0], Measurement)
        assert runner.link.starts == 2


def test_a_model_that_hangs_or_is_none_is_an_error_and_the_next_one_works(server, model, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with told(server, server.device()) as (runner, _):
        assert isinstance(runner.measure(job(tmp_path / "bad.onnx")), Failure)
        slow = runner.measure(job(model, seconds=60, most_seconds=60), timeout_s=1)
        assert "no answer in 1 s" in slow.error
        assert isinstance(runner.measure(job(model)), Measurement)
        assert len(runners(server)) == 1, "the one that hung has ended"


def test_models_take_turns(server, model, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with told(server, server.device()) as (runner, _):
        runner.about()
        first, second = runner.together([job(model, "a"), job(model, "b")])
        assert len(first.turns) == len(second.turns) >= 1
        good, bad = runner.together([job(model, "a"), job(tmp_path / "bad.onnx", "b")])
        assert sum(good.turns) == len(good.samples_us)
        assert isinstance(bad, Failure)
        assert bad.id == "b"


@pytest.mark.slow
def test_where_the_runner_is_killed_models_that_took_turns_do_so_again(server, model):
    with told(server, server.device()) as (runner, _):
        runner.about()

        def kill():
            while len(runners(server)) < 3:  # the runner and its forks
                time.sleep(0.01)
            os.kill(min(runners(server)), signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        actual = runner.together([job(model, name, seconds=2, most_seconds=2) for name in "ab"])
        thread.join()
        assert all(answer.turns for answer in actual)
        assert len(runners(server)) == 1, "no fork of the killed one is left"


@pytest.mark.slow
def test_a_sustained_run_gives_windows(server, model):
    with told(server, server.device()) as (runner, _):
        answer = runner.measure(job(model, sustained_s=2.0))
    seconds = [at for at, _ in answer.windows]
    assert len(seconds) == 2
    assert seconds[-1] == pytest.approx(2, abs=0.3)
    assert min(answer.samples_us) <= min(us for _, us in answer.windows)


def test_the_cores_are_the_devices_own(server):
    with told(server, server.device()) as (runner, _):
        assert runner.cores(1) == (max(os.sched_getaffinity(0)),)
        assert runner.cores(1000) == ()


SCRIPT = """
import sys
from pathlib import Path
from conftest import space_of
from nasvit_edge.device import load_device
from nasvit_edge.listening import Listener
from nasvit_edge.profile.run import Choice, measure_table
from nasvit_edge.transport.connect import connect
from nasvit_edge.transport.ways import Ways
device = load_device(sys.argv[1])
with connect(device, Ways(lock_clocks="lock" in sys.argv), Listener(note=print)) as runner:
    measure_table(space_of(Path(sys.argv[2]).read_text()), device, runner, Choice(protocol="default"), out=Path(sys.argv[3]))
"""


def write_board(device, folder):
    """What a command needs to profile a device of the server: `board.toml`, and a small `space.toml`."""
    keys = ("name", "about", "transport", "address", "user", "key", "python", "folder")
    lines = [f"{key} = {json.dumps(getattr(device, key))}" for key in keys]
    lines += ["schema = 2", f"port = {device.port}", 'runtimes = ["onnxruntime"]']
    lines += [f"runner = {json.dumps(str(device.runner))}"]
    (folder / "board.toml").write_text("\n".join(lines))
    (folder / "space.toml").write_text(SMALL)


def start_profile(server, tmp_path, *options):
    """A profile as a process of its own, when it has measured a little."""
    device = server.device()
    write_board(device, tmp_path)
    command = [sys.executable, "-c", SCRIPT]
    command += [str(tmp_path / "board.toml"), str(tmp_path / "space.toml"), str(tmp_path), *options]
    here = str(Path(__file__).parent.parent)
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": here}, stderr=subprocess.PIPE)
    wait_until(lambda: any(len(journal(p.parent)) > 5 for p in tmp_path.glob(".*.jsonl")), "measuring", 60)
    return process


@pytest.mark.slow  # test_trtexec.py has it with clocks that are restored
def test_after_ctrl_c_nothing_is_left_on_the_device(server, tmp_path):
    process = start_profile(server, tmp_path)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert server.left() == []
    wait_until(lambda: not runners(server), "the end of the runner")


@pytest.mark.slow
def test_after_a_kill_the_runner_ends_and_its_folder_is_found_again(server, tmp_path):
    process = start_profile(server, tmp_path)
    process.kill()
    process.communicate()
    wait_until(lambda: not runners(server), "the end of the runner")
    left = server.left()
    assert len(left) == 1
    device = server.device()
    with told(server, device) as (runner, _):
        assert runner.link.started.files
        assert [Path(runner.link.folder).name] == left
    assert server.left() == []


def test_a_folder_that_nobody_came_back_to_is_removed_after_a_day(server):
    work = server.home / "work"
    names = ("nasvit-edge-000000000000-old", "nasvit-edge-000000000000-new", "mine")
    for name in names:
        (work / name).mkdir(parents=True)
        (work / name / "lock").touch()
        owner = server.home.stat()
        for path in (work / name / "lock", work / name):
            os.chown(path, owner.st_uid, owner.st_gid)
    for name in ("nasvit-edge-000000000000-old", "mine"):
        os.utime(work / name / "lock", (0, time.time() - 90000))
    with told(server, server.device()):
        assert {"nasvit-edge-000000000000-new", "mine"} <= set(server.left())
        assert "nasvit-edge-000000000000-old" not in server.left()
    shutil.rmtree(work)


@settings(max_examples=25)
@given(
    st.dictionaries(
        st.sampled_from(["ask", "name", "offset", "data", "last", "names", "model", "runtime"]),
        st.none()
        | st.integers(-2, 2)
        | st.text(max_size=8)
        | st.sampled_from(["put", "drop", "about", "../x", "/etc/passwd", "f" * 64 + ".onnx"])
        | st.lists(st.text(max_size=4), max_size=2),
    )
)
def test_whatever_is_asked_the_runner_answers_and_writes_nowhere_else(fuzzed, request_):
    request_.pop("ask", None) if request_.get("ask") == "about" else None
    answer = fuzzed.link.ask({"id": "x", **request_}, 20)
    assert (answer.id if isinstance(answer, Failure) else answer["id"]) == "x"
    assert fuzzed.link.starts == 1


@pytest.fixture(scope="module")
def fuzzed(server):
    with connect(server.device(), Ways(), SILENT) as runner:
        yield runner


@pytest.mark.parametrize("path", REMOTE, ids=lambda path: path.name)
def test_what_runs_on_a_device_is_python_3_8(path):
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    newer = {
        "waitstatus_to_exitcode",
        "removeprefix",
        "removesuffix",
        "is_relative_to",
        "pairwise",
        "batched",
    }
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not used & newer
    assert any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)


def test_the_runner_needs_no_numpy_to_say_what_the_machine_is():
    runner = files.shipped("devices") / "host" / "runner.py"
    command = [sys.executable, "-E", "-s", "-S", str(runner)]
    asked = '{"id": "a", "ask": "about"}\n'
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["about"]["cores"] >= 1
    assert answer["runtimes"] == {}


@pytest.mark.slow
def test_a_runner_that_is_killed_at_one_model_twice_fails_that_model_only(server, model):
    with told(server, server.device()) as (runner, _):
        killer = threading.Event()

        def kill():
            while not killer.wait(0.02):
                if len(runners(server)) == 2:
                    for pid in runners(server):
                        os.kill(pid, signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        answer = runner.measure(job(model, seconds=5, most_seconds=5))
        killer.set()
        thread.join()
        assert (
            "crashed 2 times at it (by a signal that it could not tell: as a rule memory had run out)"
            in answer.error
        )
        assert isinstance(runner.measure(job(model)), Measurement)


def test_a_measurement_that_is_none_is_an_error(server, model, monkeypatch):
    with told(server, server.device()) as (runner, _):
        monkeypatch.setattr(runner.link, "ask", lambda request, timeout: {"id": "m", "samples_us": [-1.0]})
        runner.files.there.add(runner.files.name(Path(model)))
        runner.files.starts = runner.link.starts
        assert "no latencies" in runner.measure(job(model)).error


@pytest.mark.slow
def test_a_benchmark_takes_turns_there_and_tells_load_and_memory(server, model):
    pair = [
        Participant(name="main", path=model, runtime="onnxruntime"),
        Participant(name="new", path=model, runtime="onnxruntime", baseline=0),
    ]
    protocol = BenchmarkProtocol(rounds=2, runs=5, seconds=0.01, most_seconds=0.1)
    with told(server, server.device()) as (runner, _):
        runner.bring([model], SILENT)
        rounds = measure(pair, runner, protocol, ())
    assert [[entry.position for entry in sides][:2] for sides in rounds] == [[0, 3], [1, 2]]
    assert all(entry.warm_load_ms > 0 for sides in rounds for entry in sides)
    assert all(1e4 < entry.memory_bytes < 1e9 for sides in rounds for entry in sides)
