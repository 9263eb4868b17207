"""The sidecar of an artifact: what the file is, and the outcome of its check."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from nasvit_edge import records
from nasvit_edge.errors import VerifyError
from nasvit_edge.records import Amount, Record, RecordError, Sha256, Whole


class Searched(Record, frozen=True, kw_only=True):
    """What the search predicted of the subnet, and by which table and accuracy."""

    predicted_ms: Amount
    accuracy: Amount
    device: str
    runtime: str
    threads: Whole
    precision: str
    accuracy_source: str
    accuracy_uncertainty: Amount
    table_sha256: Sha256


class Sidecar(Record, frozen=True, kw_only=True):
    """A sidecar.

    Attributes:
        metadata: the same as inside the file.
        check: as `Check.to_dict` gives it, and its `seed`.
        kept_in_float: layers.
        versions: of everything that had a part in the file, and the processor it was checked on.
        forced: failures of a file that was kept in spite of them.
        trained_on: the images that trained the weights, as `TrainedOn.to_json` gives them.
    """

    schema: Literal[2]
    format: str
    precision: str
    sha256: Sha256
    bytes: Whole
    reference_sha256: Sha256
    metadata: dict[str, str]
    check: dict[str, Any]
    kept_in_float: tuple[str, ...]
    versions: dict[str, str]
    forced: tuple[str, ...] = ()
    trained_on: dict[str, Any] | None = None
    search: Searched | None = None


def sidecar_path(path: Path) -> Path:
    """`model.onnx` -> `model.onnx.json`."""
    return path.with_name(f"{path.name}.json")


def read_sidecar(path: Path) -> Sidecar:
    """The sidecar of an artifact.

    Raises:
        VerifyError: it is damaged.
        NasvitEdgeError: it is missing, or of another schema.
    """
    try:
        return records.read(Sidecar, sidecar_path(path), "sidecar")
    except RecordError as error:
        if error.key == "schema":
            raise
        raise VerifyError(f"{error}; export again") from None
