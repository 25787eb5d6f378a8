"""Torch modules as ONNX graphs: the same numbers for other sizes than the example's, and
refusals."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srflow_export.tracing import onnx_graph
from srflow_sdk.errors import ExportError
from tests.export.running import run_graph


class Called(nn.Module):
    """A function with a convolution's weights."""

    def __init__(self, function: Callable[[Tensor, nn.Conv2d], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(4, 6, 3, padding=1)
            self.unused = nn.Linear(2, 2)
        self.function = function

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.function(x, self.conv),)


def trace(function: Callable[[Tensor, nn.Conv2d], Tensor]) -> tuple[Called, onnx.ModelProto]:
    module = Called(function)
    axes = ("batch", "channels", "height", "width")
    proto = onnx_graph(
        module,
        {"x": torch.zeros(2, 4, 12, 16)},
        inputs={"x": ("batch", 4, *axes[2:])},
        outputs={"y": axes},
        opset=18,
        nodes={},
    )
    onnx.checker.check_model(proto, full_check=True)
    return module, proto


def unequal_padding(x: Tensor, conv: nn.Conv2d) -> Tensor:
    return F.conv2d(F.pad(x[..., 1:], (0, 2, 1, 1)), conv.weight, conv.bias, stride=2)


def rows_by_group(x: Tensor, conv: nn.Conv2d) -> Tensor:
    batch, _, height, width = x.shape
    first, second = x.reshape(batch, 2, -1, width).chunk(2, dim=2)
    return (first - second).reshape(batch, 2, height, width)


def interleave(x: Tensor, conv: nn.Conv2d) -> Tensor:
    batch, channels, height, width = x.shape
    return torch.stack([x, -x], dim=4).reshape(batch, channels, height, 2 * width)


FUNCTIONS = {
    "an input": lambda x, conv: x,
    "convolution": lambda x, conv: F.leaky_relu(conv(x), 0.2),
    "unequal padding": unequal_padding,
    "rows by group": rows_by_group,
    "interleaved": interleave,
    "every second pixel": lambda x, conv: x[..., ::2, ::2],
    "channels": lambda x, conv: torch.cat([x[:, 2:], x[:, :2] * 0.5 + 1], dim=1),
    "enlarged": lambda x, conv: F.interpolate(x, scale_factor=2.0, mode="nearest"),
    "enlarged, bilinear": lambda x, conv: F.interpolate(x, scale_factor=4.0, mode="bilinear"),
    "reduced": lambda x, conv: F.avg_pool2d(x[..., 1:, 1:], kernel_size=2, stride=4),
    "unshuffled": lambda x, conv: F.pixel_unshuffle(x, 2),
    "shuffled": lambda x, conv: F.pixel_shuffle(x, 2),
    "maps": lambda x, conv: (
        torch.exp(torch.tanh(x / 1.5) * -1.5) + torch.reciprocal(torch.sigmoid(x + 2) + 1e-4)
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_graph_computes_what_the_module_does_at_other_sizes(name):
    module, proto = trace(FUNCTIONS[name])
    for batch, height, width in ((2, 12, 16), (1, 8, 20), (3, 28, 4)):
        x = torch.randn(batch, 4, height, width)
        (y,) = run_graph(proto, x=x.numpy())
        np.testing.assert_allclose(y, module(x)[0].detach().numpy(), rtol=1e-5, atol=1e-5)


def test_weights_keep_their_names_and_unused_ones_stay_out():
    _, proto = trace(FUNCTIONS["convolution"])
    assert [weight.name for weight in proto.graph.initializer] == ["conv.weight", "conv.bias"]


def test_equal_operations_are_done_once():
    _, proto = trace(lambda x, conv: x[:, 2:] + torch.relu(x[:, 2:]))
    assert [node.op_type for node in proto.graph.node] == ["Slice", "Relu", "Add"]


def test_an_operator_that_it_does_not_know_is_refused():
    with pytest.raises(ExportError, match="cumsum"):
        trace(lambda x, conv: torch.cumsum(x, dim=1))
