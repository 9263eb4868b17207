"""Image sets: the bundled one, Fashion-MNIST, folders, and what is wrong with damaged ones."""

from __future__ import annotations

import gzip
import hashlib
import io

import numpy as np
import pytest
import torch
from conftest import one_line, only_user_errors, require_tool
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge import data_sets, files
from nasvit_edge.data_sets import ImageSet, fashion, load_images, prepare
from nasvit_edge.errors import DataError, MissingExtraError, NasvitEdgeError

BUNDLED = files.data("images", "fashion-mnist.npz")
SIZES = {"calibration": 512, "validation": 1000, "test": 2000}


def _hashes(images: ImageSet) -> set[str]:
    return {hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in images.pixels}


# -- preparing ----------------------------------------------------------------------------------------


def test_images_are_scaled_to_one_then_normalised(nano):
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    actual = prepare(pixels, nano)
    expected = (torch.tensor([0, 0.2, 1]) - torch.tensor(nano.mean)) / torch.tensor(nano.std)
    assert actual.shape == (2, 3, 4, 4)
    assert actual.dtype == torch.float32
    assert torch.allclose(actual[1, :, 2, 3], expected)


def test_a_grey_channel_becomes_three(nano):
    grey = torch.randint(0, 256, (2, 1, 5, 5), dtype=torch.uint8)
    assert torch.equal(prepare(grey, nano), prepare(grey.expand(2, 3, 5, 5), nano))


@pytest.mark.parametrize("resolution", [20, 28, 32])
def test_resizing_is_that_of_the_supernet(nano, resolution):
    pixels = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    size = (resolution, resolution)
    expected = torch.nn.functional.interpolate(
        prepare(pixels, nano), size, mode="bicubic", align_corners=False
    )
    assert torch.equal(prepare(pixels, nano, resolution), expected)


def test_batches_go_through_a_set_in_order(nano):
    images = ImageSet("x", torch.randint(0, 256, (10, 1, 20, 20), dtype=torch.uint8), torch.arange(10))
    batches = list(images.batches(nano, 20, size=4))
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(10))
    assert torch.equal(torch.cat([x for x, _ in batches]), prepare(images.pixels, nano, 20))
    assert len(images.take("part", torch.tensor([3, 1]))) == 2


# -- IDX files ----------------------------------------------------------------------------------------


def _idx(array: np.ndarray) -> bytes:
    shape = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes((0, 0, 8, array.ndim)) + shape + array.tobytes()


def test_an_idx_file_is_read(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "x.gz").write_bytes(gzip.compress(_idx(array)))
    assert np.array_equal(fashion._read_idx(tmp_path / "x.gz", 3), array)


WHOLE = _idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        WHOLE[:3],
        WHOLE[:15],
        WHOLE[:-1],
        WHOLE + b"x",
        b"\0\0\x0d\3" + WHOLE[4:],
        b"\0\0\x08\1" + WHOLE[4:],
    ],
)
def test_a_wrong_idx_file_is_one_line(tmp_path, raw):
    (tmp_path / "x.gz").write_bytes(gzip.compress(raw))
    with pytest.raises(DataError) as caught:
        fashion._read_idx(tmp_path / "x.gz", 3)
    assert "x.gz" in one_line(caught)


@settings(max_examples=150)
@given(st.integers(0, 200), st.integers(0, 255), st.booleans())
def test_a_damaged_gzip_is_one_line(tmp_path_factory, place, value, cut):
    path = tmp_path_factory.getbasetemp() / "damaged.gz"
    content = bytearray(gzip.compress(WHOLE * 5))
    place %= len(content)
    content[place] = value
    path.write_bytes(content[:place] if cut else content)
    only_user_errors(fashion._read_idx, path, 3)


def test_sizes_that_overflow_are_not_believed(tmp_path):
    head = bytes((0, 0, 8, 3)) + (1 << 31).to_bytes(4, "big") * 2 + (4).to_bytes(4, "big")
    (tmp_path / "x.gz").write_bytes(gzip.compress(head))  # 2**64 bytes, which is 0 in 64 bits
    with pytest.raises(DataError, match="cut short"):
        fashion._read_idx(tmp_path / "x.gz", 3)


