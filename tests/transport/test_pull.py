"""Devices that pull their jobs: nothing lost, nothing accepted that should not be."""

from __future__ import annotations

import json
import re
import threading
import time

import numpy as np
import pytest
from conftest import one_line, only_user_errors, require_module
from hypothesis import given
from hypothesis import strategies as st
from transport.phone import ABOUT, MICRO, SPACE, Gone, Phone, answer_to, fewer_subnets, valid

from nasvit_edge.device import load_device
from nasvit_edge.errors import DeviceError, NasvitEdgeError
from nasvit_edge.latency import load_table
from nasvit_edge.listening import Listener
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.profile.run import Choice, measure_table
from nasvit_edge.records import content
from nasvit_edge.transport import exchange, web_runtime
from nasvit_edge.transport.answers import Broken, Failure, Measurement
from nasvit_edge.transport.connect import check
from nasvit_edge.transport.exchange import decoded, described
from nasvit_edge.transport.job import Job
from nasvit_edge.transport.publish import judged, published
from nasvit_edge.transport.pull import address_of, invitation, pull_runner
from nasvit_edge.transport.ways import Ways
from nasvit_edge.transport.web_runtime import FILES


@pytest.fixture(autouse=True)
def _short_goodbyes(monkeypatch):
    monkeypatch.setattr(exchange, "FINISH_S", 0.3)


@pytest.fixture(scope="session")
def web_files(tmp_path_factory):
    """A folder that stands for onnxruntime-web where no browser comes."""
    folder = tmp_path_factory.mktemp("ort")
    for name in FILES:
        (folder / name).write_text("ONNX Runtime Web v0.0.0")
    return str(folder)


@pytest.fixture
def ways(web_files):
    return Ways(interface="127.0.0.1", web_runtime=web_files, wait_s=20.0)


def served(ways, notes=None, device="browser", **changes):
    from dataclasses import replace

    return pull_runner(
        load_device(device),
        replace(ways, **changes),
        Listener(note=(notes if notes is not None else []).append),
    )


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    require_module("onnxruntime")
    return Models(SPACE, "onnxruntime-web", tmp_path_factory.mktemp("m")).path(Item("empty"))[0]


def job(model, name="m", **changes):
    fields = {"id": name, "model": str(model), "runtime": "onnxruntime-web", "threads": 1, "cores": ()}
    fields |= {"runs": 10, "seconds": 0.01, "most_seconds": 0.1, "precision": 0.02, "seed": 0}
    return Job(**(fields | changes))


class Steady(Phone):
    """Without noise nothing is measured again."""

    def measure(self, job):
        size = sum(len(self.fetch(entry["sha256"])) for entry in job["files"])
        return answer_to(job, [50 + size / 100] * 10)


class Asking:
    """`runner.measure` in a thread, so that a test can be the device."""

    def __init__(self, runner, job, **options):
        self.answer, self.error = None, None
        self.thread = threading.Thread(target=self._run, args=(runner, job, options), daemon=True)
        self.thread.start()

    def _run(self, runner, job, options):
        try:
            self.answer = runner.measure(job, **options)
        except DeviceError as error:
            self.error = error

    def result(self, seconds=10):
        self.thread.join(seconds)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error
        return self.answer


def visitor(runner, **options):
    """A phone that said hello."""
    phone = Phone(runner.server.url, **options)
    assert phone.hello() == 200
    return phone


