"""The workers on a cluster's machines, which open the model once and then do one file after the other."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from srflow_apps.batch.jobs import FolderFile, Job, Settings
from srflow_apps.batch.models import BY_PICTURE, Choices, Models, candidates, digest
from srflow_apps.batch.one_file import do_one, failure
from srflow_apps.batch.storage import exists
from srflow_sdk.drawing.tiles import TileSize
from srflow_sdk.errors import BundleError, CancelledError, ImageError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system.device_names import Device, Precision
from srflow_sdk.system.url_paths import UrlPath
from srflow_sdk.upscaler import Upscaler


@dataclass(frozen=True, kw_only=True)
class Worker:
    """The model and settings of a worker. It can be pickled.

    model: the bundle's path, which every machine has, or an embedded model's name; None is the default one, and "auto"
    for each picture the embedded one that suits it. sha256: what the model must be; of several, as of :func:`digest`.
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

    def opened(self) -> Models:
        """Open the model, or for "auto" one of them.

        Raises: what :class:`Upscaler` raises; BundleError if this machine has another model.
        """
        if self.folder is not None:
            with contextlib.suppress(OSError):  # without it, files say that they do not exist
                os.chdir(self.folder)
        if self.model == BY_PICTURE:
            bundles = candidates()
        else:
            bundles = [Bundle.embedded() if self.model is None else Bundle.open(self.model)]
        found = digest([bundle.manifest for bundle in bundles])
        if self.sha256 is not None and found != self.sha256:
            raise BundleError(
                f"the machine {socket.gethostname()} has another model at {bundles[0].path} (sha256 "
                f"{found[:12]}… instead of {self.sha256[:12]}…); give all machines the same one"
            )
        choices = Choices(max_pixels=self.settings.max_pixels) if self.model == BY_PICTURE else None
        return Models(bundles, self._upscaler, choices=choices)

    def _upscaler(self, bundle: Bundle) -> Upscaler:
        return Upscaler(bundle, device=self.device, tile=self.tile, threads=self.threads, precision=self.precision)


class DoJobs:
    """An actor of a cluster that does jobs, one call after the other; :meth:`stop` may come meanwhile."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._cancel = threading.Event()
        self._models: Models | None = None

    def do(self, jobs: Sequence[tuple[Job, bool]]) -> tuple[str, str, list[FolderFile]]:
        """Do the jobs, and open the model before the first one.

        jobs: each with True if the machine that made the plan has the input.
        Returns: the device, the precision, and the results, fewer than jobs once it is to stop.
        Raises: SRFlowError for what concerns all files.
        """
        if not jobs:
            return "", "", []
        if self._models is None:
            self._models = self._worker.opened()
        results: list[FolderFile] = []
        with contextlib.suppress(CancelledError):
            for job, seen in jobs:
                results.append(self._result(job, self._models, seen=seen))
        return self._models.any.device, str(self._models.any.precision), results

    def stop(self) -> None:
        """End the work at the next tile."""
        self._cancel.set()

    def _result(self, job: Job, models: Models, *, seen: bool) -> FolderFile:
        try:
            _check_machine(job, seen=seen)
        except ImageError as error:
            return failure(job.source, str(error), targets=job.targets)
        return do_one(job, models, settings=self._worker.settings, cancel=self._cancel)


def is_seen(path: Path) -> bool:
    """True if this machine has the file, as far as can be told without asking a store."""
    return isinstance(path, UrlPath) or exists(path)


def _check_machine(job: Job, *, seen: bool) -> None:
    """Raises: ImageError if this machine does not have what the one has that made the plan."""
    needed = [*([job.source] if seen else []), *(target.parent for target in job.targets)]
    for path in needed:
        if not is_seen(path):
            raise ImageError(
                f"{job.source}: the machine {socket.gethostname()} does not have {path}; every machine of the cluster "
                "needs the folders under the same paths, or use URLs"
            )
