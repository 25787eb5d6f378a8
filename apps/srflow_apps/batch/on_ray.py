"""Runs jobs on the machines of a Ray cluster: another executor beside :mod:`running`."""

from __future__ import annotations

import contextlib
import re
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srflow_apps.batch.jobs import FolderFile, FolderResult, Settings
from srflow_apps.batch.one_file import failure
from srflow_apps.batch.opened_models import digest, explained
from srflow_apps.batch.operations import Job, Upscaling
from srflow_apps.batch.ray_actor import DoJobs, is_seen
from srflow_apps.batch.ray_connection import WITHOUT_PORT, cluster_error, connected, raylet_of_this_machine
from srflow_apps.batch.running import Watcher
from srflow_apps.batch.storage import remove_leftovers
from srflow_sdk._checks import one_of, real, whole
from srflow_sdk.drawing.passes import warn_if_inconsistent
from srflow_sdk.drawing.tiles import TileSize
from srflow_sdk.errors import ArgumentError, DeviceError, SRFlowError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.model_choice import BY_PICTURE
from srflow_sdk.system.device_names import Device, Precision, split_device
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
                f"{self.address} is an address of the Ray Client, which is not supported; run this on a machine of the "
                "cluster, or by `ray job submit`"
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
        split_device(self.device)
        if ":" in self.device:
            raise ArgumentError(f"device is {self.device!r}, but Ray chooses each worker's GPU: leave the number out")
        one_of("precision", self.precision, Precision)


