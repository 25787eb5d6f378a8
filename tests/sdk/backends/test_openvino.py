"""OpenVINO: the CPU's pictures, with bfloat16 in the encoder alone; its devices, its cache, and
what goes wrong."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

from srflow_sdk import Upscaler
from srflow_sdk.backends import OnnxRuntimeBackend, open_backend, openvino as graphs
from srflow_sdk.backends.openvino import Graph, OpenVinoBackend
from srflow_sdk.backends.providers import Provider
from srflow_sdk.errors import BundleError, CancelledError, DeviceError, OutOfMemoryError
from srflow_sdk.latents.random_field import window_noise
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system import hardware
from srflow_sdk.system.interrupts import cancelled_by

from ..tiny_bundle import write_tiny_bundle

BOTH = pytest.mark.parametrize("both", [True, False])


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(autouse=True)
def _cache(compiled, monkeypatch):
    """One for all of them: compiling the embedded model takes most of their time."""
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(compiled))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty one."""
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return Bundle.open(tiny_bundle)


def in_bf16(bundle, **options):
    backend = OpenVinoBackend(bundle, threads=1, **options)
    backend.precision = "bf16"
    return backend


@pytest.fixture(scope="module", params=[True, False])
def backend(request, bundle):
    with OpenVinoBackend(bundle, threads=1, both=request.param) as opened:
        yield opened


@contextlib.contextmanager
def opened(bundle, device):
    backend = open_backend(bundle, device=device, threads=1)
    try:
        yield backend
    finally:
        backend.deactivate()


def image(height, width, batch=1):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [
        0.5 + 0.4 * np.sin(x / 4 + shift) * np.cos(y / 3 - shift) for shift in range(3 * batch)
    ]
    return np.stack(waves).reshape(batch, 3, height, width)


def noise(bundle, height, width, batch=1):
    levels = bundle.manifest.latent_levels
    scale = bundle.manifest.scale
    drawn = [
        window_noise(levels, scale=scale, seed=7, sample=sample, height=height, width=width)
        for sample in range(batch)
    ]
    return {level: np.stack([one[level] for one in drawn]) for level in drawn[0]}


def picture(backend, bundle, height=16, width=20, tau=0.8):
    return backend.sample(backend.encode(image(height, width)), noise(bundle, height, width), tau)


def decibels(found, expected):
    return float(-10 * np.log10(np.mean((found - expected).astype(np.float64) ** 2) + 1e-30))


def sampling_gives(patch, *, times):
    """Multiply all pictures of the device by a number."""
    right = OpenVinoBackend.sample_impl
    patch.setattr(OpenVinoBackend, "sample_impl", lambda *given: right(*given) * np.float32(times))


# Pictures.


@pytest.mark.parametrize("name", ["x4-small", "x2-small"])
def test_pictures_of_any_size_are_the_cpus(name):
    """Left alone, OpenVINO computes in bfloat16 where the processor can: 54 dB."""
    embedded = Bundle.embedded(name)
    with opened(embedded, "openvino") as found, OnnxRuntimeBackend(embedded, threads=1) as cpu:
        assert found.device == "openvino"
        for size in ((16, 16), (40, 24), (16, 16)):
            assert decibels(picture(found, embedded, *size), picture(cpu, embedded, *size)) > 90


@BOTH
def test_bfloat16_changes_the_encoder_and_never_the_sampler(both):
    embedded = Bundle.embedded()
    exact = OpenVinoBackend(embedded, threads=1, both=both)
    coarse = in_bf16(embedded, both=both)
    with exact, coarse:
        conditioning = exact.encode(image(16, 16))
        drawn = noise(embedded, 16, 16)
        expected = exact.sample(conditioning, drawn, 0.8)
        np.testing.assert_allclose(coarse.sample(conditioning, drawn, 0.8), expected, atol=1e-4)
        capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        differs = not np.array_equal(
            coarse.sample(coarse.encode(image(16, 16)), drawn, 0.8), expected
        )
        assert differs == ("BF16" in capabilities)


