"""TensorRT on the device: engines built once from a typed ONNX model, timed by trtexec, or by TensorRT's Python module.

Standard library of Python 3.8. What trtexec prints and exports goes to the host and is read there.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from complaints import TOO_OLD, complaint, too_old
from reading import said_by

_PLACES = ("/usr/src/tensorrt/bin/trtexec", "/usr/local/bin/trtexec", "/opt/tensorrt/bin/trtexec")
_LEAST_S, _WARM_MS = 0.5, 200  # loading an engine takes longer, and power is read ten times a second
_KEPT, _KEPT_A_SECOND = 1000, 20  # samples that go to the host, evenly
_KEYS = ("startComputeMs", "endComputeMs", "computeMs", "latencyMs")
_LONGEST = 20_000  # characters of text, from its start and from its end
_HELP_S = 60.0  # of a small board that loads TensorRT for the first time
_STATE: dict[str, str] = {"trtexec": "", "folder": "", "help": ""}


def install(runner: Any, tool: str, folder: str) -> None:
    """Find trtexec and let the runner time `tensorrt` with it."""
    trtexec = sys.modules["board"].program(tool or "trtexec") or ""
    if not trtexec and not tool:
        trtexec = next((path for path in _PLACES if os.access(path, os.X_OK)), "")
    _STATE.update(trtexec=trtexec, folder=folder)
    runner.MEASURES["tensorrt"] = measure


def version() -> dict[str, str]:
    """`tensorrt` and its version as trtexec or the Python module says it; empty where there is neither."""
    if _STATE["trtexec"]:
        packed = re.search(r"\[TensorRT v(\d+)\]", _help())
        return {"tensorrt": f"v{packed[1]}" if packed else "7 or older" if too_old(_help()) else "unknown"}
    if importlib.util.find_spec("tensorrt") is None:
        return {}
    try:
        return {"tensorrt": importlib.metadata.version("tensorrt")}
    except importlib.metadata.PackageNotFoundError:
        tensorrt = importlib.import_module("tensorrt")

        return {"tensorrt": str(tensorrt.__version__)}


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Build the engine of a model, or (asked without `build`) time it."""
    if not Path(job["model"]).exists():
        raise OSError(f"there is no model {job['model']}")
    if not _STATE["trtexec"]:
        python = sys.modules["tensorrt_python"]
        if job.get("ask") == "build":
            return {"built": python.build(job["model"], engine_of(job["model"]))}
        return python.measure(job, engine_of(job["model"]))
    if job.get("ask") == "build":
        return build(job)
    return timed(job)


def engine_of(model: str) -> str:
    """Where the engine of a model is kept; another version of TensorRT has another one."""
    digest = hashlib.sha256(json.dumps(version()).encode()).hexdigest()[:8]
    return str(Path(model).with_name(f"{Path(model).stem}-{digest}.engine"))


def build(job: dict[str, Any]) -> dict[str, Any]:
    """The engine, built unless it is there: by the model's own types where this version can do that."""
    if too_old(_help()):
        raise RuntimeError(TOO_OLD)
    engine = engine_of(job["model"])
    if Path(engine).exists():
        return {"built": False}
    partial, cache = Path(engine + ".part"), Path(_STATE["folder"]) / "timing.cache"
    wanted = [f"--onnx={job['model']}", f"--saveEngine={partial}", f"--timingCacheFile={cache}"]
    wanted += ["--stronglyTyped"] if _has("--stronglyTyped") else _weak_types(job.get("types", []))
    wanted += ["--skipInference" if _has("--skipInference") else "--buildOnly"]
    text, _ = _run(_known(wanted))
    if "&&&& PASSED" not in text or not partial.exists():
        for left in (partial, cache):
            with contextlib.suppress(FileNotFoundError):
                left.unlink()
        raise RuntimeError(f"trtexec did not build an engine: {complaint(text)}")
    partial.replace(engine)
    return {"built": True}


def timed(job: dict[str, Any]) -> dict[str, Any]:
    """Time an engine: the text, the samples of --exportTimes, and the power meanwhile."""
    board = sys.modules["board"]
    seconds = job.get("sustained_s") or max(_LEAST_S, job["most_seconds"])
    times = Path(_STATE["folder"]) / f"times-{os.getpid()}.json"
    wanted = [f"--loadEngine={engine_of(job['model'])}", f"--warmUp={_WARM_MS}", f"--duration={seconds:g}"]
    wanted += [f"--iterations={job['runs']}", f"--exportTimes={times}", "--avgRuns=100"]
    if _major() < 11:  # which does all three unasked
        wanted += ["--noDataTransfers", "--useSpinWait", "--useCudaGraph"]
    flags = _known(wanted)
    try:
        with board.Tegrastats() as readings:
            text, marks = _run(flags)
        samples = exported(times, max(_KEPT, int(_KEPT_A_SECOND * seconds)))
    finally:
        with contextlib.suppress(FileNotFoundError):
            times.unlink()
    shown = [flag for flag in flags[1:] if not flag.startswith(("--loadEngine", "--exportTimes"))]
    message: dict[str, Any] = {"trtexec": {"stdout": text, "times": samples, "flags": " ".join(shown)}}
    if "start" in marks and "end" in marks:
        message["tegrastats"] = readings.between(marks["start"] + _WARM_MS / 1e3, marks["end"])
    return message


def exported(path: Path, most: int) -> Any:
    """Samples of an --exportTimes file, evenly `most` of them; the start of its text where they are not found."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    starts = [match.start() for match in re.finditer("{", text)]  # an object each, none in another
    stride = max(1, -(-len(starts) // most))
    try:
        return [_entry(text, start) for start in starts[::stride]] or text[:2000]
    except ValueError:
        return text[:2000]


def _entry(text: str, start: int) -> dict[str, Any]:
    entry: dict[str, Any] = json.JSONDecoder().raw_decode(text, start)[0]
    return {key: entry[key] for key in _KEYS if key in entry} or entry


def _run(command: list[str]) -> tuple[str, dict[str, float]]:
    """The text of trtexec, and when it said that it starts and has ended timing."""
    lines: list[str] = []
    marks: dict[str, float] = {}
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    for raw in process.stdout:
        line = raw.decode(errors="replace").rstrip()
        if "Starting inference" in line:
            marks["start"] = time.monotonic()
        elif "Timing trace has" in line:
            marks["end"] = time.monotonic()
        if "Average on" not in line:
            lines.append(line)
    code = process.wait()
    text = "\n".join(lines)
    if code < 0:
        text += f"\ntrtexec was ended by signal {-code}"
    return text if len(text) < 2 * _LONGEST else text[:_LONGEST] + "\n...\n" + text[-_LONGEST:], marks


def _weak_types(types: list[str]) -> list[str]:
    """Before version 10 types in the model are wishes, and need to be allowed."""
    return [f"--{kind}" for kind in ("fp16", "int8") if kind in types]


def _known(flags: list[str]) -> list[str]:
    """The command, without flags that this version does not have."""
    return [_STATE["trtexec"], *(flag for flag in flags if _has(flag.split("=")[0]))]


def _has(flag: str) -> bool:
    return re.search(re.escape(flag) + r"(?![A-Za-z])", _help()) is not None


def _major() -> int:
    packed = re.search(r"\d+", version().get("tensorrt", ""))
    number = int(packed[0]) if packed else 0
    return number // 10000 if number >= 10000 else number // 1000


def _help() -> str:
    if not _STATE["help"]:
        _STATE["help"] = said_by([_STATE["trtexec"], "--help"], _HELP_S, 10 * _LONGEST)[1]
    return _STATE["help"]
