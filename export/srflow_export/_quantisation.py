"""int8: quantise the LR encoder with ONNX Runtime's own tool, in a form that TensorRT also reads.

Convolutions get explicit QuantizeLinear and DequantizeLinear nodes around them (QDQ), symmetric int8, weights by
channel; activations have the ranges seen on calibration photographs. The sampler, which inverts the flow, is never
quantised.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx

from srflow_export.parity._photos import photographs


def quantised_encoder(encoder: onnx.ModelProto, *, size_multiple: int) -> onnx.ModelProto:
    """Quantise the convolutions of a float32 encoder graph to int8, calibrated on the exporter's photographs.

    Inputs and outputs stay float32. Deterministic. `encoder` cannot be used afterwards: the tool moves its
    weights to a temporary file.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory(prefix="srflow-int8-") as folder, _quiet():
        target = Path(folder) / "encoder.onnx"
        quantize_static(
            encoder,
            str(target),
            _Photographs([photo.lr for photo in photographs(size_multiple)]),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=_depthwise(encoder),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
        )
        return onnx.load(target)


def _depthwise(encoder: onnx.ModelProto) -> list[str]:
    """Depthwise convolutions by name: they only scale what passes every block, which int8 must not round each time."""
    channels = {weight.name: weight.dims for weight in encoder.graph.initializer}
    return [
        node.name
        for node in encoder.graph.node
        if node.op_type == "Conv" and channels.get(node.input[1], [0, 0])[1:] == [1, 1, 1]
    ]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the tool's advice and prints."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


class _Photographs:
    """Calibration data in the form that the tool reads."""

    def __init__(self, images: Sequence[Any]) -> None:
        self._feeds: Iterator[dict[str, Any]] = iter([{"lr": image} for image in images])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)
