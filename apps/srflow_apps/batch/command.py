"""Runs the batch of a command on pictures: pipes, dry run, pictures made again, exit status."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast, get_args

from srflow_apps.batch.display import Display
from srflow_apps.batch.jobs import Job, do_job
from srflow_apps.batch.operations import Operation
from srflow_apps.batch.plan import Plan, ending_of, make_plan
from srflow_apps.batch.ray import Cluster
from srflow_apps.batch.report import write_report
from srflow_apps.batch.results import FolderFile, FolderResult
from srflow_apps.batch.run import BatchProgress, run_plan
from srflow_apps.batch.storage import (
    UrlPath,
    as_path,
    exists,
    is_folder,
    read_locally,
    show_files_as,
)
from srflow_apps.clips.files import is_clip
from srflow_apps.commands.signals import (
    STOPPING,
    deferred_interrupts,
    exit_status,
    raised_interrupts,
)
from srflow_sdk.drawing.file_upscaling import record_cleaner
from srflow_sdk.drawing.temperature import AUTO_TAU_SCHEME
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import ImageReader, Provenance, check_writable, read_provenance, spooled
from srflow_sdk.files.animations import Animation
from srflow_sdk.files.provenance import INTERVAL, TRANSFER, UPSCALE
from srflow_sdk.latents.random_field import LATENT_SCHEME
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.model.model_choice import BY_PICTURE, ModelChoice, bundles_of
from srflow_sdk.system.hardware import ComputePrecision, DeviceName
from srflow_sdk.system.local_files import file_sha256
from srflow_sdk.upscaler import Upscaler

if TYPE_CHECKING:
    from srflow_apps.batch.choices import FileChoices, MachineChoices
    from srflow_sdk.system.hardware import Device, Precision

STANDARD = "-"
"""The name of standard input among the inputs, and of standard output as the output."""

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
) -> None:
    """Do the operation to every input, or that of `files.from_output`. Exits with another status
    than 0 on failure.

    output: None puts the outputs beside the inputs. model: a bundle's path, an embedded model's
    name, or "auto"; None is "auto" for upscaling, and x4-small otherwise. server: the URL of one
    that draws by a model of its own.
    Raises: SRFlowError for what concerns all files; KeyboardInterrupt.
    """
    # Long, as everything that is opened stays open until the pictures are there.
    paths = [as_path(text) for text in inputs]
    again = files.from_output
    if model == BY_PICTURE and operation.name != UPSCALE:
        raise ArgumentError(
            f"--model auto is for srflow-upscale; srflow-{operation.name} needs one model: name it"
        )
    _check_pictures(inputs, output, files, samples, server)
    with contextlib.ExitStack() as stack:
        display = stack.enter_context(Display(quiet=machine.quiet))
        if STANDARD in inputs:
            paths = [stack.enter_context(read_standard_input(machine.max_pixels))]
        sent = None
        if output == STANDARD:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="srflow-"))
            sent = Path(folder) / f"stdout{ending_of(operation, files)}"
            stack.enter_context(show_files_as({sent: "stdout"}))
            output = str(sent)
            display.shows_names = False
        recipe = None
        if again is not None:
            recipe = read_recipe(again, operation=operation)
            operation = operation.from_recipe(recipe)
            machine = _machine_of(recipe, machine)
        remote: Upscaler | None = None
        if server is not None:
            from srflow_apps.serving.remote_upscaler import RemoteUpscaler

            remote = RemoteUpscaler(server, model=model or BY_PICTURE, tile=machine.tile)
            stack.enter_context(remote)
            bundles = list(remote.engine.bundles.values())
            if model == BY_PICTURE and len(bundles) == 1:
                display.tell("--model auto: the server draws all pictures with its own model")
        elif model is None and operation.name != UPSCALE and recipe is None:
            bundles = [Bundle.embedded()]
        else:
            bundles = bundles_of(model)
        if again is not None and recipe is not None:
            bundles = [recipe_bundle(again, recipe, bundles, on_server=remote is not None)]
            paths = [find_source(again, recipe, paths)]
        plan = make_plan(
            operation,
            paths,
            output,
            bundles,
            files=files,
            samples=samples,
            max_pixels=machine.max_pixels,
            tile=machine.tile,
            keep=[again] if again else (),
        )
        _tell_left_out(plan, display, files)
        if files.dry_run or files.ray is None:
            upscaler = remote or stack.enter_context(_open_upscaler(plan, machine, recipe=recipe))
            plan.models.upscaler = upscaler
            plan.models.say = display.tell
            plan.models.named = (
                model is not None and operation.name == UPSCALE and not operation.raw
            )
            if recipe is not None and upscaler.precision != recipe.precision:
                raise ArgumentError(
                    f"{again} was made with --precision {recipe.precision}, and {upscaler.device} "
                    f"draws with {upscaler.precision}; leave out --server"
                )
        if files.dry_run:
            _dry_run(plan, display)
            return
        _run(plan, display, files, machine)
        if sent is not None:
            with raised_interrupts(*STOPPING), sent.open("rb") as picture:
                shutil.copyfileobj(picture, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def _check_pictures(
    inputs: Sequence[str],
    output: str | None,
    files: FileChoices,
    samples: int,
    server: str | None,
) -> None:
    """Raises: ArgumentError for options and standard streams that do not go together."""
    if files.from_output is not None and output is None:
        raise ArgumentError("--from-output makes a picture again; name the file for it with -o")
    if files.ray is not None and server:
        raise ArgumentError(
            "--ray draws on the cluster's machines, --server on the server's; leave one of them out"
        )
    piped = STANDARD in inputs
    sends = output == STANDARD
    if files.ray is not None and (piped or sends):
        raise ArgumentError("--ray needs files that other machines see; leave it out for pipes")
    if piped and len(inputs) > 1:
        raise ArgumentError("- is standard input, one picture; it must be the only input")
    if piped and not output:
        raise ArgumentError(
            "- is standard input, which lies in no folder; name the output: -o large.png, or -o -"
        )
    if sends and (samples > 1 or files.name or files.shard or files.dry_run):
        raise ArgumentError("-o - is one picture; leave out --samples, --name, --shard, --dry-run")
    if sends and (len(inputs) > 1 or any(is_folder(as_path(text)) for text in inputs)):
        raise ArgumentError(
            "-o - is standard output, one picture; name one INPUT, which is no folder"
        )
    if sends and (sys.stdout is None or sys.stdout.isatty()):
        raise ArgumentError(
            "-o - is standard output; redirect it to a file or program: > large.png"
        )


def _machine_of(recipe: Provenance, machine: MachineChoices) -> MachineChoices:
    """The machine's choices with those by which a picture was made."""
    device = machine.device
    if device == "auto" and recipe.device in get_args(DeviceName):  # others round otherwise
        device = cast("Device", recipe.device)
    precision = cast("Precision", recipe.precision)
    return dataclasses.replace(machine, tile=recipe.tile, precision=precision, device=device)


