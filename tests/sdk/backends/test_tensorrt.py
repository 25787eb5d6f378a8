"""The backend over a GPU in main memory, which computes what the ONNX graphs compute: see fake_gpu, fake_tensorrt."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.backends.tensorrt import TensorRTBackend
from srflow_sdk.errors import DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import LrProfile

from ..flow_bundle import write_flow_bundle
from .drawings import drawing_of
from .engine_machine import EngineMachine, noise
from .fake_tensorrt import IExecutionContext, write_engine_bundle


@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt_rtx"])
def test_engines_give_what_the_graphs_give(
    machine: EngineMachine, tiny_bundle: Path, tmp_path: Path, lr: np.ndarray, expected: np.ndarray, runtime: Any
) -> None:
    machine.install(runtime)
    with TensorRTBackend(write_engine_bundle(tiny_bundle, tmp_path / "b.srflow", runtime=runtime)) as backend:
        assert backend.device == runtime
        assert backend.gpu == 0
        conditioning = backend.encode(lr)
        assert conditioning.nbytes == 24 * 30 * 4 * 8
        for _ in range(4):  # plainly, as it is captured, and from the graph
            np.testing.assert_array_equal(backend.sample(conditioning, noise(1), 0.7), expected)


def test_images_of_a_batch_are_computed_one_by_one(machine: EngineMachine, engine_bundle: Bundle) -> None:
    batch = np.random.default_rng(4).random((3, 3, 24, 30), np.float32)
    with (
        TensorRTBackend(engine_bundle) as backend,
        OnnxRuntimeBackend(engine_bundle, threads=1) as graphs,
    ):
        for images in (batch, batch[:1]):
            got = backend.sample(backend.encode(images), noise(3), 0.5)
            np.testing.assert_allclose(got, graphs.sample(graphs.encode(images), noise(3), 0.5), atol=1e-6)
        with pytest.raises(DeviceError, match="2 images does not fit noise for 3"):
            backend.sample(backend.encode(batch[:2]), noise(3), 0.5)


def test_arrays_of_any_layout_and_float_are_taken(
    machine: EngineMachine, engine_bundle: Bundle, lr: np.ndarray, expected: np.ndarray
) -> None:
    with TensorRTBackend(engine_bundle) as backend:
        turned = {level: np.asfortranarray(array) for level, array in noise(1).items()}
        conditioning = backend.encode(np.asfortranarray(lr.astype(np.float64)))
        np.testing.assert_array_equal(backend.sample(conditioning, turned, 0.7), expected)


def test_conditioning_of_half_engines_takes_half_the_memory(
    machine: EngineMachine, tiny_bundle: Path, tmp_path: Path, lr: np.ndarray, expected: np.ndarray
) -> None:
    with TensorRTBackend(write_engine_bundle(tiny_bundle, tmp_path / "b.srflow", half=True)) as backend:
        conditioning = backend.encode(lr)
        assert conditioning.nbytes == 24 * 30 * 2 * 8
        got = backend.sample(conditioning, noise(1), 0.7)
    np.testing.assert_allclose(got, expected, atol=2e-3)
    assert np.abs(got - expected).max() > 0


def test_the_third_run_of_a_size_and_all_later_ones_are_launched_from_a_graph(
    machine: EngineMachine, engine_bundle: Bundle, lr: np.ndarray
) -> None:
    gpu = machine.gpu
    with TensorRTBackend(engine_bundle) as backend:
        conditioning = backend.encode(lr)
        backend.sample(conditioning, noise(1), 0.7)
        assert gpu.captures == 0  # the first run does what is lazy, which a capture must not
        for _ in range(5):
            backend.sample(conditioning, noise(1), 0.7)
        assert (gpu.captures, gpu.launches) == (1, 5)
        allocations = gpu.allocations
        for _ in range(3):  # a picture after another: the next one's conditioning lies where the last one's did
            del conditioning
            conditioning = backend.encode(lr)
            backend.sample(conditioning, noise(1), 0.7)
        assert (gpu.captures, gpu.allocations) == (2, allocations)  # the encoder's was captured too
        other = backend.encode(lr)  # while the first is alive, at another address: the old graph is void
        launches = gpu.launches
        backend.sample(other, noise(1), 0.7)
        assert gpu.launches == launches


def test_graphs_are_as_many_as_sizes_that_are_kept(machine: EngineMachine, engine_bundle: Bundle) -> None:
    with TensorRTBackend(engine_bundle) as backend:
        for height in range(20, 40, 2):
            conditioning = backend.encode(np.zeros((1, 3, height, 20), np.float32))
            for _ in range(3):
                backend.sample(conditioning, noise(1, height, 20), 0.5)
        assert machine.gpu.captures == 10
        assert len(machine.gpu.graphs) == 4
        assert machine.runtime._contexts == 8
    assert machine.gpu.graphs == {}


def test_a_graph_that_cannot_be_captured_is_done_without(
    machine: EngineMachine,
    engine_bundle: Bundle,
    lr: np.ndarray,
    expected: np.ndarray,
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine.gpu.can_capture = False
    with TensorRTBackend(engine_bundle) as backend:
        conditioning = backend.encode(lr)
        for _ in range(4):
            np.testing.assert_array_equal(backend.sample(conditioning, noise(1), 0.7), expected)
        backend.encode(lr)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "continuing without CUDA graphs, which could not be captured"
    ]


def test_tensorrt_rtx_captures_by_itself_in_one_context_and_keeps_its_kernels(
    machine: EngineMachine, tiny_bundle: Path, tmp_path: Path
) -> None:
    machine.install("tensorrt_rtx")
    bundle = write_engine_bundle(tiny_bundle, tmp_path / "b.srflow", runtime="tensorrt_rtx")

    def run() -> list[Any]:
        with TensorRTBackend(bundle) as backend:
            for height in (20, 22, 24, 20):
                conditioning = backend.encode(np.zeros((1, 3, height, 20), np.float32))
                for _ in range(3):
                    backend.sample(conditioning, noise(1, height, 20), 0.5)
            configs: list[Any] = machine.runtime._configs
            return configs

    configs = run()
    assert len(configs) == 2  # one context of each engine
    assert {config.cuda_graph_strategy for config in configs} == {"whole graph capture"}
    assert configs[0]._cache is configs[1]._cache
    assert machine.gpu.captures == 0
    (kept,) = (tmp_path / "cache" / "tensorrt-rtx").iterdir()
    assert kept.read_bytes() == b"compiled"
    assert run()[0]._cache._kernels == b"compiled again"
    kept.write_bytes(b"of another version")
    run()
    assert kept.read_bytes() == b"compiled"


def test_threads_use_contexts_of_their_own_and_one_engine(
    machine: EngineMachine, engine_bundle: Bundle, lr: np.ndarray, expected: np.ndarray
) -> None:
    with TensorRTBackend(engine_bundle) as backend, ThreadPoolExecutor(4) as pool:
        conditioning = backend.encode(lr)  # made by one thread, used by all
        contexts = machine.runtime._contexts
        machine.runtime._rendezvous = threading.Barrier(4)

        def draw(_: int) -> np.ndarray:
            result: np.ndarray = backend.sample(conditioning, noise(1), 0.7)
            return result

        for got in pool.map(draw, range(16)):
            np.testing.assert_array_equal(got, expected)
        assert machine.runtime._contexts == contexts + 4


def test_an_only_thread_gets_the_same_context_again_whatever_others_left(
    machine: EngineMachine, engine_bundle: Bundle, lr: np.ndarray
) -> None:
    with TensorRTBackend(engine_bundle) as backend:
        conditioning = backend.encode(lr)
        machine.runtime._rendezvous = threading.Barrier(2)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: backend.sample(conditioning, noise(1), 0.7), range(2)))
        for _ in range(4):
            backend.sample(conditioning, noise(1), 0.7)
        assert (machine.gpu.captures, machine.gpu.launches) == (1, 4)


def test_contexts_of_threads_that_ended_are_used_again(
    machine: EngineMachine, engine_bundle: Bundle, lr: np.ndarray
) -> None:
    with TensorRTBackend(engine_bundle) as backend:
        for _ in range(5):
            thread = threading.Thread(target=backend.encode, args=(lr,))
            thread.start()
            thread.join()
        assert machine.runtime._contexts == 1


def test_the_apps_own_choice_of_a_gpu_is_put_back(
    machine: EngineMachine, engine_bundle: Bundle, lr: np.ndarray
) -> None:
    machine.gpu.devices = 2
    machine.gpu.cudaSetDevice(1)
    with TensorRTBackend(engine_bundle) as backend:
        backend.encode(lr)
        assert machine.gpu.device_here() == 1
    assert machine.gpu.violations == []


def test_the_second_gpu_makes_no_context_on_the_first(
    machine: EngineMachine, engine_bundle: Bundle, lr: np.ndarray
) -> None:
    machine.gpu.devices = 2
    with TensorRTBackend(engine_bundle, gpu=1) as backend:
        conditioning = backend.encode(lr)
        thread = threading.Thread(target=backend.sample, args=(conditioning, noise(1), 0.7))
        thread.start()
        thread.join()
        backend.draw(conditioning, drawing_of(engine_bundle))
        assert machine.gpu.device_here() is None
    assert machine.gpu.contexts == {1}
    assert machine.gpu.violations == []


def test_a_capture_that_fails_inside_leaves_the_stream_usable(
    machine: EngineMachine, engine_bundle: Bundle, lr: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TensorRTBackend(engine_bundle) as backend:
        conditioning = backend.encode(lr)
        expected = backend.sample(conditioning, noise(1), 0.7)
        with monkeypatch.context() as patched:
            patched.setattr(IExecutionContext, "execute_async_v3", interrupted)
            with pytest.raises(KeyboardInterrupt):
                backend.sample(conditioning, noise(1), 0.7)
        assert not any(machine.gpu.capturing(stream) for stream in machine.gpu.streams)
        for _ in range(3):
            np.testing.assert_array_equal(backend.sample(conditioning, noise(1), 0.7), expected)


def interrupted(*_: object) -> bool:
    raise KeyboardInterrupt


def test_sizes_outside_of_the_profile_are_refused_with_the_fix(machine: EngineMachine, engine_bundle: Bundle) -> None:
    with TensorRTBackend(engine_bundle) as backend:
        assert backend.window_limits == LrProfile(min=(20, 20), opt=(40, 40), max=(64, 64))
        for height, width in ((18, 40), (40, 66)):
            words = rf"20×20 to 64×64, not {width}×{height}.*--trt fp32 --shapes MIN,OPT,MAX$"
            with pytest.raises(DeviceError, match=words):
                backend.encode(np.zeros((1, 3, height, width), np.float32))


def test_noise_that_does_not_fit_is_a_typed_error(
    machine: EngineMachine, engine_bundle: Bundle, lr: np.ndarray
) -> None:
    with TensorRTBackend(engine_bundle) as backend:
        conditioning = backend.encode(lr)
        with pytest.raises(DeviceError, match=r"sampling on tensorrt failed.*do not fit together"):
            backend.sample(conditioning, noise(1, height=26), 0.5)
        with pytest.raises(DeviceError, match=r"refuses noise_level1 of 1×6×160×60: setInputShape"):
            backend.sample(conditioning, noise(1, height=80), 0.5)
        backend.sample(conditioning, noise(1), 0.5)


def test_conditioning_of_another_backend_is_refused(
    machine: EngineMachine, engine_bundle: Bundle, lr: np.ndarray
) -> None:
    with TensorRTBackend(engine_bundle) as backend, OnnxRuntimeBackend(engine_bundle, threads=1) as graphs:
        with pytest.raises(DeviceError, match="OrtConditioning belongs to another backend"):
            backend.sample(graphs.encode(lr), noise(1), 0.5)
        with TensorRTBackend(engine_bundle) as twin, pytest.raises(DeviceError, match="from another backend"):
            backend.sample(twin.encode(lr), noise(1), 0.5)


def test_engines_that_the_library_does_not_load_are_refused(
    machine: EngineMachine, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = write_engine_bundle(tiny_bundle, tmp_path / "b.srflow", spoil=lambda encoder, _: (encoder, b"not a plan"))
    with pytest.raises(DeviceError, match=r"sampler\.plan cannot be loaded: .*magic tag does not.*build it again"):
        TensorRTBackend(bundle).activate()
    assert machine.gpu.used == 0


def test_a_gpu_that_cuda_cannot_use_is_a_typed_error(machine: EngineMachine, engine_bundle: Bundle) -> None:
    machine.gpu.devices = 0
    with pytest.raises(DeviceError, match="cudaGetDeviceCount: cudaErrorNoDevice"):
        TensorRTBackend(engine_bundle).activate()


@pytest.fixture(scope="module")
def inverting(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A real network's graphs, with an inverter."""
    return Bundle.open(write_flow_bundle(tmp_path_factory.mktemp("inverting") / "flow.srflow"))


