"""Is an artifact what it should be: its numbers against the elastic supernet, its facts against the space.

fp32 is judged by its largest error; fp16 and int8 by signal-to-noise ratio, by agreement with the
supernet on images and by top-1 where images are labelled; a segmenter by the labels of pixels, and by mean IoU
where labelled scenes are given; and every file by whether it still gives
the logits it gave when it was exported, which shows damage too small for a quantised file's limits.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge import data_sets, files
from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.data_sets.slices import Note, silent
from nasvit_edge.errors import NasvitEdgeError, VerifyError
from nasvit_edge.export import dense, parity, scene_checks
from nasvit_edge.export.artifact import Artifact, open_artifact, reference_path, versions
from nasvit_edge.export.formats import Threshold
from nasvit_edge.preparation import PUBLISHED
from nasvit_edge.space import SearchSpace, SubnetConfig

if TYPE_CHECKING:
    from torch import Tensor

    from nasvit_edge.model.supernet import Supernet

SAME_MACHINE = (
    1e-5  # of the logits' spread: what a file may change between two runs of one runtime on one processor
)
_Array = np.ndarray[Any, np.dtype[np.float32]]
_Run = Callable[[_Array], _Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The outcome of one verification; figures are None where not measured.

    Attributes:
        error: of logits, on all inputs.
        snr_db: of logits, on the real images where the space has some.
        pixels: the share of a segmenter's pixels that have the supernet's label, of `pixel_count`.
        scenes: on labelled scenes (`scene_checks.compared`).
    """

    error: float | None
    snr_db: float | None
    threshold: Threshold
    inputs: int
    real_images: int
    reference: str  # "supernet" where it was recomputed, "stored" where the weights are not here
    agreement: float | None = None
    top1_drop: float | None = None
    top1: float | None = None
    images: int = 0
    pixels: float | None = None
    pixel_count: int = 0
    scenes: Mapping[str, Any] | None = None
    reproduction: float | None = None
    reproduction_limit: float = SAME_MACHINE

    @property
    def passed(self) -> bool:
        return not self.failures()

    def failures(self) -> list[str]:
        """What is out of its limits, and by how much."""
        limit, found = self.threshold, list[str]()
        if limit.error is not None and self.error is not None and not self.error <= limit.error:
            found.append(f"off by {self.error:.2g} of the logits' spread (allowed {limit.error:.0e})")
        if limit.snr_db is not None and self.snr_db is not None and not self.snr_db >= limit.snr_db:
            found.append(f"signal-to-noise ratio {self.snr_db:.1f} dB (at least {limit.snr_db:g})")
        if limit.agreement is not None and self.agreement is not None and self.agreement < limit.agreement:
            found.append(
                f"agrees with the supernet on {self.agreement:.2%} of {self.images} images (at least {limit.agreement:.0%})"
            )
        if limit.top1_drop is not None and self.top1_drop is not None and self.top1_drop > limit.top1_drop:
            found.append(
                f"top-1 is {self.top1_drop * 100:.2f} points lower (at most {limit.top1_drop * 100:g})"
            )
        found += self._pixel_failures()
        if self.reproduction is not None and not self.reproduction <= self.reproduction_limit:
            what = f"logits than when it was exported, by {self.reproduction:.2g} of their spread"
            if self.error is None:
                what = f"labels than when it was exported, at {self.reproduction:.2g} of the pixels"
            found.append(f"gives other {what} (allowed {self.reproduction_limit:.0e})")
        return found

    def _pixel_failures(self) -> list[str]:
        limit, found = self.threshold, []
        if limit.pixels is not None and self.pixels is not None and not self.pixels >= limit.pixels:
            found.append(
                f"has the supernet's label at {self.pixels:.2%} of {self.pixel_count} pixels (at least {limit.pixels:.2%})"
            )
        drop = self.scenes["mean_iou_drop"] if self.scenes else None
        if limit.top1_drop is not None and drop is not None and drop > limit.top1_drop:
            found.append(f"mean IoU is {drop * 100:.2f} points lower (at most {limit.top1_drop * 100:g})")
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON; a figure that is not finite becomes 1e9 or -1e9."""
        names = (
            "error",
            "snr_db",
            "agreement",
            "top1_drop",
            "top1",
            "reproduction",
            "images",
            "inputs",
            "real_images",
        )
        found = {name: _finite(getattr(self, name)) for name in names}
        limits = {name: getattr(self.threshold, name) for name in Threshold.__slots__}
        if self.pixels is None:  # a classifier
            del limits["pixels"]
        else:
            output = dense.LABELS if self.error is None else dense.LOGITS
            found |= {"pixels": self.pixels, "pixel_count": self.pixel_count, "scenes": self.scenes}
            found["output"] = output
        return found | {"allowed": limits, "passed": self.passed, "reference": self.reference}


@dataclass(frozen=True, slots=True)
class Reference:
    """What an artifact is compared with: inputs (n, 3, H, W), the supernet's logits, and its top-1 on images.

    `output` says what a segmenter gives; it is empty for a classifier.
    """

    inputs: _Array
    real_images: int
    logits: _Array
    choices: np.ndarray[Any, np.dtype[np.int64]] | None
    output: str = ""

    def check(
        self, run: _Run, space: SearchSpace, threshold: Threshold, kind: str, **more: Any
    ) -> tuple[Check, _Array]:
        """Run a file on everything; the outcome and the file's logits (or labels) on the inputs."""
        logits = run(self.inputs)
        if self.output:
            more |= self._pixels(logits)
        if self.choices is not None and (threshold.agreement is not None or threshold.top1_drop is not None):
            images = data_sets.bundled("test", space)
            found = parity.choices(run, images, space, self.inputs.shape[-2])
            labels = images.labels.numpy()
            drop = float((self.choices == labels).mean() - (found == labels).mean())
            more |= {
                "agreement": float((found == self.choices).mean()),
                "top1_drop": drop,
                "top1": float((found == labels).mean()),
                "images": len(images),
            }
        labels_only = self.output == dense.LABELS
        check = Check(
            error=None if labels_only else parity.relative_error(logits, self.logits),
            snr_db=None if labels_only else parity.snr_db(logits, self.logits, self.real_images),
            threshold=threshold,
            inputs=len(self.inputs),
            real_images=self.real_images,
            reference=kind,
            **more,
        )
        return check, logits

    def _pixels(self, found: _Array) -> dict[str, Any]:
        """How many pixels have the supernet's label."""
        size = (self.inputs.shape[-2], self.inputs.shape[-1])
        labels: np.ndarray[Any, Any] = found
        if self.output == dense.LOGITS:
            whole = found.shape == self.logits.shape and np.isfinite(found).all()
            labels = dense.labels_of(found, size) if whole else np.empty(0, np.int32)
        return {
            "pixels": dense.agreement(labels, self.logits, size),
            "pixel_count": len(self.inputs) * size[0] * size[1],
        }


