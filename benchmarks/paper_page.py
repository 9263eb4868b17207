"""The page of `paper.py`: what is measured, as means and spreads, with the commands that repeat it."""

import statistics

from scipy.stats import t

from nasvit_edge.train.conflicts import KINDS as ORDER

COLUMNS = (
    ("smallest", "smallest", 100),
    ("random", "mean of 20", 100),
    ("largest", "largest", 100),
    ("negative", "steps in conflict", 100),
    ("negative layers", "layers in conflict", 100),
)


def page(options, arms, results) -> str:
    """The whole page; `results` is arm -> seed -> the kept result."""
    every = [kept for seeds in results.values() for kept in seeds.values()]
    runs = len(every)
    results = {
        arm: {seed: kept["measured"] for seed, kept in seeds.items()} for arm, seeds in results.items()
    }
    wanted = len(arms) * options.seeds
    state = (
        "All of it is measured."
        if runs == wanted
        else f"**This grid is partial: {runs} of {wanted} runs are complete.**"
    )
    machines = "; ".join(sorted({f"{kept['cpu']}, {kept['date']}" for kept in every})) or "nothing yet"
    head = HEAD.format(epochs=options.epochs, seeds=options.seeds, state=state, machines=machines)
    parts = [head, table(arms, results), scratch(results), kinds(arms, results), claims(results)]
    parts += [NOTES, singles(arms, results), TAIL.format(data="CIFAR10", epochs=options.epochs)]
    return "\n\n".join(part for part in parts if part) + "\n"


def spread(values) -> str:
    """Mean and standard deviation in percent, and of how many."""
    percent = [100 * value for value in values]
    if not percent:
        return "-"
    if len(percent) == 1:
        return f"{percent[0]:.2f} (one seed)"
    return f"{statistics.mean(percent):.2f} ± {statistics.stdev(percent):.2f} ({len(percent)})"


