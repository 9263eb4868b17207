"""The unit of an imported table: a mistake is refused or told, whichever way, and a unit that is given is followed."""

from __future__ import annotations

import json
import shlex

import pytest
from nn_meter_table import small_table

from nasvit_edge.errors import TableError
from nasvit_edge.flows.tables import import_table
from nasvit_edge.latency import load_table, nn_meter, unit_check
from nasvit_edge.latency.file import OpEntry
from nasvit_edge.ops import all_ops
from nasvit_edge.requests.tables import Import
from nasvit_edge.space import load_space

SPACE = load_space("nasvit")
PHONE = small_table()  # nearly 1 GMAC/s
OP = next(op for op in all_ops(SPACE) if op.kind == "stem")
KEY = f"firstconv_{OP.height}_3_{OP.channels}_2_3_swish"


def written(folder, factor, **entries):
    path = folder / "lut.json"
    path.write_text(json.dumps({key: factor * ms for key, ms in PHONE.items()} | entries))
    return path


def imported(folder, factor, unit=None, **entries):
    path = written(folder, factor, **entries)
    return import_table(Import(kind="nn-meter", file=path, device="phone", unit=unit, out=folder / "tables"))


@pytest.mark.parametrize(
    ("rate", "is_possible"), [(1.1e12, False), (0.9e12, True), (1.1e6, True), (0.9e6, False)]
)
def test_an_op_may_run_at_1_mmac_to_1_tmac_a_second(tmp_path, rate, is_possible):
    ms = 1e3 * OP.macs() / rate
    if is_possible:
        imported(tmp_path, 1.0, **{KEY: ms})
        return
    with pytest.raises(TableError, match="which nothing does") as caught:
        imported(tmp_path, 1.0, **{KEY: ms})
    assert repr(OP.key()) in str(caught.value)
    assert not (tmp_path / "tables").exists()
    report = imported(tmp_path, 1.0, "ms", **{KEY: ms})
    assert report.entries > 100


def test_threads_share_an_ops_macs():
    file, _ = nn_meter.imported(PHONE, SPACE, "phone")
    entry = OpEntry(median_ms=1e3 * OP.macs() / 2e12)
    for threads, is_possible in ((1, False), (4, True)):
        many = type(file)(**{k: getattr(file, k) for k in file.__struct_fields__} | {"threads": threads})
        many.ops[OP.key()] = entry
        if is_possible:
            unit_check.refuse_impossible(many, SPACE, "ms", "")
        else:
            with pytest.raises(TableError):
                unit_check.refuse_impossible(many, SPACE, "ms", "")


@pytest.mark.parametrize(("unit", "factor"), [("s", 1e-3), ("us", 1e3), ("ns", 1e6)])
def test_figures_in_another_unit_are_never_taken_for_milliseconds_in_silence(tmp_path, unit, factor):
    try:
        doubt = imported(tmp_path, factor).doubt
    except TableError as error:
        doubt = str(error)
    assert unit in shlex.split(doubt.replace(",", " "))
    right, plain = imported(tmp_path, factor, unit), imported(tmp_path, 1.0, "ms")
    assert right.doubt == ""
    ops = [load_table(report.path, space=SPACE).ops_ms for report in (right, plain)]
    assert ops[0] == pytest.approx(ops[1])


def test_a_usual_table_raises_no_doubt(tmp_path):
    assert imported(tmp_path, 1.0).doubt == ""
