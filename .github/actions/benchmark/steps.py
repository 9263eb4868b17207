"""The steps of the action: `measure`, `report` and `verdict`, each by what its environment says.

A step never ends the job before the last one does: a comment and the files are wanted most when something failed. Values
come from the environment only and go on as arguments of a process, never as text of a shell. Needs only Python 3.10.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

PASS, FAIL, BAD, INVALID = 0, 1, 2, 3
RESULT, REPORT, COMMENT, PAGE = "benchmark.json", "report.json", "comment.md", "report.html"
FORMS = {
    "--markdown": COMMENT,
    "--html": PAGE,
    "--junit": "junit.xml",
    "--github-action-benchmark": "github-action-benchmark.json",
    "--bencher": "bencher.json",
    "--out": REPORT,
}
_MEANING = {
    FAIL: "a regression or a budget; measuring again does not change it",
    BAD: "bad input or a device that is away",
    INVALID: "the measurement does not hold; retry on 3 only",
}
_FRAME = " \n│╭╮╰╯─"  # around the errors of command lines
_MARK = "<!-- nasvit-edge bench -->"


class InputError(Exception):
    """An input that does not fit, as one line."""


def measure(environment: Mapping[str, str]) -> int:
    """Run `nasvit-edge benchmark`, again while it says that the measurement does not hold.

    Returns: its exit code.
    """
    _clear(Path(environment["OUT"]))
    command = benchmark_command(environment)
    tries = 1 + _count(environment, "RETRIES", 20)
    for attempt in range(1, tries + 1):
        code, line = run(command)
        if code != INVALID or attempt == tries:
            break
        wait_s = _count(environment, "RETRY_WAIT", 3600)
        _say(f"the measurement does not hold; measured again in {wait_s} s ({attempt} of {tries - 1})")
        time.sleep(wait_s)
    _output(environment, {"exit-code": str(code), "line": line})
    return code


def benchmark_command(environment: Mapping[str, str]) -> list[str]:
    """The command with the inputs in it.

    Raises:
        InputError: no artifact, a pattern that matches nothing, or options that a shell would not read.
    """
    artifacts, baselines = (_paths(environment, name) for name in ("ARTIFACTS", "BASELINE"))
    if not artifacts:
        raise InputError("input 'artifacts' is empty; give paths of model files, one a line")
    command = ["nasvit-edge", "benchmark", *(f"--baseline={path}" for path in baselines)]
    command += _given(environment, {"--device": "DEVICE", "--rounds": "ROUNDS", "--data": "DATA"})
    command += _words(environment, "BENCHMARK_OPTIONS")
    return [*command, f"--out={Path(environment['OUT']) / RESULT}", "--", *artifacts]


def report(environment: Mapping[str, str]) -> int:
    """Run `nasvit-edge report bench` on what was measured, and write all its forms; say so where there is nothing.

    Returns: its exit code, or the measuring step's where nothing was measured.
    """
    out = Path(environment["OUT"])
    _writable(out)
    measured = re.fullmatch(r"\d{1,3}", environment.get("MEASURED", ""))
    code, line = int(measured[0]) if measured else BAD, environment.get("LINE", "")
    try:
        if (out / RESULT).is_file():
            code, line = run(report_command(environment))
    except InputError as error:
        code, line = BAD, f"error: {error}"
        _say(line)
    headline = _headline(out / REPORT)
    if headline is None:  # exit code 1 without a report is a program that failed, and no regression
        code = BAD if code in (PASS, FAIL) else code
        headline = "nothing was judged"
        (out / COMMENT).write_text(_failed(line, code), encoding="utf-8")
    elif code == BAD:  # the report is there, but not in the history
        headline = f"{headline}; {line}"
    page = out / PAGE
    _output(
        environment,
        {"exit-code": str(code), "headline": headline, "report": str(page) if page.is_file() else ""},
    )
    return code


def report_command(environment: Mapping[str, str]) -> list[str]:
    """The command with the inputs in it."""
    out = Path(environment["OUT"])
    command = [
        "nasvit-edge",
        "report",
        "bench",
        *(f"{option}={out / name}" for option, name in FORMS.items()),
    ]
    command += _given(
        environment, {"--budget": "BUDGET", "--history": "HISTORY", "--min-effect": "MIN_EFFECT"}
    )
    return [*command, *_words(environment, "REPORT_OPTIONS"), "--", str(out / RESULT)]


def verdict(environment: Mapping[str, str]) -> int:
    """Say the headline, and end the job with the report's exit code."""
    code, headline = int(environment["CODE"]), environment["HEADLINE"]
    if code == PASS:
        _say(headline)
    else:
        meaning = _MEANING.get(code, "stopped from outside")
        _say(f"::error title=nasvit-edge benchmark::{_escaped(headline)} (exit code {code}: {meaning})")
    return code


