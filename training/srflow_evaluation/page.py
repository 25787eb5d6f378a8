"""A self-contained HTML page of results: tables, plots, and crops to compare. It needs no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from srflow_evaluation.crop_folder import BICUBIC, PHOTOGRAPH, ShownCrop
from srflow_evaluation.crop_report import shown_method
from srflow_evaluation.tables import Table

_USUAL = ("tau auto", "tau 0.8")
"""The temperatures that are seen first, where they were measured."""


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """An image inside the page. source: a data: URI. width, height: pixels. stem: its file's name without `.png`."""

    name: str
    stem: str
    source: str
    width: int
    height: int
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A crop by several methods.

    before, after: the images for each side of the slider. first: of `after`, the one that is seen first. labels: by
    image name.
    """

    picture: str
    before: list[Embedded]
    after: list[Embedded]
    first: Embedded
    labels: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page. about: what it measures. reading: what to look for. problem: why it was not measured."""

    name: str
    about: str = ""
    reading: str = ""
    table: Table | None = None
    figures: Sequence[Embedded] = ()
    crops: Sequence[Comparison] = field(default=())
    problem: str = ""

    def figures_of(self, table: Table) -> list[Embedded]:
        """The plots that draw this part of the table."""
        return [figure for figure in self.figures if figure.stem == table.figure]

    @property
    def other_figures(self) -> list[Embedded]:
        """The figures that belong to no part of the table alone."""
        drawn = [] if self.table is None else [part.figure for part in self.table.parts]
        return [figure for figure in self.figures if figure.stem not in drawn]


def figures(captions: Mapping[Path, str]) -> list[Embedded]:
    """Embed plots and sheets, named by their files. captions: by file, in the page's order. Raises: OSError."""
    return [_embed(path, path.stem.replace("_", " "), caption) for path, caption in captions.items()]


def comparisons(crops: Sequence[ShownCrop]) -> list[Comparison]:
    """Embed crops. Raises: OSError."""
    return [_comparison(crop) for crop in crops]


def render(title: str, facts: Mapping[str, str], words: Sequence[str], sections: Sequence[Section]) -> bytes:
    """The page in UTF-8. Every text is escaped. facts: by name, what was measured. words: what the reader must know."""
    environment = Environment(
        loader=PackageLoader("srflow_evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    values = {"title": title, "facts": facts, "words": words, "sections": sections}
    return environment.get_template("page.html").render(**values).encode()


def _data_uri(png: bytes) -> str:
    """A PNG as a data: URI; lossless WebP takes its place where that is smaller."""
    kind, content, smaller = "png", png, io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").save(smaller, format="WEBP", lossless=True, method=4)
    if smaller.tell() < len(png):
        kind, content = "webp", smaller.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _comparison(crop: ShownCrop) -> Comparison:
    images = {method: _embed(path, shown_method(method)) for method, path in crop.images.items()}
    after = [image for method, image in images.items() if method not in (BICUBIC, PHOTOGRAPH)]
    usual = [images[method] for method in _USUAL if method in images]
    return Comparison(
        picture=crop.picture,
        before=[images[BICUBIC], images[PHOTOGRAPH]],
        after=after,
        first=[*usual, *after][0],
        labels={
            PHOTOGRAPH: f"{PHOTOGRAPH} (the truth)",
            **{shown_method(method): f"{shown_method(method)}, {psnr:.2f} dB" for method, psnr in crop.psnr.items()},
        },
    )


def _embed(path: Path, name: str, caption: str = "") -> Embedded:
    """Read a PNG."""
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
    return Embedded(name=name, stem=path.stem, source=_data_uri(content), width=width, height=height, caption=caption)
