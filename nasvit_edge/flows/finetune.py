"""`finetune`: one subnet, trained on before it is shipped, with files that every other command takes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from nasvit_edge import data_sets, files, ops, records, sizes, systems
from nasvit_edge.choosing.subnet import Subject, subject_of
from nasvit_edge.data_sets.names import some
from nasvit_edge.errors import CheckpointError, NasvitEdgeError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.records import Record
from nasvit_edge.requests.finetune import Request
from nasvit_edge.searching.result import sealed, weights_digest
from nasvit_edge.searching.saved import Finetuned, Origin, ResultFile
from nasvit_edge.space import SearchSpace, space_toml
from nasvit_edge.train.recipe import Recipe, changes_of, load_recipe

if TYPE_CHECKING:
    from nasvit_edge.model.supernet import Supernet
    from nasvit_edge.train.finetune import Tuned
    from nasvit_edge.train.recipe import Recipe

RECIPE, RECIPE_SCENES, RECIPE_INT8 = "finetune", "finetune-scenes", "finetune-int8"
LABELS = "labels"  # what `teacher` is called where there is none
_INITIAL, _SPACE, _WEIGHTS = "initial.safetensors", "space.toml", "supernet.safetensors"


class FinetuneReport(Record, frozen=True, kw_only=True):
    """The files that were written, and what came of it.

    Attributes:
        validation: the images that `before` and `after` are of, by arithmetic (`fp32`, `int8`).
    """

    out: str
    space: str
    supernet: str
    config: str
    result: str | None
    data: str
    classes: int
    validation: str
    teacher: str
    before: dict[str, float]
    after: dict[str, float]
    steps: int


def finetune(request: Request, *, listener: Listener = SILENT) -> FinetuneReport | None:
    """Train the subnet and write `space.toml`, `supernet.safetensors`, `config.json` and, from a result, `result.json`.

    Raises:
        NasvitEdgeError: one line about options, weights, data or a folder that do not fit.
        TrainingError: the run diverged, or was stopped (a checkpoint is left).
    """
    systems.require_command("finetune")
    changes = changes_of(
        request.values,
        run_epochs=request.epochs,
        optimizer_learning_rate=request.learning_rate,
        run_batch_size=request.batch_size,
    )
    from nasvit_edge.train import run
    from nasvit_edge.train.finetune import ITSELF, PRECISIONS, Tuning, tune
    from nasvit_edge.train.loop import Settings

    if request.quantise and request.quantise not in PRECISIONS:
        raise NasvitEdgeError(f"--quantise is {request.quantise!r}; there is {', '.join(PRECISIONS)}")
    subject = subject_of(request.result, request.space, request.supernet, request.config)
    if subject.space.network is not None:
        raise NasvitEdgeError(
            f"space {subject.space.name!r} is one network, {subject.space.network.source}, taken as it is: fine-tune it where it comes "
            "from and adopt it again with --weights FILE"
        )
    if subject.space.is_dense and (request.quantise or request.teacher not in (None, LABELS)):
        raise NasvitEdgeError(
            f"a segmenter of space {subject.space.name!r} learns from masks in floating point only; "
            "leave --quantise and --teacher away, and quantise it by export --precision int8"
        )
    polish, teacher = _kind(request, subject.space)
    plain = RECIPE_SCENES if subject.space.is_dense else RECIPE
    recipe = _recipe(request.recipe or (RECIPE_INT8 if polish else plain), changes)
    space, recipe = _initial(request, subject, recipe, listener)
    settings = Settings(
        out=request.out,
        seed=request.seed,
        threads=request.threads,
        workers=request.workers,
        stalled_s=60 * request.stall_minutes,
        checkpoint_s=60 * request.checkpoint_minutes,
    )
    training = run.TrainingRequest(
        space=str(request.out / _SPACE),
        data=request.data,
        recipe=recipe,
        settings=settings,
        weights=str(request.out / _INITIAL),
        teacher=None if teacher == LABELS else teacher,
        trust_teacher=request.trust_teacher,
        resume=request.resume,
        validate_every=request.validate_every,
    )
    tuning = Tuning(request.freeze_below, request.quantise, teacher == ITSELF, recipe.loss.teacher_scale)
    report = tune(training, tuning, listener=listener)
    if report is None:  # another process than the first
        return None
    return _written(request, subject, space, recipe, report, teacher)


def _recipe(name: str, changes: Sequence[str]) -> Recipe:
    recipe = load_recipe(name)
    recipe = recipe.with_values(changes) if changes else recipe
    if not recipe.single:
        raise NasvitEdgeError(
            f"recipe {recipe.name!r} trains a supernet; fine-tuning trains one subnet: add --set single=true, or use --recipe {RECIPE}"
        )
    return recipe


def _kind(request: Request, space: SearchSpace) -> tuple[bool, str]:
    """Whether a subnet that knows its classes is only to get used to 8 bits, and what it learns from."""
    from nasvit_edge.train.finetune import ITSELF, known_labels

    classes = data_sets.classes(request.data, space)
    known = known_labels(space, classes, request.data, in_order=request.labels_in_order) is not None
    if request.teacher == ITSELF and not known:
        raise NasvitEdgeError(
            f"--teacher {ITSELF}: the subnet does not know the classes of {request.data!r}; fine-tune on labels first, then what that wrote"
        )
    polish = known and bool(request.quantise)
    return polish, request.teacher or (ITSELF if polish else LABELS)


def _initial(
    request: Request, subject: Subject, recipe: Recipe, listener: Listener
) -> tuple[SearchSpace, Recipe]:
    """Write the subnet's space and initial weights to the run's folder, unless another run is there."""
    from nasvit_edge.model.checkpoint import save_supernet
    from nasvit_edge.train.finetune import taken
    from nasvit_edge.train.initial import started

    out = files.writable_folder(request.out)
    if not request.resume and ((out / _WEIGHTS).exists() or any(out.glob("checkpoints/*.pt"))):
        raise CheckpointError(
            f"{str(out)!r} holds a run already; continue it with --resume or choose another --out"
        )
    if request.resume and not (out / _INITIAL).exists():
        raise CheckpointError(f"{str(out)!r} holds no run to resume; leave --resume away to start one")
    if subject.space.is_dense:  # before weights are read
        data_sets.check(request.data, subject.space)
    else:
        data_sets.classes(request.data)
    whole = started(subject.supernet, subject.space, request.seed, listener=listener)
    supernet = taken(whole, subject.config, request.data, request.seed, in_order=request.labels_in_order)
    remark = _about_classes(supernet, subject.space, request.data)
    if remark:
        listener.note(remark)
    with tempfile.TemporaryDirectory() as folder:
        initial = Path(folder, _INITIAL)
        save_supernet(supernet, initial, supernet.source)
        if request.resume and files.sha256(initial) != files.sha256(out / _INITIAL):
            raise CheckpointError(
                f"{str(out)!r} is the run of another subnet, weights or seed; use its options"
            )
        files.write_bytes(out / _INITIAL, initial.read_bytes())
    files.write_text(out / _SPACE, space_toml(supernet.space))
    return supernet.space, recipe.with_values([f"subnets.scaling={supernet.scaling}"])


def _about_classes(supernet: Supernet, space: SearchSpace, data: str) -> str:
    """What becomes of the classifier; empty where it stays as it is."""
    old, new = space.label_names(), supernet.space.label_names()
    if supernet.source.get("classifier") == "new":
        same = ""
        if len(old) == len(new):
            same = "; if they are the same, called otherwise and in this order, add --labels-in-order"
        return f"the classes of {data} are others than the space's: a new classifier for {len(new)}{same}"
    if old == new:
        return ""
    pairs = [f"{name} = {label}" for name, label in zip(new, old, strict=True)]
    return f"the classes of {data} are taken for the space's: {some(pairs, 20)}"


def _written(
    request: Request, subject: Subject, space: SearchSpace, recipe: Recipe, tuned: Tuned, teacher: str
) -> FinetuneReport:
    from nasvit_edge.searching.images import is_first

    out = request.out
    report = FinetuneReport(
        out=str(out),
        space=str(out / _SPACE),
        supernet=str(out / _WEIGHTS),
        config=str(out / "config.json"),
        result=str(out / "result.json") if subject.saved else None,
        data=request.data,
        classes=space.classes,
        validation=tuned.validation,
        teacher=teacher,
        before=tuned.before,
        after=tuned.after,
        steps=tuned.steps,
    )
    if is_first():
        files.write_json(out / "config.json", subject.config.to_dict())
        if subject.saved is not None:
            records.write(out / "result.json", _result(request, subject, space, recipe, report))
    return report


def _result(
    request: Request, subject: Subject, space: SearchSpace, recipe: Recipe, report: FinetuneReport
) -> ResultFile:
    """The search's result with the tuned subnet alone; its latency is the one predicted for its ops."""
    assert subject.saved is not None
    saved, config = subject.saved, subject.config
    setting = structs.replace(
        saved.setting,
        space=report.space,
        supernet=report.supernet,
        supernet_sha256=weights_digest(report.supernet),
        calibration=request.data,
        calibration_sha256=None,
        labels_in_order=False,  # they are called as its folders now
        accuracy_source=f"measured on {report.validation} after fine-tuning",
        accuracy=None,
        accuracy_sha256=None,
    )
    best = structs.replace(
        saved.best,
        accuracy=report.after["fp32"],
        macs=ops.macs(space, config),
        parameters=sizes.config_parameters(space, config),
    )
    finetuned = Finetuned(
        origin=Origin(result=str(request.result), space=saved.setting.space, supernet=subject.supernet),
        recipe=recipe.to_dict(),
        teacher=report.teacher,
        before=report.before,
        after=report.after,
        quantised=request.quantise or None,
        latency_is_for_classes=saved.space.classes,
    )
    return structs.replace(
        saved.file,
        setting=setting,
        seal=sealed(setting),
        best=best,
        front=(best,),
        beyond=(),
        genes={},
        gap=None,
        same_macs=None,
        space=space_toml(space),
        finetuned=finetuned,
    )
