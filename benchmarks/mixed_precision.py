"""Whether mixed precisions keep what is predicted of them: python benchmarks/mixed_precision.py --runtime litert [--count 20]

For a space with shipped weights, in a folder with `latency_tables` of this machine in every precision that the runtime's files mix
(`nasvit-edge profile --runtime R --precision P --space S`). COUNT subnets with a precision a stage, half drawn and half from fronts at even
budgets: the file of each, timed in turns beside the others, against its predicted latency; its top-1 on the test images and that of
the same subnet in fp32, against the predicted loss. Then, at even budgets, the best mixed subnet beside the best with one precision, as
predicted, and the time that one takes of the other's at equal accuracy.
"""

import argparse
import random
import statistics
import tempfile
from pathlib import Path

import numpy as np
from compare_exports import measure

import nasvit_edge as ne
from nasvit_edge import data_sets
from nasvit_edge.choosing.accuracy import AccuracyChoice
from nasvit_edge.choosing.mixed import mixable, tables_to_mix
from nasvit_edge.data_sets import calibration_images
from nasvit_edge.export.advice import RANGE_IMAGES
from nasvit_edge.export.formats import Conversion, format_for
from nasvit_edge.export.quiet import quiet
from nasvit_edge.latency.names import MIXED
from nasvit_edge.listening import SILENT
from nasvit_edge.model.accuracy import calibrated
from nasvit_edge.model.subnet import fold_for, materialise
from nasvit_edge.profile.models import mixed as leaning
from nasvit_edge.requests.options import TableChoice
from nasvit_edge.searching.accuracy import load_accuracy
from nasvit_edge.searching.exact import exact_front
from nasvit_edge.searching.limits import Limit
from nasvit_edge.searching.population import genes

LOSS = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="nano")
    parser.add_argument("--data", default="fashion-mnist", help="the test images")
    parser.add_argument("--runtime", default="litert")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    space = ne.load_space(options.space)
    evaluator, measured = problem(space, options.runtime)
    print(
        f"noise measured on {measured.images}; all stages together add {measured.additive():.2f} of the sum"
    )
    for stage, noise in measured.by_stage().items():
        print(f"  {stage:12} " + "  ".join(f"{p} {value:.1e}" for p, value in noise.items()))
    gains(evaluator)
    rows = chosen(evaluator, options.count)
    with tempfile.TemporaryDirectory() as folder:
        compare(evaluator, rows, options, Path(folder))


def problem(space, runtime: str):
    """An evaluator of mixed subnets by the tables at hand, and the noises."""
    asked = TableChoice(runtime=runtime, threads=1, device="host")
    answers = tables_to_mix(asked, space, SILENT)
    predictor = load_accuracy(space.name, space)
    cost = mixable(answers, AccuracyChoice(), predictor, space, SILENT)
    from nasvit_edge.searching.mixing import MixedEvaluator

    return MixedEvaluator(genes(space), cost.mixing, predictor), cost.measured


def budgets(evaluator, count: int) -> np.ndarray:
    """Even steps from the fastest to the slowest on the front."""
    latency = evaluator(exact_front(evaluator)).latency_ms[:, 0]
    return np.linspace(latency.min(), latency.max(), count + 1)[1:]


def best(evaluator, budget: float):
    """The row and the values of the most accurate within a budget and the loss; None where there is none."""
    rows = exact_front(evaluator, [Limit.latency(budget), Limit.of("loss", LOSS)])
    values = evaluator(rows)
    inside = np.flatnonzero((values.latency_ms[:, 0] <= budget) & (values.loss <= LOSS))
    if not len(inside):
        return None
    at = inside[np.argmax(values.accuracy[inside])]
    return rows[at], values[at]


