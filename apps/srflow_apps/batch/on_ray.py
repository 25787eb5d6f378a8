"""Runs jobs on the machines of a Ray cluster, by Ray Data: another executor beside :mod:`running`."""

from __future__ import annotations

import contextlib
import pickle
import re
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from srflow_apps.batch.jobs import FolderFile, FolderResult, Job, Settings
from srflow_apps.batch.models import BY_PICTURE, digest, explained
from srflow_apps.batch.one_file import failure
from srflow_apps.batch.operations import Upscaling
from srflow_apps.batch.ray_connection import (
    WITHOUT_PORT,
    cluster_error,
    connected,
    raylet_of_this_machine,
    start_no_other,
)
from srflow_apps.batch.ray_workers import RunJobs, Stop, Worker, is_seen
from srflow_apps.batch.running import Watcher
from srflow_apps.batch.storage import remove_leftovers
from srflow_sdk._checks import one_of, real, whole
from srflow_sdk.drawing.passes import warn_if_inconsistent
from srflow_sdk.drawing.tiles import TileSize
from srflow_sdk.errors import ArgumentError, DeviceError, SRFlowError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system.device_names import Device, Precision
from srflow_sdk.system.url_paths import UrlPath

_POLL_S = 0.2
_ATTEMPTS = 3
"""How often a file may be under way when its worker dies. A file that kills its worker must not do so for ever."""

