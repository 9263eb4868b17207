"""Search spaces as data: ours are exact, a user's own works, a bad one names file and key."""

from __future__ import annotations

import copy
import json
import random
import re
import tomllib
from pathlib import Path
from unicodedata import normalize

import pytest
from conftest import TINY, configs, edited, one_line, only_user_errors, space_of
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError, SpaceError
from nasvit_edge.ops import all_ops, lower
from nasvit_edge.preparation import CHAINS
from nasvit_edge.space import (
    SearchSpace,
    family,
    get_gene,
    load_space,
    parse_space,
    read_config,
    space_names,
    space_toml,
)
from nasvit_edge.space_parts import SpaceFile
from nasvit_edge.specs import AttentionSpec, HeadSpec, SqueezeSpec, StageSpec, StemSpec

TABLE = tomllib.loads(TINY)
DENSE = {**TABLE, "head": {"kind": "mlp", "width": [16]}}
REQUIRED = ["schema", "name", "resolutions", "classes", "mean", "std", "stem", "stage", "head"]
NEEDED_BY_STAGE = ["name", "kind", "width", "depth", "kernel_size", "expand_ratio", "se", "stride"]


def _rows(space: SearchSpace) -> list[tuple[object, ...]]:
    return [
        (
            s.name,
            s.hybrid,
            list(s.width),
            list(s.depth),
            list(s.kernel_size),
            list(s.expand_ratio),
            s.se,
            s.stride,
        )
        for s in space.stages
    ]


def test_the_official_space_is_the_published_one(nasvit):
    assert nasvit.size() == 48_157_949_952
    assert len({op.key() for op in all_ops(nasvit)}) == 537
    assert nasvit.resolutions == (192, 224, 256, 288)
    assert (nasvit.stem.width, nasvit.stem.kernel_size, nasvit.stem.stride) == ((16, 24), 3, 2)
    assert (nasvit.head.width, nasvit.head.expand_ratio, nasvit.classes) == ((1792, 1984), 6, 1000)
    few, many = [4, 5, 6], [3, 4, 5, 6]
    assert _rows(nasvit) == [
        ("mb1", False, [16, 24], [1, 2], [3, 5], [1], False, 1),
        ("mb2", False, [24, 32], [3, 4, 5], [3, 5], few, False, 2),
        ("mb3", False, [32, 40], many, [3], few, True, 2),
        ("mb4", True, [64, 72], many, [3], few, False, 2),
        ("mb5", True, [112, 120, 128], [*range(3, 10)], [3], few, True, 2),
        ("mb6", True, [160, 168, 176, 184], [*range(3, 9)], [3], [6], True, 1),
        ("mb7", True, [208, 216, 224], many, [3], [6], True, 2),
    ]


def test_the_baseline_space_is_the_published_one():
    space, few = load_space("alphanet"), [4, 5, 6]
    assert space.resolutions == (192, 224, 256, 288)
    assert _rows(space) == [
        ("mb1", False, [16, 24], [1, 2], [3, 5], [1], False, 1),
        ("mb2", False, [24, 32], [3, 4, 5], [3, 5], few, False, 2),
        ("mb3", False, [32, 40], [3, 4, 5, 6], [3, 5], few, True, 2),
        ("mb4", False, [64, 72], [3, 4, 5, 6], [3, 5], few, False, 2),
        ("mb5", False, [112, 120, 128], [*range(3, 9)], [3, 5], few, True, 1),
        ("mb6", False, [192, 200, 208, 216], [*range(3, 9)], [3, 5], [6], True, 2),
        ("mb7", False, [216, 224], [1, 2], [3, 5], [6], True, 1),
    ]
    assert (space.stem.width, space.head.width, space.classes) == ((16, 24), (1792, 1984), 1000)


def test_the_small_space_is_small_but_hybrid_and_wide_enough(nano):
    assert nano.size() >= 100_000
    assert any(stage.hybrid for stage in nano.stages)
    assert 8e6 <= sum(op.macs() for op in lower(nano, nano.largest())) <= 12e6
    assert nano.classes == 10 == len(nano.label_names())


def test_the_space_for_experiments_is_hybrid_everywhere_and_its_twin_has_as_many_macs():
    hybrid, twin = load_space("nano-hybrid"), load_space("nano-hybrid-cnn")
    for stage in hybrid.stages[2:]:
        assert stage.hybrid
        assert {depth - 1 for depth in stage.depth} == {2, 3, 4}  # the first block is an MBConv
    assert not any(stage.hybrid for stage in twin.stages)
    macs = {}
    for space in (hybrid, twin):
        rng = random.Random(0)
        mean = sum(sum(op.macs() for op in lower(space, space.sample(rng))) for _ in range(300)) / 300
        ends = [sum(op.macs() for op in lower(space, end)) for end in (space.smallest(), space.largest())]
        macs[space.name] = [ends[0], mean, ends[1]]
    assert macs["nano-hybrid"][2] / macs["nano-hybrid"][0] == pytest.approx(10, rel=0.06)
    assert macs["nano-hybrid-cnn"] == pytest.approx(macs["nano-hybrid"], rel=0.03)


