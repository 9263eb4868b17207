"""What a device measured offline, checked answer by answer against what its bundle asked, into a latency table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import asdict, replace

from nasvit_edge import files, records
from nasvit_edge.errors import DeviceError, MeasurementError, NasvitEdgeError
from nasvit_edge.latency import table_name
from nasvit_edge.latency.file import Canaries, Sampling
from nasvit_edge.latency.table import refuse_overwriting
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.ops import all_ops
from nasvit_edge.profile import canary, sampling
from nasvit_edge.profile.journal import Entry, Journal, locked
from nasvit_edge.profile.models import EMPTY, subnet_items
from nasvit_edge.profile.offline import SCHEMA, OfflineState, nonce, sealed
from nasvit_edge.profile.plan import ProfilePlan
from nasvit_edge.profile.run import table_content
from nasvit_edge.profile.summary import summaries
from nasvit_edge.records import RecordError, write
from nasvit_edge.space import SearchSpace, known_space
from nasvit_edge.transport.answers import Answer, Description, Failure, Message, about_of, checked, measured


@dataclass(slots=True)
class _Waiting:
    """A bundle whose results are waited for: the file beside the table, and what is in it."""

    path: Path
    state: OfflineState
    space: SearchSpace

    @property
    def table(self) -> Path:
        plan = self.state.plan
        name = (plan.device, plan.runtime, plan.threads, plan.precision, plan.space)
        return self.path.parent / table_name(*name)

    def questions(self) -> dict[str, tuple[str, int, int, str]]:
        """Nonce -> item id, visit, reading and graph."""
        return {nonce(self.state.uuid, index): row for index, row in enumerate(self.state.asked)}

    def plan(self, about: Description) -> ProfilePlan:
        """The table's plan, now that the device is known."""
        plan = self.state.plan
        version = about.runtimes.get(plan.runtime)
        return ProfilePlan(**asdict(plan), runtime_version=version, fingerprint=about.about)


def read_results(
    path: Path, space: SearchSpace | None = None, *, out: Path | None = None, listener: Listener = SILENT
) -> Path:
    """Add a result file to what is waited for in the folder `out`; returns the table once nothing is missing.

    `space` is needed only for one that is not shipped. Answers are kept one by one, so several partial files of
    the same device add up.

    Raises:
        NasvitEdgeError: a file that is no result file, or of a bundle that is not waited for.
        DeviceError: of another device (or system version) than an earlier file of the bundle.
        MeasurementError: answers that are missing or failed, counted and named; the others are kept.
    """
    content = files.read_json(path, "result file", SCHEMA)
    waiting = _waiting(content, path, out or Path("latency_tables"), space)
    about = _description(content, path)
    _same_device(waiting, about, path)
    with locked(waiting.path.parent / f".{waiting.table.stem}.lock"):
        plan = waiting.plan(about)
        journal = Journal(waiting.path.with_suffix(".jsonl"), {"uuid": waiting.state.uuid})
        failures, strange = _add(content["answers"], waiting, journal, plan.runtime_version)
        if strange:
            listener.note(f"{strange} answers of {path.name!r} are none to what the bundle asked; left out")
        if journal.entries and waiting.state.about is None:
            waiting.state = replace(waiting.state, about=about.about)
            files.write_json(waiting.path, sealed(records.content(waiting.state)))
        _nothing_missing(waiting, journal, failures)
        sampled = _sampled(waiting, journal, listener)
        fields = {"target": waiting.state.target, "transport": waiting.state.transport}
        file = table_content(waiting.space, plan, journal, sampled)
        _warn(file.canaries, listener)
        refuse_overwriting(waiting.table, waiting.space)
        write(waiting.table, replace(file, **fields, conditions=about.conditions))
        waiting.path.unlink(missing_ok=True)
        journal.remove()
    return waiting.table


def _waiting(content: Message, path: Path, folder: Path, space: SearchSpace | None) -> _Waiting:
    """What the bundle of a result file asked."""
    key = content.get("uuid")
    if not isinstance(key, str) or not isinstance(content.get("answers"), list):
        raise NasvitEdgeError(
            f"result file {str(path)!r} has no 'uuid' and 'answers'; give the file that the app wrote"
        )
    if re.fullmatch(r"[0-9a-f-]{36}", key):
        for state_file in sorted(folder.glob(f".*.{key[:8]}.offline.json")):
            return _checked(state_file, key, space)
    raise NasvitEdgeError(
        f"result file {str(path)!r} answers bundle {key[:40]!r}, which folder {str(folder)!r} does not wait for: "
        "its table is finished, or it was written with another --out"
    )


def _checked(state_file: Path, key: str, space: SearchSpace | None) -> _Waiting:
    """A bundle's state, whole, of this version and of this space."""
    raw_state, again = (
        files.read_json(state_file, "offline bundle's state", SCHEMA),
        "write the bundle again with --offline",
    )
    where = f"offline bundle's state {str(state_file)!r}"
    if raw_state != sealed(raw_state) or raw_state.get("uuid") != key:
        raise NasvitEdgeError(f"{where} is damaged; remove it and {again}")
    try:
        state = records.parse(OfflineState, raw_state, where)
    except RecordError as error:
        raise NasvitEdgeError(f"{error}; remove it and {again}") from None
    space = space or known_space(state.plan.space)
    waiting = _Waiting(state_file, state, space)
    if space.name != state.plan.space or not _asks(space, waiting):
        raise NasvitEdgeError(
            f"the bundle was written for another space {state.plan.space!r}; give that with --space, or {again}"
        )
    return waiting


