"""The programs in JavaScript, Kotlin and Swift compute what `golden.json` says, and of any image what Python does."""

from __future__ import annotations

import io
import itertools
import json
import math
import random
import re
import subprocess
from typing import get_args

import languages
import numpy as np
import pictures
import pytest
from conftest import require_module, require_program
from PIL import Image

from nasvit_edge import files
from nasvit_edge.data_sets import prepare_image
from nasvit_edge.export import dense
from nasvit_edge.preparation import Filter
from nasvit_edge.space import load_space

EXPORT = files.shipped("export")
GOLDEN = json.loads((EXPORT / "golden.json").read_text())
EVERY = ("javascript", "kotlin", "swift")
FILTERS = get_args(Filter)


@pytest.fixture(scope="module")
def javascript(tmp_path_factory):
    return languages.javascript(tmp_path_factory.mktemp("javascript"))


@pytest.fixture(scope="module")
def kotlin(tmp_path_factory):
    return languages.kotlin(tmp_path_factory)


@pytest.fixture(scope="module")
def swift(tmp_path_factory):
    return languages.swift(tmp_path_factory.mktemp("swift"))


@pytest.fixture(params=["javascript", pytest.param("kotlin", marks=pytest.mark.slow), "swift"])
def language(request):
    program = request.getfixturevalue(request.param)
    program.name = request.param
    return program


def _text(value):
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _line(name, *fields):
    return " ".join([name, *map(_text, fields)])


# section -> (line, expected, tolerance) of a case, languages that have it
SECTIONS = {
    "geometry": (
        lambda c: _line("geometry", [c["width"], c["height"]], c["resize"], c["crop"]),
        lambda c: [*c["resized"], c["left"], c["top"]],
        0,
        EVERY,
    ),
    "share": (
        lambda c: _line("share", [c["width"], c["height"], c["side"]]),
        lambda c: [c["share"]],
        0,
        ("kotlin", "swift"),
    ),
    "over": (lambda c: _line("over", c["rgba"], c["background"]), lambda c: c["rgb"], 0, ("kotlin", "swift")),
    "bicubic": (
        lambda c: _line("bicubic", c["values"], c["size"], c["first"], len(c["resized"])),
        lambda c: c["resized"],
        0,
        EVERY,
    ),
    "bicubic_floats": (
        lambda c: _line("floats", c["values"], c["size"]),
        lambda c: c["resized"],
        1e-3,
        EVERY,
    ),
    "normalise": (
        lambda c: _line("normalise", c["rgb"], c["mean"], c["std"], c["range"]),
        lambda c: c["values"],
        3e-6,
        ("javascript", "kotlin"),
    ),
    "softmax": (
        lambda c: _line("softmax", c["logits"]),
        lambda c: c["probabilities"],
        1e-6,
        ("javascript", "kotlin"),
    ),
    "quantise": (
        lambda c: _line("quantise", c["values"], c["scale"], c["zero_point"]),
        lambda c: c["quantised"],
        0,
        ("kotlin",),
    ),
    "nearest": (lambda c: _line("nearest", c["length"], c["size"]), lambda c: c["places"], 0, ("kotlin",)),
    "mix": (lambda c: _line("mix", c["pixel"], c["colour"]), lambda c: c["mixed"], 0, ("kotlin",)),
}


@pytest.mark.parametrize("section", SECTIONS)
def test_it_computes_what_the_golden_file_says(language, section):
    line, expected, tolerance, having = SECTIONS[section]
    if language.name in having:
        actual = language.numbers(map(line, GOLDEN[section]))
        for values, case in zip(actual, GOLDEN[section], strict=True):
            np.testing.assert_allclose(values, expected(case), rtol=0, atol=tolerance, err_msg=str(case))


def test_the_five_largest_are_in_order(language):
    if language.name != "swift":
        actual = language.numbers(_line("five", case["logits"]) for case in GOLDEN["softmax"])
        assert actual == [case["top_five"] for case in GOLDEN["softmax"]]


def test_tensors_of_eight_bits_are_read(language):
    if language.name == "kotlin":
        cases = GOLDEN["quantise"]
        lines = (_line("dequantise", c["quantised"], c["scale"], c["zero_point"]) for c in cases)
        for actual, case in zip(language.numbers(lines), cases, strict=True):
            np.testing.assert_allclose(actual, case["dequantised"], atol=2e-6)


def test_pixels_of_three_become_three_planes(language):
    if language.name == "javascript":
        assert language.numbers(["planes 1,2,3,4,5,6"]) == [[1, 4, 2, 5, 3, 6]]


