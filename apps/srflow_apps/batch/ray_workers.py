"""The workers on a cluster's machines, which open the model once and then do one file after the other.

Ray is imported only by a worker that Ray runs.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_apps.batch.jobs import FolderFile, Job, Settings
from srflow_apps.batch.models import BY_PICTURE, Choices, Models, candidates, digest
from srflow_apps.batch.one_file import do_one, failure
from srflow_apps.batch.storage import exists
from srflow_sdk.drawing.tiles import TileSize
from srflow_sdk.errors import BundleError, CancelledError, ImageError, SRFlowError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system.device_names import Device, Precision
from srflow_sdk.system.url_paths import UrlPath
from srflow_sdk.upscaler import Upscaler

Batch = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Worker:
    """The model and settings of a worker. It can be pickled.

    model: the bundle's path, which every machine has, or an embedded model's name; None is the default one, and "auto"
    for each picture the embedded one that suits it. sha256: what the model must be; of several, as of :func:`digest`.
    folder: what paths that are not absolute begin at. stop: a handle of :class:`Stop`.
    """

    settings: Settings
    model: str | Path | None = None
    sha256: str | None = None
    device: Device = "auto"
    precision: Precision = "bundle"
    tile: TileSize = "auto"
    threads: int | None = None
    folder: str | None = None
    stop: Any = field(default=None, compare=False)

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


class Stop:
    """An actor that tells all workers when to stop. Its methods are coroutines, so that any number may wait."""

    def __init__(self) -> None:
        import asyncio

        self._event = asyncio.Event()

    async def wait(self) -> None:
        """Return once the run is to stop."""
        await self._event.wait()

    async def set(self) -> None:
        """Let the run stop."""
        self._event.set()


class RunJobs:
    """An actor class for Ray Data: takes pickled jobs, gives pickled results.

    A batch has the columns `number`, `job` and `seen` (whether the machine that made the plan has the input). It
    becomes `number`, `result` (a FolderFile; an SRFlowError if that concerns all files; None if the run is to stop),
    `device` and `precision`. No error leaves an actor: Ray would begin it again.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._cancel = threading.Event()
        self._error: SRFlowError | None = None
        try:
            self._models = worker.opened()
        except SRFlowError as error:
            self._error = error
        if worker.stop is not None:
            threading.Thread(target=self._wait_for_stop, name="srflow-stop", daemon=True).start()

    def __call__(self, batch: Batch) -> Batch:
        """Do the jobs of a batch."""
        results = np.empty(len(batch["job"]), dtype=object)
        for place, (job, seen) in enumerate(zip(batch["job"], batch["seen"], strict=True)):
            results[place] = pickle.dumps(self._result(pickle.loads(bytes(job)), seen=bool(seen)))
        device, precision = "", ""
        if self._error is None:
            device, precision = self._models.any.device, str(self._models.any.precision)
        return {
            "number": batch["number"],
            "result": results,
            "device": np.array([device] * len(results), dtype=object),
            "precision": np.array([precision] * len(results), dtype=object),
        }

    def _result(self, job: Job, *, seen: bool) -> FolderFile | SRFlowError | None:
        if self._error is not None:
            return self._error
        try:
            _check_machine(job, seen=seen)
            return do_one(job, self._models, settings=self._worker.settings, cancel=self._cancel)
        except CancelledError:
            return None
        except ImageError as error:
            return failure(job.source, str(error), targets=job.targets)
        except SRFlowError as error:
            return error

    def _wait_for_stop(self) -> None:
        import ray

        with contextlib.suppress(Exception):  # the actor's machine may have died
            ray.get(self._worker.stop.wait.remote())
            self._cancel.set()


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
