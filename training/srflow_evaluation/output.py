"""Results for a reader: tables of text, contact sheets of crops, and plots."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from srflow_evaluation.pictures import PictureFiles
from srflow_evaluation.results import Results
from srflow_sdk.system.local_files import remove_stale_parts, write_atomically
from srflow_training.figures import as_shown


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table, without a newline at its end."""
    head, *body = [f"| {' | '.join(line)} |" for line in (headings, *rows)]
    rule = "|---" * len(headings) + "|"
    return "\n".join([head, rule, *body])


@dataclass(frozen=True)
class Table:
    """A table of plain text with sentences below it; as a string, Markdown.

    Attributes:
        title: a heading, none if empty.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    title: str = ""

    def __str__(self) -> str:
        heading = [f"### {self.title}"] if self.title else []
        return "\n\n".join([*heading, markdown_table(self.headings, self.rows), *self.notes])


Line = tuple[str, Mapping[str, Any]]
"""A line of a table: the method's name, and its figures (or text)."""

Cell = tuple[str, Tensor]
"""A cell of a sheet: caption and image."""


def table_of(
    columns: Mapping[str, tuple[str, str]],
    lines: Sequence[Line],
    notes: Sequence[str],
) -> Table:
    """A table of lines, with the heading and the format of each column by its name.

    A figure may be missing.
    """
    headings = [heading for heading, _ in columns.values()]
    rows = []
    for name, line in lines:
        cells = [name]
        for column, (_, form) in columns.items():
            value = line.get(column, "")
            cells.append(value if isinstance(value, str) else format(value, form))
        rows.append(cells)
    return Table(["method", *headings], rows, notes)


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
_GAP = 6
_LINE = 18


def choose_place(hr: Tensor, side: int = CROP) -> Place:
    """The whole of an image 1×3×H×W of at most 256 pixels a side, or its most detailed crop."""
    return choose_places(hr, 1, side)[0]


