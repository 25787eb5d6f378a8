"""The commands srflow-upscale and srflow-doctor: their options and exit statuses."""

from __future__ import annotations

import sys

try:
    import contextlib
    import dataclasses
    import signal
    from pathlib import Path
    from typing import TYPE_CHECKING, Any, get_args

    import click

    from srflow_sdk import _command_line
    from srflow_sdk._command_line import (
        BY_SIGNAL,
        FAILED,
        Command,
        CountParameter,
        ShardParameter,
        TauParameter,
        TileParameter,
        exit_statuses,
        fail,
    )
    from srflow_sdk._device_names import Device
    from srflow_sdk._system.interrupts import STOPPING, deferred_interrupts, raised_interrupts
    from srflow_sdk._version import __version__
    from srflow_sdk.errors import ArgumentError
except KeyboardInterrupt:  # there is no command yet that could catch it
    sys.exit(130)

if TYPE_CHECKING:
    from srflow_sdk._batch.display import Display
    from srflow_sdk._batch.jobs import FolderResult, Settings
    from srflow_sdk._batch.pipes import Pipes
    from srflow_sdk._batch.plan import Plan
    from srflow_sdk._batch.planning import Shard
    from srflow_sdk.bundle import Bundle
    from srflow_sdk.upscaler import Upscaler

_FORMATS = ("png", "jpg", "webp", "tif", "avif")  # the first is the default
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_SIZE = ("scale", "size", "max_size", "reduction", "linear_light")
_FIXED_BY_THE_PICTURE = ("tau", "seed", "sample", "samples", "consistent", "tile", "recursive", "shard", *_SIZE)


@click.command(cls=Command, context_settings=_SETTINGS)
@click.argument("inputs", nargs=-1, metavar="[INPUT]...", type=click.Path(readable=False))
@click.option(
    "-o", "--output", required=True, metavar="OUT", type=click.Path(), help="File or directory to write; see above."
)
@click.option(
    "--model", metavar="BUNDLE", type=click.Path(path_type=Path), help="Model to use.  [default: the embedded ×4 model]"
)
@click.option(
    "--tau",
    type=TauParameter(),
    metavar="auto|T",
    help="Temperature: 0 is smooth, larger is sharper; auto: less on text and flat areas.  [default: the model's]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same picture.")
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Pictures per input.")
@click.option("--sample", type=click.IntRange(min=0), default=0, show_default=True, help="Number of the first picture.")
@click.option(
    "--consistent", is_flag=True, help="Make each output reduce to its input again, as far as any picture can."
)
@_command_line.size_options
@click.option("--recursive", is_flag=True, help="Include subfolders; OUT gets the same ones.")
@click.option("--name", metavar="PATTERN", help="File names in OUT.  [default: {stem}.png or {stem}_s{sample}.png]")
@click.option("--format", type=click.Choice(_FORMATS), help="Format of outputs in a directory and on standard output.")
@click.option("--quality", type=click.IntRange(1, 100), help="Of JPEG, WebP and AVIF.  [default: 95; AVIF: 85]")
@click.option("--lossless", is_flag=True, help="Keep every visible pixel of WebP and AVIF, as PNG and TIFF do.")
@click.option("--resume", is_flag=True, help="Skip inputs whose outputs exist, made from them with these settings.")
@click.option("--no-overwrite", is_flag=True, help="Skip inputs with an output that exists, whatever is in it.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, how long it would take, and write nothing.")
@click.option("--shard", type=ShardParameter(), help="Process only part I of N of the inputs, one part per machine.")
@click.option("--report", metavar="FILE.json", type=click.Path(path_type=Path), help="Write a report, with PSNRs.")
@click.option("--from-output", metavar="SR", type=click.Path(path_type=Path), help="Make this picture again.")
@click.option(
    "--tile",
    type=TileParameter(),
    metavar="auto|N|none",
    default="auto",
    show_default=True,
    help="Side of a tile in input pixels; smaller tiles need less memory.",
)
@click.option("--max-pixels", type=CountParameter(), default="100M", show_default=True, help="Refuse larger inputs.")
@click.option(
    "--device",
    type=click.Choice(get_args(Device)),
    default="auto",
    show_default=True,
    help="auto: a GPU if one really works, otherwise the CPU; srflow-doctor shows what works.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: one per core]")