@pytest.mark.parametrize("name", space_names())
def test_every_shipped_space_loads_by_name_and_by_path(name):
    assert load_space(name) == load_space(files.data("spaces", f"{name}.toml"))
    assert load_space(name).name == name
    assert len(load_space(name).label_names()) == load_space(name).classes


def test_a_space_of_ones_own_loads_by_path(tmp_path, tiny):
    (tmp_path / "mine.toml").write_text(TINY)
    assert load_space(tmp_path / "mine.toml") == load_space(str(tmp_path / "mine.toml")) == tiny


@pytest.mark.parametrize("name", ["nope", "", "../nano", "nano\n", "na\0no", "Nano", "nano.json"])
def test_an_unknown_space_lists_the_known_ones(name):
    with pytest.raises(SpaceError) as caught:
        load_space(name)
    assert ", ".join(space_names()) in one_line(caught)


def _refused(table: dict) -> str:
    with pytest.raises(SpaceError) as caught:
        parse_space(table, Path("mine.toml"))
    assert "mine.toml" in one_line(caught)
    return one_line(caught)


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_names_file_and_key(key):
    assert f"'{key}" in _refused({k: v for k, v in TABLE.items() if k != key})


@pytest.mark.parametrize("key", NEEDED_BY_STAGE)
def test_a_missing_key_of_a_stage_names_the_stage(key):
    table = copy.deepcopy(TABLE)
    del table["stage"][1][key]
    assert f"'stage[1].{key}'" in _refused(table)


@pytest.mark.parametrize("part", ["stem", "head"])
def test_a_missing_key_of_stem_or_head_is_named(part):
    for key in TABLE[part]:
        table = copy.deepcopy(TABLE)
        del table[part][key]
        assert f"'{part}.{key}'" in _refused(table)


@pytest.mark.parametrize("where", [(), ("stem",), ("head",), ("attention",), ("stage", 1)])
@pytest.mark.parametrize("key", ["depht", "two\nlines", ""])
def test_an_unknown_key_is_named_and_not_ignored(where, key):
    table = copy.deepcopy(TABLE)
    inner = table
    for step in where:
        inner = inner[step]
    inner[key] = 1
    assert "is unknown" in _refused(table)
    assert repr(key)[1:-1] in _refused(table)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("resolutions = [8, 12]", "resolutions = [12, 8]", "resolutions"),
        ("resolutions = [8, 12]", "resolutions = [8, 8]", "resolutions"),
        ("resolutions = [8, 12]", "resolutions = []", "resolutions"),
        ("resolutions = [8, 12]", "resolutions = [8.0]", "resolutions"),
        ("resolutions = [8, 12]", "resolutions = [true, 8]", "resolutions"),
        ("resolutions = [8, 12]", "resolutions = 8", "resolutions"),
        ("schema = 1", "schema = 2", "schema"),
        ("schema = 1", "schema = true", "schema"),
        ("classes = 4", "classes = 0", "classes"),
        ("classes = 4", 'classes = "4"', "classes"),
        ("classes = 4", 'classes = 4\nlabels = ["a"]', "labels"),
        ("classes = 4", "classes = 4\nlabels = [1, 2, 3, 4]", "labels"),
        ("mean = [0.5, 0.5, 0.5]", "mean = [0.5, 0.5]", "mean"),
        ("mean = [0.5, 0.5, 0.5]", "mean = [0.5, 0.5, nan]", "mean"),
        ("mean = [0.5, 0.5, 0.5]", f"mean = [0.5, 0.5, {'9' * 400}]", "mean"),
        ("std = [0.25, 0.25, 0.25]", "std = [0.25, 0.25, 0]", "std"),
        ("std = [0.25, 0.25, 0.25]", "std = [0.25, 0.25, inf]", "std"),
        ("classes = 4", 'classes = 4\nfilter = "lanczos"', "filter"),
        ("window = 4", "window = 0", "attention.window"),
        ("[stem]\nwidth = [8]\nkernel_size = 3", "[stem]\nwidth = [8]\nkernel_size = 4", "stem.kernel_size"),
        ("[stem]\nwidth = [8]", "[stem]\nwidth = [0]", "stem.width"),
        ("stride = 1\n", "stride = 5\n", "stem.stride"),
        ("kernel_size = [3, 5]", "kernel_size = [2, 3]", "stage[0].kernel_size"),
        ("depth = [1, 2, 3]", "depth = [0, 1]", "stage[1].depth"),
        ("width = [16, 24]", "width = [16, 20]", "stage[1].width"),
        ('kind = "hybrid"', 'kind = "conv"', "stage[1].kind"),
        ("se = true", "se = 1", "stage[1].se"),
        ('name = "mb2"', 'name = "mb1"', "stage.name"),
        ('name = "mb2"', 'name = "train"', "stage[1].name"),
        ('name = "mb2"', 'name = "b.2"', "stage[1].name"),
        ("expand_ratio = 2", "expand_ratio = [2]", "head.expand_ratio"),
        ('name = "tiny"', 'name = "two words"', "name"),
    ],
)
def test_a_bad_value_names_file_and_key(old, new, key):
    refused = _refused(tomllib.loads(edited(TINY, (old, new))))
    assert re.search(rf"key '{re.escape(key)}(\[\d+\])?'|has {key} ", refused)


