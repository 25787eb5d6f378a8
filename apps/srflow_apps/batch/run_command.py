"""Runs the batch of a command on pictures: of srflow-upscale and srflow-restore."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast, get_args

from srflow_apps.batch.batch import Batch, Plan
from srflow_apps.batch.display import Display
from srflow_apps.batch.finding import is_folder, say_unread
from srflow_apps.batch.jobs import FolderResult
from srflow_apps.batch.on_ray import Cluster, OnRay
from srflow_apps.batch.opened_models import Models
from srflow_apps.batch.operations import Operation
from srflow_apps.batch.pipes import Pipes, open_pipes
from srflow_apps.batch.preview import fails, preview
from srflow_apps.batch.running import Executor, run_jobs
from srflow_apps.batch.storage import reading
from srflow_sdk.base_upscaler import BaseUpscaler
from srflow_sdk.drawing.auto_tau import AUTO_TAU_SCHEME
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import Provenance, read_provenance
from srflow_sdk.files.provenance import CLIP, INTERVAL, TRANSFER, UPSCALE
from srflow_sdk.latents.random_field import LATENT_SCHEME
from srflow_sdk.model.bundle import Bundle, where_released
from srflow_sdk.model.model_choice import BY_PICTURE, bundles_of
from srflow_sdk.system.device_names import ComputePrecision, DeviceName
from srflow_sdk.system.interrupts import STOPPING, deferred_interrupts, exit_status, raised_interrupts
from srflow_sdk.system.local_files import file_sha256
from srflow_sdk.system.url_paths import UrlPath
from srflow_sdk.upscaler import Upscaler

if TYPE_CHECKING:
    from srflow_apps.batch.choices import FileChoices, MachineChoices
    from srflow_apps.batch.output_names import Shard
    from srflow_sdk.drawing.tiles import TileSize

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
