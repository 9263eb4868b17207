"""The Mac's program: everything but Core ML itself runs here, on real models, over real connections."""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import pytest
from asking_host import AskingHost
from conftest import require_module
from hypothesis import given
from hypothesis import strategies as st
from reference_coreml import DEVICES, bundle, faults, mac, measured, open_model
from reference_coreml import host as host_names

require_module("coremltools")
PROGRAM = DEVICES / "mac" / "runner.py"


@pytest.fixture(scope="module")
def program():
    return mac()


@pytest.fixture(scope="module")
def timing(program):
    return sys.modules["mac_runner.timing"]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """(a few jobs, their files by hash)"""
    with zipfile.ZipFile(bundle(tmp_path_factory)[0]) as archive:
        jobs = json.loads(archive.read("jobs.json"))["jobs"]
        few = [
            next(job for job in jobs if job["id"].startswith(kind))
            for kind in ("empty", "mbconv", "transformer")
        ]
        contents = {f["sha256"]: archive.read(f"files/{f['sha256']}") for job in few for f in job["files"]}
    return few, contents


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch, program):
    monkeypatch.setattr(
        sys.modules["mac_runner.pull"].time, "sleep", lambda s, real=time.sleep: real(min(s, 0.02))
    )


def certificate(folder):
    """(certificate, key) files of a self-signed certificate, and its SHA-256."""
    x509, hashes = (
        require_module("cryptography.x509"),
        require_module("cryptography.hazmat.primitives.hashes"),
    )
    ec = require_module("cryptography.hazmat.primitives.asymmetric.ec")
    serialization = require_module("cryptography.hazmat.primitives.serialization")
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "host")])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths, hashlib.sha256(signed.public_bytes(serialization.Encoding.DER)).hexdigest()


# --- over HTTP ----------------------------------------------------------------------------------------------------


def test_all_jobs_are_pulled_measured_and_posted(program, asked, capsys):
    with AskingHost(*asked).running() as host:
        assert program.main(["--url", host.url], open_model) == 0
    assert [answer["id"] for answer in host.answers] == [job["id"] for job in asked[0]]
    assert "3 models measured; all done" in capsys.readouterr().err
    for answer in host.answers:
        assert not faults(answer, "measurement")
    assert not faults(host.hellos[0], "description")
    assert set(host.hellos[0]["runtimes"]) == {"coreml", "coreml-ne", "coreml-gpu", "coreml-cpu"}
    assert not host.jobs


@pytest.mark.slow
@pytest.mark.parametrize("path", ["hello", "job", "file", "result"])
@pytest.mark.parametrize("trouble", ["drop", "drop after", 500], ids=str)
def test_a_host_that_was_away_gets_every_answer_once(program, asked, path, trouble):
    with AskingHost(*asked).running() as host:
        host.troubles = [(trouble, path), (trouble, path)]
        assert program.main(["--url", host.url], open_model) == 0
    assert not host.troubles
    assert [answer["id"] for answer in host.answers] == [job["id"] for job in asked[0]]


def test_a_host_that_stays_away_is_given_up_with_one_line(program, asked, capsys):
    host = AskingHost(*asked)
    with host.running():
        host.troubles = [("drop", "job")] * 10_000
        assert program.main(["--url", host.url, "--patience", "0.2"], open_model) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: the host has not answered for 0.2 s")
    assert last.endswith("run the same command again")


def test_a_wrong_token_is_one_line(program, asked, capsys):
    with AskingHost(*asked).running() as host:
        assert program.main(["--url", host.url[:-1] + "x"], open_model) == 2
    assert "its token is of an earlier start" in capsys.readouterr().err
    assert not host.hellos


@pytest.mark.parametrize("path", ["hello", "job"])
def test_what_is_no_answer_of_the_protocol_is_no_traceback(program, asked, path, monkeypatch, capsys):
    host = AskingHost(*asked)
    real, spoilt = host.answer, [True, True]

    def answer(method, parts, name, body):
        if name == path and spoilt:
            spoilt.pop()
            return 200, b"<html>"
        return real(method, parts, name, body)

    monkeypatch.setattr(host, "answer", answer)
    with host.running():
        assert program.main(["--url", host.url], open_model) == (2 if path == "hello" else 0)
    assert ("something else than nasvit-edge" in capsys.readouterr().err) == (path == "hello")


