"""False alarms and power of the verdicts, by simulation: python benchmarks/false_alarms.py

Log latency is effect + noise of the round (sd 2 %) + AR(1) noise in it (sd 3 %, correlation 0.5) + drift of the session (4 %),
100 samples a round, rounds in the order ABBA. What is judged is what `report bench` judges: p50 by `statistics.compare`,
with the smallest effect that counts. Beside it what other tools do: a test on pooled samples, pairs of whole blocks (AB BA),
and "the mean is more than 5 % larger". `--cells` shows many cells in one report.
"""

import argparse

import numpy as np
from scipy import stats

from nasvit_edge.benchmark.statistics import ALPHA, MIN_EFFECT, compare, false_discovery

BETWEEN, WITHIN, CORRELATION, DRIFT, SAMPLES = 0.02, 0.03, 0.5, 0.04, 100


def sessions(rng, trials, rounds, effect, drift=DRIFT):
    """Log latencies (trials, 2 * rounds, samples) in the order of the session, and whose each place is (0 base, 1 candidate)."""
    noise = rng.normal(size=(trials, 2 * rounds, SAMPLES))
    for i in range(1, SAMPLES):
        noise[..., i] = CORRELATION * noise[..., i - 1] + np.sqrt(1 - CORRELATION**2) * noise[..., i]
    place = np.arange(2 * rounds * SAMPLES).reshape(2 * rounds, SAMPLES) / (2 * rounds * SAMPLES)
    who = np.array([[0, 1], [1, 0]] * rounds)[:rounds].ravel()
    shift = np.where(who == 1, np.log1p(effect), 0.0)[:, None]
    between = BETWEEN * rng.normal(size=(trials, 2 * rounds, 1))
    return WITHIN * noise + between + drift * place + shift, who


def ours(logs, who):
    """Whether each trial is a regression, as `verdicts` decides one cell."""
    medians = np.exp(np.median(logs, -1))
    pairs = zip(medians[:, who == 0], medians[:, who == 1], strict=True)
    comparisons = [compare(base, candidate) for base, candidate in pairs]
    return np.array([f.larger_p <= ALPHA and f.ratio.value > 1 + MIN_EFFECT for f in comparisons])


def blocks(logs, who):
    """The same with pairs of whole blocks: the mean of two rounds a side."""
    medians = np.median(logs, -1)
    sides = [medians[:, who == side].reshape(len(logs), -1, 2).mean(2) for side in (0, 1)]
    comparisons = [compare(np.exp(base), np.exp(candidate)) for base, candidate in zip(*sides, strict=True)]
    return np.array([f.larger_p <= ALPHA and f.ratio.value > 1 + MIN_EFFECT for f in comparisons])


def pooled(logs, who):
    """Mann-Whitney on all samples."""
    base, candidate = (logs[:, who == side].reshape(len(logs), -1) for side in (0, 1))
    return stats.mannwhitneyu(candidate, base, alternative="greater", axis=1).pvalue <= ALPHA


def five_percent(logs, who):
    """The candidate's mean is more than 5 % above the base's."""
    means = [np.exp(logs[:, who == side]).mean((1, 2)) for side in (0, 1)]
    return means[1] > 1.05 * means[0]


RULES = {"ours": ours, "whole blocks": blocks, "pooled samples": pooled, "mean > 5 %": five_percent}


def rate(rule, rounds, effect, trials, seed=0):
    """The share of simulated sessions with a regression."""
    rng = np.random.default_rng((seed, rounds, round(1000 * effect)))
    parts = [rule(*sessions(rng, min(500, trials - at), rounds, effect)) for at in range(0, trials, 500)]
    return float(np.concatenate(parts).mean())


def any_alarm(cells, rounds, trials, seed=0):
    """The share of reports of so many unchanged cells with a regression: adjusted, and each cell for itself."""
    rng = np.random.default_rng((seed, cells))
    adjusted = alone = 0
    for _ in range(trials):
        medians = np.exp(BETWEEN * rng.normal(size=(2, cells, rounds)))
        chances = [compare(base, candidate).larger_p for base, candidate in zip(*medians, strict=True)]
        adjusted += min(false_discovery(chances)) <= ALPHA
        alone += min(chances) <= ALPHA
    return adjusted / trials, alone / trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--cells", type=int, default=20)
    options = parser.parse_args()
    print(
        f"{'rule':16s} rounds  false alarms  power at +5 %  at +10 %   ({options.trials} trials, alpha {ALPHA:.0%})"
    )
    for name, rule in RULES.items():
        for rounds in (4, 8, 12):
            rates = [rate(rule, rounds, effect, options.trials) for effect in (0.0, 0.05, 0.10)]
            print(f"{name:16s} {rounds:6d}  {rates[0]:12.2%}  {rates[1]:13.1%}  {rates[2]:8.1%}", flush=True)
    adjusted, alone = any_alarm(options.cells, 8, options.trials)
    print(
        f"a report of {options.cells} unchanged cells has an alarm: {adjusted:.2%} adjusted, {alone:.1%} each for itself"
    )


if __name__ == "__main__":
    main()
