"""The commands srflow-upscale, srflow-restore and srflow-doctor: their options and exit statuses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from srflow_apps.commands import command_line, file_options
from srflow_apps.commands.base_command import Command, NameOrPath, fail
from srflow_apps.commands.command_line import exit_statuses, temperature
from srflow_apps.commands.file_options import SETTINGS
from srflow_sdk._version import __version__
from srflow_sdk.errors import ArgumentError

if TYPE_CHECKING:
    from srflow_apps.batch.choices import FileChoices, MachineChoices


def _list_models(context: click.Context, _: click.Parameter, value: bool) -> None:
    """Print the embedded models, one in a line, and exit."""
    if not value or context.resilient_parsing:
        return
    with exit_statuses():
        from srflow_sdk.model.model_choice import bundles_of

        for manifest in (bundle.manifest for bundle in bundles_of()):
            tau = f"{'auto ' if manifest.auto_tau else ''}{manifest.default_tau:g}"
            kind = "photographs as they come: noisy, compressed, a little blurred" * manifest.removes_damage
            click.echo(f"{manifest.name}  ×{manifest.scale}  tau {tau}  for {kind or 'clean photographs'}")
    context.exit()


@click.command(
    cls=Command,
    context_settings=SETTINGS,
    groups={
        "Options that most people need": "output model tau samples scale max_size recursive format resume dry_run",
        "Pictures": "models seed sample consistent interval value_range size reduction linear_light from_output",
        "Clips": "latents codec",
        "Files": f"frame {file_options.FILES}",
        "Machines": f"{file_options.MACHINES} server {file_options.RAY}",
    },
)
@file_options.INPUTS
@file_options.OUTPUT
@click.option(
    "--model",
    metavar="auto|NAME|BUNDLE",
    type=NameOrPath(),
    help="Model; auto: what suits each photo.  [default: auto]",
)
@click.option(
    "--models",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_models,
    help="List the embedded ones.",
)
@click.option(
    "--tau",
    type=temperature,
    metavar="auto|T",
    help="Temperature: 0 is smooth, larger is sharper; auto: less on flat areas.  [default: the model's]",
)
@file_options.seed("Same seed, same picture.")
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Pictures per input.")
@click.option("--sample", type=click.IntRange(min=0), default=0, show_default=True, help="Number of the first picture.")
@click.option("--consistent", is_flag=True, help="Make outputs reduce to their inputs again, as far as possible.")
@click.option(
    "--interval",
    type=float,
    metavar="COVERAGE",
    help="Also write _low and _high: what this share of pixels lies in.",
)
@click.option(
    "--range",
    "value_range",
    nargs=2,
    metavar="LOW HIGH",
    help="Values of a TIFF that are black and white, or 1% 99%.",
)
@command_line.size_options
@click.option(
    "--latents",
    metavar="motion|screen|fresh",
    type=click.Choice(("motion", "screen", "fresh")),
    help="How detail goes on; a folder is one clip.  [default: motion]",
)
@click.option("--codec", metavar="NAME", help="FFmpeg's encoder.  [default: libx264; .webm: libvpx-vp9]")
@file_options.file_options
@file_options.machine_options
@click.option(
    "--server",
    metavar="URL",
    help="A Triton server draws: HOST:PORT. --model is then a name there.",
)
@click.version_option(__version__, prog_name="srflow-upscale")
@click.pass_context
def upscale(
    context: click.Context,
    /,
    inputs: tuple[str, ...],
    output: str | None,
    model: str | None,
    samples: int,
    files: FileChoices,
    machine: MachineChoices,
    server: str | None,
    interval: float | None,
    latents: Any,
    codec: str | None,
    **drawing: Any,
) -> None:
    """Enlarge photos, PNG, JPEG, WebP, TIFF, GIF, BMP or AVIF, folders of them, and clips.

    For one INPUT, OUT is a file (.png, .jpg, .webp, .tif …). For several, for a folder, or if OUT has no ending, it is
    a directory, made if needed, where photo.jpg becomes photo.png. With --samples 3 the names end in _s0, _s1, _s2;
    --name takes {stem}, {ending}, {scale}, {sample}, {seed}, {tau}, {model}. Outputs replace existing files, but never
    inputs. Without -o, photo.jpg becomes photo_x4.png beside it, photos becomes photos_x4, and nothing is replaced. For
    one picture, INPUT may be - for standard input, and OUT - for standard output. INPUT, OUT and the report may be
    URLs, such as s3://bucket/photos: pip install "srflow-sdk[cloud]".

    A clip, also a folder of frames or YUV4MPEG2 in a pipe, needs pip install "srflow-sdk[video]".

    The names of finished files go to standard output. One bad INPUT does not stop the others; a full disk does. After
    Ctrl-C, or after a crash, the same command with --resume keeps the finished files and makes the others; one that
    was not finished begins again. --dry-run says how long it takes.

    Exit status: 0 success, 1 something failed, 2 wrong usage, 130 interrupted (128 + the number of any other signal).

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
    with exit_statuses():
        _check_inputs(context, inputs, files)
        from srflow_apps.batch.command import run_command
        from srflow_apps.batch.operations import Upscaling
        from srflow_sdk.drawing.options import DrawOptions

        if _are_clips(context, inputs, output):
            from srflow_apps.clips.command import run_clips

            run_clips(inputs, output, DrawOptions(**drawing), latents, model, codec, files, machine)
            return
        if files.from_output is not None:
            _refuse_chosen(context, *drawing, "samples", "interval", "size", "max_size")
        if interval is not None and (samples > 1 or output == "-"):
            raise ArgumentError("--interval writes three files of each input; leave out --samples and -o -")
        if drawing["value_range"] is not None:
            _refuse(context, "dry_run", "frame", "interval", why="with --range")
        if server is not None:
            _refuse(context, "device", "threads", "precision", why="with --server: the server has its own")
        run_command(
            Upscaling(options=DrawOptions(**drawing), interval=interval),
            inputs,
            output,
            model=model,
            files=files,
            machine=machine,
            samples=samples,
            server=server,
        )


