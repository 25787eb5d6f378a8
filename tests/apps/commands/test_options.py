"""Options of commands are the fields of dataclasses: a field with a help is one, with the field's type and default."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import click
import pytest
from click.testing import CliRunner

from srflow_apps.commands.options import with_options_of

Colour = Literal["red", "blue"]


@dataclass(frozen=True, kw_only=True)
class Choices:
    number: int = field(default=3, metadata={"help": "How many.", "least": 1})
    colour: Colour | None = field(default=None, metadata={"help": "Which.  [default: any]", "most": True})
    big_one: bool = field(default=False, metadata={"help": "Large."})
    kept: bool = field(default=True, metadata={"help": "Leave out.", "flag": "--no-keep"})
    secret: int = 0


@click.command()
@with_options_of(Choices)
def command(**values: Any) -> None:
    click.echo(sorted(values.items()))


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        ([], {"number": 3, "colour": None, "big_one": False, "kept": True}),
        (["--number", "7", "--big-one"], {"number": 7, "colour": None, "big_one": True, "kept": True}),
        (["--colour", "blue", "--no-keep"], {"number": 3, "colour": "blue", "big_one": False, "kept": False}),
    ],
)
def test_values_are_the_fields_or_their_defaults(arguments: list[str], chosen: dict[str, Any]) -> None:
    result = CliRunner().invoke(command, arguments)
    assert result.stdout == f"{sorted(chosen.items())}\n"


@pytest.mark.parametrize("arguments", [["--number", "0"], ["--colour", "green"], ["--secret", "1"]])
def test_what_a_field_cannot_be_is_wrong_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(command, arguments).exit_code == 2


def test_the_help_shows_each_with_its_default() -> None:
    lines = CliRunner().invoke(command, ["--help"], terminal_width=100).stdout.splitlines()
    shown = {line.split()[0]: line.split("  ", 2)[2].strip() for line in lines if line.startswith("  --")}
    del shown["--help"]
    assert shown["--number"] == "How many.  [default: 3; x>=1]"
    assert set(shown) == {"--number", "--colour", "--big-one", "--no-keep"}
