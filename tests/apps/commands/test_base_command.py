from __future__ import annotations

import click
from click.testing import CliRunner

from srflow_apps.commands.base_command import Command


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
