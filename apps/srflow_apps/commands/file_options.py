"""The options that commands on picture files share, each defined once, and what a user chose with them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, get_args

import click

from srflow_apps.batch.choices import FORMATS, FileChoices, MachineChoices
from srflow_apps.commands.base_command import NameOrPath, PathOrUrl
from srflow_apps.commands.command_line import DeviceChoice, ReportParameter, count, shard, tile_size
from srflow_sdk.system.device_names import Precision

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""click's settings of every command."""

MADE_FROM_FILES = ("tile", "precision", "recursive", "shard")
"""Options of these groups that contradict --from-output, as their parameters are called."""

FILES = "name quality lossless overwrite shard report"
MACHINES = "device precision threads tile max_pixels"
RAY = "ray ray_workers ray_gpus"
"""The parameters of these options, for the groups of help."""

_Command = Callable[..., None]

INPUTS = click.argument("inputs", nargs=-1, metavar="[INPUT]...", type=click.Path(readable=False))
OUTPUT = click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=click.Path(),
    help="File or directory to write.  [default: beside the INPUT]",
)
MODEL = click.option(
    "--model", metavar="NAME|BUNDLE", type=NameOrPath(), help="An embedded model, or a bundle.  [default: x4-small]"
)
QUALITY = click.option(
    "--quality", type=click.IntRange(1, 100), help="Of lossy files.  [default: 95; AVIF: 85; clips: 67]"
)
LOSSLESS = click.option(
    "--lossless", is_flag=True, help="Keep every visible pixel of WebP and AVIF, as PNG and TIFF do."
)

_FILES = (
    click.option("--recursive", is_flag=True, help="Include subfolders; OUT gets the same ones."),
    click.option("--name", metavar="PATTERN", help="File names in OUT.  [default: {stem}.png]"),
    click.option(
        "--format", type=click.Choice(FORMATS), help="Format of outputs in a directory and on standard output."
    ),
    QUALITY,
    LOSSLESS,
    click.option("--resume", is_flag=True, help="Skip inputs with outputs made from them with these settings."),
    click.option(
        "--no-overwrite",
        "overwrite",
        is_flag=True,
        callback=lambda _context, _option, chosen: not chosen,
        help="Skip inputs whose output exists, of any contents.",
    ),
    click.option("--dry-run", is_flag=True, help="Say what would be done, how long it would take, and write nothing."),
    click.option(
        "--shard", type=shard, metavar="I/N", help="Process only part I of N of the inputs, one part per machine."
    ),
    click.option(
        "--report",
        metavar="FILE.json",
        type=ReportParameter(),
        help="Write a report, with PSNRs if enlarged.",
    ),
)
_ALSO_ELSEWHERE = (
    click.option("--frame", type=click.IntRange(min=1), metavar="N", help="Of an animation, or page of a TIFF."),
    click.option("--from-output", metavar="SR", type=PathOrUrl(), help="Make this picture again."),
    click.option(
        "--ray",
        metavar="auto|ADDRESS",
        help="Let a Ray cluster do it: this machine's, or that at host:port.",
    ),
    click.option(
        "--ray-workers", type=click.IntRange(min=1), help="Workers of --ray.  [default: as many as there is room for]"
    ),
    click.option(
        "--ray-gpus",
        type=click.FloatRange(min=0, max=64),
        metavar="F",
        help="GPUs of each worker.  [default: 1 if there are any]",
    ),
)
PRECISION = click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default="bundle",
    show_default=True,
    help="Lower precision is faster on some processors and changes the picture slightly; fastest: measured here, once.",
)
THREADS = click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: one per core]")
TILE = click.option(
    "--tile",
    type=tile_size,
    metavar="auto|N|none",
    default="auto",
    show_default=True,
    help="Side of a tile; smaller ones need less memory.",
)
DEVICE = click.option(
    "--device",
    type=DeviceChoice(),
    default="auto",
    show_default=True,
    help="auto: a GPU, or the CPU. cuda:1: GPU 1.",
)
_MACHINE = (
    TILE,
    click.option(
        "--max-pixels", type=count, metavar="N", default="100M", show_default=True, help="Refuse larger inputs."
    ),
    DEVICE,
    PRECISION,
    THREADS,
    click.option("--quiet", is_flag=True, help="Print only warnings and errors."),
)


def seed(text: str) -> Callable[[_Command], _Command]:
    """The option --seed. text: its help."""
    return click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help=text)


def file_options(command: _Command) -> _Command:
    """Add the options of :class:`FileChoices`, which the command gets as its argument `files`."""
    return _collected(command, "files", FileChoices, _FILES + _ALSO_ELSEWHERE)


def local_file_options(command: _Command) -> _Command:
    """As :func:`file_options`, without those for other machines and for making a picture again."""
    return _collected(command, "files", FileChoices, _FILES)


def machine_options(command: _Command) -> _Command:
    """Add the options of :class:`MachineChoices`, which the command gets as its argument `machine`."""
    return _collected(command, "machine", MachineChoices, _MACHINE)


def _collected(
    command: _Command, name: str, choices: type[Any], options: Sequence[Callable[[_Command], _Command]]
) -> _Command:
    fields = [field.name for field in dataclasses.fields(choices)]

    @functools.wraps(command)
    def with_choices(*arguments: Any, **keywords: Any) -> None:
        chosen = choices(**{field: keywords.pop(field) for field in fields if field in keywords})
        command(*arguments, **keywords, **{name: chosen})

    wrapped: _Command = with_choices
    for option in reversed(options):  # decorators apply from the last to the first
        wrapped = option(wrapped)
    return wrapped
