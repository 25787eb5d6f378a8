"""`python -m tests.faults`: runs the campaign and prints how its attempts ended."""

from __future__ import annotations

import inspect
import sys

import click

from tests.faults.campaign import PARTS, run_part, table


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--only", "names", multiple=True, type=click.Choice(sorted(PARTS)), help="A part. Repeatable.")
@click.option("--count", type=click.IntRange(min=1), help="Attempts per part.  [default: each part's own]")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed makes the same attempts.")
def main(names: tuple[str, ...], count: int | None, seed: int) -> None:
    """Attack the commands, and print what was survived.

    What counts as lost is defined at the top of tests/faults/__init__.py. Seeds fix the files, and when kills come;
    what a kill then finds depends on the machine. Exit status: 0 if nothing was lost, 1 if something was.

    \b
    Parts, with the attempts that each makes by default:
    {parts}
    """
    outcomes = []
    for part in (part for part in PARTS.values() if not names or part.name in names):
        click.echo(f"{part.title} …", err=True)
        say = lambda line: click.echo(line, err=True)  # noqa: E731
        outcomes.append(run_part(part, count=count or part.count, seed=seed, say=say))
    click.echo(table(outcomes))
    sys.exit(any(outcome.lost for outcome in outcomes))


main.help = inspect.cleandoc(main.help or "").replace(
    "{parts}", "\n".join(f"  {each.name:<12}{each.count:>6}  {each.title}" for each in PARTS.values())
)

if __name__ == "__main__":
    main(prog_name="python -m tests.faults")
