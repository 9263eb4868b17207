"""A whole training run: data, training, logs, and how good the ends of the space become."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nasvit_edge import data_sets, files
from nasvit_edge.data_sets import Labelled, mask_check
from nasvit_edge.data_sets.labels import IMAGENET, keeps_labels
from nasvit_edge.data_sets.names import ordered, some
from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.errors import RecipeError, TrainingError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.records import Record
from nasvit_edge.space import SearchSpace, load_space, read_config, space_toml
from nasvit_edge.train import shrinking
from nasvit_edge.train.calibration import Calibration
from nasvit_edge.train.checkpoints import Checkpoints, refuse_old
from nasvit_edge.train.conflicts import Meter
from nasvit_edge.train.initial import initialised, started
from nasvit_edge.train.logs import RunLog, StepRecord
from nasvit_edge.train.loop import Settings, Trainer, Watched, finish
from nasvit_edge.train.merge import Products
from nasvit_edge.train.recipe import Recipe
from nasvit_edge.train.stopping import Stop, beside, stopping
from nasvit_edge.train.teacher import Teacher, load_teacher
from nasvit_edge.train.validation import subnet_accuracies
from nasvit_edge.train.world import TIMEOUT_S, LostError, World, world

_LATER_S = 300.0  # others wait so much longer: who is stalled is to say so first


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """What `nasvit-edge train` is asked for.

    Attributes:
        space: by name or path; it takes over the labels of the data.
        weights: a file or shipped weights to start from; None: the training initialisation.
        teacher: names as `load_teacher` takes them.
        trust_teacher: whether it may be a program; of this call only: a run that is resumed asks again.
        name: what the trained space is called, where it is not to be the space's own name, with the number of other classes (`nano-8c`).
        validate_every: epochs between two measurements on the validation slice; 0: only at the end.
        config: a subnet of the space that is trained alone, by a recipe for one (JSON); None: the supernet.
        fork: the folder of a run whose newest checkpoint this one begins with, by its own recipe.
        prepare: from the initial supernet, training and validation images to the supernet that is trained and
            its own teacher (None: `teacher`).
    """

    space: str
    data: str
    recipe: Recipe
    settings: Settings
    weights: str | None = None
    teacher: str | None = None
    trust_teacher: bool = False
    resume: bool = False
    conflicts: bool = False
    tensorboard: bool = False
    validate_every: int = 1
    name: str = ""
    config: Path | None = None
    fork: Path | None = None
    prepare: Callable[[Supernet, Labelled, Labelled], tuple[Supernet, Teacher | None]] | None = None


class Trained(Record, frozen=True, kw_only=True):
    """What came out of a run.

    Attributes:
        accuracy: of the ends of the space, on the images that `validation` names.
    """

    out: str
    accuracy: dict[str, float]
    steps: int
    validation: str


def run(request: TrainingRequest, *, listener: Listener = SILENT) -> Trained | None:
    """Train, write the weights to `out/supernet.safetensors`, and measure the ends of the space.

    Returns:
        What came out; None on other processes than the first.

    Raises:
        TrainingError: the run diverged, was stopped by a signal (a checkpoint is left), or another process is
            training into the same folder.
        CheckpointError: the folder holds a run already, or none to resume.
    """
    files.writable_folder(request.settings.out)
    longest = max(TIMEOUT_S, request.settings.stalled_s + _LATER_S)
    with _threads(request.settings.threads), world(longest) as ranks, _alone(request, ranks):
        if ranks.rank:  # the first tells for all
            _run(request, ranks, SILENT)
            return None
        return _run(request, ranks, listener)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute on so many threads; afterwards on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _alone(request: TrainingRequest, ranks: World) -> Iterator[None]:
    """The folder is this run's until it ends; asked for by the first process, before data are looked at."""
    if ranks.rank:
        yield
        return
    out = request.settings.out
    busy = TrainingError(
        f"another process is training into {str(out)!r} right now", "wait for it, or choose another --out"
    )
    with files.locked(out / "training.lock", busy):
        if not request.resume:
            refuse_old(out)
        yield