@click.command(
    cls=Command,
    context_settings=SETTINGS,
    groups={
        "Options that most people need": "output model tau over recursive format resume dry_run",
        "Pictures": "enlarge seed from_output",
        "Files": f"frame {file_options.FILES}",
        "Machines": f"{file_options.MACHINES} {file_options.RAY}",
    },
)
@file_options.INPUTS
@file_options.OUTPUT
@file_options.MODEL
@click.option(
    "--tau", type=float, metavar="T", help="How large latents may be: smaller is smoother.  [default: as measured]"
)
@click.option(
    "--over",
    type=click.Choice(("auto", "spatial", "local", "global")),
    default="auto",
    show_default=True,
    help="spatial: noise everywhere; local: dots and scratches; auto: what the picture shows.",
)
@click.option("--enlarge", is_flag=True, help="Enlarge small latents, too, as the publication does: rarely better.")
@file_options.seed("Of --enlarge: same seed, same picture.")
@file_options.file_options
@file_options.machine_options
@click.version_option(__version__, prog_name="srflow-restore")
@click.pass_context
def restore(
    context: click.Context,
    /,
    inputs: tuple[str, ...],
    output: str | None,
    model: str | None,
    files: FileChoices,
    machine: MachineChoices,
    **restoring: Any,
) -> None:
    """Remove noise, dots and scratches from photos, and from folders of them. Their size stays.

    The noise of a camera goes, and so do salt and pepper. Blur and the blocks of a JPEG stay, and a photo without noise
    comes back as it was. The model must have an inverter.

    For one INPUT, OUT is a file (.png, .jpg, .webp, .tif …). For several, for a folder, or if OUT has no ending, it is
    a directory, made if needed, where photo.jpg becomes photo.png; --name takes {stem}, {ending}, {seed}, {tau},
    {model}. Outputs replace existing files, but never inputs. Without -o, photo.jpg becomes photo_restored.png beside
    it, a folder photos becomes photos_restored, and nothing is replaced. For one picture, INPUT may be - for standard
    input, and OUT - for standard output.

    The names of finished files go to standard output. One bad INPUT does not stop the others; a full disk does. After
    Ctrl-C, or after a crash, the same command with --resume keeps the finished files and makes the others.

    Exit status: 0 success, 1 something failed, 2 wrong usage, 130 interrupted (128 + the number of any other signal).

    \b
    Examples:
      srflow-restore noisy.jpg -o clean.png
      srflow-restore noisy.jpg -o clean.png --tau 0.7      smoother
      srflow-restore scan.png -o clean.png --over local    dots, dust and scratches
      srflow-restore photos -o clean --recursive --resume
      srflow-restore --from-output clean.png -o again.png
    """
    with exit_statuses():
        _check_inputs(context, inputs, files)
        from srflow_apps.batch.command import run_command
        from srflow_apps.batch.operations import Restoring
        from srflow_sdk.flow.options import RestoreOptions

        if files.from_output is not None:
            _refuse_chosen(context, *restoring)
        options = RestoreOptions(**restoring)
        run_command(Restoring(options=options), inputs, output, model=model, files=files, machine=machine)


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

        from srflow_apps.doctor.examination import as_data, basics_work, examine

        width = shutil.get_terminal_size((118, 24)).columns
        checks = []
        for check in examine():
            checks.append(check)
            if not as_json:
                click.echo(check.lines(width=width))
        if as_json:
            click.echo(json.dumps(as_data(checks), indent=2))
        if not basics_work(checks):
            fail("upscaling does not work here; the lines marked 'problem' say why")


