"""The command srflow-transfer: part of one picture put into another."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from srflow_apps.batch.choices import FORMATS
from srflow_apps.commands import command_line, file_options
from srflow_apps.commands.command_line import exit_statuses
from srflow_apps.commands.file_options import SETTINGS
from srflow_sdk._version import __version__
from srflow_sdk.system.base_command import Command, LocalPath

if TYPE_CHECKING:
    from srflow_apps.batch.choices import MachineChoices

_FILE = LocalPath()


class LevelsTauParameter(click.ParamType[Any]):
    """A number, or numbers by level: `1=0.8,2=0.9`."""

    name = "T|LEVEL=T,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            if "=" not in value:
                return float(value)
            pairs = [part.split("=") for part in value.split(",")]
            taus = {int(level): float(tau) for level, tau in pairs}
        except ValueError:
            taus, pairs = {}, [[]]
        if len(taus) == len(pairs):
            return taus
        example = "numbers by level, such as 1=0.8,2=0.5"
        return self.fail(f"{value!r} is neither a number from 0 to 2 nor {example}", param, ctx)


@click.command(cls=Command, context_settings=SETTINGS)
@click.argument("target", type=_FILE)
@click.argument("source", type=_FILE)
@click.argument("mask", type=_FILE)
@click.option(
    "-o", "--output", required=True, metavar="OUT", type=_FILE, help="File to write, or -; its ending is its format."
)
@click.option("--format", type=click.Choice(FORMATS), help="Format on standard output.  [default: png]")
@click.option("--lr", type=_FILE, metavar="FILE", help="The true LR image of TARGET, if TARGET was upscaled from one.")
@click.option(
    "--blend",
    type=click.Choice(["gradient", "none"]),
    default="gradient",
    show_default=True,
    help="gradient: fit brightness and colour first; none: as published, for pictures that agree at LR size.",
)
@click.option(
    "--tau",
    type=LevelsTauParameter(),
    metavar="T|LEVEL=T,…",
    help="Temperature of the content's latents.  [default: gradient 1=0.8, the finest level alone; none 0.9]",
)
@file_options.seed("Of what normalising draws: same seed, same picture.")
@file_options.MODEL
@file_options.QUALITY
@file_options.LOSSLESS
@file_options.machine_options
@click.version_option(__version__, prog_name="srflow-transfer")
def transfer(
    target: Path,
    source: Path,
    mask: Path,
    output: Path,
    format: str | None,
    lr: Path | None,
    blend: Any,
    tau: Any,
    seed: int,
    model: str | None,
    quality: int | None,
    lossless: bool,
    machine: MachineChoices,
) -> None:
    """Put what MASK selects of SOURCE into TARGET, and let the model blend it in.

    All three have the same size, so move and scale the content in SOURCE to where it is to appear. MASK is white where
    SOURCE is to show (128 of 255 or more), in any shape; what is transparent in SOURCE is left out. OUT equals TARGET
    beyond 6 pixels outside of the mask, and keeps TARGET's colour profile, alpha and metadata. PNG, JPEG, WebP, TIFF,
    GIF, BMP and AVIF are read. OUT replaces an existing file, but never an input. One input may be -, standard input,
    and OUT may be -, standard output.

    Exit status: 0 success, 1 something failed, 2 wrong usage, 130 interrupted (128 + the number of any other signal).

    \b
    Examples:
      srflow-transfer portrait.png other.png mask.png -o both.png
      srflow-transfer upscaled.png photo.png mask.png -o best.png --lr small.png --blend none
      srflow-transfer portrait.png other.png mask.png -o both.png --tau 1=0.9,2=0.9
      draw-mask | srflow-transfer portrait.png other.png - -o - --format jpg > both.jpg
    """
    with exit_statuses(), ExitStack() as stack, command_line.display(quiet=machine.quiet) as display:
        command_line.fail_if_absent([path for path in (target, source, mask, lr) if path is not None], needed="all")
        from srflow_apps.batch.jobs import FolderFile, Job
        from srflow_apps.batch.models import refuse_auto
        from srflow_apps.batch.pipes import STANDARD, open_pipes
        from srflow_apps.batch.run_command import FAILED
        from srflow_apps.batch.storage import make_folders
        from srflow_sdk.errors import ArgumentError, ImageError
        from srflow_sdk.files import WriteOptions
        from srflow_sdk.flow.transfer_options import TransferOptions
        from srflow_sdk.flow.transferring import transfer_file
        from srflow_sdk.model.bundle import Bundle
        from srflow_sdk.system.interrupts import STOPPING, deferred_interrupts
        from srflow_sdk.upscaler import Upscaler

        refuse_auto(model, "srflow-transfer")
        options = TransferOptions(tau=tau, blend=blend, seed=seed)  # a wrong one is said before the model is loaded
        piped = [str(path) for path in (target, source, mask, lr) if path == Path(STANDARD)]
        if len(piped) > 1:
            raise ArgumentError("- is standard input, one picture; name files for the other inputs")
        if format is not None and output != Path(STANDARD):
            raise ArgumentError("--format is for -o -; the ending of OUT is its format")
        ending = f".{format or 'png'}"
        pipes = stack.enter_context(open_pipes(piped, str(output), ending=ending, max_pixels=machine.max_pixels))
        if piped:
            (sent,) = pipes.inputs
            target, source, mask = (sent if path == Path(STANDARD) else path for path in (target, source, mask))
            lr = sent if lr == Path(STANDARD) else lr
        output = Path(pipes.output)
        display.in_words = pipes.in_words
        display.shows_names &= pipes.target is None
        bundle = Bundle.embedded() if model is None else Bundle.open(model)
        job = Job(source=target, targets=(output,), name=PurePosixPath(target.name))
        with (
            Upscaler(
                bundle,
                device=machine.device,
                tile=machine.tile,
                threads=machine.threads,
                precision=machine.precision,
            ) as upscaler,
            deferred_interrupts(*STOPPING) as interrupts,
            display.progress([job], max_pixels=machine.max_pixels, check=interrupts),
        ):

            def progressed(done: int, total: int) -> None:
                interrupts()
                display.progressed(1, done, total)

            try:
                transfer_file(
                    upscaler._painter,
                    target,
                    source,
                    mask,
                    output,
                    lr=lr,
                    options=dataclasses.replace(options, progress=progressed),
                    writing=WriteOptions(max_pixels=machine.max_pixels, quality=quality, lossless=lossless),
                    before_writing=lambda: make_folders([output.parent]),
                )
            except ImageError as error:
                raise ImageError(pipes.in_words(str(error))) from error
            display.finished(1, FolderFile(source=target, targets=(output,), status="done"))
        if display.names_lost:
            sys.exit(FAILED)
        pipes.send()


if __name__ == "__main__":
    transfer()
