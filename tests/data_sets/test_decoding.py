"""Image files: every kind becomes RGB bytes, and whatever is wrong with one is one line with its path."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from conftest import one_line, only_user_errors, require_module
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.data_sets.decoding import check_header, decode
from nasvit_edge.errors import DataError

pillow = require_module("PIL.Image")
v2 = require_module("torchvision.transforms.v2")


def noise(width: int, height: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "image.png"


# -- sizes ----------------------------------------------------------------------------------------------


def test_an_image_of_the_size_is_taken_as_it_is(path):
    pixels = noise(32, 32)
    path.write_bytes(encoded(pillow.fromarray(pixels), "PNG"))
    assert np.array_equal(decode(str(path), 32), pixels.transpose(2, 0, 1))


@settings(max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(4, 48))
def test_other_sizes_are_resized_and_cropped_as_torchvision_does(tmp_path_factory, width, height, size):
    path = tmp_path_factory.getbasetemp() / "any_size.png"
    image = pillow.fromarray(noise(width, height))
    path.write_bytes(encoded(image, "PNG"))
    found = decode(str(path), size)
    assert found.shape == (3, size, size)
    if (width, height) != (size, size):
        bicubic = v2.InterpolationMode.BICUBIC
        evaluation = v2.Compose(
            [v2.Resize(round(size * 256 / 224), interpolation=bicubic), v2.CenterCrop(size), v2.PILToTensor()]
        )
        assert torch.equal(torch.from_numpy(found), evaluation(image))


def test_without_a_size_the_whole_image_is_returned(path):
    pixels = noise(7, 5)
    path.write_bytes(encoded(pillow.fromarray(pixels), "PNG"))
    assert np.array_equal(decode(str(path)), pixels.transpose(2, 0, 1))


# -- kinds of pixels ------------------------------------------------------------------------------------


def test_grey_images_become_rgb(path):
    pixels = noise(6, 6, 1)[:, :, 0]
    path.write_bytes(encoded(pillow.fromarray(pixels), "PNG"))
    assert all(np.array_equal(channel, pixels) for channel in decode(str(path), 6))


def test_sixteen_bits_keep_their_upper_byte(path):
    values = np.array([[0, 255, 256], [0x7FFF, 0x8000, 0xFFFF], [1, 2, 3]], np.uint16)
    path.write_bytes(encoded(pillow.fromarray(values), "PNG"))
    assert decode(str(path), 3)[1].tolist() == [[0, 0, 1], [127, 128, 255], [0, 0, 0]]


def test_cmyk_becomes_rgb(path):
    path.write_bytes(encoded(pillow.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    red, green, blue = decode(str(path), 8)
    assert red.min() > 240
    assert max(green.max(), blue.max()) < 15


@pytest.mark.parametrize("transparency", [0, bytes([0, 128, 255])])
def test_a_palette_with_transparency_becomes_rgb_without_a_warning(path, transparency):
    image = pillow.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    path.write_bytes(encoded(image, "PNG", transparency=transparency))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(str(path))[:, 0].T.tolist() == [[10, 20, 30], [40, 50, 60]]


def test_transparency_is_dropped(path):
    path.write_bytes(encoded(pillow.new("RGBA", (4, 4), (9, 8, 7, 0)), "PNG"))
    assert decode(str(path), 4)[:, 0, 0].tolist() == [9, 8, 7]


def test_floating_point_pixels_are_refused(tmp_path):
    path = tmp_path / "image.tif"
    path.write_bytes(encoded(pillow.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF"))
    with pytest.raises(DataError, match="floating-point") as caught:
        decode(str(path), 4)
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
        decode(str(path), 32)
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
        found = only_user_errors(decode, str(path), 20)
    assert isinstance(found, str) or (found.shape == (3, 20, 20) and found.dtype == np.uint8)


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_random_bytes_are_one_line(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "random.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        decode(str(path), 20)
    one_line(caught)
