"""What the table of an evaluation does not say, in words."""

from __future__ import annotations

from nasvit_edge.searching.evaluated import Evaluation, OfScenes


def _on_what(report: Evaluation) -> str:
    error = (0.9 * 0.1 / report.images) ** 0.5
    return (
        f"on {report.data} ({report.images} images, prepared as {report.chain}; a standard error is about {100 * error:.1f} points), "
        f"each calibrated on {report.calibration.data}"
    )


def remarks(report: Evaluation) -> list[str]:
    """What the table does not say: on what, and how good it can be."""
    lines = _of_scenes(report) if isinstance(report, OfScenes) else [_on_what(report)]
    lines.append(report.trained_on.told)
    if spread := report.summary.random:
        deviation = "" if spread.std is None else f", standard deviation {100 * spread.std:.2f} points"
        lines.append(
            f"{spread.count} random subnets (seed {report.seed}): mean {spread.mean:.2%}{deviation}, "
            f"{spread.lowest:.2%} to {spread.highest:.2%}"
        )
    if "note" in report.weights:
        lines.append(report.weights["note"])
    lines += report.remarks
    if report.weights.get("kind") == "random":
        lines.append("RANDOM WEIGHTS: these accuracies mean nothing")
    return lines


def _of_scenes(report: OfScenes) -> list[str]:
    """The baseline, and the classes of the best subnet."""
    best = max(report.subnets, key=lambda row: row.accuracy)
    classes = ", ".join(
        f"{name} {'does not occur' if value is None else format(value, '.0%')}"
        for name, value in best.ious.items()
    )
    base = report.majority
    return [
        *report.masks,
        f"on {report.data}, each calibrated on {report.calibration.data}",
        f"every pixel by the most frequent class: mean IoU {base.accuracy:.2%}, pixel accuracy {base.pixel_accuracy:.1%}",
        f"IoU of the best one's classes: {classes}",
    ]
