"""Image files: every kind becomes RGB bytes, and whatever is wrong with one is one line with its path."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import get_args

import numpy as np
import pytest
import torch
from conftest import one_line, only_user_errors, require_module
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.data_sets import decoding, prepare_image
from nasvit_edge.data_sets.decoding import check_header, decode, fitted, turned
from nasvit_edge.errors import DataError
from nasvit_edge.preparation import Filter, Preparation, shorter_side

pillow = require_module("PIL.Image")
v2 = require_module("torchvision.transforms.v2")


def noise(width: int, height: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rule(size: int, share: float = 1.0, how: Filter = "bicubic") -> Preparation:
    """What keeps the middle `size` x `size`, a share of the shorter side."""
    side = (size, size)
    resize = shorter_side(size, share)
    return Preparation(resize=resize, crop=side, size=side, mean=(0.5,) * 3, std=(0.25,) * 3, filter=how)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "image.png"


# -- sizes ----------------------------------------------------------------------------------------------


def test_an_image_of_the_size_is_taken_as_it_is_where_it_is_seen_whole(path):
    pixels = noise(32, 32)
    path.write_bytes(encoded(pillow.fromarray(pixels), "PNG"))
    assert np.array_equal(decode(str(path), rule(32)), pixels.transpose(2, 0, 1))


def _rows_first(side, how):
    """torchvision's Resize; of tall images Pillow 13 would resize the columns first, which no version before did."""
    mode = v2.InterpolationMode(how)
    resize = v2.Resize(side, interpolation=mode)

    def resized(image):
        if image.height <= 2 * image.width:
            return resize(image)
        wide, high = side, int(side * image.height / image.width)
        for size in ((image.height, wide), (high, wide)):
            image = v2.functional.resize(image, size, interpolation=mode)
        return image

    return resized


@settings(max_examples=60)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(4, 48),
    st.sampled_from([1.0, 0.875, 0.5]),
    st.sampled_from(get_args(Filter)),
)
def test_sizes_are_resized_and_cropped_as_torchvision_does(tmp_path_factory, width, height, size, share, how):
    path = tmp_path_factory.getbasetemp() / "any_size.png"
    image = pillow.fromarray(noise(width, height))
    path.write_bytes(encoded(image, "PNG"))
    kept = rule(size, share, how)
    actual = decode(str(path), kept)
    steps = [_rows_first(shorter_side(size, share), how), v2.CenterCrop(size), v2.PILToTensor()]
    assert torch.equal(torch.from_numpy(actual), v2.Compose(steps)(image))
    pixels = np.asarray(image).transpose(2, 0, 1)
    assert np.array_equal(fitted(pixels, kept), actual)


@pytest.mark.parametrize("side", [20, 150])  # it shrinks, it grows
def test_bilinear_is_pillows_own(path, side):
    image = pillow.fromarray(noise(70, 50))
    path.write_bytes(encoded(image, "PNG"))
    wide = side * 70 // 50
    left = round((wide - side) / 2)
    whole = image.resize((wide, side), pillow.Resampling.BILINEAR)
    expected = np.asarray(whole.crop((left, 0, left + side, side))).transpose(2, 0, 1)
    assert np.array_equal(decode(str(path), rule(side, how="bilinear")), expected)
    assert not np.array_equal(decode(str(path), rule(side)), expected)


@pytest.mark.parametrize("side", [(1, 30_000), (30_000, 1), (3, 9000)])
def test_a_thin_image_takes_no_more_memory_than_what_is_kept(path, side, monkeypatch):
    """A PNG of 91 bytes, 1 x 3000, once became 256 x 768000 pixels."""
    path.write_bytes(encoded(pillow.new("RGB", side, (200, 100, 50)), "PNG"))
    sizes = []
    real = pillow.Image.resize
    monkeypatch.setattr(
        pillow.Image, "resize", lambda image, size, *a: (sizes.append(size), real(image, size, *a))[1]
    )
    pixels = decode(str(path), rule(224, 0.875))
    assert (pixels == np.array([200, 100, 50])[:, None, None]).all()
    assert all(width * height <= 224 * 224 for width, height in sizes)


@pytest.mark.parametrize("how", get_args(Filter))
def test_a_thin_image_is_the_same_as_one_that_is_resized_whole(path, how, monkeypatch):
    image = pillow.fromarray(noise(12, 500)).resize((12, 500))
    path.write_bytes(encoded(image, "PNG"))
    whole = decode(str(path), rule(48, 0.75, how))
    monkeypatch.setattr(prepare_image, "_RESIZED", 0)
    thin = decode(str(path), rule(48, 0.75, how))
    assert np.abs(whole.astype(int) - thin).max() <= 1  # Pillow holds the edges of a part in single precision


