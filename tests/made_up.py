"""Latency tables that nobody measured, and accuracies, for tests of everything but what is measured."""

from __future__ import annotations

import random
from pathlib import Path

from nasvit_edge import records
from nasvit_edge.latency import Composition, LatencyTable
from nasvit_edge.latency.context import PLAIN
from nasvit_edge.latency.file import SCHEMA, Guess, OpEntry, TableFile
from nasvit_edge.latency.table import parsed as parsed_file
from nasvit_edge.ops import all_ops
from nasvit_edge.searching.accuracy import PredictorFile, predictor_of
from nasvit_edge.searching.result import sealed
from nasvit_edge.searching.saved import ResultFile, SavedCandidate, Setting, UsedTable

COMPOSITION = Composition(1.2, 0.02, 0.1, 0.1)
SETTING = Setting(
    space="nasvit",
    supernet=None,
    calibration=None,
    accuracy_source="predictor nasvit",
    accuracy_uncertainty=0.004,
    accuracy="nasvit",
    accuracy_sha256="0" * 64,
    device="host",
    runtime="onnxruntime",
    threads=1,
    precision="fp32",
    table="host.json",
    table_sha256="0" * 64,
    interpolate=False,
    tables=(UsedTable(name="host", path="host.json", sha256="0" * 64),),
)


def result_of(setting, config, latency_ms, accuracy):
    """A result file with a subnet alone."""
    sizes = {"macs": 1, "parameters": 1, "bytes": 1, "peak_bytes": 1}
    best = SavedCandidate(
        config=config,
        latency_ms=latency_ms,
        low_ms=None,
        high_ms=None,
        coverage=1.0,
        latencies_ms=(latency_ms,),
        accuracy=accuracy,
        **sizes,
    )
    return ResultFile(
        schema=2,
        kind="search result",
        tool_version="1",
        setting=setting,
        seal=sealed(setting),
        budget_ms=None,
        limits=(),
        seed=0,
        method="exact",
        evaluated=1,
        gap=None,
        status="predicted",
        best=best,
        front=(best,),
        beyond=(),
        genes={},
        same_macs=None,
        stages=(),
    )


def table(space, seed=0, composition=None, context=PLAIN, estimated=0.0, precision="fp32"):
    """About proportional to MACs, with noise; `estimated`: the share of ops that are estimates."""
    rng = random.Random(seed)
    ops = {op.key(): (0.01 + op.macs() / 1e7) * rng.uniform(0.7, 1.3) for op in all_ops(space)}
    measured = {key: ms for key, ms in ops.items() if rng.random() >= estimated}
    file = table_file(
        space,
        precision=precision,
        ops={key: OpEntry(median_ms=ms) for key, ms in measured.items()},
        estimates={key: Guess(median_ms=ms, error=0.05) for key, ms in ops.items() if key not in measured},
        call_ms=0.005,
        context=context,
        composition=composition,
    )
    return LatencyTable.of(Path("t"), space, file)


def table_file(space, **more):
    """The file of a table of the host."""
    fields = {"device": "host", "runtime": "onnxruntime", "precision": "fp32", "threads": 1, "call_ms": 0.0}
    return TableFile(**{"schema": SCHEMA, "space": space.name} | fields | more)


def parsed_table(path, raw, space):
    """The table that a file with this content holds."""
    return parsed_file(path, records.parse(TableFile, raw, "latency table"), space)


def predictor(space, seed=0, saturation=0.5):
    """Gains that rise with every gene, other ones at each resolution."""
    return predictor_of("made-up", predictor_file(space, seed, saturation), space)


def predictor_file(space, seed=0, saturation=0.5):
    """As a file holds it."""
    rng = random.Random(seed)
    effects, base = {}, {}
    for i, resolution in enumerate(space.resolutions):
        base[str(resolution)] = 0.6 + 0.01 * i
        effects[str(resolution)] = {
            gene.name: _rising(rng, gene.choices, 0.15 / len(space.genes)) for gene in space.genes[1:]
        }
    fields = {"space": space.name, "source": "made up", "unit": "fractions", "saturation": saturation}
    return PredictorFile(schema=1, **fields, base=base, effects=effects, uncertainty=0.004)


def _rising(rng, choices, step):
    total, effects = 0.0, {}
    for choice in choices:
        effects[str(choice)] = total
        total += rng.uniform(0, step)
    return effects
