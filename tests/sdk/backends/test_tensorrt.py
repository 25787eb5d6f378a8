"""The backend over a GPU in main memory, which computes what the ONNX graphs compute: see fake_gpu, fake_tensorrt."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.backends.tensorrt import TensorRTBackend
from srflow_sdk.backends.tensorrt_engines.execution import EngineLog
from srflow_sdk.bundle import Bundle
from srflow_sdk.engine_records import LrProfile
from srflow_sdk.errors import BundleError, DeviceError, OutOfMemoryError
from srflow_sdk.upscaler import Upscaler

from ..tiny_bundle import LEVELS, SCALE
from .engine_machine import EngineMachine
from .fake_tensorrt import IExecutionContext, write_engine_bundle


def noise(batch: int, height: int = 24, width: int = 30) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(3)
    return {
        level: rng.standard_normal((batch, channels, height * SCALE >> level, width * SCALE >> level), np.float32)
        for level, channels in LEVELS.items()
    }


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).random((*shape, 3), np.float32)


@pytest.fixture
def lr() -> np.ndarray:
    return np.random.default_rng(2).random((1, 3, 24, 30), np.float32)


@pytest.fixture
def expected(engine_bundle: Bundle, lr: np.ndarray) -> np.ndarray:
    with OnnxRuntimeBackend(engine_bundle, threads=1) as backend:
        result: np.ndarray = backend.sample(backend.encode(lr), noise(1), 0.7)
        return result


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
        "going on without CUDA graphs, which could not be captured"
    ]


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
        assert machine.gpu.cudaGetDevice()[1] == 1


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
        while meeting.n_waiting == 0:
            pass
        backend.deactivate()
        assert machine.gpu.used > 0
        meeting.wait()
        np.testing.assert_array_equal(call.result(), expected)
    assert machine.gpu.used == 0
    with pytest.raises(DeviceError, match="not active"):
        backend.encode(lr)


def test_sizes_outside_of_the_profile_are_refused_with_the_mend(machine: EngineMachine, engine_bundle: Bundle) -> None:
    with TensorRTBackend(engine_bundle) as backend:
        assert backend.window_limits == LrProfile(min=(20, 20), opt=(40, 40), max=(64, 64))
        for height, width in ((18, 40), (40, 66)):
            with pytest.raises(DeviceError, match=rf"20×20 to 64×64, not {width}×{height}.*--trt fp32 --shapes"):
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
        with TensorRTBackend(engine_bundle) as twin, pytest.raises(DeviceError, match="of another backend"):
            backend.sample(twin.encode(lr), noise(1), 0.5)


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


def swapped(encoder: bytes, sampler: bytes) -> tuple[bytes, bytes]:
    return sampler, encoder


def no_plan(encoder: bytes, sampler: bytes) -> tuple[bytes, bytes]:
    return encoder, b"not a plan"


def other_profile(encoder: bytes, sampler: bytes) -> tuple[bytes, bytes]:
    return encoder.replace(b"[1, 3, 64, 64]", b"[1, 3, 64, 66]"), sampler


@pytest.mark.parametrize(
    ("spoil", "record", "kind", "words"),
    [
        (swapped, {}, BundleError, r"encoder\.plan is not an engine of this bundle's graphs: .*lr is missing"),
        (no_plan, {}, DeviceError, r"sampler\.plan cannot be loaded: .*magic tag does not match.*build it again"),
        (other_profile, {}, BundleError, "takes LR images of 20×20, 40×40, 66×64 at least"),
        (lambda *both: both, {"precision": "fp16"}, BundleError, "features is float32, not float16"),
    ],
)
def test_engines_that_are_not_what_the_manifest_says_are_refused(
    machine: EngineMachine,
    tiny_bundle: Path,
    tmp_path: Path,
    spoil: Callable[..., Any],
    record: dict[str, Any],
    kind: type[Exception],
    words: str,
) -> None:
    bundle = write_engine_bundle(tiny_bundle, tmp_path / "b.srflow", spoil=spoil, **record)
    with pytest.raises(kind, match=words):
        TensorRTBackend(bundle).activate()
    assert machine.gpu.used == 0


def test_a_gpu_that_cuda_cannot_use_is_a_typed_error(machine: EngineMachine, engine_bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match="there is no GPU 1: CUDA shows 1"):
        TensorRTBackend(engine_bundle, gpu=1).activate()
    machine.gpu.devices = 0
    with pytest.raises(DeviceError, match=r"CUDA finds no GPU here \(cudaGetDeviceCount: cudaErrorNoDevice\)"):
        TensorRTBackend(engine_bundle).activate()


def test_a_gpu_of_another_model_is_said_in_one_line(
    machine: EngineMachine, tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = write_engine_bundle(tiny_bundle, tmp_path / "b.srflow", gpu="NVIDIA L4", compute_capabilities=("8.9",))
    with TensorRTBackend(bundle):
        (record,) = caplog.records
    assert "chosen on NVIDIA L4; on this NVIDIA GeForce RTX 4090" in record.getMessage()


# The Upscaler over engines: the same picture as on the CPU, whatever the tiles.


@pytest.mark.parametrize("tile", ["auto", 16, 40])
@pytest.mark.parametrize("shape", [(45, 61), (64, 64), (150, 100), (1, 200)])
def test_pictures_are_those_of_the_cpu(
    machine: EngineMachine, engine_bundle: Bundle, upscaler: Upscaler, shape: tuple[int, int], tile: Any
) -> None:
    image = picture(*shape)
    with machine.upscaler(engine_bundle, tile) as engines:
        assert engines.device == "tensorrt"
        got = engines.upscale(image, seed=5, samples=2)
    expected = upscaler.upscale(image, seed=5, samples=2)
    if min(shape) >= 20:
        np.testing.assert_allclose(got, expected, atol=2e-6)
    else:  # lower than what engines take: the last row is repeated below, where the CPU's network sees nothing
        np.testing.assert_allclose(np.mean(got), np.mean(expected), atol=0.05)


def test_an_image_smaller_than_the_engines_take_differs_at_its_lower_and_right_border_alone(
    machine: EngineMachine, engine_bundle: Bundle, upscaler: Upscaler
) -> None:
    image = picture(18, 60)
    tau = np.random.default_rng(1).uniform(0, 1, (18, 60))
    with machine.upscaler(engine_bundle) as engines:
        got = engines.upscale(image, seed=5, tau=tau)
    expected = upscaler.upscale(image, seed=5, tau=tau)
    above = (18 - 6) * SCALE  # of the rows that the network's reach of 6 keeps from the border
    np.testing.assert_allclose(got[:above], expected[:above], atol=2e-6)
    assert np.abs(got[above:] - expected[above:]).max() > 1e-3


def test_pictures_of_many_threads_are_those_of_one(
    machine: EngineMachine, engine_bundle: Bundle, upscaler: Upscaler
) -> None:
    image = picture(70, 90)
    with machine.upscaler(engine_bundle, 32) as engines, ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda seed: engines.upscale(image, seed=seed), range(6)))
    for seed, got in enumerate(results):
        np.testing.assert_allclose(got, upscaler.upscale(image, seed=seed), atol=2e-6)


def test_an_encoding_draws_from_what_stays_on_the_gpu(
    machine: EngineMachine, engine_bundle: Bundle, upscaler: Upscaler
) -> None:
    image = picture(100, 70)
    with machine.upscaler(engine_bundle) as engines:
        encoding = engines.encode(image)
        assert encoding.kept_tiles == encoding.tiles > 1
        for tau in (0.2, 0.9):
            np.testing.assert_allclose(
                encoding.sample(tau=tau, seed=1), upscaler.upscale(image, tau=tau, seed=1), atol=2e-6
            )


def test_memory_that_runs_out_makes_tiles_smaller(
    machine: EngineMachine, engine_bundle: Bundle, upscaler: Upscaler, caplog: pytest.LogCaptureFixture
) -> None:
    image = picture(120, 120)
    machine.gpu.nbytes = 1_600_000  # of which activations of the encoder for 64×64 pixels alone would take 2.4 MB
    with machine.upscaler(engine_bundle, 52) as engines:
        got = engines.upscale(image, seed=5)
    np.testing.assert_allclose(got, upscaler.upscale(image, seed=5), atol=2e-6)
    assert [record.getMessage() for record in caplog.records] == [
        "memory ran out with tiles of 40 pixels; going on with 20"
    ]


@pytest.mark.parametrize("nbytes", [1 << 30, 1_900_000])
def test_windows_are_never_smaller_than_the_engines_take(
    machine: EngineMachine, tiny_bundle: Path, tmp_path: Path, upscaler: Upscaler, nbytes: int
) -> None:
    profile = LrProfile(min=(36, 36), opt=(40, 40), max=(64, 64))
    bundle = write_engine_bundle(tiny_bundle, tmp_path / "b.srflow", profile=profile)
    image = picture(100, 64)
    machine.gpu.nbytes = nbytes  # the second: so little that tiles are divided
    with machine.upscaler(bundle, 16 if nbytes == 1 << 30 else 40) as engines:
        got = engines.upscale(image, seed=5)
    np.testing.assert_allclose(got, upscaler.upscale(image, seed=5), atol=2e-6)


@pytest.mark.parametrize(("tile", "words"), [("none", r"the image, 100×70,"), (54, r"tile=54 with its halo, 66×66,")])
def test_tiles_larger_than_the_engines_take_are_refused_with_the_largest(
    machine: EngineMachine, engine_bundle: Bundle, tile: Any, words: str
) -> None:
    image = picture(70, 100)
    with (
        machine.upscaler(engine_bundle, tile) as engines,
        pytest.raises(DeviceError, match=rf'{words}.*64×64.*tile="auto" or tile=52.*--shapes 20x20,40x40,\d+'),
    ):
        engines.upscale(image)
    with machine.upscaler(engine_bundle, tile) as engines:
        engines.upscale(image[:64, :64])  # which fits whole
