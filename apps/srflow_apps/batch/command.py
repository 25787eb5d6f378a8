"""Runs the batch of a command on pictures: pipes, dry run, pictures made again, exit status."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, get_args

from srflow_apps.batch.display import Display
from srflow_apps.batch.jobs import FolderResult, Job, Models, Settings, do_one, write_report
from srflow_apps.batch.operations import Operation
from srflow_apps.batch.plan import Plan, make_plan, say_unread
from srflow_apps.batch.ray import Cluster
from srflow_apps.batch.run import Pixels, run_plan
from srflow_apps.batch.storage import UrlPath, as_path, exists, is_folder, reading, shown, standing_for
from srflow_apps.clips.reading import is_clip
from srflow_sdk.drawing.temperature import AUTO_TAU_SCHEME
from srflow_sdk.errors import ArgumentError, CancelledError, ImageError
from srflow_sdk.files import ImageReader, Provenance, check_writable, open_image, read_provenance, spooled, write_image
from srflow_sdk.files.provenance import CLIP, INTERVAL, TRANSFER, UPSCALE
from srflow_sdk.latents.random_field import LATENT_SCHEME
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.model_choice import BY_PICTURE, ModelChoice, bundles_of
from srflow_sdk.system.device_names import ComputePrecision, DeviceName
from srflow_sdk.system.interrupts import STOPPING, deferred_interrupts, exit_status, raised_interrupts
from srflow_sdk.system.local_files import file_sha256
from srflow_sdk.upscaler import Upscaler

if TYPE_CHECKING:
    from srflow_apps.batch.choices import FileChoices, MachineChoices

STANDARD = "-"
"""The name of standard input among the inputs, and of standard output as the output."""

FAILED = 1
_ENOUGH_S = 2.0  # of drawing, to see how fast this machine is


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
) -> None:
    """Do the operation to every input, or that of `files.from_output`. Exits with another status than 0 on failure.

    output: None puts the outputs beside the inputs. model: a bundle's path, an embedded model's name, or "auto"; None
    is "auto" for upscaling, and x4-small otherwise. server: the URL of one that draws by a model of its own.
    Raises: SRFlowError for what concerns all files; KeyboardInterrupt.
    """
    piped, on_ray, again = STANDARD in (*inputs, output), files.ray is not None, files.from_output
    several = samples > 1 or files.name is not None or files.shard is not None or files.dry_run
    one_model = f"--model auto is for srflow-upscale; srflow-{operation.name} needs one model: name it"
    unused = not on_ray and (files.ray_workers, files.ray_gpus) != (None, None)
    for why, wrong in {
        one_model: model == BY_PICTURE and operation.name != UPSCALE,
        "--from-output makes a picture again; name the file for it with -o": again is not None and output is None,
        "--ray-workers and --ray-gpus are about a Ray cluster; name it with --ray": unused,
        "--ray needs files that other machines see; leave it out for pipes and --frame": on_ray
        and (piped or files.frame),
        "--ray draws on the cluster's machines, --server on the server's; leave one of them out": on_ray and server,
        "-o - is one picture; leave out --samples, --name, --shard, --dry-run": output == STANDARD and several,
    }.items():
        if wrong:
            raise ArgumentError(why)
    with contextlib.ExitStack() as stack:
        display = stack.enter_context(Display(quiet=machine.quiet))
        paths, keep, sent = [as_path(text) for text in inputs], list[Path](), None
        if STANDARD in inputs or files.frame is not None:
            paths, keep = _opened_inputs(paths, output, files, machine.max_pixels, stack)
        if output == STANDARD:
            if len(paths) > 1 or any(map(is_folder, paths)):
                raise ArgumentError("-o - is standard output, one picture; name one INPUT, which is no folder")
            if sys.stdout is None or sys.stdout.isatty():
                raise ArgumentError("-o - is standard output; redirect it to a file or program: > large.png")
            sent = _folder(stack) / f"stdout{operation.ending(files)}"
            stack.enter_context(standing_for({sent: "stdout"}))
            output, display.shows_names = str(sent), False
        upscaler: Upscaler | None = None
        if server is not None:
            from srflow_apps.serving.remote_upscaler import RemoteUpscaler

            upscaler = stack.enter_context(RemoteUpscaler(server, model=model or BY_PICTURE, tile=machine.tile))
            bundles = list(upscaler._bundles.values())
            if model == BY_PICTURE and len(bundles) == 1:
                display.tell("--model auto: the server draws all pictures with its own model")
        elif model is None and operation.name != UPSCALE and again is None:
            bundles = [Bundle.embedded()]
        else:
            bundles = bundles_of(model)
        if again is not None:
            recipe, bundles = read_recipe(again, bundles, operation=operation)
            if server is not None and recipe.cleaned_by is not None:
                raise ArgumentError(f"{again} was made with two models; leave out --server")
            operation = operation.recorded(recipe)
            paths, keep = [find_source(again, recipe, paths)], [*keep, again]
            how: Any = {"tile": recipe.tile, "precision": recipe.precision}
            if machine.device == "auto" and recipe.device in get_args(DeviceName):  # others round otherwise
                how["device"] = recipe.device
            machine = dataclasses.replace(machine, **how)
            if server is not None:  # its tile is recorded
                upscaler = stack.enter_context(RemoteUpscaler(server, model=str(bundles[0].path), tile=recipe.tile))
        limits: Any = {"max_pixels": machine.max_pixels, "tile": machine.tile, "samples": samples}
        plan = make_plan(operation, paths, output, bundles, files=files, keep=keep, **limits)
        _tell_of(plan, display, files)
        options: Any = {"device": machine.device, "precision": machine.precision}
        cluster: Cluster | None = None
        if files.ray is not None and not files.dry_run:
            of_each: Any = {"workers": files.ray_workers, "gpus": files.ray_gpus, "cpus": machine.threads}
            cluster = Cluster(address=files.ray, **of_each, **options)
        else:
            models, chosen = plan.models, plan.bundles
            if again is not None and (first := plan.bundles[0]._cleaner) is not None:  # whatever is measured today
                known = ModelChoice(name=plan.bundles[0].manifest.name, why="", cleaner=first.manifest.name)
                models.choices[plan.jobs[0].source] = known
            if len(plan.jobs) == 1 and not isinstance(plan.jobs[0].source, UrlPath):  # only its model need be opened
                chosen = [models.bundles[models.name(plan.jobs[0].source)]]
            if len(plan.jobs) == 1 or files.dry_run:  # of many, a line for each would hide what went wrong
                models.say = display.tell
            if upscaler is None:
                options |= {"threads": machine.threads, "tile": machine.tile}
                upscaler = stack.enter_context(Upscaler(chosen, **options))
            if again is not None and upscaler.precision != machine.precision:
                drawn = f"{upscaler.device} draws with {upscaler.precision}; leave out --server"
                raise ArgumentError(f"{again} was made with --precision {machine.precision}, and {drawn}")
            models.upscaler = upscaler
        if files.dry_run:
            dry_run(plan, display)
            return
        names = [job.source.name for job in plan.jobs]
        measured = display.progress(names, lambda: Pixels.of(plan.jobs, max_pixels=machine.max_pixels))
        with measured, deferred_interrupts(*STOPPING) as interrupts:
            result = run_plan(plan, watcher=display, check=interrupts, cluster=cluster, say=display.tell)
            if stopped := result.interrupted or result.disk_full or result.server_lost:
                display.say(_how_to_continue(result, on_ray=on_ray))
            write_report(plan, result)
            if result.interrupted:
                sys.exit(exit_status(interrupts.number))
        if not stopped and (result.total > 1 or result.count("skipped")):
            drew = Counter(str(file.model) for file in result.files if file.why is not None)
            counts = ", ".join(f"{name} drew {drew[name]}" for name in sorted(drew))
            display.tell(f"{result}{f'; {counts}' if counts else ''}")
        if result.remaining or display.names_lost:
            sys.exit(FAILED)
        if sent is not None:
            with raised_interrupts(*STOPPING), sent.open("rb") as picture:
                shutil.copyfileobj(picture, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def _tell_of(plan: Plan, display: Display, files: FileChoices) -> None:
    """Say what is left out. Exits if nothing is left to do and something is wrong."""
    found, tell = plan.found, display.tell if plan.total else display.say
    for file in found.refused:
        display.say(f"error: {file.error}")
    if found.unread:
        display.say(f"warning: {say_unread(found.unread)}")
    if found.clips:
        tell(f"left out: {found.clips} clips; name them as INPUTs of a command of their own")
    if found.own:
        made = f"srflow-{plan.settings.operation.name}'s own outputs"
        tell(f"left out: {found.own} of {made}; --include-own takes them")
    if not plan.total:
        sys.exit(FAILED)
    if files.shard is not None and not plan.jobs:
        part = "{}/{}".format(*files.shard)
        display.tell(f"none of the {plan.total} inputs is in part {part}: nothing to do")


def _opened_inputs(
    paths: list[Path], output: str | None, files: FileChoices, max_pixels: int, stack: contextlib.ExitStack
) -> tuple[list[Path], list[Path]]:
    """The inputs, with a file for standard input, or a frame; and files of which they are parts, which are kept."""
    keep: list[Path] = []
    if Path(STANDARD) in paths:
        if len(paths) > 1:
            raise ArgumentError("- is standard input, one picture; it must be the only input")
        if output is None:
            raise ArgumentError("- is standard input, which lies in no folder; name the output: -o large.png, or -o -")
        paths = [stack.enter_context(standard_input(max_pixels))]
    if files.frame is not None:
        if len(paths) != 1 or isinstance(paths[0], UrlPath) or is_folder(paths[0]) or output is None:
            raise ArgumentError("--frame is of one file on this machine; name one INPUT, and the output with -o")
        with open_image(paths[0], max_pixels=max_pixels, page=files.frame) as reader:
            ending = ".tif" if reader.dtype.kind == "f" else ".png"
            frame = _folder(stack) / f"{paths[0].stem}_frame{files.frame}{ending}"
            write_image(frame, reader.read_rows(reader.height), metadata=reader.metadata)
        stack.enter_context(standing_for({frame: shown(f"{paths[0]} frame {files.frame}")}))
        keep, paths = paths, [frame]
    return paths, keep


def _folder(stack: contextlib.ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="srflow-")))


@contextlib.contextmanager
def standard_input(max_pixels: int) -> Iterator[Path]:
    """Read standard input to its end: a file in its place, until the block ends. Raises: ArgumentError, ImageError."""
    if sys.stdin is None or sys.stdin.isatty():
        raise ArgumentError("- is standard input; pipe a picture into it: < photo.jpg")
    with contextlib.ExitStack() as stack:
        with raised_interrupts(*STOPPING):
            path = stack.enter_context(spooled(sys.stdin.buffer, name="stdin", max_pixels=max_pixels))
        with standing_for({path: "stdin"}):
            yield path


def _how_to_continue(result: FolderResult, *, on_ray: bool) -> str:
    """Advice about a batch that did not finish. A picture begins again: one alone has no --resume."""
    done = f"{result.total - result.remaining} of {result.total} done"
    again = "the same command" if result.total == 1 else "the same command with --resume"
    if result.interrupted and result.total == 1:
        return "interrupted: nothing of the picture is kept; the same command begins it again"
    if result.interrupted:
        return f"interrupted: {done}; the same command with --resume keeps those and makes the others"
    if result.disk_full:
        return f"stopped because the disk is full: {done}; free space, then run {again}"
    if on_ray:
        why = "Ray's raylet on this machine died, perhaps for want of memory"
        return f"stopped because {why}: {done}; run {again}"
    return f"stopped because the server is lost: {done}; once it is back, run {again}"


def dry_run(plan: Plan, display: Display) -> None:
    """Say what a run of the plan would do, by doing it up to the drawing. Exits if an input would fail."""
    operation, todo = plan.settings.operation, list[_Preview]()

    def look(job: Job, reader: ImageReader, upscaler: Upscaler) -> None:
        size = reader.width, reader.height
        made = operation.output_size(size, upscaler.bundle.manifest)
        for target in job.targets:
            check_writable(target, channels=reader.channels, size=made)
        room = math.prod(made) * reader.channels * reader.dtype.itemsize * len(job.targets)
        todo.append((job, upscaler, math.prod(size), room))
        replaced = ", replacing what is there" if any(map(exists, job.targets)) else ""
        targets = ", ".join(map(str, job.targets))
        display.answer(f"{job.source} ({size[0]}×{size[1]}) -> {targets} ({made[0]}×{made[1]}){replaced}")

    settings, counts = dataclasses.replace(plan.settings, look=look), Counter(failed=len(plan.found.refused))
    with raised_interrupts(*STOPPING):
        for job in plan.jobs:
            file = do_one(job, plan.models, settings=settings)
            counts[file.status] += 1
            if file.status == "failed":
                display.say(f"error: {file.error}")
            elif file.status == "skipped":
                display.answer(f"{job.source}: would be skipped")
        mega = sum(pixels for _, _, pixels, _ in todo) / 1e6
        line = f"{len(todo)} file{'s' * (len(todo) != 1)}, {mega:{'.2g' if mega < 10 else '.0f'}} megapixels"
        line += f" to {operation.name}"
        line += f", {counts['skipped']} to skip" if counts["skipped"] else ""
        line += f", {counts['failed']} would fail" if counts["failed"] else ""
        display.answer(f"dry run, nothing was written: {line}{_needs(todo, plan.settings)}")
    if counts["failed"]:
        sys.exit(FAILED)


_Preview = tuple[Job, Upscaler, int, int]
"""An input that would be drawn, what draws it, its pixels, and its outputs' bytes if they were not compressed."""