def test_while_another_device_is_measured_it_waits(program, asked):
    with AskingHost(*asked).running() as host:
        host.troubles = [(409, "hello"), (409, "hello")]
        assert program.main(["--url", host.url], open_model) == 0
    assert len(host.answers) == 3


def test_over_tls_the_host_is_known_by_its_fingerprint(program, asked, tmp_path, capsys):
    paths, digest = certificate(tmp_path)
    with AskingHost(*asked, tls=paths).running() as host:
        assert program.main(["--url", host.url, "--fingerprint", "00" * 32], open_model) == 2
        assert f"its SHA-256 is {digest}" in capsys.readouterr().err
        assert host.seen == []  # not even the token was sent
        assert program.main(["--url", host.url], open_model) == 2
        assert "--fingerprint" in capsys.readouterr().err
        spelled = ":".join(digest[i : i + 2] for i in range(0, 64, 2)).upper()
        assert program.main(["--url", host.url, "--fingerprint", spelled], open_model) == 0
        assert len(host.answers) == 3
        host.jobs = list(asked[0][:1])
        assert program.main(["--url", f"{host.url}#sha256={digest}"], open_model) == 0
    assert len(host.answers) == 4


def test_a_long_job_tells_the_host_that_it_is_there(program, asked, monkeypatch):
    monkeypatch.setattr(sys.modules["mac_runner.pull"], "_BEAT_S", 0.2)
    jobs = [asked[0][0] | {"sustained_s": 1.5}]
    with AskingHost(jobs, asked[1]).running() as host:
        assert program.main(["--url", host.url], open_model) == 0
    assert host.beats >= 2
    (answer,) = host.answers
    assert not faults(answer, "measurement")
    assert len(answer["windows"]) == 2
    assert answer["windows"][-1][0] >= 1.5


@pytest.mark.parametrize(
    "url", ["", "x", "ftp://a/b", "http://a", "http://a:b/c", "http://[/t", "http://a:99999/t"]
)
def test_what_is_no_url_of_a_profile_is_one_line(program, url, capsys):
    assert program.main(["--url", url], open_model) == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- jobs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "", ".", "a\\b", "a\0b"])
@pytest.mark.parametrize("where", ["model", "path"])
def test_a_model_is_not_written_outside_its_folder(program, asked, name, where, tmp_path):
    answered = sys.modules["mac_runner.jobs"].answered
    job = json.loads(json.dumps(asked[0][0]))
    if where == "model":
        job["model"] = name
    else:
        job["files"][0]["path"] = name
    answer = answered(job, asked[1].__getitem__, open_model)
    assert "may not name" in answer["error"]
    assert not faults(answer, "error")


def test_a_file_that_arrived_damaged_is_not_measured(program, asked):
    answer = sys.modules["mac_runner.jobs"].answered(asked[0][0], lambda digest: b"other", open_model)
    assert "arrived damaged" in answer["error"]


def test_a_model_that_fails_is_an_error_and_leaves_no_files(program, asked):
    seen = []

    def failing(path, units, feed):
        seen.append(path)
        raise RuntimeError("no\nNeural Engine")

    answer = sys.modules["mac_runner.jobs"].answered(asked[0][0], asked[1].__getitem__, failing)
    assert answer == {"id": "empty", "nonce": asked[0][0]["nonce"], "error": "no Neural Engine"}
    assert not seen[0].parent.exists()


@given(
    durations=st.lists(st.floats(1e-5, 2e-3), min_size=1, max_size=30),
    runs=st.integers(1, 40),
    seconds=st.floats(0, 0.05),
    precision=st.floats(1e-4, 1),
    most=st.floats(0.01, 0.2),
)
def test_the_stop_rule_is_that_of_the_host(timing, durations, runs, seconds, precision, most):
    """Both on one made-up clock, which only the model's calls move."""
    host = host_names()
    job = {"runs": runs, "seconds": seconds, "most_seconds": most, "precision": precision}
    taken = []
    for module in (host, vars(timing)):
        now, turn = [0], [0]

        def call(now=now, turn=turn):
            now[0] += int(durations[turn[0] % len(durations)] * 1e9)
            turn[0] += 1

        class Clock:
            perf_counter_ns = staticmethod(lambda now=now: now[0])
            perf_counter = staticmethod(lambda now=now: now[0] / 1e9)

        real, module["time"] = module["time"], Clock
        try:
            taken.append(module["samples"](call, 1, job))
        finally:
            module["time"] = real
    assert taken[0] == taken[1]