@pytest.mark.parametrize("key", ["stem", "head", "attention"])
@pytest.mark.parametrize("value", [[], 1, "text", [{}]])
def test_something_else_in_place_of_a_table_is_refused(key, value):
    assert key in _refused({**TABLE, key: value})


@pytest.mark.parametrize("value", [{}, [], [1], "text", [[]]])
def test_something_else_in_place_of_the_stages_is_refused(value):
    assert "stage" in _refused({**TABLE, "stage": value})


def test_stage_names_never_clash_with_what_modules_have(tiny):
    from nasvit_edge.model.subnet import Subnet
    from nasvit_edge.model.supernet import Supernet
    from nasvit_edge.ops import lower

    names = set(dir(Supernet(tiny))) | set(dir(Subnet(tiny, tiny.smallest(), lower(tiny, tiny.smallest()))))
    for name in sorted(n for n in names - {"mb1", "mb2"} if not n.startswith("_")):
        assert "name" in _refused(tomllib.loads(edited(TINY, ('name = "mb2"', f'name = "{name}"'))))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.integers(-2, 40)
VALUES = SCALARS | st.lists(SCALARS, max_size=4) | st.dictionaries(st.text(max_size=4), SCALARS, max_size=2)


@st.composite
def mutated(draw):
    """The tiny table with a few of its values, at any place, replaced, removed or added."""
    table = copy.deepcopy(TABLE)
    for _ in range(draw(st.integers(1, 3))):
        inner: object = table
        while True:
            keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(inner[key], dict | list) and draw(st.integers(0, 3)):
                inner = inner[key]
                continue
            match draw(st.sampled_from(["replace", "remove", "add"])):
                case "remove":
                    del inner[key]
                case "add" if isinstance(inner, dict):
                    inner[draw(st.text(max_size=6))] = draw(VALUES)
                case _:
                    inner[key] = draw(VALUES)
            break
    return table


@settings(max_examples=600)
@given(mutated())
def test_any_table_is_a_space_or_one_line(table):
    result = only_user_errors(parse_space, table, Path("mine.toml"))
    if isinstance(result, SearchSpace):
        assert lower(result, result.smallest())[-1].out_shape() == (result.classes,)
        assert parse_space(tomllib.loads(space_toml(result)), Path("written.toml")) == result
    else:
        assert "mine.toml" in result


@settings(max_examples=200)
@given(st.integers(0, len(TINY) - 1), st.text(min_size=0, max_size=3), st.integers(0, 6))
def test_any_edit_of_the_text_is_a_space_or_one_line(tmp_path_factory, place, new, removed):
    path = tmp_path_factory.getbasetemp() / "edited.toml"
    path.write_bytes((TINY[:place] + new + TINY[place + removed :]).encode())
    only_user_errors(load_space, path)


def test_a_config_and_its_dict_are_inverse(nasvit):
    rng = random.Random(0)
    for _ in range(50):
        config = nasvit.sample(rng)
        plain = json.loads(json.dumps(config.to_dict()))
        assert nasvit.config(**plain) == nasvit.config_from(plain) == config
        assert nasvit.from_choices([get_gene(config, gene) for gene in nasvit.genes]) == config


def test_smallest_and_largest_are_the_ends_of_every_gene(nano):
    for gene in nano.genes:
        assert get_gene(nano.smallest(), gene) == min(gene.choices)
        assert get_gene(nano.largest(), gene) == max(gene.choices)


