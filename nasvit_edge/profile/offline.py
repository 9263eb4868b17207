"""Devices without a network: everything that is to be measured as one zip, and the results as a table.

A bundle holds `jobs.json`, the whole session's jobs in their order, and the models' files by hash. What was asked is
kept beside the table until the results have made it, so results need neither models nor a converter. The same command
writes the same bundle, with the same uuid.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import random
import uuid
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

from msgspec import Meta

from nasvit_edge import files, records
from nasvit_edge.code import code_digest
from nasvit_edge.device import Device
from nasvit_edge.errors import DeviceError, NasvitEdgeError
from nasvit_edge.latency import table_name
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.ops import Op, all_ops
from nasvit_edge.profile import sampling
from nasvit_edge.profile.canary import canaries
from nasvit_edge.profile.conversion import convert_all
from nasvit_edge.profile.models import EMPTY, Item, Models, subnet_items
from nasvit_edge.profile.protocol import Protocol, load_protocol
from nasvit_edge.profile.run import Choice, prepare
from nasvit_edge.records import Amount, Fact, Name, Record, Share, Whole
from nasvit_edge.space import SearchSpace
from nasvit_edge.transport.answers import Message
from nasvit_edge.transport.job import Job
from nasvit_edge.transport.publish import published

SCHEMA: Literal[1] = 1
_AROUND_S = 0.4  # what compiling, loading and warming up take beside the samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle that was written: `minutes` is about what the device will need for it."""

    path: Path
    uuid: str
    jobs: int
    models: int
    minutes: float


class OfflinePlan(Record, frozen=True, kw_only=True, omit_defaults=False):
    """What a bundle measures, and how, as far as that is known without the device; see `ProfilePlan`.

    What makes the name of the table is a name: who writes a state cannot lead the table to another folder.
    """

    device: Name
    runtime: Name
    threads: Annotated[int, Meta(ge=1, le=256)]
    cores: tuple[Whole, ...]
    precision: Name
    space: Name
    protocol: Protocol
    seed: int
    code: str


class AskedSample(Record, frozen=True, kw_only=True):
    """The share of the ops that is measured, and the error that others may have."""

    share: Share
    error: Amount


class OfflineState(Record, frozen=True, kw_only=True, omit_defaults=False):
    """What a bundle asks, kept until its results have made a table.

    Attributes:
        asked: id, visit, reading and graph of each job.
        about: the device, once it has answered.
    """

    schema: Literal[1]
    uuid: str
    plan: OfflinePlan
    target: Name
    transport: str
    sample: AskedSample | None
    asked: tuple[tuple[str, int, int, str], ...]
    about: dict[str, Fact] | None


@dataclass(frozen=True, slots=True)
class BundledJob:
    """One job of a bundle, as `Session` would have asked it: `reading` is the canaries' before it."""

    item: Item
    visit: int
    reading: int


def write_bundle(
    space: SearchSpace,
    device: Device,
    choice: Choice,
    path: Path,
    *,
    out: Path | None = None,
    listener: Listener = SILENT,
) -> Bundle:
    """Write the zip `path` for `device`, and what it asks beside the table to come, in the folder `out`.

    A sample is measured as given, without growing: its error is known only afterwards.

    Raises:
        DeviceError: a device that takes no bundles.
        NasvitEdgeError: a choice that is not possible; a file that cannot be written.
    """
    runtime, threads, precision = prepare(device, choice)
    if device.client not in ("iphone", "mac"):
        raise DeviceError(
            f"device {device.name!r} takes no bundles; iphone and mac do, others are measured by profile --device"
        )
    if path.is_dir():
        raise NasvitEdgeError(f"{str(path)!r} is a folder; give the name of a zip file, as out.zip")
    folder = files.writable_folder(out or Path("latency_tables"))
    protocol, name = load_protocol(choice.protocol), choice.name or device.name
    plan = OfflinePlan(
        device=name,
        runtime=runtime,
        threads=threads,
        cores=device.cores,
        precision=precision,
        space=space.name,
        protocol=protocol,
        seed=choice.seed,
        code=code_digest(),
    )
    asked = list(session_order(items_of(space, protocol, choice), canaries(space), protocol, choice.seed))
    with TemporaryDirectory(prefix="nasvit-edge-") as temporary:
        models = Models(space, runtime, Path(temporary), choice.seed, precision)
        converted = convert_all(list(dict.fromkeys(a.item for a in asked)), models, listener)
        jobs, contents = _jobs(asked, converted, plan)
        key = str(uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([records.content(plan), jobs], sort_keys=True)))
        jobs = [job | {"nonce": nonce(key, index)} for index, job in enumerate(jobs)]
        _write_zip(path, {"schema": SCHEMA, "uuid": key, "jobs": jobs}, contents)
    state = OfflineState(
        schema=SCHEMA,
        uuid=key,
        plan=plan,
        target=device.name,
        transport=device.transport,
        sample=None if choice.sample is None else AskedSample(**asdict(choice.sample)),
        asked=tuple((a.item.id, a.visit, a.reading, converted[a.item.id][1]) for a in asked),
        about=None,
    )
    kept = state_path(folder, table_name(name, runtime, threads, precision, space.name), key)
    if not kept.exists():  # the same bundle again: results that were read already stay
        files.write_json(kept, sealed(records.content(state)))
    each = protocol.seconds + _AROUND_S
    return Bundle(path=path, uuid=key, jobs=len(jobs), models=len(converted), minutes=len(jobs) * each / 60)


