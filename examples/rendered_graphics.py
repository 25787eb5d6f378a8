"""Draw pages of text, line art and icons to train on, beside photographs (needs apt-get, dpkg and
the training extra).

    python examples/rendered_graphics.py data/graphics --per-file 60

Fonts and icons come from Debian's archive; nothing is installed. Licences: fonts-dejavu-core
(Bitstream Vera), fonts-liberation, fonts-noto-core and fonts-inter (OFL-1.1), tango-icon-theme
(CC0-1.0), kf6-breeze-icon-theme (LGPL-3.0+). The words are made of random syllables. The same seed
gives the same pages with the same fonts.

Training takes one folder, and draws from it with probability proportional to the square root of an
image's area (each halved copy of `data.narrowest` counts too). So the share of pages follows from
the number of files: beside the 46 photographs of examples/training_photos.py, with the data
settings of x4-small, 60 pages in one tall file (`--per-file 60`) get 10 % of the crops, and in a
file each 47 %. Put both folders under one, which must not hold the photographs to evaluate on:

    mkdir data/mixed && ln -s ../train ../graphics data/mixed/
    srflow-train --config x4-small --data data/mixed …
"""

from __future__ import annotations

import argparse
import math
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyvips
from PIL import Image, ImageDraw, ImageFont

WIDTH = 1200
HEIGHT = 900
# line art is drawn this much larger and reduced, because Pillow's lines have no anti-aliasing
FINE = 4
FONTS = {
    "fonts-dejavu-core": ["usr/share/fonts/truetype/dejavu/*.ttf"],
    "fonts-liberation": ["usr/share/fonts/truetype/liberation/*.ttf"],
    "fonts-noto-core": [
        "usr/share/fonts/truetype/noto/NotoSans-*.ttf",
        "usr/share/fonts/truetype/noto/NotoSerif-*.ttf",
    ],
    "fonts-inter": ["usr/share/fonts/opentype/inter/Inter-*.otf"],
}
ICONS = {
    "tango-icon-theme": [
        f"usr/share/icons/Tango/scalable/{kind}/*.svg"
        for kind in ("actions", "apps", "devices", "places")
    ],
    "kf6-breeze-icon-theme": [
        "usr/share/icons/breeze/actions/22/*.svg",
        "usr/share/icons/breeze/apps/48/*.svg",
    ],
}
# syllables begin with one of these, go on with a vowel, and end with one of these
BEGINNINGS = "b br c ch d dr f fl g gr h j k l m n p pl qu r s sh st str t th tr v w z"
VOWELS = "a e i o u ai ea ee ou y"
ENDS = ",,n,r,s,l,m,nd,st,ng"
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Style:
    """What a page is drawn with: fonts (files), icons (SVG files), and colours of paper, ink and
    accents.
    """

    fonts: list[Path]
    icons: list[Path]
    paper: Colour
    ink: Colour
    accents: list[Colour]

    def readable(self) -> list[Colour]:
        """The accents that text on paper can have."""
        return [colour for colour in self.accents if abs(sum(colour) - sum(self.paper)) > 250]


def files_of(packages: dict[str, list[str]], scratch: Path) -> list[Path]:
    """Download and unpack packages; the files that match the patterns, without links, sorted."""
    found = []
    for package, patterns in packages.items():
        folder = scratch / package
        folder.mkdir()
        subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
        (archive,) = folder.glob("*.deb")
        subprocess.run(["dpkg", "-x", str(archive), str(folder)], check=True)
        for pattern in patterns:
            found += sorted(path for path in folder.glob(pattern) if not path.is_symlink())
    return found


def syllable(rng: random.Random) -> str:
    """A random syllable."""
    return "".join(map(rng.choice, (BEGINNINGS.split(), VOWELS.split(), ENDS.split(","))))