def reference(
    supernet: Supernet,
    space: SearchSpace,
    config: SubnetConfig,
    statistics: Mapping[str, Tensor],
    *,
    images: bool,
    output: str = "",
) -> Reference:
    """What the elastic supernet says, with a subnet's statistics; `images`: on the bundled test images too."""
    inputs, real = parity.inputs(space, config.resolution)
    logits = parity.reference(supernet, config, statistics, inputs)
    chosen = None
    if images and data_sets.has_bundled(space):
        chosen = parity.choices(
            lambda x: parity.reference(supernet, config, statistics, x),
            data_sets.bundled("test", space),
            space,
            config.resolution,
        )
    return Reference(inputs, real, logits, chosen, output)


def verify(
    path: Path, *, weights: str | None = None, space_path: str | None = None, data: str | None = None
) -> Check:
    """Repeat the check of an artifact against the elastic supernet and the search space.

    The supernet is `weights` where given, rebuilt where it was random or is shipped with the package;
    otherwise the logits stored at export time stand in for it, and the outcome says "stored".
    `data`: labelled scenes, on which a segmenter is compared besides.
    """
    artifact = open_artifact(path)
    space = artifact.space(space_path)
    config = artifact.config(space)
    artifact.check_facts(space, config)
    if data is not None and not space.is_dense:
        raise NasvitEdgeError(
            f"{str(path)!r} is a classifier, and scenes are for segmenters: run `nasvit-edge evaluate {path.name} --data FOLDER`"
        )
    stored = _read_reference(artifact, space, config)
    threshold = artifact.form.thresholds[artifact.precision]
    supernet = _supernet_of(artifact, space, weights)
    expected, kind = stored.reference, "stored"
    if supernet is not None:
        labelled = stored.reference.choices is not None and threshold.agreement is not None
        output = stored.reference.output
        expected = reference(supernet, space, config, stored.statistics, images=labelled, output=output)
        kind = "supernet"
    run = artifact.form.module().runner(path)
    same = artifact.sidecar.get("versions") == versions()
    more = {}
    if data is not None:
        exact = None if supernet is None else scene_checks.elastic(supernet, config, stored.statistics)
        more["scenes"] = scene_checks.compared(run, exact, data, space, config)
    check, logits = expected.check(run, space, threshold, kind, **more)
    return _with_reproduction(check, logits, stored.own_logits, same)


def _with_reproduction(check: Check, logits: _Array, before: _Array, same: bool) -> Check:
    import dataclasses

    limit = SAME_MACHINE if same else max(check.threshold.reproduction, check.threshold.error or 0)
    changed = parity.relative_error(logits, before) if check.error is not None else _moved(logits, before)
    return dataclasses.replace(check, reproduction=changed, reproduction_limit=limit)


def _moved(labels: _Array, before: _Array) -> float:
    """The share of labels that are others than before."""
    return float((labels != before).mean()) if labels.shape == before.shape else 1.0


@dataclass(frozen=True, slots=True)
class _Stored:
    statistics: dict[str, Tensor]
    reference: Reference
    own_logits: _Array