def items_of(space: SearchSpace, protocol: Protocol, choice: Choice) -> list[Item]:
    """What a profile measures beside the canaries."""
    ops: Sequence[Op] = all_ops(space)
    if choice.sample is not None:
        ops = sampling.stratified(ops, math.ceil(choice.sample.share * len(ops)))
    return [
        *(Item(op.key(), op=op) for op in ops),
        Item(EMPTY),
        *subnet_items(space, protocol.subnets, choice.seed),
    ]


def session_order(
    items: Sequence[Item], between: Sequence[Item], protocol: Protocol, seed: int
) -> Iterator[BundledJob]:
    """Visit after visit in random order, canaries at the ends and about every `canary_seconds`."""
    often = max(1, round(protocol.canary_seconds / (protocol.seconds + _AROUND_S)))
    reading = -1
    for visit in range(protocol.visits):
        order = list(items)
        random.Random(seed * 1009 + visit).shuffle(order)
        for index, item in enumerate(order):
            if index % often == 0:
                reading += 1
                yield from (BundledJob(canary, reading, reading) for canary in between)
            yield BundledJob(item, visit, reading)
        reading += 1
        yield from (BundledJob(canary, reading, reading) for canary in between)


def nonce(key: str, index: int) -> str:
    """What the answer to job `index` of bundle `key` brings back."""
    return hashlib.sha256(f"{key}/{index}".encode()).hexdigest()[:16]


def state_path(folder: Path, table: str, key: str) -> Path:
    """Where what bundle `key` asks is kept."""
    return folder / f".{Path(table).stem}.{key[:8]}.offline.json"


def sealed(state: Message) -> Message:
    """A bundle's state with the hash of its content: a damaged one is told from a whole one."""
    content = {key: value for key, value in state.items() if key != "sha256"}
    return content | {"sha256": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}


def _jobs(
    asked: Sequence[BundledJob], converted: Mapping[str, tuple[str, str]], plan: OfflinePlan
) -> tuple[list[Message], dict[str, Path]]:
    """The jobs without their nonces, and the files that they need by hash."""
    contents: dict[str, Path] = {}
    known: dict[str, Message] = {}
    for one in asked:
        name = one.item.id
        if name not in known:
            known[name], job_files = published(_job(name, converted[name][0], plan))
            contents |= job_files
    return [known[one.item.id] for one in asked], contents


def _job(name: str, model: str, plan: OfflinePlan) -> Job:
    return plan.protocol.job(
        id=name, model=model, runtime=plan.runtime, threads=plan.threads, cores=plan.cores, seed=plan.seed
    )


def _write_zip(path: Path, jobs: Message, contents: Mapping[str, Path]) -> None:
    """The whole zip or nothing; the same content gives the same bytes."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "w") as archive:
            _put(archive, "jobs.json", json.dumps(jobs, indent=1, sort_keys=True).encode())
            for digest, source in sorted(contents.items()):
                _put(archive, f"files/{digest}", source.read_bytes())
        partial.replace(path)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise NasvitEdgeError(
            f"cannot write {str(path)!r}: {getattr(error, 'strerror', None) or error}"
        ) from None
    finally:
        with contextlib.suppress(OSError, ValueError):
            partial.unlink(missing_ok=True)


def _put(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name)  # dated 1980
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content, zipfile.ZIP_DEFLATED, compresslevel=1)
