"""A profile of a Mac, from the address that the real server shows to the table."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import require_module
from made_up import parsed_table
from reference_coreml import SPACE, brief, bundle, mac, open_model

from nasvit_edge.device import load_device
from nasvit_edge.listening import Listener
from nasvit_edge.ops import all_ops
from nasvit_edge.profile.run import Choice, measure_table
from nasvit_edge.transport.pull import pull_runner
from nasvit_edge.transport.ways import Ways

require_module("coremltools")


def profiled(device, ways, client, folder, factory, on_progress):
    """The table's content, measured by `client`, which is started with the address that is shown."""
    with brief(factory):
        bundle(factory)  # converts the models
        try:
            with pull_runner(device, ways, Listener(note=client.note)) as runner:
                path = measure_table(
                    SPACE,
                    device,
                    runner,
                    Choice(protocol="quick"),
                    out=folder,
                    listener=Listener(progress=on_progress),
                )
            client.join()
        finally:
            client.close()
    raw = json.loads(path.read_text())
    table = parsed_table(path, raw, SPACE)
    assert set(table.ops_ms) == {op.key() for op in all_ops(SPACE)}
    assert table.predict(SPACE.smallest()).ms < table.predict(SPACE.largest()).ms
    assert (raw["target"], raw["transport"]) == ("mac", "pull")


class Thread:
    """The program in a thread, stopped as by Ctrl-C at its tenth model and started again."""

    def __init__(self, program):
        self.program, self.opened, self.codes, self.thread = program, 0, [], None

    def note(self, text):
        match = re.search(r"https?://\S+", text)
        if match and self.thread is None:
            self.thread = threading.Thread(target=self.run, args=(match[0],))
            self.thread.start()

    def run(self, url):
        for _ in range(2):
            self.codes.append(self.program.main([url], self.open))

    def open(self, *arguments):
        self.opened += 1
        if self.opened == 10:
            raise KeyboardInterrupt
        return open_model(*arguments)

    def join(self):
        self.thread.join(timeout=30)
        assert self.codes == [130, 0]

    def close(self):
        self.thread.join(timeout=30)


@pytest.mark.slow
def test_a_profile_over_tls_goes_on_where_the_mac_was_stopped(tmp_path, tmp_path_factory):
    device, seen = load_device("mac").at("127.0.0.1", None), []

    def progress(done, total, detail):
        seen.extend([done] if detail == "measuring" else [])

    profiled(device, Ways(tls=True, wait_s=30), Thread(mac()), tmp_path, tmp_path_factory, progress)
    assert seen == list(range(1, len(seen) + 1))


PROCESS = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from reference_coreml import mac, open_model
torch.set_num_threads(1)
raise SystemExit(mac().main([sys.argv[2]], open_model))
"""


class Process:
    """The program in a process of its own."""

    def __init__(self):
        self.processes, self.url = [], ""

    def note(self, text):
        match = re.search(r"https?://\S+", text)
        if match and not self.url:
            self.url = match[0]
            self.start()

    def start(self):
        command = [sys.executable, "-c", PROCESS, str(Path(__file__).parents[1]), self.url]
        self.processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))

    def restart(self):
        self.processes[-1].kill()
        self.start()

    def join(self):
        errors = self.processes[-1].communicate(timeout=30)[1]
        assert self.processes[-1].returncode == 0, errors
        assert "all done" in errors

    def close(self):
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.mark.slow
def test_a_profile_of_a_program_that_is_killed_and_started_again_loses_nothing(tmp_path, tmp_path_factory):
    device, client, seen = load_device("mac").at("127.0.0.1", None), Process(), []

    def progress(done, total, detail):
        if detail == "measuring":
            seen.append(done)
            if len(seen) == 10:
                client.restart()

    profiled(device, Ways(wait_s=60), client, tmp_path, tmp_path_factory, progress)
    assert seen == list(range(1, len(seen) + 1))
