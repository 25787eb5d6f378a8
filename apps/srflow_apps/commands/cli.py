"""The commands srflow-upscale, srflow-restore, srflow-transfer and srflow-doctor: options and exit
statuses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import click

from srflow_apps.batch.choices import Choices, FileChoices, MachineChoices
from srflow_apps.commands.base_command import (
    SETTINGS,
    Command,
    LocalPath,
    NameOrPath,
    exit_statuses,
    fail,
)
from srflow_apps.commands.options import HEADINGS, Size, heading_of, options_of
from srflow_sdk import __version__
from srflow_sdk.drawing.options import DrawOptions, option
from srflow_sdk.errors import ArgumentError
from srflow_sdk.flow.options import RestoreOptions, TransferOptions
from srflow_sdk.geometry.sizes import OutputSize

_ONE_TARGET = ("from_output", "ray", "recursive", "shard")  # what srflow-transfer has no use for
_OUTPUT = click.Option(
    ["-o", "--output"],
    metavar="OUT",
    type=click.Path(),
    help="File or directory to write.  [default: beside the INPUT]",
)


_OF_MANY = """\
    The names of finished files go to standard output. One bad INPUT does not stop the others; a
    full disk does. After Ctrl-C, or after a crash, the same command with --resume keeps the
    finished files and makes the others; one that
    was not finished begins again.

"""
_EXIT_STATUS = """\
    Exit status: 0 success, 1 something failed, 2 wrong usage, 130 interrupted (128 + the number of
    any other signal).