def test_one_encoding_serves_a_batch_of_noise_and_a_batch_of_images(bundle, backend):
    conditioning = backend.encode(image(8, 10))
    drawn = noise(bundle, 8, 10, batch=3)
    assert conditioning.nbytes == 8 * 10 * bundle.manifest.conditioning_bytes_per_pixel
    together = backend.sample(conditioning, drawn, 0.7)
    several = backend.sample(backend.encode(image(8, 10, batch=3)), drawn, 0.7)
    for index in range(3):
        alone = {level: array[index : index + 1] for level, array in drawn.items()}
        np.testing.assert_allclose(
            backend.sample(conditioning, alone, 0.7)[0], together[index], atol=1e-6
        )
        one = backend.encode(image(8, 10, batch=3)[index : index + 1])
        np.testing.assert_allclose(backend.sample(one, alone, 0.7)[0], several[index], atol=1e-6)


def test_what_was_returned_does_not_change_with_later_runs_or_the_callers_arrays(bundle, backend):
    lr = image(16, 20)
    conditioning = backend.encode(lr)
    first = backend.sample(conditioning, noise(bundle, 16, 20), 0.8)
    expected = first.copy()
    lr[:] = 0
    for size in ((16, 20), (40, 20)):
        picture(backend, bundle, *size, tau=0.1)
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(
        backend.sample(conditioning, noise(bundle, 16, 20), 0.8), expected
    )


@pytest.mark.parametrize(
    ("precision", "bound", "both"),
    [("fp32", 1e-5, False), ("bf16", 1e-5, False), ("fp16", 0.02, True)],
)
def test_bundles_of_every_precision_run_and_onnxruntime_draws_from_float32_graphs(
    tmp_path, precision, bound, both
):
    """A bfloat16 bundle by the float32 graphs beside its own, like on the CPU."""
    bundle = Bundle.open(
        write_tiny_bundle(tmp_path / "b.srflow", twins=precision == "bf16", precision=precision)
    )
    with OpenVinoBackend(bundle, threads=1) as found, OnnxRuntimeBackend(bundle, threads=1) as cpu:
        np.testing.assert_allclose(picture(found, bundle), picture(cpu, bundle), atol=bound)
        assert (isinstance(found._sampler, Graph), found.trims_memory) == (both, not both)


def test_inverting_gives_the_cpus_latents_and_in_bfloat16_ones_that_give_the_picture_back():
    embedded = Bundle.embedded()
    hr = np.random.default_rng(2).random((1, 3, 64, 64), np.float32)
    with (
        OpenVinoBackend(embedded, threads=1) as found,
        OnnxRuntimeBackend(embedded, threads=1) as cpu,
    ):
        (one, density), (two, expected) = (
            of.invert(of.encode(image(16, 16)), hr) for of in (found, cpu)
        )
        for level, latents in two.items():
            np.testing.assert_allclose(one[level], latents, atol=2e-3, rtol=1e-3)
        np.testing.assert_allclose(density, expected, rtol=1e-3)
    assert not OpenVinoBackend(embedded, both=True).can_invert
    with in_bf16(embedded) as coarse:  # one conditioning for both, however coarse it is
        conditioning = coarse.encode(image(16, 16))
        latents, _ = coarse.invert(conditioning, hr)
        assert decibels(coarse.sample(conditioning, latents, 1.0), hr) > 45


