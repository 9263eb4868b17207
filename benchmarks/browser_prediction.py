"""How well a browser's table predicts whole subnets in that browser: headless Chromium on this machine.

    python benchmarks/browser_prediction.py [--protocol default] [--subnets 20] [--coarse] [--space nano]

Profiles the space through the served page, then measures other whole subnets in the same page, twice, one pass over all
after the other, and prints the share that is predicted within 10 % (aim: 90 %). With --coarse the page is opened by
a name that is no secure context, as a phone opens it over plain HTTP: a clock of 0.1 ms instead of 0.005 ms.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from nasvit_edge.device import load_device
from nasvit_edge.latency import load_table
from nasvit_edge.listening import Listener
from nasvit_edge.profile.run import Choice, measure_table
from nasvit_edge.profile.validate import validate
from nasvit_edge.space import load_space
from nasvit_edge.transport.pull import pull_runner
from nasvit_edge.transport.ways import Ways

NAME = "phone.test"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP {NAME} 127.0.0.1",
)


@contextlib.contextmanager
def chromium(url):
    """The browser, gone with its profile afterwards."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.exit("chromium is not installed; run: apt install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [program, *FLAGS, f"--user-data-dir={folder}", url]
        nothing = subprocess.DEVNULL
        process = subprocess.Popen(command, stdout=nothing, stderr=nothing, start_new_session=True)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def note(text):
    print(text, file=sys.stderr, flush=True)


def main(options):
    device = load_device("browser")
    with (
        tempfile.TemporaryDirectory() as out,
        pull_runner(device, Ways(interface="127.0.0.1"), Listener(note=note), names=[NAME]) as runner,
        chromium(runner.server.url.replace("127.0.0.1", NAME) if options.coarse else runner.server.url),
    ):
        space = load_space(options.space)
        choice = Choice(protocol=options.protocol, seed=options.seed)
        path = measure_table(
            space, device, runner, choice, out=Path(options.keep or out), listener=Listener(note=note)
        )
        table = load_table(str(path))
        validation = validate(table, options.subnets, options.seed + 1, runner=runner)
    canaries = table.file.canaries
    print(
        f"{len(table.ops_ms)} ops, {options.protocol}, {table.file.conditions}; "
        f"canaries at most {canaries.largest:.1%} off, {canaries.set_aside} of {canaries.measured} set aside; "
        f"composition error {table.composition.error:.1%}"
    )
    print(
        f"{options.subnets} whole subnets: {validation.within_10:.0%} within 10 % (aim 90 %), {validation.within_5:.0%} within 5 %; "
        f"mean error {validation.mape:.1%}, bias {validation.bias:+.1%}, largest {validation.largest:.1%}, "
        f"noise between passes {validation.repeat_mape:.1%}, tau {validation.tau:.3f}"
    )
    for row in validation.subnets if options.rows else ():
        print(f"  predicted {row.predicted_ms:.3f} ms, measured {row.measured_ms}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--space", default="nano")
    parser.add_argument("--protocol", default="default")
    parser.add_argument("--subnets", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--coarse", action="store_true")
    parser.add_argument("--rows", action="store_true")
    parser.add_argument("--keep", help="a folder for the table")
    main(parser.parse_args())
