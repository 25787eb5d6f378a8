"""Runs jobs on the machines of a Ray cluster, and :class:`UpscaleFiles` for pipelines of Ray Data."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from numpy.typing import NDArray

from srflow_apps.batch.jobs import FolderFile, FolderResult, Settings
from srflow_apps.batch.one_file import Choices, Models, attempted, digest, do_one, explained, failure
from srflow_apps.batch.operations import Job, Upscaling
from srflow_apps.batch.run import Watcher
from srflow_apps.batch.storage import exists, make_folders, remove_leftovers
from srflow_apps.batch.url_paths import UrlPath, as_path
from srflow_sdk._checks import one_of, real, whole
from srflow_sdk.drawing.finishing import warn_if_inconsistent
from srflow_sdk.drawing.options import DrawOptions
from srflow_sdk.drawing.tiles import TileSize
from srflow_sdk.errors import ArgumentError, BundleError, CancelledError, DeviceError, MissingExtraError, SRFlowError
from srflow_sdk.files import MAX_PIXELS, PathLike
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.model_choice import BY_PICTURE, bundles_of
from srflow_sdk.system.device_names import Device, Precision, split_device
from srflow_sdk.system.interrupts import kept_handlers
from srflow_sdk.system.plain_text import without_secrets
from srflow_sdk.upscaler import Upscaler

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from srflow_sdk.drawing.options import DrawKeywords


WITHOUT_PORT = ("auto", "local")
"""Addresses that are not host:port."""

_CONNECT_S = 5.0
_QUIET = {"RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected; a connection that this process has is used, and stays.

    Raises: MissingExtraError, DeviceError.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        # Ray's native code would end this process once the raylet of this machine has died, where the parent process is
        # 1, as in a container: it takes the parent for its raylet. It reads the raylet's id once, when it is loaded,
        # from this variable, so it is told of a process that lives as long as this one.
        os.environ["RAY_RAYLET_PID"] = str(os.getpid())
        import ray
    except ImportError as error:
        raise MissingExtraError(f'Ray is not installed; run: pip install "srflow-sdk[ray]" ({error})') from error
    finally:
        del os.environ["RAY_RAYLET_PID"]
    ours = not ray.is_initialized()
    with contextlib.ExitStack() as stack:
        if ours:
            stack.enter_context(_quiet(ray))
            _check_answers(address)
            try:
                with _without_standard_error(), kept_handlers():
                    ray.init(
                        address=None if address == "auto" else address,
                        log_to_driver=False,
                        logging_level=logging.CRITICAL,
                    )
            except SystemExit as error:  # of Ray's own handler of SIGTERM
                raise KeyboardInterrupt(error.code) from error
            except Exception as error:  # Ray raises that itself where its raylet does not start in time
                raise cluster_error(address, error) from error
            stack.callback(ray.shutdown)
        yield ray


def raylet_of_this_machine(ray: Any) -> Callable[[], bool]:
    """A function that tells if the raylet by which this process belongs to the cluster is alive.

    Soon after its death, Ray's native code ends this process too, without a word; until then Ray can be left in peace.
    """
    mine = ray.get_runtime_context().get_node_id()
    sockets = {f"--raylet_socket_name={node['RayletSocketName']}" for node in ray.nodes() if node["NodeID"] == mine}
    found = (each for each in psutil.process_iter(["cmdline"]) if sockets & set(each.info["cmdline"] or ()))
    raylet = next(found, None)

    def lives() -> bool:
        try:
            return raylet is None or raylet.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return lives


@contextlib.contextmanager
def _without_standard_error() -> Iterator[None]:
    """Ray's native code says there how much it will say."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Keep what Ray logs off the terminal while the block runs; its own files have it.

    What Ray prints about dead workers passes every logger, and goes to standard output, where names of files go.
    """
    logger = logging.getLogger("ray")
    before = logger.level, logger.propagate
    worker = ray._private.worker
    printing = getattr(worker, "print_to_stdstream", None)
    try:
        logger.setLevel(logging.CRITICAL)
        logger.propagate = False
        if printing is not None:
            worker.print_to_stdstream = lambda *_, **__: None
        yield
    finally:
        logger.setLevel(before[0])
        logger.propagate = before[1]
        if printing is not None:
            worker.print_to_stdstream = printing


def _check_answers(address: str) -> None:
    """Raises: DeviceError if nothing listens at host:port, which for "auto" RAY_ADDRESS may name.

    Ray itself would wait for minutes, and then end this process without a word.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    host, _, port = address.rpartition(":")
    if not host or "://" in host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError, ValueError) as error:
        raise DeviceError(
            f"no Ray cluster answers at {address} ({getattr(error, 'strerror', None) or error}); start one there with "
            "`ray start --head`, or name another address"
        ) from error


def cluster_error(address: str, error: BaseException) -> DeviceError:
    """An error of Ray's as one of ours, in a line."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if any("No module named 'srflow_sdk" in line for line in lines):
        return DeviceError("a machine of the Ray cluster does not have srflow-sdk; install this version on all of them")
    return DeviceError(f"the Ray cluster {address} failed: {lines[-1] if lines else type(error).__name__}")


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
        """Run the jobs. What :func:`~srflow_apps.batch.run.run_jobs` says holds; a worker that dies loses nothing.

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
                warn_if_inconsistent(str(file.source), decibels, options=draw, manifest=manifest)
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
