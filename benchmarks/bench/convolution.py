"""One large convolution in a precision, on ONNX Runtime or OpenVINO: how fast this processor convolves at best."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.bench.timing import Times, in_turn, seconds_of

CHANNELS, SIDE = 128, 96
MULTIPLY_ADDS = 9 * CHANNELS**2 * SIDE**2
_LAYERS = 4  # so that reading and writing the picture, and changing its layout, count little


def write(path: Path, *, int8: bool) -> None:
    """A graph of four 3×3 convolutions of 128 channels with ReLUs, 128×96×96; int8: with QuantizeLinear around them."""
    random = np.random.default_rng(0)
    nodes, constants, current = [], [], "x"
    for layer in range(_LAYERS):
        weight = random.standard_normal((CHANNELS, CHANNELS, 3, 3), np.float32) * (2 / (9 * CHANNELS)) ** 0.5
        name, out = f"w{layer}", f"y{layer}" if layer < _LAYERS - 1 else "y"
        if int8:
            constants += [
                numpy_helper.from_array(np.rint(weight / 0.004).clip(-127, 127).astype(np.int8), f"{name}_q"),
                numpy_helper.from_array(np.float32(0.004), f"{name}_s"),
                numpy_helper.from_array(np.int8(0), f"{name}_z"),
                numpy_helper.from_array(np.float32(0.03), f"x{layer}_s"),
                numpy_helper.from_array(np.uint8(0 if layer else 128), f"x{layer}_z"),
            ]
            quantised = [current, f"x{layer}_s", f"x{layer}_z"]
            nodes += [helper.make_node("QuantizeLinear", quantised, [f"x{layer}_q"])]
            quantised[0] = f"x{layer}_q"
            nodes += [helper.make_node("DequantizeLinear", quantised, [f"x{layer}_d"])]
            nodes += [helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [name])]
            current = f"x{layer}_d"
        else:
            constants.append(numpy_helper.from_array(weight, name))
        nodes.append(helper.make_node("Conv", [current, name], [f"c{layer}"], pads=[1, 1, 1, 1], name=f"conv{layer}"))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [out]))
        current = out
    shape = [1, CHANNELS, SIDE, SIDE]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "convolutions", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def on_onnxruntime(path: Path, threads: int) -> Callable[[], object]:
    """A run of the graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {"x": _picture()}
    return lambda: session.run(None, feed)


def on_openvino(path: Path, threads: int, hint: str) -> Callable[[], object]:
    """A run of the graph with a precision hint, "f32" or "bf16". Raises: ImportError, RuntimeError."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    picture = _picture()
    return lambda: request.infer([picture], share_inputs=True)


def rate(call: Callable[[], object], *, runs: int) -> tuple[float, Times]:
    """Multiply-adds a second of the fastest run, and the times."""
    call()
    times = in_turn({"": lambda: seconds_of(call)}, runs=runs)[""]
    return _LAYERS * MULTIPLY_ADDS / min(times.seconds), times


def _picture() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, CHANNELS, SIDE, SIDE), np.float32)
