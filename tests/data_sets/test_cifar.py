"""CIFAR by name: torchvision's reading of files in its format, and one line where they cannot be had."""

from __future__ import annotations

import hashlib
import pickle
import socket

import numpy as np
import pytest
import torch
from conftest import one_line, require_module

from nasvit_edge.data_sets import calibration_images, check, classes, load_images, training_splits
from nasvit_edge.data_sets.cifar import cifar
from nasvit_edge.errors import DataError

datasets = require_module("torchvision.datasets")
KINDS = {"cifar10": (datasets.CIFAR10, 10), "cifar100": (datasets.CIFAR100, 100)}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "nasvit-edge" / "cifar"


def write(root, monkeypatch, name: str, count: int = 20) -> None:
    """Small files in the format of CIFAR, which torchvision takes for the real ones."""
    kind, number = KINDS[name]
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    key = "labels" if number == 10 else "fine_labels"

    def made(file: str, content: object) -> str:
        (folder / file).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / file).read_bytes()).hexdigest()

    for attribute in ("train_list", "test_list"):
        files = []
        for seed, (file, _) in enumerate(getattr(kind, attribute)):
            data = np.random.default_rng(seed).integers(0, 256, (count * number, 3072), dtype=np.uint8)
            files.append([file, made(file, {"data": data, key: list(range(number)) * count})])
        monkeypatch.setattr(kind, attribute, files)
    names = [f"class {i}" for i in range(number)]
    digest = made(kind.meta["filename"], {kind.meta["key"]: names})
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": digest})


@pytest.mark.parametrize("name", KINDS)
def test_it_is_read_whole_and_split_by_class(root, monkeypatch, nano, name):
    write(root, monkeypatch, name)
    number = KINDS[name][1]
    space = nano.with_labels([f"class {i}" for i in range(number)])
    train, validation = training_splits(name, space)
    whole, names = cifar(name, train=True)
    assert names == classes(name) == tuple(f"class {i}" for i in range(number))
    assert whole.pixels.shape[1:] == (3, 32, 32)
    assert len(train) + len(validation) == len(whole)
    per_class = validation.labels.bincount(minlength=number)
    assert (per_class == per_class[0]).all()
    assert per_class[0] == len(whole) // number // 20
    assert {p.numpy().tobytes() for p in train.pixels}.isdisjoint(
        p.numpy().tobytes() for p in validation.pixels
    )
    assert len(calibration_images(name, space)) == min(4096, len(train))
    test = load_images(name, "test", space)
    assert len(test) == 20 * number
    for split, images in (("train", train), ("validation", validation)):
        assert torch.equal(load_images(name, split, space).pixels, images.pixels)
    check(name, space)


def test_rows_are_channels_first(root, monkeypatch):
    write(root, monkeypatch, "cifar10", count=1)
    images, _ = cifar("cifar10", train=False)
    expected = np.random.default_rng(0).integers(0, 256, (10, 3072), dtype=np.uint8)
    assert np.array_equal(images.pixels.numpy().reshape(10, -1), expected)


def test_other_class_counts_than_the_spaces_are_refused(root, monkeypatch, nano):
    write(root, monkeypatch, "cifar100", count=1)
    for function in (check, training_splits):
        with pytest.raises(DataError, match="'cifar100' have 100 classes; space 'nano' has 10") as caught:
            function("cifar100", nano)
        one_line(caught)


def _no_network(*_arguments: object, **_options: object) -> None:
    raise socket.gaierror("Name or service not known")


@pytest.mark.parametrize("damaged", [False, True])
def test_without_network_it_is_one_line_that_says_where_to_put_it(root, monkeypatch, nano, damaged):
    if damaged:
        write(root, monkeypatch, "cifar10", count=1)
        (root / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"cut")
    monkeypatch.setattr(socket, "getaddrinfo", _no_network)
    with pytest.raises(DataError, match=r"cifar10 cannot be had.*folder") as caught:
        training_splits("cifar10", nano)
    assert str(root) in one_line(caught)
