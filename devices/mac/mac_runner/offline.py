"""Bundles for machines without a network."""

from __future__ import annotations

import json
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mac_runner.errors import Refused
from mac_runner.jobs import answered, inside, tell
from mac_runner.machine import describe
from mac_runner.timing import Open

_SAVE_S = 10.0


def offline(bundle: Path, out: Path, open_model: Open) -> int:
    """Measure a bundle's jobs that `out` has no measurement of, into `out`; returns how many are missing at the end."""
    jobs, key, fetch = read_bundle(bundle)
    description = describe()
    answers = earlier(out, key, description["about"])
    results = {"schema": 1, "uuid": key, "description": description, "answers": answers}
    done, saved = {answer["nonce"] for answer in answers}, time.monotonic()
    try:
        for job in jobs:
            if job.get("nonce") in done:
                continue
            answers.append(answered(job, fetch, open_model))
            tell(answers[-1])
            if time.monotonic() - saved > _SAVE_S:
                save(out, results)
                saved = time.monotonic()
    finally:
        save(out, results)
    measured = sum("error" not in answer for answer in answers)
    print(
        f"{measured} of {len(jobs)} measured; now, beside the table: nasvit-edge profile --results {out}",
        file=sys.stderr,
    )
    return len(jobs) - measured


def read_bundle(path: Path) -> tuple[list[dict[str, Any]], str, Callable[[str], bytes]]:
    """Jobs, uuid and files of a bundle: a folder or a zip."""
    try:
        archive = None if path.is_dir() else zipfile.ZipFile(path)

        def read(name: str) -> bytes:
            return (path / name).read_bytes() if archive is None else archive.read(name)

        content = json.loads(read("jobs.json"))
        jobs, key = content["jobs"], content["uuid"]
        if content["schema"] != 1 or not isinstance(key, str) or not all(isinstance(j, dict) for j in jobs):
            raise ValueError("its jobs.json is of another version")
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, RecursionError) as error:
        raise Refused(f"{str(path)!r} is no bundle of nasvit-edge profile --offline: {error}") from None
    return jobs, key, lambda digest: read(f"files/{inside(digest)}")


def earlier(out: Path, key: str, about: dict[str, Any]) -> list[dict[str, Any]]:
    """What was measured of this bundle here before; a file of something else is not overwritten."""
    if not out.exists():
        return []
    reason = "holds no results of this bundle"
    try:
        content = json.loads(out.read_bytes())
        if content["uuid"] == key:
            reason = "holds results of another machine or system version"
            if content["description"]["about"] == about:
                return [
                    answer for answer in content["answers"] if "samples_us" in answer and "nonce" in answer
                ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise Refused(f"{str(out)!r} is there and {reason}; give another --out")


def save(out: Path, results: dict[str, Any]) -> None:
    """Write the whole file or nothing."""
    partial = out.with_name(f".{out.name}.partial")
    try:
        partial.write_text(json.dumps(results, allow_nan=False), encoding="utf-8")
        partial.replace(out)
    except OSError as error:
        raise Refused(f"cannot write {str(out)!r}: {error.strerror}") from None
