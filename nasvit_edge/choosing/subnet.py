"""The subnet that a command is about: a result file's winner, or an explicit one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nasvit_edge import files
from nasvit_edge.choosing.space import USUAL_SPACE
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.hints import DATA, command
from nasvit_edge.searching.result import SavedResult, read_result, weights_digest
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space, read_config


@dataclass(frozen=True, slots=True)
class Subject:
    """A subnet, the weights it is taken from, and the result file that names it, if one does."""

    space: SearchSpace
    supernet: str
    config: SubnetConfig
    saved: SavedResult | None


def subject_of(
    result: Path | None,
    space: str | None,
    supernet: str | None,
    config: Path | None,
    more: str = "--supernet CHECKPOINT",
) -> Subject:
    """Either `result` (with `supernet` where it names no weights), or `space`, `supernet` and `config`.

    `more` is what to add to a result file that names no weights.

    Raises:
        NasvitEdgeError: neither is whole, or both are given.
    """
    if result is None:
        if space is None or supernet is None or config is None:
            raise NasvitEdgeError(
                "give a result file, or all of --space, --supernet and --config; a search writes one: "
                + command(
                    "search",
                    space=space,
                    supernet=supernet,
                    data=supernet and DATA,
                    latency="20ms",
                    out="search.json",
                )
            )
        loaded = load_space(space)
        return Subject(loaded, supernet, read_config(config, loaded), None)
    if config or space:
        raise NasvitEdgeError("give either a result file or --space, --supernet and --config, not both")
    saved = read_result(result)
    weights = supernet or saved.setting.supernet
    if weights is None:
        saved.refuse(result, "supernet")
        raise NasvitEdgeError(f"{str(result)!r} was searched with a predictor, without weights: add {more}")
    if supernet is None:
        _refuse_changed(result, saved, weights)
    return Subject(saved.space, weights, saved.config, saved)


def _refuse_changed(result: Path, saved: SavedResult, weights: str) -> None:
    """NasvitEdgeError where the weights' file is another than the one that was searched."""
    expected, actual = saved.setting.supernet_sha256, weights_digest(weights)
    if expected is not None and actual is not None and actual != expected:
        raise NasvitEdgeError(
            f"{str(result)!r} was searched with other weights ({expected[:8]}) than {weights!r} holds now ({actual[:8]}): search again, or, if you "
            f"mean these, add --supernet {weights}"
        )


def read_subnet(path: Path, space: str | None) -> tuple[SearchSpace, SubnetConfig, dict[str, str]]:
    """A subnet from a result file, or from the JSON of a config with its space; and what of the space was filled in.

    Raises:
        NasvitEdgeError: a result file of another space than the one that was given.
    """
    raw = files.read_json(path, "subnet")
    if raw.get("kind") == "search result":
        saved = read_result(path)
        if space is not None and load_space(space) != saved.space:
            raise NasvitEdgeError(
                f"{str(path)!r} holds its own space, {saved.space.name!r}, which is not --space {space}: leave that out"
            )
        return saved.space, saved.config, {}
    loaded = load_space(space or USUAL_SPACE)
    return loaded, loaded.config_from(raw), {} if space else {"space": loaded.name}