def words(rng: random.Random) -> Iterator[str]:
    """Yield invented words, numbers and marks without end."""
    starts = True
    while True:
        if rng.random() < 0.06:
            word = rng.choice(
                [f"{rng.randrange(10000)}", f"{rng.random() * 100:.2f}", f"{rng.randrange(100)} %"]
            )
        else:
            word = "".join(syllable(rng) for _ in range(rng.choice([1, 1, 2, 2, 3])))
        word = (
            word.upper()
            if rng.random() < 0.02
            else word.capitalize()
            if starts or rng.random() < 0.08
            else word
        )
        mark = rng.choices(["", ",", ".", ";", "?", "!", ":"], [80, 8, 8, 1, 1, 1, 1])[0]
        starts = mark in {".", "?", "!"}
        yield f"({word}){mark}" if rng.random() < 0.02 else word + mark


def phrase(rng: random.Random, count: int) -> str:
    """A line of invented words."""
    source = words(rng)
    return " ".join(next(source) for _ in range(count))


def distinct(rng: random.Random) -> tuple[Colour, Colour]:
    """Paper and ink: mostly black on white or the reverse, otherwise coloured, always readable."""
    kind = rng.random()
    if kind < 0.35:
        light = (255, 255, 255)
        dark = (rng.choice([0, 20, 34, 51]),) * 3
    else:
        light = tuple(rng.randrange(200, 256) for _ in range(3))
        dark = tuple(rng.randrange(0, 90) for _ in range(3))
    pair = ((light[0], light[1], light[2]), (dark[0], dark[1], dark[2]))
    return pair if rng.random() < 0.65 else pair[::-1]


def font_of(rng: random.Random, style: Style, size: int) -> ImageFont.FreeTypeFont:
    """A random font of this size in pixels."""
    return ImageFont.truetype(str(rng.choice(style.fonts)), size)


def paragraph(
    rng: random.Random,
    draw: ImageDraw.ImageDraw,
    style: Style,
    box: tuple[int, int, int, int],
    size: int,
) -> int:
    """Fill a box with lines of text; return where the next paragraph can begin."""
    left, top, right, bottom = box
    font = font_of(rng, style, size)
    source = words(rng)
    ink = rng.choice([style.ink, style.ink, style.ink, *style.readable()])
    word = next(source)
    spacing = rng.uniform(1.15, 1.6)
    y = float(top)
    for _ in range(rng.randrange(2, 12)):
        if y + size * 1.4 > bottom:
            break
        line = word
        word = next(source)
        while font.getlength(f"{line} {word}") < right - left:
            line = f"{line} {word}"
            word = next(source)
        draw.text((left, y), line, fill=ink, font=font)
        y += size * spacing
    return round(y + size * 0.8)