def _open_upscaler(plan: Plan, machine: MachineChoices, *, recipe: Provenance | None) -> Upscaler:
    """Open the models that the inputs may need, or that of the only one, on this machine."""
    chosen = plan.bundles
    models = plan.models
    if recipe is not None and chosen[0].cleaner is not None:  # whatever is measured today
        cleaner = chosen[0].cleaner.manifest.name
        models.choices[plan.jobs[0].source] = ModelChoice(
            name=chosen[0].manifest.name, why="", cleaner=cleaner
        )
    if len(plan.jobs) == 1 and not isinstance(plan.jobs[0].source, UrlPath):
        with contextlib.suppress(ImageError, OSError):  # it fails later
            chosen = [models.bundles[models.choose(plan.jobs[0].source, plan.jobs[0].source).name]]
    return Upscaler(
        chosen,
        device=machine.device,
        precision=machine.precision,
        threads=machine.threads,
        tile=machine.tile,
    )


def _run(plan: Plan, display: Display, files: FileChoices, machine: MachineChoices) -> None:
    """Run the plan, report, and show both. Exits if something failed or was interrupted."""
    cluster = None
    if files.ray is not None:
        cluster = Cluster(
            address=files.ray,
            cpus=machine.threads,
            device=machine.device,
            precision=machine.precision,
        )
    names = [job.source.name for job in plan.jobs]
    display.begin(names, lambda: BatchProgress.of(plan.jobs, max_pixels=machine.max_pixels))
    with deferred_interrupts(*STOPPING) as interrupts:

        def on_result(number: int, file: FolderFile) -> None:
            if cluster is not None and file.why is not None:  # it could not be said before
                display.tell(file.drawn_by)
            display.show_result(number, file)

        result = run_plan(
            plan,
            on_progress=display.show_progress,
            on_result=on_result,
            check=interrupts,
            cluster=cluster,
        )
        if stopped := result.interrupted or result.disk_full or result.server_lost:
            display.say(_how_to_continue(result, on_ray=cluster is not None))
        write_report(plan, result)
        if result.interrupted:
            sys.exit(exit_status(interrupts.number))
    if not stopped and (result.total > 1 or result.count("skipped")):
        drew = Counter(str(file.model) for file in result.files if file.why is not None)
        counts = ", ".join(f"{name} drew {drew[name]}" for name in sorted(drew))
        display.tell(f"{result}{f'; {counts}' if counts else ''}")
    if result.remaining or display.names_lost:
        sys.exit(FAILED)