def _asks(space: SearchSpace, waiting: _Waiting) -> bool:
    """Whether the bundle's items are those of the space."""
    asked = {row[0] for row in waiting.state.asked if not row[0].startswith(canary.PREFIX)}
    plan, ops = waiting.state.plan, {op.key() for op in all_ops(space)}
    whole = {i.id for i in subnet_items(space, plan.protocol.subnets, plan.seed)}
    measured = asked - whole - {EMPTY}
    return whole | {EMPTY} <= asked and (
        measured == ops or (waiting.state.sample is not None and measured <= ops)
    )


def _description(content: Message, path: Path) -> Description:
    fields = content.get("description")
    return about_of(fields if isinstance(fields, dict) else {}, path.name, Description)


def _same_device(waiting: _Waiting, about: Description, path: Path) -> None:
    """One table is one device: partial results of two are never mixed."""
    before, now = waiting.state.about, about.about
    if before is None or before == now:
        return
    keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    listed = ", ".join(f"{key} {now.get(key)!r} here and {before.get(key)!r} there" for key in keys)
    raise DeviceError(
        f"result file {str(path)!r} is of another device than the earlier results of its bundle: {listed}; "
        f"to begin again, remove {str(waiting.path)!r} and write the bundle again"
    )


def _add(
    answers: list[Any], waiting: _Waiting, journal: Journal, version: str | None
) -> tuple[dict[str, str], int]:
    """Put what is good into the journal; returns what failed with why, and how many answers nobody asked for."""
    questions, failures, strange = waiting.questions(), {}, 0
    for answer in answers:
        question = questions.get(str(answer.get("nonce"))) if isinstance(answer, dict) else None
        if question is None or answer.get("id") != question[0]:
            strange += 1
            continue
        name, visit, reading, graph = question
        if (name, visit) in journal.done:
            continue
        measurement = _measured(answer, name, version)
        if isinstance(measurement, Failure):
            failures[name] = measurement.error
        else:
            journal.add(Entry.of(measurement, visit=visit, graph=graph, reading=reading))
    return failures, strange


def _measured(answer: Message, name: str, version: str | None) -> Answer:
    measurement = measured(checked(answer, name), name)
    if isinstance(measurement, Failure) or version in (None, measurement.runtime_version):
        return measurement
    other = f"measured with {measurement.runtime_version!r}, the others with {version!r}"
    return Failure(id=name, error=other)


def _nothing_missing(waiting: _Waiting, journal: Journal, failures: dict[str, str]) -> None:
    """Canaries may be missing; without the others there is no table."""
    asked = [row for row in waiting.state.asked if not row[0].startswith(canary.PREFIX)]
    missing = [row[0] for row in asked if (row[0], row[1]) not in journal.done]
    if not missing:
        return
    named = list(_named(dict.fromkeys(missing), failures))
    more = f"; and {len(named) - 3} more models" if len(named) > 3 else ""
    raise MeasurementError(
        f"{len(missing)} of {len(asked)} measurements are missing ({'; '.join(named[:3])}{more}); {len(asked) - len(missing)} "
        "are kept: run the same bundle on the device again, then give its results as well"
    )


def _named(missing: dict[str, None], failures: dict[str, str]) -> Iterator[str]:
    """The models that failed first, with why."""
    for name in sorted(missing, key=lambda name: name not in failures):
        yield f"{name}: {' '.join(failures[name].split())[:160]}" if name in failures else name


def _sampled(waiting: _Waiting, journal: Journal, listener: Listener) -> Sampling | None:
    """What the table says of the sample that the bundle was."""
    sample = waiting.state.sample
    if sample is None:
        return None
    ops, entries = all_ops(waiting.space), summaries(journal.entries, waiting.state.plan.protocol)
    medians = {op.key(): entries[op.key()].median_ms for op in ops if op.key() in entries}
    report = sampling.cross_validation(ops, medians)
    if report.error > sample.error:
        listener.note(
            f"cross-validated error of the ops that were not measured: {report.error:.1%}, more than {sample.error:.1%}; "
            "for a better table write a bundle with a larger sample"
        )
    return Sampling(
        **asdict(report), share=sample.share, target=sample.error, measured=len(medians), ops=len(ops)
    )


def _warn(canaries: Canaries | None, listener: Listener) -> None:
    """A device cannot be asked again what it measured while its speed changed."""
    if canaries is not None and canaries.set_aside:
        listener.note(
            f"{canaries.set_aside} of {canaries.measured} measurements were made while the device changed its speed "
            f"(by up to {canaries.largest:.0%}) and are set aside where there are others; run the bundle on a cool, quiet device"
        )
