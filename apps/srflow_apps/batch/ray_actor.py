"""The actors on a Ray cluster: workers of a batch, and :class:`UpscaleFiles` for pipelines of Ray Data."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srflow_apps.batch.jobs import FolderFile, Settings
from srflow_apps.batch.one_file import attempted, do_one, failure
from srflow_apps.batch.opened_models import Choices, Models, digest
from srflow_apps.batch.operations import Job, Upscaling
from srflow_apps.batch.storage import exists, make_folders
from srflow_sdk.drawing.requests import DrawOptions, takes_draw_keywords
from srflow_sdk.drawing.tiles import TileSize
from srflow_sdk.errors import ArgumentError, BundleError, CancelledError, MissingExtraError
from srflow_sdk.files import MAX_PIXELS, PathLike
from srflow_sdk.model.model_choice import bundles_of
from srflow_sdk.system.device_names import Device, Precision
from srflow_sdk.system.plain_text import without_secrets
from srflow_sdk.system.url_paths import UrlPath, as_path
from srflow_sdk.upscaler import Upscaler

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from srflow_sdk.drawing.requests import DrawKeywords


class UpscaleFiles:
    """A class for Ray Data's `map_batches`: each actor opens the model once, then upscales the files that rows name.

        rows = [{"source": "s3://bucket/photos/a.jpg", "target": "s3://bucket/large/a.png"}]
        made = ray.data.from_items(rows).map_batches(
            UpscaleFiles, fn_constructor_kwargs={"tau": 0.8}, batch_size=1, concurrency=2, num_gpus=1
        )
        made.filter(lambda row: row["status"] == "failed").show()

    A batch is a dict of columns, and `source` and `target` are str: paths that every machine has, or URLs. The answer
    has all columns of the batch and, for each row, `status` ("done", "skipped" or "failed"), `error` (str, one line, ""
    without one), `width` and `height` (int64, of the input in pixels, 0 unless it is done) and `seconds` (float64, NaN
    unless it is done). A file that fails, or that cannot be named so, is a row, not an exception.

    model: the path of a bundle that every machine has, or an embedded model's name; None is "auto". model, device,
    tile, threads, precision: as of :class:`~srflow_sdk.Upscaler`.
    max_pixels, quality, lossless: as in :meth:`Upscaler.upscale_file`.
    resume, overwrite: as in :func:`~srflow_sdk.upscale_folder`. The other keywords are those of
    :meth:`Upscaler.upscale`.

    Raises: ArgumentError, BundleError, DeviceError, MissingExtraError: these concern all files.
    """

    @takes_draw_keywords
    def __init__(
        self,
        model: PathLike | None = None,
        *,
        device: Device = "auto",
        tile: TileSize = "auto",
        threads: int | None = None,
        precision: Precision = "bundle",
        max_pixels: int = MAX_PIXELS,
        quality: int | None = None,
        lossless: bool = False,
        resume: bool = False,
        overwrite: bool = True,
        **options: Unpack[DrawKeywords],
    ) -> None:
        operation = Upscaling(options=DrawOptions(**options))
        self._settings = Settings(
            operation=operation,
            max_pixels=max_pixels,
            quality=quality,
            lossless=lossless,
            resume=resume,
            overwrite=overwrite,
        )
        bundles = operation.needed(bundles_of(model))
        operation.named_scale(bundles[0].manifest)  # a scale above the model's is an error
        upscaler = Upscaler(bundles, device=device, tile=tile, threads=threads, precision=precision)
        self._models = Models(Choices(bundles, operation.scale, max_pixels=max_pixels), upscaler)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Upscale the files that the rows of a batch name. Raises: ArgumentError if a column is missing."""
        missing = {"source", "target"} - set(batch)
        if missing:
            raise ArgumentError(f"the rows have no column {min(missing)!r}; they need source and target")
        rows = zip(batch["source"], batch["target"], strict=True)
        results = [self._result(str(source), str(target)) for source, target in rows]
        sizes = [result.size or (0, 0) for result in results]
        seconds = [float("nan") if result.seconds is None else result.seconds for result in results]
        return {
            **batch,
            "status": np.array([result.status for result in results], dtype=object),
            "error": np.array([result.error or "" for result in results], dtype=object),
            "width": np.array([width for width, _ in sizes], dtype=np.int64),
            "height": np.array([height for _, height in sizes], dtype=np.int64),
            "seconds": np.array(seconds, dtype=np.float64),
        }

    def _result(self, source: str, target: str) -> FolderFile:
        try:
            if not source or not target:
                raise ArgumentError(f"source is {source!r} and target is {target!r}; both must name a file")
            path, output = as_path(source), as_path(target)
            job = Job(source=path, targets=(output,), name=PurePosixPath(path.name))

            def work() -> FolderFile:
                make_folders([output.parent])
                return do_one(job, self._models, settings=self._settings)

            return attempted(job, work)
        except (ArgumentError, MissingExtraError) as error:  # nothing is wrong for every file: it is about this one
            return failure(Path(without_secrets(source)), str(error))


