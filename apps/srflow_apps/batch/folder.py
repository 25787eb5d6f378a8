"""The folder API: builds a batch, runs it, and returns what became of every file."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from srflow_apps.batch.choices import FileOptions, Format
from srflow_apps.batch.jobs import FolderFile, FolderResult
from srflow_apps.batch.one_file import Models
from srflow_apps.batch.operations import Upscaling
from srflow_apps.batch.plan import Batch, Plan, Shard
from srflow_apps.batch.ray import Cluster, OnRay
from srflow_apps.batch.run import Executor, Pixels, run_jobs
from srflow_apps.batch.url_paths import as_path
from srflow_sdk._checks import file_path
from srflow_sdk.base_upscaler import BaseUpscaler
from srflow_sdk.drawing.options import DrawOptions, Progress
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files import MAX_PIXELS, PathLike
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.model_choice import BY_PICTURE, bundles_of
from srflow_sdk.upscaler import Upscaler

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from srflow_sdk.drawing.options import DrawKeywords


def upscale_folder(
    inputs: PathLike | Sequence[PathLike],
    output: PathLike,
    *,
    upscaler: BaseUpscaler | Literal["auto"] | None = None,
    samples: int = 1,
    recursive: bool = False,
    name: str | None = None,
    format: Format | None = None,
    quality: int | None = None,
    lossless: bool = False,
    resume: bool = False,
    overwrite: bool = True,
    shard: tuple[int, int] | None = None,
    report: PathLike | None = None,
    ray: str | Cluster | None = None,
    max_pixels: int = MAX_PIXELS,
    interval: float | None = None,
    on_file: Callable[[FolderFile], None] | None = None,
    **options: Unpack[DrawKeywords],
) -> FolderResult:
    """Upscale a folder of images, or several files and folders, into a directory: what `srflow-upscale` does.

    A file that fails is a result, not an exception, and does not stop the others; so is a folder without images. A
    full disk ends the run (`result.disk_full`), and so does a server that is lost (`result.server_lost`). `cancel`,
    once set, ends it before the next tile: finished files stay, nothing of the others remains, and the result is
    marked `interrupted`. Ctrl-C does the same, and is raised on.

    Args:
        inputs: files and folders; of folders, the images whose formats are read, without hidden ones.
        output: a directory, made if needed; it keeps the structure below each folder. All of them and report may be
            URLs, such as "s3://bucket/photos"; the extra `cloud` has what that needs.
        upscaler: the model and device, or a :class:`~srflow_sdk.triton.RemoteUpscaler`; None, or "auto", is
            `Upscaler()` for this call: each picture gets the embedded model that suits it.
        samples: pictures for each input, `sample` … `sample + samples - 1`, at most 1000.
        recursive: take subfolders too.
        name: a pattern for outputs' names, with {stem}, {ending}, {scale}, {sample}, {seed}, {tau}, {model}; None is
            "{stem}.png", for several samples "{stem}_s{sample}.png".
        format: of the outputs; None is PNG, with `value_range` TIFF, or what the name says.
        quality: as in :meth:`Upscaler.upscale_file`.
        lossless: as in :meth:`Upscaler.upscale_file`.
        resume: skip inputs whose outputs exist, intact and made from them with these settings.
        overwrite: replace files that exist; False skips inputs with such an output.
        shard: (i, n) takes only part i of n, for i from 1, by a hash of the names.
        report: a JSON file to write; outputs' LR-PSNRs are measured then, and with `resume`, outputs are held to the
            lengths and hashes of the report that was there.
        ray: the cluster that draws the files: "auto", "host:port" or a :class:`srflow_sdk.ray.Cluster`. Of upscaler,
            only the model and the tile count then.
        max_pixels: larger inputs fail.
        interval: as in :meth:`Upscaler.upscale_file`: for photo.png, photo_low.png and photo_high.png are written, too.
        on_file: called in the calling thread as each input ends, in order, or with `ray` as they end; an error that it
            raises ends the run.
        **options: those of :meth:`Upscaler.upscale`, except that tau cannot be a map, and `progress(done, total)`
            counts the pixels of all inputs, a million for one with a URL.

    Returns:
        What became of every file. With the same inputs and settings the outputs are the same.

    Raises:
        ArgumentError, BundleError, DeviceError, MissingExtraError, ImageError: what concerns all files, such as an
            output directory or a report that cannot be written.

    Example:
        result = upscale_folder("photos", "large", recursive=True, resume=True, on_file=print)
        failed = [file.error for file in result.files if file.status == "failed"]
    """
    draw = DrawOptions(**options)
    operation = Upscaling(options=dataclasses.replace(draw, progress=None, cancel=None), interval=interval)
    batch = Batch(
        operation=operation,
        inputs=[_path("an input", path) for path in ([inputs] if isinstance(inputs, (str, os.PathLike)) else inputs)],
        output=str(_path("output", output)),
        directory=True,
        bundles=operation.needed(_bundles(upscaler)),
        tile=upscaler.tile if isinstance(upscaler, BaseUpscaler) else "auto",
        samples=samples,
        max_pixels=max_pixels,
        files=FileOptions(
            recursive=recursive,
            name=name,
            format=format,
            quality=quality,
            lossless=lossless,
            resume=resume,
            overwrite=overwrite,
            shard=None if shard is None else Shard.of(shard),
            report=None if report is None else _path("report", report),
        ),
    )
    if on_file is not None and not callable(on_file):
        raise ArgumentError(f"on_file is {on_file!r}; it must be a function of one file, or None")

    def check() -> None:
        if draw.cancel is not None and draw.cancel.is_set():
            raise KeyboardInterrupt  # what ends a batch

    with contextlib.ExitStack() as stack:
        execute = _executor(batch, upscaler, ray, stack)
        plan = batch.plan()
        result = batch.run(plan, execute, watcher=_Follower(plan, on_file, draw.progress), check=check)
        batch.write_report(result)
    if result.interrupted and not (draw.cancel is not None and draw.cancel.is_set()):
        raise KeyboardInterrupt  # now that everything is in order
    return result


class _Follower:
    """Passes on to a caller what happens; pixels are counted only if they are asked for."""

    def __init__(self, plan: Plan, on_file: Callable[[FolderFile], None] | None, progress: Progress | None) -> None:
        self._on_file, self._progress = on_file, progress
        self._done = Pixels(plan.jobs, max_pixels=plan.settings.max_pixels) if progress is not None else None
        self._lock = threading.Lock()
        for file in plan.refused:
            self._tell(file)

    def progressed(self, number: int, done: int, total: int) -> None:
        with self._lock:
            if self._done is not None and self._progress is not None and self._done.reach(number, done / total):
                self._progress(self._done.done, self._done.total)

    def finished(self, number: int, file: FolderFile) -> None:
        self.progressed(number, 1, 1)
        self._tell(file)

    def _tell(self, file: FolderFile) -> None:
        if self._on_file is not None:
            self._on_file(file)


def _bundles(upscaler: BaseUpscaler | str | None) -> list[Bundle]:
    if isinstance(upscaler, BaseUpscaler):
        return list(upscaler._bundles.values())
    if upscaler is None or upscaler == BY_PICTURE:
        return bundles_of(upscaler)
    raise ArgumentError(f'upscaler is {upscaler!r}; it must be an Upscaler, "auto" or None')


def _executor(
    batch: Batch, upscaler: BaseUpscaler | str | None, ray: str | Cluster | None, stack: contextlib.ExitStack
) -> Executor:
    """The executor of the batch: this process or a cluster. stack: closes what is opened here."""
    if ray is not None:
        if not isinstance(ray, (str, Cluster)):
            raise ArgumentError(f'ray is {ray!r}; it must be "auto", host:port, a srflow_sdk.ray.Cluster or None')
        if not batch.bundles[0].manifest.files:
            raise ArgumentError(
                "the cluster's machines need the model's files, and upscaler is a server's: leave out ray"
            )
        cluster = Cluster(address=ray) if isinstance(ray, str) else ray
        return OnRay(cluster=cluster, bundles=batch.bundles, tile=batch.tile)
    if not isinstance(upscaler, BaseUpscaler):
        upscaler = stack.enter_context(Upscaler(batch.bundles))
    upscaler._painter.check_open()  # or every file would fail
    return partial(run_jobs, models=Models(batch.choices, upscaler))


def _path(name: str, value: object) -> Path:
    """The path or URL. Raises: ArgumentError."""
    file_path(name, value)
    return as_path(os.fsdecode(cast("PathLike", value)))
