"""The program for browsers in real headless Chromium: it sees what `evaluate` sees, and its page classifies."""

from __future__ import annotations

import base64
import json
import shutil

import loaded
import numpy as np
import pictures
import pytest
from conftest import require_program, require_tool
from exported import exported
from PIL import Image
from transport.chromium import Chromium
from web_pages import served

from nasvit_edge import data_sets, files
from nasvit_edge.data_sets import prepare_image
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.export import artifact
from nasvit_edge.space import load_space
from nasvit_edge.transport.web_runtime import web_runtime

NANO, NASVIT = load_space("nano"), load_space("nasvit")
RESOLUTIONS = (192, 224, 288)
UNKNOWN = {"tiff", "tiff-16"}  # that browsers do not decode
PREPARED = """(async () => {
  const { prepared } = await import("/prepare_image.js");
  try {
    const blob = await (await fetch("/pictures/NAME")).blob();
    const bytes = new Uint8Array((await prepared(blob, PREPARATION)).buffer);
    let text = "";
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return btoa(text);
  } catch (error) {
    return `error: ${error.message}`;
  }
})()"""
CHOSEN = """(async () => {
  const chosen = new DataTransfer();
  chosen.items.add(new File([await (await fetch("NAME")).blob()], "NAME"));
  const input = document.getElementById("image");
  input.files = chosen.files;
  input.dispatchEvent(new Event("change"));
})()"""
STATE = "document.getElementById('state').dataset.state"
TEXT = "document.getElementById('state').textContent"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The programs of an ONNX bundle, served, and pictures beside them."""
    folder = loaded.folder("onnx", tmp_path_factory.mktemp("site"))
    (folder / "pictures").mkdir()
    (folder / "empty.html").write_text("<!doctype html><title>empty</title>")
    return folder


@pytest.fixture(scope="module")
def address(site):
    with served(site) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    with Chromium(require_program("chromium")) as running:
        yield running


def _prepared(browser, name, preparation):
    text = browser.value(
        PREPARED.replace("NAME", name).replace("PREPARATION", json.dumps(preparation.to_dict()))
    )
    if text.startswith("error: "):
        return text
    return np.frombuffer(base64.b64decode(text), np.float32).reshape(*preparation.size, 3)


def _levels(space, actual, path, preparation):
    expected = prepare_image.prepared(path, json.loads(json.dumps(preparation.to_dict())))
    return float((np.abs(actual - expected) * np.array(space.std) * 255).max())


@pytest.mark.slow
def test_it_sees_what_evaluate_sees(site, address, browser):
    """Chromium 156 and Pillow 13 decode all of these to the same bytes; a level is for other versions' decoders."""
    browser.open(f"{address}/empty.html")
    browser.until("document.readyState === 'complete'")
    for number, (path, kind) in enumerate(pictures.written(site / "pictures")):
        for space, resolution in ((NANO, 20), (NASVIT, RESOLUTIONS[number % 3])):
            preparation = space.preparation(resolution)
            actual = _prepared(browser, path.name, preparation)
            if kind in UNKNOWN:
                assert actual.startswith("error: this browser cannot read the image"), path.name
            else:
                assert _levels(space, actual, path, preparation) <= 1, path.name


@pytest.mark.parametrize("size", [(1, 3000), (30_000, 1), (2, 70_000)])
def test_a_thin_image_takes_no_canvas_beyond_its_limits(site, address, browser, size):
    browser.open(f"{address}/empty.html")
    browser.until("document.readyState === 'complete'")
    path, preparation = site / "pictures" / f"thin-{size[0]}.png", NASVIT.preparation(192)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    assert _levels(NASVIT, _prepared(browser, path.name, preparation), path, preparation) <= 1.5


