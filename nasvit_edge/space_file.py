"""A search space's TOML and the arguments of `SearchSpace`, of both kinds of spaces: over the grammar of blocks, and of one network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import structs

from nasvit_edge import space_parts
from nasvit_edge.space_parts import NetworkFile, SpaceFile

_UNSAID: dict[str, Any] = {"image_size": 0, "crop_share": 0.0, "mask_values": ()}  # where a file says nothing
_ELSEWHERE = ("schema", "stage")  # constant; called `stages` in a space
NAMES = ("network", "stages", *(f.name for f in structs.fields(SpaceFile) if f.name not in _ELSEWHERE))


def read(table: dict[str, Any], path: Path) -> dict[str, Any]:
    """Check every key of a space's TOML; SpaceError names file and key."""
    of_one = isinstance(table, dict) and "network" in table
    file = (space_parts.read_network if of_one else space_parts.read)(table, path)
    values = {name: getattr(file, name) for name in file.__struct_fields__ if name != "schema"}
    if "stage" in values:
        values["stages"] = values.pop("stage")
    return values | {name: empty for name, empty in _UNSAID.items() if values.get(name, empty) is None}


def text(values: Mapping[str, Any], *, is_dense: bool) -> str:
    """The TOML of the space with these `NAMES`; `read` gives them back."""
    import tomli_w

    if values["network"] is not None:
        names = [name for name in NetworkFile.__struct_fields__ if name != "schema"]
        network = NetworkFile(schema=1, **{name: values[name] for name in names})
        return tomli_w.dumps(space_parts.content(network))
    unsaid = {"image_size": None, "crop_share": None} if is_dense else {}
    said = {name: value for name, value in values.items() if name not in ("network", "stages")}
    said |= {"mask_values": values["mask_values"] or None, **unsaid}
    return tomli_w.dumps(space_parts.content(SpaceFile(schema=1, stage=values["stages"], **said)))
