"""A command is made of the record that it is asked by: its fields are the options, and what was given comes back as one."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field, is_dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from nasvit_edge import requests
from nasvit_edge.cli.adapter import _parameters, adapted


@dataclass(frozen=True, kw_only=True)
class Part:
    often: Annotated[int, typer.Option(min=1, help="How often.")] = 2
    silent: str = "kept"


@dataclass(frozen=True, kw_only=True)
class Asked:
    name: Annotated[str, typer.Argument(help="Whose.")]
    part: Part = field(default_factory=Part)
    loud: Annotated[bool, typer.Option("--loud", help="Loudly.")] = False


@pytest.fixture
def run():
    """A command line's exit code, and the request that it became."""
    seen: list[Any] = []

    def greet(request: Asked, as_json: bool) -> None:
        """Say hello."""
        seen.append((request, as_json))

    app = typer.Typer()
    app.command()(adapted(greet))
    return lambda *words: (CliRunner().invoke(app, list(words)), seen)


def test_what_is_given_becomes_the_record_with_the_records_in_it(run):
    _, seen = run("Ada", "--often", "3", "--loud", "--json")
    assert seen == [(Asked(name="Ada", part=Part(often=3), loud=True), True)]


def test_what_is_left_out_is_the_record_s_own(run):
    _, seen = run("Ada")
    assert seen == [(Asked(name="Ada"), False)]


def test_its_help_is_of_the_fields_in_their_order_and_json_is_last(run):
    message = run("--help")[0].output
    places = [message.index(text) for text in ("Say hello", "--often", "How often", "--loud", "--json")]
    assert places == sorted(places)
    assert "silent" not in message


def test_a_bound_of_a_field_is_kept_to(run):
    result, seen = run("Ada", "--often", "0")
    assert (result.exit_code, seen) == (2, [])


def test_no_two_options_of_a_command_are_called_the_same():
    """A record in a request stands for its fields: two of one name would be given one value."""
    doubled = {}
    for module in pkgutil.iter_modules(requests.__path__, "nasvit_edge.requests."):
        for kind in filter(is_dataclass, vars(importlib.import_module(module.name)).values()):
            names = [parameter.name for parameter in _parameters(kind)]
            doubled |= {f"{module.name}.{name}": kind for name in names if names.count(name) > 1}
    assert doubled == {}