def text_page(rng: random.Random, style: Style) -> Image.Image:
    """Headings and paragraphs in one to three columns, in sizes of 9 to 64 pixels."""
    page = Image.new("RGB", (WIDTH, HEIGHT), style.paper)
    draw = ImageDraw.Draw(page)
    columns = rng.choice([1, 2, 2, 3])
    margin = rng.randrange(20, 70)
    width = (WIDTH - margin) // columns
    body = rng.choice([9, 10, 11, 12, 13, 14, 16, 18, 22, 28])
    for column in range(columns):
        left = margin + column * width
        y = margin
        while y < HEIGHT - margin - body:
            if rng.random() < 0.3:
                size = rng.choice([18, 22, 26, 32, 40, 52, 64])
                draw.text(
                    (left, y),
                    phrase(rng, 3)[: width * 2 // size - 2],
                    fill=style.ink,
                    font=font_of(rng, style, size),
                )
                y += round(size * 1.5)
            y = paragraph(rng, draw, style, (left, y, left + width - margin, HEIGHT - margin), body)
            if rng.random() < 0.2:
                draw.line(
                    (left, y, left + width - margin, y),
                    fill=rng.choice([style.ink, *style.accents]),
                )
                y += body
    return page


def paste_icon(
    rng: random.Random, page: Image.Image, style: Style, place: tuple[int, int], size: int
) -> None:
    """Draw a random icon, size×size pixels."""
    icon = pyvips.Image.thumbnail(str(rng.choice(style.icons)), size, height=size).colourspace(
        "srgb"
    )
    picture = Image.fromarray(np.asarray(icon.numpy(), np.uint8))
    page.paste(picture, place, picture if picture.mode == "RGBA" else None)


def screen(rng: random.Random, style: Style) -> Image.Image:
    """Windows as on a screen: title bars, icons, buttons, lists and tables with thin lines."""
    page = Image.new("RGB", (WIDTH, HEIGHT), rng.choice(style.accents))
    draw = ImageDraw.Draw(page)
    for _ in range(rng.randrange(2, 5)):
        left = rng.randrange(0, WIDTH // 2)
        top = rng.randrange(0, HEIGHT // 2)
        right = min(WIDTH - 1, left + rng.randrange(450, 900))
        bottom = min(HEIGHT - 1, top + rng.randrange(300, 700))
        size = rng.choice([11, 12, 13, 14, 16])
        font = font_of(rng, style, size)
        bar = 2 * size
        draw.rounded_rectangle(
            (left, top, right, bottom), rng.choice([0, 4, 8]), style.paper, style.ink
        )
        draw.rectangle((left, top, right, top + bar), rng.choice([style.ink, *style.accents]))
        draw.text((left + bar, top + size // 2), phrase(rng, 4), fill=style.paper, font=font)
        side = rng.choice([16, 22, 24, 32, 48, 64])
        # most icons are dark
        draw.rectangle(
            (left + 1, top + bar, right - 1, top + bar + side + 16), max(style.paper, style.ink)
        )
        for x in range(left + 8, right - side, side + rng.randrange(6, 20)):
            paste_icon(rng, page, style, (x, top + bar + 8), side)
        y = top + bar + side + 20
        row = round(size * rng.uniform(1.5, 2.2))
        columns = (
            sorted(rng.sample(range(left + 80, right - 60, 40), 3)) if rng.random() < 0.6 else []
        )
        for number, start in enumerate(range(y, bottom - row, row)):
            if number % 2 and columns:
                draw.rectangle(
                    (left + 1, start, right - 1, start + row),
                    tuple((9 * a + b) // 10 for a, b in zip(style.paper, style.ink, strict=True)),
                )
            for x, end in zip([left, *columns], [*columns, right], strict=True):
                text = phrase(rng, 8)
                while text and font.getlength(text) > end - x - 12:
                    text = text[:-1]
                draw.text((x + 6, start + (row - size) // 2 - 1), text, fill=style.ink, font=font)
            draw.line((left, start, right, start), fill=rng.choice(style.accents))
        for x in columns:
            draw.line((x, y, x, bottom), fill=style.ink)
        label = phrase(rng, 2)
        button = (
            right - round(font.getlength(label)) - 40,
            bottom - 2 * row,
            right - 12,
            bottom - row // 2,
        )
        draw.rounded_rectangle(button, 4, rng.choice(style.accents), style.ink)
        draw.text(
            (button[0] + 14, button[1] + (button[3] - button[1] - size) // 2 - 1),
            label,
            fill=style.ink,
            font=font,
        )
    return page


def line_art(rng: random.Random, style: Style) -> Image.Image:
    """Curves, polygons, hatching, grids and charts with lines of half a pixel to five, and
    labels.
    """
    page = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), style.paper)
    draw = ImageDraw.Draw(page)
    for _ in range(rng.randrange(14, 30)):
        x = rng.randrange(WIDTH)
        y = rng.randrange(HEIGHT)
        reach = rng.randrange(60, 320)
        ink = rng.choice([style.ink, style.ink, *style.accents])
        width = max(2, round(FINE * rng.choice([0.5, 1, 1, 1.5, 2, 3, 5])))
        kind = rng.randrange(6)
        turn = rng.uniform(0, 2 * math.pi)
        corners = rng.randrange(3, 9)

        def at(angle: float, radius: float, x: int = x, y: int = y) -> tuple[float, float]:
            return FINE * (x + radius * math.cos(angle)), FINE * (y + radius * math.sin(angle))

        if kind == 0:  # a curve
            waves = [(rng.uniform(0.2, 1), rng.uniform(1, 5)) for _ in range(3)]
            radii = [
                reach * (1 + 0.3 * sum(a * math.sin(f * t / 60) for a, f in waves))
                for t in range(360)
            ]
            draw.line(
                [at(turn + t * math.pi / 180, radius) for t, radius in enumerate(radii)],
                ink,
                width,
                "curve",
            )
        elif kind == 1:  # a polygon, sometimes filled
            points = [at(turn + 2 * math.pi * k / corners, reach) for k in range(corners)]
            draw.polygon(points, rng.choice([None, None, *style.accents]), ink, width)
        elif kind == 2:  # circles around one centre
            for radius in range(10, reach, max(rng.randrange(5, 30), width)):
                draw.ellipse(
                    (*at(-0.75 * math.pi, radius), *at(0.25 * math.pi, radius)), None, ink, width
                )
        elif kind == 3:  # hatching
            for offset in range(-reach, reach, max(rng.randrange(3, 16), width)):
                ends = [at(turn + side * math.acos(offset / reach), reach) for side in (1, -1)]
                draw.line(ends, ink, width)
        elif kind == 4:  # a grid
            for offset in range(0, reach, rng.randrange(6, 40)):
                draw.line(
                    (FINE * (x + offset), FINE * y, FINE * (x + offset), FINE * (y + reach)),
                    ink,
                    width,
                )
                draw.line(
                    (FINE * x, FINE * (y + offset), FINE * (x + reach), FINE * (y + offset)),
                    ink,
                    width,
                )
        else:  # a chart
            for number in range(corners * 2):
                height = rng.randrange(5, reach)
                left = x + number * 14
                draw.rectangle(
                    (FINE * left, FINE * (y - height), FINE * (left + 9), FINE * y),
                    rng.choice(style.accents),
                    style.ink,
                    FINE,
                )
            draw.line(
                [
                    (FINE * x, FINE * (y - reach)),
                    (FINE * x, FINE * y),
                    (FINE * (x + corners * 28), FINE * y),
                ],
                style.ink,
                width,
            )
    small = page.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    draw = ImageDraw.Draw(small)
    for _ in range(rng.randrange(5, 20)):
        place = (rng.randrange(WIDTH - 150), rng.randrange(HEIGHT - 40))
        draw.text(
            place,
            phrase(rng, 2),
            fill=style.ink,
            font=font_of(rng, style, rng.choice([11, 13, 16, 20, 28])),
        )
        paste_icon(
            rng,
            small,
            style,
            (rng.randrange(WIDTH - 96), rng.randrange(HEIGHT - 96)),
            rng.choice([24, 32, 48, 96]),
        )
    return small


KINDS: list[Callable[[random.Random, Style], Image.Image]] = [text_page, screen, line_art]


def page_of(number: int, seed: int, fonts: list[Path], icons: list[Path]) -> Image.Image:
    """Draw one page; it depends on number and seed only."""
    rng = random.Random(f"{seed} {number}")
    paper, ink = distinct(rng)
    accents = [(rng.randrange(256), rng.randrange(256), rng.randrange(256)) for _ in range(4)]
    return KINDS[number % len(KINDS)](rng, Style(fonts, icons, paper, ink, accents))


def main(folder: Path, count: int, seed: int, per_file: int) -> None:
    """Fetch fonts and icons, and write the pages, with `per_file` of them below each other in a
    file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        fonts = files_of(FONTS, Path(scratch))
        icons = files_of(ICONS, Path(scratch))
        for first in range(0, count, per_file):
            numbers = range(first, min(count, first + per_file))
            sheet = Image.new("RGB", (WIDTH, HEIGHT * len(numbers)))
            for place, number in enumerate(numbers):
                sheet.paste(page_of(number, seed, fonts, icons), (0, place * HEIGHT))
            sheet.save(folder / f"pages-{seed}-{first:03d}.png")
    print(f"{count} pages in {folder}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path("data/graphics"),
        help="[default: data/graphics]",
    )
    parser.add_argument("--count", type=int, default=60, help="pages [default: 60]")
    parser.add_argument(
        "--per-file", type=int, default=1, help="pages below each other in a file [default: 1]"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    main(options.folder, options.count, options.seed, options.per_file)
