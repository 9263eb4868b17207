"""Pieces of a benchmark's page: tables, verdicts as badges, and what was measured where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasvit_edge import records
from nasvit_edge.benchmark.report import Report
from nasvit_edge.benchmark.result import Result
from nasvit_edge.report.page import shown
from nasvit_edge.units import show_bytes, show_count

_SHA = 12  # letters of a hash
_DEEPEST = 3  # tables inside of each other


def table(columns: Sequence[str], rows: Sequence[str]) -> str:
    """A table in a box of its own, which scrolls sideways; a row is HTML of one group of rows."""
    head = "".join(f"<th>{shown(column)}</th>" for column in columns)
    bodies = "".join(f"<tbody>{row}</tbody>" for row in rows)
    return f'<div class="table" tabindex="0"><table><thead><tr>{head}</tr></thead>{bodies}</table></div>'


def group_row(name: str, width: int) -> str:
    """The row above a group of rows; `name` is HTML and stays in sight where the table is scrolled."""
    return f'<tr class="group"><th colspan="{width}"><div>{name}</div></th></tr>'


def dot(word: str, *, filled: bool) -> str:
    """A verdict's colour beside what it is of, for screens too narrow for its column."""
    return f'<i class="dot {word}{" gates" * filled}"></i>' if word else ""


def badge(word: str, *, filled: bool) -> str:
    """A verdict or the status of a budget, in its colour."""
    kind = {"too close": "close"}.get(word, word)
    return f'<span class="verdict {kind}{" gates" * filled}"><span>{word}</span></span>' if word else ""


def figure(text: str) -> str:
    """A figure, with its interval less prominent."""
    value, bracket, interval = text.partition(" (")
    if not bracket:
        return shown(value)
    return f'{shown(value)} <small class="quiet interval">({shown(interval)}</small>'


def run_text(result: Result) -> str:
    """When and of what a run was, in a line of HTML."""
    run = result.run
    told = [shown(run.utc.replace("T", " ").replace("+00:00", " UTC"), 40)]
    if run.git_sha:
        told.append(f"commit {shown(run.git_sha[:_SHA])}{' with changes' if run.git_dirty else ''}")
    told.append(f"{result.rounds} rounds")
    url = run.ci_url
    if url is not None and url.startswith(("https://", "http://")):
        told.append(f'CI job <a href="{shown(url, 2000)}" rel="noopener noreferrer">{shown(url, 80)}</a>')
    return ", ".join(told)


def environment(report: Report) -> list[str]:
    """The device, the protocol and the files of each run."""
    return [part for result in report.results for part in (_device(result), _files(result))]


def _device(result: Result) -> str:
    device, run = result.measurer, result.run
    rows = [
        ("device", result.device),
        ("hardware", _told(device.about)),
        ("conditions", _told(device.conditions)),
        ("other work", _busy(device.busy_cores)),
        (
            "runtimes",
            ", ".join(sorted({f"{a.runtime} {a.runtime_version}".strip() for a in result.artifacts})),
        ),
        ("protocol", _told(records.content(result.protocol))),
        ("both sides are", "the same file (A/A)" if result.aa else ""),
        ("ended early", result.stopped or ""),
        ("run", f"{run.uuid}, nasvit-edge {run.tool_version}"),
        ("result file", result.path.name),
    ]
    kept = [
        f'<tr><td>{key}</td><td class="wide">{shown(value, 1000)}</td></tr>' for key, value in rows if value
    ]
    return f'<h3>{shown(result.device)}</h3><div class="table"><table class="facts">{"".join(kept)}</table></div>'


def _told(values: Any, deep: int = 0) -> str:
    """`cores 4, soc Chip`; of what is no table nothing, nor of tables far inside of others."""
    if not isinstance(values, Mapping) or deep > _DEEPEST:
        return ""
    own = sorted((str(key), value) for key, value in values.items() if value not in (None, "", [], {}))
    return ", ".join(f"{key} {_value(value, deep)}" for key, value in own)


def _value(value: Any, deep: int) -> str:
    if isinstance(value, Mapping):
        return f"({_told(value, deep + 1)})"
    if isinstance(value, list | tuple):
        return " ".join(_value(item, deep + 1) for item in value) if deep <= _DEEPEST else ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _busy(value: float | None) -> str:
    return f"kept {value:.2f} cores busy" if value is not None and 0 < value < 1e6 else ""


def _files(result: Result) -> str:
    columns = ["file", "compared with", "format", "precision", "size", "MACs", "in int8", "SHA-256"]
    rows = []
    for artifact in result.artifacts:
        base = "" if artifact.baseline is None else shown(result.artifacts[artifact.baseline].name)
        macs = "" if artifact.macs is None else show_count(artifact.macs)
        int8 = "" if artifact.int8_macs is None else f"{artifact.int8_macs:.1%}"
        rows.append(
            f'<tr><th class="long">{shown(artifact.name)}</th><td class="long">{base}</td><td>{shown(artifact.format, 40)}</td>'
            f"<td>{shown(artifact.precision, 40)}</td><td>{show_bytes(artifact.bytes)}</td><td>{macs}</td><td>{int8}</td>"
            f"<td><code>{shown(artifact.sha256[:_SHA])}</code></td></tr>"
        )
    return table(columns, rows)
