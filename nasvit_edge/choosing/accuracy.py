"""Which accuracy a command goes by: a predictor, or measuring on images; what was left out is filled in with what is shipped."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nasvit_edge import data_sets, files
from nasvit_edge.data_sets import mask_check
from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.hints import DATA, WEIGHTS, command
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.searching.accuracy import (
    AccuracyPredictor,
    has_predictor,
    load_accuracy,
    predictor_names,
    quality_of,
)
from nasvit_edge.searching.images import ImageAccuracy, accuracy_store
from nasvit_edge.searching.result import weights_digest
from nasvit_edge.space import SearchSpace, has_weights

FITTED = "accuracy.json"  # where a suggested fit writes
MEASURED = "measured"  # --accuracy measured: on images, also where a predictor is shipped


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyChoice:
    """Weights and images to measure with, or a predictor.

    Attributes:
        accuracy: a predictor's name or file, or MEASURED.
        workers: processes that measure; None: as many as there are cores.
        in_order: class folders whose names do not say which label they are take the labels in order.
    """

    supernet: str | None = None
    data: str | None = None
    accuracy: str | None = None
    workers: int | None = None
    in_order: bool = False

    def filled(self, space: SearchSpace) -> AccuracyChoice:
        """A predictor where one is shipped, unless images are asked for; the shipped weights and images where there are any."""
        choice = self
        if (self.accuracy, self.data, self.supernet) == (None, None, None) and has_predictor(space):
            choice = replace(choice, accuracy=space.name)
        return choice.with_shipped(space)

    def with_shipped(self, space: SearchSpace) -> AccuracyChoice:
        """With the shipped weights and images where none are given and there are any."""
        choice = self
        if choice.supernet is None and has_weights(space):
            choice = replace(choice, supernet=space.name)
        if choice.supernet is not None and choice.data is None and data_sets.has_bundled(space):
            choice = replace(choice, data=data_sets.BUNDLED)
        return choice


def fitting(choice: AccuracyChoice, space: SearchSpace) -> str:
    """The command that fits a predictor for what is searched."""
    weights, images = choice.supernet or WEIGHTS, choice.data or DATA
    return command("accuracy", "fit", space=space.given, supernet=weights, data=images, out=FITTED)


def accuracy_source(
    choice: AccuracyChoice, space: SearchSpace, listener: Listener = SILENT
) -> AccuracyPredictor | ImageAccuracy:
    """The accuracy source: a predictor, or measuring on images.

    Raises:
        NasvitEdgeError: there is neither, or the predictor is of another space.
    """
    name = choice.accuracy or (space.name if has_predictor(space) else None)
    measurable = choice.supernet is not None and choice.data is not None
    if choice.accuracy == MEASURED or (choice.accuracy is None and measurable):
        if not measurable:
            raise NasvitEdgeError("measuring accuracy takes weights and images: add --supernet W --data D")
        return measured_accuracy(choice, space, listener)
    if name is None and space.is_dense:
        raise NasvitEdgeError(
            f"no {quality_of(space)} for space {space.name!r}: no predictor is shipped for it; fit one: "
            f"{fitting(choice, space)}, then add --accuracy {FITTED} (or measure while searching, with --supernet and --data)"
        )
    if name is None:
        raise NasvitEdgeError(
            f"no accuracy for space {space.name!r}: predictors are shipped for {', '.join(predictor_names())}; give weights and images "
            f"(--supernet, --data), or a predictor: {fitting(choice, space)}, then add --accuracy {FITTED}"
        )
    predictor = load_accuracy(name, space=space)
    if predictor.space != space.name:
        raise NasvitEdgeError(f"predictor {name!r} is for space {predictor.space!r}, not {space.name!r}")
    return predictor


def measured_accuracy(
    choice: AccuracyChoice, space: SearchSpace, listener: Listener = SILENT
) -> ImageAccuracy:
    """Accuracy on images, measured values kept in the cache; of scenes the masks are looked at first."""
    assert choice.supernet is not None
    assert choice.data is not None
    source = ImageAccuracy.load(
        choice.supernet,
        space,
        choice.data,
        workers=choice.workers,
        in_order=choice.in_order,
        listener=listener,
    )
    if "note" in source.supernet.source and source.writes:
        listener.note(str(source.supernet.source["note"]))
    if isinstance(source.validation, SceneSet):
        lines = mask_check.checked(source.validation, space, listener=listener)
        for line in lines if source.writes else ():
            listener.note(line)
    return source.keeping(accuracy_store(space, choice.supernet, source))


def about(accuracy: AccuracyPredictor | ImageAccuracy) -> str:
    """A source's name; of a predictor that stands in for what nobody measured its own source, too."""
    if isinstance(accuracy, ImageAccuracy):
        return accuracy.name
    proxy = accuracy.source.startswith("proxy:")
    return f"predictor {accuracy.name}" + (f" ({accuracy.source})" if proxy else "")


def tell_of_other_weights(
    accuracy: AccuracyPredictor | ImageAccuracy,
    choice: AccuracyChoice,
    space: SearchSpace,
    listener: Listener,
) -> None:
    """Where a predictor says which weights it is of, and those that are asked for are others."""
    if isinstance(accuracy, AccuracyPredictor) and of_other_weights(accuracy, choice.supernet):
        how = {"space": space.given, "supernet": choice.supernet, "data": choice.data, "out": "own.json"}
        listener.note(
            f"predictor {accuracy.name} was fitted to other weights than {choice.supernet}; for these: {command('accuracy', 'fit', **how)}"
        )


def of_other_weights(predictor: AccuracyPredictor, supernet: str | None) -> bool:
    """Whether the predictor says which weights it is of, and `supernet` has others."""
    if predictor.weights_sha256 is None or supernet is None:
        return False
    _, key = files.file_and_key(supernet)
    digest = weights_digest(supernet)
    return digest is not None and (digest, key) != (predictor.weights_sha256, predictor.weights_key)
