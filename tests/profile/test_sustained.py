"""A sustained run: what a device does in its first minute and what it keeps up; searches can ask for either."""

from __future__ import annotations

import json
import math

import pytest
from conftest import TINY, one_line, only_user_errors, space_of
from hypothesis import given
from hypothesis import strategies as st
from made_up import parsed_table, table
from msgspec.structs import replace

from nasvit_edge.device import load_device
from nasvit_edge.errors import MeasurementError, NasvitEdgeError, TableError
from nasvit_edge.latency import load_table
from nasvit_edge.latency.file import SubnetEntry
from nasvit_edge.listening import SILENT
from nasvit_edge.profile import sustained
from nasvit_edge.profile.run import profile
from nasvit_edge.records import content
from nasvit_edge.space import load_space
from nasvit_edge.transport.answers import Failure, Measurement
from nasvit_edge.transport.local import local_runner

RUN = Measurement(id="m", samples_us=(1.0,), runtime_version="1")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("tables")
    toml = folder / "tiny.toml"
    toml.write_text(TINY)
    path = profile(load_space(toml), protocol="quick", out=folder)
    return load_table(path, space=toml)


@pytest.mark.slow
def test_the_host_runs_for_as_long_as_asked_and_the_table_keeps_it(measured):
    with local_runner(load_device("host").runner) as runner:
        figures = sustained.sustain(measured, runner, 4.0, 0, SILENT)
    assert figures.windows[-1][0] >= 3.6
    assert figures.minute1_ms > 0
    assert figures.factor == pytest.approx(figures.steady_ms / figures.minute1_ms, rel=1e-3)
    whole = {json.dumps(e.config, sort_keys=True): e.median_ms for e in measured.file.subnets}
    assert 0.2 < figures.minute1_ms / whole[json.dumps(figures.config, sort_keys=True)] < 5
    sustained.store(measured, figures)
    again = load_table(measured.path, space=measured.path.parent / "tiny.toml")
    assert sustained.steady_factor(again) == max(1.0, figures.factor)


class Ended:
    """A runner whose sustained run ended otherwise than asked."""

    def __init__(self, answer):
        self.answer = answer

    def bring(self, models, listener):
        pass

    def cores(self, _threads):
        return ()

    def measure(self, job, _timeout_s=0.0):
        return replace(self.answer, id=job.id)


@pytest.fixture
def unmeasured():
    """A table with one whole subnet, of made-up latency."""
    space = space_of(TINY)
    return table(space).holding(subnets=(SubnetEntry(config=space.smallest().to_dict(), median_ms=1.0),))


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (Failure(id="m", error="the runner died"), "the runner died"),
        (RUN, "ended after 0 of 100 s"),
        (replace(RUN, windows=((1.0, 5.0), (30.0, 5.0))), "ended after 30 of 100 s"),
    ],
)
def test_a_run_that_was_cut_short_is_no_measurement(unmeasured, answer, match):
    pytest.importorskip("onnxruntime")
    with pytest.raises(MeasurementError, match=match) as caught:
        sustained.sustain(unmeasured, Ended(answer), 100.0, 0, SILENT)
    assert "--sustained 100s" in one_line(caught)


def test_a_run_of_a_moment_is_refused(unmeasured):
    with pytest.raises(NasvitEdgeError, match="too short"):
        sustained.sustain(unmeasured, Ended(RUN), 0.5, 0, SILENT)


@given(
    st.floats(4.0, 3600.0),
    st.floats(1.0, 3.0),
    st.integers(8, 2000),
)
def test_a_device_that_slows_down_by_a_factor_has_that_factor(seconds, slowdown, count):
    """Fast for the first half, slow for the second."""
    times = [seconds * (i + 1) / count for i in range(count)]
    windows = [[s, 1000.0 * (slowdown if s > seconds / 2 else 1.0)] for s in times]
    report = sustained.report(windows, seconds)
    assert report.minute1_ms == pytest.approx(1.0)
    assert report.factor == pytest.approx(slowdown, rel=1e-3)
    assert len(report.windows) <= 600
    assert list(report.windows) == sorted(report.windows)


@given(
    st.one_of(
        st.none(),
        st.floats(),
        st.text(max_size=3),
        st.booleans(),
        st.fixed_dictionaries(
            dict.fromkeys(("seconds", "minute1_ms", "steady_ms"), st.just(1.0)) | {"factor": st.floats()}
        ),
    )
)
def test_a_damaged_entry_is_a_clear_line_or_a_sane_factor(entry):
    latencies = table(load_space("nano"))

    def factor_of():
        raw = content(latencies.file) | {"sustained": entry}
        return sustained.steady_factor(parsed_table(latencies.path, raw, latencies.space))

    factor = only_user_errors(factor_of)
    if isinstance(factor, str):
        assert "--sustained 10m" in factor or "'sustained" in factor
    else:
        assert 1.0 <= factor < 100
        assert math.isfinite(factor)


def test_a_table_without_whole_subnets_cannot_be_sustained():
    with pytest.raises(TableError, match="holds no whole subnets"):
        sustained.middle_subnet(table(load_space("nano")))