def _tell_left_out(plan: Plan, display: Display, files: FileChoices) -> None:
    """Say what is left out. Exits if nothing is left to do and something is wrong."""
    tell = display.tell if plan.total else display.say
    for file in plan.inputs.refused:
        display.say(f"error: {file.error}")
    for what, count in plan.inputs.others.items():
        if count:
            tell(f"left out: {count} {what}")
    if not plan.total:
        sys.exit(FAILED)
    if files.shard is not None and not plan.jobs:
        part = "{}/{}".format(*files.shard)
        display.tell(f"none of the {plan.total} inputs is in part {part}: nothing to do")


@contextlib.contextmanager
def read_standard_input(max_pixels: int) -> Iterator[Path]:
    """Read standard input to its end: a file in its place, until the block ends. Raises:
    ArgumentError, ImageError.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise ArgumentError("- is standard input; pipe a picture into it: < photo.jpg")
    with contextlib.ExitStack() as stack:
        with raised_interrupts(*STOPPING):
            path = stack.enter_context(
                spooled(sys.stdin.buffer, name="stdin", max_pixels=max_pixels)
            )
        with show_files_as({path: "stdin"}):
            yield path


def _how_to_continue(result: FolderResult, *, on_ray: bool) -> str:
    """Advice about a batch that did not finish. A picture begins again: one alone has no
    --resume.
    """
    done = f"{result.total - result.remaining} of {result.total} done"
    again = f"the same command{' with --resume' * (result.total > 1)}"
    if result.interrupted:
        return f"interrupted: {done}; {again} makes what is missing"
    why = "the server is lost", "once it is back, run"
    if on_ray:
        why = "Ray's raylet on this machine died, perhaps for want of memory", "run"
    if result.disk_full:
        why = "the disk is full", "free space, then run"
    return f"stopped because {why[0]}: {done}; {why[1]} {again}"


def _dry_run(plan: Plan, display: Display) -> None:
    """Say what a run of the plan would do, by doing it up to the drawing. Exits if an input would
    fail.
    """
    operation = plan.settings.operation

    def look(job: Job, reader: ImageReader | Animation, manifest: Manifest) -> None:
        size = reader.width, reader.height
        made = operation.output_size(size, manifest)
        for target in job.targets:
            if isinstance(reader, ImageReader):
                check_writable(target, channels=reader.channels, size=made)
        replaced = ", replacing what is there" if any(map(exists, job.targets)) else ""
        targets = ", ".join(map(str, job.targets))
        display.answer(
            f"{job.source} ({size[0]}×{size[1]}) -> {targets} ({made[0]}×{made[1]}){replaced}"
        )

    settings = dataclasses.replace(plan.settings, look=look)
    counts = Counter(failed=len(plan.inputs.refused))
    with raised_interrupts(*STOPPING):
        for job in plan.jobs:
            file = do_job(job, plan.models, settings=settings)
            counts[file.status] += 1
            if file.status == "failed":
                display.say(f"error: {file.error}")
            elif file.status == "skipped":
                display.answer(f"{job.source}: would be skipped")
    line = (
        f"{counts['done']} to {operation.name}, {counts['skipped']} to skip, {counts['failed']} "
        "would fail"
    )
    display.answer(f"dry run, nothing was written: {line}")
    if counts["failed"]:
        sys.exit(FAILED)


def read_recipe(output: Path, *, operation: Operation) -> Provenance:
    """How an output was made. Raises: ArgumentError, ImageError if this operation cannot make it
    again.
    """
    if isinstance(output, UrlPath):
        raise ArgumentError(f"--from-output {output} is a URL; copy the file here and name it")
    if is_clip(output):
        raise ArgumentError(
            f"--from-output is for pictures, and {output} is a clip; its comment says how it was "
            "made"
        )
    if (recipe := read_provenance(output)) is None:
        raise ImageError(
            f"{output} does not say how it was made: it is not an output of "
            f"srflow-{operation.name}, or another program dropped that when it saved the file"
        )
    again = {
        INTERVAL: "srflow-upscale --interval; run that again",
        TRANSFER: "srflow-transfer; run that again, with the pictures that it was made from",
    }.get(
        recipe.operation,
        f"srflow-{recipe.operation}; make it again with srflow-{recipe.operation} --from-output",
    )
    if recipe.operation != operation.name:
        raise ImageError(f"{output} was made by {again}")
    if recipe.tau is None and not recipe.settings:
        raise ImageError(
            f"{output} was made with a map of temperatures, which its file does not contain"
        )
    if (
        recipe.auto_tau not in (None, AUTO_TAU_SCHEME)
        or recipe.latent_scheme != LATENT_SCHEME
        or recipe.precision not in get_args(ComputePrecision)
    ):
        raise ImageError(
            f"{output} was made with version {recipe.auto_tau} of --tau auto, latent scheme "
            f"{recipe.latent_scheme} and the precision {recipe.precision!r:.40}, not all of which "
            f"this SDK knows; make it again with srflow-sdk {recipe.sdk_version}"
        )
    return recipe


def recipe_bundle(
    output: Path, recipe: Provenance, bundles: Sequence[Bundle], *, on_server: bool
) -> Bundle:
    """The model that an output was made with, and the one that cleaned its input. Raises:
    ImageError without them.
    """
    same = [one for one in bundles if one.model_sha256 == recipe.model_sha256]
    cleaners = [one for one in bundles if record_cleaner(one.manifest) == recipe.cleaned_by]
    made = f"{output} was made with"
    if not same:
        other = f"{bundles[0].manifest.name} (sha256 {bundles[0].manifest.digest[:12]}…)"
        fix = f"not with {other}; name its bundle, or its name on the server, with --model"
        raise ImageError(
            f"{made} the model {recipe.model} (sha256 {recipe.model_sha256[:12]}…), {fix}"
        )
    if recipe.cleaned_by is not None and (on_server or not cleaners):
        fix = "which is not here; leave out --model and --server"
        raise ImageError(f"{made} {recipe.cleaned_by:.60}… first, {fix}")
    bundle = same[0]
    if recipe.tau is not None and recipe.auto_tau is not None:
        bundle = dataclasses.replace(
            bundle, manifest=dataclasses.replace(bundle.manifest, default_tau=recipe.tau)
        )
    return dataclasses.replace(bundle, cleaner=cleaners[0]) if cleaners else bundle


def find_source(output: Path, recipe: Provenance, given: Sequence[Path]) -> Path:
    """The input of an output: that given, or one of the recorded name beside it or in the current
    directory.

    Raises: ImageError if none has the same bytes; ArgumentError if several are given.
    """
    if len(given) > 1:
        raise ArgumentError(
            f"--from-output makes one picture again; name one input, not {len(given)}"
        )
    name = PurePosixPath(
        recipe.source.replace("\\", "/")
    ).name  # the file may be from anywhere: no paths from it
    places = [
        place / name for place in (output.parent, Path()) if name and (place / name).is_file()
    ]
    for path in given or places:
        with read_locally(path) as local:
            if file_sha256(local) == recipe.source_sha256:
                return path
    why = "which is neither beside it nor in the current directory"
    if given:
        why = f"and {given[0]} is another file"
    wanted = f"{name or 'a file'} (sha256 {recipe.source_sha256[:12]}…)"
    raise ImageError(f"{output} was made from {wanted}, {why}; name it as INPUT")
