"""What srflow-upscale and srflow-restore do with their files once the operation is known."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from srflow_apps.batch.display import Display
from srflow_apps.batch.finding import say_unread
from srflow_apps.batch.folder import run_plan
from srflow_apps.batch.jobs import FolderResult, Settings
from srflow_apps.batch.models import (
    BY_PICTURE,
    Choices,
    Models,
    ModelsByPicture,
    any_of,
    candidates,
    has_candidates,
    refuse_auto,
)
from srflow_apps.batch.on_ray import Cluster, OnRay
from srflow_apps.batch.operations import Operation
from srflow_apps.batch.pipes import open_pipes
from srflow_apps.batch.plan import Plan, make_folders, make_plan
from srflow_apps.batch.preview import fails, preview
from srflow_apps.batch.remake import embedded_for, find_source, read_recipe
from srflow_apps.batch.report import batch_report, read_report, recorded_in, write_report
from srflow_apps.batch.running import Executor, InThisProcess
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import Provenance
from srflow_sdk.files.provenance import UPSCALE
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system.device_names import ComputePrecision, Device
from srflow_sdk.system.interrupts import STOPPING, deferred_interrupts, exit_status, raised_interrupts
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
    output: str,
    *,
    model: str | None,
    files: FileChoices,
    machine: MachineChoices,
    display: Display,
    samples: int = 1,
    server: str | None = None,
) -> None:
    """Do the operation to every input. Exits with a status other than 0 if something failed.

    operation: with `files.from_output` it is replaced by the one that this picture was made with. model: a bundle's
    path, an embedded model's name, or "auto"; None is "auto" for upscaling, as far as this installation has the models
    for it, and x4-small otherwise. server: the URL of one that draws; `model` is then its model's name.
    Raises: SRFlowError for what concerns all files; KeyboardInterrupt.
    """
    with contextlib.ExitStack() as stack:
        pipes = stack.enter_context(open_pipes(inputs, output, ending=files.ending, max_pixels=machine.max_pixels))
        display.in_words = pipes.in_words
        display.shows_names &= pipes.target is None
        one_picture = samples == 1 and files.name is None and files.shard is None and not files.dry_run
        if pipes.target is not None and not one_picture:
            raise ArgumentError("-o - is standard output, one picture; leave out --samples, --name, --shard, --dry-run")
        pipes.check()
        if files.ray is None and (files.ray_workers, files.ray_gpus) != (None, None):
            raise ArgumentError("--ray-workers and --ray-gpus are about a Ray cluster; name it with --ray")
        if files.ray is not None and pipes.names:
            raise ArgumentError("--ray needs files that other machines see; leave it out for standard input and output")
        if files.ray is not None and server is not None:
            raise ArgumentError(
                "--ray draws on the cluster's machines, --server on the server's; leave one of them out"
            )
        if operation.name != UPSCALE:
            refuse_auto(model, operation.command)
        choices = Choices(max_pixels=machine.max_pixels)
        if server is None:
            bundles = _here(model, operation, files)
        else:
            if model == BY_PICTURE:
                model = None
                display.tell("--model auto: the server draws all pictures with its own model")
            bundles = [_there(model, server)]
        tile = machine.tile
        if files.from_output is not None:
            if isinstance(files.from_output, UrlPath):
                raise ArgumentError(f"--from-output {files.from_output} is a URL; copy the file here and name it")
            recipe = read_recipe(files.from_output, bundles[0], operation=operation)
            source = find_source(files.from_output, recipe, pipes.inputs)
            operation, tile, machine = (
                operation.recorded(recipe),
                recipe.tile,
                _recorded(recipe, machine, files.from_output),
            )
            pipes = dataclasses.replace(pipes, inputs=(source,))
        for bundle in bundles:
            operation.check(bundle)
        earlier = read_report(files.report) if files.report is not None and files.resume else None
        settings = Settings(
            operation=operation,
            report=files.report is not None,
            max_pixels=machine.max_pixels,
            resume=files.resume,
            overwrite=not files.no_overwrite,
            quality=files.quality,
            lossless=files.lossless,
            recorded=recorded_in(earlier),
        )
        plan = make_plan(
            pipes.inputs,
            pipes.output,
            manifest=bundles[0].manifest,
            settings=settings,
            model=choices.name if len(bundles) > 1 else None,
            samples=samples,
            name=files.name,
            format=files.format,
            recursive=files.recursive,
            shard=files.shard,
            report=files.report,
            keep=[] if files.from_output is None else [files.from_output],
        )
        _say_what_is_wrong(plan, display, files.shard)
        alone = len(plan.jobs) == 1 or files.dry_run  # of many, a line for each would hide what went wrong
        explain: Callable[[str], None] = display.tell if alone else lambda _: None
        if files.ray is not None and not files.dry_run:
            execute: Executor = OnRay(
                _cluster(files, machine), bundles=bundles, tile=tile, say=display.tell, explain=explain
            )
        else:
            models = stack.enter_context(_opened(bundles, plan, tile, machine, server, choices, say=explain))
            upscaler = any_of(models)
            if files.from_output is not None and upscaler.precision != machine.precision:
                raise ArgumentError(
                    f"{files.from_output} was made with --precision {machine.precision}, and {upscaler.device} draws "
                    f"with {upscaler.precision}; leave out --server"
                )
            if files.dry_run:
                _show(plan, models, display)
                return
            execute = InThisProcess(models)

        def report(result: FolderResult) -> None:
            if plan.report is not None:
                done = batch_report(
                    pipes.as_given(result),
                    models=[bundle.manifest for bundle in bundles],
                    settings=settings,
                    tile=tile,
                    device=execute.device,
                    precision=execute.precision,
                    earlier=earlier,
                )
                write_report(plan.report, done)

        result = _run(plan, execute, display, on_ray=files.ray is not None, report=report)
        if result.remaining or display.names_lost:
            sys.exit(FAILED)
        pipes.send()


def _here(model: str | None, operation: Operation, files: FileChoices) -> list[Bundle]:
    """Bundles on this machine, of which several if each picture gets the one that suits it."""
    if files.from_output is not None and model in (None, BY_PICTURE):
        return [embedded_for(files.from_output)]
    if model == BY_PICTURE or (model is None and operation.name == UPSCALE and has_candidates()):
        return candidates()
    return [Bundle.embedded() if model is None else Bundle.open(model)]


def _opened(
    bundles: Sequence[Bundle],
    plan: Plan,
    tile: TileSize,
    machine: MachineChoices,
    server: str | None,
    choices: Choices,
    *,
    say: Callable[[str], None],
) -> contextlib.AbstractContextManager[Models]:
    """Open what draws: on this machine or a server, with tiles of this size."""
    if server is not None:
        from srflow_apps.serving.client.remote_upscaler import RemoteUpscaler

        return RemoteUpscaler(server, model=str(bundles[0].path), tile=tile)

    def opened(bundle: Bundle) -> Upscaler:
        return Upscaler(bundle, device=machine.device, tile=tile, threads=machine.threads, precision=machine.precision)

    if len(bundles) == 1:
        return opened(bundles[0])
    alone = len(plan.jobs) == 1 and not isinstance(plan.jobs[0].source, UrlPath)
    first = choices.name(plan.jobs[0].source) if alone else bundles[0].manifest.name
    return ModelsByPicture(bundles, opened, choices=choices, say=say, first=first)


def _recorded(recipe: Provenance, machine: MachineChoices, output: Path) -> MachineChoices:
    """The machine's choices with the precision in which a picture was made, and where if nothing else was chosen.

    Raises: ImageError for a precision that this SDK does not know.
    """
    if recipe.precision not in get_args(ComputePrecision):
        raise ImageError(
            f"{output} was made in the precision {recipe.precision!r:.40}, which this SDK does not know; make it again "
            f"with srflow-sdk {recipe.sdk_version}"
        )
    device = machine.device
    if device == "auto" and recipe.device in get_args(Device):
        device = cast("Device", recipe.device)  # other devices round otherwise
    return dataclasses.replace(machine, precision=cast("ComputePrecision", recipe.precision), device=device)


def _there(model: str | None, server: str) -> Bundle:
    """The same of a model on a server, by its name there."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # or gRPC's own lines about connections stand among ours
    from srflow_apps.serving.client.remote_upscaler import MODEL, RemoteUpscaler

    with RemoteUpscaler(server, model=MODEL if model is None else model) as first:
        return first.bundle


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


def _run(
    plan: Plan, execute: Executor, display: Display, *, on_ray: bool, report: Callable[[FolderResult], None]
) -> FolderResult:
    """Run the plan, and print what became of it.

    on_ray: whether a cluster draws. report: called with what became of it before the command may exit.
    """
    make_folders(plan)
    with deferred_interrupts(*STOPPING) as interrupts:
        with display.progress(plan.jobs, max_pixels=plan.settings.max_pixels, check=interrupts):
            result = run_plan(plan, execute, watcher=display, check=interrupts)
        advice = _how_to_continue(result, on_ray=on_ray)
        if advice is not None:
            display.say(advice)
        report(result)
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


def _cluster(files: FileChoices, machine: MachineChoices) -> Cluster:
    return Cluster(
        address="auto" if files.ray is None else files.ray,
        workers=files.ray_workers,
        gpus=files.ray_gpus,
        cpus=machine.threads,
        device=machine.device,
        precision=machine.precision,
    )


def _how_to_continue(result: FolderResult, *, on_ray: bool) -> str | None:
    """What to tell the user about a batch that did not finish. A picture begins again, so one alone has no --resume."""
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