def _needs(todo: Sequence[_Preview], settings: Settings) -> str:
    """The time and room that inputs need; empty without any, or if none of a model can be read to measure it."""
    speeds, seconds = dict[str, float](), 0.0  # speeds: seconds for a pixel
    for job, upscaler, pixels, _ in todo:
        if (name := upscaler.bundle.manifest.name) not in speeds:
            with contextlib.suppress(ImageError):
                speeds[name] = measure_time(job, upscaler, settings) / pixels
    for _, upscaler, pixels, _ in todo:
        seconds += speeds.get(upscaler.bundle.manifest.name, math.nan) * pixels
    if not todo or math.isnan(seconds):
        return ""
    place, room = todo[0][0].targets[0].parent, sum(room for _, _, _, room in todo)
    if isinstance(place, UrlPath):
        return f"; {about(seconds)}, at most {_bytes(room)} at {place}"
    free = shutil.disk_usage(next((folder for folder in (place, *place.parents) if folder.is_dir()), Path())).free
    enough = "" if room < free else ", which may not be enough"
    return f"; {about(seconds)}, at most {_bytes(room)} of disk ({_bytes(free)} free{enough})"


def measure_time(job: Job, upscaler: Upscaler, settings: Settings) -> float:
    """The seconds that a job takes: it is begun, or done twice, in the temporary folder. Raises: ImageError."""
    cancel, drawn = threading.Event(), list[tuple[float, float]]()

    def progressed(done: int, total: int) -> None:
        drawn.append((time.monotonic(), done / total))
        if done < total and drawn[-1][0] - drawn[0][0] > _ENOUGH_S:  # the first makes the model ready
            cancel.set()

    with contextlib.ExitStack() as stack:
        folder = _folder(stack)
        targets = tuple(folder / f"{number}_{target.name}" for number, target in enumerate(job.targets))
        anew: Any = {"resume": False, "overwrite": True, "beside": False, "report": False}
        models, how = Models([upscaler.bundle], upscaler=upscaler), dataclasses.replace(settings, **anew)
        with contextlib.suppress(CancelledError):
            for _ in range(2):
                drawn.clear()
                started, piece = time.monotonic(), dataclasses.replace(job, targets=targets)
                done = do_one(piece, models, settings=how, progress=progressed, cancel=cancel)
                if done.error is not None:
                    raise ImageError(done.error)
                if (seconds := time.monotonic() - started) > _ENOUGH_S:
                    break
            return seconds
    (begin, first), (end, last) = drawn[0], drawn[-1]
    return (end - begin) / (last - first)


