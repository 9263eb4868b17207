"""What travels between this machine and runners, whole: `devices/protocol.json` is written from these records.

A closed kind each. Files, inputs and what starts, feeds and ends a runner over ssh are built from them; jobs and questions are built in `job.py`, and answers
come from elsewhere (`answers.py` takes what it can read of them): tests hold what is really sent against the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta, field

from nasvit_edge.latency.file import State
from nasvit_edge.records import Count, Fact, Number, Record, Sha256, Whole
from nasvit_edge.transport.answers import Description, Failure, Flag, Measurement, SshDescription
from nasvit_edge.transport.job import Job, Natural, Text

_REF = "#/$defs/"
_ANSWERED = {"oneOf": [{"$ref": f"{_REF}measurement"}, {"$ref": f"{_REF}error"}]}
Thermal = Literal["nominal", "fair", "serious", "critical"]  # in this order
Units = Literal["all", "cpuAndNeuralEngine", "cpuAndGPU", "cpuOnly"]
_Thermal = Annotated[Thermal | None, Meta(extra_json_schema={"enum": list(get_args(Thermal))})]
_Units = Annotated[Units | None, Meta(extra_json_schema={"enum": list(get_args(Units))})]
_Conditions = Annotated[dict[str, Fact], Meta(extra_json_schema={"$ref": f"{_REF}conditions"})]
_About = Annotated[dict[str, Fact], Meta(extra_json_schema={"$ref": f"{_REF}about"})]
_BusyCores = Annotated[Any, Meta(extra_json_schema={"type": ["number", "null"], "minimum": 0})]
_TRUE = Meta(extra_json_schema={"const": True})
_ANY_ANSWER = {"$ref": f"{_REF}answer"}


class Fingerprint(Record, frozen=True, kw_only=True):
    """What a device is: the same at every connection; other facts may stand beside these."""

    architecture: str = ""
    board: str = ""
    cores: Count | None = None
    os: str = ""
    soc: str = ""


class Conditions(Record, frozen=True, kw_only=True):
    """What may differ the next time: power mode, clocks, temperature, battery."""


class FileEntry(Record, frozen=True, kw_only=True):
    """A file of a model.

    Attributes:
        path: relative, '/' between parts, no '..'.
    """

    path: Text
    bytes: Natural
    sha256: Sha256


class ModelInput(Record, frozen=True, kw_only=True):
    """HTTP only: what to feed: seeded normal values, never zeros."""

    name: str
    shape: Annotated[tuple[Count, ...], Meta(min_length=1)]
    dtype: Literal["float32"]
    fill: Annotated[str, Meta(pattern="^seed:[0-9]+$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMessage(Job):
    """A model to time, and what devices that pull it are told beside.

    Attributes:
        files: HTTP only: the files of the model, each at FILE/<sha256>.
        max_thermal: HTTP only: wait while the device is hotter.
        nonce: HTTP only: comes back in the answer; an answer counts once.
        units: HTTP only: Core ML compute units of the runtime.
    """

    detail: Annotated[bool, _TRUE] = False  # left out otherwise, as older runners do not know it
    schema: Literal[1] | None = None
    files: Annotated[tuple[FileEntry, ...], Meta(min_length=1)] | None = None
    input: ModelInput | None = None
    max_thermal: _Thermal = None
    nonce: str = ""
    units: _Units = None


class JobsMessage(Record, frozen=True, kw_only=True):
    """Over a pipe, of runners whose description says `turns`: models in processes of their own, of which one runs at a time, for some hundredths of a second."""

    id: Text
    jobs: Annotated[tuple[JobMessage, ...], Meta(min_length=2)]


class AboutRequest(Record, frozen=True, kw_only=True):
    """What the device is.

    Attributes:
        cores: that jobs will run on: clock and governor are told of them.
    """

    id: str
    ask: Literal["about"]
    cores: tuple[Natural, ...] = ()


class BundleFile(Record, frozen=True, kw_only=True):
    """`jobs.json` of an offline bundle (profile --offline): jobs with nonce, files, input and units, in the order to run them in."""

    schema: Literal[1]
    uuid: Text
    jobs: Annotated[tuple[JobMessage, ...], Meta(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest(JobMessage):
    """Build the model's TensorRT engine.

    Attributes:
        types: of numbers, beside fp32, that it may use.
    """

    ask: Literal["build"]
    runtime: Literal["tensorrt"]
    types: tuple[Literal["fp16", "int8"], ...] = ()


class PutRequest(Record, frozen=True, kw_only=True):
    """A part of a file, in base64."""

    id: str
    ask: Literal["put"]
    name: Annotated[str, Meta(pattern="^[0-9a-f]{64}[.][a-z]{1,8}$")]
    offset: Natural
    data: Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})]
    last: bool


class DropRequest(Record, frozen=True, kw_only=True):
    """Remove files."""

    id: str
    ask: Literal["drop"]
    names: tuple[str, ...]


class EndRequest(Record, frozen=True, kw_only=True):
    """Remove what is there, and end."""

    id: str
    ask: Literal["end"]


class BootRequest(Record, frozen=True, kw_only=True):
    """The first line: the runner's source, with where its folder is."""

    id: Literal["boot"]
    boot: str
    modules: tuple[tuple[str, str], ...]
    base: str
    owner: str
    folder: str
    tool: str
    lock_clocks: bool