@click.option("--quiet", is_flag=True, help="Print only warnings and errors.")
@click.version_option(__version__, prog_name="srflow-upscale")
@click.pass_context
def upscale(
    context: click.Context,
    inputs: tuple[str, ...],
    output: str,
    model: Path | None,
    tau: Any,
    seed: int,
    samples: int,
    sample: int,
    consistent: bool,
    scale: Any,
    reduction: Any,
    linear_light: bool,
    recursive: bool,
    name: str | None,
    format: Any,
    quality: int | None,
    lossless: bool,
    resume: bool,
    no_overwrite: bool,
    dry_run: bool,
    shard: Shard | None,
    report: Path | None,
    from_output: Path | None,
    tile: Any,
    max_pixels: int,
    device: Any,
    threads: int | None,
    quiet: bool,
) -> None:
    """Enlarge photos: PNG, JPEG, WebP, TIFF, GIF, BMP or AVIF, and folders of them.

    For one INPUT, OUT is a file (.png, .jpg, .webp, .tif …). For several, for a folder, or if OUT has no ending, it is
    a directory, made if needed, where photo.jpg becomes photo.png. With --samples 3 the names end in _s0, _s1, _s2;
    --name takes {stem}, {ending}, {scale}, {sample}, {seed}, {tau}, {model}. Outputs replace existing files, but never
    inputs. For one picture, INPUT may be - for standard input, and OUT - for standard output.

    The names of finished files go to standard output. One bad INPUT does not stop the others; a full disk does. After
    Ctrl-C, or after a crash, the same command with --resume keeps the finished files and makes the others; a picture
    that was not finished begins again. --dry-run says how long everything takes on this machine. With the embedded
    model, two cores of an AMD EPYC upscale about 1.2 megapixels of input in a minute.

    Exit status: 0 success, 1 something failed, 2 wrong usage, 130 interrupted (128 + the number of any other signal).

    \b
    Examples:
      srflow-upscale photo.jpg -o large.png
      srflow-upscale photo.jpg -o large.png --tau 0        the smooth, most faithful answer
      srflow-upscale photo.jpg -o large.png --samples 4    large_s0.png … large_s3.png
      srflow-upscale photo.jpg -o large.png --scale 2      or --size 3840x, or --max-size 4096
      srflow-upscale photos -o large --recursive --resume --report large.json
      srflow-upscale photos -o large --recursive --dry-run
      srflow-upscale photos -o large --name "{stem}_x4.jpg" --shard 1/2
      srflow-upscale --from-output large.png -o again.png
      srflow-upscale - -o - --format jpg < photo.jpg > large.jpg
    """
    if not inputs and from_output is None:
        raise click.MissingParameter(ctx=context, param_hint="'INPUT...'", param_type="argument")
    with exit_statuses(), _command_line.display(quiet=quiet) as display, contextlib.ExitStack() as stack:
        from srflow_sdk._batch.jobs import Settings
        from srflow_sdk._batch.pipes import open_pipes
        from srflow_sdk._batch.plan import make_plan
        from srflow_sdk._batch.report import read_report, recorded_in
        from srflow_sdk._drawing.requests import DrawOptions
        from srflow_sdk.bundle import Bundle
        from srflow_sdk.upscaler import Upscaler

        ending = f".{format or _FORMATS[0]}"
        pipes = stack.enter_context(open_pipes(inputs, output, ending=ending, max_pixels=max_pixels))
        display.in_words = pipes.in_words
        display.shows_names &= pipes.target is None
        if pipes.target is not None and (samples > 1 or name is not None or shard is not None or dry_run):
            raise ArgumentError("-o - is standard output, one picture; leave out --samples, --name, --shard, --dry-run")
        pipes.check()
        bundle = Bundle.embedded() if model is None else Bundle.open(model)
        earlier = read_report(report) if report is not None and resume else None
        settings = Settings(
            draw=DrawOptions(
                tau=tau,
                seed=seed,
                sample=sample,
                consistent=consistent,
                scale=scale,
                reduction=reduction,
                linear_light=linear_light,
            ),
            report=report is not None,
            max_pixels=max_pixels,
            resume=resume,
            overwrite=not no_overwrite,
            quality=quality,
            lossless=lossless,
            recorded=recorded_in(earlier),
        )
        if from_output is not None:
            _refuse_chosen(context)
            source, settings, tile = _settings_of(from_output, pipes.inputs, settings, bundle)
            pipes = dataclasses.replace(pipes, inputs=(source,))
        plan = make_plan(
            pipes.inputs,
            pipes.output,
            manifest=bundle.manifest,
            settings=settings,
            samples=samples,
            name=name,
            format=format,
            recursive=recursive,
            shard=shard,
            report=report,
            keep=[] if from_output is None else [from_output],
        )
        _say_what_is_wrong(plan, display, shard)
        with Upscaler(bundle, device=device, tile=tile, threads=threads) as upscaler:
            if dry_run:
                _show(plan, upscaler, display)
                return
            result = _run(plan, upscaler, display, pipes=pipes, earlier=earlier)
        if result.count("failed") or display.names_lost:
            sys.exit(FAILED)
        pipes.send()


