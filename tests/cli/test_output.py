"""What commands print while they work."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import edited

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


def console(encoding):
    """A stream of a console or a file, and the bytes that arrive."""
    arrived = io.BytesIO()
    return io.TextIOWrapper(arrived, encoding=encoding, write_through=True), arrived


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii", "utf-8"])
def test_no_console_stops_a_command_at_a_character(encoding, monkeypatch):
    stream, arrived = console(encoding)
    output.speak(stream)
    monkeypatch.setattr(sys, "stdout", stream)
    output.print_table(["größer", "b"], [["▁▂▃ 模型", "🔴 \udcff"]], "a → b")
    shown = arrived.getvalue().decode(encoding)
    assert ("▁▂▃ 模型" if encoding == "utf-8" else r"\u2581\u2582\u2583 \u6a21\u578b") in shown
    assert ("┃" in shown) == (encoding == "utf-8")  # else lines are drawn in ASCII


@pytest.mark.parametrize(("chosen", "encoding"), [(None, "utf-8"), ("cp1252", "cp1252")])
def test_what_windows_redirects_is_utf_8_unless_the_user_chose(chosen, encoding, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    if chosen:
        monkeypatch.setenv("PYTHONIOENCODING", chosen)
    stream, arrived = console("cp1252")
    output.speak(stream)
    stream.write("ü → ü")
    assert arrived.getvalue() == "ü → ü".encode(encoding, "backslashreplace")


def test_a_whole_command_ends_well_on_a_console_of_few_characters(tmp_path):
    device = (Path(output.__file__).parents[2] / "devices/host/device.toml").read_text()
    (tmp_path / "own.toml").write_text(edited(device, ("this machine's CPU", "Prüfstand → ▁ 模型")))
    command = [sys.executable, "-m", "nasvit_edge.cli", "devices", "show", "own.toml"]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert process.returncode == 0, process.stderr
    assert "Prüfstand" in process.stdout.decode("cp1252")