def test_all_configs_are_different_valid_and_as_many_as_the_size():
    space = space_of(edited(TINY, ("depth = [1, 2, 3]", "depth = [1]")))
    actual = list(space.all_configs())
    assert len(set(actual)) == len(actual) == space.size()
    assert all(space.config(**c.to_dict()) == c for c in actual)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"resolution": 10}, "resolution is 10"),
        ({"resolution": 8.0}, "resolution is 8.0"),
        ({"resolution": True}, "resolution is True"),
        ({"resolution": None}, "resolution is None"),
        ({"width": [8, 8, 16]}, "width is"),
        ({"width": [8, 8, 17, 16]}, "mb2 width is 17"),
        ({"width": [9, 8, 16, 16]}, "first_conv width is 9"),
        ({"width": [8, 8, 16, 17]}, "last_conv width is 17"),
        ({"width": "8888"}, "width is '8888'"),
        ({"depth": [1, 4]}, "mb2 depth is 4"),
        ({"depth": {}}, "depth is {}"),
        ({"kernel_size": [7, 3]}, "mb1 kernel size is 7"),
        ({"expand_ratio": [1, [2]]}, "mb2 expand ratio is [2]"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"two\nlines": 1}, "unknown key"),
    ],
)
def test_a_choice_that_the_space_does_not_have_is_named(tiny, change, part):
    values = tiny.smallest().to_dict() | change
    with pytest.raises(SpaceError) as caught:
        tiny.config_from(values)
    assert part in one_line(caught)


@pytest.mark.parametrize("key", ["resolution", "width", "depth", "kernel_size", "expand_ratio"])
def test_a_config_without_one_of_its_keys_names_it(tiny, key):
    values = {k: v for k, v in tiny.smallest().to_dict().items() if k != key}
    with pytest.raises(SpaceError, match=key):
        tiny.config_from(values)


def test_a_config_file_names_itself_in_errors(tmp_path, tiny):
    path = tmp_path / "config.json"
    files.write_json(path, tiny.largest().to_dict())
    assert read_config(path, tiny) == tiny.largest()
    for content in ("[]", "{}", "nope", '{"resolution": 1e999}'):
        path.write_text(content)
        with pytest.raises(NasvitEdgeError) as caught:
            read_config(path, tiny)
        assert "config.json" in one_line(caught)


@given(st.data())
def test_sampled_configs_are_valid(nano, data):
    config = data.draw(configs(nano))
    assert nano.config(**config.to_dict()) == config


def test_a_name_longer_than_any_file_name_is_only_unknown():
    with pytest.raises(SpaceError, match="unknown space"):
        load_space("x" * 5000)


@st.composite
def spaces(draw):
    """The tiny space with any stages: kinds, choices and class names at random."""
    table = copy.deepcopy(TABLE)
    for stage in table["stage"]:
        stage["expand_ratio"] = sorted(draw(st.sets(st.integers(1, 4), min_size=1, max_size=3)))
        stage["depth"] = sorted(draw(st.sets(st.integers(1, 4), min_size=1, max_size=3)))
        stage["kind"] = draw(st.sampled_from(["mbconv", "hybrid"]))
        stage["se"] = draw(st.booleans())
    if draw(st.booleans()):
        del table["attention"]
    if draw(st.booleans()):
        text = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=8)
        names = st.lists(text, min_size=4, max_size=4, unique_by=lambda name: normalize("NFC", name))
        table["labels"] = draw(names)
    return parse_space(table, Path("made.toml"))


@settings(max_examples=60)
@given(spaces(), st.data())
def test_a_space_written_as_toml_reads_back_as_it_was(space, data):
    for either in (space, space.only(data.draw(configs(space))), space.with_labels(["one", "an ö", '"\\'])):
        assert parse_space(tomllib.loads(space_toml(either)), Path("written.toml")) == either


@given(st.lists(st.integers(-2, 257) | st.booleans() | st.text(max_size=1), max_size=5))
def test_values_of_masks_are_one_a_class_all_different_or_refused(values):
    table = copy.deepcopy(DENSE) | {"mask_values": values}
    if len(values) == len(set(map(repr, values))) == 4 and all(
        type(v) is int and 0 <= v <= 255 for v in values
    ):
        space = parse_space(table, Path("made.toml"))
        assert list(space.mask_values) == values
        assert parse_space(tomllib.loads(space_toml(space)), Path("written.toml")) == space
        assert space.only(space.smallest()).mask_values == space.mask_values
        assert space.with_labels(["a", "b"]).mask_values == ()
    else:
        assert "'mask_values" in _refused(table)