def posted(phone, answer):
    """Post in a thread: the host acknowledges once the answer is on disk."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(phone.post(answer)), daemon=True)
    thread.start()
    return thread, answers


@pytest.mark.slow
def test_from_the_qr_code_to_a_table_with_a_device_that_vanishes_again_and_again(ways, tmp_path, monkeypatch):
    fewer_subnets(monkeypatch)
    notes: list[str] = []
    with served(ways, notes) as runner:
        phone = Phone(scanned(notes[0]), crashes=(3, 4, 9, 20))
        phone.start()
        path = measure_table(SPACE, load_device("browser"), runner, Choice(protocol="quick"), out=tmp_path)
    (tmp_path / "micro.toml").write_text(MICRO)
    table = load_table(str(path), space=str(tmp_path / "micro.toml"))
    assert table.predict(SPACE.largest()).ms > 0
    assert table.file.fingerprint == ABOUT
    assert table.file.runtime_version == "1.30.0"
    assert table.file.transport == "pull"
    apart = [name for name in phone.measured if not name.startswith("canary:")]
    assert len(apart) == table.file.canaries.measured  # what was answered is there, and once
    assert set(table.file.ops) <= set(apart)


def scanned(text):
    """What a camera reads from the text."""
    zxingcpp = require_module("zxingcpp")
    modules = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}
    drawn = [line for line in text.splitlines() if line and set(line) <= set(modules)]
    rows = [[modules[c] for c in line] for line in drawn]
    picture = np.repeat(np.repeat(np.array(rows).transpose(0, 2, 1).reshape(-1, len(rows[0])), 6, 0), 6, 1)
    return zxingcpp.read_barcode((picture * 255).astype(np.uint8)).text


@pytest.mark.slow
def test_a_device_that_stays_away_ends_the_profile_and_the_same_command_continues(
    ways, tmp_path, monkeypatch
):
    fewer_subnets(monkeypatch)
    choice = Choice(protocol="quick")
    notes: list[str] = []
    with served(ways, notes, wait_s=1.0) as runner:
        first = Steady(runner.server.url, crashes=range(6, 99))
        first.start(pause=99)
        with pytest.raises(DeviceError) as caught:
            measure_table(SPACE, load_device("browser"), runner, choice, out=tmp_path)
    text = one_line(caught)
    assert "has been away for" in text
    assert "5 finished measurements are kept, the same command continues" in text
    with served(ways) as runner:
        second = Steady(runner.server.url)
        second.start()
        measure_table(SPACE, load_device("browser"), runner, choice, out=tmp_path)
    ops = {name for name in first.measured if not name.startswith("canary:")}
    assert ops
    assert ops.isdisjoint(second.measured)


def test_nobody_comes(ways):
    with served(ways, wait_s=0.4) as runner, pytest.raises(DeviceError) as caught:
        runner.about()
    assert "no device came in 0 s" in one_line(caught)


def test_an_answer_is_acknowledged_only_when_the_next_is_asked_for(ways, model):
    with served(ways) as runner:
        phone = visitor(runner)
        asking = Asking(runner, job(model))
        thread, actual = posted(phone, answer_to(phone.job()))
        assert asking.result().samples_us == (100.0, 101.0, 102.0)
        time.sleep(0.3)
        assert actual == []  # not on disk yet, for all that the runner knows
        Asking(runner, job(model, "next"))
        thread.join(5)
        assert actual == [200]
        assert phone.job()["id"] == "next"


def test_an_answer_that_is_long_not_on_disk_is_sent_again_and_counts_once(ways, model, monkeypatch):
    monkeypatch.setattr(exchange, "POLL_S", 0.3)
    with served(ways) as runner:
        phone = visitor(runner)
        asking = Asking(runner, job(model))
        posted_job = phone.job()
        assert phone.post(answer_to(posted_job)) == 503
        assert asking.result().samples_us == (100.0, 101.0, 102.0)
        assert phone.post(answer_to(posted_job, [5.0])) == 503
        following = Asking(runner, job(model, "next"))
        assert phone.post(answer_to(posted_job, [5.0])) == 409
        posted(phone, answer_to(phone.job(), [7.0]))
        assert following.result().samples_us == (7.0,)


def test_a_replayed_or_foreign_answer_never_counts(ways, model):
    with served(ways) as runner:
        phone = visitor(runner)
        Asking(runner, job(model, "first"))
        old = answer_to(phone.job())
        posted(phone, old)
        time.sleep(0.3)
        asking = Asking(runner, job(model, "second"))
        posted_job = phone.job()
        for nonce in (old["nonce"], "", "0" * 32, posted_job["nonce"][:-1], "ä"):
            assert phone.post(answer_to(posted_job) | {"nonce": nonce}) == 409
            assert phone.post(old | {"id": "second"}) == 409
        stranger = Phone(runner.server.url)
        for session in ("", "x", "ä", phone.session[:-1]):
            stranger.session = session.replace("ä", "%C3%A4")
            assert stranger.post(answer_to(posted_job)) == 409
        assert asking.answer is None
        posted(phone, answer_to(posted_job, [42.0]))
        assert asking.result().samples_us == (42.0,)


def test_without_the_token_nothing_is_told_or_taken(ways, model):
    with served(ways) as runner:
        phone = visitor(runner)
        asking = Asking(runner, job(model))
        posted_job = phone.job()
        phone.base = "/" + "x" * 32 + "/"
        for method, path in (
            ("GET", ""),
            ("GET", "job"),
            ("POST", "hello"),
            ("POST", f"result?session={phone.session}"),
        ):
            assert phone.ask(method, path, answer_to(posted_job) if method == "POST" else None)[0] == 404
        assert phone.ask("GET", f"file/{posted_job['files'][0]['sha256']}")[0] == 404
        assert asking.answer is None


def test_a_second_device_is_refused_and_the_first_goes_on(ways, model):
    with served(ways) as runner:
        phone = visitor(runner, install="a")
        twin = Phone(runner.server.url, install="b")
        assert Phone(runner.server.url, about=ABOUT | {"board": "another"}).hello() == 409
        assert twin.hello() == 409  # the same kind, but not the same one
        asking = Asking(runner, job(model))
        posted(phone, answer_to(phone.job()))
        assert isinstance(asking.result(), Measurement)


def test_a_device_that_says_hello_again_gets_its_job_again_with_a_new_nonce(ways, model):
    with served(ways) as runner:
        phone = visitor(runner)
        asking = Asking(runner, job(model))
        before = phone.job()
        old_session = phone.session
        assert phone.hello() == 200
        again = phone.job()
        assert again | {"nonce": ""} == before | {"nonce": ""}
        assert again["nonce"] != before["nonce"]
        assert phone.post(answer_to(before)) == 409
        assert phone.ask("POST", f"beat?session={old_session}")[0] == 409
        assert phone.ask("GET", f"job?session={old_session}")[0] == 409
        posted(phone, answer_to(again))
        assert isinstance(asking.result(), Measurement)


def test_a_job_that_lasts_too_long_is_an_error_and_its_late_answer_does_not_count(ways, model):
    with served(ways) as runner:
        phone = visitor(runner)
        asking = Asking(runner, job(model), timeout_s=0.4)
        late = phone.job()
        assert "no answer in 0.4 s" in asking.result().error
        assert phone.post(answer_to(late)) == 409
        following = Asking(runner, job(model, "next"))
        posted(phone, answer_to(phone.job()))
        assert isinstance(following.result(), Measurement)


def test_a_model_that_takes_the_device_down_each_time_is_an_error(ways, model):
    with served(ways) as runner:
        asking = None
        phone = visitor(runner)
        asking = Asking(runner, job(model))
        for _ in range(exchange.GIVEN + 1):
            phone.job()
            phone.hello()
        assert isinstance(asking.result(), Broken)
        assert "may crash the runtime" in asking.result().error


def test_a_device_that_beats_is_not_away(ways, model):
    notes: list[str] = []
    with served(ways, notes, wait_s=1.0) as runner:
        phone = visitor(runner)
        asking = Asking(runner, job(model))
        posted_job = phone.job()
        for _ in range(6):
            time.sleep(0.3)
            assert phone.ask("POST", f"beat?session={phone.session}")[0] == 204
        posted(phone, answer_to(posted_job))
        assert isinstance(asking.result(), Measurement)
        assert not [text for text in notes if "away" in text]


def test_a_device_that_is_there_and_asks_for_nothing_is_not_waited_for_for_ever(ways, model, monkeypatch):
    monkeypatch.setattr(exchange, "AWAY_S", 0.4)
    with served(ways, wait_s=1.0) as runner:
        phone = visitor(runner)
        asking = Asking(runner, job(model))
        for _ in range(6):
            time.sleep(0.2)
            phone.ask("POST", f"beat?session={phone.session}")
        with pytest.raises(DeviceError, match="has not asked for a model for 1 s") as caught:
            asking.result()
    one_line(caught)


def test_that_a_device_went_and_came_is_said_once(ways, model, monkeypatch):
    monkeypatch.setattr(exchange, "AWAY_S", 0.4)
    notes: list[str] = []
    with served(ways, notes) as runner:
        phone = visitor(runner)
        asking = Asking(runner, job(model))
        posted_job = phone.job()
        time.sleep(1.5)
        phone.ask("POST", f"beat?session={phone.session}")
        time.sleep(0.3)
        posted(phone, answer_to(posted_job))
        asking.result()
    assert [text for text in notes if "is away" in text or "is back" in text] == [
        "the browser is away: waiting up to 20 s; open the page or app again",
        "the browser is back",
    ]


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "", "0" * 64, "\\..\\x", "%00"]
)
def test_only_files_of_the_current_job_are_served(ways, model, tmp_path, name):
    with served(ways) as runner:
        phone = visitor(runner)
        first = phone_file(runner, phone, model)
        for kind in ("file/", "ort/", ""):
            if kind + name:
                assert phone.ask("GET", kind + name)[0] == 404
        (tmp_path / "other.onnx").write_bytes(model.read_bytes() + b"\x72\x00")
        assert phone_file(runner, phone, tmp_path / "other.onnx") != first
        assert phone.ask("GET", f"file/{first}")[0] == 404


def phone_file(runner, phone, model):
    """The hash of the file of a job that was fetched and answered."""
    asking = Asking(runner, job(model))
    posted_job = phone.job()
    digest = posted_job["files"][0]["sha256"]
    assert phone.fetch(digest) == model.read_bytes()
    posted(phone, answer_to(posted_job))
    asking.result()
    return digest


def test_the_device_is_told_when_all_is_done(ways):
    with served(ways) as runner:
        phone = visitor(runner)
        statuses = []
        thread = threading.Thread(target=lambda: statuses.append(_end(phone)), daemon=True)
        thread.start()
        time.sleep(0.3)
        begun = time.monotonic()
    thread.join(5)
    assert statuses == [410]
    assert time.monotonic() - begun < 2


def _end(phone):
    try:
        phone.job()
    except Gone as gone:
        return gone.args[0]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"nonsense",
        b"[" * 100_000,
        b'{"about": {}}',
        b'{"about": {"a": 1e999}}',
        b'{"about": NaN}',
    ],
)
def test_a_hello_that_says_nothing_is_refused(ways, body):
    with served(ways) as runner:
        assert Phone(runner.server.url).ask("POST", "hello", body, raw=True)[0] == 400


def test_a_runtime_or_threads_that_the_device_lacks_are_said_in_one_line(ways, model):
    with served(ways) as runner:
        visitor(runner, conditions={"isolated": False, "secure": False})
        for changes, hint in (({"runtime": "onnxruntime-webgpu"}, "--tls"), ({"threads": 2}, "--threads 1")):
            with pytest.raises(NasvitEdgeError) as caught:
                runner.measure(job(model, **changes))
            assert "kept" not in one_line(caught)
            assert hint in one_line(caught)


def test_what_a_device_says_cannot_write_to_the_terminal(ways, model):
    with served(ways) as runner:
        phone = visitor(runner, about=ABOUT | {"board": "\x1b[2Jred\n"})
        assert runner.about().about["board"] == " [2Jred "
        asking = Asking(runner, job(model))
        posted_job = phone.job()
        posted(
            phone, {"id": posted_job["id"], "nonce": posted_job["nonce"], "error": "\x1b]0;x\x07 bad\nline"}
        )
        assert asking.result().error.isprintable()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=80) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_read_or_refused(body):
    assert decoded(body) is None or isinstance(decoded(body), dict)
    description = described(body)
    if description is not None:
        json.dumps(content(description), allow_nan=False)
        assert description.about


@given(
    st.dictionaries(
        st.sampled_from(["about", "busy_cores", "conditions", "runtimes", "install", "id", "x"]), json_values
    )
)
def test_any_description_becomes_a_plain_one(value):
    description = described(json.dumps(value).encode())
    if description is not None:
        assert json.dumps(content(description), allow_nan=False).isascii()
        assert description.busy_cores is None or 0 <= description.busy_cores < 1e4
        assert all(
            isinstance(version, str) and version.isprintable() for version in description.runtimes.values()
        )


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.sampled_from(["m", "other", 3]),
            "error": json_values,
            "samples_us": json_values | st.lists(st.floats(0.01, 1e6), min_size=1, max_size=5),
            "runtime_version": json_values,
            "inner": st.integers(-2, 50) | json_values,
            "clock_us": st.floats(allow_nan=False) | json_values,
            "flags": st.lists(st.sampled_from(["throttled", "x", 3])),
            "windows": json_values,
            "before": st.fixed_dictionaries({"thermal": json_values}) | json_values,
            "after": json_values,
        },
    ),
    st.sampled_from([0.0, 5.0]),
)
def test_any_answer_is_a_measurement_or_an_error(answer, sustained):
    judgement = judged(answer, job("m", sustained_s=sustained))
    assert judgement.id == "m"
    if isinstance(judgement, Failure):
        assert judgement.error.isprintable()
    else:
        assert all(0 < sample < 1e10 for sample in judgement.samples_us)
        assert set(judgement.flags) <= {"throttled", "coarse clock"}
        assert bool(sustained) <= (judgement.windows is not None)


def test_a_device_that_grew_hot_is_flagged_and_one_that_was_hot_before_is_not():
    hot = {"before": {"thermal": "nominal"}, "after": {"thermal": "serious"}}
    assert judged(measured(**hot), job("m")).flags == ("throttled",)
    assert judged(measured(before=hot["after"], after=hot["after"]), job("m")).flags == ()
    assert judged(measured(flags=["low power mode"]), job("m")).flags == ("low power mode",)


def test_samples_that_are_too_short_for_the_clock_are_no_latencies():
    assert judged(measured(clock_us=100.0, inner=60), job("m")).flags == ("coarse clock",)
    assert "too short" in judged(measured(clock_us=1000.0, inner=1), job("m")).error
    assert judged(measured(clock_us=5.0, inner=5), job("m")).flags == ()


def measured(**more):
    return answer_to({"id": "m", "nonce": "n"}, **more)


def test_a_folder_is_published_file_by_file(tmp_path):
    require_module("coremltools")
    package, _ = Models(SPACE, "coreml-ne", tmp_path, precision="fp16").path(Item("empty"))
    request, sources = published(job(package, runtime="coreml-ne"))
    valid(request, "job")
    assert request["units"] == "cpuAndNeuralEngine"
    assert request["input"]["shape"] == [1, 8]
    paths = {entry["path"]: entry for entry in request["files"]}
    assert "Manifest.json" in paths
    assert all(
        sources[e["sha256"]].read_bytes() == (package / e["path"]).read_bytes() for e in paths.values()
    )
    assert not any(".." in path or path.startswith("/") for path in paths)


def test_the_app_is_told_whose_it_is_and_finds_the_fingerprint_in_the_address(ways):
    notes: list[str] = []
    with served(ways, notes, device="iphone", tls=True) as runner:
        address = next(line for line in notes[0].splitlines() if line.startswith("https://"))
        fingerprint = re.search("#sha256=([0-9a-f]{64})$", address)[1]
        assert fingerprint.upper() in notes[0].replace(":", "")
        phone = Phone(runner.server.url)
        assert json.loads(phone.ask("GET", "")[1]) == {"schema": 1, "client": "iphone"}
        assert phone.ask("GET", "page.js")[0] == 404


def test_plain_http_says_what_it_cannot_do_and_loopback_needs_no_such_line():
    assert any("--tls" in line for line in invitation("http://192.0.2.1:1/t/", "browser", ""))
    assert not any("--tls" in line for line in invitation("http://127.0.0.1:1/t/", "browser", "", True))
    assert not any("--tls" in line for line in invitation("https://192.0.2.1:1/t/", "browser", "ab" * 32))


@pytest.mark.parametrize("address", ["no such name.invalid", "0.0.0.0", "::", "a" * 300, "-x", "1.2.3.4.5"])
def test_what_is_no_address_to_serve_on_is_said_in_one_line(address):
    text = only_user_errors(address_of, load_device("browser"), Ways(interface=address))
    assert address in text


def test_without_a_choice_the_address_is_one_of_this_machine():
    outcome = only_user_errors(address_of, load_device("browser"), Ways())
    assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+", outcome) or "--interface" in outcome


def test_check_says_what_it_found_step_by_step(ways):
    steps, notes = [], []
    for step in check(load_device("browser"), ways, Listener(note=notes.append)):
        steps.append(step)
        if step.name == "serving":
            Phone(step.found, conditions={"isolated": False}).hello()
    by_name = {step.name: step for step in steps}
    assert scanned(notes[0]) == by_name["serving"].found
    assert by_name["device"].good
    assert "Stand-in 1" in by_name["device"].found
    assert by_name["onnxruntime-web"].good
    assert by_name["onnxruntime-webgpu"].found == "not there"
    assert all(step.good for step in steps)
    assert "--tls" in by_name["onnxruntime-webgpu"].todo


def test_check_ends_with_what_to_do_when_nobody_comes(ways):
    from dataclasses import replace

    *_, last = check(load_device("browser"), replace(ways, wait_s=0.3))
    assert not last.good
    assert "no device came" in last.found
    assert last.todo


def test_a_folder_without_the_runtime_is_said_in_one_line(tmp_path):
    text = only_user_errors(web_runtime.web_runtime, str(tmp_path))
    assert "npm pack onnxruntime-web@" in text


def test_a_package_that_is_another_is_not_unpacked():
    assert "SHA-512 differs" in only_user_errors(web_runtime.unpacked, b"another package")


def test_a_package_of_another_layout_may_be_given(web_files, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "dist").symlink_to(web_files)
    assert set(web_runtime.web_runtime(str(tmp_path))) == set(FILES)
