"""Runs a plan, in threads of this process or on a cluster; :func:`upscale_folder` plans, runs and
reports.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from srflow_apps.batch.choices import FileChoices, Format
from srflow_apps.batch.jobs import Job, do_job
from srflow_apps.batch.operations import Upscaling
from srflow_apps.batch.plan import Plan, make_plan
from srflow_apps.batch.ray import Cluster, run_on_ray
from srflow_apps.batch.report import write_report
from srflow_apps.batch.results import (
    DiskFullError,
    EndedError,
    FolderFile,
    FolderResult,
    ServerLostError,
    Take,
)
from srflow_apps.batch.storage import UrlPath, as_path, prepare_folders
from srflow_sdk._checks import file_path, keywords_of
from srflow_sdk.drawing.options import DrawOptions, Progress
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files import MAX_PIXELS, PathLike, count_pixels
from srflow_sdk.model.model_choice import BY_PICTURE, bundles_of
from srflow_sdk.system.interrupts import stop_if_set
from srflow_sdk.upscaler import Upscaler

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from srflow_sdk.drawing.options import DrawKeywords

_POLL_S = 0.2
# pixels that an input with a URL counts for: it is not fetched only to be counted
_OF_URL = 1_000_000


class BatchProgress:
    """How far a batch is, in its inputs' pixels, or in other numbers of how much each job is. Only
    grows.

    tell: called with `done` and `total` as it does. Thread-safe.
    """

    def __init__(self, of_each: Sequence[int], tell: Progress = lambda *_: None) -> None:
        self._of_each = list(of_each)
        self._tell = tell
        self._reached = [0] * len(self._of_each)
        self._lock = threading.Lock()
        self.done = 0
        self.total = sum(self._of_each)

    @classmethod
    def of(
        cls, jobs: Sequence[Job], *, max_pixels: int, tell: Progress = lambda *_: None
    ) -> BatchProgress:
        """Read the headers of the inputs; those that will fail count nothing."""
        counts = [
            _OF_URL
            if isinstance(job.source, UrlPath)
            else count_pixels(job.source, max_pixels=max_pixels)
            for job in jobs
        ]
        return cls(counts, tell)

    def reach(self, number: int, part: float) -> int:
        """Count a part, 0 … 1, of a job, numbered from 1, as done. Returns how many pixels that
        adds.
        """
        with self._lock:
            step = max(round(self._of_each[number - 1] * part) - self._reached[number - 1], 0)
            self._reached[number - 1] += step
            self.done += step
            if step:
                self._tell(self.done, self.total)
        return step


def run_plan(
    plan: Plan,
    *,
    on_progress: Callable[[int, int, int], None] = lambda *_: None,
    on_result: Callable[[int, FolderFile], None] = lambda *_: None,
    check: Callable[[], None] = lambda: None,
    cluster: Cluster | None = None,
) -> FolderResult:
    """Do every job, in threads or on a cluster; failures are part of the result. What killed runs
    left is removed.

    on_progress: called from any thread with the number of a job, from 1, and how many of its tiles
    are drawn, and of how many. on_result: called in this one when a job has ended and its files are
    in place; jobs end in order, but for those of a cluster. check: called between files and between
    tiles, but not while files are being finished. A
    KeyboardInterrupt that it raises ends the batch: finished files stay, and nothing remains of the
    current one. A full
    disk or a lost server ends it too: the other files would also fail, after all the work.
    Raises: ArgumentError, MissingExtraError, ImageError, DeviceError: these concern every file
        alike.
    """
    targets = [target for job in plan.jobs for target in job.targets]
    done = dict[int, FolderFile]()
    interrupted = disk_full = server_lost = False

    def take(number: int, file: FolderFile) -> None:
        done[number] = file
        on_result(number, file)
        if file.disk_full:
            raise DiskFullError
        if file.server_lost:
            raise ServerLostError

    prepare_folders(targets)
    try:
        if cluster is None:
            _run_in_threads(plan, take=take, on_progress=on_progress, check=check)
        elif plan.jobs:
            run_on_ray(plan, cluster=cluster, take=take, check=check)
    except KeyboardInterrupt:
        interrupted = True
    except DiskFullError:
        disk_full = True
    except ServerLostError:
        server_lost = True
    if cluster is not None:
        prepare_folders(targets)  # which deletes what workers that died left
    files = (*plan.inputs.refused, *(done[number] for number in sorted(done)))
    return FolderResult(
        files=files,
        total=len(plan.jobs) + len(plan.inputs.refused),
        interrupted=interrupted,
        disk_full=disk_full,
        server_lost=server_lost,
    )


def _run_in_threads(
    plan: Plan,
    *,
    take: Take,
    on_progress: Callable[[int, int, int], None],
    check: Callable[[], None],
) -> None:
    """Do the jobs in order; each is drawn while the one before it is written. Raises: as run_plan;
    EndedError.
    """
    cancel = threading.Event()
    drawing = threading.Lock()

    def work(number: int, job: Job) -> FolderFile:
        with contextlib.ExitStack() as turn:  # which ends once the file is drawn
            turn.enter_context(drawing)
            stop_if_set(cancel)

            def drawn(done: int, total: int) -> None:
                on_progress(number, done, total)
                if done < total:
                    check()
                else:
                    turn.close()

            return do_job(job, plan.models, settings=plan.settings, progress=drawn, cancel=cancel)

    numbered = iter(enumerate(plan.jobs, start=1))
    begun = deque[tuple[int, Future[FolderFile]]]()
    with ThreadPoolExecutor(2, thread_name_prefix="srflow-file") as pool:
        try:
            while True:
                begun.extend(
                    (number, pool.submit(work, number, job))
                    for number, job in islice(numbered, 2 - len(begun))
                )
                if not begun:
                    return
                check()
                while not wait([begun[0][1]], timeout=_POLL_S).done:
                    check()
                number, file = begun.popleft()
                take(number, file.result())
        except (KeyboardInterrupt, EndedError):
            cancel.set()
            for number, file in begun:  # what was being finished counts
                if file.exception() is None:
                    with contextlib.suppress(KeyboardInterrupt, EndedError):
                        take(number, file.result())
            raise
        finally:
            cancel.set()


def upscale_folder(
    inputs: PathLike | Sequence[PathLike],
    output: PathLike,
    *,
    upscaler: Upscaler | Literal["auto"] | None = None,
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
    """Upscale a folder of images, or several files and folders, into a directory: what
    `srflow-upscale` does.

    A file that fails is a result, not an exception, and does not stop the others; so is a folder
    without images. A full disk ends the run (`result.disk_full`), and so does a server that is lost
    (`result.server_lost`). `cancel`, once set, ends it before the next tile: finished files stay,
    nothing of the others remains, and the result is marked `interrupted`. Ctrl-C does the same, and
    is raised on.

    Args:
        inputs: Files and folders; of folders, the images whose formats are read, without hidden
            ones. Inputs, output and report may be URLs, such as "s3://bucket/photos"; the extra
            `cloud` has what that needs.
        output: A directory, made if needed; it keeps the structure below each folder.
        upscaler: The model and device, or a :class:`~srflow_sdk.triton.RemoteUpscaler`; None, or
            "auto", is `Upscaler()` for this call: each picture gets the embedded model that suits
            it.
        samples: Pictures for each input, `sample` … `sample + samples - 1`, at most 1000.
        recursive: Take subfolders too.
        name: A pattern for outputs' names, with {stem}, {ending}, {scale}, {sample}, {seed}, {tau};
            None is "{stem}.png", for several samples "{stem}_s{sample}.png".
        format: Of the outputs; None is PNG, with `value_range` TIFF, or what the name says.
        quality: As in :meth:`Upscaler.upscale_file`.
        lossless: As in :meth:`Upscaler.upscale_file`.
        resume: Skip inputs whose outputs exist, intact and made from them with these settings.
        overwrite: Replace files that exist; False skips inputs with such an output.
        shard: (i, n) takes only part i of n, for i from 1, by a hash of the names.
        report: A JSON file to write; outputs' LR-PSNRs are measured then.
        ray: The cluster that draws the files: "auto", "host:port" or a
            :class:`srflow_sdk.ray.Cluster`. Of upscaler, only the model and the tile count then.
        max_pixels: Larger inputs fail.
        interval: As in :meth:`Upscaler.upscale_file`: for photo.png, photo_low.png and
            photo_high.png are written, too.
        on_file: Called in the calling thread as each input ends, in order, or with `ray` as they
            end; an error that it raises ends the run.
        **options: Those of :meth:`Upscaler.upscale`, except that tau cannot be a map, and
            `progress(done, total)` counts the pixels of all inputs, a million for one with a URL.

    Returns:
        What became of every file. With the same inputs and settings the outputs are the same.

    Raises:
        ArgumentError, BundleError, DeviceError, MissingExtraError, ImageError: What concerns all
            files, such as an output directory or a report that cannot be written.

    Example:
        result = upscale_folder("photos", "large", recursive=True, resume=True, on_file=print)
        failed = [file.error for file in result.files if file.status == "failed"]
    """
    # Long, as what a command reads from its options is passed on by name.
    draw = keywords_of(DrawOptions, options)
    given = upscaler if isinstance(upscaler, Upscaler) else None
    if given is None and upscaler not in (None, BY_PICTURE):
        raise ArgumentError(f'upscaler is {upscaler!r}; it must be an Upscaler, "auto" or None')
    if isinstance(draw.tau, np.ndarray):
        raise ArgumentError(
            "tau is a map, which fits one image only; give a number, or use upscale_file"
        )
    part: object = shard
    if part is not None and not (
        isinstance(part, tuple) and len(part) == 2 and 1 <= part[0] <= part[1]
    ):
        raise ArgumentError(
            f"shard is {part!r}; it must be part i of n, such as (1, 3), (2, 3) or (3, 3)"
        )
    hear = on_file or (lambda _: None)
    cancelled = draw.cancel or threading.Event()
    files = FileChoices(
        recursive=recursive,
        name=name,
        format=format,
        quality=quality,
        lossless=lossless,
        resume=resume,
        overwrite=overwrite,
        shard=shard,
        report=None if report is None else _path("report", report),
    )
    cluster = None
    with contextlib.ExitStack() as stack:
        plan = make_plan(
            Upscaling(
                options=dataclasses.replace(draw, progress=None, cancel=None), interval=interval
            ),
            _paths(inputs),
            f"{_path('output', output, 'a directory')}/",
            bundles_of() if given is None else list(given.engine.bundles.values()),
            files=files,
            samples=samples,
            max_pixels=max_pixels,
            tile="auto" if given is None else given.engine.tile,
        )
        pixels = None
        if draw.progress is not None:
            pixels = BatchProgress.of(plan.jobs, max_pixels=max_pixels, tell=draw.progress)

        def on_progress(number: int, done: int, total: int) -> None:
            if pixels is not None:
                pixels.reach(number, done / total)

        def on_result(number: int, file: FolderFile) -> None:
            on_progress(number, 1, 1)
            hear(file)

        def check() -> None:
            if cancelled.is_set():
                raise KeyboardInterrupt  # what ends a batch

        for file in plan.inputs.refused:
            hear(file)
        if ray is None:
            plan.models.upscaler = given or stack.enter_context(Upscaler(plan.models.bundles))
            plan.models.upscaler.engine.painter.check_open()  # or every file would fail
        elif not plan.models.bundles[0].manifest.files:
            raise ArgumentError(
                "upscaler is a server's, and Ray's machines need the model's files: leave out ray"
            )
        else:
            cluster = ray if isinstance(ray, Cluster) else Cluster(address=ray)
        result = run_plan(
            plan, on_progress=on_progress, on_result=on_result, check=check, cluster=cluster
        )
        if files.report is not None:
            write_report(plan, result, files.report)
    if result.interrupted and not cancelled.is_set():
        raise KeyboardInterrupt  # now that everything is in order
    return result


def _paths(inputs: PathLike | Sequence[PathLike]) -> list[Path]:
    """The paths and URLs. Raises: ArgumentError."""
    paths = [inputs] if isinstance(inputs, (str, os.PathLike)) else inputs
    return [_path("an input", path) for path in paths]


def _path(name: str, value: PathLike, of: str = "a file") -> Path:
    """The path or URL. Raises: ArgumentError."""
    file_path(name, value, of)
    return as_path(os.fsdecode(value))
