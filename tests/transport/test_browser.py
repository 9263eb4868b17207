"""The browser's page in real headless Chromium, from the QR code to a table."""

from __future__ import annotations

import base64
import hashlib
import json
import threading

import pytest
from conftest import require_program, require_tool
from transport.chromium import Chromium
from transport.phone import MICRO, SPACE, fewer_subnets, valid
from transport.test_pull import Asking, job, scanned

from nasvit_edge.device import load_device
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.latency import load_table
from nasvit_edge.listening import Listener
from nasvit_edge.ops import all_ops
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.profile.run import Choice, measure_table
from nasvit_edge.space import load_space
from nasvit_edge.transport import exchange, pull
from nasvit_edge.transport.answers import Failure, Measurement
from nasvit_edge.transport.ways import Ways
from nasvit_edge.transport.web_runtime import web_runtime

STATE = "document.getElementById('state').dataset.state"


@pytest.fixture(scope="session")
def chromium():
    """The program; onnxruntime-web's files are there as well."""
    program = require_program("chromium")
    try:
        web_runtime(None)
    except NasvitEdgeError as error:
        require_tool(f"onnxruntime-web ({error})", False)
    return program


@pytest.fixture(scope="module")
def ops(tmp_path_factory):
    """Some models of nano."""
    space, folder = load_space("nano"), tmp_path_factory.mktemp("models")
    models = Models(space, "onnxruntime-web", folder)
    chosen = sorted(all_ops(space), key=lambda op: op.macs())[-1:]
    return [models.path(Item("empty"))[0], *(models.path(Item(op.key(), op=op))[0] for op in chosen)]


@pytest.fixture(scope="module")
def page(chromium):
    """A runner and a browser that several tests share; each opens the page anew."""
    with Chromium(chromium) as browser, served([]) as runner:
        yield runner, browser


def served(notes, **ways):
    ways = {"interface": "127.0.0.1", "wait_s": 30.0} | ways
    return pull.pull_runner(
        load_device("browser"), Ways(**ways), Listener(note=notes.append), names=["phone.test"]
    )


def pinned(server):
    """The flag by which Chromium takes this run's certificate and no other."""
    import ssl

    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = ssl.get_server_certificate((server.address, server.port))
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    return f"--ignore-certificate-errors-spki-list={base64.b64encode(digest).decode()}"


@pytest.mark.slow
def test_from_the_qr_code_to_a_table_over_a_name_that_is_no_secure_context(chromium, tmp_path, monkeypatch):
    fewer_subnets(monkeypatch)
    notes, descriptions = [], []
    kept = pull.described
    monkeypatch.setattr(pull, "described", lambda body: descriptions.append(json.loads(body)) or kept(body))
    with Chromium(chromium) as browser, served(notes) as runner:
        url = scanned(notes[0])
        assert url == runner.server.url
        browser.open(url.replace("127.0.0.1", "phone.test"))
        about = runner.about()
        assert about.conditions == {"isolated": False, "secure": False}
        assert about.runtimes == {"onnxruntime-web": "1.30.0"}
        path = measure_table(SPACE, load_device("browser"), runner, Choice(protocol="quick"), out=tmp_path)
        text = browser.value("document.body.innerText")
        ended = threading.Thread(target=runner.close)
        ended.start()
        browser.until(f"{STATE} === 'done'", 10)
        ended.join()
        runner.close = lambda: None
    valid(descriptions[0], "description")
    assert "plain HTTP" in text
    assert "--tls" in text
    (tmp_path / "micro.toml").write_text(MICRO)
    table = load_table(str(path), space=str(tmp_path / "micro.toml"))
    assert table.file.runtime_version == "1.30.0"
    assert set(table.ops_ms) == {op.key() for op in all_ops(SPACE)}
    assert 0 < table.call_ms < table.predict(SPACE.largest()).ms
    assert all("coarse clock" in entry.flags for entry in table.file.ops.values())


