"""What commands print while they work."""

from __future__ import annotations

import time

import pytest

from nasvit_edge.cli import output
from nasvit_edge.cli.errors import reported
from nasvit_edge.errors import NasvitEdgeError


def test_the_pace_of_one_thing_says_nothing_of_the_next(monkeypatch, capsys):
    monkeypatch.setattr(output, "_LINE_SECONDS", -1.0)
    show = output._lines("training").progress
    show(1, 9, "looking at masks")
    time.sleep(0.02)
    show(9, 9, "looking at masks")
    show(2, 1000, "loss 1")  # eight masks in 20 ms are no eight steps
    time.sleep(0.02)
    show(3, 1000, "loss 1")
    lines = capsys.readouterr().err.splitlines()
    assert [("left" in line) for line in lines] == [False, False, False, True]


@pytest.mark.parametrize("text", ["\x1b]0;title\x07", "\x1b[2J", "a\rb", "\x9b2J", "\u202egpj.exe"])
def test_a_terminal_obeys_nothing_that_a_file_says(text, capsys):
    output.note(text)
    output.print_table([text, "b"], [["a", text]], text)

    @reported
    def fails():
        raise NasvitEdgeError(f"table {text} is none")

    with pytest.raises(SystemExit):
        fails()
    said = "".join(capsys.readouterr())
    assert not set(said) & set("\x1b\x07\r\x9b\u202e")
    assert said.count("?") >= 4


def test_other_texts_are_told_as_they_are(capsys):
    output.note("größer: 模型\n\tzwei")
    assert capsys.readouterr().err == "größer: 模型\n\tzwei\n"
