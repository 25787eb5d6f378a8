"""The flow op in exported graphs: nodes, their function, and the same numbers from ONNX Runtime
without a library."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from srflow_export.flow_ops import NODES, append_function, flow_step_tail
from srflow_export.tracing import onnx_graph
from srflow_training.model.config import AffineOrder, ScaleMap
from tests.export.running import run_graph

NAMES = ["h", "head", "injector_scale", "injector_shift"]


class Tail(nn.Module):
    """The second of two steps of 5 channels, after its coupling's last convolution."""

    weight: Tensor
    bias: Tensor

    def __init__(self, scale_map: ScaleMap, order: AffineOrder) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(1)
        self.register_buffer("weight", torch.randn(5, 5, 1, 1, generator=random))
        self.register_buffer("bias", torch.randn(5, generator=random))
        self.scale_map = scale_map
        self.order = order

    def forward(self, *inputs: Tensor) -> tuple[Tensor]:
        """Inputs as in NAMES."""
        affine: dict[str, Any] = {"scale_map": self.scale_map, "order": self.order, "clamp": 1.5}
        return (flow_step_tail(*inputs, self.weight, self.bias, step=1, **affine),)


def example(
    batch: int, conditioning_batch: int, height: int, width: int, half: bool
) -> list[Tensor]:
    random = torch.Generator().manual_seed(2)
    size = (height, width)
    kind = torch.float16 if half else torch.float32
    return [
        torch.randn(batch, 5, *size, generator=random),
        torch.randn(batch, 6, *size, generator=random).to(kind),
        torch.randn(conditioning_batch, 10, *size, generator=random).to(kind),
        torch.randn(conditioning_batch, 10, *size, generator=random).to(kind),
    ]


def export(module: Tail, *, half: bool) -> onnx.ModelProto:
    tensors = dict(zip(NAMES, example(2, 1, 4, 6, half), strict=True))
    axes = {name: ("batch", tensor.shape[1], "height", "width") for name, tensor in tensors.items()}
    # traced with a batch of 1, as graphs are: nothing ties it to N
    for name in ("injector_scale", "injector_shift"):
        axes[name] = ("lr_batch", *axes[name][1:])
    proto = onnx_graph(
        module,
        tensors,
        inputs=axes,
        outputs={"out": ("batch", 5, "height", "width")},
        opset=18,
        nodes=NODES,
    )
    append_function(proto, scale_map=module.scale_map, order=module.order)
    return proto


@pytest.mark.parametrize(
    ("scale_map", "order", "half"),
    [
        ("exp", "shift_first", False),
        ("sigmoid", "scale_first", True),
        ("tanh", "scale_first", False),
    ],
)
def test_an_exported_op_runs_without_a_library_and_equals_torch(
    scale_map: ScaleMap, order: AffineOrder, half: bool
) -> None:
    module = Tail(scale_map, order)
    proto = export(module, half=half)
    onnx.checker.check_model(proto, full_check=True)
    assert [(node.domain, node.op_type) for node in proto.graph.node] == [
        ("srflow", "FlowStepTail")
    ]
    for batch, conditioning_batch, height, width in ((1, 1, 2, 2), (3, 1, 10, 4), (2, 2, 6, 14)):
        inputs = example(batch, conditioning_batch, height, width, half)
        given = {name: tensor.numpy() for name, tensor in zip(NAMES, inputs, strict=True)}
        (out,) = run_graph(proto, **given)
        np.testing.assert_allclose(out, module(*inputs)[0].numpy(), rtol=1e-4, atol=1e-4)