"""  # before the examples in the help
_INPUTS = click.Argument(
    ["inputs"], nargs=-1, metavar="[INPUT]...", type=click.Path(readable=False)
)
_ONE_MODEL = "NAME|BUNDLE", "An embedded model, or a bundle.  [default: x4-small]"


def _make_command(
    name: str,
    options: type[Any],
    model: tuple[str, str],
    *,
    arguments: Sequence[click.Argument] = (_INPUTS,),
    more: Sequence[click.Option] = (),
    leave: Sequence[str] = (),
) -> Callable[[Callable[..., None]], Command]:
    """Make a command of a function that does an operation to picture files.

    Its options are -o, --model, the fields of `options`, FileChoices and MachineChoices, which the
    function gets as Choices, and `more`. Of `more` and `arguments`, each is an argument of it.
    model: the metavar and the help. leave: fields without an option.
    """
    parts = {
        "options": options_of(options, "Pictures"),
        "files": options_of(FileChoices, "Files", leave=leave),
        "machine": options_of(MachineChoices, "Machines"),
    }
    model_option = click.Option(["--model"], metavar=model[0], type=NameOrPath(), help=model[1])
    every = [
        _OUTPUT,
        model_option,
        *parts["options"],
        *more,
        *parts["machine"],
        *parts["files"],
    ]
    every.sort(key=lambda each: HEADINGS.index(heading_of(each)))

    def decorate(function: Callable[..., None]) -> Command:
        def callback(**values: Any) -> None:
            with exit_statuses():
                chosen = {
                    part: {str(each.name): values.pop(str(each.name)) for each in those}
                    for part, those in parts.items()
                }
                choices = Choices(
                    options=chosen["options"],
                    output=values.pop("output"),
                    model=values.pop("model"),
                    files=FileChoices(**chosen["files"]),
                    machine=MachineChoices(**chosen["machine"]),
                )
                function(choices, **values)

        before_examples = f"{_OF_MANY}{_EXIT_STATUS}" if _INPUTS in arguments else _EXIT_STATUS
        command = Command(
            name,
            params=[*arguments, *every],
            callback=callback,
            help=(function.__doc__ or "").replace("    \b\n", f"{before_examples}    \b\n"),
            context_settings=SETTINGS,
            groups={
                heading: " ".join(str(each.name) for each in every if heading_of(each) == heading)
                for heading in HEADINGS
            },
        )
        return click.version_option(__version__, prog_name=name)(command)

    return decorate


_Latents = Literal["motion", "screen", "fresh"]


@dataclass(frozen=True, kw_only=True)
class _UpscaleChoices:
    """The options that srflow-upscale alone has, besides those of drawing."""

    models: bool = option(False, "List the embedded ones.")
    samples: int = option(1, "Pictures per input.", least=1, most=True)
    max_size: int | None = option(
        None, "Longer side of outputs, at most.", metavar="N", least=1, most=True
    )
    interval: float | None = option(
        None, "Also write _low and _high: what this share of pixels lies in.", metavar="COVERAGE"
    )
    tau_map: Path | None = option(
        None,
        "A picture: black adds nothing to the photo, white all of tau, gray a part.",
        metavar="MASK",
    )
    size: Size | None = option(
        None, "Size: 3840x is a width, x2160 a height; 3840x2160 fits within.", metavar="WxH"
    )
    latents: _Latents | None = option(
        None,
        "How detail goes on.  [default: motion]",
        metavar="motion|screen|fresh",
        heading="Clips",
    )
    codec: str | None = option(
        None,
        "FFmpeg's encoder.  [default: libx264; .webm: libvpx-vp9]",
        metavar="NAME",
        heading="Clips",
    )
    server: str | None = option(
        None,
        "A Triton server draws: HOST:PORT. --model is then a name there.",
        metavar="URL",
        heading="Machines",
    )


@_make_command(
    "srflow-upscale",
    DrawOptions,
    ("auto|NAME|BUNDLE", "Model; auto: what suits each photo.  [default: auto]"),
    more=options_of(_UpscaleChoices, "Pictures"),
)
def upscale(choices: Choices, *, inputs: tuple[str, ...], **more: Any) -> None:
    """Enlarge photos, PNG, JPEG, WebP, TIFF, GIF, BMP or AVIF, folders of them, animations and
    clips.

    For one INPUT, OUT is a file (.png, .jpg, .webp, .tif …). For several, for a folder, or if OUT
    has no ending, it is a directory, made if needed, where photo.jpg becomes photo.png. With
    --samples 3 the names end in _s0, _s1, _s2;
    --name takes {stem}, {ending}, {scale}, {sample}, {seed}, {tau}. Outputs replace existing files,
    but never inputs. Without -o, photo.jpg becomes photo_x4.png beside it, photos becomes
    photos_x4, and nothing is replaced. For one picture, INPUT may be - for standard input, and OUT
    - for standard output. INPUT, OUT and the report may be URLs, such as s3://bucket/photos: pip
    install "srflow-sdk[cloud]".

    An animated GIF, WebP or PNG becomes one of its kind. It and a clip need pip install
    "srflow-sdk[video]".

    \b
    Examples:
      srflow-upscale photo.jpg                             photo_x4.png
      srflow-upscale photo.jpg --tau 0                     the smooth, most faithful answer
      srflow-upscale photo.jpg --samples 4                 photo_x4_s0.png … photo_x4_s3.png
      srflow-upscale photo.jpg --scale 2                   or --size 3840x, or --max-size 4096
      srflow-upscale photos -o large --recursive --resume --report large.json
      srflow-upscale s3://bucket/photos -o s3://bucket/large --resume --ray auto
      srflow-upscale clip.mp4                              clip_x4.mp4, with its sound
    """
    files = choices.files
    options = choices.options
    own = _UpscaleChoices(**more)
    if own.models:
        _list_models()
        return
    largest = None if own.max_size is None else OutputSize(max_side=own.max_size)
    sizes = [value for value in (options["scale"], own.size, largest) if value is not None]
    if len(sizes) > 1:
        raise click.UsageError(
            "--scale, --size and --max-size all set the size; choose one of them"
        )
    draw = DrawOptions(**{**options, "scale": sizes[0] if sizes else None})
    from srflow_apps.clips.files import CLIPS

    pictures = [path for path in inputs if Path(path).suffix.lower() not in CLIPS]
    if len(pictures) < len(inputs):
        _upscale_clips(inputs, pictures, choices, draw, own)
        return
    if own.latents is not None or own.codec is not None:
        raise ArgumentError("--latents and --codec are for clips, and no INPUT is a clip")
    if files.from_output is not None:
        _refuse_chosen(*options, "samples", "interval", "size", "max_size", "tau_map")
    if draw.value_range is not None:
        _refuse("dry_run", "interval", "tau_map", why="with --range")
    if own.tau_map is not None:
        _refuse("resume", why="with --tau-map: outputs do not say with which mask they were made")
    if own.server is not None:
        _refuse("device", "threads", "precision", why="with --server: the server has its own")
    from srflow_apps.batch.command import run_command
    from srflow_apps.batch.operations import Upscaling, read_mask

    mask = None if own.tau_map is None else read_mask(own.tau_map)
    upscaling = Upscaling(options=draw, interval=own.interval, tau_map=own.tau_map, mask=mask)
    run_command(upscaling, inputs, choices, samples=own.samples, server=own.server)


@_make_command("srflow-restore", RestoreOptions, _ONE_MODEL)
def restore(choices: Choices, *, inputs: tuple[str, ...]) -> None:
    """Remove noise and dots from photos, and from folders of them. Their size stays.

    The noise of a camera goes, and so do salt and pepper. Blur, scratches and the blocks of a JPEG
    stay, and a photo without noise comes back as it was. The model must have an inverter.

    INPUT and OUT are as for srflow-upscale; --name takes {stem}, {ending}, {tau}. Without -o,
    photo.jpg becomes photo_restored.png beside it, a folder photos becomes photos_restored, and
    nothing is replaced.

    \b
    Examples:
      srflow-restore noisy.jpg -o clean.png
      srflow-restore noisy.jpg -o clean.png --tau 0.7      smoother
      srflow-restore scan.png -o clean.png --over local    dots, however few
      srflow-restore photos -o clean --recursive --resume
      srflow-restore --from-output clean.png -o again.png
    """
    if choices.files.from_output is not None:
        _refuse_chosen(*choices.options)
    from srflow_apps.batch.command import run_command
    from srflow_apps.batch.operations import Restoring

    run_command(Restoring(options=RestoreOptions(**choices.options)), inputs, choices)


_LR = click.Option(
    ["--lr"],
    type=LocalPath(),
    metavar="FILE",
    help="The true LR image of TARGET, if TARGET was upscaled from one.",
)


@_make_command(
    "srflow-transfer",
    TransferOptions,
    _ONE_MODEL,
    arguments=[click.Argument([name], type=LocalPath()) for name in ("target", "source", "mask")],
    more=[_LR],
    leave=_ONE_TARGET,
)
def transfer(choices: Choices, *, target: Path, source: Path, mask: Path, lr: Path | None) -> None:
    """Put what MASK selects of SOURCE into TARGET, and let the model blend it in.

    All three have the same size, so move and scale the content in SOURCE to where it is to appear.
    MASK is white where SOURCE is to show (128 of 255 or more), in any shape; what is transparent in
    SOURCE is left out. OUT equals TARGET beyond 6 pixels outside of the mask, and keeps TARGET's
    colour profile, alpha and metadata. PNG, JPEG, WebP, TIFF, GIF, BMP and AVIF are read. OUT
    replaces an existing file, but never an input; without -o, portrait.png becomes
    portrait_transferred.png beside it. The name of the finished file goes to standard output. One
    input may be -, standard input, and OUT may be -, standard output.

    \b
    Examples:
      srflow-transfer portrait.png other.png mask.png -o both.png
      srflow-transfer upscaled.png photo.png mask.png -o best.png --lr small.png --blend none
      srflow-transfer portrait.png other.png mask.png -o both.png --tau 1=0.9,2=0.9
      draw-mask | srflow-transfer portrait.png other.png - -o - --format jpg > both.jpg
    """
    others = {"source": source, "mask": mask}
    if lr is not None:
        others["lr"] = lr
    from srflow_apps.batch.command import STANDARD, read_standard_input, run_command
    from srflow_apps.batch.operations import Transferring

    chosen = TransferOptions(**choices.options)  # a wrong one is said before the model is loaded
    piped = [what for what, path in others.items() if path == Path(STANDARD)]
    for what, path in others.items():
        if path.is_dir():
            raise ArgumentError(
                f"{path} is a folder, and {what.upper()} is one picture; name a file"
            )
    if len(piped) + (target == Path(STANDARD)) > 1:
        raise ArgumentError("- is standard input, one picture; name files for the other inputs")
    with (
        read_standard_input(choices.machine.max_pixels)
        if piped
        else contextlib.nullcontext() as sent
    ):
        others.update((what, cast("Path", sent)) for what in piped)
        run_command(Transferring(options=chosen, **others), [str(target)], choices)


@click.command(cls=Command, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="srflow-doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def doctor(*, as_json: bool) -> None:
    """Show what this machine can run, why the rest does not work, and the commands that fix it.

    Exit status: 0 if upscaling on the CPU works, 1 if not.
    """
    with exit_statuses():
        import json
        import shutil

        from srflow_apps.doctor.examination import basics_work, examine

        width = shutil.get_terminal_size((118, 24)).columns
        checks = []
        for check in examine():
            checks.append(check)
            if not as_json:
                click.echo(check.lines(width=width))
        if as_json:
            report = {"works": basics_work(checks), "checks": [each.to_data() for each in checks]}
            click.echo(json.dumps(report, indent=2))
        if not basics_work(checks):
            fail("upscaling does not work here; the lines marked 'problem' say why")


def _list_models() -> None:
    """Print the embedded models, one in a line."""
    from srflow_sdk.model.model_choice import bundles_of

    for manifest in (bundle.manifest for bundle in bundles_of()):
        tau = f"{'auto ' if manifest.auto_tau else ''}{manifest.default_tau:g}"
        kind = "clean photographs"
        if manifest.removes_damage:
            kind = "photographs as they come: noisy, compressed, a little blurred"
        click.echo(f"{manifest.name}  ×{manifest.scale}  tau {tau}  for {kind}")


def _upscale_clips(
    inputs: Sequence[str],
    pictures: Sequence[str],
    choices: Choices,
    draw: DrawOptions,
    own: _UpscaleChoices,
) -> None:
    """Enlarge clips. Raises: ArgumentError for pictures among them, and for options of pictures."""
    if pictures:
        raise ArgumentError(
            f"{pictures[0]} is not a clip, and another INPUT is; upscale it by a command of its own"
        )
    refused = [
        "samples",
        "interval",
        "value_range",
        "from_output",
        "server",
        "ray",
        "name",
        "report",
    ]
    _refuse(
        *refused, "wrap", "tau_map", "recursive", "shard", "format", "lossless", why="with a clip"
    )
    from srflow_apps.clips.command import run_clips

    run_clips(inputs, choices, draw, latents=own.latents, codec=own.codec)


def _refuse_chosen(*names: str) -> None:
    """Raises: ArgumentError if one of these options was chosen beside --from-output."""
    why = "with --from-output: the picture says how it was made"
    _refuse(*names, "tile", "precision", "recursive", "shard", why=why)


def _refuse(*names: str, why: str) -> None:
    """Raises: ArgumentError if one of these options was chosen."""
    context = click.get_current_context()
    options = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    for name in names:
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise ArgumentError(f"{options[name]} cannot be chosen {why}")


if __name__ == "__main__":
    upscale()
