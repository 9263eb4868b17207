"""A command from the record that it is asked by: the parameters that Typer reads, and back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, get_type_hints

from nasvit_edge.cli.errors import reported
from nasvit_edge.errors import CheckpointError
from nasvit_edge.requests import options

_KEY, _JSON = "weights_key", "as_json"


def adapted(run: Callable[..., None]) -> Callable[..., None]:
    """`run(request, as_json)` for Typer: a parameter for each field of the request that is an option or an argument.

    A field that is a record of such stands for its fields, and any other keeps its default. After --supernet comes
    --weights-key, and the two reach the request as one text, FILE::KEY. --json is last. User errors become one line.
    """
    asked = get_type_hints(run).get("request")

    def called(**values: Any) -> None:
        arguments = {_JSON: values.pop(_JSON)}
        if asked is not None:
            arguments["request"] = _made(asked, _with_key(values))
        run(**arguments)

    parameters = [] if asked is None else list(_parameters(asked))
    parameters.append(_parameter(_JSON, options.Json, False))
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    called.__doc__ = run.__doc__
    return reported(called)


def _parameters(record: Any) -> Iterator[inspect.Parameter]:
    for field, hint in _taken(record):
        if is_dataclass(hint):
            yield from _parameters(hint)
        else:
            yield _parameter(field.name, hint, _default(field))
        if field.name == "supernet":
            yield _parameter(_KEY, options.WeightsKey, None)


def _taken(record: Any) -> Iterator[tuple[Field[Any], Any]]:
    """The fields that are an option, an argument, or a record of such, with their types."""
    hints = get_type_hints(record, include_extras=True)
    for field in fields(record):
        hint = hints[field.name]
        if is_dataclass(hint) or hasattr(hint, "__metadata__"):
            yield field, hint


def _parameter(name: str, hint: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _default(field: Field[Any]) -> Any:
    return inspect.Parameter.empty if field.default is MISSING else field.default


def _with_key(values: dict[str, object]) -> dict[str, object]:
    key = values.pop(_KEY, None)
    if key is None:
        return values
    if values["supernet"] is None:
        raise CheckpointError("--weights-key names weights of the file --supernet FILE: give that too")
    return values | {"supernet": f"{values['supernet']}::{key}"}


def _made(record: Any, values: dict[str, object]) -> Any:
    """The record, and the records in it, of all their values by name."""
    arguments = {f.name: _made(h, values) if is_dataclass(h) else values[f.name] for f, h in _taken(record)}
    return record(**arguments)
