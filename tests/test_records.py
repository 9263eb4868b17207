"""Typed records: what is written is read again, and what is no record is one line with file, key, value and what is possible."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import msgspec
import pytest
from conftest import one_line
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, field

from nasvit_edge import records
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.records import Count, Name, Plain, Positive, Record, RecordError, Sha256, Share, Strict


class Part(Record, frozen=True, kw_only=True):
    samples_us: Annotated[tuple[Positive, ...], Meta(min_length=1)]
    share: Share | None = None


class Thing(Record, frozen=True, kw_only=True):
    schema: Literal[2]
    name: Name
    kind: Literal["small", "large"] = "small"
    threads: Count = 1
    ops: dict[str, Positive] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    pair: tuple[Positive, Count] = (1.0, 1)


class Asked(Strict, frozen=True, kw_only=True):
    name: Name
    address: Plain = ""


GOOD = {
    "schema": 2,
    "name": "a",
    "ops": {f"op{i}": 1.5 for i in range(50)},
    "parts": [{"samples_us": [1, 2.5]}],
}


def error(change, kind=Thing):
    with pytest.raises(RecordError) as caught:
        records.parse(kind, change, "thing 'x.json'")
    return one_line(caught)


def test_what_is_written_is_read_again(tmp_path):
    thing = records.parse(Thing, GOOD, "")
    records.write(tmp_path / "x.json", thing)
    assert records.read(Thing, tmp_path / "x.json", "thing") == thing
    assert json.loads((tmp_path / "x.json").read_text()) == GOOD  # what is not said is not written


def test_keys_of_newer_versions_are_passed_over_but_not_in_what_people_write():
    assert records.parse(Thing, GOOD | {"newer": 1}, "") == records.parse(Thing, GOOD, "")
    assert error({"name": "a", "adress": "x"}, Asked) == (
        "thing 'x.json': key 'adress' is unknown; possible are name, address"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema": 1}, " has schema 1; this version reads schema 2"),
        ({"schema": True}, " has schema True; this version reads schema 2"),
        ({"schema": 2.0}, " has schema 2.0; this version reads schema 2"),
        ({"name": "../x"}, ": key 'name' is '../x'; up to 64 letters, digits, '.', '_' and '-', no '.' or '-' first"),
        ({"kind": "middle"}, ": key 'kind' is 'middle'; possible are large, small"),
        ({"threads": 0}, ": key 'threads' is 0; it has to be a whole number >= 1"),
        ({"threads": True}, ": key 'threads' is True; it has to be a whole number"),
        ({"threads": [1]}, ": key 'threads' is a list of 1; it has to be a whole number"),
        ({"ops": {**GOOD["ops"], "op37": -1}}, ": key 'ops.op37' is -1; a number above 0 and below 1e10"),
        ({"ops": {"a": float("nan")}}, ": key 'ops.a' is nan; a number above 0 and below 1e10"),
        ({"parts": [{}]}, ": key 'parts[0].samples_us' is missing"),
        ({"parts": [{"samples_us": []}]}, ": key 'parts[0].samples_us' is a list of 0; it has to be a list of length >= 1"),
        ({"parts": [{"samples_us": [1, "x"]}]}, ": key 'parts[0].samples_us[1]' is 'x'; a number above 0 and below 1e10"),
        ({"parts": [{"samples_us": [1], "share": 2}]}, ": key 'parts[0].share' is 2; a number from 0 to 1"),
        ({"pair": [1.0, "x"]}, ": key 'pair[1]' is 'x'; it has to be a whole number"),
    ],
    ids=str,
)  # fmt: skip
def test_an_error_names_file_key_value_and_what_is_possible(change, told):
    assert error(GOOD | change) == f"thing 'x.json'{told}"


def test_no_table_at_all_is_told(tmp_path):
    assert error([]) == "thing 'x.json': it has to be a table, not a list of 0"
    (tmp_path / "x.toml").write_text("name = 'a'\naddress = '-oProxyCommand=x'")
    with pytest.raises(NasvitEdgeError, match="may not begin with '-'"):
        records.read(Asked, tmp_path / "x.toml", "thing")
    with pytest.raises(NasvitEdgeError, match="thing"):
        records.read(Asked, tmp_path / "y.json", "thing")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.sampled_from(sorted(GOOD)), JSON)
def test_any_value_of_any_key_is_read_or_one_line(key, value):
    thing, text = records.parse(Thing, GOOD, ""), None
    try:
        thing = records.parse(Thing, GOOD | {key: value}, "thing 'x.json'")
    except RecordError as caught:
        text = caught
    assert text is None or ("\n" not in str(text) and text.key.split(".")[0].split("[")[0] in ("", key))
    assert all(0 < ms < 1e10 for ms in thing.ops.values())


def test_a_schema_is_told_of_each_kind():
    actual = records.schema(Thing, Asked)
    assert set(actual) == {"Thing", "Asked", "Part"}
    assert actual["Asked"]["additionalProperties"] is False
    assert msgspec.json.encode(actual)


def test_a_digest_is_one():
    for text in ("", "a" * 63, "A" * 64, "a" * 64 + "\n"):
        with pytest.raises(RecordError, match="64 hex digits"):
            records.parse(Sha256, text, "x")
    assert records.parse(Sha256, "0" * 64, "x") == "0" * 64
