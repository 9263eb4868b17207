"""Tables fitted anew: the same measurements, today's model, nothing lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import parsed_table
from msgspec.structs import asdict

from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.latency import load_table
from nasvit_edge.profile.refit import refitted
from nasvit_edge.records import content

SHIPPED = sorted(files.shipped("latency_tables").glob("*.json"))
VALIDATED = "intel-xeon-6-167-onnxruntime-1t-fp32-nano"


@pytest.fixture(scope="module")
def table():
    return load_table(next(path for path in SHIPPED if path.stem == VALIDATED))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_table_is_fitted_by_todays_code(path):
    table = load_table(path)
    if table.file.provenance != "measured":
        return
    again = refitted(table)
    for part in ("context", "composition"):
        stored, fitted = (flat(content(one.file)[part]) for one in (table, again))
        assert fitted == pytest.approx(stored, rel=1e-3, abs=1e-6)


def flat(values):
    return {
        f"{key}.{inner}": number
        for key, value in values.items()
        for inner, number in (value if isinstance(value, dict) else {"": value}).items()
    }


def test_a_refit_keeps_every_measurement(table):
    again = refitted(table.holding(context=None, composition=None)).file
    for key in set(asdict(table.file)) - {"context", "composition", "validation"}:
        assert getattr(again, key) == getattr(table.file, key)
    before, after = (file.validation.subnets for file in (table.file, again))
    assert [row.measured_ms for row in after] == [row.measured_ms for row in before]
    assert again.validation.date == table.file.validation.date


def test_a_stored_validation_follows_the_new_predictions(table):
    again = refitted(table.holding(composition=replace(table.composition, scale=2.0)))
    config = table.space.config_from(again.file.validation.subnets[0].config)
    predicted_ms = again.file.validation.subnets[0].predicted_ms
    assert predicted_ms == pytest.approx(again.predict(config).ms, rel=1e-4)
    assert again.file.validation.mape < 0.1


def test_a_table_without_subnets_says_so(table):
    with pytest.raises(TableError, match=r"no whole subnets.*measure it again"):
        refitted(table.holding(subnets=()))


@settings(deadline=None, max_examples=60)
@given(
    junk=st.one_of(
        st.none(),
        st.booleans(),
        st.floats(),
        st.text(max_size=3),
        st.lists(st.none(), max_size=2),
        st.just({}),
    ),
    where=st.sampled_from(["subnets", "median_ms", "config", "validation", "rows", "measured_ms"]),
)
def test_damaged_subnets_are_an_error_or_give_finite_numbers(table, junk, where):
    raw = content(table.file)
    if where in ("subnets", "validation"):
        raw[where] = junk
    elif where in ("median_ms", "config"):
        raw["subnets"][1][where] = junk
    elif where == "rows":
        raw["validation"]["subnets"] = junk
    else:
        raw["validation"]["subnets"][0][where] = junk
    try:
        result = refitted(parsed_table(table.path, raw, table.space))
    except NasvitEdgeError:
        return
    assert 0 < result.predict(table.space.smallest()).ms < 1e9
