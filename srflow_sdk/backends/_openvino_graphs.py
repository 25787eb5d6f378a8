"""Graphs as OpenVINO runs them: compiled or taken from the cache, run one at a time, compiled again after a failure."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from srflow_sdk.backends._kept_folders import is_whole, written
from srflow_sdk.backends._ort import is_out_of_memory
from srflow_sdk.backends._ort_providers import one_line
from srflow_sdk.errors import BundleError, CancelledError, DeviceError, OutOfMemoryError
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.hardware import return_freed_memory
from srflow_sdk.system.interrupts import interruptible, is_cancelled
from srflow_sdk.system.raising import PassingError, is_installed, lack_of_threads

FIX = 'use device="cpu", or update it: pip install -U openvino'

_POLL_S = 0.1
_cache_works = True  # false once a graph could not be written: the next use of that entry would wait for ever
_PLACE = re.compile(r"Exception from \S+:\d+:")


def import_openvino() -> Any:
    """The package. Raises: DeviceError, with the fix, if it is not installed or does not load."""
    try:
        import openvino
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "openvino":
            raise PassingError('OpenVINO is not installed: pip install "srflow-sdk[openvino]"') from error
        raise PassingError(
            f"OpenVINO does not load: {one_line(error)}; pip install -U --force-reinstall openvino"
        ) from error
    return openvino


def openvino_core() -> Any:
    """The process's Core, whose threads all graphs share.

    Raises: DeviceError as :func:`import_openvino`, if it does not start, or in a process that was forked after it had
    started in the other one: its threads do not exist here, and OpenVINO would wait for them.
    """
    core, process = _core()
    if process != os.getpid():
        raise PassingError(
            "this process was forked from one that has already used OpenVINO, whose threads do not exist here: start "
            'it with multiprocessing.get_context("spawn"), or fork before the first use'
        )
    return core


@functools.cache
def _core() -> tuple[Any, int]:
    openvino = import_openvino()
    try:
        return openvino.Core(), os.getpid()
    except Exception as error:  # OpenVINO's exceptions are RuntimeErrors of many kinds
        raise PassingError(f"OpenVINO {openvino.__version__} does not start: {_reason(error)}; {FIX}") from error


def best_device() -> str:
    """The first GPU that OpenVINO runs on, such as "GPU" or "GPU.0"; without one the processor, "CPU".

    Neural processors are left out, because they compute in half precision whatever the settings say.
    """
    return next((name for name in openvino_core().available_devices if name.partition(".")[0] == "GPU"), "CPU")


def has_bf16() -> bool:
    """True if the processor has bfloat16 arithmetic; without it OpenVINO computes in float32, whatever the hint.

    Raises: DeviceError as :func:`openvino_core`, or if OpenVINO cannot tell.
    """
    try:
        return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except RuntimeError as error:
        raise DeviceError(f"OpenVINO cannot be used: {one_line(error)}; pip install -U openvino") from error


def gpu_offered() -> bool:
    """True if OpenVINO is installed and runs on a GPU here. Without a GPU's device file it is not even imported."""
    return is_installed("openvino") and _has_gpu_file() and best_device() != "CPU"


def _has_gpu_file() -> bool:
    return sys.platform != "linux" or any(Path("/dev/dri").glob("renderD*"))