@click.command(cls=Command, context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="srflow-doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def doctor(*, as_json: bool) -> None:
    """Show what this machine can run, why the rest does not work, and the commands that fix it.

    Exit status: 0 if upscaling on the CPU works, 1 if not.
    """
    with exit_statuses():
        import json
        import shutil

        from srflow_sdk._doctor.examination import as_data, basics_work, examine, report

        width = shutil.get_terminal_size((118, 24)).columns
        checks = []
        for check in examine():
            checks.append(check)
            if not as_json:
                click.echo(report(check, width=width))
        if as_json:
            click.echo(json.dumps(as_data(checks), indent=2))
        if not basics_work(checks):
            fail("upscaling does not work here; the lines marked 'problem' say why")


def _refuse_chosen(context: click.Context) -> None:
    for name in _FIXED_BY_THE_PICTURE:
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            option = f"--{name.replace('_', '-')}"
            raise ArgumentError(f"{option} cannot be chosen with --from-output: the picture says how it was made")


def _settings_of(
    picture: Path, inputs: tuple[Path, ...], settings: Settings, bundle: Bundle
) -> tuple[Path, Settings, int | None]:
    """The input, settings and tile that an earlier output was made with."""
    from srflow_sdk._batch.remake import find_source, options_of, read_recipe

    recipe = read_recipe(picture, bundle)
    source = find_source(picture, recipe, inputs)
    return source, dataclasses.replace(settings, draw=options_of(recipe)), recipe.tile


def _say_what_is_wrong(plan: Plan, display: Display, shard: Shard | None) -> None:
    """Print what the plan leaves out; the command ends here if nothing is left."""
    from srflow_sdk._batch.finding import say_unread

    for file in plan.refused:
        display.say(f"error: {file.error}")
    if (line := say_unread(plan.unread)) is not None:
        display.say(f"warning: {line}")
    if not plan.all_jobs:
        sys.exit(FAILED)
    if shard is not None and not plan.jobs:
        display.tell(f"none of the {plan.all_jobs} inputs is in part {shard.index}/{shard.count}: nothing to do")


def _show(plan: Plan, upscaler: Upscaler, display: Display) -> None:
    from srflow_sdk._batch.preview import fails, preview

    failed = bool(plan.refused)
    with raised_interrupts(*STOPPING):
        for line in preview(plan, upscaler):
            if fails(line):
                failed = True
                display.say(line)
            else:
                display.answer(line)
    if failed:
        sys.exit(FAILED)


def _run(
    plan: Plan, upscaler: Upscaler, display: Display, *, pipes: Pipes, earlier: dict[str, Any] | None
) -> FolderResult:
    """Run the plan, and print and report what became of it."""
    from srflow_sdk._batch.folder import run_plan
    from srflow_sdk._batch.one_file import LOCAL
    from srflow_sdk._batch.plan import make_folders
    from srflow_sdk._batch.report import save_report
    from srflow_sdk._batch.running import in_this_process

    make_folders(plan, LOCAL)
    with deferred_interrupts(*STOPPING) as interrupts:
        with display.progress(plan.jobs, max_pixels=plan.settings.max_pixels, check=interrupts):
            result = run_plan(plan, in_this_process(upscaler), watcher=display, check=interrupts)
        advice = _how_to_continue(result)
        if advice is not None:
            display.say(advice)
        if plan.report is not None:
            given = pipes.as_given(result)
            save_report(plan.report, given, settings=plan.settings, upscaler=upscaler, earlier=earlier)
        if result.interrupted:
            sys.exit(BY_SIGNAL + (interrupts.number or signal.SIGINT))
    if advice is None and (result.total > 1 or result.count("skipped")):
        display.tell(str(result))
    return result


def _how_to_continue(result: FolderResult) -> str | None:
    """What to tell the user about a batch that did not finish. A picture begins again, so one alone has no --resume."""
    done = f"{result.total - result.remaining} of {result.total} done"
    if result.interrupted and result.total == 1:
        return "interrupted: nothing of the picture is kept; the same command begins it again"
    if result.interrupted:
        return f"interrupted: {done}; the same command with --resume keeps those and makes the others"
    if result.disk_full:
        again = "" if result.total == 1 else " with --resume"
        return f"stopped because the disk is full: {done}; free space, then run the same command{again}"
    return None


if __name__ == "__main__":
    upscale()
