"""Runs the batch of a command on pictures: pipes, dry run, pictures made again, exit status."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from srflow_apps.batch.display import Display
from srflow_apps.batch.find import say_unread
from srflow_apps.batch.jobs import FolderFile, FolderResult, Settings
from srflow_apps.batch.one_file import Models, attempted, is_left_alone
from srflow_apps.batch.operations import Job, Operation
from srflow_apps.batch.plan import Batch, Plan
from srflow_apps.batch.ray import Cluster, OnRay
from srflow_apps.batch.run import Executor, run_jobs
from srflow_apps.batch.storage import exists, is_folder, reading
from srflow_apps.batch.url_paths import UrlPath, as_path
from srflow_sdk.base_upscaler import BaseUpscaler
from srflow_sdk.drawing.temperature import AUTO_TAU_SCHEME
from srflow_sdk.drawing.tiles import padded_size
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import Provenance, check_writable, open_image, read_provenance, spooled, write_image
from srflow_sdk.files.provenance import CLIP, INTERVAL, TRANSFER, UPSCALE
from srflow_sdk.latents.random_field import LATENT_SCHEME
from srflow_sdk.model.bundle import Bundle, where_released
from srflow_sdk.model.model_choice import BY_PICTURE, bundles_of
from srflow_sdk.system.device_names import ComputePrecision, DeviceName
from srflow_sdk.system.interrupts import STOPPING, deferred_interrupts, exit_status, raised_interrupts
from srflow_sdk.system.local_files import file_sha256
from srflow_sdk.upscaler import Upscaler

if TYPE_CHECKING:
    from srflow_apps.batch.choices import FileChoices, MachineChoices
    from srflow_apps.batch.plan import Shard
    from srflow_sdk.drawing.tiles import TileSize


STANDARD = "-"
"""The name of standard input among the inputs, and of standard output as the output."""

_INPUT, _OUTPUT = "stdin", "stdout"


@dataclass(frozen=True, kw_only=True)
class Pipes:
    """The inputs and the output of a command, with files in the place of standard input and output.

    inputs, output: as given on the command line, except for :data:`STANDARD`. target: the file that becomes standard
    output; None if that is not asked for. names: what to call the files in the place of pipes, by their paths. keep:
    files of which the inputs are parts.
    """

    inputs: tuple[Path, ...]
    output: str | None
    target: Path | None = None
    names: dict[str, str] = field(default_factory=dict)
    keep: tuple[Path, ...] = ()

    def in_words(self, line: str) -> str:
        """A line with the names of the pipes instead of their files' paths."""
        for path, name in self.names.items():
            line = line.replace(path, name)
        return line

    def send(self) -> None:
        """Copy the picture to standard output, if that was asked for. Raises: OSError."""
        if self.target is not None:
            with raised_interrupts(*STOPPING), self.target.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()


@contextlib.contextmanager
def standard_input(max_pixels: int) -> Iterator[Path]:
    """Read standard input to its end: a file in its place, until the block ends.

    Raises: ArgumentError if it is a terminal or closed; what :func:`spooled` raises.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise ArgumentError("- is standard input; pipe a picture into it: < photo.jpg")
    with contextlib.ExitStack() as stack:
        with raised_interrupts(*STOPPING):
            path = stack.enter_context(spooled(sys.stdin.buffer, name=_INPUT, max_pixels=max_pixels))
        yield path


@contextlib.contextmanager
def _frame(path: Path, number: int, *, max_pixels: int) -> Iterator[Path]:
    """A file with one frame of an animation or one page, as PNG, while the block runs. number: from 1.

    Raises: ImageError if there is no such frame, or more than max_pixels pixels, or the file cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="srflow-") as folder:
        with open_image(path, max_pixels=max_pixels, page=number) as reader:
            ending = ".tif" if reader.dtype == np.float32 else ".png"
            local = Path(folder) / f"{path.stem}_frame{number}{ending}"
            write_image(local, reader.read_rows(reader.height), metadata=reader.metadata)
        yield local


