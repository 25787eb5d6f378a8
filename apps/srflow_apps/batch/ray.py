"""Runs jobs on the machines of a Ray cluster: the executor beside the threads of this process."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from srflow_apps.batch.jobs import Job, Settings, do_job
from srflow_apps.batch.models import Models, digest
from srflow_apps.batch.plan import Plan
from srflow_apps.batch.results import EndedError, FolderFile, ServerLostError, Take, failure
from srflow_apps.batch.storage import UrlPath
from srflow_apps.commands.signals import kept_handlers
from srflow_sdk._checks import whole
from srflow_sdk.errors import (
    ArgumentError,
    BundleError,
    CancelledError,
    DeviceError,
    MissingExtraError,
    SRFlowError,
)
from srflow_sdk.geometry.tiles import TileSize
from srflow_sdk.model.model_choice import BY_PICTURE, bundles_of
from srflow_sdk.system.hardware import Device, Precision
from srflow_sdk.upscaler import Upscaler

_CONNECT_S = 5.0
_POLL_S = 0.2
_STOP_S = 20.0  # for workers to end their tile
_ATTEMPTS = 3  # a file that kills its worker must not do so for ever

_KILLED = (
    f"its worker was killed {_ATTEMPTS} times; perhaps it needs more memory than a machine has"
)
# of a worker, unless chosen: several workers use a large machine better than many threads do
_MOST_CPUS = 4
_ADDRESS = re.compile(r"auto|local|[^/\s]+:\d+", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A Ray cluster, and how a batch uses it.

    Attributes:
        address: "auto" is the cluster that this machine belongs to (or RAY_ADDRESS names), and a
            new one on this machine alone if there is none; otherwise host:port of its head.
        cpus: Of each worker, and its threads; None is up to 4. It has a GPU, too, if there is one
            and `device` may be one.
        device, precision: As of :class:`~srflow_sdk.Upscaler`; with "fastest", machines with other
            processors may choose otherwise.
    """

    address: str = "auto"
    cpus: int | None = None
    device: Device = "auto"
    precision: Precision = "bundle"

    def __post_init__(self) -> None:
        if not (isinstance(self.address, str) and _ADDRESS.fullmatch(self.address)):
            fix = (
                'give "auto" or host:port, such as head:6379; the Ray Client, ray://, is not '
                "supported"
            )
            raise ArgumentError(f"the address of the Ray cluster is {self.address!r}; {fix}")
        if self.cpus is not None:
            whole("cpus", self.cpus, least=1)


def run_on_ray(plan: Plan, *, cluster: Cluster, take: Take, check: Callable[[], None]) -> None:
    """Let a cluster's free workers do job after job, and let a dead one's successor do its job
    again.

    If check() or take() raises, the workers stop at their next tile, and what they finished is
    taken.
    """
    with connect(cluster.address) as ray:
        run = _ClusterRun(ray, plan, cluster, take)
        try:
            run.do_jobs(check)
        except ServerLostError:  # whatever asks Ray for anything now may end this process
            raise
        except BaseException:
            run.stop()
            raise


