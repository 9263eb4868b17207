"""What a model says of how its images are prepared, as programs read it."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.data_sets import prepare_image
from nasvit_edge.preparation import CHAINS, Filter
from nasvit_edge.space import load_space

SPACES = [load_space(name) for name in ("nano", "nasvit", "nano-dense")]
PLAIN = json.loads(json.dumps(load_space("nasvit").preparation(192).to_dict()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def _refused(text):
    with pytest.raises(ValueError, match=r"export it again|bundled with the model") as caught:
        prepare_image.described({"preparation": text})
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
@pytest.mark.parametrize("chain", CHAINS)
def test_what_a_space_says_is_read_as_it_is(space, chain):
    for resolution in space.resolutions:
        text = json.dumps(space.preparation(resolution, chain).to_dict())
        assert prepare_image.described({"preparation": text}) == json.loads(text)


def test_either_filter_is_read():
    for how in get_args(Filter):
        assert prepare_image.described({"preparation": json.dumps(PLAIN | {"filter": how})})["filter"] == how


def test_a_model_of_an_older_version_says_nothing_and_is_to_be_exported_again():
    with pytest.raises(ValueError, match="older nasvit-edge wrote it; export it again"):
        prepare_image.described({"mean": "[0, 0, 0]", "resolution": "28"})


@pytest.mark.parametrize(
    ("key", "value"), [("orientation", "none"), ("color", "BGR"), ("filter", "lanczos"), ("antialias", False)]
)
def test_what_no_program_does_is_named(key, value):
    line = _refused(json.dumps(PLAIN | {key: value}))
    assert key in line
    assert repr(value) in line


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("resize", value) for value in (0, -1, 20000, 2.5, True, [10], [300, 10], "224")),
        *(("crop", value) for value in (224, [224], [257, 224], [0, 1], [1e2, 1])),
        ("size", [192]),
        *(("std", value) for value in ([1, 1], [1, 1, 0], [1, 1, float("nan")], [1, 1, "1"])),
        ("mean", [float("inf"), 0, 0]),
        ("range", [0]),
        *(("background", value) for value in ([255, 255], [0, 0, 256], [0, 0, 0.5])),
    ],
)
def test_a_number_that_cannot_be_is_refused(key, value):
    _refused(json.dumps(PLAIN | {key: value}))


@pytest.mark.parametrize("key", sorted(set(PLAIN) - {"chain", "crop_share"}))
def test_a_key_that_is_missing_is_refused(key):
    _refused(json.dumps({name: value for name, value in PLAIN.items() if name != key}))


@given(st.text() | JSON.map(json.dumps))
def test_any_other_text_is_refused_in_one_line(text):
    _refused(text)


def _read(text):
    """The description, or the line that refuses it."""
    try:
        return prepare_image.described({"preparation": text})
    except ValueError as error:
        return str(error)


@given(key=st.sampled_from(sorted(PLAIN)), value=JSON)
def test_any_other_value_is_refused_or_can_be_computed_with(key, value):
    actual = _read(json.dumps(PLAIN | {key: value}))
    assert "\n" not in actual if isinstance(actual, str) else prepare_image.geometry(3, 2, actual)