@contextlib.contextmanager
def open_pipes(
    inputs: Sequence[str],
    output: str | None,
    *,
    ending: str,
    max_pixels: int,
    frame: int | None = None,
    sent: Path | None = None,
) -> Iterator[Pipes]:
    """Read standard input to its end if it is an input, and remove the files of both pipes at the end.

    ending: of the picture on standard output, such as ".png".
    max_pixels: as for :func:`spooled`.
    frame: takes the place of the one input that it is of.
    sent: a file in the place of standard input that is none of the inputs.
    Raises: ArgumentError if standard input is not the only input or a pipe is a terminal or closed; ImageError.
    """
    with contextlib.ExitStack() as stack:
        paths, target = tuple(map(as_path, inputs)), None
        if STANDARD in inputs:
            if len(inputs) > 1:
                raise ArgumentError("- is standard input, one picture; it must be the only input")
            if output is None:
                raise ArgumentError(
                    "- is standard input, which lies in no folder; name the output: -o large.png, or -o -"
                )
            sent = stack.enter_context(standard_input(max_pixels))
            paths = (sent,)
        names = {} if sent is None else {str(sent): _INPUT}
        keep: tuple[Path, ...] = ()
        if frame is not None:
            if len(paths) != 1 or isinstance(paths[0], UrlPath) or is_folder(paths[0]) or output is None:
                raise ArgumentError("--frame is of one file on this machine; name one INPUT, and the output with -o")
            framed = stack.enter_context(_frame(paths[0], frame, max_pixels=max_pixels))
            names[str(framed)] = f"{names.get(str(paths[0]), paths[0])} frame {frame}"
            keep, paths = paths, (framed,)
        if output == STANDARD:
            if sys.stdout is None or sys.stdout.isatty():
                raise ArgumentError("-o - is standard output; redirect it to a file or program: > large.png")
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="srflow-"))
            target = Path(folder) / f"{_OUTPUT}{ending}"
            output = str(target)
            names[output] = _OUTPUT
        yield Pipes(inputs=paths, output=output, target=target, names=names, keep=keep)


_ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Preview:
    """An input that would be drawn. size, made: its and its outputs' width and height. upscaler: what would draw it."""

    job: Job
    size: tuple[int, int]
    made: tuple[int, int]
    upscaler: BaseUpscaler


def preview(plan: Plan, models: Models, *, check: Callable[[], None] = lambda: None) -> Iterator[str]:
    """Lines that say what a run of the plan would do; the last one says how long it would take and what it needs.

    Headers are read, whole inputs to choose between models, and with `resume` outputs as a run would read them. If
    there is anything to do, a piece of each model's first input is drawn to see how fast this machine is. Nothing is
    written, except to the temporary folder.
    check: called between files; may raise.
    """
    seen: list[Preview | FolderFile] = []
    for job in plan.jobs:
        check()
        seen.append(_looked_at(job, plan, models))
        yield _line(seen[-1])
    yield _summary(plan, seen)


def fails(line: str) -> bool:
    """True if a line of :func:`preview` is about an input that would fail."""
    return line.startswith("error: ")


def _looked_at(job: Job, plan: Plan, models: Models) -> Preview | FolderFile:
    """The input as it would be drawn, or its result if it would not be."""

    def look() -> Preview | FolderFile:
        settings = plan.settings
        if is_left_alone(job, models, settings=settings, cancel=threading.Event()):
            return FolderFile(source=job.source, targets=job.targets, status="skipped")
        with (
            reading(job.source) as source,
            open_image(source, max_pixels=settings.max_pixels) as reader,
        ):
            size = reader.width, reader.height
            upscaler, _ = models.drawing(job.source, source)
            made = settings.operation.output_size(size, upscaler.bundle.manifest)
            for target in job.targets:
                check_writable(target, channels=reader.channels, size=made)
        return Preview(job=job, size=size, made=made, upscaler=upscaler)

    return attempted(job, look)


def _line(seen: Preview | FolderFile) -> str:
    if isinstance(seen, FolderFile):
        return f"error: {seen.error}" if seen.status == "failed" else f"{seen.source}: would be skipped"
    targets = ", ".join(map(str, seen.job.targets))
    replaced = ", replacing what is there" if any(map(exists, seen.job.targets)) else ""
    return f"{seen.job.source} ({_by(seen.size)}) -> {targets} ({_by(seen.made)}){replaced}"


