"""Contact sheets: crops side by side, each with a caption, drawn pixel by pixel."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from srflow_evaluation.pictures import PictureFiles
from srflow_evaluation.results import Results
from srflow_sdk.system.local_files import remove_stale_parts, write_atomically
from srflow_training.figures import as_shown

Place = tuple[slice, slice]
"""Rows and columns of an HR image."""

CROP = 128
"""Side of a detail of a larger picture, in HR pixels."""

WHOLE = 256
"""Largest side of a picture that a cell shows whole, in HR pixels."""

SHEETS = 4
"""Number of pictures that get a sheet, where each has its own."""

FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")  # Pillow's own has no τ
_ZOOM = 2  # of what has at most _ZOOMED pixels a side
_ZOOMED = 160
_GAP, _LINE = 6, 18
_INK, _PAPER = "black", "white"


def shown_place(hr: Tensor, side: int = CROP) -> Place:
    """The whole of an image 1×3×H×W of at most 256 pixels a side, otherwise its most detailed crop."""
    return shown_places(hr, 1, side)[0]


def shown_places(hr: Tensor, count: int, side: int = CROP) -> list[Place]:
    """The whole of an image 1×3×H×W of at most 256 pixels a side; otherwise its most detailed crops.

    They lie on a grid of half crops: at most `count`, which do not overlap.
    """
    side = WHOLE if max(hr.shape[2:]) <= WHOLE else side
    edges = F.pad((hr[..., 1:, :] - hr[..., :-1, :]).abs().mean(dim=1, keepdim=True), (0, 0, 0, 1))
    height, width = (min(side, size) for size in hr.shape[2:])
    steps = [
        range(0, size - length + 1, max(1, length // 2))
        for size, length in zip(hr.shape[2:], (height, width), strict=True)
    ]
    places = [(top, left) for top in steps[0] for left in steps[1]]
    places.sort(key=lambda at: -float(edges[..., at[0] : at[0] + height, at[1] : at[1] + width].sum()))
    chosen: list[tuple[int, int]] = []
    for top, left in places:
        if len(chosen) < count and all(abs(top - y) >= height or abs(left - x) >= width for y, x in chosen):
            chosen.append((top, left))
    return [(slice(top, top + height), slice(left, left + width)) for top, left in chosen]


def write_sheet(path: Path, title: str, cells: Sequence[tuple[str, Tensor]], place: Place, *, columns: int = 5) -> None:
    """Write a PNG of the same crop of images 1×3×H×W in [0, 1], which may be smaller by a whole factor (an LR image).

    Pixels that are not finite are magenta. cells: caption (lines) and image, row by row. Raises: OSError.
    """
    _draw(path, title, [(caption, image, place) for caption, image in cells], min(columns, len(cells)))


def write_rows(path: Path, title: str, cells: Sequence[tuple[str, Tensor]], places: Sequence[Place]) -> None:
    """Write a PNG with a row for each place and a column for each cell, otherwise as :func:`write_sheet`."""
    _draw(path, title, [(caption, image, place) for place in places for caption, image in cells], len(cells))


def write_cells(path: Path, title: str, rows: Sequence[Sequence[tuple[str, Tensor]]], place: Place) -> None:
    """Write a PNG with rows of other images at the same place, all rows of one length, as :func:`write_sheet`."""
    cells = [(caption, image, place) for row in rows for caption, image in row]
    _draw(path, title, cells, len(rows[0]), zoom=1)


def sheets_of(results: Results, pictures: Sequence[PictureFiles], count: int = SHEETS) -> dict[str, Path]:
    """Where the sheets of the first pictures are written, by the picture's name. Other pictures' are deleted.

    A picture without its sheet is measured again, because it is drawn where it is measured.
    """
    paths = {
        files.name: results.out / f"sheet_{number}_{files.name.replace('/', '_')}.png"
        for number, files in enumerate(pictures[:count], start=1)
    }
    for path in set(results.out.glob("sheet_[0-9]*_*.png")) - set(paths.values()):
        path.unlink()
    remove_stale_parts(*paths.values())
    for name, path in paths.items():
        if not path.is_file():
            results.forget(name)
    return paths


def heat_map(values: Tensor, top: float) -> Tensor:
    """Colours 1×3×H×W in [0, 1] of values 1×1×H×W: black for 0, bright yellow from `top`."""
    colours = matplotlib.colormaps["inferno"]((values[0, 0] / top).clamp(0, 1).numpy())
    return torch.from_numpy(colours[..., :3]).float().permute(2, 0, 1)[None]


def _draw(
    path: Path, title: str, cells: Sequence[tuple[str, Tensor, Place]], columns: int, *, zoom: int = _ZOOM
) -> None:
    sides = [part.stop - part.start for part in cells[0][2]]
    height, width = (side * (zoom if max(sides) <= _ZOOMED else 1) for side in sides)
    text = _LINE * max(caption.count("\n") + 1 for caption, _, _ in cells)
    font, full = ImageFont.truetype(FONT, 12), max(image.shape[2] for _, image, _ in cells)
    lines = -(-len(cells) // columns)
    step = height + text + _GAP
    sheet = Image.new("RGB", (columns * (width + _GAP) + _GAP, _LINE + 2 * _GAP + lines * step), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), _fitting(title, sheet.width - 2 * _GAP, font), _INK, font)
    for number, (caption, image, (rows, cols)) in enumerate(cells):
        left = _GAP + number % columns * (width + _GAP)
        top = _LINE + 2 * _GAP + number // columns * step
        factor = full // image.shape[2]
        part = image[..., rows.start // factor : rows.stop // factor, cols.start // factor : cols.stop // factor]
        sheet.paste(shown_pixels(part).resize((width, height), Image.Resampling.NEAREST), (left, top))
        for line, words in enumerate(caption.split("\n")):
            draw.text((left, top + height + 1 + line * _LINE), _fitting(words, width, font), _INK, font)
    content = io.BytesIO()
    sheet.save(content, format="PNG")
    write_atomically(path, content.getvalue())


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text, shortened in its middle until it is at most this many pixels wide."""
    shown, kept = text, len(text)
    while kept and font.getlength(shown) > width:
        kept -= 1
        shown = f"{text[: -(-kept // 2)]}…{text[len(text) - kept // 2 :]}"
    return shown


def shown_pixels(image: Tensor) -> Image.Image:
    """An image 1×3×H×W in [0, 1] as 8-bit RGB; pixels that are not finite are magenta."""
    levels = (as_shown(image)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    levels[~torch.isfinite(image)[0].all(dim=0).numpy()] = (255, 0, 255)
    return Image.fromarray(levels)