# --- the machine --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Note: No thermal warning level has been recorded\nNote: No performance warning level has been recorded\n",
            "nominal",
        ),
        (
            " - CPU_Scheduler_Limit \t= 100\n - CPU_Available_CPUs \t= 10\n - CPU_Speed_Limit \t= 100\n",
            "nominal",
        ),
        (" - CPU_Speed_Limit \t= 85\n", "fair"),
        (" - CPU_Speed_Limit \t= 60\n", "serious"),
        (" - CPU_Speed_Limit \t= 30\n", "critical"),
        ("2026-01-01 thermal warning level = 1\n", "serious"),
        ("something else", None),
        ("", None),
    ],
)
def test_the_thermal_state_is_read_from_pmset(program, text, expected):
    assert sys.modules["mac_runner.machine"].thermal(text) == expected


def test_power_is_read_from_pmset(program):
    conditions = sys.modules["mac_runner.machine"].conditions
    battery = "Now drawing from 'Battery Power'\n -InternalBattery-0 (id=1)\t85%; discharging; 5:12 remaining present: true\n"
    facts = conditions(" sleep 1\n lowpowermode         1\n", battery)
    assert facts == {"low_power_mode": True, "power": "Battery Power", "battery_percent": 85}
    assert conditions(" powermode            0\n", "Now drawing from 'AC Power'\n") == {
        "low_power_mode": False,
        "power": "AC Power",
    }
    assert conditions("", "") == {}


@given(st.text(max_size=80))
def test_nothing_that_pmset_may_print_is_a_traceback(text):
    machine = sys.modules["mac_runner.machine"]
    assert machine.thermal(text) in (*machine.THERMAL, None)
    machine.conditions(text, text)


def test_without_core_ml_it_says_so_in_one_line():
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--url", "http://127.0.0.1:1/t"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "error: Core ML runs on macOS only\n"


# --- offline ------------------------------------------------------------------------------------------------------


def test_results_of_a_bundle_are_of_the_protocol(tmp_path_factory):
    assert not faults(json.loads(measured(tmp_path_factory).read_text()), "results")


def test_a_run_that_was_stopped_continues_where_it_was(program, tmp_path_factory, tmp_path, capsys):
    path, _ = bundle(tmp_path_factory)
    folder, out = tmp_path / "unpacked", tmp_path / "result.json"
    shutil.unpack_archive(path, folder)
    count = [0]

    def stopping(*arguments):
        count[0] += 1
        if count[0] == 4:
            signal.raise_signal(signal.SIGINT)
        return open_model(*arguments)

    jobs = json.loads((folder / "jobs.json").read_text())
    jobs["jobs"] = jobs["jobs"][:6]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    assert program.main(["--offline", str(folder), "--out", str(out)], stopping) == 130
    first = json.loads(out.read_text())["answers"]
    assert len(first) == 3
    assert program.main(["--offline", str(folder), "--out", str(out)], open_model) == 0
    whole = json.loads(out.read_text())["answers"]
    assert whole[:3] == first
    assert [a["nonce"] for a in whole] == [job["nonce"] for job in jobs["jobs"]]
    assert "6 of 6 measured" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["result.json", "unpacked"]


def test_what_is_no_bundle_is_one_line_and_other_files_are_not_overwritten(
    program, tmp_path_factory, tmp_path, capsys
):
    path, _ = bundle(tmp_path_factory)
    (tmp_path / "note.json").write_text("my notes")
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 no")
    results = json.loads(measured(tmp_path_factory).read_text())
    results["description"]["about"]["os"] = "macOS 1"
    (tmp_path / "other.json").write_text(json.dumps(results))
    capsys.readouterr()  # of the first measuring
    for arguments in (
        ["--offline", str(tmp_path / "missing.zip")],
        ["--offline", str(tmp_path / "bad.zip")],
        ["--offline", str(tmp_path)],
        ["--offline", str(path), "--out", str(tmp_path / "note.json")],
        ["--offline", str(path), "--out", str(tmp_path / "other.json")],
    ):
        assert program.main(arguments, open_model) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "note.json").read_text() == "my notes"