def table(arms, results) -> str:
    """One line an arm that trains a supernet."""
    lines = ["| arm | space | " + " | ".join(title for _, title, _ in COLUMNS) + " |"]
    lines += ["|---|---|" + "---|" * len(COLUMNS)]
    for arm in arms:
        if arm.alone:
            continue
        seeds = results.get(arm.name, {}).values()
        cells = [spread([seed[key] for seed in seeds]) if seeds else "not run" for key, _, _ in COLUMNS]
        lines.append(f"| {arm.name}: {arm.about} | {arm.space} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def scratch(results) -> str:
    """Subnets alone against the same subnets of the supernet."""
    lines = [
        "| subnet | in the `nasvit` supernet | alone, on labels | difference, seed by seed | decided (as below) |",
        "|---|---|---|---|---|",
    ]
    inside = results.get("nasvit", {})
    for name in ("smallest", "middle"):
        alone = results.get(f"scratch-{name}", {})
        both = sorted(set(inside) & set(alone))
        difference = [inside[seed][name] - alone[seed]["alone"] for seed in both]
        cells = [spread([s[name] for s in inside.values()]), spread([s["alone"] for s in alone.values()])]
        cells += [spread(difference), "yes" if decided(difference) else "no"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "## A subnet from scratch against the same subnet in the supernet\n\n" + "\n".join(lines)


def kinds(arms, results) -> str:
    """Where conflicts are: the share of layers and steps in conflict by kind of layer."""
    measured = {
        arm.name: [figures["kinds"] for figures in results[arm.name].values()]
        for arm in arms
        if arm.name in results and not arm.alone
    }
    if not measured:
        return ""
    there = {kind for seeds in measured.values() for figures in seeds for kind in figures}
    titles = [kind for kind in ORDER if kind in there]
    lines = ["| arm | " + " | ".join(titles) + " |", "|---|" + "---|" * len(titles)]
    for name, seeds in measured.items():
        cells = [[figures[kind] for figures in seeds if kind in figures] for kind in titles]
        lines.append(f"| {name} | " + " | ".join(mean(values) for values in cells) + " |")
    return f"## Conflicts by kind of layer\n\n{KINDS}\n\n" + "\n".join(lines)


def mean(values) -> str:
    """In percent; of nothing a dash."""
    return f"{100 * statistics.mean(values):.1f}" if values else "-"


def singles(arms, results) -> str:
    """Each run by itself, so that nothing hides in a mean."""
    lines = [
        "| arm | seed | smallest | mean of 20 | largest | alone | steps in conflict | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm in arms:
        for seed, figures in sorted(results.get(arm.name, {}).items()):
            keys = ("smallest", "random", "largest", "alone", "negative")
            cells = [f"{100 * figures[key]:.2f}" if key in figures else "" for key in keys]
            lines.append(f"| {arm.name} | {seed} | {' | '.join(cells)} | {figures['minutes']:.0f} |")
    return f"## Every run\n\n{MINUTES}\n\n" + "\n".join(lines)


CLAIMS = (
    ("The hybrid space has more gradient conflicts than the CNN space, over all parameters (both merged plainly)", "no-projection", "cnn", "negative"),
    ("The same in the kind of layer that both have: MBConv's convolutions", "no-projection", "cnn", "MBConv conv"),
    ("Hybrid networks are better than convolutional ones: merged plainly, the largest", "no-projection", "cnn", "largest"),
    ("The same with the whole method on the hybrid space", "nasvit", "cnn", "largest"),
    ("Removing conflicts helps the smallest", "nasvit", "no-projection", "smallest"),
    ("Removing conflicts helps the mean of 20", "nasvit", "no-projection", "random"),
    ("Removing conflicts helps the largest", "nasvit", "no-projection", "largest"),
    ("Switchable layer scaling helps the mean of 20", "nasvit", "no-scaling", "random"),
    ("Switchable layer scaling helps the largest", "nasvit", "no-scaling", "largest"),
    ("Weak augmentation is better than strong for the smallest", "nasvit", "strong-augmentation", "smallest"),
    ("Weak augmentation is better than strong for the largest", "nasvit", "strong-augmentation", "largest"),
    ("The recipe is better than AlphaNet's on the hybrid space, largest", "nasvit", "alphanet-recipe", "largest"),
)  # fmt: skip
# Their rates were chosen for other recipes: in one the loss went back to that of guessing, the other two had 360 epochs in mind.
ELSEWHERE = ("strong-augmentation", "alphanet-recipe", "cnn-alphanet")


def claims(results) -> str:
    """What the paper says, and the differences found, seed by seed."""
    lines = [
        "| the paper's finding | difference in points, mean ± deviation (seeds) | here |",
        "|---|---|---|",
    ]
    for text, one, two, key in CLAIMS:
        first, second = results.get(one, {}), results.get(two, {})
        seeds = sorted(set(first) & set(second))
        difference = [found(first[seed], key) - found(second[seed], key) for seed in seeds]
        said = "says nothing: the other arm ran at a rate that was chosen for another recipe (notes)"
        said = said if two in ELSEWHERE else verdict(difference)
        lines.append(f"| {text} | {spread(difference)} | {said} |")
    return f"## What the paper finds, and what came out here\n\n{DECIDED}\n\n" + "\n".join(lines)


def found(figures, key) -> float:
    """A figure of a run: of all of it, or of a kind of layer."""
    return figures[key] if key in figures else figures["kinds"][key]


def decided(difference) -> bool:
    """Whether Student's 95 % interval of the mean leaves out 0."""
    if len(difference) < 2:
        return False
    error = statistics.stdev(difference) / len(difference) ** 0.5
    return abs(statistics.mean(difference)) > t.ppf(0.975, len(difference) - 1) * error


def verdict(difference) -> str:
    """What a difference says of the paper's finding; seeds that merely agree are called a lean."""
    if len(difference) < 2:
        return "not decided: fewer than two seeds"
    mean = statistics.mean(difference)
    if decided(difference):
        return "agrees" if mean > 0 else "**disagrees**"
    if len({d > 0 for d in difference}) == 1:
        return f"leans {'the same' if mean > 0 else 'the **other**'} way in every seed; not decided"
    return "no difference beyond the spread"


DECIDED = (
    "A finding is decided where Student's 95 % interval of the mean difference, seed against same seed, leaves out 0. Of two seeds that asks for a "
    "difference of 12.7 standard errors, of three for 4.3."
)

MINUTES = "Minutes of training by one thread, at the run's median rate, with another run beside it; evaluation comes on top."

KINDS = (
    "The share of layers and steps after the warm-up in which the two gradients point away from each other, in percent (mean over seeds). Unrelated "
    "gradients would do so in 50 % of the steps. Rows of switchable layer scaling that only one side uses have a cosine of 0, which is no conflict: "
    "that lowers the share over every layer of hybrid spaces, so spaces are compared by all parameters together and by the kinds that they share."
)

NOTES = """## Notes

- Of one run a difference of a point says little: the images alone have a standard error of 0.5 points, and seeds of one arm can differ by more than
  arms do (see every run, below). Differences are therefore taken seed by seed.
- `strong-augmentation`: in every seed the loss came back to that of guessing (2.30) in the second or third epoch and fell late. Means of the epochs: seed 1
  2.24, 2.26, 2.30, 2.20, 2.14, 2.11, seed 2 2.25, 2.30, 2.28, 2.21, 2.14, 2.10, seed 0 2.25 and 2.30 at first, 2.16 in the last. The rate, 3e-3, is that of
  all arms with NASViT's optimizer and was chosen for weak augmentation: the row shows this rate as much as the augmentation. A lower one was not tried.
- `alphanet-recipe` and `cnn-alphanet` keep AlphaNet's optimizer (SGD at its published rates) and AutoAugment: they too had more epochs in mind. They
  were run with what the recipe was then: no drop connect, gradients clipped by norm, torchvision's policy for CIFAR-10.
- What these data do decide is against the hybrid space: its largest subnet is 5.1 points below the CNN's when both are merged plainly, 6.1 with the
  whole method. The spaces are unequal: the largest of `nano` has 10.8 MMACs, that of `nano-cnn` 7.0. `nano-hybrid` and `nano-hybrid-cnn` have equal ones,
  and are what new experiments are to compare.
- 41 to 47 % of steps "in conflict" is what two gradients of single batches do whose cosine is small and positive: noise of the batches, not a conflict.
  `nasvit-edge report conflicts RUN --at STEP` looks at sums over many batches instead ([conflicts](conflicts.md))."""

HEAD = """# Results

The investigations of NASViT (ICLR 2022) at the scale of two CPU cores: the space `nano` (442,368 subnets, 0.6 to 10.8 MMACs) and its
convolutional counterpart `nano-cnn` on CIFAR-10 (JPEG images, 47,500 for training), {epochs} epochs for every arm, {seeds} seeds
in the whole grid, batch 128, one thread a run. Top-1 in percent on the 10,000 test images, each subnet calibrated on 4,096 training images; the random
subnets are the same 20 for all arms of a space. Measured on {machines}. {state}

A step is in conflict when the cosine between the gradient of the largest subnet and that of the others, over all parameters, is
negative; "layers in conflict" is the mean share of layers where it is. The first epoch (warm-up) does not count.

## Arms"""

TAIL = """## Repeat it

    python benchmarks/paper.py --data {data} --out runs/paper                # goes on where it was; --list prints every command
    python benchmarks/paper.py --data {data} --out runs/paper --report docs/results.md
    nasvit-edge report conflicts runs/paper/no-projection-0 runs/paper/cnn-0 --from-epoch 1 --html conflicts.html

One arm: `--arms nasvit no-projection`. {epochs} epochs are far from convergence: the differences are those of a short, equal
budget, and say nothing about 360 epochs on ImageNet."""
