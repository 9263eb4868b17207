"""Decoded images are kept: found again while nothing changed, and never trusted when damaged."""

from __future__ import annotations

import os

import image_folders
import numpy as np
import pytest
import torch
from conftest import require_module
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.data_sets import folders, kept

require_module("torchvision")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    return kept.folder()


def decoded(monkeypatch) -> list[str]:
    """The paths that are decoded from now on."""
    from nasvit_edge.data_sets import sets

    seen: list[str] = []
    real = sets.decode
    monkeypatch.setattr(sets, "decode", lambda path, rule: (seen.append(path), real(path, rule))[1])
    return seen


def test_a_folder_is_decoded_once(tmp_path, cache, monkeypatch):
    root = image_folders.make(tmp_path / "x")
    first, seen = image_folders.read(root, 12), decoded(monkeypatch)
    again = image_folders.read(root, 12)
    assert not seen
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.labels, again.labels)
    assert len(list(cache.iterdir())) == 1
    assert len(image_folders.read(root, 8)) == len(seen) == 8  # another size is another matter


def test_a_changed_file_is_decoded_again(tmp_path):
    root = image_folders.make(tmp_path / "x")
    first = image_folders.read(root, 12)
    image_folders.make(tmp_path / "other", seed=1)
    (tmp_path / "other" / "a" / "000.png").replace(root / "a" / "000.png")
    assert not torch.equal(image_folders.read(root, 12).pixels[0], first.pixels[0])
    (root / "b" / "001.png").unlink()
    assert len(image_folders.read(root, 12)) == 7


def test_files_are_known_by_what_they_hold(tmp_path):
    """Once by size and time: an export calibrated on replaced images came from the cache."""
    root, path = image_folders.make(tmp_path / "x"), tmp_path / "x" / "a" / "000.png"
    paths = folders.listing(root).paths
    before = kept.key(paths, image_folders.rule(12))
    assert before == kept.key(paths, image_folders.rule(12)) != kept.key(paths, image_folders.rule(13))
    os.utime(path, (1, 1))
    assert kept.key(paths, image_folders.rule(12)) == before
    content, times = path.read_bytes(), path.stat()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # as long as before,
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # and as old
    assert kept.key(paths, image_folders.rule(12)) != before
    path.write_bytes(content)
    assert kept.key(paths, image_folders.rule(12)) == before
    assert kept.key(paths[::-1].copy(), image_folders.rule(12)) != before


@settings(max_examples=60)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255), st.sampled_from(["change", "cut", "longer"]))
def test_what_is_damaged_is_not_taken(cache, share, value, how):
    pixels = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    kept.save("x", pixels)
    content = bytearray((cache / "x").read_bytes())
    place = int(share * len(content))
    content[place] ^= value
    (cache / "x").write_bytes({"change": content, "cut": content[:place], "longer": content + b"x"}[how])
    assert kept.load("x", pixels.shape) is None
    kept.save("x", pixels)
    assert np.array_equal(kept.load("x", pixels.shape), pixels)
    assert kept.load("x", (2, 3, 4, 5)) is None


def test_a_damaged_file_is_made_again(tmp_path, cache):
    root = image_folders.make(tmp_path / "x")
    first = image_folders.read(root, 12)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    assert torch.equal(image_folders.read(root, 12).pixels, first.pixels)
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_to_is_no_error(tmp_path, cache):
    root = image_folders.make(tmp_path / "x")
    cache.parent.mkdir(parents=True)
    cache.write_text("in the way")
    assert len(image_folders.read(root, 12)) == 8


def test_the_oldest_are_forgotten(cache, monkeypatch):
    monkeypatch.setattr(kept, "_MOST_BYTES", 250)
    for time, name in enumerate(("first", "second", "third")):
        kept.save(name, np.zeros(100 - 32, np.uint8))
        os.utime(cache / name, (time, time))
    kept.save("fourth", np.zeros(100 - 32, np.uint8))
    assert sorted(p.name for p in cache.iterdir()) == ["fourth", "third"]


def test_the_cache_command_shows_and_clears_them(tmp_path):
    from nasvit_edge import cache as flow

    image_folders.read(image_folders.make(tmp_path / "x"), 12)
    (entry,) = [e for e in flow.contents() if e.folder.endswith("images")]
    assert entry.entries == 1
    assert entry.bytes == 32 + 8 * 3 * 12 * 12
    assert flow.clear() >= entry.bytes
    assert flow.contents() == []
