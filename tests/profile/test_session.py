"""When a profile ends early: as soon as three different models in a row broke the runtime, and never before."""

from __future__ import annotations

import pytest
from conftest import one_line
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.errors import DeviceError
from nasvit_edge.listening import SILENT
from nasvit_edge.profile.models import Item
from nasvit_edge.profile.protocol import PROTOCOLS
from nasvit_edge.profile.session import Session
from nasvit_edge.transport.answers import Broken, Failure, Measurement

KINDS = {
    "broken": lambda name: Broken(id=name, error="the runtime crashed (SIGILL)"),
    "failed": lambda name: Failure(id=name, error="no such op"),
    "good": lambda name: Measurement(id=name, samples_us=(1.0,), runtime_version="1"),
}


class Answers:
    """A runner that answers by a list of kinds."""

    def __init__(self, kinds):
        self.kinds = iter(kinds)

    def measure(self, job):
        return KINDS[next(self.kinds)](job.id)


def asked(names, kinds):
    """How many models were asked for until the end, and the error that it was; None where there was none."""
    session = Session(
        protocol=PROTOCOLS["quick"],
        runtime="onnxruntime",
        threads=1,
        cores=(),
        seed=0,
        models=None,
        journal=None,
        runner=Answers(kinds),
        canaries=(),
        listener=SILENT,
        device="board",
        prepared=dict.fromkeys(names, ("m.onnx", "")),
    )
    for count, name in enumerate(names):
        try:
            session._ask(Item(name))
        except DeviceError as error:
            return count + 1, one_line(error)
    return None


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(sorted(KINDS))), max_size=12))
def test_three_different_models_in_a_row_that_break_it_end_the_run_and_nothing_else_does(answers):
    expected, row = None, set()
    for count, (name, kind) in enumerate(answers):
        row = row | {name} if kind == "broken" else set()
        if len(row) == 3:
            expected = count + 1
            break
    end = asked([name for name, _ in answers], [kind for _, kind in answers])
    assert (end and end[0]) == expected
    assert (
        not end
        or "device 'board': 3 models in a row could not be measured: the runtime crashed (SIGILL)" in end[1]
    )


@pytest.mark.parametrize("kind", ["failed", "good"])
def test_a_model_that_was_answered_begins_the_count_anew(kind):
    names = ["a", "b", "c", "d", "e"]
    assert asked(names, ["broken", "broken", kind, "broken", "broken"]) is None
