"""How fast this machine is today: one factor over a table's own models, and silence where the table is another machine's."""

from __future__ import annotations

import time

import pytest
from conftest import TINIER
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import COMPOSITION, table
from msgspec.structs import replace

from nasvit_edge.code import code_digest
from nasvit_edge.errors import DeviceError
from nasvit_edge.latency import load_table
from nasvit_edge.latency.file import Canaries, OpEntry, SubnetEntry
from nasvit_edge.latency.speed import TodaysSpeed
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.ops import lower
from nasvit_edge.profile import speed
from nasvit_edge.profile.models import composition_subnets
from nasvit_edge.profile.trust import fingerprint
from nasvit_edge.space import load_space
from nasvit_edge.transport.answers import Failure, Measurement

NANO = load_space("nano")
HERE = fingerprint()


def whole(prediction, config):
    return SubnetEntry.of(config.to_dict(), OpEntry(median_ms=prediction.ms))


BARE = table(NANO, 0, COMPOSITION).holding(fingerprint=HERE, provenance="measured", code=code_digest())
TABLE = BARE.holding(
    subnets=tuple(whole(BARE.predict(config), config) for config in composition_subnets(NANO, 20, 0))
)


class Machine:
    """A runner of a machine that takes `factor` times what a table says of each model."""

    def __init__(self, made_of, factor, broken=()):
        self.times_ms = {item.id: ms for item, ms in speed._times(made_of).items()}
        self.factor, self.broken, self.asked = factor, broken, []

    def cores(self, threads):  # noqa: ARG002
        return ()

    def measure(self, job, timeout_s=0.0):  # noqa: ARG002
        self.asked.append(job.id)
        if job.id in self.broken:
            return Failure(id=job.id, error="it broke")
        us = 1e3 * self.factor * self.times_ms[job.id]
        return Measurement(id=job.id, samples_us=(0.9 * us, us, 1.4 * us), runtime_version="1")