@pytest.mark.slow
def test_over_tls_the_page_is_isolated_and_has_threads(chromium, ops, monkeypatch):
    monkeypatch.setattr(exchange, "FINISH_S", 0.1)
    notes = []
    with served(notes, tls=True) as runner, Chromium(chromium, pinned(runner.server)) as browser:
        browser.open(runner.server.url.replace("127.0.0.1", "phone.test"))
        assert runner.about().conditions | {"isolated": True, "secure": True} == runner.about().conditions
        one, two = (runner.measure(job(ops[-1], threads=threads, seconds=0.2)) for threads in (1, 2))
        for answer in (one, two):
            assert answer.flags == ()
            assert answer.clock_us <= 50
            assert len(answer.samples_us) >= 10
            assert answer.inner * sorted(answer.samples_us)[0] >= 50 * answer.clock_us / 2
        windows = runner.measure(job(ops[-1], sustained_s=2.1)).windows
        assert len(windows) >= 2
        assert windows[-1][0] >= 2.1
        failing = ops[0].with_name("bad.onnx")
        failing.write_bytes(_not_a_model(ops[0]))
        assert isinstance(runner.measure(job(failing)), Failure)
        assert isinstance(runner.measure(job(ops[0])), Measurement)


@pytest.mark.slow
def test_webgpu_is_measured_where_the_browser_has_an_adapter(chromium, ops):
    """Here one in software."""
    flags = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
    with Chromium(chromium, *flags) as browser, served([]) as runner:
        browser.open(runner.server.url)
        assert runner.about().runtimes["onnxruntime-webgpu"] == "1.30.0"
        answer = runner.measure(job(ops[0], runtime="onnxruntime-webgpu"))
        assert len(answer.samples_us) >= 3


def _not_a_model(path):
    """A graph that reads well and that no runtime takes."""
    import onnx

    model = onnx.load(str(path))
    model.graph.node[0].op_type = "NoSuchOperation"
    return model.SerializeToString()


@pytest.mark.slow
def test_a_page_that_is_hidden_or_reloaded_measures_its_job_again(page, ops):
    """What was measured while the page was hidden is thrown away; a reload in mid-job begins anew."""
    runner, browser = page
    browser.open(runner.server.url)
    asking = Asking(runner, job(ops[-1], sustained_s=1.0))
    browser.until(f"{STATE} === 'measuring'")
    _hide(browser, "true")
    browser.until(f"{STATE} === 'hidden'")
    assert asking.answer is None
    _hide(browser, "false")
    browser.until(f"{STATE} === 'measuring'")
    browser.open(runner.server.url)
    assert asking.result(20).windows


def _hide(browser, hidden):
    browser.value(
        f"Object.defineProperty(document, 'hidden', {{get: () => {hidden}, configurable: true}});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )


def test_the_page_is_readable_at_the_width_of_a_phone_and_loads_nothing_from_elsewhere(page, ops):
    runner, browser = page
    browser.open(runner.server.url)
    runner.measure(job(ops[0]))
    assert browser.value("document.documentElement.scrollWidth <= innerWidth")
    assert browser.value("parseFloat(getComputedStyle(document.body).fontSize)") >= 16
    loaded = browser.value("performance.getEntriesByType('resource').map(e => e.name)")
    assert loaded
    assert all(name.startswith(runner.server.url) for name in loaded)
    assert "screen" in browser.value("document.getElementById('advice').innerText")


@pytest.mark.slow
def test_a_second_device_of_the_same_kind_is_told_so_and_the_first_goes_on(page, chromium, ops):
    runner, browser = page
    browser.open(runner.server.url)
    with Chromium(chromium) as other:
        runner.measure(job(ops[0]))
        other.open(runner.server.url)
        other.until(f"{STATE} === 'waiting' && document.body.innerText.includes('Not this device now')")
        assert isinstance(runner.measure(job(ops[0])), Measurement)