def _summary(plan: Plan, seen: list[Preview | FolderFile]) -> str:
    todo = [one for one in seen if isinstance(one, Preview)]
    statuses = [one.status for one in seen if isinstance(one, FolderFile)]
    counted = {"to skip": statuses.count("skipped"), "would fail": statuses.count("failed") + len(plan.refused)}
    others = "".join(f", {count} {what}" for what, count in counted.items() if count)
    operation = plan.settings.operation
    pixels = sum(one.size[0] * one.size[1] for one in todo)
    text = f"dry run, nothing was written: {how_much(len(todo), pixels)} to {operation.name}{others}"
    seconds, room = 0.0, 0.0
    for upscaler in {one.upscaler.bundle.manifest.name: one.upscaler for one in todo}.values():
        its = [one for one in todo if one.upscaler.bundle is upscaler.bundle]
        speed = _speed(plan, its, upscaler)
        if speed is None:
            return text
        for one in its:
            outputs = len(one.job.targets)
            samples = operation.drawn(outputs)
            width, height = operation.network_size(one.size, upscaler.bundle.manifest)
            seconds += seconds_for(upscaler, speed, width=width, height=height, samples=samples)
            room += outputs * one.made[0] * one.made[1] * speed.bytes_per_pixel
    if not todo:
        return text
    if isinstance(target := todo[0].job.targets[0], UrlPath):
        return f"{text}; {about(seconds)}, about {_bytes(room)} at {target.parent}"
    nearest = next((place for place in target.parents if place.is_dir()), Path())
    free = shutil.disk_usage(nearest).free
    enough = "" if room < free else ", which is not enough"
    return f"{text}; {about(seconds)}, about {_bytes(room)} of disk ({_bytes(free)} free{enough})"


def _speed(plan: Plan, todo: list[Preview], upscaler: BaseUpscaler) -> Speed | None:
    """The speed, measured on the first input that is intact where it is read; None if there is none soon."""
    for job in (one.job for one in todo[:_ATTEMPTS]):
        with contextlib.suppress(ImageError), reading(job.source) as source:
            return measure_speed(upscaler, source, job.targets[0], settings=plan.settings)
    return None


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 0.1):.1f} MB"


_SIDES = (32, 64)  # of the pictures that are drawn to measure: 0.1 s in all with x4-small on a CPU
_ENOUGH_S = 0.3  # a larger picture is not drawn if the smaller one took this long
_UNIT = 1 << 10  # a side that every scale divides well enough
_SEARCHED_PIXELS = 20_000_000  # of a larger input, the top is taken instead of the middle
_MEGA = 1e6


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The cost of drawing here, in seconds for a pixel of a tile's window, and how well outputs compress.

    encode: once for each input. sample: for each output. bytes_per_pixel: of an output file.
    """

    encode: float
    sample: float
    bytes_per_pixel: float


def measure_speed(upscaler: BaseUpscaler, source: Path, target: Path, *, settings: Settings) -> Speed:
    """Draw a piece of an input and write it to the temporary folder, in the format of `target`.

    Raises: ImageError if the input cannot be read; the errors of :meth:`Upscaler.encode` and of :func:`write_image`.
    """
    operation, manifest = settings.operation, upscaler.bundle.manifest
    multiple, enlarged = manifest.size_multiple, operation.network_size((_UNIT, _UNIT), manifest)[0]
    took, speed = 0.0, Speed(encode=0, sample=0, bytes_per_pixel=0)
    for side in _SIDES:
        if took > _ENOUGH_S:
            break
        piece = _piece(source, side * _UNIT // enlarged, max_pixels=settings.max_pixels)
        width, height = operation.network_size((piece.shape[1], piece.shape[0]), manifest)
        pixels = padded_size(height, multiple) * padded_size(width, multiple)
        answer, encoding, sampling = operation.timed(upscaler, piece)
        took = encoding + sampling
        with tempfile.TemporaryDirectory(prefix="srflow-") as folder:
            written = Path(folder) / target.name
            write_image(written, answer, quality=settings.quality, lossless=settings.lossless)
            size = written.stat().st_size
        speed = Speed(
            encode=encoding / pixels,
            sample=sampling / pixels,
            bytes_per_pixel=size / (answer.shape[0] * answer.shape[1]),
        )
    return speed


def seconds_for(upscaler: BaseUpscaler, speed: Speed, *, width: int, height: int, samples: int) -> float:
    """How long an LR image of this size will take: what its tiles' windows hold, with their halos."""
    painter = upscaler._painter
    multiple = upscaler.bundle.manifest.size_multiple
    size = padded_size(height, multiple), padded_size(width, multiple)
    windows = (tile.window for tile in painter.plan(*size, painter.core(*size)))
    return sum(window.height * window.width for window in windows) * (speed.encode + samples * speed.sample)


