"""Work that calls leave on the GPU: how seldom it is waited for, and that nothing is written over
meanwhile."""

import sys
import threading

import numpy as np
import pytest

from srflow_sdk.backends import Finish
from srflow_sdk.backends.tensorrt import TensorRTBackend
from srflow_sdk.errors import CancelledError, DeviceError

from .engine_machine import drawing_of, noise

BYTES = Finish(np.dtype(np.uint8), None)


def drawing(bundle, sample):
    return drawing_of(bundle, sample=sample, finish=BYTES)


def expected_of(bundle, lr, samples):
    """Each picture by itself, on a backend of its own."""
    with TensorRTBackend(bundle) as backend:
        conditioning = backend.encode(lr)
        return [backend.begin(conditioning, drawing(bundle, sample))() for sample in samples]


@pytest.fixture
def backend(machine, engine_bundle):
    with TensorRTBackend(engine_bundle) as backend:
        yield backend
    assert machine.gpu.pageable == []  # all copies go through pinned memory


def test_the_processor_waits_once_for_a_picture_and_once_for_each_further_sample(
    machine, engine_bundle, backend, lr
):
    for _ in range(4):  # until memory is allocated and graphs are captured
        backend.begin(backend.encode(lr), drawing(engine_bundle, 0))()
    machine.gpu.waited.clear()
    machine.gpu.copied.clear()
    backend.begin(conditioning := backend.encode(lr), drawing(engine_bundle, 7))()
    assert machine.gpu.waited == ["cudaEventSynchronize"]
    from_gpu = [nbytes for gpu, to_gpu, nbytes in machine.gpu.copied if gpu and not to_gpu]
    assert from_gpu == [256 + 80 * 100 * 3]
    machine.gpu.waited.clear()
    begun = [backend.begin(conditioning, drawing(engine_bundle, sample)) for sample in range(2)]
    pictures = [drawn() for drawn in begun]
    # The second begins once the GPU has taken the first one's seed: 260 bytes.
    assert machine.gpu.waited == ["cudaEventSynchronize"] * 3
    np.testing.assert_array_equal(pictures, expected_of(engine_bundle, lr, range(2)))


@pytest.mark.parametrize("early", [False, True])
def test_samples_are_copied_by_another_stream_while_the_next_ones_run(
    machine, engine_bundle, backend, lr, early
):
    """early: the GPU computes as soon as it may, and copies as late."""
    expected = expected_of(engine_bundle, lr, range(4))
    conditioning = backend.encode(lr)
    backend.begin(conditioning, drawing(engine_bundle, 0))()
    (lane,) = backend._session._idle
    machine.gpu.eager = {lane.stream.handle} if early else set()
    machine.gpu.started.clear()
    begun = [backend.begin(conditioning, drawing(engine_bundle, sample)) for sample in range(2)]
    for number in range(4):
        np.testing.assert_array_equal(begun.pop(0)(), expected[number])
        assert early or machine.gpu.started.count("srflow_finish") == number + 1, (
            "a later sample was waited for"
        )
        if number < 2:
            begun.append(backend.begin(conditioning, drawing(engine_bundle, number + 2)))
    assert len(machine.gpu.pinned) == 4  # what the engines are given, and two pictures


def test_another_kind_of_run_waits_for_the_work_under_way(engine_bundle, backend, lr):
    """It changes the addresses that an execution context has, which its runs still use."""
    conditioning = backend.encode(lr)
    alone = backend.sample(conditioning, noise(1), 0.5)
    drawn = backend.begin(conditioning, drawing(engine_bundle, 0))
    np.testing.assert_array_equal(backend.sample(conditioning, noise(1), 0.5), alone)
    np.testing.assert_array_equal(drawn(), *expected_of(engine_bundle, lr, [0]))


def test_pictures_that_are_encoded_one_after_another_do_not_write_over_each_other(
    engine_bundle, backend, lr
):
    images = [lr, 1 - lr, lr / 2]
    encoded = [backend.encode(image) for image in images]
    for image, conditioning in zip(images, encoded, strict=True):
        found = backend.begin(conditioning, drawing(engine_bundle, 3))()
        np.testing.assert_array_equal(found, *expected_of(engine_bundle, image, [3]))


def test_another_thread_draws_only_what_is_encoded_and_forgotten_pictures_harm_nobody(
    engine_bundle, backend, lr
):
    conditioning = backend.encode(lr)
    with backend._session._lane() as lane:  # so that others take another one
        found = backend.sample(conditioning, noise(1), 0.5)
        with TensorRTBackend(engine_bundle) as twin:
            np.testing.assert_array_equal(found, twin.sample(twin.encode(lr), noise(1), 0.5))
    del conditioning
    forgotten = backend.encode(1 - lr)
    del forgotten  # while the GPU has not even begun
    with backend._session._lane() as lane:
        conditioning = backend.encode(lr)
        lane.settle()
    np.testing.assert_array_equal(backend.sample(conditioning, noise(1), 0.5), found)


def test_a_picture_that_is_cancelled_while_samples_are_under_way_leaves_the_next_one_right(
    machine, engine_bundle
):
    image = np.random.default_rng(7).integers(0, 255, (45, 61, 3), np.uint8)
    with machine.upscaler(engine_bundle, 32) as upscaler:
        expected = upscaler.upscale(image, seed=5)
        encoding = upscaler.encode(image)
        pinned = []
        for _ in range(3):
            cancel = threading.Event()
            with pytest.raises(CancelledError):
                encoding.samples(12, cancel=cancel, progress=lambda *_, cancel=cancel: cancel.set())
            pinned.append(len(machine.gpu.pinned))
        np.testing.assert_array_equal(encoding.sample(seed=5), expected)
        assert pinned == pinned[:1] * 3


def test_a_failure_of_the_gpu_is_raised_by_who_reads(
    machine, engine_bundle, backend, lr, monkeypatch
):
    drawn = backend.begin(backend.encode(lr), drawing(engine_bundle, 0))
    kinds = sys.modules["cuda.bindings.runtime"]
    monkeypatch.setattr(
        kinds, "cudaEventSynchronize", lambda event: (kinds.cudaError_t.cudaErrorNoDevice,)
    )
    with pytest.raises(
        DeviceError, match=r"^sampling on tensorrt failed: cudaEventSynchronize: cudaErrorNoDevice"
    ):
        drawn()