def test_threads_share_one_backend(bundle, backend):
    sizes = [(16, 16), (40, 24), (24, 40)] * 3
    expected = {size: picture(backend, bundle, *size) for size in sizes}
    same = []

    def draw(size):
        same.append(np.array_equal(picture(backend, bundle, *size), expected[size]))

    threads = [threading.Thread(target=draw, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * len(sizes)


def test_a_tile_that_is_not_finite_is_computed_again_on_the_cpu(bundle, caplog):
    photo = np.random.default_rng(1).random((32, 32, 3), np.float32)
    with Upscaler(bundle, device="openvino", threads=1, tile=16) as up:
        expected = up.upscale(photo)
        with pytest.MonkeyPatch.context() as patch:
            sampling_gives(patch, times=np.nan)
            np.testing.assert_allclose(up.upscale(photo), expected, atol=1e-5)
    assert "computing it again in float32 on the CPU" in caplog.text


# Devices.


def test_threads_of_the_processor_and_its_precision_are_set(bundle):
    with in_bf16(bundle, both=True) as backend:
        encoder, sampler = (getattr(backend, name)._compiled for name in ("_encoder", "_sampler"))
        assert [graph.get_property("INFERENCE_NUM_THREADS") for graph in (encoder, sampler)] == [
            1,
            1,
        ]
        assert sampler.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"


class Machine:
    """OpenVINO's Core on a machine with other devices, where every graph runs on the processor."""

    def __init__(self, *devices):
        self.available_devices = list(devices)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.core = openvino.Core()

    def get_property(self, device, name):
        return (
            f"{device} of a test"
            if name == "FULL_DEVICE_NAME"
            else self.core.get_property("CPU", name)
        )

    def compile_model(self, path, device, settings):
        self.asked.append((device, settings))
        return self.core.compile_model(path, "CPU", settings)


def on(monkeypatch, *devices):
    machine = Machine(*devices)
    monkeypatch.setattr(graphs, "openvino_core", lambda: machine)
    monkeypatch.setattr(
        hardware, "_RENDERERS", (Path("/dev"), "null" if len(devices) > 1 else "none")
    )
    return machine


def test_the_first_gpu_is_taken_in_float32_and_bfloat16_is_the_processors(bundle, monkeypatch):
    machine = on(monkeypatch, "CPU", "GPU.0", "GPU.1", "NPU")
    with opened(bundle, "openvino") as backend:
        picture(backend, bundle)
    assert [device for device, _ in machine.asked] == ["GPU.0", "GPU.0"]
    for _, settings in machine.asked:
        assert settings["INFERENCE_PRECISION_HINT"] == "f32"
        assert not [name for name in settings if "THREADS" in name or "PINNING" in name], (
            "of the CPU"
        )
    machine.asked.clear()
    with in_bf16(bundle):
        assert [device for device, _ in machine.asked] == ["CPU"], "ONNX Runtime draws"


def test_auto_takes_openvinos_gpu_and_leaves_the_processor_to_onnx_runtime(bundle, monkeypatch):
    monkeypatch.setattr(Provider, "offered", lambda self: self.device == "cpu")
    for devices, expected in (
        (("CPU", "GPU"), "openvino"),
        (("CPU",), "cpu"),
        (("CPU", "NPU"), "cpu"),
    ):
        on(monkeypatch, *devices)
        with opened(bundle, "auto") as backend:
            assert backend.device == expected
    monkeypatch.setattr(hardware, "_RENDERERS", (Path("/dev"), "none"))
    monkeypatch.setattr(
        graphs, "openvino_core", lambda: pytest.fail("without a GPU's file it is not even imported")
    )
    with opened(bundle, "auto") as backend:
        assert backend.device == "cpu"


# Its cache of compiled graphs: used, checked, bounded, and never in the way.


def from_cache(backend):
    return [
        graph._compiled.get_property("LOADED_FROM_CACHE")
        for graph in (backend._encoder, backend._sampler)
        if graph
    ]


def test_compiled_graphs_are_kept_and_another_precision_or_file_is_compiled_anew(
    bundle, cache, tmp_path
):
    with OpenVinoBackend(bundle, both=True, threads=1) as first:
        assert from_cache(first) == [False, False]
        expected = picture(first, bundle)
    with OpenVinoBackend(bundle, both=True, threads=1) as second:
        assert from_cache(second) == [True, True]
        np.testing.assert_array_equal(picture(second, bundle), expected)
    assert len(list(cache.iterdir())) == 2, "no folder of a part is left"
    with in_bf16(bundle, both=True) as coarse:
        assert from_cache(coarse) == [False, True]
    other = Bundle.open(write_tiny_bundle(tmp_path / "other.srflow", gain=2.0))
    with OpenVinoBackend(other, both=True, threads=1) as third:
        assert from_cache(third) == [False, False]


@pytest.mark.parametrize(
    "damaged", [lambda content: b"", lambda content: content[: len(content) // 2]]
)
def test_a_damaged_cache_costs_only_time(bundle, cache, damaged):
    with OpenVinoBackend(bundle, both=True, threads=1) as backend:
        expected = picture(backend, bundle)
    for path in cache.glob("*/*.blob"):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(damaged(content))
    with OpenVinoBackend(bundle, both=True, threads=1) as backend:
        assert from_cache(backend) == [False, False]
        np.testing.assert_array_equal(picture(backend, bundle), expected)


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, cache, monkeypatch):
    """OpenVINO would wait for ever for an entry that it could not write before, so a process does
    not ask again."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(graphs, "_cache_works", True)
    own = Bundle.open(write_tiny_bundle(tmp_path / "own.srflow"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        for _ in range(2):
            with OpenVinoBackend(own, both=True, threads=1) as backend:
                picture(backend, own)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    # 2024.6 and 2025.4 do not say so, and later find it damaged
    if int(openvino.__version__[:4]) >= 2026:
        assert list(cache.iterdir()) == [], "nothing half written is kept"


# What goes wrong.


@BOTH
def test_a_cancelled_run_ends_soon_and_the_next_gives_the_right_picture(both):
    """OpenVINO leaves the shapes of a run that was cancelled in a part of its nodes."""
    embedded = Bundle.embedded()
    with OpenVinoBackend(embedded, threads=1, both=both) as backend:
        expected = picture(backend, embedded)
        encoder = backend._encoder
        assert encoder is not None
        event = threading.Event()
        started = threading.Event()
        real = encoder._compiled

        def create():
            started.set()
            return real.create_infer_request()

        encoder._compiled = types.SimpleNamespace(create_infer_request=create)
        ended = []

        def encode():
            try:
                with cancelled_by(event):
                    backend.encode(image(256, 256))
            except CancelledError as error:
                ended.append(error)

        thread = threading.Thread(target=encode)
        thread.start()
        assert started.wait(60)
        event.set()
        thread.join(60)
        assert len(ended) == 1
        np.testing.assert_array_equal(picture(backend, embedded), expected)


def test_freed_memory_is_returned_when_windows_change_their_size_and_kept_by_none_once_it_ran_out(
    bundle, monkeypatch
):
    returned = []
    monkeypatch.setattr(graphs, "return_freed_memory", lambda: returned.append(1))
    with OpenVinoBackend(bundle, threads=1) as backend:
        for size in ((16, 20), (16, 20), (20, 16), (20, 16), (16, 20)):
            backend.encode(image(*size))
        assert len(returned) == 3
        real = backend._encoder.run
        asked = []

        def run(*given, scarce):
            asked.append(scarce)
            if len(asked) == 1:
                raise OutOfMemoryError("no memory")
            return real(*given, scarce=scarce)

        backend._encoder.run = run
        with pytest.raises(OutOfMemoryError):
            picture(backend, bundle)
        picture(backend, bundle)
        assert (asked, backend._scarce) == ([False, True], True), (
            "ONNX Runtime is asked to keep none, too"
        )


def test_what_openvino_refuses_is_a_typed_error_in_one_line(bundle, backend, tmp_path):
    with pytest.raises(DeviceError, match="sampling on openvino failed: ") as caught:
        backend.sample(backend.encode(image(8, 10)), noise(bundle, 10, 10), 0.5)
    assert "\n" not in str(caught.value)
    assert "Exception from" not in str(caught.value)
    picture(backend, bundle)
    (tmp_path / "encoder.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"encoder\.onnx is not a graph that OpenVINO can load: "):
        Graph(tmp_path / "encoder.onnx", sha256="0", device="CPU", settings={})


FORKED = """
import os, sys
from srflow_sdk import DeviceError, Upscaler
import openvino
import numpy as np
image = np.zeros((16, 16, 3), np.uint8)
with Upscaler(sys.argv[1], device="openvino", threads=1) as up:
    up.upscale(image)
    openvino.Core = lambda: os._exit(3)  # a second one crashes some forked processes
    for again in (
        lambda: up.upscale(image),
        lambda: Upscaler(sys.argv[1], device="openvino", threads=1),
        lambda: Upscaler(sys.argv[1], precision="bf16", threads=1),
    ):
        child = os.fork()
        if child == 0:
            try:
                again()
            except DeviceError as error:
                os._exit(0 if "forked" in str(error) else 2)
            finally:
                os._exit(1)
        print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_is_refused_instead_of_waiting_for_ever(tiny_bundle):
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(tiny_bundle)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["0", "0", "0"], done.stderr


def test_a_package_that_does_not_load_is_named_with_the_fix(bundle, tmp_path, monkeypatch):
    graphs._core.cache_clear()
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").write_text(
        "import openvino.not_there", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(DeviceError, match=r"OpenVINO does not load \(.*: pip install -U \"srflow"):
        open_backend(bundle, device="openvino")
    for name in [name for name in sys.modules if name.partition(".")[0] == "openvino"]:
        del sys.modules[name]


def test_a_wrong_picture_is_refused_with_the_fix(bundle, compiled, monkeypatch):
    sampling_gives(monkeypatch, times=1.1)
    with pytest.raises(
        DeviceError, match=r"openvino computes a different picture from cpu "
    ) as caught:
        open_backend(bundle, device="openvino")
    message = str(caught.value)
    assert "or update it: pip install -U openvino" in message
    assert "\n" not in message
