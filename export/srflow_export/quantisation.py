"""int8: quantise the LR encoder's convolutions with ONNX Runtime's own tool.

Convolutions get explicit QuantizeLinear and DequantizeLinear nodes on their inputs (QDQ): weights int8, symmetric, by
output channel; activations uint8 with a zero point, as they are mostly positive behind (leaky) ReLUs. Nothing else is
rounded. The tool would round a tensor for all who take it, the sums of the encoder's trunk too, through which every
block's features pass: that cost 9 dB. Rounding the results of convolutions cost 4 dB. The first convolution, on the
picture itself, stays float32: it costs next to nothing. The sampler, which inverts the flow, is never quantised.

Activations in int8 with zero point 0, which TensorRT wants, are as exact in ONNX Runtime (0.3 dB less); OpenVINO
2026.4, however, computes convolutions on concatenations of them wrongly (13 dB on the embedded model).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx

from srflow_export import onnx_models
from srflow_export._calibration import Array, Range, activation_ranges, calibration_crops, quick_crops
from srflow_training.model import SRFlow

_LARGE = 10_000_000
"""Parameters from which on a network is calibrated on fewer, smaller crops; the embedded one has 3.6 million."""


def int8_encoder(model: SRFlow) -> onnx.ModelProto:
    """A network's encoder graph with integer convolutions, calibrated on the exporter's crops.

    Inputs and outputs are those of :func:`srflow_export.onnx_models.encoder_model` in float32. Deterministic.
    """
    multiple = model.config.size_multiple
    is_large = sum(parameter.numel() for parameter in model.parameters()) > _LARGE
    crops = quick_crops(multiple) if is_large else calibration_crops(multiple)
    return quantised_encoder(onnx_models.integer_encoder_model(model, crops), crops)


def quantised_encoder(encoder: onnx.ModelProto, crops: Sequence[Array]) -> onnx.ModelProto:
    """Quantise the convolutions of a float32 encoder graph, all but the first. `encoder` is changed.

    crops: float32 1×3×h×w in [0, 1], from which activations get their ranges.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    ranges = {name: _tensor_data(TensorData, found) for name, found in activation_ranges(encoder, crops).items()}
    first = next(node.name for node in encoder.graph.node if node.op_type == "Conv")
    with _quiet():
        quantizer = QDQQuantizer(
            encoder,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
            nodes_to_quantize=[],
            nodes_to_exclude=[first],
            op_types_to_quantize=["Conv"],
            extra_options={
                "ActivationSymmetric": False,
                "WeightSymmetric": True,
                "OpTypesToExcludeOutputQuantization": ["Conv"],
            },
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    quantised: onnx.ModelProto = quantizer.model.model
    _round_for_convolutions_only(quantised.graph)
    for tensor in quantised.graph.initializer:
        tensor.ClearField("data_location")  # the tool says where the data is although it is in place
    return quantised


def _round_for_convolutions_only(graph: onnx.GraphProto) -> None:
    """Give every other node that takes a rounded tensor the tensor itself."""
    produced = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type in ("Conv", "DequantizeLinear"):
            continue
        for index, name in enumerate(node.input):
            if name in produced and produced[name].op_type == "DequantizeLinear":
                node.input[index] = produced[produced[name].input[0]].input[0]


def _tensor_data(kind: Any, found: Range) -> Any:
    lowest, highest = found
    return kind(lowest=np.array(lowest, np.float32), highest=np.array(highest, np.float32))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the tool's advice."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
