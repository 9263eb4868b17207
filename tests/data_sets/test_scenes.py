"""Scenes: layouts, pairs, masks and batches; whatever is wrong with a file is one line that names it."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import unicodedata
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scene_folders as made
import torch
from conftest import one_line, only_user_errors, require_module, require_tool
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.data_sets import prepare
from nasvit_edge.data_sets.masks import coded, decode_mask, mask_size, plain
from nasvit_edge.data_sets.scenes import IGNORE, check, in_memory, load_scenes
from nasvit_edge.errors import DataError
from nasvit_edge.space import load_space

pillow = require_module("PIL.Image")
datasets = require_module("torchvision.datasets")
SPACE = made.dense()
CAMVID = Path(__file__).parents[3] / "shared" / "data" / "camvid-jpg.zip"


def _is_name(name: bytes) -> bool:
    return not set(name) & set(b"/\0") and name.strip(b".") != b""


def refused(root: Path, split: str = "train", space=SPACE) -> str:
    with pytest.raises(DataError) as caught:
        check(load_scenes(str(root), split, space))
    return one_line(caught)


# -- slices ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Train", "validation", "Test"),
        ("TRAINING", "VALID", "testing"),
        ("training", "dev", "TEST"),
    ],
)
def test_a_folder_with_all_three_splits_is_taken_as_it_is_in_any_spelling(tmp_path, train, val, test):
    root = made.plain(tmp_path / "city", **{train: 3, val: 2, test: 1})
    sizes = [len(load_scenes(str(root), split, SPACE)) for split in ("train", "validation", "test")]
    assert sizes == [3, 2, 1]
    assert load_scenes(str(root), "validation", SPACE).name == f"city {val} (2 images)"


def test_two_folders_for_one_split_are_named(tmp_path):
    root = made.plain(tmp_path, train=3, val=2, Valid=1)
    assert "holds 'Valid' and 'val', which mean the same; keep or rename one" in refused(root)


def test_images_and_masks_are_found_in_any_case(tmp_path):
    root = made.plain(tmp_path, train=3, val=2)
    for name in ("images", "masks"):
        (root / "train" / name).rename(root / "train" / name.upper())
    assert len(load_scenes(str(root), "train", SPACE)) == 3


def test_a_folder_that_is_laid_out_otherwise_is_told_what_it_holds(tmp_path):
    made.image(tmp_path / "pictures" / "a.png")
    assert "no folder 'train/images' in it" in refused(tmp_path)
    assert "it holds 'pictures'" in refused(tmp_path)


@pytest.mark.parametrize("count", [2, 19, 40])
def test_without_validation_images_a_fixed_tenth_of_the_training_images_is_held_out(tmp_path, count):
    root = made.plain(tmp_path, train=count, test=1)
    train, held, again = (
        {bytes(p) for p in load_scenes(str(root), split, SPACE).source.images}
        for split in ("train", "validation", "validation")
    )
    assert held == again
    assert not train & held
    assert len(held) == max(1, count // 10)
    assert len(train | held) == count
    assert "held out" in load_scenes(str(root), "validation", SPACE).name


def test_one_training_image_cannot_be_split(tmp_path):
    assert "give a folder 'val'" in refused(made.plain(tmp_path, train=1))


def test_without_test_masks_the_validation_masks_stand_in_and_the_name_says_so(tmp_path):
    root = made.plain(tmp_path / "x", train=2, val=3)
    assert load_scenes(str(root), "test", SPACE).name == "x val (3 images, validation: it has no test masks)"
    assert "judge on the split 'validation'" in refused(made.plain(tmp_path / "y", train=2), "test")


def test_unknown_splits_and_folders_are_one_line(tmp_path):
    assert "there are train, validation, test" in refused(tmp_path, "calibration")
    for path in (tmp_path, tmp_path / "absent", Path("x" * 5000)):
        assert "folder" in refused(path)


@given(st.text(max_size=20), st.sampled_from(["train", "validation", "test", ""]))
def test_any_text_as_a_folder_is_one_line(data, split):
    assert isinstance(only_user_errors(load_scenes, data, split, SPACE), str)


# -- layouts --------------------------------------------------------------------------------------------


def test_camvid_is_read_with_its_eleven_classes(tmp_path):
    require_tool("CamVid", CAMVID.is_file())
    with zipfile.ZipFile(CAMVID) as archive:
        archive.extractall(tmp_path)
    space = load_space("nano-dense")
    for split, count in {"train": 367, "validation": 101, "test": 233}.items():
        scenes = load_scenes(str(tmp_path), split, space)
        assert len(scenes) == count
        assert (scenes.sizes == (360, 480)).all()
    pixels = check(scenes.take("some", range(0, 233, 12)))
    assert set(np.flatnonzero(pixels)) == {*range(11), IGNORE}
    assert pixels.sum() == 20 * 360 * 480


def test_the_table_of_cityscapes_is_torchvisions(tmp_path):
    scenes = load_scenes(str(made.cityscapes(tmp_path)), "train", made.dense(19))
    official = {c.id: c.train_id for c in datasets.Cityscapes.classes if c.id >= 0}
    assert len(official) == 34
    values = np.resize(np.arange(34), (8, 12))
    expected = np.vectorize(official.get)(values)
    for index in range(2):
        assert np.array_equal(scenes.pair(index)[1], expected)


@pytest.mark.parametrize("ending", ["labelIds", "labelTrainIds"])
def test_cityscapes_is_paired_as_torchvision_pairs_it(tmp_path, ending):
    root = made.cityscapes(tmp_path, ending, range(19))
    scenes = load_scenes(str(root), "train", made.dense(19))
    if ending == "labelTrainIds":
        assert np.array_equal(np.unique(scenes.pair(0)[1]), np.arange(19))
        return
    theirs = datasets.Cityscapes(str(root), "train", target_type="semantic")
    assert sorted(map(str, theirs.images)) == [os.fsdecode(p) for p in scenes.source.images]
    assert sorted(str(t[0]) for t in theirs.targets) == [os.fsdecode(p) for p in scenes.source.masks]


def test_cityscapes_and_ade20k_have_splits_in_any_spelling(tmp_path):
    city, ade = made.cityscapes(tmp_path / "c"), made.ade20k(tmp_path / "a")
    for kind in ("leftImg8bit", "gtFine"):
        (city / kind / "train").rename(city / kind / "Training")
        (city / kind / "val").rename(city / kind / "valid")
    for kind in ("images", "annotations"):
        (ade / kind / "training").rename(ade / kind / "Training")
        (ade / kind / "validation").rename(ade / kind / "Validation")
    results = [
        len(load_scenes(str(root), split, made.dense(classes)))
        for root, classes in ((city, 19), (ade, 150))
        for split in ("train", "validation", "test")
    ]
    assert results == [2, 1, 1, 3, 1, 4]


def test_the_test_masks_of_cityscapes_are_not_public(tmp_path):
    scenes = load_scenes(str(made.cityscapes(tmp_path)), "test", made.dense(19))
    assert scenes.name == "cityscapes val (1 images, validation: Cityscapes' test masks are not public)"


def test_a_value_that_cityscapes_does_not_have_is_named(tmp_path):
    root = made.cityscapes(tmp_path, values=[0, 34])
    assert "the value 34: label ids of Cityscapes are 0 to 33" in refused(root, "train", made.dense(19))
    root = made.cityscapes(tmp_path / "ids", "labelTrainIds", [7, 26])
    assert "label ids are in files called *_labelIds.png" in refused(root, "train", made.dense(19))


@pytest.mark.parametrize("above", [False, True])
def test_ade20k_counts_from_one_and_holds_its_validation_out(tmp_path, above):
    root = made.ade20k(tmp_path / "ADEChallengeData2016")
    space = made.dense(150)
    train, held, test = (
        load_scenes(str(tmp_path if above else root), split, space)
        for split in ("train", "validation", "test")
    )
    assert (len(train), len(held), len(test)) == (3, 1, 4)
    assert test.name == "ade20k validation (4 images)"
    values = np.resize(np.arange(151), (8, 20)).astype(int)
    assert np.array_equal(test.pair(0)[1], np.where(values == 0, IGNORE, values - 1))


def test_other_numbers_of_classes_than_the_spaces_are_one_line(tmp_path):
    city, ade = made.cityscapes(tmp_path / "c"), made.ade20k(tmp_path / "a")
    assert "Cityscapes with 19 classes; space 'tiny' has 4" in refused(city)
    assert "ADE20K with 150 classes; space 'tiny' has 4" in refused(ade)
    assert "8-bit masks hold 254" in refused(made.plain(tmp_path / "p", train=2), space=made.dense(300))


@pytest.mark.parametrize("kind", ["jpg", "JPG", "webp", "tiff", "jfif", "gif", "tga", "pbm"])
def test_images_of_any_kind_match_masks_of_the_same_name(tmp_path, kind):
    made.plain(tmp_path, train=2)
    for name in ("a", "deep/er/b.c"):
        made.image(tmp_path / "train" / "images" / f"{name}.{kind}")
        made.mask(tmp_path / "train" / "masks" / f"{name}.png")
    (tmp_path / "train" / "images" / "notes.txt").write_text("x")
    (tmp_path / "train" / "images" / ".hidden.png").write_text("x")
    assert len(load_scenes(str(made.plain(tmp_path, val=1)), "train", SPACE)) == 4


# -- folders as people have them ------------------------------------------------------------------------


def test_leftovers_beside_images_and_masks_are_no_data_and_what_is_left_out_is_told(tmp_path):
    root = made.plain(tmp_path, train=3, val=1)
    for kind in ("images", "masks"):
        for name in ("._000.png", ".DS_Store", "@eaDir/000.png/SYNO.png", "thumbnails/000.png", "000.txt"):
            path = root / "train" / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    (root / "train" / "images" / "004.xcf").write_bytes(b"x")
    made.plain(root / "__MACOSX", train=3)
    scenes = load_scenes(str(root), "train", SPACE)
    assert len(scenes) == 3
    text = set(scenes.left_out.split(", "))
    assert text == {".xcf 1", ".txt 2", "._* 2", ".* 2", "@eaDir 2", "thumbnails 2"}
    assert load_scenes(str(root), "validation", SPACE).left_out == ""


def test_files_that_belong_to_cityscapes_are_not_told_as_left_out(tmp_path):
    root = made.cityscapes(tmp_path)
    (root / "gtFine" / "train" / "ulm" / "ulm_000000_000019_gtFine_polygons.json").write_text("{}")
    assert load_scenes(str(root), "train", made.dense(19)).left_out == ""


def test_what_is_held_out_does_not_tell_again_what_was_left_out(tmp_path):
    root = made.plain(tmp_path, train=12)
    (root / "train" / "images" / "notes.txt").write_text("x")
    assert [load_scenes(str(root), split, SPACE).left_out for split in ("train", "validation")] == [
        ".txt 1",
        "",
    ]


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_an_image_and_its_mask_may_write_accents_differently(tmp_path, forms):
    root = made.plain(tmp_path, val=1)
    for kind, form in zip(("images", "masks"), forms, strict=True):
        made.mask(root / "train" / kind / f"{unicodedata.normalize(form, 'Zürich/höhe')}.png")
    assert len(load_scenes(str(root), "train", SPACE)) == 1


def test_two_images_that_differ_only_in_how_accents_are_written_are_named(tmp_path):
    root = made.plain(tmp_path, val=1)
    for form in ("NFC", "NFD"):
        made.image(root / "train" / "images" / f"{unicodedata.normalize(form, 'höhe')}.png")
    made.mask(root / "train" / "masks" / "höhe.png")
    assert "are one name (their accents are written in two ways)" in refused(root)


def test_names_that_are_no_utf8_are_read_and_told(tmp_path):
    koeln = os.fsdecode(b"k\xf6ln.png")  # as Latin-1 has it
    root = made.plain(tmp_path / os.fsdecode(b"stra\xdfe"), val=1, train=2)
    for kind in ("images", "masks"):
        path = made.mask(root / "train" / kind / "x.png")
        path.rename(path.with_name(koeln))
    (root / "train" / "images" / os.fsdecode(b"x.\xff")).write_text("x")
    scenes = load_scenes(str(root), "train", SPACE)
    assert len(scenes) == 3
    check(scenes)
    assert (scenes.name, scenes.left_out) == ("stra\\xdfe train (3 images)", ".\\xff 1")
    (root / "train" / "masks" / koeln).unlink()
    assert "has no mask" in refused(root)


@settings(max_examples=25)
@given(st.sets(st.binary(min_size=1, max_size=6).filter(_is_name), min_size=1, max_size=4))
def test_names_of_any_bytes_pair_up_or_are_one_line(tmp_path_factory, names):
    root = made.plain(tmp_path_factory.mktemp("bytes"), val=1)
    for kind in ("images", "masks"):
        path = made.mask(root / "train" / kind / "x.png")
        for name in names:
            shutil.copy(path, os.fsencode(path.parent) + b"/" + name + b".png")
    outcome = only_user_errors(load_scenes, str(root), "train", SPACE)
    if isinstance(outcome, str):
        outcome.encode()
    else:
        hidden = sum(name.startswith(b".") or name == b"x" for name in names)
        assert len(outcome) == len(names) - hidden + 1


def test_a_link_back_into_the_set_is_not_followed_again(tmp_path):
    root = made.plain(tmp_path, train=2, val=1)
    for kind in ("images", "masks"):
        (root / "train" / kind / "again").symlink_to(root)
    scenes = load_scenes(str(root), "train", SPACE)
    assert len(scenes) == 2
    assert scenes.left_out == "links to a folder around them 2"


# -- wrong files ----------------------------------------------------------------------------------------


def test_a_missing_half_of_a_pair_is_named(tmp_path):
    root = made.plain(tmp_path, train=4, val=1)
    (root / "train" / "masks" / "002.png").rename(tmp_path / "kept.png")
    assert "002.png' has no mask" in refused(root)
    (tmp_path / "kept.png").rename(root / "train" / "masks" / "002.png")
    (root / "train" / "images" / "003.png").unlink()
    assert "masks/003.png' has no image" in refused(root)


def test_two_images_of_one_name_are_named(tmp_path):
    root = made.plain(tmp_path, train=2, val=1)
    made.image(root / "train" / "images" / "001.jpg")
    text = refused(root)
    assert "001.jpg" in text
    assert "001.png" in text


def test_a_folder_without_masks_or_without_anything_is_named(tmp_path):
    root = made.plain(tmp_path, val=1)
    (root / "train" / "images").mkdir(parents=True)
    assert "No such file" in refused(root)
    (root / "train" / "masks").mkdir()
    assert "there are no images (known kinds: .jpg" in refused(root)
    made.image(root / "train" / "images" / "a.jpg")
    assert "a.jpg' has no mask" in refused(root)


@settings(max_examples=30)
@given(st.sets(st.sampled_from("abcde")), st.sets(st.sampled_from("abcde")))
def test_names_pair_up_or_one_of_them_is_named(tmp_path_factory, images, masks):
    root = tmp_path_factory.mktemp("pairs")
    made.plain(root, val=1)
    for name, folder in (("images", images), ("masks", masks)):
        (root / "train" / name).mkdir(parents=True)
        for stem in folder:
            (made.image if name == "images" else made.mask)(root / "train" / name / f"{stem}.png")
    outcome = only_user_errors(load_scenes, str(root), "train", SPACE)
    if images == masks != set():
        assert len(outcome) == len(images)
    else:
        assert any(f"{stem}.png" in outcome for stem in images ^ masks) or "no images" in outcome


def test_a_mask_of_another_size_is_named_when_the_set_is_loaded(tmp_path):
    root = made.plain(tmp_path, train=2, val=1)
    made.mask(root / "train" / "masks" / "001.png", height=7)
    with pytest.raises(DataError, match=r"001\.png' has 12 x 7 pixels, its image 12 x 8") as caught:
        load_scenes(str(root), "train", SPACE)
    one_line(caught)


def test_a_file_that_changed_since_the_set_was_loaded_is_named(tmp_path):
    root = made.plain(tmp_path, train=2, val=1)
    scenes = load_scenes(str(root), "train", SPACE)
    made.mask(root / "train" / "masks" / "001.png", height=7)
    with pytest.raises(DataError, match=r"001\.png' has 12 x 7 pixels"):
        scenes.pair(1)
    (root / "train" / "images" / "000.png").unlink()
    with pytest.raises(DataError, match=r"000\.png"):
        scenes.pair(0)


@pytest.mark.parametrize("value", [4, 11, 254])
def test_a_value_that_is_no_class_is_named_when_it_is_decoded(tmp_path, value):
    root = made.plain(tmp_path, train=2, val=1)
    made.mask(root / "train" / "masks" / "001.png", [0, value, 255])
    scenes = load_scenes(str(root), "train", SPACE)
    scenes.pair(0)
    with pytest.raises(DataError, match=rf"001\.png' holds the value {value}: classes are 0 to 3") as caught:
        check(scenes)
    assert "and 255 for pixels without one" in one_line(caught)


def test_listed_values_are_the_classes_in_order_whatever_the_layout_and_others_are_none(tmp_path):
    values = (255, 7, 0)
    assert decoded(plain(3, values), [0, 7, 255, 1, 254]) == [2, 1, 0, IGNORE, IGNORE]
    space = dataclasses.replace(made.dense(19), mask_values=tuple(range(18, -1, -1)))
    root = made.cityscapes(tmp_path / "c", values=range(34))
    expected = np.resize([*range(18, -1, -1), *[IGNORE] * 15], (8, 12))
    assert np.array_equal(load_scenes(str(root), "train", space).pair(0)[1], expected)
    space = dataclasses.replace(made.dense(150), mask_values=tuple(range(150)))
    scenes = load_scenes(str(made.ade20k(tmp_path / "a")), "test", space)
    assert np.array_equal(scenes.pair(0)[1], np.resize([*range(150), IGNORE], (8, 20)))


def decoded(coding, values) -> list[int]:
    return coded("x.png", np.array([values], np.uint8), coding)[0].tolist()


@given(st.permutations(range(256)), st.integers(1, 254))
def test_every_listed_value_is_its_class(values, classes):
    actual = decoded(plain(classes, values[:classes]), values)
    assert actual == [*range(classes), *[IGNORE] * (256 - classes)]


@pytest.mark.parametrize("classes", [2, 11, 12])
def test_eleven_classes_leave_the_value_eleven_out(classes):
    for value in range(256):
        outcome = only_user_errors(coded, "x.png", np.array([[value]], np.uint8), plain(classes))
        if value == IGNORE or (value == classes == 11):
            assert outcome.item() == IGNORE
        elif value < classes:
            assert outcome.item() == value
        else:
            assert f"the value {value}" in outcome


# -- kinds of masks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("colours", [2, 4, 16, 200])
def test_a_palette_mask_holds_its_indices_at_any_depth(tmp_path, colours):
    values = np.resize(np.arange(colours, dtype=np.uint8), (9, 7))
    image = pillow.fromarray(values).convert("P")
    image.putdata(values.ravel().tolist())
    image.putpalette(np.random.default_rng(0).integers(0, 256, 3 * colours).tolist())
    image.save(tmp_path / "x.png", transparency=0)
    assert mask_size(str(tmp_path / "x.png")) == (9, 7)
    assert np.array_equal(decode_mask(str(tmp_path / "x.png"), plain(250)), values)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "8 bits of RGB"), ("RGBA", "RGBA"), ("LA", "grey with"), ("1", "1 bits of grey")],
)
def test_masks_of_another_kind_are_refused(tmp_path, mode, kind):
    pillow.new(mode, (4, 3)).save(tmp_path / "x.png")
    for function in (mask_size, lambda path: decode_mask(path, plain(4))):
        text = only_user_errors(function, str(tmp_path / "x.png"))
        assert kind in text
        assert "8-bit grey or palette PNG of class ids" in text


def test_sixteen_bits_are_refused(tmp_path):
    made.save(tmp_path / "x.png", np.zeros((3, 3), np.uint16))
    assert "16 bits of grey" in only_user_errors(mask_size, str(tmp_path / "x.png"))


def test_a_jpeg_called_png_is_no_mask(tmp_path):
    pillow.new("L", (4, 3)).save(tmp_path / "x.png", "JPEG")
    assert "it is no PNG file" in only_user_errors(mask_size, str(tmp_path / "x.png"))


def _whole() -> bytes:
    buffer = io.BytesIO()
    pillow.fromarray(np.resize(np.arange(4, dtype=np.uint8), (40, 30))).save(buffer, "PNG")
    return buffer.getvalue()


@settings(max_examples=120)
@given(st.data())
def test_any_damage_to_a_mask_gives_classes_or_one_line(tmp_path_factory, data):
    content = bytearray(_whole())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = only_user_errors(decode_mask, str(path), plain(4))
    if isinstance(outcome, str):
        assert "damaged.png" in outcome
    else:
        assert outcome.dtype == np.uint8
        assert set(np.unique(outcome)) <= {0, 1, 2, 3, IGNORE}


@given(st.binary(max_size=60))
def test_random_bytes_are_no_mask(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "random.png"
    path.write_bytes(content)
    assert isinstance(only_user_errors(mask_size, str(path)), str)


# -- sets and batches -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Eleven pairs of two sizes."""
    rng = np.random.default_rng(0)
    sizes = [(8, 12)] * 5 + [(10, 9)] * 2 + [(8, 12)] * 4
    return in_memory(
        "mixed",
        [
            (rng.integers(0, 256, (3, *size), dtype=np.uint8), rng.integers(0, 4, size, dtype=np.uint8))
            for size in sizes
        ],
    )


