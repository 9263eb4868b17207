"""Which subnets of a space `--subnets` names."""

from __future__ import annotations

import random
import re
from pathlib import Path

from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.space import SearchSpace, SubnetConfig

Named = list[tuple[str, SubnetConfig]]
_MOST = 100_000
_FORM = "--subnets is min, max and random:N with commas between, or a JSON file"


def chosen(text: str, space: SearchSpace, seed: int) -> Named:
    """The subnets that `--subnets` names, with what they are called in the report."""
    if text.endswith(".json") or Path(text).is_file():
        return _listed(Path(text), space)
    rng, subnets = random.Random(seed), list[tuple[str, SubnetConfig]]()
    for part in text.split(","):
        match = re.fullmatch(r"(min|max|random:([1-9][0-9]{0,5}))", part.strip())
        if match is None or int(match[2] or 1) > _MOST:
            raise NasvitEdgeError(f"--subnets {text!r}: {part.strip()!r} is not known; {_FORM}")
        if match[2]:
            subnets += [("random", space.sample(rng)) for _ in range(int(match[2]))]
        else:
            subnets.append(
                ("smallest", space.smallest()) if match[1] == "min" else ("largest", space.largest())
            )
    return subnets


def _listed(path: Path, space: SearchSpace) -> Named:
    """The configs of a list, the one of a config file, or the winner of a result file."""
    try:
        values = files.loads(files.read_bytes(path, "subnets"))
    except (ValueError, RecursionError) as error:
        raise NasvitEdgeError(f"subnets {str(path)!r} is not valid JSON: {error}") from None
    if isinstance(values, dict) and values.get("kind") == "search result":
        best = values.get("best")
        return [
            (
                "winner",
                space.config_from(
                    best.get("config") if isinstance(best, dict) else None, f"best of {str(path)!r}"
                ),
            )
        ]
    listed = values if isinstance(values, list) else [values]
    if not 0 < len(listed) <= _MOST:
        raise NasvitEdgeError(f"subnets {str(path)!r} holds {len(listed)} configs; give 1 to {_MOST}")
    what = f"subnets {str(path)!r}: config"
    return [("listed", space.config_from(value, f"{what} {i + 1}")) for i, value in enumerate(listed)]