_KILLED = f"its worker was killed {_ATTEMPTS} times; perhaps it needs more memory than a machine has"
_STOP_S = 20.0  # for workers to end their tile
_MOST_GPUS = 64
_MOST_CPUS = 4  # of a worker, unless chosen: several workers use a large machine better than many threads do
_HOST_AND_PORT = re.compile(r"[^/\s]+:([0-9]{1,5})", re.ASCII)
_LAST_PORT = 65_535


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A Ray cluster, and how a batch uses it.

    address: "auto" is the cluster that this machine belongs to (or RAY_ADDRESS names), and a new one on this machine
    alone if there is none; otherwise host:port of its head.
    workers: at most so many; None is as many as there is room for.
    gpus: of each worker, such as 0.5 for two on a GPU; None is 1 if the cluster has GPUs and `device` may be one,
    otherwise 0.
    cpus: of each worker, and its threads; None is up to 4.
    batch: how many files a worker takes at a time; more than 1 is worth it for thousands of tiny pictures.
    device, precision: as of :class:`~srflow_sdk.Upscaler`; with "fastest", machines with other processors may choose
    otherwise.
    """

    address: str = "auto"
    workers: int | None = None
    gpus: float | None = None
    cpus: int | None = None
    batch: int = 1
    device: Device = "auto"
    precision: Precision = "bundle"

    def __post_init__(self) -> None:
        if not isinstance(self.address, str) or not self.address.strip():
            shown = repr(self.address) if self.address else "empty"
            raise ArgumentError(f'the address of the Ray cluster is {shown}; give "auto" or "host:port"')
        if self.address.startswith("ray://"):
            raise ArgumentError(
                f"{self.address} is an address of the Ray Client, which Ray Data does not support; run this on a "
                "machine of the cluster, or by `ray job submit`"
            )
        if self.address not in WITHOUT_PORT:
            named = _HOST_AND_PORT.fullmatch(self.address)
            if named is None or not 1 <= int(named[1]) <= _LAST_PORT:
                raise ArgumentError(
                    f'{self.address!r} is no address of a Ray cluster; give "auto" or host:port, such as head:6379'
                )
        for name in ("workers", "cpus", "batch"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), least=1)
        if self.gpus is not None:
            real("gpus", self.gpus, least=0, most=_MOST_GPUS)
        one_of("device", self.device, Device)
        one_of("precision", self.precision, Precision)


class OnRay:
    """The executor that lets a cluster's workers draw the files. Results come in the order in which files end.

    bundles: the model; several if each picture gets the one that suits it. say: called with a line about the workers.
    explain: with one about each picture's model, if there are several.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        bundles: Sequence[Bundle],
        tile: TileSize = "auto",
        say: Callable[[str], None] = lambda _: None,
        explain: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._device, self._precision = "ray", str(cluster.precision)
        self._cluster = cluster
        self._bundles = bundles
        self._tile = tile
        self._say, self._explain = say, explain

    def __call__(
        self, jobs: Sequence[Job], *, settings: Settings, watcher: Watcher | None, check: Callable[[], None]
    ) -> FolderResult:
        """Run the jobs. What :func:`~srflow_apps.batch.running.run_jobs` says holds; a worker that dies loses nothing.

        Raises: also DeviceError if the cluster cannot be used.
        """
        remove_leftovers([target for job in jobs for target in job.targets])
        if not jobs:
            return self._result([], total=0)
        local = any(not isinstance(path, UrlPath) for job in jobs for path in (job.source, *job.targets))
        worker = Worker(
            settings=settings,
            model=self._model,
            sha256=digest([bundle.manifest for bundle in self._bundles]),
            device=self._cluster.device,
            precision=self._cluster.precision,
            tile=self._tile,
            folder=str(Path.cwd()) if local else None,
        )
        done: dict[int, FolderFile] = {}
        interrupted = disk_full = lost = False

        def take(number: int, file: FolderFile) -> None:
            done[number] = file
            if file.model is not None and file.why is not None:
                self._explain(explained(file.source, file.model, file.why))
            if isinstance(settings.operation, Upscaling):  # the worker's own warning is in a log of its machine
                draw = settings.operation.draw
                decibels = [output.lr_psnr for output in file.outputs]
                manifests = [bundle.manifest for bundle in self._bundles]
                manifest = next((one for one in manifests if one.name == file.model), manifests[0])
                tau = draw.tau_number(manifest)
                warn_if_inconsistent(str(file.source), decibels, options=draw, tau=tau, manifest=manifest)
            if watcher is not None:
                watcher.finished(number + 1, file)
            if file.disk_full:
                raise _DiskFullError

        with connected(self._cluster.address) as ray:
            stop = ray.remote(num_cpus=0, max_concurrency=10_000)(Stop).remote()
            worker = replace(worker, stop=stop)
            raylet_lives = raylet_of_this_machine(ray)

            def check_all() -> None:
                check()
                if not raylet_lives():
                    raise _RayletDiedError

            try:
                for _ in range(_ATTEMPTS):
                    left = [number for number in range(len(jobs)) if number not in done]
                    if not left:
                        break
                    self._round(ray, jobs, left, worker, check_all, take=take)
                for number, job in enumerate(jobs):
                    if number not in done:
                        take(number, failure(job.source, _KILLED, targets=job.targets))
            except KeyboardInterrupt:
                interrupted = True
            except _DiskFullError:
                disk_full = True
            except _RayletDiedError:
                lost = True
                start_no_other(ray)
        remove_leftovers([target for job in jobs for target in job.targets])  # of workers that died
        files = [done[number] for number in sorted(done)]
        return self._result(files, total=len(jobs), interrupted=interrupted, disk_full=disk_full, server_lost=lost)

    def _result(self, files: Sequence[FolderFile], *, total: int, **ended: Any) -> FolderResult:
        return FolderResult(files=tuple(files), total=total, device=self._device, precision=self._precision, **ended)

    @property
    def _model(self) -> str | Path:
        """The model that a worker opens, by its name or path."""
        first, *others = self._bundles
        if others:
            return BY_PICTURE
        return first.path.stem if first.is_embedded else first.path.resolve()

    def _round(
        self,
        ray: Any,
        jobs: Sequence[Job],
        left: Sequence[int],
        worker: Worker,
        check: Callable[[], None],
        *,
        take: Callable[[int, FolderFile], None],
    ) -> None:
        """Give every job that is left to a worker, and take results as they come. Those of dead workers are missing.

        If check() or take() raises, the workers stop at their next tile; what they finished by then is taken too.
        """
        share = _share(ray, self._cluster, most=-(-len(left) // self._cluster.batch))
        self._say(share.described)
        rows = [{"number": n, "job": pickle.dumps(jobs[n]), "seen": is_seen(jobs[n].source)} for n in left]
        dataset = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // self._cluster.batch))
        with warnings.catch_warnings():  # Ray 2.60 says that other names for the last two are to come, and has none yet
            warnings.simplefilter("ignore", DeprecationWarning)
            dataset = dataset.map_batches(
                RunJobs,
                fn_constructor_args=(replace(worker, threads=share.cpus),),
                batch_size=self._cluster.batch,
                # One task at a time, so that a dead worker takes nothing with it but what it was drawing.
                compute=ray.data.ActorPoolStrategy(size=share.workers, max_tasks_in_flight_per_actor=1),
                num_cpus=share.cpus,
                num_gpus=share.gpus or None,
                # A worker that died begins again where there is room, but its file is ours to give to another one.
                max_restarts=-1,
                max_task_retries=0,
            )
        results: SimpleQueue[Any] = SimpleQueue()
        stopped = threading.Event()
        stream = threading.Thread(target=_stream, args=(dataset, results, stopped), name="srflow-ray", daemon=True)
        stream.start()
        try:
            while True:
                check()
                try:
                    item = results.get(timeout=_POLL_S)
                except Empty:
                    continue
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item if isinstance(item, SRFlowError) else cluster_error(self._cluster.address, item)
                number, result, device, precision = item
                if isinstance(result, SRFlowError):
                    raise result
                self._device, self._precision = device or self._device, precision or self._precision
                if result is not None:
                    take(number, result)
        except _RayletDiedError:
            stopped.set()  # whatever asks Ray for anything now may end this process
            raise
        except BaseException:
            stopped.set()
            with contextlib.suppress(Exception):  # the actor's machine may have died
                ray.get(worker.stop.set.remote(), timeout=_STOP_S)
            stream.join(timeout=_STOP_S)
            while not results.empty():
                item = results.get()
                if isinstance(item, tuple) and isinstance(item[1], FolderFile):
                    with contextlib.suppress(_DiskFullError):
                        take(item[0], item[1])
            raise


class _DiskFullError(Exception):
    """A job failed because the disk is full."""


class _RayletDiedError(Exception):
    """The raylet died by which this process belongs to the cluster."""


@dataclass(frozen=True, kw_only=True)
class _Share:
    """How many workers there are, and what each of them has."""

    workers: int
    cpus: int
    gpus: float
    machines: int

    @property
    def described(self) -> str:
        gpus = f" and {self.gpus:g} GPU{'s' * (self.gpus > 1)}" if self.gpus else ""
        each = f"{'each ' * (self.workers > 1)}with {self.cpus} CPU{'s' * (self.cpus > 1)}{gpus}"
        machines = f"{self.machines} machine{'s' * (self.machines > 1)}"
        return f"Ray: {self.workers} worker{'s' * (self.workers > 1)}, {each}; the cluster has {machines}"


def _share(ray: Any, cluster: Cluster, *, most: int) -> _Share:
    """Divide the cluster. Raises: DeviceError if no machine has room for a worker."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    machines = [resources for resources in machines if resources.get("CPU", 0) >= 1]
    gpus = cluster.gpus
    if gpus is None:
        may = cluster.device not in ("cpu", "openvino")
        gpus = 1 if may and any(resources.get("GPU", 0) >= 1 for resources in machines) else 0
    cpus = cluster.cpus or min([_MOST_CPUS, *(int(resources["CPU"]) for resources in machines)])

    def fit(resources: dict[str, float]) -> int:
        room = int(resources["CPU"] // cpus)
        return min(room, int(resources.get("GPU", 0) / gpus + 1e-6)) if gpus else room

    room = sum(map(fit, machines))
    if not room:
        raise DeviceError(
            f"no machine of the Ray cluster has {cpus} CPUs and {gpus:g} GPUs for a worker; ask for less with "
            "--threads and --ray-gpus"
        )
    return _Share(
        workers=min(room, most, cluster.workers or room), cpus=cpus, gpus=float(gpus), machines=max(len(machines), 1)
    )


def _stream(dataset: Any, results: SimpleQueue[Any], stopped: threading.Event) -> None:
    """Run the dataset and pass on its rows, then None, or what it raised."""
    try:
        for block in dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            columns = (block[name] for name in ("number", "result", "device", "precision"))
            for number, result, device, precision in zip(*columns, strict=True):
                results.put((int(number), pickle.loads(bytes(result)), str(device), str(precision)))
            if stopped.is_set():
                break
        results.put(None)
    except BaseException as error:
        results.put(error)
