"""What a Jetson or a Raspberry Pi tells beside latencies: power mode, clocks, temperature, power."""

from __future__ import annotations

import math
import re
import statistics
from pathlib import Path
from typing import Any

from nasvit_edge.errors import MeasurementError
from nasvit_edge.records import Fact
from nasvit_edge.transport.answers import Failure, Message
from nasvit_edge.transport.outputs import jetson, tegrastats, trtexec

_UNLOCKED, _UNSTEADY = "unlocked clocks", "unsteady"
_NOW = {  # bits of a Raspberry Pi's get_throttled that say what is the case now; those from 16 on, what was since it started
    0x1: "under-voltage",
    0x2: "clock capped",
    0x4: "throttled",
    0x8: "soft temperature limit",
}


def number_types(model: Path) -> list[str]:
    """`fp16` and `int8`, where a typed ONNX model has them: TensorRT before version 10 must be allowed to use them."""
    import onnx

    try:
        graph = onnx.load(str(model), load_external_data=False).graph
    except Exception:  # noqa: BLE001 - protobuf's errors differ; the device says what is wrong with it
        return []
    halves = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer)
    quantised = any(node.op_type == "QuantizeLinear" for node in graph.node)
    return [name for name, has in (("fp16", halves), ("int8", quantised)) if has]


def is_jetson(board: Message) -> bool:
    """Whether the board has a Jetson's tools."""
    return any(name in board for name in ("nvpmodel", "jetson_clocks", "tegrastats"))


def conditions(board: Message) -> dict[str, Fact]:
    """The conditions that the tools' texts tell, by name; what they do not tell is left out."""
    texts = {name: str(board.get(name, "")) for name in ("nvpmodel", "jetson_clocks", "get_throttled")}
    facts: dict[str, Fact] = {
        "power_mode": jetson.power_mode(texts["nvpmodel"]) or jetson.power_mode(texts["jetson_clocks"])
    }
    if "jetson_clocks" in board:
        clocks = jetson.clocks(texts["jetson_clocks"])
        facts |= {"highest_cpu_mhz": clocks.cpu_mhz, "highest_gpu_mhz": clocks.gpu_mhz}
        facts |= {"highest_memory_mhz": clocks.memory_mhz, "clocks_locked": clocks.locked}
        if board.get("jetson_clocks_code"):
            facts["clocks"] = f"not told: {' '.join(texts['jetson_clocks'].split())[:120]}"
    readings = tegrastats.read_lines(_lines(board.get("tegrastats")))
    facts["idle_power_mw"] = tegrastats.mean_power_mw(readings)
    facts["throttled"] = _throttled(texts["get_throttled"])
    return {name: value for name, value in facts.items() if value is not None}


def tells_no_power(board: Message) -> bool:
    """Whether tegrastats ran and its lines have no rail."""
    readings = tegrastats.read_lines(_lines(board.get("tegrastats")))
    return bool(readings) and all(reading.power_mw is None for reading in readings)


def flags(board: Message, facts: Message) -> list[str]:
    """What every measurement on the board is flagged with."""
    return [_UNLOCKED] if is_jetson(board) and facts.get("clocks_locked") is not True else []


def _throttled(text: str) -> str | None:
    """A Raspberry Pi's bits in words: what is the case now."""
    if not re.fullmatch(r"(?:throttled=)?(?:0x)?[0-9a-fA-F]{1,8}", text):
        return None
    bits = int(text.removeprefix("throttled=").removeprefix("0x"), 16)
    return ", ".join(name for bit, name in _NOW.items() if bits & bit) or "no"


def completed(answer: Message, sustained: bool) -> Message | Failure:
    """An answer with what trtexec's and tegrastats' lines in it say: samples, windows, version, power, temperature."""
    message = {key: value for key, value in answer.items() if key not in ("trtexec", "tegrastats")}
    if "trtexec" in answer:
        output = answer["trtexec"] if isinstance(answer["trtexec"], dict) else {}
        try:
            message |= _timed(str(output.get("stdout", "")), output.get("times"), sustained)
        except MeasurementError as error:
            return Failure(id=str(answer.get("id")), error=str(error))
    readings = tegrastats.read_lines(_lines(answer.get("tegrastats")))
    return message | _power(readings, message.get("samples_us")) | _heat(readings, message)


def _timed(text: str, times: Any, sustained: bool) -> Message:
    report, samples = trtexec.read_run(text, times)
    message: Message = {"samples_us": samples, "runtime_version": report.version}
    if report.unstable:
        message["flags"] = [_UNSTEADY]
    if sustained:
        message["windows"] = trtexec.windows(times)
    return message


def _power(readings: list[tegrastats.Reading], samples_us: Any) -> dict[str, float]:
    """Mean power of the board, and the energy of an inference: that power for its median latency."""
    power_mw = tegrastats.mean_power_mw(readings)
    if power_mw is None or not isinstance(samples_us, list) or not samples_us:
        return {}
    try:
        energy_mj = power_mw * statistics.median(samples_us) / 1e6
    except TypeError:
        return {}
    return {"power_mw": power_mw, "energy_mj": energy_mj} if math.isfinite(energy_mj) else {}


def _heat(readings: list[tegrastats.Reading], message: Message) -> Message:
    """Temperature and clocks of the first and the last reading, where the runner told no state itself."""
    states = {}
    for key, reading in zip(("before", "after"), (readings[:1], readings[-1:]), strict=True):
        state = message.get(key) if isinstance(message.get(key), dict) else {}
        heat = reading[0].hottest_c if reading else None
        if state or heat is not None:
            states[key] = {**(state or {}), **({} if heat is None else {"hottest_c": heat})}
    return states


def _lines(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