# --- whole images -------------------------------------------------------------------------------------------------


def _asked(name, path, rgba, preparation):
    path.write_bytes(rgba.tobytes())
    size = [rgba.shape[1], rgba.shape[0]]
    known = {"filter": "bicubic"} | preparation
    return _line(name, path, size, *(known[key] for key in ("resize", "crop", "size", "filter")))


def test_the_golden_image_is_prepared(language, tmp_path):
    (case,) = GOLDEN["image"]
    rgba = np.array(case["rgba"], np.uint8).reshape(case["height"], case["width"], 4)
    if language.name == "javascript":  # a browser's canvas has put it over the background
        below = Image.new("RGBA", rgba.shape[1::-1], (255, 255, 255, 255))
        below.alpha_composite(Image.fromarray(rgba))
        rgba = np.asarray(below)
    crop, values = language.numbers(
        _asked(name, tmp_path / "image", rgba, case["preparation"]) for name in ("crop", "values")
    )
    assert crop == case["crop"]
    mean, std = (np.array(case["preparation"][key]) for key in ("mean", "std"))
    by_name = (np.array(values).reshape(-1, 3) / 255 - mean) / std
    np.testing.assert_allclose(by_name.ravel(), case["values"], atol=2e-5)
    if language.name == "swift":
        assert language.numbers([_asked("bytes", tmp_path / "image", rgba, case["preparation"])]) == [
            case["bytes"]
        ]


def _drawn(number):
    """An image and what is to be done to it: thin, small and large ones, classifiers' and segmenters'."""
    draw = random.Random(number)
    width, height = (round(math.exp(draw.uniform(0, math.log(700)))) for _ in range(2))
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 4), np.uint8)
    pixels[..., 3] = 255
    size = [draw.randint(1, 40), draw.randint(1, 40)]
    if number % 4 == 0:
        return pixels, {"resize": size, "crop": size, "size": size}
    side = draw.randint(1, 40)
    resize = side + draw.choice((0, 0, 1, 2, 5, 9))
    return pixels, {"resize": resize, "crop": [side, side], "size": draw.choice((size, [side, side]))}


@pytest.mark.parametrize("how", FILTERS)
def test_any_image_is_cropped_to_the_bytes_that_python_has(language, how, tmp_path):
    drawn = map(_drawn, range(60))
    cases = [(pixels, wanted | {"filter": how}) for pixels, wanted in drawn]
    lines = [_asked("crop", tmp_path / f"{i}", *case) for i, case in enumerate(cases)]
    values = [line.replace("crop", "values", 1) for line in lines]
    actual = language.numbers([*lines, *values])
    for crop, floats, (pixels, wanted) in zip(actual[:60], actual[60:], cases, strict=True):
        expected = np.asarray(prepare_image.fitted(Image.fromarray(pixels[..., :3]), wanted))
        np.testing.assert_array_equal(np.array(crop).reshape(expected.shape), expected, str(wanted))
        exact = prepare_image.input_values(expected, wanted)
        np.testing.assert_allclose(np.array(floats).reshape(exact.shape), exact, atol=2e-3)


# --- what only one of them does itself -----------------------------------------------------------------------------