class _ClusterRun:
    """A run of a plan on a cluster."""

    def __init__(self, ray: Any, plan: Plan, cluster: Cluster, take: Take) -> None:
        self._ray = ray
        self._plan = plan
        self._cluster = cluster
        self._take = take
        self._raylet_lives = watch_raylet(ray)
        self._workers, self._cpus, gpus = _share(ray, cluster, most=len(plan.jobs))
        self._actor_class = ray.remote(JobWorker).options(
            num_cpus=self._cpus, num_gpus=gpus or None, max_concurrency=2
        )
        self._waiting = deque(range(len(plan.jobs)))
        self._deaths = Counter[int]()
        self._idle = list[Any]()
        # by the answer that is to come; None: the worker begins
        self._doing = dict[Any, tuple[Any, int | None]]()

    def do_jobs(self, check: Callable[[], None]) -> None:
        for _ in range(self._workers):
            self._start_worker()
        while self._waiting or self._busy():
            while self._waiting and self._idle:
                actor = self._idle.pop()
                number = self._waiting.popleft()
                self._doing[actor.do.remote(self._plan.jobs[number])] = actor, number
            check()
            if not self._raylet_lives():
                raise ServerLostError
            for answer in self._ray.wait(list(self._doing), timeout=_POLL_S)[0]:
                self._receive(answer)

    def stop(self) -> None:
        """Let the workers stop, and take what they finish."""
        busy = self._busy()
        if not busy:
            return
        for answer in busy:
            self._doing[answer][0].stop.remote()
        for answer in self._ray.wait(busy, num_returns=len(busy), timeout=_STOP_S)[0]:
            # its machine may have died
            with contextlib.suppress(EndedError, self._ray.exceptions.RayError):
                self._receive(answer)

    def _busy(self) -> list[Any]:
        """The answers that are to come of workers that have a job."""
        return [answer for answer, (_, number) in self._doing.items() if number is not None]

    def _start_worker(self) -> None:
        first, *others = self._plan.models.bundles
        model: str | Path = BY_PICTURE
        if not others:
            model = first.path.stem if first.is_embedded else first.path.resolve()
        paths = [path for job in self._plan.jobs for path in (job.source, *job.targets)]
        only_urls = all(isinstance(path, UrlPath) for path in paths)
        actor = self._actor_class.remote(
            settings=self._plan.settings,
            model=model,
            sha256=digest([bundle.manifest for bundle in self._plan.models.bundles]),
            folder=None if only_urls else str(Path.cwd()),
            tile=self._plan.tile,
            cluster=dataclasses.replace(self._cluster, cpus=self._cpus),
        )
        self._doing[actor.__ray_ready__.remote()] = actor, None  # answered once there is room

    def _receive(self, answer: Any) -> None:
        """Take the result of a worker, or let another do what a dead one did."""
        actor, number = self._doing.pop(answer)
        try:
            result = self._ray.get(answer)
        except self._ray.exceptions.RayActorError as error:
            if error.actor_init_failed:
                raise
            self._start_worker()
            if number is None:
                return
            self._deaths[number] += 1
            if self._deaths[number] < _ATTEMPTS:
                self._waiting.append(number)
                return
            job = self._plan.jobs[number]
            self._take(number + 1, failure(job.source, _KILLED, targets=job.targets))
            return
        self._idle.append(actor)
        if result is not None and number is not None:  # it is None if the worker was to stop
            if result.why is not None:
                self._plan.models.say(result.drawn_by)  # its machine could not
            self._take(number + 1, result)


