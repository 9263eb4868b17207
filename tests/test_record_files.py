"""What is read from files is a record or one line: whatever part of a good file is another, and what is written again is equal."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import only_user_errors
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge import files
from nasvit_edge.device import parse_device

DEVICE = files.shipped("devices") / "linux-ssh" / "device.toml"
EXTRA = {"tool": "trtexec", "port": 22, "threads": 4, "cores": [4, 5], "client": ""}


class Kind(NamedTuple):
    """A kind of file: what a good one holds, and how it is read."""

    good: Any
    read: Callable[[Any], Any]
    rewritten: Callable[[Any], Any] | None = None


KINDS = {
    "device": Kind(
        files.read_toml(DEVICE, "device") | EXTRA, lambda value: parse_device(value, Path("a file"))
    ),
}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**63, 10**400, -1, 0, float("nan"), float("inf"), -0.0, 1e308]),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(["-oProxyCommand=x", "../x", "a\n", "\x00", "\udcff", "x" * 5000]),
    st.lists(st.integers() | st.text(max_size=2), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a value but the whole."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*at, key)
        yield from places(part, (*at, key))


def changed(good: Any, place: tuple[Any, ...], value: Any, how: str) -> Any:
    """`good` with another value at a place, nothing there, or one more key beside it."""
    made = copy.deepcopy(good)
    holder = made
    for key in place[:-1]:
        holder = holder[key]
    if how == "without":
        del holder[place[-1]]
    elif how == "more" and isinstance(holder, dict):
        holder["more"] = value
    else:
        holder[place[-1]] = value
    return made


@pytest.mark.parametrize("name", KINDS)
def test_a_good_file_is_read_and_written_again_as_it_was(name):
    kind = KINDS[name]
    record = kind.read(kind.good)
    assert kind.rewritten is None or kind.rewritten(record) == kind.good


@pytest.mark.parametrize("name", KINDS)
@given(st.data())
def test_a_changed_file_is_a_record_or_one_line(name, data):
    kind = KINDS[name]
    place = data.draw(st.sampled_from(sorted(places(kind.good), key=repr)), "place")
    how = data.draw(st.sampled_from(["other", "other", "without", "more"]), "how")
    value = changed(kind.good, place, data.draw(VALUES, "value"), how)
    found = only_user_errors(kind.read, value)
    if isinstance(found, str):
        assert "a file" in found
        assert len(found) < 1000
    elif kind.rewritten is not None:
        assert kind.rewritten(kind.read(kind.rewritten(found))) == kind.rewritten(found)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("value", [[], "x", None, 1, {}], ids=repr)
def test_what_is_no_file_of_the_kind_is_one_line(name, value):
    assert "a file" in only_user_errors(KINDS[name].read, value)
