"""The command srflow-transfer: parts of pictures put into others."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from srflow_apps.commands import command_line, file_options
from srflow_apps.commands.base_command import Command, LocalPath
from srflow_apps.commands.command_line import exit_statuses
from srflow_apps.commands.file_options import SETTINGS
from srflow_sdk._version import __version__

if TYPE_CHECKING:
    from srflow_apps.batch.choices import FileChoices, MachineChoices

_PLACE = LocalPath()


def _taus(text: str) -> Any:
    """A number, or numbers by level: `1=0.8,2=0.9`."""
    with contextlib.suppress(ValueError):
        if "=" not in text:
            return float(text)
        pairs = [part.split("=") for part in text.split(",")]
        taus = {int(level): float(tau) for level, tau in pairs}
        if len(taus) == len(pairs):
            return taus
    raise click.BadParameter(f"{text!r} is neither a number from 0 to 2 nor numbers by level, such as 1=0.8,2=0.5")


@click.command(
    cls=Command,
    context_settings=SETTINGS,
    groups={
        "Options that most people need": "output lr blend tau model recursive format resume dry_run",
        "Files": f"seed {file_options.FILES}",
        "Machine": file_options.MACHINES,
    },
)
@click.argument("target", type=_PLACE)
@click.argument("source", type=_PLACE)
@click.argument("mask", type=_PLACE)
@file_options.OUTPUT
@click.option("--lr", type=_PLACE, metavar="FILE", help="The true LR image of TARGET, if TARGET was upscaled from one.")
@click.option(
    "--blend",
    type=click.Choice(["gradient", "none"]),
    default="gradient",
    show_default=True,
    help="gradient: fit brightness and colour first; none: as published, for pictures that agree at LR size.",
)
@click.option(
    "--tau",
    type=_taus,
    metavar="T|LEVEL=T,…",
    help="Temperature of the content's latents.  [default: gradient 1=0.8, the finest level alone; none 0.9]",
)
@file_options.seed("Of what normalising draws: same seed, same picture.")
@file_options.MODEL
@file_options.local_file_options
@file_options.machine_options
@click.version_option(__version__, prog_name="srflow-transfer")
def transfer(
    target: Path,
    source: Path,
    mask: Path,
    output: str | None,
    lr: Path | None,
    model: str | None,
    files: FileChoices,
    machine: MachineChoices,
    **transferring: Any,
) -> None:
    """Put what MASK selects of SOURCE into TARGET, and let the model blend it in.

    All three have the same size, so move and scale the content in SOURCE to where it is to appear. MASK is white where
    SOURCE is to show (128 of 255 or more), in any shape; what is transparent in SOURCE is left out. OUT equals TARGET
    beyond 6 pixels outside of the mask, and keeps TARGET's colour profile, alpha and metadata. PNG, JPEG, WebP, TIFF,
    GIF, BMP and AVIF are read. OUT replaces an existing file, but never an input; without -o, portrait.png becomes
    portrait_transferred.png beside it. One input may be -, standard input, and OUT may be -, standard output.

    TARGET may be a folder of pictures; OUT is a directory then. SOURCE, MASK and the file of --lr are each one picture
    for all of them, or a folder with a picture of the same name, but for the ending, for each.

    Exit status: 0 success, 1 something failed, 2 wrong usage, 130 interrupted (128 + the number of any other signal).

    \b
    Examples:
      srflow-transfer portrait.png other.png mask.png -o both.png
      srflow-transfer upscaled.png photo.png mask.png -o best.png --lr small.png --blend none
      srflow-transfer portrait.png other.png mask.png -o both.png --tau 1=0.9,2=0.9
      srflow-transfer portraits others masks -o both --resume
      draw-mask | srflow-transfer portrait.png other.png - -o - --format jpg > both.jpg
    """
    with exit_statuses(), contextlib.ExitStack() as stack:
        others = {"source": source, "mask": mask, **({} if lr is None else {"lr": lr})}
        command_line.fail_if_absent([target, *others.values()], needed="all")
        from srflow_apps.batch.command import STANDARD, run_command, standard_input
        from srflow_apps.batch.operations import Transferring
        from srflow_sdk.errors import ArgumentError
        from srflow_sdk.flow.options import TransferOptions

        options = TransferOptions(**transferring)  # a wrong one is said before the model is loaded
        piped = [what for what, path in others.items() if path == Path(STANDARD)]
        if len(piped) + (target == Path(STANDARD)) > 1:
            raise ArgumentError("- is standard input, one picture; name files for the other inputs")
        sent = stack.enter_context(standard_input(machine.max_pixels)) if piped else None
        others.update((what, cast("Path", sent)) for what in piped)
        run_command(
            Transferring(options=options, **others),
            [str(target)],
            output,
            model=model,
            files=files,
            machine=machine,
            sent=sent,
        )


if __name__ == "__main__":
    transfer()
