"""What the backend holds on the GPU, when it lets go of it, and what it says when there is not enough."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from srflow_sdk.backends.tensorrt import TensorRTBackend
from srflow_sdk.backends.tensorrt_engines.execution import EngineLog
from srflow_sdk.errors import DeviceError, OutOfMemoryError
from srflow_sdk.model.bundle import Bundle

from .drawings import drawing_of, maps_of
from .engine_machine import EngineMachine, noise
from .fake_tensorrt import IExecutionContext


def test_garbage_that_is_collected_during_a_capture_does_not_spoil_it(
    machine: EngineMachine, engine_bundle: Bundle, lr: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TensorRTBackend(engine_bundle) as backend:
        conditioning = backend.encode(lr)
        backend.sample(conditioning, noise(1), 0.7)
        garbage = [backend.encode(lr) for _ in range(9)]  # more than are kept for the next
        original = IExecutionContext.execute_async_v3

        def collecting(self: Any, stream_handle: int) -> bool:
            garbage.clear()
            return original(self, stream_handle)

        monkeypatch.setattr(IExecutionContext, "execute_async_v3", collecting)
        before = len(machine.gpu.blocks)
        backend.sample(conditioning, noise(1), 0.7)
        assert machine.gpu.captures == 1
        assert len(machine.gpu.blocks) == before - 5


def test_closing_frees_everything_and_conditioning_of_before_is_refused(
    machine: EngineMachine, engine_bundle: Bundle, lr: np.ndarray
) -> None:
    backend = TensorRTBackend(engine_bundle)
    with pytest.raises(DeviceError, match="not active"):
        backend.encode(lr)
    with backend:
        old = backend.encode(lr)
        backend.sample(old, noise(1), 0.5)
        assert machine.gpu.used > 0
        with pytest.raises(DeviceError, match="already active"):
            backend.activate()
    assert (machine.gpu.used, machine.gpu.streams, backend.window_limits) == (0, {}, None)
    with backend:
        with pytest.raises(DeviceError, match=r"before this one was closed; encode again"):
            backend.sample(old, noise(1), 0.5)
        del old
        backend.encode(lr)


def test_a_backend_that_nobody_closes_is_closed_by_python(
    machine: EngineMachine, engine_bundle: Bundle, lr: np.ndarray
) -> None:
    backend = TensorRTBackend(engine_bundle)
    backend.activate()
    backend.encode(lr)
    del backend
    gc.collect()
    assert machine.gpu.used == 0


def test_conditioning_is_freed_with_the_object_but_for_a_few_blocks(
    machine: EngineMachine, engine_bundle: Bundle, lr: np.ndarray
) -> None:
    with TensorRTBackend(engine_bundle) as backend:
        kept = [backend.encode(lr) for _ in range(20)]
        before = len(machine.gpu.blocks)
        del kept
        assert len(machine.gpu.blocks) == before - 16


def test_a_backend_that_is_closed_while_it_is_in_use_ends_the_call_first(
    machine: EngineMachine, engine_bundle: Bundle, lr: np.ndarray, expected: np.ndarray
) -> None:
    backend = TensorRTBackend(engine_bundle)
    backend.activate()
    conditioning = backend.encode(lr)
    meeting = machine.runtime._rendezvous = threading.Barrier(2)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(backend.sample, conditioning, noise(1), 0.7)
        while meeting.n_waiting == 0 and not call.done():
            pass
        backend.deactivate()
        assert machine.gpu.used > 0
        meeting.wait()
        np.testing.assert_array_equal(call.result(), expected)
    assert machine.gpu.used == 0
    with pytest.raises(DeviceError, match="not active"):
        backend.encode(lr)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("[defaultAllocator.cpp::allocate::57] Error Code 1: Cuda Runtime (out of memory)", OutOfMemoryError),
        ("[executionContext.cpp] Error Code 2: OutOfMemory (Requested size was 5000 bytes.)", OutOfMemoryError),
        ("[myelin.cpp] Error Code 1: Myelin (kernel failed)", DeviceError),
    ],
)
def test_what_the_library_logs_decides_which_error_it_is(
    machine: EngineMachine, engine_bundle: Bundle, lr: np.ndarray, expected: np.ndarray, line: str, kind: type
) -> None:
    with TensorRTBackend(engine_bundle) as backend:
        conditioning = backend.encode(lr)
        machine.runtime._failure = line
        for _ in range(2):
            with pytest.raises(DeviceError) as caught:
                backend.sample(conditioning, noise(1), 0.7)
            assert type(caught.value) is kind
            assert line in str(caught.value)
        machine.runtime._failure = ""
        np.testing.assert_array_equal(backend.sample(conditioning, noise(1), 0.7), expected)


def test_what_one_thread_logs_is_no_other_threads_reason(machine: EngineMachine) -> None:
    log = EngineLog(machine.library)
    log.logger.log(machine.library.ILogger.ERROR, "out of memory")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(log.clear).result()
        other = pool.submit(log.failure, "it failed").result()
    assert type(other) is DeviceError
    assert type(log.failure("it failed")) is OutOfMemoryError


def test_memory_that_other_sizes_hold_is_given_up_before_memory_is_said_to_be_out(
    machine: EngineMachine, engine_bundle: Bundle
) -> None:
    with TensorRTBackend(engine_bundle) as backend:
        small = np.zeros((1, 3, 24, 30), np.float32)
        backend.sample(backend.encode(small), noise(1), 0.5)
        machine.gpu.nbytes = int(machine.gpu.used * 1.15)
        backend.sample(backend.encode(np.zeros((1, 3, 24, 32), np.float32)), noise(1, width=32), 0.5)
        with pytest.raises(OutOfMemoryError, match=r"encoding 64×64 pixels on tensorrt failed.*use smaller tiles"):
            backend.encode(np.zeros((1, 3, 64, 64), np.float32))
        assert machine.gpu.used == 0  # nothing is held back from those who try with less
        backend.encode(small)


def test_copies_go_through_pinned_memory_that_every_run_uses_again(
    machine: EngineMachine, engine_bundle: Bundle, lr: np.ndarray
) -> None:
    drawing = drawing_of(engine_bundle, maps=maps_of(engine_bundle), rounded=True)
    with TensorRTBackend(engine_bundle) as backend:
        results = []
        for round_ in range(3):
            conditioning = backend.encode(lr)
            results.append(backend.sample(conditioning, noise(1), round_ / 4))
            results.append(backend.draw(conditioning, replace(drawing, seed=round_)))
            results.append(backend.draw(conditioning, replace(drawing, seed=round_, rounded=False)))
            if round_ == 0:
                first = [result.copy() for result in results]
                pinned = set(machine.gpu.pinned)
        assert machine.gpu.pageable == []
        assert set(machine.gpu.pinned) == pinned
        for result, before in zip(results, first, strict=False):  # they are the caller's
            np.testing.assert_array_equal(result, before)
    assert machine.gpu.pinned == {}
