"""OpenVINO's own runtime: the CPU's pictures, bfloat16 in the encoder alone, its cache, its failures, its devices."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

from srflow_export.exporter import ExportOptions, export_checkpoint
from srflow_sdk import Upscaler, backends
from srflow_sdk._device_names import Device
from srflow_sdk._system.interruptible import cancelled_by
from srflow_sdk.backends import Backend, OnnxRuntimeBackend, open_backend
from srflow_sdk.backends import _openvino_graphs as graphs
from srflow_sdk.backends._openvino import OpenVinoBackend
from srflow_sdk.bundle import Bundle
from srflow_sdk.errors import BundleError, CancelledError, DeviceError
from srflow_sdk.latents import window_noise
from tests.networks import GOLDEN, golden_checkpoint
from tests.sdk.tiny_bundle import write_tiny_bundle


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A real network of the published kind, whose answers the published implementation gave."""
    folder = tmp_path_factory.mktemp("golden")
    export_checkpoint(golden_checkpoint(folder / "golden.pth"), folder / "golden.srflow", ExportOptions(halo=8))
    return Bundle.open(folder / "golden.srflow")


@pytest.fixture(scope="module")
def backend(bundle: Bundle) -> Iterator[OpenVinoBackend]:
    with OpenVinoBackend(bundle, threads=1) as opened:
        yield opened


@contextlib.contextmanager
def opened(bundle: Bundle, device: Device) -> Iterator[Backend]:
    backend = open_backend(bundle, device=device, threads=1)
    try:
        yield backend
    finally:
        backend.deactivate()


def image(height: int, width: int, batch: int = 1) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [0.5 + 0.4 * np.sin(x / 4 + shift) * np.cos(y / 3 - shift) for shift in range(3 * batch)]
    return np.stack(waves).reshape(batch, 3, height, width)


def noise(bundle: Bundle, height: int, width: int, batch: int = 1) -> dict[int, np.ndarray]:
    levels, scale = bundle.manifest.latent_levels, bundle.manifest.scale
    drawn = [
        window_noise(levels, scale=scale, seed=7, sample=sample, height=height, width=width) for sample in range(batch)
    ]
    return {level: np.stack([one[level] for one in drawn]) for level in drawn[0]}


def picture(backend: Any, bundle: Bundle, height: int = 16, width: int = 20, tau: float = 0.8) -> np.ndarray:
    drawn: np.ndarray = backend.sample(backend.encode(image(height, width)), noise(bundle, height, width), tau)
    return drawn


def decibels(found: np.ndarray, expected: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((found - expected).astype(np.float64) ** 2) + 1e-30))


def test_pictures_of_any_size_are_the_cpus() -> None:
    """Left alone, OpenVINO computes in bfloat16 where the processor can: 54 dB."""
    embedded = Bundle.embedded()
    with opened(embedded, "openvino") as found, OnnxRuntimeBackend(embedded, threads=1) as cpu:
        assert found.device == "openvino"
        for size in ((16, 16), (40, 24), (16, 16)):
            assert decibels(picture(found, embedded, *size), picture(cpu, embedded, *size)) > 90


def test_pictures_are_the_published_implementations(golden: Bundle) -> None:
    expected = np.load(GOLDEN / "srflow_x4_small.npz")
    tau = float(expected["tau"])
    drawn = {level: (expected[f"latent_level{level}"] / tau).astype(np.float32) for level in (1, 3)}
    with OpenVinoBackend(golden, threads=1) as backend:
        conditioning = backend.encode(expected["lr"].astype(np.float32))
        np.testing.assert_allclose(backend.sample(conditioning, drawn, tau), expected["sr"], atol=1e-4)
        np.testing.assert_allclose(backend.sample(conditioning, drawn, 0.0), expected["sr_tau0"], atol=1e-4)