class MeasurementMessage(Measurement, frozen=True, kw_only=True):
    """A measurement as it is sent.

    Attributes:
        tegrastats: lines as the tool printed them.
        trtexec: text of the tool and of its --exportTimes file.
    """

    id: str
    flags: Annotated[tuple[Flag, ...], Meta(extra_json_schema={"uniqueItems": True})] = ()
    nonce: str = ""
    compile_ms: Number | None = None
    tegrastats: tuple[str, ...] = ()
    trtexec: dict[str, Any] | None = None


class ErrorMessage(Failure, frozen=True, kw_only=True):
    """A failure as it is sent."""

    error: Text
    nonce: str = ""


class AnswersMessage(Record, frozen=True, kw_only=True):
    """To `jobs`, in their order."""

    id: str
    answers: Annotated[tuple[Any, ...], Meta(min_length=2, extra_json_schema={"items": _ANSWERED})]


class DescriptionMessage(Description, frozen=True, kw_only=True):
    """A description as it is sent."""

    id: str
    about: _About
    busy_cores: _BusyCores = None
    conditions: _Conditions = field(default_factory=dict)
    nonce: str = ""


class SshDescriptionMessage(SshDescription, frozen=True, kw_only=True):
    """A description over ssh as it is sent."""

    id: str
    about: _About
    busy_cores: _BusyCores = None
    conditions: _Conditions = field(default_factory=dict)
    board: dict[str, Annotated[Any, Meta(extra_json_schema={"type": ["string", "integer", "array"]})]]
    cores_by_clock: tuple[Whole, ...]


class ResultsFile(Record, frozen=True, kw_only=True):
    """What an offline run gives back: profile --results.

    Attributes:
        uuid: of the bundle that was measured.
    """

    schema: Literal[1]
    uuid: str
    description: DescriptionMessage
    answers: Annotated[tuple[Any, ...], Meta(extra_json_schema={"items": _ANY_ANSWER})]


class TrtexecOutput(Record, frozen=True, kw_only=True):
    """What trtexec printed and exported; the host reads it.

    Attributes:
        times: entries of the --exportTimes file, or its text where they are not found.
    """

    stdout: str
    times: Annotated[Any, Meta(extra_json_schema={"type": ["array", "string"]})]
    flags: str = ""


class TrtexecMessage(Record, frozen=True, kw_only=True):
    """A model that trtexec timed."""

    id: str
    trtexec: TrtexecOutput
    tegrastats: tuple[str, ...] = ()


class SshErrorMessage(Record, frozen=True, kw_only=True):
    """A failure over ssh as it is sent."""

    id: str
    error: Text
    free_bytes: Natural | None = None


class BuiltMessage(Record, frozen=True, kw_only=True):
    """The engine is there."""

    id: str
    built: bool


class PutMessage(Record, frozen=True, kw_only=True):
    """A part of a file is there."""

    id: str
    put: str


class DroppedMessage(Record, frozen=True, kw_only=True):
    """How many files were removed."""

    id: str
    dropped: Natural
    free_bytes: Natural | None = None


class EndedMessage(Record, frozen=True, kw_only=True):
    """All is removed."""

    id: str
    ended: Annotated[bool, _TRUE]


class StartedMessage(Record, frozen=True, kw_only=True):
    """The answer to the first line.

    Attributes:
        died: the id of what the runner before was asked when it died of it; empty where it did not.
    """

    id: Literal["boot"]
    folder: str
    files: tuple[str, ...]
    free_bytes: Natural
    python: str
    clocks_refused: str
    died: str


DEFINITIONS: dict[str, type[Any]] = {
    "about": Fingerprint,
    "about_request": AboutRequest,
    "answers": AnswersMessage,
    "boot": BootRequest,
    "build": BuildRequest,
    "built": BuiltMessage,
    "bundle": BundleFile,
    "conditions": Conditions,
    "description": DescriptionMessage,
    "drop": DropRequest,
    "dropped": DroppedMessage,
    "end": EndRequest,
    "ended": EndedMessage,
    "error": ErrorMessage,
    "file": FileEntry,
    "input": ModelInput,
    "job": JobMessage,
    "jobs": JobsMessage,
    "measurement": MeasurementMessage,
    "put": PutRequest,
    "put_answer": PutMessage,
    "results": ResultsFile,
    "ssh_description": SshDescriptionMessage,
    "ssh_error": SshErrorMessage,
    "started": StartedMessage,
    "state": State,
    "trtexec": TrtexecMessage,
    "trtexec_output": TrtexecOutput,
}
OPEN = {"about": Fact, "conditions": Fact}  # what more they may hold
UNIONS = {
    "request": ("job", "jobs", "about_request"),
    "answer": ("answers", "measurement", "error", "description"),
    "ssh_request": ("request", "build", "put", "drop", "end", "boot"),
    "ssh_answer": (
        "answers",
        "measurement",
        "ssh_description",
        "trtexec",
        "ssh_error",
        "built",
        "put_answer",
        "dropped",
        "ended",
        "started",
    ),
}
