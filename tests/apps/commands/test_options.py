"""Options of commands: fields of dataclasses with a help; their help under headings; what the shell
completes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from srflow_apps.commands import cli
from srflow_apps.commands.base_command import Command, expand_pattern
from srflow_apps.commands.options import with_options_of

Colour = Literal["red", "blue"]


@dataclass(frozen=True, kw_only=True)
class Choices:
    number: int = field(default=3, metadata={"help": "How many.", "least": 1})
    colour: Colour | None = field(
        default=None, metadata={"help": "Which.  [default: any]", "most": True}
    )
    big_one: bool = field(default=False, metadata={"help": "Large."})
    kept: bool = field(default=True, metadata={"help": "Leave out.", "flag": "--no-keep"})
    secret: int = 0


@click.command(cls=Command, groups={"Shown": "big_one number"})
@with_options_of(Choices)
@click.option("--hidden", hidden=True, expose_value=False)
def command(**values: Any) -> None:
    click.echo(sorted(values.items()))


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        ([], {"number": 3, "colour": None, "big_one": False, "kept": True}),
        (
            ["--number", "7", "--big-one"],
            {"number": 7, "colour": None, "big_one": True, "kept": True},
        ),
        (
            ["--colour", "blue", "--no-keep"],
            {"number": 3, "colour": "blue", "big_one": False, "kept": False},
        ),
    ],
)
def test_values_are_the_fields_or_their_defaults(
    arguments: list[str], chosen: dict[str, Any]
) -> None:
    result = CliRunner().invoke(command, arguments)
    assert result.stdout == f"{sorted(chosen.items())}\n"


@pytest.mark.parametrize("arguments", [["--number", "0"], ["--colour", "green"], ["--secret", "1"]])
def test_what_a_field_cannot_be_is_wrong_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(command, arguments).exit_code == 2


def test_the_help_shows_each_with_its_default_under_headings_and_the_others_last() -> None:
    lines = (
        CliRunner()
        .invoke(command, ["--help"], terminal_width=100)
        .stdout.split("[OPTIONS]\n\n")[1]
        .splitlines()
    )
    words = [line.split()[0] if line.startswith(" ") else line for line in lines]
    assert words == [
        "Shown:",
        "--big-one",
        "--number",
        "",
        "Other options:",
        "--colour",
        "--no-keep",
        "--help",
    ]
    assert lines[2].split("  ", 2)[2].strip() == "How many.  [default: 3; x>=1]"


@pytest.mark.parametrize("of", [cli.upscale, cli.restore, cli.transfer])
def test_a_commands_help_names_every_option_once(of: click.Command) -> None:
    result = CliRunner().invoke(of, ["--help"], terminal_width=100)
    named = re.findall(r"^  (?:-\w, )?(--[\w-]+)", result.stdout, re.MULTILINE)
    options = [max(one.opts, key=len) for one in of.params if isinstance(one, click.Option)]
    assert sorted(named) == sorted([*options, "--help"])
    assert result.stdout.index("Exit status: 0 success") < result.stdout.index("Examples:")


@pytest.mark.parametrize(
    ("words", "last", "expected"),
    [
        ([], "--rep", "plain,--report"),
        (["a.png", "--device"], "te", "plain,tensorrt"),
        (["a.png", "-o"], "lar", "file,lar"),
        (["a.png", "--model"], "x", "file,x"),
    ],
)
def test_options_choices_and_files_are_completed(
    words: list[str], last: str, expected: str
) -> None:
    shell = BashComplete(cli.upscale, {}, "srflow-upscale", "_SRFLOW_UPSCALE_COMPLETE")
    assert [shell.format_completion(one) for one in shell.get_completions(words, last)] == [
        expected
    ]


def test_patterns_that_a_shell_left_alone_are_expanded_and_brackets_are_names(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.jpg", "[1].jpg", "a.png"):
        (tmp_path / name).touch()
    assert expand_pattern("*.jpg") == ["[1].jpg", "a.jpg", "b.jpg"]
    assert expand_pattern("[1].*") == ["[1].jpg"]
    assert expand_pattern("?.png") == ["a.png"]
    for word in ("[1].jpg", "*.webp", "--tau"):
        assert expand_pattern(word) == [word]
