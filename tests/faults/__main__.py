"""`python -m tests.faults`: runs campaigns and prints how they ended."""

from __future__ import annotations

import inspect
import sys

import click

from tests.faults.attempts import run_campaign, table
from tests.faults.campaigns import CAMPAIGNS


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--only", "names", multiple=True, type=click.Choice(sorted(CAMPAIGNS)), help="A campaign. Repeatable.")
@click.option("--count", type=click.IntRange(min=1), help="Attempts per campaign.  [default: each campaign's own]")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed makes the same attempts.")
def main(names: tuple[str, ...], count: int | None, seed: int) -> None:
    """Attack the commands and the SDK, and print what was survived.

    What counts as lost is defined at the top of tests/faults/__init__.py. Seeds fix the files, and when kills come;
    what a kill then finds depends on the machine. Exit status: 0 if nothing was lost, 1 if something was.

    \b
    Campaigns, with the attempts that each makes by default:
    {campaigns}
    """
    outcomes = []
    for name, campaign in CAMPAIGNS.items():
        if names and name not in names:
            continue
        click.echo(f"{campaign.title} …", err=True)
        outcomes.append(run_campaign(campaign, count=count or campaign.count, seed=seed, say=_say))
    click.echo(table(outcomes))
    if any(outcome.lost for outcome in outcomes):
        sys.exit(1)


def _say(line: str) -> None:
    click.echo(line, err=True)


main.help = inspect.cleandoc(main.help or "").replace(
    "{campaigns}", "\n".join(f"  {each.name:<12}{each.count:>6}  {each.title}" for each in CAMPAIGNS.values())
)

if __name__ == "__main__":
    main(prog_name="python -m tests.faults")