def _share(ray: Any, cluster: Cluster, *, most: int) -> tuple[int, int, int]:
    """Divide the cluster: how many workers, and the CPUs and GPUs of each. Raises: DeviceError
    without room for one.
    """
    machines = [
        node["Resources"]
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
    ]
    cpus = cluster.cpus or min([_MOST_CPUS, *(int(resources["CPU"]) for resources in machines)])
    may = cluster.device not in ("cpu", "openvino")
    gpus = int(may and any(resources.get("GPU", 0) >= 1 for resources in machines))
    fits = [
        min(int(one["CPU"] // cpus), int(one.get("GPU", 0)) if gpus else most) for one in machines
    ]
    if not (workers := min(sum(fits), most)):
        wanted = f"{cpus} CPUs{' and a GPU' * gpus} for a worker; ask for less with --threads"
        raise DeviceError(f"no machine of the Ray cluster has {wanted}")
    return workers, cpus, gpus


@dataclass(kw_only=True)
class JobWorker:
    """An actor of a cluster that does jobs.

    model: a path, an embedded model's name, or "auto". cluster: has the CPUs of this worker.
        folder: to work in. tile: as of Upscaler.
    """

    settings: Settings
    model: str | Path
    sha256: str
    cluster: Cluster
    folder: str | None = None
    tile: TileSize = "auto"

    def __post_init__(self) -> None:
        self._cancel = threading.Event()
        self._models: Models | None = None

    def do(self, job: Job) -> FolderFile | None:
        """Do a job. Returns None if it was to stop. Raises: SRFlowError as :func:`do_job`."""
        models = self._models = self._models or self._open_models()
        folders = [
            path
            for path in (job.source.parent, job.targets[0].parent)
            if not isinstance(path, UrlPath)
        ]
        if absent := [path for path in folders if not path.exists()]:
            fix = "every machine of the cluster needs the folders under the same paths, or use URLs"
            reason = (
                f"{job.source}: the machine {socket.gethostname()} does not have {absent[0]}; {fix}"
            )
            return failure(job.source, reason, targets=job.targets)
        with contextlib.suppress(CancelledError):
            return do_job(job, models, settings=self.settings, cancel=self._cancel)
        return None

    def stop(self) -> None:
        """End the work at the next tile."""
        self._cancel.set()

    def _open_models(self) -> Models:
        if self.folder is not None:
            with contextlib.suppress(OSError):  # without it, files say that they do not exist
                os.chdir(self.folder)
        bundles = self.settings.operation.select_bundles(bundles_of(self.model))
        sha256 = digest([bundle.manifest for bundle in bundles])
        if sha256 != self.sha256:
            raise BundleError(
                f"the machine {socket.gethostname()} has another model at {bundles[0].path} "
                f"(sha256 {sha256[:12]}… instead of {self.sha256[:12]}…); give all "
                "machines the same one"
            )
        return Models(
            bundles=bundles,
            scale=self.settings.operation.scale,
            max_pixels=self.settings.max_pixels,
            upscaler=Upscaler(
                bundles,
                tile=self.tile,
                device=self.cluster.device,
                precision=self.cluster.precision,
                threads=self.cluster.cpus,
            ),
        )


@contextlib.contextmanager
def connect(address: str) -> Iterator[Any]:
    """Ray, connected; a connection that this process has is used, and stays.

    Raises: MissingExtraError, DeviceError, also for Ray's errors in the block; SRFlowError that a
        worker raised.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        # Ray's native code would end this process once the raylet of this machine has died, where
        # the parent process is 1, as in a container: it takes the parent for its raylet. It reads
        # the raylet's id once, when it is loaded, from this variable, so it is told of a process
        # that lives as long as this one.
        os.environ["RAY_RAYLET_PID"] = str(os.getpid())
        import ray
    except ImportError as error:
        raise MissingExtraError(
            f'Ray is not installed; run: pip install "srflow-sdk[ray]" ({error})'
        ) from error
    finally:
        del os.environ["RAY_RAYLET_PID"]
    with contextlib.ExitStack() as stack:
        if not ray.is_initialized():
            # What Ray prints about dead workers passes every logger, and goes to where the names of
            # files go.
            worker = ray._private.worker
            stack.callback(setattr, worker, "print_to_stdstream", worker.print_to_stdstream)
            worker.print_to_stdstream = lambda *_, **__: None
            _check_answers(address)
            try:
                with kept_handlers():
                    where = None if address == "auto" else address
                    ray.init(address=where, log_to_driver=False, logging_level=logging.CRITICAL)
            except (
                Exception
            ) as error:  # Ray raises that itself where its raylet does not start in time
                raise cluster_error(address, error) from error
            stack.callback(ray.shutdown)
        try:
            yield ray
        except ray.exceptions.RayError as error:
            # what a worker raised
            if isinstance(cause := getattr(error, "cause", None), SRFlowError):
                raise cause from error
            raise cluster_error(address, error) from error


def watch_raylet(ray: Any) -> Callable[[], bool]:
    """A function that tells if this process's raylet lives: after its death Ray's code soon ends
    this process, too.
    """
    mine = ray.get_runtime_context().get_node_id()
    sockets = {
        f"--raylet_socket_name={node['RayletSocketName']}"
        for node in ray.nodes()
        if node["NodeID"] == mine
    }
    processes = psutil.process_iter(["cmdline"])
    of_raylet = (each for each in processes if sockets & set(each.info["cmdline"] or ()))
    raylet = next(of_raylet, None)

    return lambda: (
        raylet is None or (raylet.is_running() and raylet.status() != psutil.STATUS_ZOMBIE)
    )


def _check_answers(address: str) -> None:
    """Raises: DeviceError if nothing listens: Ray would wait for minutes, then end this process
    without a word.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    host, _, port = address.rpartition(":")
    try:
        if host and "://" not in host:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        fix = "start one there with `ray start --head`, or name another address"
        raise DeviceError(f"no Ray cluster answers at {address} ({why}); {fix}") from error


def cluster_error(address: str, error: BaseException) -> DeviceError:
    """An error of Ray's as one of ours, in a line."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if any("No module named 'srflow_sdk" in line for line in lines):
        return DeviceError(
            "a machine of the Ray cluster does not have srflow-sdk; install this version on all of "
            "them"
        )
    return DeviceError(
        f"the Ray cluster {address} failed: {lines[-1] if lines else type(error).__name__}"
    )