def about(seconds: float) -> str:
    """A time in words: "about 12 minutes"."""
    if seconds < 90:
        return f"about {max(round(seconds), 1)} second{'s' * (round(seconds) > 1)}"
    if seconds < 5400:
        return f"about {round(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours" if seconds < 36_000 else f"about {round(seconds / 3600)} hours"


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 0.1):.1f} MB"


_ONLY_WITH_OTHERS = {
    INTERVAL: "is a bound of an interval; make it again with srflow-upscale --interval",
    TRANSFER: "was made by srflow-transfer from several pictures; run that again with the ones it was made from",
    CLIP: "is a frame of a clip, which is only made again as a whole, with --latents",
}


def read_recipe(output: Path, bundles: Sequence[Bundle], *, operation: Operation) -> tuple[Provenance, list[Bundle]]:
    """How an output was made, and the bundle it was made with. Raises: ArgumentError, ImageError if that cannot be."""
    if isinstance(output, UrlPath):
        raise ArgumentError(f"--from-output {output} is a URL; copy the file here and name it")
    if is_clip(output):
        raise ArgumentError(f"--from-output is for pictures, and {output} is a clip; its comment says how it was made")
    if (recipe := read_provenance(output)) is None:
        of = f"it is not an output of srflow-{operation.name}, or another program dropped that when it saved the file"
        raise ImageError(f"{output} does not say how it was made: {of}")
    same = [one for one in bundles if one.model_sha256 == recipe.model_sha256][:1]
    cleaners = [one for one in bundles if one.manifest._name_and_digest == recipe.cleaned_by]
    command, manifest, why = f"srflow-{recipe.operation}", bundles[0].manifest, ""
    other = f"; make it again with srflow-sdk {recipe.sdk_version}"
    if recipe.operation in _ONLY_WITH_OTHERS:
        why = _ONLY_WITH_OTHERS[recipe.operation]
    elif recipe.operation != operation.name:
        why = f"was not made by srflow-{operation.name} but by {command}; make it again with {command} --from-output"
    elif recipe.tau is None and recipe.settings is None:
        why = "was made with a map of temperatures, which its file does not contain"
    elif not same:
        models = f"{recipe.model} (sha256 {recipe.model_sha256[:12]}…), not with {manifest.name}"
        fix = "name its bundle, or its name on the server, with --model"
        why = f"was made with the model {models} (sha256 {manifest.digest[:12]}…); {fix}"
    elif recipe.cleaned_by is not None and not cleaners:
        why = f"was made with {recipe.cleaned_by:.60}… first, which is not here; leave out --model and --server"
    elif recipe.auto_tau not in (None, AUTO_TAU_SCHEME) or recipe.latent_scheme != LATENT_SCHEME:
        theirs = f"version {recipe.auto_tau} of --tau auto and latent scheme {recipe.latent_scheme}"
        why = f"was made with {theirs}, but this SDK has {AUTO_TAU_SCHEME} and {LATENT_SCHEME}{other}"
    elif recipe.precision not in get_args(ComputePrecision):
        why = f"was made in the precision {recipe.precision!r:.40}, which this SDK does not know{other}"
    if why:
        raise ImageError(f"{output} {why}")
    if recipe.tau is not None and recipe.auto_tau is not None:
        same = [same[0]._by_default(recipe.tau)]
    if cleaners:
        same = [dataclasses.replace(same[0], _cleaner=cleaners[0])]
    return recipe, same


def find_source(output: Path, recipe: Provenance, given: Sequence[Path]) -> Path:
    """The input of an output: that given, or one of the recorded name beside it or in the current directory.

    Raises: ImageError if none has the same bytes; ArgumentError if several are given.
    """
    if len(given) > 1:
        raise ArgumentError(f"--from-output makes one picture again; name one input, not {len(given)}")
    name = PurePosixPath(recipe.source.replace("\\", "/")).name  # the file may be from anywhere: no paths from it
    found = "which is neither beside it nor in the current directory; name it as INPUT"
    for path in given or [place / name for place in (output.parent, Path()) if name]:
        if given or path.is_file():
            try:
                with reading(path) as local:
                    sha256 = file_sha256(local)
            except OSError as error:
                raise ImageError(f"{path}: the file cannot be read: {error.strerror or error}") from error
            if sha256 == recipe.source_sha256:
                return path
            found = f"and {path} (sha256 {sha256[:12]}…) is another file" if given else found
    wanted = f"{name or 'a file'} (sha256 {recipe.source_sha256[:12]}…)"
    raise ImageError(f"{output} was made from {wanted}, {found}")
