"""Is an artifact what it should be: its numbers against the elastic supernet, its facts against the space.

fp32 is judged by its largest error; fp16 and int8 by signal-to-noise ratio, by agreement with the
supernet on images and by top-1 where images are labelled; and every file by whether it still gives
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
from nasvit_edge.errors import NasvitEdgeError, VerifyError
from nasvit_edge.export import parity
from nasvit_edge.export.artifact import Artifact, open_artifact, reference_path, versions
from nasvit_edge.export.formats import Threshold
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
    """The outcome of one verification; `agreement`, `top1_drop` and `reproduction` are None where not measured."""

    error: float
    snr_db: float
    threshold: Threshold
    inputs: int
    real_images: int
    reference: str  # "supernet" where it was recomputed, "stored" where the weights are not here
    agreement: float | None = None
    top1_drop: float | None = None
    top1: float | None = None
    images: int = 0
    reproduction: float | None = None
    reproduction_limit: float = SAME_MACHINE

    @property
    def passed(self) -> bool:
        return not self.failures()

    def failures(self) -> list[str]:
        """What is out of its limits, and by how much."""
        limit, found = self.threshold, []
        if limit.error is not None and not self.error <= limit.error:
            found.append(f"off by {self.error:.2g} of the logits' spread (allowed {limit.error:.0e})")
        if limit.snr_db is not None and not self.snr_db >= limit.snr_db:
            found.append(f"signal-to-noise ratio {self.snr_db:.1f} dB (at least {limit.snr_db:g})")
        if limit.agreement is not None and self.agreement is not None and self.agreement < limit.agreement:
            found.append(
                f"agrees with the supernet on {self.agreement:.2%} of {self.images} images (at least {limit.agreement:.0%})"
            )
        if limit.top1_drop is not None and self.top1_drop is not None and self.top1_drop > limit.top1_drop:
            found.append(
                f"top-1 is {self.top1_drop * 100:.2f} points lower (at most {limit.top1_drop * 100:g})"
            )
        if self.reproduction is not None and not self.reproduction <= self.reproduction_limit:
            found.append(
                f"gives other logits than when it was exported, by {self.reproduction:.2g} of their spread (allowed {self.reproduction_limit:.0e})"
            )
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
        return found | {"allowed": limits, "passed": self.passed, "reference": self.reference}


@dataclass(frozen=True, slots=True)
class Reference:
    """What an artifact is compared with: inputs (16, 3, r, r), the supernet's logits, and its top-1 on images."""

    inputs: _Array
    real_images: int
    logits: _Array
    choices: np.ndarray[Any, np.dtype[np.int64]] | None

    def check(
        self, run: _Run, space: SearchSpace, threshold: Threshold, kind: str, **more: Any
    ) -> tuple[Check, _Array]:
        """Run a file on everything; the outcome and the file's logits on the inputs."""
        logits = run(self.inputs)
        if self.choices is not None and (threshold.agreement is not None or threshold.top1_drop is not None):
            images = data_sets.bundled("test")
            found = parity.choices(run, images, space, self.inputs.shape[-1])
            labels = images.labels.numpy()
            drop = float((self.choices == labels).mean() - (found == labels).mean())
            more |= {
                "agreement": float((found == self.choices).mean()),
                "top1_drop": drop,
                "top1": float((found == labels).mean()),
                "images": len(images),
            }
        check = Check(
            error=parity.relative_error(logits, self.logits),
            snr_db=parity.snr_db(logits, self.logits),
            threshold=threshold,
            inputs=len(self.inputs),
            real_images=self.real_images,
            reference=kind,
            **more,
        )
        return check, logits


def reference(
    supernet: Supernet,
    space: SearchSpace,
    config: SubnetConfig,
    statistics: Mapping[str, Tensor],
    *,
    images: bool,
) -> Reference:
    """What the elastic supernet says, with a subnet's statistics; `images`: on the bundled test images too."""
    inputs, real = parity.inputs(space, config.resolution)
    logits = parity.reference(supernet, config, statistics, inputs)
    chosen = None
    if images and data_sets.has_bundled(space):
        chosen = parity.choices(
            lambda x: parity.reference(supernet, config, statistics, x),
            data_sets.bundled("test"),
            space,
            config.resolution,
        )
    return Reference(inputs, real, logits, chosen)