# -- the bundled images and the full set ----------------------------------------------------------------


def _fashion_mnist_is_there() -> bool:
    return fashion.SYSTEM_FOLDER.is_dir()


def test_the_splits_of_the_full_set_do_not_overlap():
    require_tool("Debian's dataset-fashion-mnist", _fashion_mnist_is_there())
    train, calibration, validation = data_sets.fashion_mnist_splits()
    assert (len(train), len(calibration), len(validation)) == (60_000 - 1512, 512, 1000)
    everything = data_sets.fashion_mnist(train=True)
    together = torch.cat([part.pixels.flatten(1).long().sum(1) for part in (train, calibration, validation)])
    assert torch.equal(together.sort().values, everything.pixels.flatten(1).long().sum(1).sort().values)
    held, again = _hashes(calibration), _hashes(validation)
    assert not held & again
    assert len(_hashes(train) & (held | again)) <= 5  # the data set itself repeats a few images


def test_the_bundled_file_can_be_made_again(tmp_path):
    require_tool("Debian's dataset-fashion-mnist", _fashion_mnist_is_there())
    data_sets.write_bundled(tmp_path / "made.npz")
    images = np.load(tmp_path / "made.npz")
    assert {k: len(v) for k, v in images.items() if k.endswith("labels")} == {
        f"{k}_labels": n for k, n in SIZES.items()
    }
    if BUNDLED.exists():
        bundled = np.load(BUNDLED)
        assert all(np.array_equal(images[key], bundled[key]) for key in bundled.files)
    assert len(set(images["test_labels"])) == 10


@pytest.mark.parametrize("split", SIZES)
def test_the_bundled_images_load(nano, split):
    require_tool("the bundled images", BUNDLED.exists())
    images = load_images("bundled", split, nano)
    assert len(images) == SIZES[split]
    assert data_sets.bundled_as_stored(split).pixels.shape == (SIZES[split], 1, 28, 28)
    assert images.pixels.shape == (SIZES[split], 1, 32, 32)  # as nano has images
    assert images.pixels.dtype == torch.uint8
    assert images.labels.bincount(minlength=10).min() > 0.05 * len(images)
    assert split in images.name


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"nonsense", None])
def test_a_damaged_bundled_file_is_one_line(tmp_path, monkeypatch, content):
    if content is not None:
        (tmp_path / "images.npz").write_bytes(content)
    monkeypatch.setattr(files, "data", lambda *_parts: tmp_path / "images.npz")
    with pytest.raises(NasvitEdgeError) as caught:
        data_sets.bundled_as_stored("test")
    assert "images.npz" in one_line(caught)


@settings(max_examples=150)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 255), st.booleans())
def test_any_damage_to_the_bundled_file_is_one_line(tmp_path_factory, share, value, cut):
    buffer = io.BytesIO()
    arrays = {"test_images": np.zeros((3, 28, 28), np.uint8), "test_labels": np.zeros(3, np.uint8)}
    np.savez_compressed(buffer, **arrays)
    content = bytearray(buffer.getvalue())
    content[int(share * len(content))] = value
    path = tmp_path_factory.getbasetemp() / "images.npz"
    path.write_bytes(content[: int(share * len(content))] if cut else content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "data", lambda *_parts: path)
        only_user_errors(data_sets.bundled_as_stored, "test")


def test_images_of_more_classes_than_the_space_has_are_refused(tiny):
    require_tool("the bundled images", BUNDLED.exists())
    with pytest.raises(DataError, match="10 classes"):
        load_images("bundled", "test", tiny)


def test_without_a_working_torchvision_the_extra_is_named(tmp_path, tiny):
    try:
        import torchvision  # noqa: F401
    except Exception:  # noqa: BLE001 - absent, or of another torch
        (tmp_path / "a").mkdir()
        with pytest.raises(MissingExtraError, match=r"nasvit-edge\[train\]") as caught:
            load_images(str(tmp_path), "train", tiny)
        one_line(caught)
