"""The commands srflow-upscale and srflow-doctor: their options and exit statuses."""

from __future__ import annotations

import sys

try:
    import contextlib
    import dataclasses
    import os
    import signal
    from collections import Counter
    from collections.abc import Sequence
    from pathlib import Path, PurePosixPath
    from typing import TYPE_CHECKING, Any, get_args

    import click

    from srflow_sdk import _command_line
    from srflow_sdk._command_line import (
        BY_SIGNAL,
        FAILED,
        Command,
        CountParameter,
        ShardParameter,
        TileParameter,
        exit_statuses,
        fail,
    )
    from srflow_sdk._device_names import Device
    from srflow_sdk._system.interrupts import STOPPING, deferred_interrupts
    from srflow_sdk._version import __version__
    from srflow_sdk.errors import ArgumentError
except KeyboardInterrupt:  # there is no command yet that could catch it
    sys.exit(130)
except MemoryError:
    sys.exit("error: there is not enough memory or address space to begin: raise the limit (ulimit -v unlimited)")

if TYPE_CHECKING:
    from srflow_sdk._batch.display import Display
    from srflow_sdk._batch.finding import InputFile
    from srflow_sdk._batch.pipes import Pipes
    from srflow_sdk._batch.planning import Job, Naming, Shard
    from srflow_sdk._batch.running import JobResult, Settings, Summary
    from srflow_sdk.bundle import Bundle

_FORMATS = ("png", "jpg", "webp", "tif", "avif")  # the first is the default
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_FIXED_BY_THE_PICTURE = ("tau", "seed", "sample", "samples", "consistent", "tile", "recursive", "shard")


