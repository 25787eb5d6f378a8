"""The condition u of a level, and 3×3 convolutions on it that never enlarge what nearest interpolation repeats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class LevelFeatures:
    """u = [own, small enlarged by `factor`], the condition of a level with H×W pixels.

    own: N×C₁×H×W, or None. small: N×C₂×H/factor×W/factor, enlarged by nearest interpolation, or None. One is given.
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

    def conv3x3(self, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The convolution of u with padding 1, N×out×H×W; weight: out×(C₁ + C₂)×3×3.

        Pixels of a cell of factor×factor equal ones need no kernel of 9 taps: those at its edges see two cells, the
        others one. That leaves 4 of 9 multiply-adds at factor 2, and 2.25 at 4, in smaller kernels that are sums of
        the taps.
        """
        if self.small is None:
            assert self.own is not None
            return F.conv2d(self.own, weight, bias, padding=1)
        small, weight = _as_autocast(self.small, weight)
        if self.own is None:
            height, width = (self.factor * size for size in small.shape[2:])
            part = small.new_zeros(len(small), len(weight), height, width).contiguous(memory_format=_layout(small))
            if bias is not None:
                part = part + bias[:, None, None].to(part.dtype)
            return _add_enlarged(part, small, weight, self.factor)
        own_channels = self.own.shape[1]
        part = F.conv2d(self.own, weight[:, :own_channels], bias, padding=1)
        return _add_enlarged(part, small, weight[:, own_channels:], self.factor)


class _Rows(NamedTuple):
    """Rows (or columns) of a cell that see the same rows of cells.

    inside: their positions in the cell. first: the first row of cells that they see, 0 if it is the one before theirs.
    spread: for each of the kernel's three taps, the row of cells that it meets, counted from the first.
    """

    inside: tuple[int, ...]
    first: int
    spread: tuple[int, int, int]

    @property
    def taps(self) -> int:
        """The number of rows of cells that they see."""
        return max(self.spread) + 1


def _rows_of_cell(factor: int) -> list[_Rows]:
    rows = [_Rows((0,), 0, (0, 1, 1)), _Rows((factor - 1,), 1, (0, 0, 1))]
    if factor > 2:
        rows.append(_Rows(tuple(range(1, factor - 1)), 1, (0, 0, 0)))
    return rows


class _AddEnlarged(torch.autograd.Function):
    """part + the convolution of the enlarged `small`, in place of part; backward keeps no enlarged tensor either."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, small: Tensor, weight: Tensor, factor: int) -> Tensor:
        ctx.save_for_backward(small, weight)
        ctx.factor = factor
        ctx.mark_dirty(part)
        padded = F.pad(small, (1, 1, 1, 1))
        for rows, columns, kernel, window in _kernels(padded, weight, factor):
            values = F.conv2d(window, kernel)
            for i in rows.inside:
                for j in columns.inside:
                    part[:, :, i::factor, j::factor] += values
        return part

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        small, weight = ctx.saved_tensors
        factor, (needs_small, needs_weight) = ctx.factor, ctx.needs_input_grad[1:3]
        layout = _layout(small)
        padded = F.pad(small, (1, 1, 1, 1))
        to_small = torch.zeros_like(padded) if needs_small else None
        to_weight = torch.zeros_like(weight) if needs_weight else None
        for rows, columns, kernel, window in _kernels(padded, weight, factor):
            cells = [gradient[:, :, i::factor, j::factor] for i in rows.inside for j in columns.inside]
            cell = (cells[0] if len(cells) == 1 else torch.stack(cells).sum(dim=0)).contiguous(memory_format=layout)
            to_window, to_kernel, _ = torch.ops.aten.convolution_backward(
                cell, window, kernel, None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1, (needs_small, needs_weight, False)
            )
            if to_small is not None:
                _window(to_small, rows, columns).add_(to_window)
            if to_weight is not None:
                by_rows = torch.stack([to_kernel[:, :, row] for row in rows.spread], dim=2)
                to_weight += torch.stack([by_rows[..., column] for column in columns.spread], dim=3)
        return gradient, None if to_small is None else to_small[:, :, 1:-1, 1:-1], to_weight, None


def _add_enlarged(part: Tensor, small: Tensor, weight: Tensor, factor: int) -> Tensor:
    added: Tensor = _AddEnlarged.apply(part, small, weight, factor)  # type: ignore[no-untyped-call]
    return added


def _kernels(padded: Tensor, weight: Tensor, factor: int) -> list[tuple[_Rows, _Rows, Tensor, Tensor]]:
    """For each kind of pixel in a cell: its rows and columns, its kernel, and what of the padded cells it sees."""
    layout, kinds = _layout(padded), []
    for rows in _rows_of_cell(factor):
        by_rows = _summed(weight, rows, dim=2)
        for columns in _rows_of_cell(factor):
            kernel = _summed(by_rows, columns, dim=3).contiguous(memory_format=layout)
            kinds.append((rows, columns, kernel, _window(padded, rows, columns).contiguous(memory_format=layout)))
    return kinds


def _summed(weight: Tensor, rows: _Rows, *, dim: int) -> Tensor:
    """Sum the three taps along a dimension that meet the same row of cells."""
    taps = weight.unbind(dim)
    sums = [sum(tap for tap, row in zip(taps, rows.spread, strict=True) if row == index) for index in range(rows.taps)]
    return torch.stack([total for total in sums if isinstance(total, Tensor)], dim)


def _window(padded: Tensor, rows: _Rows, columns: _Rows) -> Tensor:
    height, width = (size - 2 for size in padded.shape[2:])
    return padded[
        :, :, rows.first : rows.first + height + rows.taps - 1, columns.first : columns.first + width + columns.taps - 1
    ]


def _layout(tensor: Tensor) -> torch.memory_format:
    rows_of_pixels = tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()
    return torch.channels_last if rows_of_pixels else torch.contiguous_format


def _as_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Round as automatic mixed precision rounds what goes into a convolution."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)
