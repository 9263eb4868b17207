"""The whole path for the bundled supernet: profile, search, export, verify, measure, report."""

from __future__ import annotations

import importlib.util
import statistics as stats
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from nasvit_edge import data_sets, files, records, systems, units
from nasvit_edge.choosing.accuracy import MEASURED, AccuracyChoice, measured_accuracy
from nasvit_edge.device import load_device
from nasvit_edge.errors import MeasurementError, MissingExtraError, NasvitEdgeError
from nasvit_edge.export import verification, writing
from nasvit_edge.export.formats import load_format
from nasvit_edge.flows.near_top import judge, near_top
from nasvit_edge.flows.prepared import content, prepare, run
from nasvit_edge.latency import LatencyTable, load_table, table_name
from nasvit_edge.listening import Listener
from nasvit_edge.profile.run import profile
from nasvit_edge.profile.trust import concerns, fingerprint
from nasvit_edge.report.quickstart_text import Exported, NearTop, QuickstartReport, Timed, headline, markdown
from nasvit_edge.requests.options import TableChoice
from nasvit_edge.requests.quickstart import Request
from nasvit_edge.requests.search import Request as SearchRequest
from nasvit_edge.searching.result import read_result
from nasvit_edge.searching.saved import ResultFile
from nasvit_edge.searching.search import fastest
from nasvit_edge.space import SearchSpace, load_space
from nasvit_edge.transport.answers import Failure
from nasvit_edge.transport.job import Job
from nasvit_edge.transport.local import fastest_cores, local_runner

SPACE, SUPERNET, DEVICE, RUNTIME = "nano", "nano", "host", "onnxruntime"
FORMATS = tuple(name for name in ("onnx", "tflite") if systems.has_format(name))
_VISITS, _SECONDS = 5, 0.2  # of an artifact's measurement; artifacts take turns


def quickstart(request: Request, *, listener: Listener) -> QuickstartReport:
    """Run everything into the folder that is asked for, and return the report.

    A table measured here earlier is used again, where machine and runtime are still the same.
    """
    started, out = time.monotonic(), request.out
    _require_extras()
    files.writable_folder(out)
    space = load_space(SPACE)
    table = _table(space, out / "latency_tables", listener)
    budget_ms, why = _budget(space, table, request.latency)
    listener.note(why)
    result, choice = choose(table, budget_ms, request.seed, out, listener)
    artifacts = _export(out, listener)
    report = QuickstartReport(
        budget_ms=budget_ms,
        budget_why=why,
        machine=fingerprint(),
        table=str(table.path.name),
        setting=table.setting,
        best=result.best,
        evaluated=result.evaluated,
        choice=choice,
        artifacts=_measured(artifacts, listener),
        seconds=round(time.monotonic() - started, 1),
    )
    report = structs.replace(report, headline=headline(report))
    records.write(out / "report.json", report)
    files.write_text(out / "report.md", markdown(report))
    return report


def _require_extras() -> None:
    """Say what is missing before minutes are spent."""
    for package, extra in (("onnx", "onnx"), ("onnxruntime", "onnx"), ("litert_torch", "tflite")):
        if extra in FORMATS and importlib.util.find_spec(package) is None:
            raise MissingExtraError(
                f"quickstart needs {package}; run: pip install 'nasvit-edge[onnx,tflite]' (extra {extra!r})"
            )


def _table(space: SearchSpace, folder: Path, listener: Listener) -> LatencyTable:
    """The table in `folder` where it is of this machine and runtime; measured otherwise."""
    path = folder / table_name(DEVICE, RUNTIME, 1, "fp32", space.name)
    if path.exists():
        table = load_table(path)
        doubts = concerns(table, [space.smallest(), space.largest()])
        if not doubts:
            listener.note(f"using the latency table measured on {table.file.date}")
            return table
        listener.note(f"measuring again, not using the latency table here: {doubts[0].text}")
    listener.note("measuring every op of the space on this machine (protocol quick)")
    profile(space, DEVICE, runtime=RUNTIME, protocol="quick", out=folder, listener=listener)
    return load_table(path)


def _budget(space: SearchSpace, table: LatencyTable, latency: str | None) -> tuple[float, str]:
    """A budget and the sentence that explains it."""
    low = table.predict(fastest(space, table)).ms
    high = table.predict(space.largest()).ms
    reach = f"subnets here take {units.show_ms(low)} to {units.show_ms(high)}"
    if latency is not None:
        budget_ms = units.latency_ms(latency)
        return budget_ms, f"budget {units.show_ms(budget_ms)} as asked; {reach}"
    middle = float(f"{(low * high) ** 0.5:.2g}")
    return middle, f"budget {units.show_ms(middle)}: {reach}, and this is the geometric middle"


