"""Convolutions on a level's features, laid out so that runtimes compute little and copy little.

A level's u may end with features that nearest interpolation enlarged. A 3×3 convolution of them
takes few values in each cell of factor×factor equal pixels: pixels at its edges see two cells, the
others one. So the nine taps become 4 at factor 2 and 2.25 on average at factor 4, as smaller
kernels that are sums of the taps, one for each kind of pixel (:class:`PhaseConv`). Their results,
one tensor for each pixel of the cell, stay apart as long as convolutions are 1×1;
:func:`interleave` then joins them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srflow_export.folding import FoldedConv
from srflow_training.model import SRFlow, SRFlowConfig
from srflow_training.model.config import LevelShape
from srflow_training.model.encoder import ResidualBlock
from srflow_training.model.features import CellRows, rows_of_cell

Phases = dict[tuple[int, int], Tensor]
"""N×C×factor·h×factor·w, as N×C×h×w for each row and column of a cell."""


def enlargement(config: SRFlowConfig, shape: LevelShape) -> int:
    """Return how often u repeats the blocks' outputs in both directions; 1 if it does not."""
    if (
        config.condition
        or shape.lr_exponent <= 0
        or config.feature_resize != "nearest"
        or not config.stacked_blocks
    ):
        return 1
    return int(2**shape.lr_exponent)


def kernel_shapes(factor: int) -> dict[str, tuple[int, int]]:
    """Return the kernels of a :class:`PhaseConv` by name, with their height and width."""
    return {
        _kernel_name(rows.name, columns.name): (
            1 + rows.before + rows.after,
            1 + columns.before + columns.after,
        )
        for rows in rows_of_cell(factor)
        for columns in rows_of_cell(factor)
    }


def sum_kernels(weight: Tensor, factor: int) -> dict[str, Tensor]:
    """Sum taps of a weight, out×in×3×3, into the kernels for the pixels of a cell, by name."""
    return {
        _kernel_name(rows.name, columns.name): columns.sum_taps(rows.sum_taps(weight, dim=2), dim=3)
        for rows in rows_of_cell(factor)
        for columns in rows_of_cell(factor)
    }


def recover_kernel(kernels: Mapping[str, Tensor]) -> Tensor:
    """The inverse of :func:`sum_kernels`: out×in×3×3."""
    by_rows = {
        rows: _taps(
            kernels[_kernel_name(rows, "first")],
            kernels[_kernel_name(rows, "last")],
            dim=3,
        )
        for rows in ("first", "last")
    }
    return _taps(by_rows["first"], by_rows["last"], dim=2)


class PhaseConv(nn.Module):
    """A 3×3 convolution on u = [own, small enlarged by `factor`], whose result is phases."""

    own_weight: Tensor | None
    bias: Tensor

    def __init__(
        self,
        conv: FoldedConv,
        *,
        own_channels: int,
        factor: int,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.factor = factor
        own = conv.weight[:, :own_channels].to(dtype).contiguous() if own_channels else None
        self.register_buffer("own_weight", own)
        self.register_buffer("bias", conv.bias.to(dtype))
        for name, kernel in sum_kernels(conv.weight[:, own_channels:], factor).items():
            self.register_buffer(name, kernel.to(dtype).contiguous())

    def forward(self, own: Tensor | None, small: Tensor) -> Phases:
        """own: N×C₁×factor·h×factor·w, or None. small: N×C₂×h×w."""
        on_small: dict[str, Tensor] = {}
        phases = {}
        cell = {position: rows for rows in rows_of_cell(self.factor) for position in rows.positions}
        for i, rows in cell.items():
            for j, columns in cell.items():
                name = _kernel_name(rows.name, columns.name)
                if name not in on_small:  # the pixels inside a cell share one
                    on_small[name] = self._on_small(
                        small,
                        rows,
                        columns,
                        None if own is not None else self.bias,
                    )
                phases[i, j] = (
                    on_small[name] if own is None else self._on_own(own, i, j) + on_small[name]
                )
        return phases

    def _on_small(
        self,
        small: Tensor,
        rows: CellRows,
        columns: CellRows,
        bias: Tensor | None,
    ) -> Tensor:
        kernel = self.get_buffer(_kernel_name(rows.name, columns.name))
        pads = (rows.before, columns.before, rows.after, columns.after)
        return _conv(small, kernel, bias, pads=pads)

    def _on_own(self, own: Tensor, row: int, column: int) -> Tensor:
        """Convolve pixels (row, column) of the cells.

        Runtimes know a convolution's size best if its padding is 2 in all.
        """
        # for the type checker: with own features there is a weight
        assert self.own_weight is not None
        top = max(0, 1 - row)
        left = max(0, 1 - column)
        if row > 1 or column > 1:  # padding cannot be negative
            own = own[..., max(0, row - 1) :, max(0, column - 1) :]
        pads = (top, left, 2 - top, 2 - left)
        return _conv(own, self.own_weight, self.bias, pads=pads, stride=self.factor)


def interleave(phases: Phases) -> Tensor:
    """Join phases into N×C×factor·h×factor·w.

    Concatenating rows, then pixels, copies faster than DepthToSpace in ONNX Runtime.
    """
    factor = 1 + max(row for row, _ in phases)
    columns = [torch.cat([phases[i, j] for i in range(factor)], dim=3) for j in range(factor)]
    batch, channels, height, width = phases[0, 0].shape
    return torch.stack(columns, dim=4).reshape(batch, channels, factor * height, factor * width)


class _ResidualBlock(nn.Module):
    """An RRDB whose share of 0.2 is a depthwise convolution.

    ONNX Runtime computes convolutions, their sums and concatenations in a blocked layout; a
    multiplication by a constant would make it reorder every tensor until the next block.
    """

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.dense = block.dense

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for dense in self.dense:
            y = dense(y)
        channels = x.shape[1]
        return x + F.conv2d(y, y.new_full((channels, 1, 1, 1), 0.2), groups=channels)


def keep_blocked_layout(model: SRFlow) -> None:
    """Make a network's LR encoder one that ONNX Runtime computes in one layout, in place.

    Parameters keep their names.
    """
    for index, block in enumerate(model.encoder.blocks):
        if isinstance(block, ResidualBlock):
            model.encoder.blocks[index] = _ResidualBlock(block)


def _kernel_name(rows: str, columns: str) -> str:
    return f"kernel_{rows}_{columns}"


def _taps(first: Tensor, last: Tensor, *, dim: int) -> Tensor:
    """Three taps along a dimension, of the sums (0, 1 + 2) and (0 + 1, 2)."""
    begin, rest = first.unbind(dim)
    _, end = last.unbind(dim)
    return torch.stack([begin, rest - end, end], dim)


def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    pads: tuple[int, int, int, int],
    stride: int = 1,
) -> Tensor:
    """A convolution with padding top, left, bottom, right."""
    top, left, bottom, right = pads
    return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride=stride)