def choose_places(hr: Tensor, count: int, side: int = CROP) -> list[Place]:
    """The whole of an image 1×3×H×W of at most 256 pixels a side, or its most detailed crops.

    They lie on a grid of half crops: at most `count`, which do not overlap.
    """
    side = WHOLE if max(hr.shape[2:]) <= WHOLE else side
    differences = (hr[..., 1:, :] - hr[..., :-1, :]).abs()
    edges = F.pad(differences.mean(dim=1, keepdim=True), (0, 0, 0, 1))
    height, width = (min(side, size) for size in hr.shape[2:])
    tops = range(0, hr.shape[2] - height + 1, max(1, height // 2))
    lefts = range(0, hr.shape[3] - width + 1, max(1, width // 2))

    def measure_detail(place: tuple[int, int]) -> float:
        top, left = place
        return float(edges[..., top : top + height, left : left + width].sum())

    places = [(top, left) for top in tops for left in lefts]
    places.sort(key=measure_detail, reverse=True)
    chosen: list[tuple[int, int]] = []
    for top, left in places:
        is_free = all(abs(top - y) >= height or abs(left - x) >= width for y, x in chosen)
        if is_free and len(chosen) < count:
            chosen.append((top, left))
    return [(slice(top, top + height), slice(left, left + width)) for top, left in chosen]


def sheets_of(
    results: Results,
    pictures: Sequence[PictureFiles],
    count: int,
) -> dict[str, Path]:
    """Where the sheets of the first pictures are written, by the picture's name.

    Other pictures' are deleted. A picture without its sheet is measured again, because it is drawn
    where it is measured.
    """
    paths = {}
    for number, files in enumerate(pictures[:count], start=1):
        name = files.name.replace("/", "_")
        paths[files.name] = results.out / f"sheet_{number}_{name}.png"
    for path in set(results.out.glob("sheet_[0-9]*_*.png")) - set(paths.values()):
        path.unlink()
    remove_stale_parts(*paths.values())
    for name, path in paths.items():
        if not path.is_file():
            results.forget(name)
    return paths


def write_sheet(
    path: Path,
    title: str,
    cells: Sequence[Cell],
    places: Sequence[Place],
    *,
    columns: int | None = None,
) -> None:
    """Write a PNG of crops of images 1×3×H×W in [0, 1].

    Images may be smaller by a whole factor (an LR image). Pixels that are not finite are magenta.

    Args:
        cells: caption (lines) and image, row by row.
        places: of the crops; all cells are drawn for each.
        columns: as many as cells if it is None.

    Raises:
        OSError.
    """
    # more than 15 locals: a sheet is one drawing, and each size follows from those before
    columns = min(columns or len(cells), len(cells))
    sides = [part.stop - part.start for part in places[0]]
    zoom = _ZOOM if max(sides) <= _ZOOMED else 1
    height, width = (side * zoom for side in sides)
    lines_of_text = max(caption.count("\n") + 1 for caption, _ in cells)
    step = height + _LINE * lines_of_text + _GAP
    header = _LINE + 2 * _GAP
    rows = -(-len(places) * len(cells) // columns)
    sheet = Image.new(
        "RGB",
        (columns * (width + _GAP) + _GAP, header + rows * step),
        "white",
    )
    font = ImageFont.truetype(FONT, 12)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), _shorten(title, sheet.width - 2 * _GAP, font), "black", font)
    full = max(image.shape[2] for _, image in cells)
    for number, (place, (caption, image)) in enumerate(product(places, cells)):
        left = _GAP + number % columns * (width + _GAP)
        top = header + number // columns * step
        crop = shown_pixels(_cut_place(image, place, factor=full // image.shape[2]))
        sheet.paste(crop.resize((width, height), Image.Resampling.NEAREST), (left, top))
        y = top + height + 1
        for words in caption.split("\n"):
            draw.text((left, y), _shorten(words, width, font), "black", font)
            y += _LINE
    write_png(path, sheet)


def _cut_place(image: Tensor, place: Place, *, factor: int) -> Tensor:
    """The crop of an image that is smaller by a factor."""
    rows, columns = (slice(part.start // factor, part.stop // factor) for part in place)
    return image[..., rows, columns]


def write_png(path: Path, image: Image.Image) -> None:
    """Write a picture, and the folder that it is in. Raises: OSError."""
    content = io.BytesIO()
    image.save(content, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())


def heat_map(values: Tensor, top: float) -> Tensor:
    """Colours 1×3×H×W in [0, 1] of values 1×1×H×W: black for 0, bright yellow from `top`."""
    shares = (values[0, 0] / top).clamp(0, 1)
    colours = matplotlib.colormaps["inferno"](shares.numpy())
    return torch.from_numpy(colours[..., :3]).float().permute(2, 0, 1)[None]


def shown_pixels(image: Tensor) -> Image.Image:
    """An image 1×3×H×W in [0, 1] as 8-bit RGB; pixels that are not finite are magenta."""
    shown = as_shown(image)[0].permute(1, 2, 0).numpy()
    levels = (shown * 255).round().astype(np.uint8)
    is_finite = torch.isfinite(image)[0].all(dim=0).numpy()
    levels[~is_finite] = (255, 0, 255)
    return Image.fromarray(levels)


def _shorten(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """Shorten a text in its middle until it is at most this many pixels wide."""
    shown = text
    kept = len(text)
    while kept and font.getlength(shown) > width:
        kept -= 1
        start = text[: -(-kept // 2)]
        end = text[len(text) - kept // 2 :]
        shown = f"{start}…{end}"
    return shown


_STYLES = ("--", ":", "-.")
_MARKER = 5  # pixels around a point that captions leave free
_STEP = 0.02  # of the way from point to point of a curve
_EIGHTHS = (2, 6, 0, 8, 14, 10, 4, 12, 1, 3, 5, 7, 9, 11, 13, 15)
_DIRECTIONS = [math.pi / 8 * number for number in _EIGHTHS]


@dataclass(frozen=True)
class Panel:
    """A part of a plot.

    Attributes:
        curves: by name, points (x, y), or (x, y, caption).
        points: single ones by name.
        lines: horizontal ones by name.
        first_tick: where x begins, if it is a whole number that has a tick whatever the others are.
    """

    title: str
    x: str
    y: str = ""
    curves: Mapping[str, Sequence[tuple[Any, ...]]] = field(default_factory=dict)
    points: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    lines: Mapping[str, float] = field(default_factory=dict)
    first_tick: float | None = None


def write_plot(path: Path, title: str, panels: Sequence[Panel]) -> None:
    """Write panels side by side as a PNG, three in a row (four in two), with one legend below.

    Raises:
        OSError.
    """
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    alone = len(panels) == 1
    size = (7, 5.2) if alone else (4.2 * columns, 3.0 * rows + 0.9)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    shown = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in shown[len(panels) :]:
        axes.set_visible(False)
    for axes, panel in zip(shown, panels, strict=False):
        _draw(axes, panel)
    handles = {}
    for axes in shown:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles[str(label)] = handle
    figure.legend(
        handles.values(),
        handles,
        loc="outside lower center",
        ncols=min(6, len(handles)),
    )
    figure.suptitle(title, fontsize=11)
    if any(axes.texts for axes in shown):
        renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
        figure.draw_without_rendering()  # lays everything out
        for axes in shown:
            _spread_captions(axes, renderer)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure."""
    content = io.BytesIO()
    # the same bytes by any version
    figure.savefig(content, format="png", dpi="figure", metadata={"Software": None})
    write_atomically(path, content.getvalue())


def _draw(axes: Axes, panel: Panel) -> None:
    colours = [f"C{number}" for number in range(10)]
    for colour, (name, points) in zip(cycle(colours), panel.curves.items(), strict=False):
        x = [point[0] for point in points]
        y = [point[1] for point in points]
        axes.plot(x, y, marker="o", color=colour, label=name)
        for x_at, y_at, *captions in points:
            for caption in captions:
                axes.annotate(
                    caption,
                    (x_at, y_at),
                    xytext=(0, 0),
                    textcoords="offset pixels",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color=colour,
                    arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.4},
                ).set_in_layout(False)
    _draw_others(axes, panel, colours)
    axes.set_title(panel.title, fontsize=10)
    axes.set(xlabel=panel.x, ylabel=panel.y)
    if panel.first_tick is not None:
        last = axes.dataLim.x1
        ticks = MaxNLocator(8, integer=True).tick_values(panel.first_tick, last)
        others = [tick for tick in ticks if panel.first_tick < tick <= last]
        axes.set_xticks([panel.first_tick, *others])
    axes.margins(0.1)  # for captions
    axes.grid(alpha=0.3)


def _draw_others(axes: Axes, panel: Panel, colours: Sequence[str]) -> None:
    """Draw single points and horizontal lines, in the colours after the curves'."""
    first = len(panel.curves)
    for number, (name, (x, y)) in enumerate(panel.points.items(), start=first):
        colour = colours[number % 10]
        axes.plot([x], [y], marker="s", linestyle="", color=colour, label=name)
    for number, (name, level) in enumerate(panel.lines.items()):
        axes.axhline(
            level,
            linestyle=_STYLES[number % len(_STYLES)],
            color=colours[(first + number) % 10],
            label=name,
        )


def _spread_captions(axes: Axes, renderer: RendererAgg) -> None:
    """Put captions beside their points, where they cover no point, curve or other caption.

    A thin line leads to one that lies far. One without any place is hidden.
    """
    curves = [axes.transData.transform(line.get_xydata()) for line in axes.lines]
    taken = [_around(np.concatenate(curves), _MARKER)]
    for curve in curves:
        steps = np.arange(0, len(curve) - 1 + _STEP, _STEP).clip(max=len(curve) - 1)
        along = [np.interp(steps, np.arange(len(curve)), values) for values in curve.T]
        taken.append(_around(np.stack(along, axis=1), 1))
    for caption in axes.texts:
        assert isinstance(caption, Annotation)  # for the type checker: there is no other text
        point = axes.transData.transform(caption.xy)
        size = np.array(Text.get_window_extent(caption, renderer).size)
        for offset in _offsets(size):
            centre = point + offset
            box = np.concatenate([centre - size / 2, centre + size / 2])
            inside = (box[:2] >= axes.bbox.min).all() and (box[2:] <= axes.bbox.max).all()
            if inside and not _overlap(box, np.concatenate(taken)):
                caption.set_position(tuple(offset))
                taken.append(box[None])
                break
        else:
            caption.set_visible(False)


def _offsets(size: Any) -> Iterator[Any]:
    """Places of a caption of this size, from its point on, near ones first."""
    for distance in range(_MARKER + 4, 100, 5):
        for direction in _DIRECTIONS:
            away = np.array([math.cos(direction), math.sin(direction)])
            yield away * (size / 2 + distance)


def _around(points: Any, margin: float) -> Any:
    """Boxes around points, in pixels: left, bottom, right, top."""
    return np.concatenate([points - margin, points + margin], axis=1)


def _overlap(box: Any, others: Any) -> bool:
    begins_before = box[:2] < others[:, 2:]
    ends_after = others[:, :2] < box[2:]
    return bool((begins_before & ends_after).all(axis=1).any())
