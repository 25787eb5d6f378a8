"""Connects this process to a Ray cluster, quietly, and leaves the process as it was."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from srflow_sdk.errors import DeviceError, MissingExtraError
from srflow_sdk.system.interrupts import kept_handlers

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