def test_bfloat16_changes_the_encoder_and_never_the_sampler() -> None:
    embedded = Bundle.embedded()
    exact, coarse = (OpenVinoBackend(embedded, threads=1, hint=hint) for hint in ("f32", "bf16"))
    with exact, coarse:
        conditioning, drawn = exact.encode(image(16, 16)), noise(embedded, 16, 16)
        expected = exact.sample(conditioning, drawn, 0.8)
        np.testing.assert_allclose(coarse.sample(conditioning, drawn, 0.8), expected, atol=1e-4)
        capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        differs = not np.array_equal(coarse.sample(coarse.encode(image(16, 16)), drawn, 0.8), expected)
        assert differs == ("BF16" in capabilities)


def test_one_encoding_serves_a_batch_of_noise_and_a_batch_of_images(bundle: Bundle, backend: OpenVinoBackend) -> None:
    conditioning, drawn = backend.encode(image(8, 10)), noise(bundle, 8, 10, batch=3)
    assert conditioning.nbytes == 8 * 10 * bundle.manifest.conditioning_bytes_per_pixel
    together = backend.sample(conditioning, drawn, 0.7)
    several = backend.sample(backend.encode(image(8, 10, batch=3)), drawn, 0.7)
    for index in range(3):
        alone = {level: array[index : index + 1] for level, array in drawn.items()}
        np.testing.assert_allclose(backend.sample(conditioning, alone, 0.7)[0], together[index], atol=1e-6)
        one = backend.encode(image(8, 10, batch=3)[index : index + 1])
        np.testing.assert_allclose(backend.sample(one, alone, 0.7)[0], several[index], atol=1e-6)


def test_what_was_returned_does_not_change_with_later_runs_or_the_callers_arrays(
    bundle: Bundle, backend: OpenVinoBackend
) -> None:
    lr = image(16, 20)
    conditioning = backend.encode(lr)
    first = backend.sample(conditioning, noise(bundle, 16, 20), 0.8)
    kept = first.copy()
    lr[:] = 0
    for size in ((16, 20), (40, 20)):
        picture(backend, bundle, *size, tau=0.1)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(backend.sample(conditioning, noise(bundle, 16, 20), 0.8), kept)


@pytest.mark.parametrize(("precision", "bound"), [("bf16", 1e-5), ("fp16", 0.02), ("int8", 0.05)])
def test_bundles_of_every_precision_run(tmp_path: Path, precision: str, bound: float) -> None:
    """A bfloat16 bundle by the float32 graphs beside its own, like on the CPU."""
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "b.srflow", twins=precision == "bf16", precision=precision))
    with OpenVinoBackend(bundle, threads=1) as found, OnnxRuntimeBackend(bundle, threads=1) as cpu:
        np.testing.assert_allclose(picture(found, bundle), picture(cpu, bundle), atol=bound)


def test_threads_share_one_backend(bundle: Bundle, backend: OpenVinoBackend) -> None:
    sizes = [(16, 16), (40, 24), (24, 40)] * 3
    expected = {size: picture(backend, bundle, *size) for size in sizes}
    same: list[bool] = []

    def draw(size: tuple[int, int]) -> None:
        same.append(np.array_equal(picture(backend, bundle, *size), expected[size]))

    threads = [threading.Thread(target=draw, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * len(sizes)


def test_tiles_are_the_whole_picture(tiny_bundle: Path) -> None:
    photo = np.random.default_rng(1).integers(0, 256, (60, 50, 3), np.uint8)
    with Upscaler(tiny_bundle, device="openvino", threads=1, tile=None) as whole:
        expected = whole.upscale(photo, seed=3)
    with Upscaler(tiny_bundle, device="openvino", threads=1, tile=16) as tiled:
        found = tiled.upscale(photo, seed=3).astype(int)
    assert np.abs(found - expected).max() <= 1


def test_restoring_and_transferring_give_the_cpus_pictures() -> None:
    photo, other = (np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8) for seed in range(2))
    mask = np.zeros((64, 64), bool)
    mask[16:32, 16:32] = True
    found = []
    for device in ("openvino", "cpu"):
        with Upscaler(device=device, threads=1) as up:  # type: ignore[arg-type]
            found.append((up.restore(photo).astype(int), up.transfer(photo, other, mask).astype(int)))
    for one, two in zip(*found, strict=True):
        assert np.abs(one - two).max() <= 1, "OpenVINO's own inverter is off by 40 and more"


def test_a_tile_that_is_not_finite_is_computed_again_on_the_cpu(tmp_path: Path, caplog: Any) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "b.srflow"))
    photo = np.random.default_rng(1).random((32, 32, 3), np.float32)
    with Upscaler(bundle, device="openvino", threads=1) as up:
        expected = up.upscale(photo)
        right = OpenVinoBackend.sample_impl
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(OpenVinoBackend, "sample_impl", lambda *given: right(*given) * np.float32(np.nan))
            np.testing.assert_allclose(up.upscale(photo), expected, atol=1e-5)
    assert "computing it again in float32 on the CPU" in caplog.text