def _are_clips(context: click.Context, inputs: tuple[str, ...], output: str | None) -> bool:
    """True if the inputs are clips, by their names, by the first bytes of a pipe, or because an option says so.

    Raises: ArgumentError for pictures among them, and for options that are not for clips.
    """
    from srflow_apps.clips.reading import is_clip, is_piped_clip

    chosen = [f"--{name}" for name in ("latents", "codec") if context.params[name] is not None]
    clips = [path for path in inputs if is_clip(Path(path)) or (path == "-" and is_piped_clip())]
    if not clips and not chosen and not ("-" in inputs and is_clip(Path(output or ""))):
        return False
    folders = [path for path in inputs if "--latents" in chosen and Path(path).is_dir()]
    for path in inputs:
        if path not in [*clips, *folders]:
            why = f"{chosen[0]} is for clips" if chosen else "another INPUT is"
            if path == "-":
                raise ArgumentError("- is no YUV4MPEG2; make it so: ffmpeg -i clip.mp4 -f yuv4mpegpipe - | …")
            raise ArgumentError(f"{path} is not a clip, and {why}; upscale it by a command of its own")
    refused = ["samples", "interval", "value_range", "from_output", "server", "name", "frame", "report", "recursive"]
    refused += ["shard", "ray"] if folders else ["format", "lossless"]
    pipe = "-" in (*inputs, output)
    _refuse(
        context,
        *refused,
        *(["resume", "shard", "ray", "dry_run"] if pipe else []),
        why="with a clip" + " in a pipe" * pipe,
    )
    return True


def _check_inputs(context: click.Context, inputs: tuple[str, ...], files: FileChoices) -> None:
    """Fail at once without an input, or if none exists: but a cluster may see others, and a report tells of each."""
    if not inputs and files.from_output is None:
        raise click.MissingParameter(ctx=context, param_hint="'INPUT...'", param_type="argument")
    if "" in inputs:  # such as that of an unset variable
        raise click.UsageError('an INPUT is empty; name a file or a folder ("." is the current one)', context)
    if files.ray is None and files.report is None:
        command_line.fail_if_absent(inputs)


def _refuse_chosen(context: click.Context, *names: str) -> None:
    """Raises: ArgumentError if one of these options was chosen beside --from-output."""
    why = "with --from-output: the picture says how it was made"
    _refuse(context, *names, *file_options.MADE_FROM_FILES, why=why)


def _refuse(context: click.Context, *names: str, why: str) -> None:
    """Raises: ArgumentError if one of these options was chosen."""
    options = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    for name in names:
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise ArgumentError(f"{options[name]} cannot be chosen {why}")


if __name__ == "__main__":
    upscale()
