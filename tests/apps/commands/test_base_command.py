from __future__ import annotations

import os

import click
import pytest
from click.testing import CliRunner

from srflow_apps.commands.base_command import Command


def test_float32_stays_float32_on_gpus_in_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")  # so that it is put back

    @click.command(cls=Command)
    def command() -> None:
        click.echo(os.environ["NVIDIA_TF32_OVERRIDE"])

    assert CliRunner().invoke(command).stdout == "1\n", "the user's own"
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    assert CliRunner().invoke(command).stdout == "0\n"


def test_help_has_options_under_their_headings_and_the_others_last() -> None:
    @click.command(cls=Command, groups={"Files": "recursive as_json"})
    @click.argument("inputs")
    @click.option("--quiet", is_flag=True, help="Say less.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @click.option("--recursive", is_flag=True)
    @click.option("--secret", hidden=True)
    def command() -> None:
        """Do it."""

    lines = CliRunner().invoke(command, ["--help"]).stdout.split("Do it.\n\n")[1].splitlines()
    words = [line.split()[0] if line.startswith(" ") else line for line in lines]
    assert words == ["Files:", "--recursive", "--json", "", "Other options:", "--quiet", "--help"]