def test_threads_of_the_processor_and_its_precision_are_set(bundle: Bundle) -> None:
    with OpenVinoBackend(bundle, threads=1, hint="bf16") as backend:
        encoder, sampler = (getattr(backend, name)._compiled for name in ("_encoder", "_sampler"))
        assert [graph.get_property("INFERENCE_NUM_THREADS") for graph in (encoder, sampler)] == [1, 1]
        assert sampler.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"


# ------------------------------------------------------------------------------------------------ failures


def test_a_cancelled_run_ends_soon_and_the_next_gives_the_right_picture(bundle: Bundle) -> None:
    """OpenVINO leaves the shapes of a run that was cancelled in a part of its nodes."""
    embedded = Bundle.embedded()
    with OpenVinoBackend(embedded, threads=1) as backend:
        expected = picture(backend, embedded)
        encoder = backend._encoder
        assert encoder is not None
        event, started = threading.Event(), threading.Event()
        real = encoder._compiled

        def create() -> Any:
            started.set()
            return real.create_infer_request()

        encoder._compiled = types.SimpleNamespace(create_infer_request=create)
        ended: list[BaseException] = []

        def encode() -> None:
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


def test_a_call_that_waits_for_its_turn_can_be_cancelled(bundle: Bundle) -> None:
    event = threading.Event()
    with OpenVinoBackend(bundle, threads=1) as backend:
        assert backend._encoder is not None
        with backend._encoder._turns:
            threading.Timer(0.05, event.set).start()
            with cancelled_by(event), pytest.raises(CancelledError):
                backend.encode(image(16, 16))


