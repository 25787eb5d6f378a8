"""The commands srflow-upscale and srflow-doctor. What they do is in the modules that they call."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from srflow_sdk.errors import ArgumentError, ImageError, SRFlowError
from srflow_sdk.interrupts import deferred_interrupts
from srflow_sdk.outputs import Job, plan_outputs

if TYPE_CHECKING:
    from srflow_sdk.upscaler import Upscaler

FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells count

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class TileParameter(click.ParamType[Any]):
    """`auto`, `none` or a number of pixels."""

    name = "auto|N|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in ("auto", "none") or isinstance(value, int):
            return value
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is not auto, none or a number of pixels", param, ctx)


@click.command(context_settings=_SETTINGS)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, metavar="OUT", help="File or directory to write; see above.")
@click.option("--model", metavar="BUNDLE", type=click.Path(path_type=Path), help="[default: the embedded ×4 model]")
@click.option("--tau", type=float, help="Temperature: 0 is smooth, larger is sharper.  [default: the model's]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same picture.")
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Answers per input.")
@click.option("--tile", type=TileParameter(), default="auto", show_default=True, help="Pixels a side; bounds memory.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
    default="auto",
    show_default=True,
    help="auto: CUDA where it really works, else the CPU; srflow-doctor says what does.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: one per core]")
@click.version_option(package_name="srflow-sdk", prog_name="srflow-upscale")
def upscale(
    inputs: tuple[Path, ...],
    output: str,
    model: Path | None,
    tau: float | None,
    seed: int,
    samples: int,
    tile: Any,
    device: Any,
    threads: int | None,
) -> None:
    """Enlarge photos: PNG, JPEG, WebP, TIFF, GIF, AVIF or HEIC, 8 or 16 bits.

    OUT is a file (.png, .jpg, .webp, .tif) for one INPUT. For several, or if OUT has no ending, it is a directory, made
    if need be, where photo.jpg becomes photo.png. With --samples 3 the names end in _s0, _s1, _s2. Existing outputs are
    replaced; an input never is.

    The names of the files written go to standard output. One bad INPUT does not stop the others. Exit status: 0 all
    well, 1 something failed, 2 wrong usage, 130 interrupted.

    \b
    Examples:
      srflow-upscale photo.jpg -o large.png
      srflow-upscale photo.jpg -o large.png --tau 0        the smooth, most faithful answer
      srflow-upscale photo.jpg -o large.png --samples 4    large_s0.png … large_s3.png
      srflow-upscale *.jpg -o large/ --seed 7
    """
    logging.basicConfig(format="warning: %(message)s", level=logging.WARNING)
    with _exit_statuses():
        is_directory = output.endswith(("/", os.sep))
        jobs = plan_outputs(inputs, Path(output), samples=samples, directory=is_directory)
        _check_targets(jobs)
        from srflow_sdk.upscaler import Upscaler

        opened = Upscaler(model, device=device, tile=tile, threads=threads)
        with opened as upscaler, deferred_interrupts() as stop_if_interrupted:
            failed = _run(jobs, upscaler, tau=tau, seed=seed, stop_if_interrupted=stop_if_interrupted)
        if failed:
            if len(jobs) > 1:
                click.echo(f"{failed} of {len(jobs)} inputs failed", err=True)
            sys.exit(FAILED)


@click.command(context_settings=_SETTINGS)
@click.version_option(package_name="srflow-sdk", prog_name="srflow-doctor")
def doctor() -> None:
    """Say what this machine can run, why not the rest, and the command that mends it.

    Exit status: 0 if upscaling on the CPU works, 1 if not.
    """
    with _exit_statuses():
        from srflow_sdk.doctor import basics_work, examine, report

        checks = []
        for check in examine():
            checks.append(check)
            click.echo(report(check))
        if not basics_work(checks):
            _fail("upscaling does not work here; the lines marked 'problem' say why")


@contextlib.contextmanager
def _exit_statuses() -> Iterator[None]:
    """Turn errors that are made for people into one line and an exit status."""
    try:
        yield
    except ArgumentError as error:
        raise click.UsageError(str(error)) from error
    except SRFlowError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)


def _fail(message: str) -> NoReturn:
    _complain(message)
    sys.exit(FAILED)


def _complain(message: str) -> None:
    click.echo(f"error: {' '.join(message.split())}", err=True)


def _check_targets(jobs: list[Job]) -> None:
    """Make the directories and find what cannot be written now, not after minutes of work."""
    from srflow_sdk.image_files import check_writable

    for target in (target for job in jobs for target in job.targets):
        check_writable(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageError(f"{target.parent} cannot be made a directory: {error.strerror or error}") from error
        if target.is_dir():
            raise ImageError(f"{target} cannot be written: it is a directory")
        if not os.access(target.parent, os.W_OK):
            raise ImageError(f"{target} cannot be written: {target.parent} is not writable")


def _run(
    jobs: list[Job], upscaler: Upscaler, *, tau: float | None, seed: int, stop_if_interrupted: Callable[[], None]
) -> int:
    """Upscale every input; the number that failed."""
    failed = 0
    for number, job in enumerate(jobs, start=1):
        place = f"[{number}/{len(jobs)}] " if len(jobs) > 1 else ""
        try:
            with _progress_bar(f"{place}{job.source.name}") as show:
                _upscale_file(job, upscaler, tau=tau, seed=seed, show=show, stop_if_interrupted=stop_if_interrupted)
        except ArgumentError:
            raise  # the same for every file
        except SRFlowError as error:
            failed += 1
            _complain(str(error))
        except MemoryError:
            failed += 1
            _complain(f"{job.source}: out of memory; ask for fewer samples or smaller tiles (--tile 64)")
        else:
            for target in job.targets:
                click.echo(target)
        stop_if_interrupted()
    return failed


def _upscale_file(
    job: Job,
    upscaler: Upscaler,
    *,
    tau: float | None,
    seed: int,
    show: Callable[[int, int], None],
    stop_if_interrupted: Callable[[], None],
) -> None:
    from srflow_sdk.image_files import check_writable, read_image, write_image

    def progress(done: int, total: int) -> None:
        show(done, total)
        stop_if_interrupted()

    file = read_image(job.source)
    check_writable(job.targets[0], channels=file.pixels.shape[2])  # now, not after minutes of work
    stop_if_interrupted()
    # One call for all samples: each tile is encoded once.
    result = upscaler.upscale(file.pixels, tau=tau, seed=seed, samples=len(job.targets), progress=progress)
    for target, pixels in zip(job.targets, [result] if len(job.targets) == 1 else result, strict=True):
        write_image(target, pixels, icc_profile=file.icc_profile)
        stop_if_interrupted()


@contextlib.contextmanager
def _progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error while the block runs, if that is a terminal: what is given moves it."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    with click.progressbar(length=1000, label=label, file=sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            bar.update(done * 1000 // total - bar.pos)

        yield show
