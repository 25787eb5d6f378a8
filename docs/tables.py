"""List or measure again the tables of the documentation that a command prints: `python -m
docs.tables [WORD...]`.

A table that a command prints stands between two comments of its page:

\b
    <!-- printed by: srflow-eval tau-sweep --hr data/unseen -o out/tau -->
    | method | … |
    <!-- end of table -->

`printed by (table 2): …` is the second table that the command prints. A command runs once for all
of its tables, in the root of the project. When it ends, the tables are replaced in their pages: see
what changed with `git diff`, and correct the sentences around them. Most need `python
benchmarks/unseen_photos.py data/unseen`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
_TABLE = re.compile(
    r"<!-- printed by(?: \(table (?P<number>\d+)\))?: (?P<command>.+?) -->\n"
    r"(?P<text>.*?)<!-- end of table -->\n",
    re.DOTALL,
)


@dataclass(frozen=True)
class Table:
    """A table of a page. number: which of those that the command prints, from 1. text: its
    lines.
    """

    page: Path
    command: str
    number: int
    text: str


def pages() -> list[Path]:
    """The Markdown files that may have such tables."""
    return sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "notes").glob("*.md")])


def tables_of(page: Path) -> list[Table]:
    """The tables of a page, in their order."""
    found = _TABLE.finditer(page.read_text(encoding="utf-8"))
    return [
        Table(page, match["command"], int(match["number"] or 1), match["text"]) for match in found
    ]


def printed_tables(output: str) -> list[str]:
    """The Markdown tables in what a command printed, each with its last line break."""
    return [match[0] for match in re.finditer(r"(?:^\|.*\|\n){3,}", output, re.MULTILINE)]


def replace_tables(page: Path, command: str, output: str) -> None:
    """Put what a command printed into a page. Raises: click.ClickException if it printed too few
    tables.
    """
    printed = printed_tables(output)

    def replaced(match: re.Match[str]) -> str:
        number = int(match["number"] or 1)
        if match["command"] != command:
            return match[0]
        if number > len(printed):
            raise click.ClickException(
                f"{page.name} wants table {number} of {len(printed)} that it printed: {command}"
            )
        start, end = match.span("text")
        return (
            match[0][: start - match.start()]
            + printed[number - 1]
            + match[0][end - match.start() :]
        )

    page.write_text(_TABLE.sub(replaced, page.read_text(encoding="utf-8")), encoding="utf-8")


def run(command: str) -> str:
    """What a command prints, run in the root with this environment's programs. Raises:
    click.ClickException.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        shlex.split(command),
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise click.ClickException(f"ended with {done.returncode}: {command}")
    return done.stdout


@click.command(help=__doc__)
@click.argument("words", nargs=-1)
def main(words: Sequence[str]) -> None:
    """List the tables, or measure those whose page or command holds one of the words."""
    tables = [table for page in pages() for table in tables_of(page)]
    wanted = [
        table
        for table in tables
        if any(word in f"{table.page.name} {table.command}" for word in words)
    ]
    if words and not wanted:
        raise click.ClickException(
            f"no table has {' or '.join(words)} in its page's name or command"
        )
    for command in dict.fromkeys(table.command for table in wanted or tables):
        found = sorted({table.page for table in tables if table.command == command})
        click.echo(f"{', '.join(page.name for page in found)}: {command}")
        if words:
            output = run(command)
            for page in found:
                replace_tables(page, command, output)


if __name__ == "__main__":
    main()
