"""`explain`: why a searched subnet is what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from nasvit_edge import files
from nasvit_edge.choosing.accuracy import MEASURED, AccuracyChoice, accuracy_source
from nasvit_edge.errors import TableError
from nasvit_edge.latency import LatencyTable, load_table
from nasvit_edge.latency.selection import found_tables
from nasvit_edge.listening import Listener
from nasvit_edge.requests.explain import Request
from nasvit_edge.searching.accuracy import predictor_path
from nasvit_edge.searching.evaluation import Evaluator
from nasvit_edge.searching.population import genes
from nasvit_edge.searching.result import SavedResult, read_result
from nasvit_edge.searching.stages import Explained, explained


def explain(request: Request, listener: Listener) -> Explained:
    """Stages and changes of the winner of a result file.

    Raises:
        TableError: the table is not among the known ones, and not named.
        NasvitEdgeError: a damaged result, or an accuracy source that is gone.
    """
    saved = read_result(request.result)
    loaded = _table(saved, request.table, listener)
    if saved.best.precisions:
        each = ", ".join(f"{stage.name} {stage.precision}" for stage in saved.file.stages)
        listener.note(
            f"explained by table {loaded.path.name} alone; the search gave stages precisions: {each}"
        )
    evaluator = Evaluator(genes(saved.space, saved.file.genes), [loaded], _accuracy(request, saved, listener))
    return replace(
        explained(evaluator, saved.config),
        quality=saved.file.quality,
        table=loaded.path.name,
        setting=loaded.setting,
        result=str(request.result),
    )


def _table(saved: SavedResult, path: Path | None, listener: Listener) -> LatencyTable:
    setting = saved.setting
    if path is None:
        path = next((candidate for candidate in found_tables() if candidate.name == setting.table), None)
    if path is None:
        raise TableError(f"table {setting.table!r} is not in ./latency_tables; name it: --table FILE")
    if files.sha256(path) != setting.table_sha256:
        listener.note(f"note: table {path.name} is not what it was when it was searched with")
    return load_table(f"{path.parent}/{path.name}", space=saved.space, interpolate=setting.interpolate)


def _accuracy(request: Request, saved: SavedResult, listener: Listener) -> Any:
    """The result's own accuracy source, as far as it was not given."""
    setting = saved.setting
    supernet, data = request.supernet or setting.supernet, request.data or setting.calibration
    accuracy = request.accuracy or setting.accuracy
    if accuracy is None:
        saved.refuse(request.result, "accuracy")
        if supernet is None:
            saved.refuse(request.result, "supernet")
        if data is None:
            saved.refuse(request.result, "calibration", "--data")
        listener.note("accuracies are measured on images; that takes a while")
    elif files.sha256(predictor_path(accuracy)) != setting.accuracy_sha256:
        listener.note("note: the accuracy predictor changed since the search")
    choice = AccuracyChoice(supernet=supernet, data=data, accuracy=accuracy or MEASURED)
    return accuracy_source(choice, saved.space, listener)
