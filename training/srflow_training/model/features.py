"""The condition u of a level, and convolutions on it that enlarge nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srflow_training.model.encoder import lrelu


@dataclass(frozen=True)
class LevelFeatures:
    """u = [own, small enlarged by `factor`], the condition of a level with H×W pixels.

    Attributes:
        own: N×C₁×H×W, or None.
        small: N×C₂×H/factor×W/factor, enlarged by nearest interpolation, or None. One is given.
    """

    own: Tensor | None
    small: Tensor | None = None
    factor: int = 1

    def u(self) -> Tensor:
        """N×(C₁ + C₂)×H×W."""
        if self.small is None:
            assert self.own is not None
            return self.own
        enlarged = F.interpolate(self.small, scale_factor=float(self.factor), mode="nearest")
        return enlarged if self.own is None else torch.cat([self.own, enlarged], dim=1)

    def conv(self, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The convolution of u, N×out×H×W.

        Pixels of a cell of factor×factor equal ones need no kernel of 9 taps: those at its edges
        see two cells, the others one. That leaves 4 of 9 multiply-adds at factor 2, and 2.25 at 4,
        in smaller kernels that are sums of the taps.

        Args:
            weight: out×(C₁ + C₂)×3×3, or out×C₁×1×1 if nothing is enlarged.
        """
        if self.small is None or self.own is None:
            return F.conv2d(self.u(), weight, bias, padding=weight.shape[-1] // 2)
        small, weight = _as_autocast(self.small, weight)
        own_channels = self.own.shape[1]
        part = F.conv2d(self.own, weight[:, :own_channels], bias, padding=1)
        return _add_enlarged(part, small, weight[:, own_channels:], self.factor)


class Projection(nn.Module):
    """u of a level from features at the LR size: a 1×1 convolution, LeakyReLU, and pixel shuffle.

    Args:
        exponent: the level has 2^exponent times the LR image's sides. Smaller levels see all of its
            pixels, as channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        exponent: int,
    ) -> None:
        super().__init__()
        self.exponent = exponent
        cell = 4 ** abs(exponent)
        if exponent < 0:
            self.conv = nn.Conv2d(in_channels * cell, out_channels, 1)
        else:
            self.conv = nn.Conv2d(in_channels, out_channels * cell, 1)

    def forward(self, features: Tensor) -> LevelFeatures:
        """features: N×in×h×w. Returns u, N×out×2^exponent h×2^exponent w."""
        if self.exponent < 0:
            features = F.pixel_unshuffle(features, 2**-self.exponent)
        u = lrelu(self.conv(features))
        if self.exponent > 0:
            u = F.pixel_shuffle(u, 2**self.exponent)
        return LevelFeatures(own=u)


class CellRows(NamedTuple):
    """Rows (or columns) of a cell that see the same rows of cells.

    Attributes:
        name: "first", "inside" or "last".
        positions: in the cell.
        before, after: 1 if they see the row of cells before theirs, or after it.
        spread: for each of the kernel's three taps, the row of cells that it meets, counted from
            the first that they see.
    """

    name: str
    positions: tuple[int, ...]
    before: int
    after: int
    spread: tuple[int, int, int]

    def sum_taps(self, weight: Tensor, *, dim: int) -> Tensor:
        """Sum the three taps of `weight` along a dimension that meet the same row of cells."""
        taps = list(zip(weight.unbind(dim), self.spread, strict=True))
        sums = []
        for index in range(1 + self.before + self.after):
            meeting = [tap for tap, row in taps if row == index]
            sums.append(torch.stack(meeting).sum(dim=0))
        return torch.stack(sums, dim)


def rows_of_cell(factor: int) -> list[CellRows]:
    """All rows of a cell of factor×factor equal pixels, factor ≥ 2, in order."""
    rows = [CellRows("first", (0,), 1, 0, (0, 1, 1))]
    if factor > 2:
        rows.append(CellRows("inside", tuple(range(1, factor - 1)), 0, 0, (0, 0, 0)))
    rows.append(CellRows("last", (factor - 1,), 0, 1, (0, 0, 1)))
    return rows


class _AddEnlarged(torch.autograd.Function):
    """part + the convolution of the enlarged `small`, in place of part.

    Backward keeps no enlarged tensor either.
    """

    @staticmethod
    def forward(
        ctx: Any,
        part: Tensor,
        small: Tensor,
        weight: Tensor,
        factor: int,
    ) -> Tensor:
        ctx.save_for_backward(small, weight)
        ctx.factor = factor
        ctx.mark_dirty(part)
        padded = F.pad(small, (1, 1, 1, 1))
        for rows, columns, kernel in _kernels(weight, factor, _layout(small)):
            values = F.conv2d(_window(padded, rows, columns), kernel)
            for i in rows.positions:
                for j in columns.positions:
                    part[:, :, i::factor, j::factor] += values
        return part

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        # more than 15 locals: every window of a cell has its part of both gradients
        small, weight = ctx.saved_tensors
        factor = ctx.factor
        needs_small, needs_weight = ctx.needs_input_grad[1:3]
        layout = _layout(small)
        padded = F.pad(small, (1, 1, 1, 1))
        to_small = torch.zeros_like(padded) if needs_small else None
        to_weight = torch.zeros_like(weight) if needs_weight else None
        for rows, columns, kernel in _kernels(weight, factor, layout):
            window = _window(padded, rows, columns).contiguous(memory_format=layout)
            cells = [
                gradient[:, :, i::factor, j::factor]
                for i in rows.positions
                for j in columns.positions
            ]
            cell = cells[0] if len(cells) == 1 else torch.stack(cells).sum(dim=0)
            to_window, to_kernel, _ = torch.ops.aten.convolution_backward(
                cell.contiguous(memory_format=layout),
                window,
                kernel,
                None,
                (1, 1),
                (0, 0),
                (1, 1),
                False,
                (0, 0),
                1,
                (needs_small, needs_weight, False),
            )
            if to_small is not None:
                _window(to_small, rows, columns).add_(to_window)
            if to_weight is not None:
                by_rows = torch.stack([to_kernel[:, :, row] for row in rows.spread], dim=2)
                to_weight += torch.stack([by_rows[..., column] for column in columns.spread], dim=3)
        if to_small is not None:
            to_small = to_small[:, :, 1:-1, 1:-1]
        return gradient, to_small, to_weight, None


def _add_enlarged(
    part: Tensor,
    small: Tensor,
    weight: Tensor,
    factor: int,
) -> Tensor:
    added: Tensor = _AddEnlarged.apply(part, small, weight, factor)  # type: ignore[no-untyped-call]
    return added


def _kernels(
    weight: Tensor,
    factor: int,
    layout: torch.memory_format,
) -> Iterator[tuple[CellRows, CellRows, Tensor]]:
    """For each kind of pixel in a cell: its rows and columns, and its kernel."""
    for rows in rows_of_cell(factor):
        by_rows = rows.sum_taps(weight, dim=2)
        for columns in rows_of_cell(factor):
            kernel = columns.sum_taps(by_rows, dim=3)
            yield rows, columns, kernel.contiguous(memory_format=layout)


def _window(padded: Tensor, rows: CellRows, columns: CellRows) -> Tensor:
    """Cut out the cells that pixels see; they have a border of one cell."""
    height, width = padded.shape[2:]
    seen_rows = slice(1 - rows.before, height - 1 + rows.after)
    seen_columns = slice(1 - columns.before, width - 1 + columns.after)
    return padded[:, :, seen_rows, seen_columns]


def _layout(tensor: Tensor) -> torch.memory_format:
    if tensor.is_contiguous() or not tensor.is_contiguous(memory_format=torch.channels_last):
        return torch.contiguous_format
    return torch.channels_last


def _as_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Round as automatic mixed precision rounds what goes into a convolution."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)