@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt_rtx"])
def test_an_inverters_engine_gives_what_its_graph_gives(
    machine: EngineMachine, inverting: Bundle, tmp_path: Path, runtime: Any
) -> None:
    machine.install(runtime)
    bundle = write_engine_bundle(inverting.path, tmp_path / "b.srflow", runtime=runtime)
    draws = np.random.default_rng(5)
    lr, hr = draws.random((2, 3, 24, 30), np.float32), draws.random((2, 3, 96, 120), np.float32)
    with TensorRTBackend(bundle) as backend, OnnxRuntimeBackend(inverting, threads=1) as graphs:
        assert backend.can_invert
        for images in (lr, lr[:1]):  # an image for each picture, and one for both
            latents, density = backend.invert(backend.encode(images), hr)
            expected, nats = graphs.invert(graphs.encode(images), hr)
            assert list(latents) == list(expected)
            for level, latent in latents.items():
                np.testing.assert_allclose(latent, expected[level], atol=1e-4)
            np.testing.assert_allclose(density, nats, rtol=1e-5)
        with pytest.raises(DeviceError, match="2 images does not fit pictures: 1"):
            backend.invert(backend.encode(lr), hr[:1])
        with pytest.raises(DeviceError, match="OrtConditioning belongs to another backend"):
            backend.invert(graphs.encode(lr), hr)
    assert machine.gpu.used == 0


def test_engines_without_an_inverter_still_draw(machine: EngineMachine, engine_bundle: Bundle, lr: np.ndarray) -> None:
    with TensorRTBackend(engine_bundle) as backend:
        assert not backend.can_invert
        conditioning = backend.encode(lr)
        with pytest.raises(DeviceError, match="has no inverter"):
            backend.invert(conditioning, np.zeros((1, 3, 96, 120), np.float32))
        assert backend.sample(conditioning, noise(1), 0.7).shape == (1, 3, 96, 120)