class Graph:
    """A graph on one of OpenVINO's devices. Any number of threads may run it; one run takes place at a time.

    path, sha256: the file; without a hash it is not kept in the cache. device: OpenVINO's name. settings: its
    properties.
    Raises: BundleError if the file cannot be loaded, OutOfMemoryError, DeviceError.
    """

    def __init__(self, path: Path, *, sha256: str | None, device: str, settings: Mapping[str, Any]) -> None:
        self._path = path
        self._sha256 = sha256
        self._device = device
        self._settings = dict(settings)
        self._turns = threading.Lock()
        self.scarce = False
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._compiled: Any = self._load()
        self._passed_on = _passed_on(self._compiled)

    def run(self, inputs: Mapping[str, Any], what: str) -> dict[str, Any]:
        """The outputs by name, as OpenVINO's tensors, from inputs that are such tensors, or arrays, which are copied.

        what: this run in an error's words. Raises: CancelledError, OutOfMemoryError, DeviceError.
        """
        with self._turn():
            compiled = self._load() if self._compiled is None else self._compiled
            # Until the run has ended. One that fails or is cancelled leaves the new shapes in a part of the nodes: what
            # comes next would fail, differ, or end the process (seen in 2026.4.1).
            self._compiled = None
            shapes = {name: tuple(value.shape) for name, value in inputs.items()}
            if shapes != self._shapes:  # what OpenVINO frees for others does not fit them, and would stay in the heap
                return_freed_memory()
                self._shapes = shapes
            request = compiled.create_infer_request()
            try:
                # Not infer(): it returns empty results when memory runs out, and it cannot be cancelled.
                request.start_async(inputs)
                interruptible(request.wait, stop=request.cancel)
            except Exception as error:  # OpenVINO's exceptions are RuntimeErrors of many kinds
                traceback.clear_frames(error.__traceback__)  # they hold the request, and it holds the memory
                del request, compiled
                if is_cancelled():
                    raise CancelledError("cancelled by the caller") from error
                reason = _reason(error)
                if _lacks_memory(error):
                    self.scarce = True
                    raise OutOfMemoryError(
                        f"{what} on openvino failed: out of memory ({reason}); use smaller tiles"
                    ) from error
                raise DeviceError(f"{what} on openvino failed: {reason}; {FIX}") from error
            if self.scarce:  # what it keeps for the next run leaves nothing for others
                compiled.release_memory()
            outputs = {_name(port): request.get_tensor(port) for port in compiled.outputs}
            for name in self._passed_on:
                outputs[name] = import_openvino().Tensor(outputs[name].data.copy())
            self._compiled = compiled
            return outputs

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """One run at a time, as OpenVINO would have it anyway, but none on a graph that has just failed."""
        openvino_core()
        if is_cancelled():  # short runs would end before anybody looked
            raise CancelledError("cancelled by the caller")
        while not self._turns.acquire(timeout=_POLL_S):
            if is_cancelled():
                raise CancelledError("cancelled by the caller")
        try:
            yield
        finally:
            self._turns.release()

    def _load(self) -> Any:
        """The compiled graph; a second or less. Ctrl-C is heeded when it is done: OpenVINO cannot be stopped here."""
        try:
            return interruptible(self._compile, stop=lambda: None)
        except Exception as error:  # OpenVINO's exceptions are RuntimeErrors of many kinds
            if isinstance(error, DeviceError):
                raise
            if _lacks_memory(error):
                raise OutOfMemoryError(
                    f"{self._path}: memory ran out while the graph was loaded ({_reason(error)}); close other programs"
                ) from error
            if "Resource temporarily unavailable" in str(error):
                raise PassingError(lack_of_threads(RuntimeError(_reason(error)))) from error
            raise BundleError(f"{self._path} is not a graph that OpenVINO can load: {_reason(error)}; {FIX}") from error

    def _compile(self) -> Any:
        global _cache_works
        core = openvino_core()
        if self._sha256 is None:
            return core.compile_model(str(self._path), self._device, self._settings)
        about = self._path.stat()
        key = (
            *(import_openvino().__version__, core.get_property(self._device, "FULL_DEVICE_NAME"), self._device),
            *(self._sha256, str(self._path), about.st_size, about.st_mtime_ns, sorted(self._settings.items())),
        )
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:32]
        try:
            with _cache(name) as settings:
                return core.compile_model(str(self._path), self._device, {**self._settings, **settings})
        except (RuntimeError, OSError):  # perhaps the cache cannot be written, as on a full disk: no reason to fail
            compiled = core.compile_model(str(self._path), self._device, self._settings)
            _cache_works = False
            return compiled


@contextlib.contextmanager
def _cache(name: str) -> Iterator[dict[str, str]]:
    """Properties of OpenVINO that name a folder for one compiled graph; none if there is no cache.

    Raises: OSError if no folder can be made for a new one.
    """
    parent = cache_folder("openvino") if _cache_works else None
    if parent is None:
        yield {}
    elif is_whole(parent / name):
        yield {"CACHE_DIR": str(parent / name)}
    else:
        with written(parent / name) as part:
            yield {"CACHE_DIR": str(part)}


def _lacks_memory(error: Exception) -> bool:
    text = str(error)
    _, listed, frontends = text.partition("Available frontends:")  # one that finds no address space is not listed
    return (
        isinstance(error, MemoryError)
        or is_out_of_memory(text)
        or any(words in text for words in ("Failed to allocate", "can't alloc"))
        or (bool(listed) and "onnx" not in frontends)
    )


def _reason(error: Exception) -> str:
    """OpenVINO's message without the places in its source."""
    said = _PLACE.sub(" ", str(error)).rpartition("Caught exception:")[2]
    return one_line(said if said.strip() else error)


def _passed_on(compiled: Any) -> list[str]:
    """The outputs that are inputs: their memory is not the run's own, and the next run writes to it."""
    results = [result.input_value(0).get_node() for result in compiled.get_runtime_model().get_results()]
    inputs = {value.get_node().get_friendly_name() for value in compiled.inputs}
    names = [_name(value) for value in compiled.outputs]
    return [name for name, source in zip(names, results, strict=True) if source.get_friendly_name() in inputs]


def _name(value: Any) -> str:
    """The name of an input or output in the file: a tensor may have further ones, of operators that were left out."""
    name: str = value.get_node().get_friendly_name().partition("/sink_port_")[0]
    return name if name in value.names else str(value.any_name)