def choose(
    table: LatencyTable, budget_ms: float, seed: int, out: Path, listener: Listener
) -> tuple[ResultFile, NearTop]:
    """The exact optimum of the predictor within the budget, held against subnets near it on images."""
    request = SearchRequest(
        space=SPACE,
        latency=[f"{budget_ms!r}ms"],
        supernet=SUPERNET,
        data=data_sets.BUNDLED,
        accuracy=SPACE,
        method="exact",
        table=TableChoice(table=table.path, usual=DEVICE, no_canary=True),
        seed=seed,
    )
    prepared = prepare(request, listener)
    searched = run(prepared, listener=listener)
    listener.note("judging subnets near the best one on validation images, after batch-norm calibration")
    choice = AccuracyChoice(supernet=SUPERNET, data=data_sets.BUNDLED, accuracy=MEASURED)
    images = measured_accuracy(choice, prepared.problem.space, listener)
    best, judged = judge(near_top(prepared.problem, searched), images, listener)
    listener.note(f"chosen: {judged.line()}")
    result = content(prepared, replace(searched, best=best))
    records.write(out / "search.json", result)
    return result, judged


def _export(out: Path, listener: Listener) -> list[Exported]:
    """Calibrate, export in each format, verify and evaluate."""
    from nasvit_edge.model.accuracy import calibrated
    from nasvit_edge.model.checkpoint import load_supernet
    from nasvit_edge.model.subnet import materialise
    from nasvit_edge.train.calibration import calibration_for

    saved = read_result(out / "search.json")
    supernet = load_supernet(SUPERNET, saved.space)
    subnet = calibrated(materialise(supernet, saved.config), calibration_for(supernet, data_sets.BUNDLED))
    artifacts = []
    for index, name in enumerate(FORMATS):
        form = load_format(name)
        listener.note(f"exporting, verifying and evaluating {name}")
        path = out / f"{SPACE}{form.suffix}"
        writing.export(supernet, subnet, form, path, writing.Options(overwrite=True))
        check = verification.verify(path)
        if not check.passed:
            raise NasvitEdgeError(f"{path.name}: {'; '.join(check.failures())}")
        artifacts.append(_described(path, form.runtime, check.error, saved.best.latency_ms))
        listener.progress(index + 1, len(FORMATS), name)
    return artifacts


def _described(path: Path, runtime: str, error: float | None, predicted_ms: float) -> Exported:
    report = verification.evaluate(path, data_sets.BUNDLED)
    assert isinstance(report, verification.OnImages)
    return Exported(
        path=str(path),
        artifact=path.name,
        runtime=runtime,
        error=error,
        predicted_ms=predicted_ms if runtime == RUNTIME else None,
        bytes=path.stat().st_size,
        correct=report.correct,
        images=report.images,
        accuracy=report.accuracy,
    )


def _measured(artifacts: Sequence[Exported], listener: Listener) -> tuple[Timed, ...]:
    """The artifacts, measured in turns and in fresh sessions."""
    samples: dict[str, list[float]] = {artifact.path: [] for artifact in artifacts}
    with local_runner(load_device(DEVICE).runner) as runner:
        for visit in range(_VISITS):
            for artifact in artifacts:
                answer = runner.measure(_job(artifact, visit))
                if isinstance(answer, Failure):
                    raise MeasurementError(f"{artifact.artifact} could not be measured: {answer.error}")
                samples[artifact.path] += answer.samples_us
            listener.progress(visit + 1, _VISITS, "measuring artifacts")
    return tuple(_timed(artifact, sorted(samples[artifact.path])) for artifact in artifacts)


def _job(artifact: Exported, visit: int) -> Job:
    return Job(
        id=artifact.path,
        model=artifact.path,
        runtime=artifact.runtime,
        threads=1,
        cores=fastest_cores(1),
        runs=10,
        seconds=_SECONDS,
        most_seconds=10 * _SECONDS,
        precision=0.02,
        seed=visit,
    )


def _timed(artifact: Exported, taken_us: Sequence[float]) -> Timed:
    """With the figures of its samples, in order."""
    p90_ms = taken_us[int(0.9 * (len(taken_us) - 1))] / 1e3
    return Timed(**structs.asdict(artifact), measured_ms=stats.median(taken_us) / 1e3, p90_ms=p90_ms)
