"""Which space weights are of, where that is not said."""

from __future__ import annotations

from pathlib import Path

from nasvit_edge import files
from nasvit_edge.errors import SpaceError
from nasvit_edge.space import SearchSpace, load_space, space_names

USUAL_SPACE = "nasvit"  # where no command says which


def space_of(weights: str, space: str | None) -> SearchSpace:
    """The space that is named; else of the run that made the weights, or the one that shipped weights are called after."""
    from nasvit_edge.model.checkpoint import resolve_weights
    from nasvit_edge.model.filling import spaces_of
    from nasvit_edge.model.weights_file import weights_file

    if space is not None:
        return load_space(space)
    path, key = files.file_and_key(weights)
    beside = Path(path).parent / "space.toml"
    if path in space_names():
        return load_space(path)
    if Path(path).is_file() and beside.is_file():
        return load_space(beside)
    like = ""
    if not path.startswith("random"):
        with weights_file(resolve_weights(path)) as file:
            name = file.metadata.get("space")
            if name in space_names():
                return load_space(str(name))
            like = " or ".join(map(repr, spaces_of(file, key)))
    hint = f" (their keys are those of {like})" if like else ""
    raise SpaceError(
        f"weights {weights!r} do not say of which space they are{hint}: add --space NAME or FILE.toml"
    )
