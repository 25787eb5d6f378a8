"""Reduction of whole pictures in float64, from the published formulas."""

from __future__ import annotations

import math

import numpy as np

from srflow_sdk.drawing.options import Kernel
from srflow_sdk.pixels.resizing import LrKernel, RowReducer


def weight(kernel: Kernel, x: float) -> float:
    """The published formulas, one number at a time."""
    x = abs(x)
    if kernel == "lanczos":
        if x >= 3:
            return 0.0
        return (
            1.0
            if x == 0
            else 3 * math.sin(math.pi * x) * math.sin(math.pi * x / 3) / (math.pi * x) ** 2
        )
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def axis_matrix(n: int, m: int, kernel: Kernel) -> np.ndarray:
    """m×n: how much of every pixel of the axis, mirrored as far as the kernel reaches, is in each
    of the result."""
    matrix = np.zeros((m, n))
    ratio = n / m
    reach = math.ceil(3 * ratio) + 1
    for i in range(m):
        centre = (i + 0.5) * ratio - 0.5
        for p in range(math.floor(centre) - reach, math.ceil(centre) + reach + 1):
            q = p % (2 * n)
            matrix[i, min(q, 2 * n - 1 - q)] += weight(kernel, (p - centre) / ratio)
    return matrix / matrix.sum(axis=1, keepdims=True)


def whole(picture: np.ndarray, to: tuple[int, int], kernel: Kernel) -> np.ndarray:
    """The reduction of a whole picture in float64."""
    down, across = (axis_matrix(n, m, kernel) for n, m in zip(picture.shape[:2], to, strict=True))
    return np.einsum("ij,xy,jyc->ixc", down, across, picture.astype(np.float64), optimize=True)


def reduced(hr: np.ndarray, scale: int, *, kernel: LrKernel = "bicubic") -> np.ndarray:
    """The reduction of a whole picture, float32 sH×sW×C, by an integer, as the SDK makes it."""
    height, width = (side // scale for side in hr.shape[:2])
    return RowReducer((height * scale, width * scale), (height, width), kernel).push(hr)