def test_a_space_says_nothing_of_masks_unless_its_values_are_listed_and_a_classifier_has_none():
    assert "mask_values" not in space_toml(parse_space(DENSE, Path("made.toml")))
    assert "'mask_values' is for segmenters" in _refused({**TABLE, "mask_values": [0, 1, 2, 3]})


@pytest.mark.parametrize("table", [TABLE, DENSE], ids=["classifier", "segmenter"])
def test_images_are_resized_by_the_filter_that_a_space_names(table):
    plain = parse_space(table, Path("made.toml"))
    space = parse_space({**table, "filter": "bilinear"}, Path("made.toml"))
    assert parse_space(tomllib.loads(space_toml(space)), Path("written.toml")) == space
    assert space.digest() != plain.digest()
    for each, name in ((space, "bilinear"), (plain, "bicubic"), (space.with_labels(["a", "b"]), "bilinear")):
        rules = [each.preparation(), *(each.preparation(8, chain) for chain in CHAINS)]
        assert {rule.filter for rule in rules} == {name}


def test_a_space_says_nothing_of_the_filter_that_all_have():
    assert "filter" not in space_toml(parse_space({**TABLE, "filter": "bicubic"}, Path("made.toml")))


@pytest.mark.parametrize("name", ["nasvit", "alphanet", "nano"])
def test_shipped_spaces_read_back_as_well(name):
    space = load_space(name)
    assert parse_space(tomllib.loads(space_toml(space)), Path("written.toml")) == space


@settings(max_examples=60)
@given(spaces(), st.data())
def test_the_space_of_one_subnet_has_it_alone_with_the_same_ops(space, data):
    config = data.draw(configs(space))
    alone = space.only(config)
    assert re.fullmatch("tiny-subnet-[0-9a-f]{8}", alone.name)
    assert (family(alone.name), alone.size()) == ("tiny", 1)
    assert alone.smallest() == alone.largest() == alone.config(**config.to_dict()) == config
    assert [(op, op.name, op.key()) for op in lower(alone, config)] == [
        (op, op.name, op.key()) for op in lower(space, config)
    ]
    assert alone.only(config) == alone
    assert space.only(config, name="mine").name == "mine"


def test_a_space_takes_other_classes_and_keeps_the_rest(tiny):
    other = tiny.with_labels(["a", "b"])
    assert (other.classes, other.label_names()) == (2, ["a", "b"])
    assert other.with_labels(["1", "2", "3", "4"]).stages == tiny.stages
    for bad in ([], ["a", ""], ["a", "\udcff"]):
        with pytest.raises(SpaceError) as caught:
            tiny.with_labels(bad)
        one_line(caught)


NAMES = st.lists(st.text("ab\n\r\t\x85\u2028é\u0301e ", max_size=3), min_size=4, max_size=4)


@given(NAMES)
def test_labels_of_a_line_each_name_all_classes_or_are_refused_by_name(tiny, names):
    a_line_each = "".join(f"{name}\n" for name in names).splitlines() == names
    table, plain = {**TABLE, "labels": names}, a_line_each and "" not in names and "\t" not in "".join(names)
    if plain and len({normalize("NFC", name) for name in names}) == 4:
        assert parse_space(table, Path("made.toml")).label_names() == names
        assert tiny.with_labels(names).label_names() == names
    else:
        assert re.search("class name '|are both named '", _refused(table))
        with pytest.raises(SpaceError):
            tiny.with_labels(names)


def test_two_classes_of_one_name_are_told_however_it_is_written(tiny):
    with pytest.raises(SpaceError, match="classes 2 and 4 are both named 'cafe\u0301'"):
        tiny.with_labels(["a", "caf\xe9", "b", "cafe\u0301"])
    with pytest.raises(SpaceError, match=r"class name 'two\\nlines' holds a line break"):
        tiny.with_labels(["a", "two\nlines"])


def test_a_stage_that_always_expands_says_so():
    text = edited(TINY, ("expand_ratio = [1]\n", "expand_ratio = [1]\nexpands = true\n"))
    assert [stage.expands for stage in space_of(text).stages] == [True, True]
    assert "stage[1].expands" in _refused(
        tomllib.loads(edited(TINY, ("[2, 3]\n", "[2, 3]\nexpands = false\n")))
    )


def test_the_page_on_spaces_has_every_key():
    page = (Path(__file__).parents[1] / "docs" / "spaces.md").read_text()
    parts = (SpaceFile, StemSpec, StageSpec, HeadSpec, AttentionSpec, SqueezeSpec)
    keys = {field.name for part in parts for field in structs.fields(part)}
    assert {key for key in keys if not re.search(rf"\b{key}\b", page)} == set()