def run(command: Sequence[str]) -> tuple[int, str]:
    """Exit code and last line on stderr of a program, whose output is shown meanwhile."""
    _say(f"$ {shlex.join(command)}")
    if shutil.which(command[0]) is None:
        line = f"{command[0]} is not installed: give input 'install' a command that installs it"
        _say(line)
        return BAD, line
    last = ""
    with subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8", errors="replace") as child:
        assert child.stderr is not None
        for line in child.stderr:
            sys.stderr.write(line)
            last = line.strip(_FRAME) or last
    code = child.returncode
    return (128 - code if code < 0 else code), last  # as a shell says a signal


def _writable(out: Path) -> None:
    """Make the folder of results."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"input 'out' is {str(out)!r}, which cannot be used: {error.strerror}") from None


def _clear(out: Path) -> None:
    """Remove what an earlier run left in the folder; nothing else in it."""
    _writable(out)
    for name in (RESULT, *FORMS.values()):
        (out / name).unlink(missing_ok=True)


def _paths(environment: Mapping[str, str], name: str) -> list[str]:
    """A path a line; one with * or ? that is no file stands for all that match, in order."""
    found: list[str] = []
    for line in map(str.strip, environment.get(name, "").splitlines()):
        if not line:
            continue
        if Path(line).exists() or not any(sign in line for sign in "*?["):
            found.append(line)
            continue
        matching = sorted(glob.glob(line, recursive=True))  # noqa: PTH207 - a Path takes no absolute patterns
        if not matching:
            raise InputError(f"input {name.lower()!r}: {line!r} matches no file in {str(Path.cwd())!r}")
        found += matching
    return found


def _given(environment: Mapping[str, str], options: Mapping[str, str]) -> list[str]:
    """Options whose input is not empty."""
    values = {option: environment.get(name, "").strip() for option, name in options.items()}
    return [f"{option}={value}" for option, value in values.items() if value]


def _words(environment: Mapping[str, str], name: str) -> list[str]:
    """Further options, quoted as in a shell, of which nothing is run."""
    try:
        return shlex.split(environment.get(name, ""))
    except ValueError as error:
        shown = name.lower().replace("_", "-")
        raise InputError(f"input {shown!r} is {environment[name]!r}: {error}") from None


def _count(environment: Mapping[str, str], name: str, most: int) -> int:
    text = environment.get(name, "").strip() or "0"
    if not re.fullmatch(r"\d{1,6}", text, re.ASCII) or int(text) > most:
        shown = name.lower().replace("_", "-")
        raise InputError(f"input {shown!r} is {text!r}; a whole number from 0 to {most} is expected")
    return int(text)


def _headline(path: Path) -> str | None:
    """Of a report; None where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["headline"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return " ".join(str(found).split())


def _failed(line: str, code: int) -> str:
    """The comment where nothing was judged, so that none of an earlier run stays."""
    fence = "`" * (3 + max(map(len, re.findall("`+", line)), default=0))
    told = f"\n\n{fence}\n{line}\n{fence}" if line else ""
    return f"{_MARK}\n### ⚠️ The benchmark did not run (exit code {code}){told}\n"


def _output(environment: Mapping[str, str], values: Mapping[str, str]) -> None:
    """Outputs of the step; a value cannot end its own text."""
    end = f"end-{uuid.uuid4()}"
    with Path(environment["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as stream:
        for name, value in values.items():
            stream.write(f"{name}<<{end}\n{value}\n{end}\n")


def _escaped(text: str) -> str:
    """As data of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(name: str, environment: Mapping[str, str]) -> int:
    """The exit code of a step: of `verdict` the report's; of the others always 0, as `verdict` ends the job."""
    if name == "verdict":
        return verdict(environment)
    try:
        {"measure": measure, "report": report}[name](environment)
    except InputError as error:
        _say(f"error: {error}")
        _output(environment, {"exit-code": str(BAD), "line": f"error: {error}"})
    return PASS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], os.environ))