@pytest.mark.slow
def test_kotlin_leaves_profiles_out_and_the_picture_whole(kotlin, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    plain = Image.fromarray(pixels)
    paths = {}
    for kind, profile in itertools.product(("JPEG", "PNG", "WEBP"), (None, pictures.linear_profile())):
        stream = io.BytesIO()
        plain.save(stream, kind, icc_profile=profile)
        paths[kind, profile is None] = tmp_path / f"{kind}-{profile is None}"
        paths[kind, profile is None].write_bytes(stream.getvalue())
    numbers = kotlin.numbers(_line("strip", path) for path in paths.values())
    for (key, path), content in zip(paths.items(), numbers, strict=True):
        stripped, before = bytes(map(int, content)), path.read_bytes()
        if key[0] == "WEBP" or key[1]:
            assert stripped == before
        else:
            assert len(stripped) < len(before)
            with Image.open(io.BytesIO(stripped)) as image, Image.open(path) as whole:
                assert "icc_profile" not in image.info
                np.testing.assert_array_equal(np.asarray(image), np.asarray(whole))


@pytest.mark.slow
def test_kotlin_takes_any_damaged_file_for_what_it_is(kotlin, tmp_path):
    draw, paths = random.Random(1), []
    for number in range(200):
        head = draw.choice([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b""])
        path = tmp_path / str(number)
        path.write_bytes(head + draw.randbytes(draw.randint(1, 60)))
        paths.append(path)
    for path, content in zip(paths, kotlin.numbers(_line("strip", p) for p in paths), strict=True):
        assert len(content) <= path.stat().st_size


@pytest.mark.slow
def test_kotlin_takes_the_largest_of_logits_as_we_do(kotlin):
    rng = np.random.default_rng(3)
    grids = [(2, 3, 5, 7), (4, 4, 9, 3), (1, 1, 2, 2), (3, 5, 3, 5)]
    logits = [rng.normal(size=(1, 4, *grid[:2])).astype(np.float32) for grid in grids]
    lines = (
        _line("largest", values[0].transpose(1, 2, 0).ravel().tolist(), list(grid))
        for values, grid in zip(logits, grids, strict=True)
    )
    for actual, values, grid in zip(kotlin.numbers(lines), logits, grids, strict=True):
        assert actual == dense.labels_of(values, grid[2:]).ravel().tolist()


def test_swift_turns_images_upright(swift):
    for case in GOLDEN["orientation"]:
        upright = case["upright"]
        size = [len(upright[0]), len(upright)]
        (places,) = swift.numbers([_line("place", size, case["orientation"])])
        pairs = zip(places[::2], places[1::2], strict=True)
        turned = [case["stored"][int(y)][int(x)] for x, y in pairs]
        assert turned == list(itertools.chain(*upright))


def _layouts(rng):
    """(bytes, layout fields, RGB expected) of every way in which ImageIO may hold 5 x 3 pixels."""
    rgba = rng.integers(0, 256, (3, 5, 4), np.uint8)
    rgb, grey, ink = rgba[..., :3], rgba[..., :1], rgba
    below = Image.new("RGBA", (5, 3), (255, 255, 255, 255))
    below.alpha_composite(Image.fromarray(rgba))
    over = np.asarray(below)[..., :3]
    plain = np.asarray(Image.fromarray(grey[..., 0]).convert("RGB"))
    opaque = np.dstack([rgb, np.full((3, 5), 255, np.uint8)])
    wide = np.dstack([rgb, rgba[..., ::-1][..., :3]])[..., [0, 3, 1, 4, 2, 5]]  # upper bytes first
    bits = np.packbits(grey[..., 0] > 127, 1)
    ones = np.repeat((grey > 127) * np.uint8(255), 3, 2)
    fours = np.zeros((3, 3), np.uint8)
    for x in range(5):
        fours[:, x // 2] |= (grey[:, x, 0] >> 4) << (4 * (1 - x % 2))
    sixteen = np.repeat((grey >> 4) * np.uint8(17), 3, 2)
    palette = rng.integers(0, 256, (16, 3), np.uint8)
    shown = palette[grey[..., 0] >> 4]
    printed = np.asarray(Image.fromarray(ink, "CMYK").convert("RGB"))
    yield rgb, [8, 3, 15, 1], "rgb", "none", rgb
    yield opaque, [8, 4, 20, 1], "rgb", "none", rgb
    yield opaque[..., [3, 0, 1, 2]], [8, 4, 20, 1], "rgb", "none,first", rgb
    yield opaque[..., [2, 1, 0, 3]], [8, 4, 20, 1], "rgb", "none,first,reversed", rgb
    yield rgba, [8, 4, 20, 1], "rgb", "straight", over
    yield rgba[..., [3, 0, 1, 2]], [8, 4, 20, 1], "rgb", "straight,first", over
    yield wide, [16, 3, 30, 1], "rgb", "none", rgb
    yield wide[..., [1, 0, 3, 2, 5, 4]], [16, 3, 30, 1], "rgb", "none,little", rgb
    yield grey, [8, 1, 5, 1], "grey", "none", plain
    yield 255 - grey, [8, 1, 5, 1], "grey", "none,inverted", plain
    yield bits, [1, 1, 1, 1], "grey", "none", ones
    yield fours, [4, 1, 3, 1], "grey", "none", sixteen
    yield fours, [4, 1, 3, 1], f"indexed {_text(palette.ravel().tolist())}", "none", shown
    yield ink, [8, 4, 20, 1], "cmyk", "none", printed
    yield rgb, [8, 3, 15, 6], "rgb", "none", np.rot90(rgb, -1)


def test_swift_reads_pixels_however_they_are_held(swift, tmp_path):
    for number, (content, layout, kind, flags, expected) in enumerate(_layouts(np.random.default_rng(5))):
        (tmp_path / str(number)).write_bytes(np.ascontiguousarray(content).tobytes())
        name, _, palette = kind.partition(" ")
        line = _line("layout", tmp_path / str(number), [5, 3], layout, name, flags, palette or "-")
        (actual,) = swift.numbers([line])
        assert actual == np.asarray(expected).ravel().tolist(), line


def test_swift_over_premultiplied_pixels_is_within_a_level(swift, tmp_path):
    rgba = np.random.default_rng(6).integers(0, 256, (1, 64, 4), np.uint8)
    held = rgba.copy()
    held[..., :3] = (rgba[..., :3].astype(int) * rgba[..., 3:] + 127) // 255
    (tmp_path / "held").write_bytes(held.tobytes())
    below = Image.new("RGBA", (64, 1), (255, 255, 255, 255))
    below.alpha_composite(Image.fromarray(rgba))
    line = _line("layout", tmp_path / "held", [64, 1], [8, 4, 256, 1], "rgb", "premultiplied", "-")
    (actual,) = swift.numbers([line])
    assert np.abs(np.array(actual) - np.asarray(below)[..., :3].ravel()).max() <= 1


def test_descriptions_are_read_and_what_is_not_done_is_refused(language, tmp_path):
    path = tmp_path / "preparation"

    def told(preparation):
        path.write_text(json.dumps(preparation))
        return ",".join(language.ask([_line("described", path)])[0])

    for space, expected in (("nasvit", "256,224x224,192x192"), ("nano-dense", "192x256,192x256,192x256")):
        preparation = json.loads(json.dumps(load_space(space).preparation(192).to_dict()))
        for how in FILTERS:
            line = told(preparation | {"filter": how})
            assert line.startswith(expected)
            assert line.endswith(how)
    for key, value in (
        ("filter", "lanczos"),
        ("orientation", "none"),
        ("color", "BGR"),
        ("antialias", False),
    ):
        line = told(preparation | {key: value})
        assert re.match(f"error: the model wants images with(out)? {key}", line)
        assert line.endswith("use the program that was bundled with the model") or "page that was" in line


def test_a_page_refuses_a_damaged_description(javascript, tmp_path):
    known = json.loads(json.dumps(load_space("nasvit").preparation(192).to_dict()))
    broken = [
        {"crop": [300, 10]},
        {"resize": 0},
        {"std": [1, 1, 0]},
        {"mean": None},
        {"background": [0, 0, 256]},
    ]
    texts = ["", "{", "null", "[]", "3", *(json.dumps(known | change) for change in broken)]
    lines = []
    for number, text in enumerate(texts):
        (tmp_path / str(number)).write_text(text)
        lines.append(_line("described", tmp_path / str(number)))
    for text, words in zip(texts, javascript.ask(lines), strict=True):
        assert ",".join(words).startswith("error: "), text
        assert "export it again" in ",".join(words) or text in ("null", "[]", "3"), text


# --- where no compiler is: they parse, and their short functions compute the same -----------------------------------

SOURCES = {
    **{path.name: path for path in sorted((EXPORT / "coreml").glob("*.swift"))},
    **{path.name: path for path in sorted((EXPORT / "tflite").glob("*.kt"))},
}
NAMES = {
    "PrepareImage": {"geometry", "half", "cubic", "taps", "cropped", "inputValues"},
    "Classify": {"topFive", "classify"},
    "Segment": {"nearest", "segment", "overlay"},
}


@pytest.mark.parametrize("name", SOURCES)
def test_it_parses_without_an_error(name):
    library = require_module("tree_sitter")
    grammar = require_module("tree_sitter_swift" if name.endswith(".swift") else "tree_sitter_kotlin")
    parser = library.Parser(library.Language(grammar.language()))
    waiting, wrong, names = [parser.parse(SOURCES[name].read_bytes()).root_node], [], set()
    while waiting:
        node = waiting.pop()
        if node.type == "ERROR" or node.is_missing:
            wrong.append((node.start_point[0] + 1, node.text[:60]))
        if node.type == "function_declaration":
            names.add(node.child_by_field_name("name").text.decode())
        waiting += node.children
    assert wrong == []
    assert NAMES[name.partition(".")[0]] <= names


def test_the_programs_for_browsers_parse(tmp_path):
    for path in sorted((EXPORT / "onnx").glob("*.js")):
        module = tmp_path / f"{path.stem}.mjs"
        module.write_bytes(path.read_bytes())
        subprocess.run([require_program("node"), "--check", str(module)], check=True)


def _formula(source, pattern):
    """The expression of a source, for Python: whole numbers are divided by `//`."""
    (match,) = re.findall(pattern, source)
    match = re.sub(r"\bshr\b", ">>", match.replace("(free shr 1 and 1)", "((free shr 1) & 1)"))
    return match.replace("/", "//")


PREPARES = [EXPORT / "coreml" / "PrepareImage.swift", EXPORT / "tflite" / "PrepareImage.kt"]


@pytest.mark.parametrize("path", PREPARES, ids=lambda p: p.name)
def test_half_a_pixel_goes_to_the_even_side(path):
    formula = _formula(path.read_text(), r"fun\w* half\(.*\n?.*?(\(free \+ \(.+\) (?:>>|shr) 1)")
    for free in range(40):
        assert eval(formula, {}, {"free": free}) == round(free / 2)


@pytest.mark.parametrize("path", PREPARES, ids=lambda p: p.name)
def test_both_kernels_are_those_of_python(path):
    source = path.read_text()
    near, far = (
        r"\(\(a \+ 2\) \* x - \(a \+ 3\)\) \* x \* x \+ 1",
        r"\(\(\(x - 5\) \* x \+ 8\) \* x - 4\) \* a",
    )
    (near,), (far,) = re.findall(near, source), re.findall(far, source)
    assert {float(a) for a in re.findall(r"cubic\(.+?(-0\.\d+)\)", source)} == {-0.5, -0.75}
    for x in np.linspace(0, 2, 41):
        actual = eval(near if x < 1 else far, {}, {"x": x, "a": -0.75})
        assert actual == pytest.approx(float(prepare_image._cubic(x)), abs=1e-12)


@pytest.mark.parametrize("path", PREPARES, ids=lambda p: p.name)
@pytest.mark.parametrize("case", GOLDEN["geometry"], ids=lambda c: f"{c['width']}x{c['height']}")
def test_the_whole_image_is_resized_to_the_same(path, case):
    """Of the side along which it is resized by its share."""
    source = path.read_text()
    formulas = re.findall(r"resize\[0\](?:\.toLong\(\))? \* (?:width|height) / shorter", source)
    assert len(formulas) == 2
    if not isinstance(case["resize"], list):
        values = {"resize": [case["resize"]], "shorter": min(case["width"], case["height"])}
        values |= {key: case[key] for key in ("width", "height")}
        sides = [eval(f.replace(".toLong()", "").replace("/", "//"), {}, values) for f in formulas]
        assert sides == case["resized"]


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("Classify.swift", "probabilities[first] > probabilities[second]"),
        ("Classify.swift", "return first < second"),
        ("Classify.swift", "order.prefix(5)"),
        ("PrepareImage.swift", "floor($0 + 0.5)"),
        ("PrepareImage.swift", "let sum = product + 128 return (sum + (sum >> 8)) >> 8"),
        ("PrepareImage.swift", "var total = 1 << 21"),
        ("Segment.swift", "(Double(place) + 0.5) * Double(length) / Double(size) - 0.5"),
        ("Segment.swift", "UInt8((Int(bytes[place]) + colour[channel] + 1) / 2)"),
        ("Segment.swift", "left * (1 - column.share) + right * column.share"),
        ("Classify.kt", "exp(logits[it] - largest)"),
        ("Classify.kt", "sortedByDescending { probabilities[it] }.take(5)"),
        ("Classify.kt", "(floor(value / scale + 0.5f).toInt() + zeroPoint).coerceIn(-128, 127)"),
        ("Classify.kt", "(value - zeroPoint) * scale"),
        (
            "PrepareImage.kt",
            "(values[it] * ((high - low) / 255) + low - preparation.mean[it % 3]) / preparation.std[it % 3]",
        ),
        ("PrepareImage.kt", "(sum + (sum shr 8) shr 8) shl shift"),
        ("PrepareImage.kt", "var total = 1 shl 21"),
        ("Segment.kt", "((place + 0.5) * length / size - 0.5).coerceIn(0.0, length - 1.0)"),
        ("Segment.kt", "result or ((sum + 1) / 2 shl shift)"),
        ("Segment.kt", "left * (1 - column.share) + right * column.share"),
    ],
)
def test_the_formulas_are_those_of_the_golden_vectors(name, formula):
    text = re.sub(r"//.*", "", SOURCES[name].read_text())
    assert formula in " ".join(text.split())
