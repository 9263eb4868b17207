"""A search result in words and in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from nasvit_edge.report.model import Column, Table, figure, own, table
from nasvit_edge.searching.saved import MixedPrecision, ResultFile, SameMacs, SavedCandidate
from nasvit_edge.searching.search import Gap
from nasvit_edge.units import show_bytes, show_count, show_ms

_BESIDE = 3  # subnets shown on each side of the winner
_WIDTH, _HEIGHT = 72, 16


def title(result: ResultFile) -> str:
    """One line: what was asked, and whether the answer was measured."""
    setting, best = result.setting, result.best
    limits = ", ".join(
        f"{limit.name} {limit.show(limit.bound)}" for limit in (saved.limit() for saved in result.limits)
    )
    what = f"best {setting.space} subnet ({limits or 'no limit'}) on {setting.first().line()}"
    if best.median_ms is not None and best.p90_ms is not None:
        return f"{what}: CONFIRMED, measured {show_ms(best.median_ms)} (p90 {show_ms(best.p90_ms)})"
    hint = "" if result.mixed else " (--confirm 5 measures)"
    return f"{what}: predicted, not measured{hint}"


def beside(result: ResultFile) -> str:
    """One line above the subnets beside it."""
    return f"beside it on the front, predicted for {result.setting.first().line()}"


def around(result: ResultFile) -> list[SavedCandidate]:
    """Subnets beside the winner on the front: some that are faster, some a little beyond the budget."""
    best = result.best
    below = [c for c in result.front if c.latency_ms < best.latency_ms]
    above = [c for c in [*result.front, *result.beyond] if c.latency_ms > best.latency_ms]
    return [*_spread(below[::-1])[::-1], *_spread(above)]


def candidates(listed: Sequence[SavedCandidate], quality: str, slower: float | None = None) -> Table:
    """A row a subnet; `slower`: what predictions for today's speed are of the table's."""
    return table(
        listed,
        Column("subnet", lambda c: own(c.config.line())),
        Column("predicted", lambda c: figure(show_ms(c.latency_ms))),
        *_today(slower),
        Column("90 % interval", lambda c: figure(c.interval() or "-")),
        Column(quality, lambda c: figure(f"{c.accuracy:.2%}")),
        Column("MACs", lambda c: figure(show_count(c.macs))),
        Column("parameters", lambda c: figure(show_count(c.parameters))),
    )


def _today(slower: float | None) -> list[Column[SavedCandidate]]:
    if slower is None:
        return []
    return [Column("at today's speed", lambda c: figure(show_ms(slower * c.latency_ms)))]


def _spread(candidates: list[SavedCandidate]) -> list[SavedCandidate]:
    """A few from the beginning of a list, with steps between."""
    step = max(1, len(candidates) // (4 * _BESIDE))
    return candidates[step - 1 :: step][:_BESIDE]


def plot(result: ResultFile) -> str:
    """The front as a small picture of characters; empty where it is a point."""
    points, beyond = (
        [(c.latency_ms, 100 * c.accuracy) for c in listed] for listed in (result.front, result.beyond)
    )
    if len(points) < 2:
        return ""
    import plotext

    figure = plotext.figure  # the library's only one
    figure.clear()
    figure.theme("colorless")
    best = [(result.best.latency_ms, 100 * result.best.accuracy)]
    for listed, marker in ((points, "·"), (beyond, "+"), (best, "O")):
        if listed:
            figure.draw(figure.signal(*map(list, zip(*listed, strict=True)), marker=marker))
    figure.plot_size(_WIDTH, _HEIGHT)
    figure.title(f"{result.quality} (%) over predicted latency (ms)")
    text = str(plotext.uncolorize(figure.build()))
    lines = [line.rstrip() for line in text.rstrip().splitlines()]
    legend = "O the winner, · within the limits" + (", + with a little more time" if beyond else "")
    return "\n".join([*lines, f"     {legend}", ""])


def remarks(result: ResultFile) -> list[str]:
    """What a person should know about how good the answer is."""
    lines, best = [], result.best
    if result.method == "exact":
        lines.append("exact: no subnet of the space is predicted better within the limits")
    elif result.gap is not None:
        lines.append(_gap(result.gap, result.evaluated))
    confirmation = result.confirmation
    if confirmation is not None:
        lines.append(
            f"measured {len(confirmation.subnets)} subnets in {confirmation.rounds} rounds; "
            f"their {confirmation.by} was {confirmation.factor:.3f} of what was predicted"
        )
    if result.mixed is not None:
        lines += _mixed(result.mixed, result)
    if len(best.latencies_ms) > 1:
        lines.append(f"predicted latencies: {_latencies(result)}")
    speeds = zip(result.today, result.setting.tables, strict=False)
    lines += [f"table {used.name}: {speed.line()}" for speed, used in speeds if speed and speed.differs]
    if result.same_macs is not None:
        lines.append(_same_macs(result.same_macs, result.quality))
    sizes = f"file about {show_bytes(best.bytes)}, activations {show_bytes(best.peak_bytes)}"
    return [*lines, f"computed, not measured: {sizes}"]


def precisions(result: ResultFile) -> Table:
    """A row a stage of the winner, with its precision and what that takes and adds."""
    mixed = result.mixed
    assert mixed is not None
    return table(
        result.stages,
        Column("stage", lambda s: own(s.name)),
        Column("blocks", lambda s: own(" ".join(s.blocks))),
        Column("precision", lambda s: own(s.precision)),
        Column("predicted", lambda s: figure(show_ms(s.latency_ms))),
        Column("noise of the logits", lambda s: figure(f"{mixed.noise[s.name].get(s.precision, 0.0):.2g}")),
    )


def _mixed(mixed: MixedPrecision, result: ResultFile) -> list[str]:
    """What mixing costs, how that is known, and what one precision for all stages comes to."""
    lines = [
        f"precisions are predicted to cost {100 * result.best.loss:.2f} points, taken off above (noise of stages measured on {mixed.images}; "
        f"all together add {mixed.additive:.2f} of their sum)"
    ]
    alone: dict[str, str] = {
        one.precision: f"{one.accuracy:.2%} in {show_ms(one.latency_ms)}" for one in mixed.uniform
    }
    every = next(iter(mixed.noise.values()))
    each = ", ".join(f"{precision} {alone.get(precision, 'none')}" for precision in every)
    return [*lines, f"one precision for all stages, within the same limits: {each}"]


def _latencies(result: ResultFile) -> str:
    """`8.00 ms by host: host (AMD EPYC, ...), ...; 57.3 ms by pixel-1: ...`."""
    pairs = zip(result.best.latencies_ms, result.setting.tables, strict=True)
    return "; ".join(
        f"{show_ms(ms)} by {table.name}{f': {table.setting.line()}' if table.setting else ''}"
        for ms, table in pairs
    )


def _gap(gap: Gap, evaluated: int) -> str:
    same = gap.accuracy < 5e-6
    winner = (
        "the winner is the exact optimum"
        if same
        else f"the exact optimum is {100 * gap.accuracy:.3f} points better"
    )
    return f"{winner} of the predictions; the front covers {gap.hypervolume:.2%} of the exact one ({evaluated:,} evaluated)"


def _same_macs(same: SameMacs, what: str) -> str:
    text = (
        f"against random subnets of the same MACs: {same.better * 100:+.2f} points (predictor good to "
        f"{same.accuracy_error * 100:.1f}), {same.faster:.1%} faster"
    )
    if same.latency_error is None:
        return f"{text} (error of latencies unknown)"
    gains = ((what, same.better_above), ("latency", same.faster_above))
    sure = ", ".join(name for name, above in gains if above)
    return f"{text} (latency good to {same.latency_error:.1%}); beyond these errors: {sure or 'neither'}"
