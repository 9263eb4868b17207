"""The sidecar of an artifact: what the file is, and the outcome of its check."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from msgspec import UNSET, UnsetType, field

from nasvit_edge import records
from nasvit_edge.data_sets.confusion import Ious
from nasvit_edge.data_sets.trained_on import SavedTrainedOn
from nasvit_edge.errors import VerifyError
from nasvit_edge.export.arithmetic import Shares
from nasvit_edge.records import Amount, Figure, Record, RecordError, Sha256, Whole


class Scenes(Ious, frozen=True, kw_only=True):
    """What an artifact's outputs are worth on labelled scenes.

    Attributes:
        masks: what is in them, in lines.
        reference: the supernet's figures, where it is here.
    """

    data: str
    images: Whole
    masks: tuple[str, ...]
    reference: Ious | None
    mean_iou_drop: Figure | None


class Reproduced(Record, frozen=True, kw_only=True):
    """How far outputs are from those at export; see `reproduction.Reproduction`."""

    same_machine: bool
    change: Figure
    snr_db: Figure | None
    agreement: Figure | None
    plain_change: Figure | None
    saturates: bool


class Checked(Record, frozen=True, kw_only=True, omit_defaults=False):
    """The outcome of a verification as a file has it; see `checks.Check`. A figure that is not finite is 1e9 or -1e9.

    Attributes:
        pixels, pixel_count, scenes, output: of a segmenter.
        seed: of the inputs, in a sidecar.
    """

    passed: bool
    reference: str = ""
    error: Figure | None = None
    snr_db: Figure | None = None
    agreement: Figure | None = None
    top1: Figure | None = None
    top1_drop: Figure | None = None
    top1_drop_interval: tuple[Figure, Figure] | None = None
    images: Whole = 0
    inputs: Whole = 0
    real_images: Whole = 0
    arithmetic: Shares | None = None
    reproduction: Reproduced | None = None
    pixels: Figure | UnsetType = UNSET
    pixel_count: Whole | UnsetType = UNSET
    scenes: Scenes | UnsetType | None = UNSET
    output: str | UnsetType = UNSET
    doubts: tuple[str, ...] = ()
    allowed: dict[str, Figure | None] = field(default_factory=dict)
    seed: Whole | UnsetType = UNSET


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
        kept_in_float: layers.
        versions: of everything that had a part in the file, and the processor it was checked on.
        forced: failures of a file that was kept in spite of them.
        trained_on: the images that trained the weights.
    """

    schema: Literal[2]
    format: str
    precision: str
    sha256: Sha256
    bytes: Whole
    reference_sha256: Sha256
    metadata: dict[str, str]
    check: Checked
    kept_in_float: tuple[str, ...]
    versions: dict[str, str]
    forced: tuple[str, ...] = ()
    trained_on: SavedTrainedOn | None = None
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
