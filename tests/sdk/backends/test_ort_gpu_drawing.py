"""ONNX Runtime's CUDA provider, the processor being the GPU: latents and levels are made where it
computes."""

import ctypes
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime import IOBinding

from srflow_sdk.backends import Backend, Finish, OnnxRuntimeBackend, base
from srflow_sdk.backends.ort import gpu_drawing
from srflow_sdk.backends.providers import PROVIDERS
from srflow_sdk.drawing.low_resolution import ChromaBounds
from srflow_sdk.geometry.tiles import Window
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.pixels.in_memory import from_unit

from .engine_machine import drawing_of, maps_of

VALUE = onnxruntime.OrtValue


@pytest.fixture
def gpu(machine, monkeypatch):
    """The fake GPU, whose memory OrtValues lie in. `uploads`: bytes that were copied there."""
    gpu = machine.gpu
    row = replace(PROVIDERS["cpu"], device="cuda", title="CUDA")
    gpu.uploads = []
    held = []
    monkeypatch.setitem(PROVIDERS, "cuda", row)

    def there(value):
        nbytes = value.tensor_size_in_bytes()
        address = value.data_ptr()
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
    outputs = IOBinding.get_outputs
    monkeypatch.setattr(
        IOBinding, "get_outputs", lambda binding: list(map(there, outputs(binding)))
    )
    gpu_drawing.cache_clear()
    return gpu


def test_the_gpu_draws_numpys_latents_into_onnx_runtimes_memory(
    gpu, engine_bundle, lr, monkeypatch
):
    drawings = [drawing_of(engine_bundle, sample=number) for number in range(2)]
    drawings.append(drawing_of(engine_bundle, maps=maps_of(engine_bundle), tau=1.0))
    with OnnxRuntimeBackend(engine_bundle, threads=1) as backend:
        expected = [backend.begin(backend.encode(lr), drawing)() for drawing in drawings]
    with OnnxRuntimeBackend(engine_bundle, device="cuda", threads=1) as backend:
        conditioning = backend.encode(lr)
        monkeypatch.setattr(base, "window_noise", None)  # the processor draws none
        for drawing, picture in zip(drawings, expected, strict=True):
            np.testing.assert_array_equal(backend.begin(conditioning, drawing)(), picture)
        maps = [array.nbytes for array in drawings[2].maps.values()]
        assert gpu.uploads == [256, 256, 256, *maps]  # of a sample's noise it would be 69 KB
        assert gpu.started == ["srflow_draw_latents"] * 9  # of three levels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_gpu_bounds_and_rounds_as_the_processor_and_a_tiles_bounds_go_up_once(
    gpu, engine_bundle, lr, dtype
):
    core = Window(top=4, left=2, height=16, width=20)
    dtype = np.dtype(dtype)
    bounds = ChromaBounds(lr[0] / 8 + np.float32(0.4), core, 6)
    finish = Finish(dtype, bounds.limits)
    drawings = [
        drawing_of(engine_bundle, core=core.scaled(4), sample=number, finish=finish)
        for number in range(2)
    ]
    with OnnxRuntimeBackend(engine_bundle, threads=1) as backend:
        values = [backend.begin(backend.encode(lr), drawing)() for drawing in drawings]
    with OnnxRuntimeBackend(engine_bundle, device="cuda", threads=1) as backend:
        conditioning = backend.encode(lr)
        for drawing, picture in zip(drawings, values, strict=True):
            near = bounds.limit(picture)
            assert (near != picture).any()
            np.testing.assert_array_equal(
                backend.begin(conditioning, drawing)(), from_unit(near, dtype)
            )
        assert gpu.uploads == [256, finish.bounds.nbytes, 256]
        narrow = ChromaBounds(lr[0] / 16 + np.float32(0.4), core, 6)  # another tile's
        other = replace(drawings[0], finish=Finish(dtype, narrow.limits))
        wanted = from_unit(narrow.limit(values[0]), dtype)
        np.testing.assert_array_equal(backend.begin(conditioning, other)(), wanted)
        hot = replace(drawings[0], tau=1e9)
        assert np.isnan(backend.begin(conditioning, hot)()).all()
    assert gpu.started.count("srflow_finish") == 4


def test_where_the_driver_cannot_load_the_kernel_the_processor_draws_and_says_so(
    gpu, engine_bundle, lr, caplog
):
    gpu.ptx_version = 7.8
    with OnnxRuntimeBackend(engine_bundle, device="cuda", threads=1) as backend:
        drawn = backend.begin(backend.encode(lr), drawing_of(engine_bundle))()
        np.testing.assert_array_equal(
            drawn, Backend.begin(backend, backend.encode(lr), drawing_of(engine_bundle))()
        )
    (said,) = caplog.messages
    assert said.startswith(
        "latents are drawn, and pictures rounded, by the processor: cuModuleLoadData: CUDA_ERROR"
    )


def test_convolutions_of_cuda_are_not_fused_with_activations(tmp_path):
    """The name of the optimizer is ONNX Runtime's: here the processor, which fuses them otherwise,
    goes by it."""
    kinds = []
    for device in ("cpu", "cuda"):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(tmp_path / f"{device}.onnx")
        bundle = Bundle.embedded("x4-small")
        PROVIDERS[device].configure(options, bundle, 0)
        onnxruntime.InferenceSession(
            bundle.file("encoder.onnx"), options, providers=["CPUExecutionProvider"]
        )
        kinds.append({node.op_type for node in onnx.load(tmp_path / f"{device}.onnx").graph.node})
    assert [("FusedConv" in found) for found in kinds] == [True, False]


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", "0"), ("fp16", "1")])
def test_float32_is_float32_on_cuda_and_half_precision_keeps_its_tensor_cores(
    engine_bundle, precision, tf32
):
    bundle = replace(engine_bundle, manifest=replace(engine_bundle.manifest, precision=precision))
    assert PROVIDERS["cuda"].options(bundle, 0)["use_tf32"] == tf32