@dataclass(kw_only=True)
class DoJobs:
    """An actor of a cluster that does jobs, one call after the other; :meth:`stop` may come meanwhile.

    model: as of :class:`UpscaleFiles`. sha256: what the model must be; of several, as of :func:`digest`.
    folder: what paths that are not absolute begin at.
    """

    settings: Settings
    model: str | Path | None = None
    sha256: str | None = None
    device: Device = "auto"
    precision: Precision = "bundle"
    tile: TileSize = "auto"
    threads: int | None = None
    folder: str | None = None

    def __post_init__(self) -> None:
        self._cancel = threading.Event()
        self._models: Models | None = None

    def do(self, jobs: Sequence[tuple[Job, bool]]) -> tuple[str, str, list[FolderFile]]:
        """Do the jobs, and open the model before the first one.

        jobs: each with True if the machine that made the plan has the input.
        Returns: the device, the precision, and the results, fewer than jobs once it is to stop.
        Raises: SRFlowError for what concerns all files, such as a BundleError if this machine has another model.
        """
        if not jobs:
            return "", "", []
        if self._models is None:
            self._models = self._opened()
        results: list[FolderFile] = []
        with contextlib.suppress(CancelledError):
            for job, seen in jobs:
                results.append(self._result(job, self._models, seen=seen))
        return self._models.upscaler.device, str(self._models.upscaler.precision), results

    def stop(self) -> None:
        """End the work at the next tile."""
        self._cancel.set()

    def _opened(self) -> Models:
        if self.folder is not None:
            with contextlib.suppress(OSError):  # without it, files say that they do not exist
                os.chdir(self.folder)
        operation = self.settings.operation
        bundles = operation.needed(bundles_of(self.model))
        found = digest([bundle.manifest for bundle in bundles])
        if self.sha256 is not None and found != self.sha256:
            raise BundleError(
                f"the machine {socket.gethostname()} has another model at {bundles[0].path} (sha256 "
                f"{found[:12]}… instead of {self.sha256[:12]}…); give all machines the same one"
            )
        machine: Any = {name: getattr(self, name) for name in ("device", "tile", "threads", "precision")}
        choices = Choices(bundles, operation.scale, max_pixels=self.settings.max_pixels)
        return Models(choices, Upscaler(bundles, **machine))

    def _result(self, job: Job, models: Models, *, seen: bool) -> FolderFile:
        needed = [*([job.source] if seen else []), *(target.parent for target in job.targets)]
        absent = next((path for path in needed if not is_seen(path)), None)
        if absent is not None:
            reason = (
                f"the machine {socket.gethostname()} does not have {absent}; every machine of the cluster needs the "
                "folders under the same paths, or use URLs"
            )
            return failure(job.source, f"{job.source}: {reason}", targets=job.targets)
        return do_one(job, models, settings=self.settings, cancel=self._cancel)


def is_seen(path: Path) -> bool:
    """True if this machine has the file, as far as can be told without asking a store."""
    return isinstance(path, UrlPath) or exists(path)