@pytest.mark.slow
def test_a_photo_of_more_than_50_megapixels_differs_by_a_level_or_two(site, address, browser):
    """Browsers decode it whole, where Pillow takes a half."""
    browser.open(f"{address}/empty.html")
    browser.until("document.readyState === 'complete'")
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (63, 82, 3), np.uint8))
    path, preparation = site / "pictures" / "large.jpg", NASVIT.preparation(192)
    small.resize((8200, 6300), Image.Resampling.BICUBIC).save(path, quality=88)
    assert _levels(NASVIT, _prepared(browser, path.name, preparation), path, preparation) <= 2


# --- the page -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(site, tmp_path_factory):
    """A subnet of nano, exported beside the page, and a picture that it was not made for in size."""
    path, _ = exported(tmp_path_factory, "onnx")
    for beside in ("", ".json", ".reference.safetensors"):
        shutil.copy(f"{path}{beside}", site / f"m.onnx{beside}")
    pixels = data_sets.bundled("test", NANO).pixels[3, 0].numpy()
    Image.fromarray(pixels).resize((90, 61)).save(site / "shirt.png")
    return site / "m.onnx"


@pytest.fixture(scope="module")
def runtime(site):
    try:
        paths = web_runtime(None)
    except NasvitEdgeError as error:
        require_tool(f"onnxruntime-web ({error})", False)
    for name, path in paths.items():
        (site / "runtime").mkdir(exist_ok=True)
        shutil.copy(path, site / "runtime" / name)


def _choose(browser, address, query, picture="shirt.png"):
    browser.open(f"{address}/classify.html?{query}")
    browser.until("document.readyState === 'complete'")
    browser.value(CHOSEN.replace("NAME", picture))
    return browser.until(f"['done', 'failed'].includes({STATE}) && {STATE}", 60)


def test_the_page_says_what_the_program_in_python_says(site, address, browser, model, runtime, capsys):
    assert _choose(browser, address, "model=m.onnx&runtime=runtime") == "done"
    rows = "[...document.querySelectorAll('#classes tr')].map((row) => [...row.children].map((cell) => cell.textContent))"
    shown = browser.value(rows)
    assert loaded.program("onnx").main([str(model), str(site / "shirt.png")]) == 0
    printed = [line.split("%") for line in capsys.readouterr().out.splitlines()[:-1]]
    assert [label for _, label in shown] == [label.strip() for _, label in printed]
    for (share, _), (said, _) in zip(shown, printed, strict=True):
        assert abs(float(share.rstrip("%")) - float(said)) <= 0.11  # both are rounded


@pytest.mark.parametrize(
    ("query", "picture", "words"),
    [
        ("model=absent.onnx&runtime=runtime", "shirt.png", "absent.onnx.json cannot be read"),
        ("model=m.onnx&runtime=nowhere", "shirt.png", "npm pack onnxruntime-web"),
        ("model=older.onnx&runtime=runtime", "shirt.png", "an older nasvit-edge wrote it; export it again"),
        ("model=other.onnx&runtime=runtime", "shirt.png", 'filter "lanczos"'),
        ("model=torn.onnx&runtime=runtime", "shirt.png", "torn.onnx.json is damaged"),
        ("model=m.onnx&runtime=runtime", "classify.js", "cannot read the image"),
    ],
)
def test_what_is_wrong_is_one_line_on_the_page(site, address, browser, model, runtime, query, picture, words):
    sidecar = files.read_json(artifact.sidecar_path(model), "sidecar")
    known = json.loads(sidecar["metadata"]["preparation"])
    other = json.dumps(known | {"filter": "lanczos"})
    metadata = {key: value for key, value in sidecar["metadata"].items() if key != "preparation"}
    files.write_json(site / "older.onnx.json", {"metadata": metadata})
    files.write_json(site / "other.onnx.json", {"metadata": metadata | {"preparation": other}})
    (site / "torn.onnx.json").write_text('{"metadata": {')
    assert _choose(browser, address, query, picture) == "failed"
    text = browser.value(TEXT)
    assert words in text
    assert "\n" not in text
