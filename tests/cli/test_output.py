"""What commands print while they work."""

from __future__ import annotations

import time

from nasvit_edge.cli import output


def test_the_pace_of_one_thing_says_nothing_of_the_next(monkeypatch, capsys):
    monkeypatch.setattr(output, "_LINE_SECONDS", -1.0)
    show = output._lines("training")
    show(1, 9, "looking at masks")
    time.sleep(0.02)
    show(9, 9, "looking at masks")
    show(2, 1000, "loss 1")  # eight masks in 20 ms are no eight steps
    time.sleep(0.02)
    show(3, 1000, "loss 1")
    lines = capsys.readouterr().err.splitlines()
    assert [("left" in line) for line in lines] == [False, False, False, True]