RUN_OUT = """
import resource, sys
import numpy as np
from srflow_sdk.backends._openvino import OpenVinoBackend
from srflow_sdk.bundle import Bundle
from srflow_sdk.errors import OutOfMemoryError
small, large = (np.random.default_rng(0).random((1, 3, side, side), np.float32) for side in (16, 128))
with OpenVinoBackend(Bundle.embedded(), threads=1) as backend:
    def values(lr):
        return {name: value.data.copy() for name, value in backend.encode(lr).values.items()}
    expected = values(small)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    free = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (60 << 20), free[1]))
    try:
        backend.encode(large)
    except OutOfMemoryError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_AS, free)
    found = values(small)
    print(all(np.array_equal(found[name], expected[name]) for name in expected))
    print(backend.encode(large).values.keys() == expected.keys())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space work on Linux")
def test_memory_that_runs_out_is_a_typed_error_and_the_next_run_is_right() -> None:
    """OpenVINO itself returns empty results from infer(), and other results from the next run."""
    done = subprocess.run([sys.executable, "-c", RUN_OUT], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    message, same, larger = done.stdout.splitlines()
    assert message.startswith("encoding 128×128 pixels on openvino failed: out of memory (")
    assert message.endswith("use smaller tiles")
    assert (same, larger) == ("True", "True")


def test_a_shape_that_the_graph_refuses_is_a_typed_error_in_one_line(bundle: Bundle, backend: OpenVinoBackend) -> None:
    with pytest.raises(DeviceError, match="sampling on openvino failed: ") as caught:
        backend.sample(backend.encode(image(8, 10)), noise(bundle, 10, 10), 0.5)
    assert "\n" not in str(caught.value)
    assert "Exception from" not in str(caught.value)
    picture(backend, bundle)


def test_files_that_are_no_graphs_are_a_bundle_error(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"encoder\.onnx is not a graph that OpenVINO can load: "):
        graphs.Graph(path, sha256="0", device="CPU", settings={})


FORKED = """
import os, sys
from srflow_sdk import DeviceError, Upscaler
import openvino
import numpy as np
image = np.zeros((16, 16, 3), np.uint8)
with Upscaler(device="openvino", threads=1) as up:
    up.upscale(image)
    openvino.Core = lambda: os._exit(3)  # a second one crashes some forked processes
    for again in (
        lambda: up.upscale(image),
        lambda: Upscaler(device="openvino", threads=1),
        lambda: Upscaler(precision="bf16", threads=1),
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
def test_a_forked_process_is_refused_instead_of_waiting_for_ever() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["0", "0", "0"], done.stderr


def test_without_the_package_the_error_has_the_command(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    graphs._core.cache_clear()
    with pytest.raises(DeviceError, match=r'OpenVINO is not installed: pip install "srflow-sdk\[openvino\]"'):
        open_backend(bundle, device="openvino")


def wrong(patch: pytest.MonkeyPatch) -> None:
    right = OpenVinoBackend.sample_impl
    patch.setattr(OpenVinoBackend, "sample_impl", lambda *given: right(*given) * np.float32(1.1))


def test_a_wrong_picture_is_refused_and_the_fixes_name_the_cache(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong(monkeypatch)
    with pytest.raises(DeviceError, match=r"openvino computes a different picture from cpu ") as caught:
        open_backend(bundle, device="openvino")
    message = str(caught.value)
    assert f"delete {cache}, " in message
    assert message.endswith("or update it: pip install -U openvino")
    assert "export" not in message, "only int8 graphs became others"
    assert "\n" not in message


def test_a_wrong_picture_of_an_int8_bundle_asks_for_a_new_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO 2026.4.1 computes some graphs with signed int8 activations, which earlier versions exported, wrongly."""
    own = Bundle.open(write_tiny_bundle(tmp_path / "b.srflow", precision="int8"))
    with opened(own, "openvino") as found:
        assert found.device == "openvino"
    wrong(monkeypatch)
    with pytest.raises(DeviceError, match=r"export it again \(srflow-export --precision int8\)"):
        open_backend(own, device="openvino")


# ------------------------------------------------------------------------------------------------ cache


def from_cache(backend: OpenVinoBackend) -> list[bool]:
    return [
        graph._compiled.get_property("LOADED_FROM_CACHE") for graph in (backend._encoder, backend._sampler) if graph
    ]


def test_compiled_graphs_are_kept_in_the_cache(bundle: Bundle, cache: Path) -> None:
    with OpenVinoBackend(bundle, threads=1) as first:
        assert from_cache(first) == [False, False]
        expected = picture(first, bundle)
    with OpenVinoBackend(bundle, threads=1) as second:
        assert from_cache(second) == [True, True]
        np.testing.assert_array_equal(picture(second, bundle), expected)
    assert len(list(cache.iterdir())) == 2, "no folder of a part is left"


def test_another_precision_or_file_is_compiled_anew(bundle: Bundle, tmp_path: Path, cache: Path) -> None:
    for model in (bundle, Bundle.open(write_tiny_bundle(tmp_path / "other.srflow", gain=2.0))):
        with OpenVinoBackend(model, threads=1) as backend:
            assert from_cache(backend) == [False, False]
    with OpenVinoBackend(bundle, threads=1, hint="bf16") as backend:
        assert from_cache(backend) == [False, True]


@pytest.mark.parametrize(
    "damaged",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[: len(content) // 10] + bytes(16) + content[len(content) // 10 + 16 :],
    ],
    ids=["empty", "half", "other weights"],
)
def test_a_damaged_cache_costs_only_time(bundle: Bundle, cache: Path, damaged: Callable[[bytes], bytes]) -> None:
    with OpenVinoBackend(bundle, threads=1) as backend:
        expected = picture(backend, bundle)
    for path in cache.glob("*/*.blob"):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(damaged(content))
    with OpenVinoBackend(bundle, threads=1) as backend:
        assert from_cache(backend) == [False, False]
        np.testing.assert_array_equal(picture(backend, bundle), expected)


def test_a_cache_that_cannot_be_written_costs_only_time(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO would wait for ever for an entry that it could not write before, so a process does not ask again."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(graphs, "_cache_works", True)
    own = Bundle.open(write_tiny_bundle(tmp_path / "own.srflow"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        for _ in range(2):
            with OpenVinoBackend(own, threads=1) as backend:
                picture(backend, own)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    if int(openvino.__version__[:4]) >= 2026:  # 2024.6 and 2025.4 do not say so, and later find it damaged
        assert list(cache.iterdir()) == [], "nothing half written is kept"


def test_the_cache_keeps_what_was_used_last(
    bundle: Bundle, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "_CACHED", 3)
    with OpenVinoBackend(bundle, threads=1):
        pass
    for path in cache.iterdir():
        os.utime(path, (1, 1))
    with OpenVinoBackend(bundle, threads=1, hint="bf16"):  # one new graph, and the old sampler
        pass
    with OpenVinoBackend(Bundle.open(write_tiny_bundle(tmp_path / "other.srflow", gain=2.0)), threads=1):
        pass
    assert len(list(cache.iterdir())) == 3
    with OpenVinoBackend(bundle, threads=1) as backend:
        assert from_cache(backend)[0] is False, "it was used longest ago"


# ------------------------------------------------------------------------------------------------ devices


class Machine:
    """OpenVINO's Core on a machine with other devices, where every graph runs on the processor."""

    def __init__(self, *devices: str) -> None:
        self.available_devices = list(devices)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.core = openvino.Core()

    def get_property(self, device: str, name: str) -> Any:
        return f"{device} of a test" if name == "FULL_DEVICE_NAME" else self.core.get_property("CPU", name)

    def compile_model(self, path: str, device: str, settings: dict[str, Any]) -> Any:
        self.asked.append((device, settings))
        return self.core.compile_model(path, "CPU", settings)


def on(monkeypatch: pytest.MonkeyPatch, *devices: str) -> Machine:
    machine = Machine(*devices)
    monkeypatch.setattr(graphs, "openvino_core", lambda: machine)
    monkeypatch.setattr(graphs, "_has_gpu_file", lambda: len(devices) > 1)
    return machine


def test_the_first_gpu_is_taken_in_float32(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = on(monkeypatch, "CPU", "GPU.0", "GPU.1", "NPU")
    with opened(bundle, "openvino") as backend:
        picture(backend, bundle)
    assert {device for device, _ in machine.asked} == {"GPU.0"}
    for _, settings in machine.asked:
        assert settings["INFERENCE_PRECISION_HINT"] == "f32"
        assert not [name for name in settings if "THREADS" in name or "PINNING" in name], "of the CPU"


def test_bfloat16_is_the_processors(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = on(monkeypatch, "CPU", "GPU")
    with OpenVinoBackend(bundle, threads=1, hint="bf16"):
        assert {device for device, _ in machine.asked} == {"CPU"}


def test_auto_takes_openvinos_gpu_and_leaves_the_processor_to_onnx_runtime(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "cuda_offered", lambda: False)
    for devices, expected in ((("CPU", "GPU"), "openvino"), (("CPU",), "cpu"), (("CPU", "NPU"), "cpu")):
        on(monkeypatch, *devices)
        with opened(bundle, "auto") as backend:
            assert backend.device == expected


def test_without_a_gpus_device_file_openvino_is_not_even_imported(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "_has_gpu_file", lambda: False)
    monkeypatch.setattr(graphs, "import_openvino", lambda: pytest.fail("imported"))
    graphs._core.cache_clear()
    assert not graphs.gpu_offered()