def about(seconds: float) -> str:
    """A time in words: "about 12 minutes"."""
    if seconds < 90:
        return f"about {max(round(seconds), 1)} second{'s' * (round(seconds) > 1)}"
    if seconds < 5400:
        return f"about {round(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours" if seconds < 36_000 else f"about {round(seconds / 3600)} hours"


def how_much(files: int, pixels: int) -> str:
    """The inputs in words: "44 files, 310 megapixels"."""
    mega = pixels / _MEGA
    size = f"{mega:.2g}" if mega < 10 else f"{mega:.0f}"
    return f"{files} file{'s' * (files != 1)}, {size} megapixels"


def _piece(source: Path, side: int, *, max_pixels: int) -> NDArray[Any]:
    """A square from the middle of an input, as far as that has one."""
    with open_image(source, max_pixels=max_pixels) as reader:
        height, width = min(side, reader.height), min(side, reader.width)
        if reader.height * reader.width <= _SEARCHED_PIXELS:
            for start in range(0, (reader.height - height) // 2, side):
                reader.read_rows(min(side, (reader.height - height) // 2 - start))
        left = (reader.width - width) // 2
        return np.ascontiguousarray(reader.read_rows(height)[:, left : left + width])


FAILED = 1


def run_command(
    operation: Operation,
    inputs: Sequence[str],
    output: str | None,
    *,
    model: str | None,
    files: FileChoices,
    machine: MachineChoices,
    samples: int = 1,
    server: str | None = None,
    sent: Path | None = None,
) -> None:
    """Do the operation to every input. Exits with a status other than 0 if something failed.

    operation: with `files.from_output` it is replaced by the one that this picture was made with.
    output: None puts the outputs beside the inputs.
    model: a bundle's path, an embedded model's name, or "auto"; None is "auto" for upscaling, and x4-small otherwise.
    server: the URL of one that draws; `model` is then its model's name.
    sent: a file in the place of standard input that is none of the inputs.

    Raises: SRFlowError for what concerns all files; KeyboardInterrupt.
    """
    with contextlib.ExitStack() as stack:
        display, ending = stack.enter_context(Display(quiet=machine.quiet)), operation.ending(files)
        pipes = stack.enter_context(
            open_pipes(inputs, output, ending=ending, max_pixels=machine.max_pixels, frame=files.frame, sent=sent)
        )
        display.in_words = pipes.in_words
        display.shows_names &= pipes.target is None
        _check_together(pipes, files, samples=samples, server=server)
        if model == BY_PICTURE and operation.name != UPSCALE:
            raise ArgumentError(f"--model auto is for srflow-upscale; srflow-{operation.name} needs one model: name it")
        bundles = _here(model, operation, files) if server is None else _there(model, server, display)
        if files.from_output is not None:
            bundles = [bundle_for(files.from_output, bundles)]
        batch = Batch(
            operation=operation,
            inputs=pipes.inputs,
            output=pipes.output,
            bundles=operation.needed(bundles),
            files=files,
            samples=samples,
            max_pixels=machine.max_pixels,
            tile=machine.tile,
            keep=pipes.keep,
        )
        if files.from_output is not None:
            batch, machine = _made_again(batch, machine, files.from_output)
        plan = batch.plan()
        _say_what_is_wrong(plan, display, files.shard)
        alone = len(plan.jobs) == 1 or files.dry_run  # of many, a line for each would hide what went wrong
        explain: Callable[[str], None] = display.tell if alone else lambda _: None
        if files.ray is not None and not files.dry_run:
            execute: Executor = ray_executor(files, machine, batch.bundles, batch.tile, display, explain)
        else:
            models = _opened(batch, plan, machine, files, server, stack, say=explain)
            if files.dry_run:
                _show(plan, models, display)
                return
            execute = partial(run_jobs, models=models)
        result = _run(batch, plan, execute, display, pipes)
        if result.remaining or display.names_lost:
            sys.exit(FAILED)
        pipes.send()


def ray_executor(
    files: FileChoices,
    machine: MachineChoices,
    bundles: Sequence[Bundle],
    tile: TileSize,
    display: Display,
    explain: Callable[[str], None] = lambda _: None,
) -> OnRay:
    """The cluster of --ray, which draws with these models."""
    cluster = Cluster(
        address="auto" if files.ray is None else files.ray,
        workers=files.ray_workers,
        gpus=files.ray_gpus,
        cpus=machine.threads,
        device=machine.device,
        precision=machine.precision,
    )
    return OnRay(cluster=cluster, bundles=bundles, tile=tile, say=display.tell, explain=explain)


def _check_together(pipes: Pipes, files: FileChoices, *, samples: int, server: str | None) -> None:
    """Raises: ArgumentError for options that exclude each other."""
    one_picture = samples == 1 and files.name is None and files.shard is None and not files.dry_run
    if files.from_output is not None and pipes.output is None:
        raise ArgumentError("--from-output makes a picture again; name the file for it with -o")
    if pipes.target is not None and not one_picture:
        raise ArgumentError("-o - is standard output, one picture; leave out --samples, --name, --shard, --dry-run")
    if pipes.target is not None and (len(pipes.inputs) > 1 or any(map(is_folder, pipes.inputs))):
        raise ArgumentError("-o - is standard output, one picture; name one INPUT, which is no folder")
    if files.ray is None and (files.ray_workers, files.ray_gpus) != (None, None):
        raise ArgumentError("--ray-workers and --ray-gpus are about a Ray cluster; name it with --ray")
    if files.ray is not None and pipes.names:
        raise ArgumentError("--ray needs files that other machines see; leave it out for standard input and output")
    if files.ray is not None and server is not None:
        raise ArgumentError("--ray draws on the cluster's machines, --server on the server's; leave one of them out")


def _here(model: str | None, operation: Operation, files: FileChoices) -> list[Bundle]:
    """Bundles on this machine, of which several if each picture gets the one that suits it."""
    one = model is None and operation.name != UPSCALE and files.from_output is None
    return [Bundle.embedded()] if one else bundles_of(model)


def _there(model: str | None, server: str, display: Display) -> list[Bundle]:
    """The bundles of a server's models, as far as it tells them. model: its name there; None is "auto"."""
    from srflow_apps.serving.remote_upscaler import RemoteUpscaler

    with RemoteUpscaler(server, model=model or BY_PICTURE) as first:
        bundles = list(first._bundles.values())
    if model == BY_PICTURE and len(bundles) == 1:
        display.tell("--model auto: the server draws all pictures with its own model")
    return bundles


def _opened(
    batch: Batch,
    plan: Plan,
    machine: MachineChoices,
    files: FileChoices,
    server: str | None,
    stack: contextlib.ExitStack,
    *,
    say: Callable[[str], None],
) -> Models:
    """Open what draws, on this machine or a server. stack: closes it.

    Raises: ArgumentError if it cannot make a picture again because it draws in another precision.
    """
    chosen = list(batch.choices.bundles.values())
    if len(plan.jobs) == 1 and not isinstance(plan.jobs[0].source, UrlPath):  # only its model need be opened
        chosen = [batch.choices.bundles[batch.choices.name(plan.jobs[0].source)]]
    if server is not None:
        from srflow_apps.serving.remote_upscaler import RemoteUpscaler

        name = BY_PICTURE if len(chosen) > 1 else str(chosen[0].path)
        upscaler: BaseUpscaler = RemoteUpscaler(server, model=name, tile=batch.tile)
    else:
        upscaler = Upscaler(
            chosen, device=machine.device, tile=batch.tile, threads=machine.threads, precision=machine.precision
        )
    stack.enter_context(upscaler)
    if files.from_output is not None and upscaler.precision != machine.precision:
        raise ArgumentError(
            f"{files.from_output} was made with --precision {machine.precision}, and {upscaler.device} draws with "
            f"{upscaler.precision}; leave out --server"
        )
    return Models(batch.choices, upscaler, say=say)


def _made_again(batch: Batch, machine: MachineChoices, output: Path) -> tuple[Batch, MachineChoices]:
    """The batch that makes a picture again, and the machine's choices for it.

    Raises: ArgumentError, ImageError if that cannot be made.
    """
    if isinstance(output, UrlPath):
        raise ArgumentError(f"--from-output {output} is a URL; copy the file here and name it")
    recipe = read_recipe(output, batch.bundles[0], operation=batch.operation)
    again = dataclasses.replace(
        batch,
        operation=batch.operation.recorded(recipe),
        inputs=(find_source(output, recipe, batch.inputs),),
        tile=recipe.tile,
        keep=[*batch.keep, output],
    )
    if recipe.precision not in get_args(ComputePrecision):
        raise ImageError(
            f"{output} was made in the precision {recipe.precision!r:.40}, which this SDK does not know; make it again "
            f"with srflow-sdk {recipe.sdk_version}"
        )
    device = machine.device
    if device == "auto" and recipe.device is not None and recipe.device in get_args(DeviceName):
        device = recipe.device  # other devices round otherwise
    return again, dataclasses.replace(machine, precision=cast("ComputePrecision", recipe.precision), device=device)


def _say_what_is_wrong(plan: Plan, display: Display, shard: Shard | None) -> None:
    """Print what the plan leaves out; the command ends here if nothing is left."""
    for file in plan.refused:
        display.say(f"error: {file.error}")
    if (line := say_unread(plan.unread)) is not None:
        display.say(f"warning: {line}")
    if not plan.all_jobs:
        sys.exit(FAILED)
    if shard is not None and not plan.jobs:
        display.tell(f"none of the {plan.all_jobs} inputs is in part {shard.index}/{shard.count}: nothing to do")


def _show(plan: Plan, models: Models, display: Display) -> None:
    failed = bool(plan.refused)
    with raised_interrupts(*STOPPING):
        for line in preview(plan, models):
            if fails(line):
                failed = True
                display.say(line)
            else:
                display.answer(line)
    if failed:
        sys.exit(FAILED)


def _run(batch: Batch, plan: Plan, execute: Executor, display: Display, pipes: Pipes) -> FolderResult:
    """Run the plan, print what became of it, and write the report. Exits if it was interrupted."""
    with deferred_interrupts(*STOPPING) as interrupts:
        with display.progress(plan.jobs, max_pixels=batch.max_pixels, check=interrupts):
            result = batch.run(plan, execute, watcher=display, check=interrupts)
        advice = _how_to_continue(result, on_ray=isinstance(execute, OnRay))
        if advice is not None:
            display.say(advice)
        batch.write_report(result, in_words=pipes.in_words)
        if result.interrupted:
            sys.exit(exit_status(interrupts.number))
    if advice is None and (result.total > 1 or result.count("skipped")):
        display.tell(f"{result}{_who_drew(result)}")
    return result


def _who_drew(result: FolderResult) -> str:
    """How many pictures each model drew, if each picture had its own."""
    drawn = Counter(str(file.model) for file in result.files if file.why is not None)
    counts = ", ".join(f"{name} drew {drawn[name]}" for name in sorted(drawn))
    return f"; {counts}" if counts else ""


def _how_to_continue(result: FolderResult, *, on_ray: bool) -> str | None:
    """Advice about a batch that did not finish; None if it did. A picture begins again: one alone has no --resume."""
    done = f"{result.total - result.remaining} of {result.total} done"
    if result.interrupted and result.total == 1:
        return "interrupted: nothing of the picture is kept; the same command begins it again"
    if result.interrupted:
        return f"interrupted: {done}; the same command with --resume keeps those and makes the others"
    again = "" if result.total == 1 else " with --resume"
    if result.disk_full:
        return f"stopped because the disk is full: {done}; free space, then run the same command{again}"
    if result.server_lost and on_ray:
        why = "Ray's raylet on this machine died, perhaps for want of memory"
        return f"stopped because {why}: {done}; run the same command{again}"
    if result.server_lost:
        return f"stopped because the server is lost: {done}; once it is back, run the same command{again}"
    return None


def read_recipe(output: Path, bundle: Bundle, *, operation: Operation) -> Provenance:
    """Read how an output was made. operation: the one that is asked for; only its kind counts.

    Raises: ImageError, one line, if it does not say, or this model or SDK version cannot make it again.
    """
    recipe = read_provenance(output)
    if recipe is None:
        raise ImageError(
            f"{output} does not say how it was made: it is not an output of srflow-{operation.name}, or another "
            "program dropped that when it saved the file"
        )
    if recipe.operation == INTERVAL:
        raise ImageError(f"{output} is a bound of an interval; make it again with srflow-upscale --interval")
    if recipe.operation == TRANSFER:
        raise ImageError(
            f"{output} was made by srflow-transfer from several pictures; run that again with the ones it was made from"
        )
    if recipe.operation == CLIP:
        raise ImageError(f"{output} is a frame of a clip, which is only made again as a whole, with --latents")
    if recipe.operation != operation.name:
        raise ImageError(
            f"{output} was not made by srflow-{operation.name} but by srflow-{recipe.operation}; make it again with "
            f"srflow-{recipe.operation} --from-output"
        )
    if recipe.tau is None and recipe.settings is None:
        raise ImageError(f"{output} was made with a map of temperatures, which its file does not contain")
    if recipe.model_sha256 != bundle.model_sha256:
        manifest = bundle.manifest
        raise ImageError(
            f"{output} was made with the model {recipe.model} (sha256 {recipe.model_sha256[:12]}…), not with "
            f"{manifest.name} (sha256 {manifest.digest[:12]}…); name its bundle, or its name on the server, with "
            f"--model{where_released(recipe.model_sha256)}"
        )
    if recipe.auto_tau not in (None, AUTO_TAU_SCHEME):
        raise ImageError(
            f"{output} was made with version {recipe.auto_tau} of --tau auto, but this SDK has version "
            f"{AUTO_TAU_SCHEME}; make it again with srflow-sdk {recipe.sdk_version}"
        )
    if recipe.auto_tau is not None and recipe.tau != bundle.manifest.default_tau:
        raise ImageError(
            f"{output} says that --tau auto scaled {recipe.tau:g}, but with this model it scales "
            f"{bundle.manifest.default_tau:g}; what the file says of itself was changed, so choose --tau yourself"
        )
    if recipe.latent_scheme != LATENT_SCHEME:
        raise ImageError(
            f"{output} was made with latent scheme {recipe.latent_scheme}, but this SDK uses scheme {LATENT_SCHEME}; "
            f"make it again with srflow-sdk {recipe.sdk_version}"
        )
    return recipe


def bundle_for(output: Path, bundles: Sequence[Bundle]) -> Bundle:
    """The bundle that an output says it was made with; the first if none of them is."""
    recipe = None if isinstance(output, UrlPath) else read_provenance(output)
    drew_it = (bundle for bundle in bundles if recipe is not None and bundle.model_sha256 == recipe.model_sha256)
    return next(drew_it, bundles[0])


def find_source(output: Path, recipe: Provenance, given: Sequence[Path]) -> Path:
    """The input of an output: the one given, or one of the recorded name beside the output or in the current directory.

    Raises: ImageError if none has the same bytes; ArgumentError if several are given.
    """
    if len(given) > 1:
        raise ArgumentError(f"--from-output makes one picture again; name one input, not {len(given)}")
    if given:
        digest = _hash(given[0])
        if digest != recipe.source_sha256:
            raise ImageError(
                f"{given[0]} (sha256 {digest[:12]}…) is not the file that {output} was made from: {recipe.source} "
                f"(sha256 {recipe.source_sha256[:12]}…)"
            )
        return given[0]
    name = PurePosixPath(recipe.source.replace("\\", "/")).name  # the file may be from anywhere: no paths from it
    candidates = [place / name for place in (output.parent, Path()) if name]
    for candidate in candidates:
        if candidate.is_file() and _hash(candidate) == recipe.source_sha256:
            return candidate
    raise ImageError(
        f"{output} was made from {name or 'a file'} (sha256 {recipe.source_sha256[:12]}…), which is neither beside it "
        "nor in the current directory; name it as INPUT"
    )


def _hash(path: Path) -> str:
    try:
        with reading(path) as local:
            return file_sha256(local)
    except OSError as error:
        raise ImageError(f"{path}: the file cannot be read: {error.strerror or error}") from error