@settings(max_examples=30)
@given(st.integers(1, 12), st.sampled_from(SPACE.resolutions))
def test_batches_hold_every_pair_in_order_at_the_spaces_shape(mixed, size, resolution):
    index = 0
    for images, masks in mixed.batches(SPACE, resolution, size):
        assert 0 < len(images) == len(masks) <= size
        assert images.shape[1:] == (3, *SPACE.input_size(resolution))
        assert masks.dtype == torch.int64
        for x, truth in zip(images, masks, strict=True):
            pixels, mask = mixed.pair(index)
            assert np.array_equal(truth, mask)
            if mask.shape == SPACE.input_size(resolution):
                assert torch.equal(x, prepare(torch.from_numpy(pixels)[None], SPACE)[0])
            index += 1
    assert index == len(mixed)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 10), max_size=20), st.integers(0, 3))
def test_parts_of_parts_are_the_pairs_that_were_chosen(mixed, chosen, start):
    for form in (chosen, np.array(chosen, np.int64), torch.tensor(chosen, dtype=torch.int64)):
        part = mixed.take("part", form)
        assert (part.name, len(part)) == ("part", len(chosen))
        rest = part.take("rest", slice(start, None))
        assert len(rest) == len(rest.sizes) == len(chosen[start:])
        for index, place in enumerate(chosen[start:]):
            assert rest.pair(index) is mixed.pair(place)


def test_files_and_memory_hold_the_same(tmp_path, monkeypatch):
    files = load_scenes(str(made.plain(tmp_path, train=5, val=1)), "train", SPACE)
    held = files.take("some", [4, 0, 2]).loaded()
    for index, place in enumerate([4, 0, 2]):
        for one, two in zip(held.pair(index), files.pair(place), strict=True):
            assert np.array_equal(one, two)
    assert np.array_equal(held.sizes, files.sizes[:3])
    monkeypatch.setattr("nasvit_edge.data_sets.scenes.MEMORY_BYTES", 4 * 5 * 8 * 12 - 1)
    assert files.loaded() is files
    monkeypatch.setattr("nasvit_edge.data_sets.scenes.MEMORY_BYTES", 4 * 5 * 8 * 12)
    assert files.loaded() is not files


def test_checking_counts_every_pixel_and_tells_how_far_it_is(mixed):
    seen = []
    counts = check(mixed, lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, 11) for i in range(11)]
    assert counts.sum() == mixed.sizes.prod(1).sum()
    assert counts[:4].all()
    assert not counts[4:].any()
