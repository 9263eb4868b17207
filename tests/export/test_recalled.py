"""An export that is far below what its search said is told; one that is not, is not."""

from __future__ import annotations

import pytest

from nasvit_edge import data_sets
from nasvit_edge.export import recalled
from nasvit_edge.export.sidecar import Searched
from nasvit_edge.listening import Listener
from nasvit_edge.model.accuracy import calibrated
from nasvit_edge.model.checkpoint import load_supernet, random_supernet
from nasvit_edge.model.subnet import materialise
from nasvit_edge.space import load_space

NANO = load_space("nano")
SEARCH = Searched(
    predicted_ms=1.0,
    accuracy=0.9,
    device="host",
    runtime="onnxruntime",
    threads=1,
    precision="fp32",
    accuracy_source="measured on 1,000 images",
    accuracy_uncertainty=0.009,
    table_sha256="0" * 64,
)


@pytest.fixture(scope="module")
def subnet():
    network = materialise(load_supernet("nano", NANO), NANO.smallest())
    return calibrated(network, data_sets.bundled("calibration", NANO).take("some", slice(0, 256)))


def test_an_export_as_good_as_its_search_is_not_spoken_of(subnet):
    notes: list[str] = []
    comparison = recalled.compare(subnet, "bundled", SEARCH, Listener(note=notes.append), weights="nano")
    assert 0.85 < comparison < 0.95
    assert notes == []


def test_one_far_below_is_told_with_both_figures(subnet):
    notes: list[str] = []
    black = data_sets.bundled("calibration", NANO)
    black.pixels.zero_()
    spoilt = calibrated(materialise(load_supernet("nano", NANO), NANO.smallest()), black)
    comparison = recalled.compare(spoilt, "bundled", SEARCH, Listener(note=notes.append), weights="nano")
    (line,) = notes
    assert line.startswith(f"WARNING: top-1 is {comparison:.1%} on 500 of")
    assert "the search had 90.0% (measured on 1,000 images)" in line
    assert "--calibrate" in line


def test_what_cannot_be_compared_is_not(subnet, tmp_path):
    (tmp_path / "flat").mkdir()
    for data, search in (
        ("bundled", None),
        (str(tmp_path / "flat"), SEARCH),
        (str(tmp_path / "absent"), SEARCH),
    ):
        assert recalled.compare(subnet, data, search, Listener(note=pytest.fail), weights="nano") is None
    generic = materialise(random_supernet(NANO), NANO.smallest())
    assert recalled.compare(generic, "bundled", SEARCH, Listener(note=pytest.fail), weights="nano") is None
