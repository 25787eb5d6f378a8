"""The backend over a GPU in main memory, which computes what the ONNX graphs compute: see fake_gpu,
fake_tensorrt."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.backends.tensorrt import TensorRTBackend
from srflow_sdk.errors import DeviceError, OutOfMemoryError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import LrProfile

from ..flow_bundle import write_flow_bundle
from ..tiny_bundle import write_tiny_bundle
from .engine_machine import drawing_of, noise
from .fake_tensorrt import IExecutionContext, write_engine_bundle


@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt_rtx"])
def test_engines_give_what_the_graphs_give(machine, tiny_bundle, tmp_path, lr, expected, runtime):
    machine.install(runtime)
    with TensorRTBackend(
        write_engine_bundle(tiny_bundle, tmp_path / "b.srflow", runtime=runtime)
    ) as backend:
        assert (backend.device, backend.gpu, backend.can_invert) == (runtime, 0, False)
        # any layout and float
        conditioning = backend.encode(np.asfortranarray(lr.astype(np.float64)))
        assert 0 <= conditioning.nbytes - 24 * 30 * 4 * 8 < 512
        for _ in range(4):  # plainly, as it is captured, and from the graph
            np.testing.assert_array_equal(backend.sample(conditioning, noise(1), 0.7), expected)


def test_conditioning_of_half_engines_takes_half_the_memory(machine, tmp_path, lr, expected):
    half = write_tiny_bundle(tmp_path / "half.srflow", precision="fp16")
    with TensorRTBackend(write_engine_bundle(half, tmp_path / "b.srflow")) as backend:
        conditioning = backend.encode(lr)
        assert 0 <= conditioning.nbytes - 24 * 30 * 2 * 8 < 512
        got = backend.sample(conditioning, noise(1), 0.7)
    np.testing.assert_allclose(got, expected, atol=2e-3)
    assert np.abs(got - expected).max() > 0


def test_graphs_hold_for_every_picture_of_a_size_and_for_several_in_turn(
    machine, engine_bundle, lr
):
    gpu = machine.gpu
    images = [lr, 1 - lr]
    with (
        TensorRTBackend(engine_bundle) as backend,
        OnnxRuntimeBackend(engine_bundle, threads=1) as graphs,
    ):
        wanted = [graphs.sample(graphs.encode(image), noise(1), 0.7) for image in images]
        for turn in range(10):  # a picture after another, with two samples each
            conditioning = backend.encode(images[turn % 2])
            for _ in range(2):
                np.testing.assert_array_equal(
                    backend.sample(conditioning, noise(1), 0.7), wanted[turn % 2]
                )
            del conditioning
        # the sampler's run first made the workspace larger
        assert (gpu.captures, gpu.launches) == (2, 8 + 19)
        first, second = map(backend.encode, images)
        launches = gpu.launches
        copied = len(gpu.copied)
        for _ in range(10):  # two that live, in turn
            np.testing.assert_array_equal(backend.sample(first, noise(1), 0.7), wanted[0])
            np.testing.assert_array_equal(backend.sample(second, noise(1), 0.7), wanted[1])
        assert (gpu.captures, gpu.launches) == (2, launches + 20)
        backend.sample(second, noise(1), 0.7)
        within = True, True, first.block.nbytes  # one copy on the GPU for each change of the image
        assert gpu.copied[copied:].count(within) == 20


def test_graphs_are_as_many_as_sizes_that_are_kept(machine, engine_bundle):
    with TensorRTBackend(engine_bundle) as backend:
        for height in range(20, 40, 2):
            conditioning = backend.encode(np.zeros((1, 3, height, 20), np.float32))
            for _ in range(3):
                backend.sample(conditioning, noise(1, height, 20), 0.5)
        assert machine.gpu.captures == 10
        assert len(machine.gpu.graphs) == 4
        assert machine.runtime._contexts == 8
    assert machine.gpu.graphs == {}


def test_where_a_graph_cannot_be_captured_pictures_come_without_one(
    machine, engine_bundle, lr, expected, caplog
):
    gpu = machine.gpu
    gpu.can_capture = False
    with TensorRTBackend(engine_bundle) as backend:
        conditioning = backend.encode(lr)
        for _ in range(3):
            np.testing.assert_array_equal(backend.sample(conditioning, noise(1), 0.7), expected)
        assert (gpu.captures, gpu.launches) == (0, 0)
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "a CUDA graph could not be captured, so the GPU waits for the processor"
    ]


def test_garbage_that_is_collected_during_a_capture_does_not_spoil_it(
    machine, engine_bundle, lr, monkeypatch
):
    with TensorRTBackend(engine_bundle) as backend:
        conditioning = backend.encode(lr)
        backend.sample(conditioning, noise(1), 0.7)
        garbage = [backend.encode(lr) for _ in range(9)]  # more than are kept for the next
        original = IExecutionContext.execute_async_v3

        def collecting(self, stream_handle):
            garbage.clear()
            return original(self, stream_handle)

        monkeypatch.setattr(IExecutionContext, "execute_async_v3", collecting)
        before = len(machine.gpu.blocks)
        backend.sample(conditioning, noise(1), 0.7)
        # the encoder's and, while garbage came back, the sampler's
        assert machine.gpu.captures == 2
        assert len(machine.gpu.blocks) == before - 8  # but one, for the next


def test_tensorrt_rtx_captures_by_itself_in_one_context_and_keeps_its_kernels(
    machine, tiny_bundle, tmp_path
):
    machine.install("tensorrt_rtx")
    bundle = write_engine_bundle(tiny_bundle, tmp_path / "b.srflow", runtime="tensorrt_rtx")

    def run():
        with TensorRTBackend(bundle) as backend:
            for height in (20, 22, 24, 20):
                conditioning = backend.encode(np.zeros((1, 3, height, 20), np.float32))
                for _ in range(3):
                    backend.sample(conditioning, noise(1, height, 20), 0.5)
            return machine.runtime._configs

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


def test_threads_use_contexts_of_their_own_and_an_only_thread_the_same_one_again(
    machine, engine_bundle, lr, expected
):
    with TensorRTBackend(engine_bundle) as backend:
        conditioning = backend.encode(lr)  # made by one thread, used by all
        contexts = machine.runtime._contexts
        machine.runtime._rendezvous = threading.Barrier(4)
        with ThreadPoolExecutor(4) as pool:
            for got in pool.map(lambda _: backend.sample(conditioning, noise(1), 0.7), range(4)):
                np.testing.assert_array_equal(got, expected)
        assert machine.runtime._contexts == contexts + 4
        for _ in range(4):
            backend.sample(conditioning, noise(1), 0.7)
        assert (machine.gpu.captures, machine.gpu.launches) == (1, 4)


@pytest.mark.parametrize("before", [None, 0])
def test_the_gpu_of_that_number_is_used_and_the_apps_own_choice_is_put_back(
    machine, engine_bundle, lr, before
):
    machine.gpu.devices = 2
    if before is not None:
        machine.gpu.cudaSetDevice(before)
    with TensorRTBackend(engine_bundle, gpu=1) as backend:
        conditioning = backend.encode(lr)
        thread = threading.Thread(target=backend.sample, args=(conditioning, noise(1), 0.7))
        thread.start()
        thread.join()
        backend.begin(conditioning, drawing_of(engine_bundle))()
        assert machine.gpu.device_here() == before
    assert machine.gpu.contexts == {1} | ({before} - {None})


def test_what_does_not_fit_is_refused_and_the_next_call_works(machine, engine_bundle, lr):
    with TensorRTBackend(engine_bundle) as backend:
        assert backend.window_limits == LrProfile(min=(20, 20), opt=(40, 40), max=(64, 64))
        for height, width in ((18, 40), (40, 66)):
            words = (
                rf"not built for lr of 1×3×{height}×{width}; use other tiles, or --shapes: "
                "setInputShape"
            )
            with pytest.raises(DeviceError, match=words):
                backend.encode(np.zeros((1, 3, height, width), np.float32))
        conditioning = backend.encode(lr)
        with pytest.raises(DeviceError, match=r"sampling on tensorrt failed.*do not fit together"):
            backend.sample(conditioning, noise(1, height=26), 0.5)
        with pytest.raises(
            DeviceError, match=r"not built for noise_level1 of 1×6×160×60.*setInputShape"
        ):
            backend.sample(conditioning, noise(1, height=80), 0.5)
        with pytest.raises(DeviceError, match="has no inverter"):
            backend.invert(conditioning, np.zeros((1, 3, 96, 120), np.float32))
        backend.sample(conditioning, noise(1), 0.5)


def test_an_inverters_engine_gives_what_its_graph_gives(machine, tmp_path):
    flow = Bundle.open(write_flow_bundle(tmp_path / "flow.srflow"))
    draws = np.random.default_rng(5)
    lr = draws.random((1, 3, 24, 30), np.float32)
    hr = draws.random((1, 3, 96, 120), np.float32)
    bundle = write_engine_bundle(flow.path, tmp_path / "b.srflow")
    with TensorRTBackend(bundle) as backend, OnnxRuntimeBackend(flow, threads=1) as graphs:
        assert backend.can_invert
        latents, density = backend.invert(backend.encode(lr), hr)
        expected, nats = graphs.invert(graphs.encode(lr), hr)
        assert list(latents) == list(expected)
        for level, latent in latents.items():
            np.testing.assert_allclose(latent, expected[level], atol=1e-4)
        np.testing.assert_allclose(density, nats, rtol=1e-5)
    assert machine.gpu.used == 0


# What it holds on the GPU, and when it lets go of it.


def test_closing_frees_everything_and_conditioning_of_before_is_refused(machine, engine_bundle, lr):
    backend = TensorRTBackend(engine_bundle)
    gpu = machine.gpu
    with backend:
        old = backend.encode(lr)
        backend.sample(old, noise(1), 0.5)
        held = len(gpu.blocks)
        kept = [backend.encode(lr) for _ in range(20)]
        del kept  # freed with the object, but for one block
        assert len(gpu.blocks) == held + 1
    assert (gpu.used, gpu.streams, gpu.modules, gpu.pinned, backend.window_limits) == (
        0,
        {},
        {},
        {},
        None,
    )
    with backend:
        with pytest.raises(DeviceError, match=r"before this one was closed; encode again"):
            backend.sample(old, noise(1), 0.5)
        del old
        backend.encode(lr)
    backend.activate()
    backend.encode(lr)
    del backend  # which nobody closes: Python does
    gc.collect()
    assert gpu.used == 0


def test_a_backend_that_is_closed_while_it_is_in_use_ends_the_call_first(
    machine, engine_bundle, lr, expected
):
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


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (
            "[defaultAllocator.cpp::allocate::57] Error Code 1: Cuda Runtime (out of memory)",
            OutOfMemoryError,
        ),
        (
            "[executionContext.cpp] Error Code 2: OutOfMemory (Requested size was 5000 bytes.)",
            OutOfMemoryError,
        ),
        ("[myelin.cpp] Error Code 1: Myelin (kernel failed)", DeviceError),
    ],
)
def test_what_the_library_logs_decides_which_error_it_is(
    machine, engine_bundle, lr, expected, line, kind
):
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


def test_memory_that_other_sizes_hold_is_given_up_before_memory_is_said_to_be_out(
    machine, engine_bundle
):
    with TensorRTBackend(engine_bundle) as backend:
        small = np.zeros((1, 3, 24, 30), np.float32)
        backend.sample(backend.encode(small), noise(1), 0.5)
        machine.gpu.nbytes = int(machine.gpu.used * 1.15)
        backend.sample(
            backend.encode(np.zeros((1, 3, 24, 32), np.float32)), noise(1, width=32), 0.5
        )
        with pytest.raises(
            OutOfMemoryError, match=r"encoding 64×64 pixels on tensorrt failed.*use smaller tiles"
        ):
            backend.encode(np.zeros((1, 3, 64, 64), np.float32))
        assert machine.gpu.used == 0  # nothing is held back from those who try with less
        backend.encode(small)
