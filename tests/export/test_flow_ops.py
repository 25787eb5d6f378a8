"""The flow ops in exported graphs: nodes, functions, and the same numbers from ONNX Runtime without a library."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from srflow_export.flow_ops import NODES, append_functions, flow_step_tail, unsqueeze_split
from srflow_export.tracing import onnx_graph
from srflow_training.model.config import AffineOrder, ScaleMap

NAMES = ["h", "split_head", "noise", "tau", "tail_head", "injector_scale", "injector_shift"]


class SplitThenTail(nn.Module):
    """A level's beginning with one step: 2 + 3 channels at twice h's size."""

    weight: Tensor
    bias: Tensor

    def __init__(self, scale_map: ScaleMap, order: AffineOrder, bound: float | None) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(1)
        self.register_buffer("weight", torch.randn(5, 5, 1, 1, generator=random))
        self.register_buffer("bias", torch.randn(5, generator=random))
        self.scale_map, self.order, self.bound = scale_map, order, bound

    def forward(self, h: Tensor, *rest: Tensor) -> tuple[Tensor]:
        """Inputs as in NAMES."""
        split_head, noise, tau, *conditioning = rest
        h = unsqueeze_split(h, split_head, noise, tau, bound=self.bound)
        affine: dict[str, Any] = {"scale_map": self.scale_map, "order": self.order, "clamp": 1.5}
        return (flow_step_tail(h, *conditioning, self.weight, self.bias, step=1, **affine),)


def example(batch: int, conditioning_batch: int, taus: int, height: int, width: int, half: bool) -> list[Tensor]:
    random = torch.Generator().manual_seed(2)
    size, kind = (2 * height, 2 * width), torch.float16 if half else torch.float32
    return [
        torch.randn(batch, 8, height, width, generator=random),
        torch.randn(batch, 6, *size, generator=random).to(kind),
        torch.randn(batch, 3, *size, generator=random),
        torch.rand(taus, generator=random),
        torch.randn(batch, 6, *size, generator=random).to(kind),
        torch.randn(conditioning_batch, 10, *size, generator=random).to(kind),
        torch.randn(conditioning_batch, 10, *size, generator=random).to(kind),
    ]


def exported(module: SplitThenTail, *, half: bool) -> onnx.ModelProto:
    tensors = dict(zip(NAMES, example(2, 1, 1, 4, 6, half), strict=True))
    axes = {name: ("batch", tensor.shape[1], "height", "width") for name, tensor in tensors.items() if name != "tau"}
    axes["h"] = ("batch", 8, "half_height", "half_width")
    for name in ("injector_scale", "injector_shift"):  # traced with a batch of 1, as graphs are: nothing ties it to N
        axes[name] = ("lr_batch", *axes[name][1:])
    proto = onnx_graph(
        module,
        tensors,
        inputs={name: axes.get(name, ("tau_batch",)) for name in NAMES},
        outputs={"out": ("batch", 5, "height", "width")},
        opset=18,
        nodes=NODES,
    )
    append_functions(proto, scale_map=module.scale_map, order=module.order, split_bounded=module.bound is not None)
    return proto


@pytest.mark.parametrize(
    ("scale_map", "order", "bound", "half"),
    [("exp", "shift_first", None, False), ("sigmoid", "scale_first", None, True), ("tanh", "scale_first", 2.0, False)],
)
def test_exported_ops_run_without_a_library_and_equal_torch(
    scale_map: ScaleMap, order: AffineOrder, bound: float | None, half: bool
) -> None:
    module = SplitThenTail(scale_map, order, bound)
    proto = exported(module, half=half)
    onnx.checker.check_model(proto, full_check=True)
    assert [(node.domain, node.op_type) for node in proto.graph.node] == [
        ("srflow", "UnsqueezeSplit"),
        ("srflow", "FlowStepTail"),
    ]
    session = ort.InferenceSession(proto.SerializeToString())
    for batch, conditioning_batch, taus, height, width in ((1, 1, 1, 1, 1), (3, 1, 1, 5, 2), (2, 2, 2, 3, 7)):
        inputs = example(batch, conditioning_batch, taus, height, width, half)
        out = session.run(None, {name: tensor.numpy() for name, tensor in zip(NAMES, inputs, strict=True)})[0]
        np.testing.assert_allclose(out, module(*inputs)[0].numpy(), rtol=1e-4, atol=1e-4)


def test_nodes_carry_what_kernels_and_plugins_read() -> None:
    proto = exported(SplitThenTail("tanh", "scale_first", 2.0), half=False)
    split, tail = (
        {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        for node in proto.graph.node
    )
    plugin = {"plugin_namespace": b"srflow", "plugin_version": b"1"}
    assert split == {"bound": 2.0, **plugin}
    assert tail == {"scale_map": b"tanh", "order": b"scale_first", "clamp": 1.5, "begin": [5], "end": [10], **plugin}
    assert {function.name: set(function.attribute) for function in proto.functions} == {
        "UnsqueezeSplit": set(split),
        "FlowStepTail": set(tail),
    }
    assert {opset.domain: opset.version for opset in proto.opset_import} == {"": 18, "srflow": 1}
    assert len({node.name for node in proto.graph.node}) == 2