@click.command(cls=Command, context_settings=_SETTINGS)
@click.argument("inputs", nargs=-1, metavar="[INPUT]...", type=click.Path(readable=False))
@click.option("-o", "--output", required=True, metavar="OUT", help="File or directory to write; see above.")
@click.option(
    "--model", metavar="BUNDLE", type=click.Path(path_type=Path), help="Model to use.  [default: the embedded ×4 model]"
)
@click.option("--tau", type=float, help="Temperature: 0 is smooth, larger is sharper.  [default: the model's]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same picture.")
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Pictures per input.")
@click.option("--sample", type=click.IntRange(min=0), default=0, show_default=True, help="Number of the first picture.")
@click.option(
    "--consistent", is_flag=True, help="Make each output reduce to its input again, as far as any picture can."
)
@click.option("--recursive", is_flag=True, help="Include subfolders; OUT gets the same ones.")
@click.option("--name", metavar="PATTERN", help="File names in OUT.  [default: {stem}.png or {stem}_s{sample}.png]")
@click.option("--format", type=click.Choice(_FORMATS), help="Format of outputs in a directory and on standard output.")
@click.option("--quality", type=click.IntRange(1, 100), help="Of JPEG, WebP and AVIF.  [default: 95; AVIF: 85]")
@click.option("--lossless", is_flag=True, help="Keep every visible pixel of WebP and AVIF, as PNG and TIFF do.")
@click.option("--resume", is_flag=True, help="Skip inputs whose outputs exist, made from them with these settings.")
@click.option("--no-overwrite", is_flag=True, help="Skip inputs with an output that exists, whatever is in it.")
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
    tau: float | None,
    seed: int,
    samples: int,
    sample: int,
    consistent: bool,
    recursive: bool,
    name: str | None,
    format: str | None,
    quality: int | None,
    lossless: bool,
    resume: bool,
    no_overwrite: bool,
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
    --name takes {stem}, {ending}, {sample}, {seed}, {tau}, {model}. Outputs replace existing files, but never inputs.
    For one picture, INPUT may be - for standard input, and OUT - for standard output.

    The names of finished files go to standard output. One bad INPUT does not stop the others; a full disk does. After
    Ctrl-C, or after a crash, the same command with --resume keeps the finished files and makes the others; a picture
    that was not finished begins again. Exit status: 0 success, 1 something failed, 2
    wrong usage, 130 interrupted (128 + the number of any other signal).

    \b
    Examples:
      srflow-upscale photo.jpg -o large.png
      srflow-upscale photo.jpg -o large.png --tau 0        the smooth, most faithful answer
      srflow-upscale photo.jpg -o large.png --samples 4    large_s0.png … large_s3.png
      srflow-upscale photos -o large --recursive --resume --report large.json
      srflow-upscale photos -o large --name "{stem}_x4.jpg" --shard 1/2
      srflow-upscale --from-output large.png -o again.png
      srflow-upscale - -o - --format jpg < photo.jpg > large.jpg
    """
    if not inputs and from_output is None:
        raise click.MissingParameter(ctx=context, param_hint="'INPUT...'", param_type="argument")
    with exit_statuses(), _command_line.display(quiet=quiet) as display, contextlib.ExitStack() as stack:
        from srflow_sdk._batch.finding import say_unread
        from srflow_sdk._batch.pipes import open_pipes
        from srflow_sdk._batch.planning import Naming, check_format, check_open_files, check_pattern, check_targets
        from srflow_sdk._batch.running import Settings
        from srflow_sdk._drawing.requests import DrawOptions
        from srflow_sdk._drawing.temperature import checked_number
        from srflow_sdk.bundle import Bundle

        if name is not None:
            check_pattern(name, samples=samples)
        ending = f".{format or _FORMATS[0]}"
        pipes = stack.enter_context(open_pipes(inputs, output, ending=ending, max_pixels=max_pixels))
        display.in_words = pipes.in_words
        display.shows_names &= pipes.target is None
        if pipes.target is not None and (samples > 1 or name is not None or shard is not None):
            raise ArgumentError("-o - is standard output, one picture; leave out --samples, --name and --shard")
        bundle = Bundle.embedded() if model is None else Bundle.open(model)
        settings = Settings(
            draw=DrawOptions(tau=tau, seed=seed, sample=sample, consistent=consistent),
            report=report is not None,
            max_pixels=max_pixels,
            resume=resume,
            overwrite=not no_overwrite,
            quality=quality,
            lossless=lossless,
        )
        if from_output is not None:
            _refuse_chosen(context)
            source, settings, tile = _settings_of(from_output, pipes.inputs, settings, bundle)
            pipes = dataclasses.replace(pipes, inputs=(source,))
        naming = Naming(
            pattern=name,
            ending=ending,
            sample=settings.draw.sample,
            samples=samples,
            seed=settings.draw.seed,
            tau=checked_number(settings.draw.tau_for(bundle.manifest)),
            model=bundle.manifest.name,
        )
        keep = [] if from_output is None else [from_output]
        unread = Counter[str]()
        files, refused = _find(pipes, recursive=recursive, unread=unread)
        jobs = _plan(files, pipes, naming=naming, keep=keep) if files else []
        # Divided last: two inputs with one output are an error on every machine, whichever has them.
        mine = [job for job in jobs if shard is None or shard.holds(job.name)]
        check_open_files(mine)
        if format is not None:
            check_format(mine, ending)
        check_targets(mine, report=report)
        for result in refused:
            display.say(f"error: {result.error}")
        if (line := say_unread(unread)) is not None:
            display.say(f"warning: {line}")
        if not files:
            sys.exit(FAILED)
        if shard is not None and not mine:
            display.tell(f"none of the {len(jobs)} inputs is in part {shard.index}/{shard.count}: nothing to do")
        options = {"tile": tile, "device": device, "threads": threads}
        summary = _run(mine, bundle, settings, display, pipes=pipes, refused=refused, report=report, **options)
        if summary.count("failed") or display.names_lost:
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
            raise ArgumentError(f"--{name} cannot be chosen with --from-output: the picture says how it was made")


def _settings_of(
    picture: Path, inputs: Sequence[Path], settings: Settings, bundle: Bundle
) -> tuple[Path, Settings, int | None]:
    """The input, settings and tile that an earlier output was made with."""
    from srflow_sdk._batch.remake import find_source, read_recipe
    from srflow_sdk._drawing.requests import DrawOptions

    recipe = read_recipe(picture, bundle)
    source = find_source(picture, recipe, inputs)
    draw = DrawOptions(tau=recipe.tau, seed=recipe.seed, sample=recipe.sample, consistent=recipe.consistent)
    return source, dataclasses.replace(settings, draw=draw), recipe.tile


def _find(pipes: Pipes, *, recursive: bool, unread: Counter[str]) -> tuple[list[InputFile], list[JobResult]]:
    """The files to upscale, and failed results for folders that cannot be used."""
    from srflow_sdk._batch.finding import find_inputs
    from srflow_sdk._batch.planning import Job
    from srflow_sdk._batch.running import JobResult

    refused: list[JobResult] = []

    def refuse(folder: Path, why: str) -> None:
        job = Job(source=folder, targets=(), name=PurePosixPath(folder.name))
        refused.append(JobResult(job=job, status="failed", error=" ".join(why.split())))

    if not pipes.output:
        raise ArgumentError('-o is empty; name a file or a directory ("." is the current one)')
    files = find_inputs(pipes.inputs, out=Path(pipes.output), recursive=recursive, failed=refuse, unread=unread)
    return files, refused


def _plan(files: Sequence[InputFile], pipes: Pipes, *, naming: Naming, keep: Sequence[Path]) -> list[Job]:
    from srflow_sdk._batch.planning import plan_outputs

    directory = pipes.output.endswith(("/", os.sep))
    out = Path(pipes.output)
    if pipes.target is not None and (len(files) > 1 or [file.path for file in files] != list(pipes.inputs)):
        raise ArgumentError("-o - is standard output, one picture; name one INPUT, which is no folder")
    return plan_outputs(files, out, naming=naming, directory=directory, inputs=pipes.inputs, keep=keep)


def _run(
    jobs: Sequence[Job],
    bundle: Bundle,
    settings: Settings,
    display: Display,
    *,
    pipes: Pipes,
    refused: Sequence[JobResult],
    report: Path | None,
    tile: Any,
    device: Any,
    threads: int | None,
) -> Summary:
    """Run the jobs, and print and report their results. refused: results of inputs that could not become jobs."""
    from srflow_sdk._batch.report import batch_report, read_report, write_report
    from srflow_sdk._batch.running import run_jobs
    from srflow_sdk.upscaler import Upscaler

    with Upscaler(bundle, device=device, tile=tile, threads=threads) as upscaler:
        with deferred_interrupts(*STOPPING) as interrupts:
            with display.progress(jobs, max_pixels=settings.max_pixels, check=interrupts):
                summary = run_jobs(jobs, upscaler, settings=settings, watcher=display, check=interrupts)
            results = (*refused, *summary.results)
            summary = dataclasses.replace(summary, results=results, jobs=len(jobs) + len(refused))
            advice = _how_to_continue(summary)
            if advice is not None:
                display.say(advice)
            if report is not None:
                earlier = read_report(report) if settings.resume else None
                ran = {"tile": tile, "device": upscaler.device, "earlier": earlier}
                write_report(
                    report, batch_report(pipes.as_given(summary), manifest=bundle.manifest, settings=settings, **ran)
                )
            if summary.interrupted:
                sys.exit(BY_SIGNAL + (interrupts.number or signal.SIGINT))
        if advice is None and (summary.jobs > 1 or summary.count("skipped")):
            display.tell(str(summary))
    return summary


def _how_to_continue(summary: Summary) -> str | None:
    """What to tell the user about a batch that did not finish. A picture begins again, so one alone has no --resume."""
    done = f"{summary.jobs - summary.remaining} of {summary.jobs} done"
    if summary.interrupted and summary.jobs == 1:
        return "interrupted: nothing of the picture is kept; the same command begins it again"
    if summary.interrupted:
        return f"interrupted: {done}; the same command with --resume keeps those and makes the others"
    if summary.disk_full:
        again = "" if summary.jobs == 1 else " with --resume"
        return f"stopped because the disk is full: {done}; free space, then run the same command{again}"
    return None


if __name__ == "__main__":
    upscale()
