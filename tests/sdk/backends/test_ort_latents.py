"""ONNX Runtime's CUDA provider, with the processor in the place of the GPU: latents are drawn where it computes."""

import ctypes
import dataclasses

import numpy as np
import onnxruntime
import pytest

from srflow_sdk.backends import Backend, OnnxRuntimeBackend, base
from srflow_sdk.backends.ort import gpu_latents
from srflow_sdk.backends.providers import PROVIDERS

from .engine_machine import drawing_of, maps_of

VALUE = onnxruntime.OrtValue


@pytest.fixture
def gpu(machine, monkeypatch):
    """The fake GPU, whose memory OrtValues lie in. `uploads`: bytes that were copied there."""
    gpu, row = machine.gpu, dataclasses.replace(PROVIDERS["cpu"], device="cuda", title="CUDA")
    gpu.uploads, held = [], []
    monkeypatch.setitem(PROVIDERS, "cuda", row)

    def there(value):
        nbytes, address = value.tensor_size_in_bytes(), value.data_ptr()
        gpu.blocks[address] = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))
        return value

    class Values:
        @staticmethod
        def ortvalue_from_numpy(array, device, number):
            gpu.uploads.append(array.nbytes)
            held.append(array.copy())
            return there(VALUE.ortvalue_from_numpy(held[-1]))

        @staticmethod
        def ortvalue_from_shape_and_type(shape, dtype, device, number):
            return there(VALUE.ortvalue_from_shape_and_type(shape, dtype))

    monkeypatch.setattr(onnxruntime, "OrtValue", Values)
    gpu_latents.cache_clear()
    return gpu


def test_the_gpu_draws_numpys_latents_into_onnx_runtimes_memory(gpu, engine_bundle, lr, monkeypatch):
    drawings = [drawing_of(engine_bundle, sample=number) for number in range(2)]
    drawings.append(drawing_of(engine_bundle, maps=maps_of(engine_bundle), tau=1.0))
    with OnnxRuntimeBackend(engine_bundle, threads=1) as backend:
        expected = [backend.draw(backend.encode(lr), drawing) for drawing in drawings]
    with OnnxRuntimeBackend(engine_bundle, device="cuda", threads=1) as backend:
        conditioning = backend.encode(lr)
        monkeypatch.setattr(base, "window_noise", None)  # the processor draws none
        for drawing, picture in zip(drawings, expected, strict=True):
            np.testing.assert_array_equal(backend.draw(conditioning, drawing), picture)
        maps = [array.nbytes for array in drawings[2].maps.values()]
        assert gpu.uploads == [256, 256, 256, *maps]  # of a sample's noise it would be 69 KB
        assert gpu.started == ["srflow_draw_latents"] * 9  # of three levels


def test_where_the_driver_cannot_load_the_kernel_the_processor_draws_and_says_so(gpu, engine_bundle, lr, caplog):
    gpu.ptx_version = 7.8
    with OnnxRuntimeBackend(engine_bundle, device="cuda", threads=1) as backend:
        drawn = backend.draw(backend.encode(lr), drawing_of(engine_bundle))
        np.testing.assert_array_equal(drawn, Backend.draw(backend, backend.encode(lr), drawing_of(engine_bundle)))
    (said,) = caplog.messages
    assert said.startswith("latents are drawn by the processor: cuModuleLoadData: CUDA_ERROR_UNSUPPORTED_PTX_VERSION")