@dataclass(kw_only=True)
class OnRay:
    """The executor that lets a cluster's workers draw the files. Results come in the order in which files end.

    bundles: the model; several if each picture gets the one that suits it. say: called with a line about the workers.
    explain: with one about each picture's model, if there are several.
    """

    cluster: Cluster
    bundles: Sequence[Bundle]
    tile: TileSize = "auto"
    say: Callable[[str], None] = lambda _: None
    explain: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        self._device, self._precision = "ray", str(self.cluster.precision)

    def __call__(
        self, jobs: Sequence[Job], *, settings: Settings, watcher: Watcher | None, check: Callable[[], None]
    ) -> FolderResult:
        """Run the jobs. What :func:`~srflow_apps.batch.running.run_jobs` says holds; a worker that dies loses nothing.

        Raises: also DeviceError if the cluster cannot be used.
        """
        remove_leftovers([target for job in jobs for target in job.targets])
        if not jobs:
            return self._result([], total=0)
        first, *others = self.bundles
        one = first.path.stem if first.is_embedded else first.path.resolve()
        local = any(not isinstance(path, UrlPath) for job in jobs for path in (job.source, *job.targets))
        model = {
            "settings": settings,
            "model": BY_PICTURE if others else one,
            "sha256": digest([bundle.manifest for bundle in self.bundles]),
            "device": self.cluster.device,
            "precision": self.cluster.precision,
            "tile": self.tile,
            "folder": str(Path.cwd()) if local else None,
        }
        done: dict[int, FolderFile] = {}
        ended: dict[str, Any] = {}

        def take(number: int, file: FolderFile) -> None:
            done[number] = file
            if file.model is not None and file.why is not None:
                self.explain(explained(file.source, file.model, file.why))
            if isinstance(settings.operation, Upscaling):  # the worker's own warning is in a log of its machine
                draw = settings.operation.options
                decibels = [output.lr_psnr for output in file.outputs]
                manifests = [bundle.manifest for bundle in self.bundles]
                manifest = next((one for one in manifests if one.name == file.model), manifests[0])
                tau = draw.tau_number(manifest)
                warn_if_inconsistent(str(file.source), decibels, options=draw, tau=tau, manifest=manifest)
            if watcher is not None:
                watcher.finished(number + 1, file)
            if file.disk_full:
                raise _EndedError("disk_full")

        with connected(self.cluster.address) as ray:
            raylet_lives = raylet_of_this_machine(ray)

            def check_all() -> None:
                check()
                if not raylet_lives():
                    raise _EndedError("server_lost")

            try:
                self._draw(ray, jobs, model, check_all, take)
            except KeyboardInterrupt:
                ended["interrupted"] = True
            except _EndedError as error:
                ended[str(error)] = True
            except ray.exceptions.RayError as error:
                if isinstance(cause := getattr(error, "cause", None), SRFlowError):  # what a worker raised
                    raise cause from error
                raise cluster_error(self.cluster.address, error) from error
        remove_leftovers([target for job in jobs for target in job.targets])  # of workers that died
        return self._result([done[number] for number in sorted(done)], total=len(jobs), **ended)

    def _result(self, files: Sequence[FolderFile], *, total: int, **ended: Any) -> FolderResult:
        return FolderResult(files=tuple(files), total=total, device=self._device, precision=self._precision, **ended)

    def _draw(
        self,
        ray: Any,
        jobs: Sequence[Job],
        model: dict[str, Any],
        check: Callable[[], None],
        take: Callable[[int, FolderFile], None],
    ) -> None:
        """Give each worker that is free the next jobs, and take results as they come. A dead worker gets a successor.

        If check() or take() raises, the workers stop at their next tile; what they finished by then is taken too.
        model: the keywords of :class:`DoJobs`.
        """
        batch = self.cluster.batch
        workers, cpus, gpus, line = _share(ray, self.cluster, most=-(-len(jobs) // batch))
        self.say(line)
        actor_class = ray.remote(DoJobs).options(num_cpus=cpus, num_gpus=gpus or None, max_concurrency=2)
        waiting, deaths = deque(range(len(jobs))), Counter[int]()
        idle: list[Any] = []
        doing: dict[Any, tuple[Any, list[int]]] = {}  # by the answer that is to come

        def give(actor: Any, numbers: list[int]) -> None:
            given = [(jobs[number], is_seen(jobs[number].source)) for number in numbers]
            doing[actor.do.remote(given)] = actor, numbers

        def begin() -> None:
            give(actor_class.remote(**model, threads=cpus), [])  # answered once there is room for it

        def buried(numbers: Sequence[int]) -> None:
            """The worker died that had these jobs."""
            begin()
            deaths.update(numbers)
            waiting.extend(number for number in numbers if deaths[number] < _ATTEMPTS)
            for job_number in (number for number in numbers if deaths[number] >= _ATTEMPTS):
                job = jobs[job_number]
                take(job_number, failure(job.source, _KILLED, targets=job.targets))

        def answered(answer: Any) -> None:
            actor, numbers = doing.pop(answer)
            try:
                device, precision, files = ray.get(answer)
            except ray.exceptions.RayActorError as error:
                if error.actor_init_failed:
                    raise
                buried(numbers)
                return
            idle.append(actor)
            self._device, self._precision = device or self._device, precision or self._precision
            for number, file in zip(numbers, files, strict=False):  # fewer if it was to stop
                take(number, file)

        for _ in range(workers):
            begin()
        try:
            while waiting or any(numbers for _, numbers in doing.values()):
                while waiting and idle:
                    give(idle.pop(), [waiting.popleft() for _ in range(min(batch, len(waiting)))])
                check()
                for answer in ray.wait(list(doing), timeout=_POLL_S)[0]:
                    answered(answer)
        except BaseException as error:
            if str(error) != "server_lost":  # or whatever asks Ray for anything now may end this process
                busy = [answer for answer, (_, numbers) in doing.items() if numbers]
                for answer in busy:
                    doing[answer][0].stop.remote()
                for answer in ray.wait(busy, num_returns=len(busy), timeout=_STOP_S)[0] if busy else ():
                    with contextlib.suppress(_EndedError, ray.exceptions.RayError):  # its machine may have died
                        answered(answer)
            raise


class _EndedError(Exception):
    """The run ends early; the message is the field of :class:`FolderResult` that says why."""


def _share(ray: Any, cluster: Cluster, *, most: int) -> tuple[int, int, float, str]:
    """Divide the cluster: how many workers, the CPUs and GPUs of each, and a line about that.

    Raises: DeviceError if no machine has room for a worker.
    """
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
    workers = min(room, most, cluster.workers or room)
    with_gpus = f" and {_counted(gpus, 'GPU')}" if gpus else ""
    each = f"{'each ' * (workers > 1)}with {_counted(cpus, 'CPU')}{with_gpus}"
    line = f"Ray: {_counted(workers, 'worker')}, {each}; the cluster has {_counted(max(len(machines), 1), 'machine')}"
    return workers, cpus, gpus, line


def _counted(count: float, what: str) -> str:
    return f"{count:g} {what}{'s' * (count > 1)}"