def _run(request: TrainingRequest, ranks: World, listener: Listener) -> Trained:
    space = space_of_run(request, listener)
    train, validation = data_sets.training_splits(request.data, space, listener=listener)
    if space.is_dense and request.teacher is not None:
        raise TrainingError(
            f"--teacher {request.teacher!r}: a segmenter of space {space.name!r} learns from masks only"
        )
    for line in masks_checked(train, validation, space, listener):
        listener.note(line)
    _tell_of_shrinking(request, space, train, ranks, listener)
    supernet, started_from = _initial(request, space, listener)
    trained_on = None if ranks.rank else data_sets.trained_on(train, supernet.trained_on)
    own_teacher: Teacher | None = None
    if request.prepare is not None:
        supernet, own_teacher = request.prepare(supernet, train, validation)
    identity = {"initial weights": started_from, "teacher": request.teacher or ""}
    if request.fork is not None:
        identity["fork"] = _fork_of(request)
    teacher = own_teacher or _teacher(request, space, listener)
    trainer = Trainer(
        supernet,
        train,
        request.recipe,
        request.settings,
        ranks,
        teacher=teacher,
        identity=identity,
        trained_on=trained_on,
    )
    if request.fork is not None and not request.resume:
        listener.note(f"going on from step {trainer.fork(request.fork)} of {str(request.fork)!r}")
    if request.resume:
        listener.note(f"resuming at step {trainer.resume()} of {trainer.steps}")
    if ranks.rank == 0:
        _describe(request, space, trainer)
    calibration = Calibration(data_sets.chosen(train), request.recipe, space)
    with contextlib.ExitStack() as hearing:
        stop = hearing.enter_context(stopping())
        ranks.barrier()  # all hear signals before the first one begins
        ranks.stop = stop
        with _Logs(request, trainer, calibration, validation, listener, stop) as logs:
            _train(trainer, logs, stop)
            hearing.close()  # the last checkpoint is written: from here on, as before, a signal ends the run at once
            final = finish(trainer, calibration)
            accuracy = logs.validate(trainer.step, final)
    return Trained(
        out=str(request.settings.out), accuracy=accuracy, steps=trainer.step, validation=validation.name
    )


def _train(trainer: Trainer, logs: _Logs, stop: Stop) -> None:
    """TrainingError where a signal ended it; the run is to exit as after that signal."""
    try:
        watched = Watched(on_step=logs.step, on_epoch=logs.epoch, on_save=logs.flush, stop=stop)
        if trainer.run(watched):
            return
    except LostError:
        if not stop():
            raise  # else the other has got the signal too, and did not wait
    error = TrainingError(
        f"stopped at step {trainer.step} of {trainer.steps}; "
        + (
            "a checkpoint is kept: the same command with --resume goes on"
            if trainer.step
            else "nothing is lost"
        )
    )
    error.exit_code = 128 + (stop.came or [signal.SIGTERM])[0]  # the signal may be another process's
    raise error


def space_of_run(request: TrainingRequest, listener: Listener = SILENT) -> SearchSpace:
    """The space with the classes of the data; of a subnet that is trained alone the one that has it alone."""
    asked = load_space(request.space)
    if asked.network is not None:
        raise TrainingError(
            f"space {asked.name!r} is one network, {asked.network.source}, taken as it is: train it where it comes from and adopt it "
            "again with --weights FILE"
        )
    space = space_for(asked, request.data, listener, request.name)
    if request.config is not None:
        space = space.only(read_config(request.config, space))
        listener.note(f"training one subnet alone: {space.name}")
    return space


def space_for(space: SearchSpace, data: str, listener: Listener = SILENT, name: str = "") -> SearchSpace:
    """`space` with the classes of the data as its labels, where they are not its labels already."""
    classes = data_sets.classes(data, space)
    if keeps_labels(classes, space):
        return replace(space, name=name, origin="") if name else space
    listener.note(f"space {space.name!r} takes the {len(classes)} classes of the data ({some(classes, 3)})")
    relabelled = space.for_classes(classes, name=name)
    listener.note(
        f"the space of these weights is called {relabelled.name!r}, and its latency tables are its own (--name calls it otherwise)"
    )
    return relabelled


def masks_checked(
    train: Labelled, validation: Labelled, space: SearchSpace, listener: Listener
) -> Iterator[str]:
    """What a person should know of the masks of scenes (`mask_check.checked`); nothing of images."""
    for images in (train, validation):
        if isinstance(images, SceneSet):
            yield from mask_check.checked(images, space, training=images is train, listener=listener)


def _tell_of_shrinking(
    request: TrainingRequest, space: SearchSpace, train: Labelled, ranks: World, listener: Listener
) -> None:
    """Before a run begins; one that is resumed was told."""
    if ranks.rank or request.resume:
        return
    settings = request.settings
    how = {"threads": settings.threads, "bf16": settings.bf16, "processes": ranks.size}
    line = shrinking.told(train, space, request.recipe, how | {"device": str(ranks.device)})
    if line:
        listener.note(line)


def _fork_of(request: TrainingRequest) -> str:
    """Which checkpoint a run is from; of one that is resumed, what it said when it began."""
    about = request.settings.out / "recipe.json"
    if request.resume and about.exists():
        return str(files.read_json(about, "recipe").get("fork", ""))
    newest = Checkpoints(request.fork or Path(), {}).paths()
    return f"{files.sha256(newest[0])[:16]} {newest[0].stem}" if newest else ""


