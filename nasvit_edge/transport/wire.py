"""What travels between this machine and runners, whole: `devices/protocol.json` is written from these records.

A closed kind each: what is asked is built from them, and of what is answered they say what may come; `answers.py` takes of an answer what
it can read, whoever sent it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from msgspec import Meta, field

from nasvit_edge.latency.file import State
from nasvit_edge.records import Count, Fact, Number, Record, Sha256, Whole
from nasvit_edge.transport.answers import Description, Failure, Flag, Measurement, SshDescription
from nasvit_edge.transport.job import Natural, Text

_REF = "#/$defs/"
_ANSWERED = {"oneOf": [{"$ref": f"{_REF}measurement"}, {"$ref": f"{_REF}error"}]}
Thermal = Literal["nominal", "fair", "serious", "critical"]  # in this order
Units = Literal["all", "cpuAndNeuralEngine", "cpuAndGPU", "cpuOnly"]
_Thermal = Annotated[Thermal | None, Meta(extra_json_schema={"enum": list(get_args(Thermal))})]
_Units = Annotated[Units | None, Meta(extra_json_schema={"enum": list(get_args(Units))})]
_Conditions = Annotated[dict[str, Fact], Meta(extra_json_schema={"$ref": f"{_REF}conditions"})]
_About = Annotated[dict[str, Fact], Meta(extra_json_schema={"$ref": f"{_REF}about"})]
_BusyCores = Annotated[Any, Meta(extra_json_schema={"type": ["number", "null"], "minimum": 0})]
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


class JobMessage(Record, frozen=True, kw_only=True):
    """A model to time: `transport.job.Job`, and what devices that pull it are told beside.

    Attributes:
        model: a path on this machine; a transport changes it to one there (pipe), or to the name that `files` are put under (HTTP).
        cores: to run on; none where the device decides.
        runs, seconds, most_seconds, precision: when sampling stops, see `devices/host/README.md`.
        seed: of the input's values.
        sustained_s: not 0: run so long without a pause and answer with windows.
        detail: load a file that is not in the system's cache, then once more, and tell the memory: load_ms, warm_load_ms, memory_bytes.
        files: HTTP only: the files of the model, each at FILE/<sha256>.
        max_thermal: HTTP only: wait while the device is hotter.
        nonce: HTTP only: comes back in the answer; an answer counts once.
        units: HTTP only: Core ML compute units of the runtime.
    """

    id: Text
    model: str
    runtime: str
    threads: Count
    cores: tuple[Natural, ...]
    runs: Count
    seconds: Annotated[float, Meta(ge=0)]
    most_seconds: Annotated[float, Meta(gt=0)]
    precision: Annotated[float, Meta(gt=0)]
    seed: Natural
    sustained_s: Annotated[float, Meta(ge=0)] = 0.0
    detail: bool = False
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


class BuildRequest(JobMessage, frozen=True, kw_only=True):
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
    ended: bool


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


DEFINITIONS: dict[str, type[Record]] = {
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
