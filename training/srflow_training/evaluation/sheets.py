"""Contact sheets: crops side by side, each with a caption, drawn pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from srflow_training.figures import as_shown

CROP = 128
"""Largest side of what a cell shows, in HR pixels."""

_FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")  # Pillow's own has no τ
_ZOOM = 2
_GAP, _LINE = 6, 18
_INK, _PAPER = "black", "white"


def detailed_place(hr: Tensor, side: int = CROP) -> tuple[slice, slice]:
    """Rows and columns of the most detailed crop of an image 1×3×H×W, on a grid of half crops."""
    edges = F.pad((hr[..., 1:, :] - hr[..., :-1, :]).abs().mean(dim=1, keepdim=True), (0, 0, 0, 1))
    height, width = (min(side, size) for size in hr.shape[2:])
    steps = [
        range(0, size - length + 1, max(1, length // 2))
        for size, length in zip(hr.shape[2:], (height, width), strict=True)
    ]
    places = [(top, left) for top in steps[0] for left in steps[1]]
    top, left = max(places, key=lambda at: float(edges[..., at[0] : at[0] + height, at[1] : at[1] + width].sum()))
    return slice(top, top + height), slice(left, left + width)


def write_sheet(
    path: Path, title: str, cells: Sequence[tuple[str, Tensor]], place: tuple[slice, slice], *, columns: int = 5
) -> None:
    """Write a PNG of the same crop of images 1×3×H×W in [0, 1], which may be smaller by a whole factor (an LR image).

    Pixels that are not finite are magenta. cells: caption (lines) and image, row by row. Raises: OSError.
    """
    rows, cols = place
    height, width = (rows.stop - rows.start) * _ZOOM, (cols.stop - cols.start) * _ZOOM
    text = _LINE * max(caption.count("\n") + 1 for caption, _ in cells)
    font, full = ImageFont.truetype(_FONT, 12), max(image.shape[2] for _, image in cells)
    columns = min(columns, len(cells))
    lines = -(-len(cells) // columns)
    step = height + text + _GAP
    sheet = Image.new("RGB", (columns * (width + _GAP) + _GAP, _LINE + 2 * _GAP + lines * step), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), title, _INK, font)
    for number, (caption, image) in enumerate(cells):
        left = _GAP + number % columns * (width + _GAP)
        top = _LINE + 2 * _GAP + number // columns * step
        factor = full // image.shape[2]
        part = image[..., rows.start // factor : rows.stop // factor, cols.start // factor : cols.stop // factor]
        sheet.paste(shown_pixels(part).resize((width, height), Image.Resampling.NEAREST), (left, top))
        draw.multiline_text((left, top + height + 1), caption, _INK, font)
    part_file = path.with_name(f".{path.name}.part")
    sheet.save(part_file, format="PNG")
    part_file.replace(path)


def shown_pixels(image: Tensor) -> Image.Image:
    """An image 1×3×H×W in [0, 1] as 8-bit RGB; pixels that are not finite are magenta."""
    levels = (as_shown(image)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    levels[~torch.isfinite(image)[0].all(dim=0).numpy()] = (255, 0, 255)
    return Image.fromarray(levels)