def gains(evaluator) -> None:
    """Of mixing over each precision alone: points within the same budget, and time at the same accuracy."""
    fronts = {}
    for name, one in {
        MIXED: evaluator,
        **{p: evaluator.kept_to(p) for p in evaluator.mixing.precisions},
    }.items():
        values = evaluator(exact_front(one, [Limit.of("loss", LOSS)]))
        keep = values.loss <= LOSS
        fronts[name] = (values.latency_ms[keep, 0], values.accuracy[keep])
    print("\npredicted: the fastest with an accuracy, ms, and what mixing saves of the best of one precision")
    uniform = [name for name in fronts if name != MIXED]
    lows = [fronts[name][1].max(initial=0.0) for name in uniform]
    for accuracy in np.linspace(fronts[MIXED][1].min(), max(lows), 8)[1:]:
        fastest = {
            name: ms[reached >= accuracy - 1e-9].min(initial=np.inf) for name, (ms, reached) in fronts.items()
        }
        saved = 1 - fastest[MIXED] / min(fastest[name] for name in uniform)
        each = "  ".join(f"{name} {ms:.3f}" for name, ms in fastest.items())
        print(f"  {accuracy:.2%}  {each}  {saved:+.1%}")


def chosen(evaluator, count: int) -> list:
    """Rows: half drawn, subnets and precisions; half the best within even budgets."""
    rng, space = random.Random(0), evaluator.genes.space
    rows = [
        row
        for budget in budgets(evaluator, count // 2)
        if (pair := best(evaluator, budget))
        for row in [pair[0]]
    ]
    while len(rows) < count:
        precisions = {place.name: rng.choice(evaluator.mixing.precisions) for place in evaluator.places}
        rows.append(evaluator.row(leaning(space, rng), precisions))
    return rows


def compare(evaluator, rows: list, options: argparse.Namespace, folder: Path) -> None:
    """Print predicted and measured latency and loss of each, and their mean errors."""
    space, form = evaluator.genes.space, format_for(options.runtime)
    supernet, values = ne.load_supernet(space.name, space), evaluator(np.array(rows))
    tests = data_sets.load_images(options.data, "test", space)
    paths, lost = {}, []
    for number, row in enumerate(rows):
        config = evaluator.genes.config(row)
        subnet = calibrated(materialise(supernet, config), calibration_images(options.data, space, 1024))
        batches = calibration_images(options.data, space, RANGE_IMAGES).batches(space, config.resolution)
        seen = np.concatenate([images.numpy() for images, _ in batches])[:RANGE_IMAGES]
        by_place = evaluator.by_place(row)
        recipe = Conversion(
            precision=MIXED, calibration=seen, mixed={op.name: by_place[op.stage] for op in subnet.ops}
        )
        accuracies = []
        for name, how in ((f"{number}", recipe), (f"{number}.fp32", Conversion())):
            path = folder / f"{name}{form.suffix}"
            with quiet():
                path.write_bytes(
                    form.module().convert(fold_for(subnet, options.runtime), (1, 3, *subnet.size), how)
                )
            accuracies.append(top1(form.module().runner(path, 2), space, config, tests))
            if how is recipe:
                paths[name] = path
        lost.append(accuracies[1] - accuracies[0])
    medians = [statistics.median(ms) for ms in measure(options.runtime, paths, options.rounds).values()]
    predicted = values.latency_ms[:, 0]
    print(f"\n{options.runtime}, 1 thread: predicted and measured ms; predicted and measured loss in points")
    for number, ms in enumerate(medians):
        precisions = " ".join(evaluator.by_place(rows[number]).values())
        print(
            f"  {predicted[number]:.4f} {ms:.4f} {predicted[number] / ms - 1:+6.1%}   "
            f"{100 * values.loss[number]:.2f} {100 * lost[number]:+.2f}   {precisions}"
        )
    errors = np.abs(predicted / medians - 1)
    off = 100 * np.abs(values.loss - lost)
    print(
        f"latency: mean error {errors.mean():.1%}, largest {errors.max():.1%}, bias {(predicted / medians - 1).mean():+.1%}"
    )
    print(f"loss: mean error {off.mean():.2f} points, largest {off.max():.2f}")


def top1(run, space, config, tests) -> float:
    """The share of the test images that a file gets right."""
    hits = [run(x.numpy()).argmax(1) == y.numpy() for x, y in tests.batches(space, config.resolution)]
    return float(np.concatenate(hits).mean())


if __name__ == "__main__":
    main()