def verify(path: Path, *, weights: str | None = None, space_path: str | None = None) -> Check:
    """Repeat the check of an artifact against the elastic supernet and the search space.

    The supernet is `weights` where given, rebuilt where it was random or is shipped with the package;
    otherwise the logits stored at export time stand in for it, and the outcome says "stored".
    """
    artifact = open_artifact(path)
    space = artifact.space(space_path)
    config = artifact.config(space)
    artifact.check_facts(space, config)
    stored = _read_reference(artifact, space, config)
    threshold = artifact.form.thresholds[artifact.precision]
    supernet = _supernet_of(artifact, space, weights)
    expected, kind = stored.reference, "stored"
    if supernet is not None:
        labelled = stored.reference.choices is not None and threshold.agreement is not None
        expected, kind = reference(supernet, space, config, stored.statistics, images=labelled), "supernet"
    run = artifact.form.module().runner(path)
    same = artifact.sidecar.get("versions") == versions()
    check, logits = expected.check(run, space, threshold, kind)
    return _with_reproduction(check, logits, stored.own_logits, same)


def _with_reproduction(check: Check, logits: _Array, before: _Array, same: bool) -> Check:
    import dataclasses

    limit = SAME_MACHINE if same else max(check.threshold.reproduction, check.threshold.error or 0)
    changed = parity.relative_error(logits, before)
    return dataclasses.replace(check, reproduction=changed, reproduction_limit=limit)


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
    try:
        tensors = load(content)
        logits, own = (tensors.pop(name).numpy() for name in ("logits", "own_logits"))
        chosen = tensors.pop("choices").numpy() if "choices" in tensors else None
    except (SafetensorError, KeyError, ValueError) as error:
        raise VerifyError(f"reference {str(path)!r} is damaged: {error}") from None
    return _Stored(tensors, Reference(inputs, real, logits, chosen), own)


def _supernet_of(artifact: Artifact, space: SearchSpace, weights: str | None) -> Supernet | None:
    from nasvit_edge.model.checkpoint import load_supernet, shipped_weights

    source = artifact.weights()
    if weights is not None:
        supernet = load_supernet(weights, space)
        if any(supernet.source.get(key) != source.get(key) for key in ("sha256", "seed")):
            raise VerifyError(f"{weights!r} are not the weights that {str(artifact.path)!r} was made from")
        return supernet
    if source.get("kind") == "random" and type(source.get("seed")) is int:
        return load_supernet(f"random:{source['seed']}", space)
    name = shipped_weights(str(source.get("sha256")))
    return load_supernet(name, space) if name else None


def evaluate(path: Path, data: str, *, threads: int = 1, space_path: str | None = None) -> dict[str, Any]:
    """The artifact's top-1 on labelled images (`bundled`, `fashion-mnist` or a folder), by its own runtime."""
    name, right = hits(path, data, threads=threads, space_path=space_path)
    return {
        "artifact": path.name,
        "data": name,
        "images": len(right),
        "correct": int(right.sum()),
        "accuracy": int(right.sum()) / len(right),
    }


def hits(
    path: Path, data: str, *, threads: int = 1, space_path: str | None = None
) -> tuple[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    """The name of the images, and which of them the artifact gives their label, by its own runtime."""
    artifact = open_artifact(path)
    space = artifact.space(space_path)
    config = artifact.config(space)
    if data == data_sets.BUNDLED and not data_sets.has_bundled(space):
        raise NasvitEdgeError(f"no images are bundled for space {space.name!r}; give a folder with --data")
    images = data_sets.load_images(data, "test", space, config.resolution)
    run = artifact.form.module().runner(path, threads)
    return images.name, parity.hits(run, images, space, config.resolution)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return 1e9 if value > 0 else -1e9
    return value