@pytest.fixture(autouse=True, scope="module")
def no_models():
    """Nothing is converted: these machines read no models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "_files", lambda table, items, listener: dict.fromkeys(items, "m"))
        yield


@given(factor=st.floats(0.3, 4.0))
@settings(max_examples=30)
def test_the_factor_is_found_whatever_it_is_and_differs_beyond_the_noise_alone(factor):
    today = speed.todays_speed(TABLE, SILENT, Machine(TABLE, factor))
    assert today.factor == pytest.approx(factor, abs=1e-4)
    assert today.noise == pytest.approx(0.05)  # the table holds no canaries
    assert today.differs == (today.factor > 1.05 or today.factor < 1 / 1.05)


def test_whole_subnets_are_timed_and_of_a_table_without_them_canaries_and_ops():
    machine = Machine(TABLE, 1.0)
    speed.todays_speed(TABLE, SILENT, machine)
    assert len(machine.asked) == 6
    assert all(name.startswith("subnet:") for name in machine.asked)
    machine = Machine(BARE, 1.2)
    assert speed.todays_speed(BARE, SILENT, machine).factor == pytest.approx(1.2)
    assert not any(name.startswith("subnet:") for name in machine.asked)
    assert len(set(machine.asked)) == 7  # two canaries, five ops; the smallest subnet was not measured


def test_a_model_that_fails_is_left_out_and_where_too_few_are_left_nothing_is_said():
    first, *others = speed._times(BARE)
    machine = Machine(BARE, 1.3, broken=(first.id,))
    assert speed.todays_speed(BARE, SILENT, machine).factor == pytest.approx(1.3)
    machine = Machine(BARE, 1.3, broken=(first.id, *(item.id for item in others[:4])))
    assert speed.todays_speed(BARE, SILENT, machine) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": HERE | {"soc": "another"}},
        {"fingerprint": None},
        {"provenance": "imported"},
        {"device": "board"},
        {"target": "board"},
    ],
)
def test_nothing_is_timed_for_a_table_of_another_machine(changes):
    assert speed.todays_speed(TABLE.holding(**changes), SILENT, Machine(TABLE, 2.0)) is None


@given(now=st.floats(0.5, 2), then=st.floats(0.5, 2))
@settings(max_examples=20)
def test_of_tables_of_two_days_it_is_known_how_much_slower_the_second_was(now, then):
    entries = (replace(entry, median_ms=then * entry.median_ms) for entry in TABLE.file.subnets)
    later = TABLE.holding(subnets=tuple(entries))
    first, second = speed.relative_speeds([TABLE, later], SILENT, Machine(TABLE, now))
    assert (first.factor, first.error) == (1, 0)
    assert second.factor == pytest.approx(1 / then)
    assert second.error == pytest.approx(0, abs=1e-9)


def test_tables_of_which_one_is_of_another_machine_or_has_a_model_that_fails_are_left_as_they_are():
    other = TABLE.holding(fingerprint=HERE | {"soc": "another"})
    assert speed.relative_speeds([TABLE, other], SILENT, Machine(TABLE, 1.0)) is None
    notes = []
    broken = Machine(TABLE, 1.0, broken=(next(iter(speed._times(TABLE))).id,))
    assert speed.relative_speeds([TABLE, TABLE], Listener(note=notes.append), broken) is None
    assert "it broke" in notes[0]


def test_a_table_that_was_passed_on_under_a_name_is_still_this_machine_s():
    named = TABLE.holding(device="my-pc", target="host")
    assert speed.todays_speed(named, SILENT, Machine(TABLE, 2.0)).factor == pytest.approx(2.0)


def test_a_runner_that_is_gone_ends_nothing_and_is_told():
    class Gone(Machine):
        def measure(self, job, timeout_s=0.0):  # noqa: ARG002
            raise DeviceError("the runner died")

    notes = []
    assert speed.todays_speed(TABLE, Listener(note=notes.append), Gone(TABLE, 1.0)) is None
    assert notes == ["whether this machine is as fast as its table says is not known: the runner died"]


def test_what_today_s_passes_differ_by_is_noise():
    class Wavering(Machine):
        def measure(self, job, timeout_s=0.0):  # noqa: ARG002
            self.factor = 1.0 if len(self.asked) < 3 else 1.5
            return super().measure(job)

    today = speed.todays_speed(TABLE, SILENT, Wavering(TABLE, 1.0))
    assert today.noise == pytest.approx(0.5, abs=1e-3)
    assert not today.differs


@given(readings=st.lists(st.floats(0.96, 1.04), min_size=2, max_size=9), wild=st.floats(1.2, 3.0))
def test_a_table_s_noise_is_that_of_the_readings_whose_entries_were_kept(readings, wild):
    def of(listed):
        canaries = Canaries(threshold=0.05, readings=tuple(listed), largest=0.0, set_aside=0, measured=9)
        return speed.noise_of(TABLE.holding(canaries=canaries))

    assert of(readings) == of([*readings, wild])
    assert speed.LEAST_NOISE <= of(readings) <= 0.1


def test_what_is_computed_another_way_since_is_not_timed(monkeypatch):
    changed = {op.key() for item in speed._times(TABLE) for op in lower(NANO, item.config)}
    monkeypatch.setattr(speed, "outdated", lambda table, ops: sorted(changed))
    assert speed._times(TABLE) == {}


def test_the_line_says_the_factor_and_the_noise():
    today = TodaysSpeed(factor=1.1119, noise=0.031, models=3)
    assert today.line() == "today this machine takes 1.112 times what its table says (noise 3.1%)"
    assert replace(today, factor=1.03).differs is False


@pytest.mark.slow
def test_a_profile_keeps_the_models_so_that_a_look_at_today_takes_seconds(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    from nasvit_edge.profile.run import profile

    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    toml = tmp_path / "tiny.toml"
    toml.write_text(TINIER)
    made_here = load_table(profile(load_space(toml), protocol="quick", out=tmp_path), space=toml)
    assert len(list((tmp_path / "cache" / "nasvit-edge" / "canaries").rglob("*.onnx"))) == 3
    begun = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "_fill", None)  # nothing is made
        patch.setattr(speed, "_files", lambda table, items, listener: speed._places(table, items))
        today = speed.todays_speed(made_here)
    assert 0.3 < today.factor < 3
    assert time.monotonic() - begun < 60  # 2 s on a machine that does nothing else
