"""What stands for Core ML where it is not: saved programs are executed operation by operation, and really timed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import json
import sys
import time

import jsonschema
import pytest
from conftest import TINIER, shared, space_of
from filelock import FileLock

from nasvit_edge import files
from nasvit_edge.device import load_device
from nasvit_edge.export import coreml
from nasvit_edge.profile import conversion, offline, protocol, session
from nasvit_edge.profile.run import Choice

DEVICES = files.shipped("devices")
SCHEMA = json.loads((DEVICES / "protocol.json").read_text())
SPACE = space_of(TINIER)
CONVERT_ALL = offline.convert_all  # before any patch: `brief` may be entered within itself
BRIEF = dataclasses.replace(protocol.PROTOCOLS["quick"], subnets=6, seconds=0.01, most_seconds=0.05)


def open_model(path, units, feed):
    """The seam of devices/mac: a function that runs the program once, and what it took to load it."""
    assert units in ("all", "cpuAndNeuralEngine", "cpuAndGPU", "cpuOnly")
    start = time.perf_counter_ns()
    call = coreml.runner(path)
    (value,) = feed.values()
    return lambda: call(value), {"compile_ms": 0.01, "load_ms": (time.perf_counter_ns() - start) / 1e6}


@functools.cache
def mac():
    """The program of devices/mac, warming up for a shorter time."""
    sys.path.insert(0, str(DEVICES / "mac"))
    spec = importlib.util.spec_from_file_location("mac_runner_program", DEVICES / "mac" / "runner.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    sys.modules["mac_runner.timing"]._WARM_SECONDS = 0.005
    return program


def host():
    """The names of devices/host's runner, anew at each call."""
    if str(DEVICES / "host") not in sys.path:
        sys.path.append(str(DEVICES / "host"))
    values = {}
    exec((DEVICES / "host" / "runner.py").read_text(), values)
    return values


def faults(value, kind):
    """What speaks against `value` being one of `kind` in the protocol."""
    schema = {key: SCHEMA[key] for key in ("$schema", "$defs")} | {"$ref": f"#/$defs/{kind}"}
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(value)]


@contextlib.contextmanager
def brief(factory):
    """A protocol `quick` that is quicker, and whole subnets that are converted once, without processes that load the converter."""
    kept = shared(factory, "coreml-models", lambda folder: None)

    def convert(items, models, listener):
        with FileLock(kept / "lock"):
            return CONVERT_ALL(items, dataclasses.replace(models, folder=kept), listener)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(protocol.PROTOCOLS, "quick", BRIEF)
        patch.setattr(conversion, "_FEW", 1000)
        patch.setattr(offline, "convert_all", convert)
        patch.setattr(session, "convert_all", convert)
        yield


def bundle(factory):
    """(zip, folder of the table to come) of the tiny space, made once."""

    def make(folder):
        with brief(factory):
            choice, device = Choice(protocol="quick"), load_device("iphone")
            offline.write_bundle(SPACE, device, choice, folder / "out.zip", out=folder / "t")

    place = shared(factory, "coreml-bundle", make)
    return place / "out.zip", place / "t"


def measured(factory):
    """The result file of the bundle, run once by the program for the Mac."""
    path, _ = bundle(factory)

    def make(folder):
        assert mac().main(["--offline", str(path), "--out", str(folder / "result.json")], open_model) == 0

    return shared(factory, "coreml-results", make) / "result.json"
