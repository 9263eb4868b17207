"""What real tools and boards print in the field is read as a person reads it: right, refused with the reason, or not told.

`field/index.json` has the texts of `field/texts`; `field/more.txt` has others of the same kinds, each below a line `=== ID KIND EXPECTED`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from nasvit_edge import host_code
from nasvit_edge.errors import MeasurementError
from nasvit_edge.transport.jetson import conditions
from nasvit_edge.transport.outputs import android, benchmark_model, delegation, jetson, tegrastats, trtexec

FIELD = Path(__file__).parent / "field"
READERS: dict[str, Callable[[str, dict], dict]] = {}


def cases():
    for entry in json.loads((FIELD / "index.json").read_text()):
        text = (FIELD / "texts" / f"{entry['id']}.txt").read_text()
        yield pytest.param(entry["kind"], text, entry["expect"], id=entry["id"])
    for part in re.split(r"^=== ", (FIELD / "more.txt").read_text(), flags=re.M)[1:]:
        head, _, text = part.partition("\n")
        name, kind, expected = head.split(" ", 2)
        yield pytest.param(kind, text, json.loads(expected), id=name)


def reader(*kinds):
    def add(function):
        READERS.update(dict.fromkeys(kinds, function))
        return function

    return add


def fields(record, names):
    return {name: getattr(record, name) for name in names}


@reader("trtexec", "trtexec-build")
def _(text, names):
    return fields(trtexec.read_report(text), names)


@reader("tegrastats")
def _(text, names):
    reading = tegrastats.read_line(text.strip())
    return fields(reading, names) | {"core_mhz": list(reading.core_mhz)}


@reader("nvpmodel")
def _(text, names):
    return {"mode": jetson.power_mode(text)}


@reader("jetson_clocks")
def _(text, names):
    clocks = jetson.clocks(text)
    return fields(clocks, ("cpu_mhz", "gpu_mhz", "memory_mhz", "locked")) | {"mode": jetson.power_mode(text)}


@reader("benchmark_model")
def _(text, names):
    launch = benchmark_model.parse(text)
    figures = fields(launch, ("count", "init_us", "first_us")) | {"us": launch.latency_us}
    return figures | ({"gpu": delegation.gpu_fallback(text, strict=False)} if "gpu" in names else {})


@reader("gpu")
def _(text, names):
    return {"gpu": delegation.gpu_fallback(text, strict=False)}


@reader("gpu-litert")
def _(text, names):
    return {"gpu": delegation.gpu_fallback(text, strict=True)}


@reader("op_profile")
def _(text, names):
    return {"ops": [op.kind for op in delegation.op_profile(text)]}


@reader("thermal")
def _(text, names):
    return fields(android.thermal(text), names)


@reader("battery")
def _(text, names):
    return fields(android.battery(text), names)


@reader("adb_devices")
def _(text, names):
    return {"listed": [[device.serial, device.state] for device in android.listed(text)]}


@reader("get_throttled")
def _(text, names):
    return {"throttled": conditions({"get_throttled": text.strip()}).get("throttled")}


@reader("cpuinfo")
def _(text, expected):
    texts = {
        "/proc/cpuinfo": text,
        "/proc/device-tree/compatible": "\0".join(expected.get("device_tree", [])),
    }
    machine = host_code.machine()
    with mock.patch.object(machine, "text_of", lambda path: texts.get(str(path), "")):
        return expected | {"soc": machine.processor()}


@pytest.mark.parametrize(("kind", "text", "expected"), list(cases()))
def test_a_text_of_the_field_is_read_as_a_person_reads_it(kind, text, expected):
    if "refused" in expected:
        with pytest.raises(MeasurementError) as error:
            READERS[kind](text, {})
        assert [word for word in expected["refused"] if word not in str(error.value)] == []
        return
    values = READERS[kind](text, expected)
    for name, value in expected.items():
        if name == "gpu" and value:
            assert [word for word in value if word not in values[name]] == []
        else:
            assert values[name] == (pytest.approx(value) if isinstance(value, float) else value), name


def test_there_are_the_texts_that_are_meant():
    kinds = [case.values[0] for case in cases()]
    assert len(kinds) >= 43 + 30
    assert set(kinds) == set(READERS)