def test_a_photo_of_108_megapixels_is_taken(tmp_path):
    path = tmp_path / "photo.jpg"
    pillow.new("L", (12_000, 9_000), 180).save(path, quality=30)
    assert check_header(str(path)) == (4500, 6000)
    assert np.abs(decode(str(path), rule(32)).astype(int) - 180).max() <= 1


def test_a_large_jpeg_is_decoded_no_smaller_than_it_is_needed(path, monkeypatch):
    monkeypatch.setattr(prepare_image, "LARGE", 100)
    pillow.new("RGB", (400, 300)).save(path, "JPEG")
    assert [prepare_image.opened(path, side).size for side in (300, 150, 75, 1)] == [
        (400, 300),
        (200, 150),
        (100, 75),
        (50, 38),
    ]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [(10_000, 10_000), (60_000, 60_000)])
def test_too_many_megapixels_are_told(path, side):
    small = encoded(pillow.new("RGB", (1, 1)), "PNG")
    path.write_bytes(_png_of(*side) + small[small.index(b"IDAT") - 4 :])
    with pytest.raises(DataError, match=r"megapixels.*at most 90 megapixels.*make it smaller") as caught:
        decode(str(path))
    one_line(caught)


# -- upright --------------------------------------------------------------------------------------------

LIE = {  # how the upright image was stored, that EXIF's number makes it upright again
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x, -1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", LIE)
def test_an_image_is_turned_upright_as_exif_says(tmp_path, kind, orientation):
    pixels, path = noise(9, 6), tmp_path / f"x.{kind.lower()}"
    stored = pillow.fromarray(np.ascontiguousarray(LIE[orientation](pixels)))
    exif = pillow.Exif()
    exif[0x0112] = orientation
    stored.save(path, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(decode(str(path)), pixels.transpose(2, 0, 1))
    assert check_header(str(path)) == (6, 9)
    mask = np.ascontiguousarray(LIE[orientation](pixels)[..., 0])
    assert np.array_equal(turned(mask, orientation), pixels[..., 0])


@settings(max_examples=40)
@given(st.binary(max_size=60))
def test_damaged_exif_leaves_the_image_as_it_is(tmp_path_factory, exif):
    path = tmp_path_factory.getbasetemp() / "exif.png"
    pixels = noise(4, 4)
    pillow.fromarray(pixels).save(path, "PNG", exif=b"Exif\0\0" + exif)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = decode(str(path))
    assert sorted(image.ravel()) == sorted(pixels.ravel())


def test_without_a_size_the_whole_image_is_returned(path):
    pixels = noise(7, 5)
    path.write_bytes(encoded(pillow.fromarray(pixels), "PNG"))
    assert np.array_equal(decode(str(path)), pixels.transpose(2, 0, 1))


# -- kinds of pixels ------------------------------------------------------------------------------------


def test_grey_images_become_rgb(path):
    pixels = noise(6, 6, 1)[:, :, 0]
    path.write_bytes(encoded(pillow.fromarray(pixels), "PNG"))
    assert all(np.array_equal(channel, pixels) for channel in decode(str(path), rule(6)))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_upper_byte(path, kind):
    values = np.array([[0, 255, 256], [0x7FFF, 0x8000, 0xFFFF], [1, 2, 3]], np.uint16)
    path.write_bytes(encoded(pillow.fromarray(values), kind))
    assert decode(str(path), rule(3))[1].tolist() == [[0, 0, 1], [127, 128, 255], [0, 0, 0]]


def test_cmyk_becomes_rgb(path):
    path.write_bytes(encoded(pillow.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    red, green, blue = decode(str(path), rule(8))
    assert red.min() > 240
    assert max(green.max(), blue.max()) < 15


@pytest.mark.parametrize("transparency", [0, bytes([0, 128, 255])])
def test_a_palette_with_transparency_becomes_rgb_without_a_warning(path, transparency):
    image = pillow.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    path.write_bytes(encoded(image, "PNG", transparency=transparency))
    second = [40, 50, 60] if transparency == 0 else [147, 152, 157]  # half of it over white
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(str(path))[:, 0].T.tolist() == [[255, 255, 255], second]


@pytest.mark.parametrize(("mode", "value"), [("RGBA", (9, 8, 7, 0)), ("LA", (9, 0)), ("LA", (255, 255))])
def test_white_shows_through_where_an_image_is_transparent(path, mode, value):
    path.write_bytes(encoded(pillow.new(mode, (4, 4), value), "PNG"))
    assert decode(str(path), rule(4))[:, 0, 0].tolist() == [255, 255, 255]


def test_one_bit_is_black_or_white(path):
    pixels = noise(8, 8, 1)[..., 0] > 127
    path.write_bytes(encoded(pillow.fromarray(pixels), "PNG"))
    assert np.array_equal(decode(str(path))[1], np.where(pixels, 255, 0))


def test_floating_point_pixels_are_refused(tmp_path):
    path = tmp_path / "image.tif"
    path.write_bytes(encoded(pillow.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF"))
    with pytest.raises(DataError, match="floating-point") as caught:
        decode(str(path), rule(4))
    one_line(caught)


# -- damage ---------------------------------------------------------------------------------------------


def _png_of(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    crc = zlib.crc32(chunk).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + chunk + crc


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    "content",
    [b"", b"no image", b"\xff\xd8\xff", _png_of(60_000, 60_000), _png_of(10_000, 10_000), _png_of(0, 5)],
    ids=["nothing", "text", "head", "bomb", "large", "no width"],
)
def test_what_is_no_image_is_named(path, content):
    path.write_bytes(content)
    for function in (decode, check_header):
        with pytest.raises(DataError, match=r"image\.png.*cannot be read") as caught:
            function(str(path))
        one_line(caught)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="absent") as caught:
        decode(str(tmp_path / "absent.png"))
    one_line(caught)


WHOLE = {
    "JPEG": encoded(pillow.fromarray(noise(32, 32)), "JPEG"),
    "PNG": encoded(pillow.fromarray(noise(32, 32)), "PNG"),
    "GIF": encoded(pillow.fromarray(noise(32, 32)), "GIF"),
    "BMP": encoded(pillow.fromarray(noise(32, 32)), "BMP"),
    "WEBP": encoded(pillow.fromarray(noise(32, 32)), "WEBP"),
    "TIFF": encoded(pillow.fromarray(noise(32, 32)), "TIFF"),
}


@settings(max_examples=100)
@given(st.sampled_from(["JPEG", "PNG", "BMP", "WEBP"]), st.floats(0, 0.95))
def test_a_cut_image_is_one_line(tmp_path_factory, kind, share):
    path = tmp_path_factory.getbasetemp() / "cut.jpg"
    path.write_bytes(WHOLE[kind][: int(share * len(WHOLE[kind]))])
    with pytest.raises(DataError, match=r"cut\.jpg") as caught:
        decode(str(path), rule(32))
    one_line(caught)


@settings(max_examples=250)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_any_damage_gives_an_image_or_one_line(tmp_path_factory, kind, data):
    content = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.jpg"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = only_user_errors(decode, str(path), rule(20))
    assert isinstance(outcome, str) or (outcome.shape == (3, 20, 20) and outcome.dtype == np.uint8)


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_random_bytes_are_one_line(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "random.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        decode(str(path), rule(20))
    one_line(caught)


# -- HEIF -----------------------------------------------------------------------------------------------


def test_heif_without_its_package_says_which(path, monkeypatch):
    path.write_bytes((24).to_bytes(4, "big") + b"ftypheic" + bytes(12))
    decoding.pillow()  # registers what there is
    monkeypatch.setattr(pillow, "ID", [kind for kind in pillow.ID if kind != "HEIF"])
    with pytest.raises(DataError, match=r"it is HEIF.*pip install 'nasvit-edge\[heif\]'") as caught:
        decode(str(path))
    one_line(caught)


def test_heif_is_read_where_its_package_is_installed(tmp_path):
    require_module("pillow_heif")
    from nasvit_edge.data_sets.walking import endings

    image = decoding.pillow().fromarray(np.full((40, 60, 3), 90, np.uint8))
    for name in ("1.heic", "called.jpg"):  # phones do that, too
        image.save(tmp_path / name, format="HEIF")
        pixels = decode(str(tmp_path / name))
        assert pixels.shape == (3, 40, 60)
        assert abs(pixels.astype(int) - 90).max() < 8
    assert ".heic" in endings()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGB", "RGBA", "CMYK"])
def test_an_uncompressed_tiff_is_turned_as_it_says(path, mode, orientation):
    """Pillow 12 and 13 scramble those of some modes."""
    stored = pillow.fromarray(noise(5, 3)).convert("L" if mode == "I;16" else mode)
    image = pillow.fromarray(np.asarray(stored).astype(np.uint16) * 256) if mode == "I;16" else stored
    exif = pillow.Exif()
    exif[0x0112] = orientation
    image.save(path, "TIFF", exif=exif)
    expected = prepare_image.turned(stored.convert("RGB"), orientation)
    assert np.array_equal(decode(str(path)).transpose(1, 2, 0), np.asarray(expected))


@pytest.mark.parametrize("name", ["image.jpg", "image.png", "image.eps"])
def test_postscript_is_no_image_whatever_it_is_called(tmp_path, name):
    """Pillow would have Ghostscript run it."""
    path = tmp_path / name
    path.write_bytes(encoded(pillow.fromarray(noise(32, 32)), "EPS"))
    with pytest.raises(DataError, match="not an image") as caught:
        decode(str(path), rule(32))
    one_line(caught)