def _initial(request: TrainingRequest, space: SearchSpace, listener: Listener) -> tuple[Supernet, str]:
    scaling = request.recipe.subnets.scaling
    if request.weights is None:
        return initialised(space, request.settings.seed, scaling), ""
    supernet = started(request.weights, space, request.settings.seed, scaling, listener)
    if supernet.scaling != scaling:
        raise RecipeError(
            f"weights {request.weights!r} have {supernet.scaling} layer scaling; the recipe has {scaling}: --set subnets.scaling={supernet.scaling}"
        )
    part = supernet.source.get("weights_key")
    return supernet, f"{supernet.source['sha256']}" + (f" {part}" if part else "")


def _teacher(request: TrainingRequest, space: SearchSpace, listener: Listener) -> Teacher | None:
    if request.teacher is None:
        return None
    names = tuple(space.label_names())
    if names != ordered(names) and space.labels != IMAGENET:
        listener.note(f"the teacher's classes are taken to be in the order of the labels: {some(names)}")
    scale, trust = request.recipe.loss.teacher_scale, request.trust_teacher
    teacher = load_teacher(request.teacher, space, scale=scale, trust=trust)
    for member in teacher.members:
        if member.note:
            listener.note(f"teacher {member.name}: {member.note}")
    return teacher


def _describe(request: TrainingRequest, space: SearchSpace, trainer: Trainer) -> None:
    files.write_text(request.settings.out / "space.toml", space_toml(space))
    about = {"schema": 1, "steps": trainer.steps, "steps_per_epoch": trainer.per_epoch, **trainer.identity}
    files.write_json(request.settings.out / "recipe.json", about)


class _Logs:
    """What a run writes beside its checkpoints, and what it tells the person."""

    def __init__(
        self,
        request: TrainingRequest,
        trainer: Trainer,
        calibration: Calibration,
        validation: Labelled,
        listener: Listener,
        stop: Callable[[], bool],
    ) -> None:
        self.request, self.trainer, self.progress, self.stop = request, trainer, listener.progress, stop
        self.calibration, self.validation = calibration, validation
        self.log: RunLog | None = None
        self.meter: Meter | None = None
        self.best = ""

    def __enter__(self) -> _Logs:
        if self.trainer.world.rank == 0:
            out, step = self.request.settings.out, self.trainer.step
            self.log = RunLog(out, resume_step=step, tensorboard=self.request.tensorboard)
            if self.request.conflicts and not self.trainer.recipe.single:
                names = [n for n, p in self.trainer.supernet.named_parameters() if p.requires_grad]
                self.meter = Meter(names, out / "conflicts.csv", resume_step=step)
        return self

    def __exit__(self, *_: object) -> None:
        for open_file in (self.log, self.meter):
            if open_file is not None:
                open_file.close()

    def flush(self) -> None:
        """Before a checkpoint: what is logged up to it must not be lost."""
        for open_file in (self.log, self.meter):
            if open_file is not None:
                open_file.flush()

    def step(self, record: StepRecord, products: Products) -> None:
        if self.log is not None:
            self.log.step(record)
        if self.meter is not None:
            self.meter.record(record.step, products)
        detail = f"loss {record.loss:.3f}, subnets {record.distilled:.3f}, {record.images_per_s:.0f} images/s"
        detail += f", {record.waited:.0%} waiting" if record.waited > 0.02 else ""
        self.progress(record.step, self.trainer.steps, f"{detail}{self.best}")

    def epoch(self, step: int, epoch: int, averaged: Supernet) -> None:
        every = self.request.validate_every
        if every and epoch % every == 0 and step < self.trainer.steps:
            self.validate(step, averaged, self.stop)

    def validate(
        self, step: int, supernet: Supernet, stop: Callable[[], bool] = lambda: False
    ) -> dict[str, float]:
        """The accuracy of smallest and largest on the validation slice, logged; CalledAway where `stop` ended it."""
        space = supernet.space
        ends = {"smallest": space.smallest(), "largest": space.largest()}
        if self.trainer.recipe.single:
            ends = {"largest": space.largest()}
        sets, world = (self.calibration, self.validation), self.trainer.world
        results = beside(lambda: subnet_accuracies(supernet, list(ends.values()), *sets, world), stop)
        accuracies = dict(zip(ends, results, strict=True))
        if self.log is not None:
            self.log.validation(step, step // self.trainer.per_epoch, accuracies)
        self.best = "".join(f", {name} {value:.1%}" for name, value in accuracies.items())
        return accuracies
