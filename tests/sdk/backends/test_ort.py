from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from srflow_export.bundle_writer import staged_bundle
from srflow_sdk.backends import OnnxRuntimeBackend, open_backend
from srflow_sdk.errors import BundleError, DeviceError
from srflow_sdk.model.bundle import Bundle
from tests.sdk.tiny_bundle import LEVELS, tiny_manifest, write_tiny_bundle


def noise(batch: int, height: int = 8, width: int = 10) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(3)
    return {
        level: rng.standard_normal((batch, channels, height * 4 >> level, width * 4 >> level), np.float32)
        for level, channels in LEVELS.items()
    }


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture
def lr() -> np.ndarray:
    return np.random.default_rng(2).random((1, 3, 8, 10), np.float32)


def test_one_encoding_serves_a_batch_of_noise(bundle: Bundle, lr: np.ndarray) -> None:
    with OnnxRuntimeBackend(bundle, threads=1) as backend:
        conditioning = backend.encode(lr)
        assert conditioning.nbytes == 8 * 10 * bundle.manifest.conditioning_bytes_per_pixel
        batch = noise(3)
        together = backend.sample(conditioning, batch, 0.7)
        assert together.shape == (3, 3, 32, 40)
        for index in range(3):
            alone = {level: array[index : index + 1] for level, array in batch.items()}
            np.testing.assert_allclose(backend.sample(conditioning, alone, 0.7)[0], together[index], atol=1e-6)


def test_a_cpu_runs_a_bfloat16_bundle_by_its_float32_graphs(tmp_path: Path, lr: np.ndarray) -> None:
    """ONNX Runtime has no convolution in bfloat16 there. Here the others would overflow."""
    pictures = {}
    for precision in ("bf16", "fp16"):
        target = write_tiny_bundle(tmp_path / precision, half_overflow=True, twins=True, precision=precision)
        with OnnxRuntimeBackend(Bundle.open(target), threads=1) as backend:
            pictures[precision] = backend.sample(backend.encode(np.ones_like(lr)), noise(1), 0.1)
    assert np.isfinite(pictures["bf16"]).all()
    assert not np.isfinite(pictures["fp16"]).all()


def test_arrays_of_any_layout_and_float_are_taken(bundle: Bundle, lr: np.ndarray) -> None:
    with OnnxRuntimeBackend(bundle, threads=1) as backend:
        expected = backend.sample(backend.encode(lr), noise(1), 0.5)
        turned = np.asfortranarray(lr.astype(np.float64))
        got = backend.sample(backend.encode(turned), {k: np.asfortranarray(v) for k, v in noise(1).items()}, 0.5)
        np.testing.assert_array_equal(got, expected)


def test_use_outside_the_context_is_a_typed_error(bundle: Bundle, lr: np.ndarray) -> None:
    backend = OnnxRuntimeBackend(bundle, threads=1)
    with pytest.raises(DeviceError, match="not active"):
        backend.encode(lr)
    with backend, pytest.raises(DeviceError, match="already active"):
        backend.activate()
    with pytest.raises(DeviceError, match="not active"):
        backend.encode(lr)
    with backend:  # can be entered again
        backend.encode(lr)


def test_a_shape_that_the_graph_refuses_is_a_typed_error(bundle: Bundle, lr: np.ndarray) -> None:
    with OnnxRuntimeBackend(bundle, threads=1) as backend, pytest.raises(DeviceError, match="failed"):
        backend.sample(backend.encode(lr), noise(1, height=10), 0.5)


def write(target: Path, encoder: bytes, sampler: bytes, **manifest: Any) -> Bundle:
    with staged_bundle(target) as stage:
        (stage.path / "encoder.onnx").write_bytes(encoder)
        (stage.path / "sampler.onnx").write_bytes(sampler)
        stage.commit(tiny_manifest(**manifest))
    return Bundle.open(target)


def test_files_that_are_no_graphs_are_a_bundle_error(tmp_path: Path) -> None:
    bundle = write(tmp_path / "b.srflow", b"no graph", b"no graph")
    with pytest.raises(BundleError, match=r"encoder\.onnx is not a graph"):
        open_backend(bundle, device="cpu")


def test_cuda_that_is_not_there_is_a_device_error_with_the_fix(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match=r"pip install onnxruntime-gpu.*srflow-doctor"):
        open_backend(bundle, device="cuda")


def test_threads_are_at_most_the_cores(tiny_bundle, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    seen = []
    original = onnxruntime.InferenceSession

    def session(path, options, **rest):
        seen.append(options.intra_op_num_threads)
        return original(path, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with OnnxRuntimeBackend(Bundle.open(tiny_bundle), threads=99999):
        assert seen == [3, 3]