def _read_reference(artifact: Artifact, space: SearchSpace, config: SubnetConfig) -> _Stored:
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = reference_path(artifact.path)
    content = files.read_bytes(path, "reference")
    if hashlib.sha256(content).hexdigest() != artifact.sidecar.get("reference_sha256"):
        raise VerifyError(f"reference {str(path)!r} is not the one that was exported; export again")
    inputs, real = parity.inputs(space, config.resolution)
    output = artifact.output(space)
    try:
        tensors = load(content)
        logits, own = (tensors.pop(name).numpy() for name in ("logits", own_name(output)))
        chosen = tensors.pop("choices").numpy() if "choices" in tensors else None
    except (SafetensorError, KeyError, ValueError) as error:
        raise VerifyError(f"reference {str(path)!r} is damaged: {error}") from None
    return _Stored(tensors, Reference(inputs, real, logits, chosen, output), own)


def own_name(output: str) -> str:
    """What a file's own output is called in its reference."""
    return "own_labels" if output == dense.LABELS else "own_logits"


def _supernet_of(artifact: Artifact, space: SearchSpace, weights: str | None) -> Supernet | None:
    from nasvit_edge.model.checkpoint import load_supernet, shipped_weights

    source = artifact.weights()
    if weights is not None:
        supernet = load_supernet(weights, space)
        if any(supernet.source.get(key) != source.get(key) for key in ("sha256", "seed", "weights_key")):
            part = f" (those under {source['weights_key']!r})" if "weights_key" in source else ""
            raise VerifyError(
                f"{weights!r} are not the weights that {str(artifact.path)!r} was made from{part}"
            )
        return supernet
    if source.get("kind") == "random" and type(source.get("seed")) is int:
        return load_supernet(f"random:{source['seed']}", space)
    name = shipped_weights(str(source.get("sha256")))
    return load_supernet(name, space) if name else None


def evaluate(
    path: Path,
    data: str,
    *,
    threads: int = 1,
    space_path: str | None = None,
    chain: str = PUBLISHED,
    in_order: bool = False,
    note: Note = silent,
) -> dict[str, Any]:
    """The artifact's top-1 on labelled images (`bundled`, `fashion-mnist` or a folder), by its own runtime.

    `chain`, `in_order` and `note` are as in `hits`. Of a segmenter: mean IoU and pixel accuracy on the test scenes of a folder, beside the supernet's where it is here.
    """
    artifact = open_artifact(path)
    space = artifact.space(space_path)
    if space.is_dense:
        return _on_scenes(artifact, space, data, threads)
    name, right = hits(
        path, data, threads=threads, space_path=space_path, chain=chain, in_order=in_order, note=note
    )
    return {
        "artifact": path.name,
        "data": name,
        "chain": chain,
        "images": len(right),
        "correct": int(right.sum()),
        "accuracy": int(right.sum()) / len(right),
    }


def _on_scenes(artifact: Artifact, space: SearchSpace, data: str, threads: int) -> dict[str, Any]:
    config = artifact.config(space)
    artifact.check_facts(space, config)
    run = artifact.form.module().runner(artifact.path, threads)
    supernet, exact = _supernet_of(artifact, space, None), None
    if supernet is not None:
        statistics = _read_reference(artifact, space, config).statistics
        exact = scene_checks.elastic(supernet, config, statistics)
    found = scene_checks.compared(run, exact, data, space, config)
    return {"artifact": artifact.path.name} | found


def hits(
    path: Path,
    data: str,
    *,
    threads: int = 1,
    space_path: str | None = None,
    chain: str = PUBLISHED,
    in_order: bool = False,
    note: Note = silent,
) -> tuple[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    """The name of the images, and which of them the artifact gives their label, by its own runtime.

    Args:
        chain: how images are prepared (`Preparation.chain`).
        in_order: class folders whose names do not say which of the file's labels they are take these in order.
        note: told what the images are.
    """
    artifact = open_artifact(path)
    space = artifact.space(space_path)
    config = artifact.config(space)
    if data == data_sets.BUNDLED and not data_sets.has_bundled(space):
        raise NasvitEdgeError(f"no images are bundled for space {space.name!r}; give a folder with --data")
    rule = space.preparation(config.resolution, chain)
    space = artifact.named(space)
    images = data_sets.load_images(data, "test", space, rule, in_order=in_order, note=note)
    if isinstance(images, SceneSet):
        raise NasvitEdgeError(f"{path.name} labels pixels: there are no images that it gets right or wrong")
    run = artifact.form.module().runner(path, threads)
    return images.name, parity.hits(run, images, space, config.resolution)


def overlaps(
    path: Path, data: str, *, threads: int = 1, space_path: str | None = None
) -> tuple[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """The name of the scenes, and what a segmenter's labels have in common with each one's mask, by its own runtime.

    (N, 2, C): of each scene and class the pixels that are right, and those of the union.
    """
    artifact = open_artifact(path)
    space = artifact.space(space_path)
    config = artifact.config(space)
    artifact.check_facts(space, config)
    run = artifact.form.module().runner(artifact.path, threads)
    return scene_checks.overlaps(run, data, space, config)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return 1e9 if value > 0 else -1e9
    return value
