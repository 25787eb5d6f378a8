"""Draw the squeeze for docs/concepts.md, as the network computes it: one channel of 4×4 pixels becomes four of 2×2.

python benchmarks/squeeze_picture.py -o docs/images/concepts/squeeze.svg

A number keeps its colour: that of the channel that it goes to.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from srflow_training.model.transforms import Squeeze

CELL, GAP, TOP = 34, 22, 34
COLOURS = ("#f4c7ab", "#b8d8be", "#b7cbe8", "#e6d3f0")


def grid(values: torch.Tensor, left: int, top: int, title: str, channel_of: dict[int, int]) -> list[str]:
    """A channel as numbered cells in the colours of the channels that they go to, below its title."""
    drawn = [f'<text x="{left}" y="{top - 10}">{title}</text>']
    for row, numbers in enumerate(values.int().tolist()):
        for column, number in enumerate(numbers):
            x, y, colour = left + column * CELL, top + row * CELL, COLOURS[channel_of[number]]
            drawn.append(f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="{colour}" stroke="#555"/>')
            drawn.append(f'<text x="{x + CELL // 2}" y="{y + 22}" text-anchor="middle">{number}</text>')
    return drawn


def squeeze_picture() -> str:
    """The whole drawing as SVG."""
    before = torch.arange(16.0).reshape(1, 1, 4, 4)
    after = Squeeze().encode(before)[0]
    channel_of = {int(number): channel for channel in range(4) for number in after[0, channel].flatten()}
    middle, right = TOP + 2 * CELL, 10 + 4 * CELL + 90
    drawn = grid(before[0, 0], 10, TOP, "one channel, 4×4", channel_of)
    drawn += [
        f'<path d="M {right - 80} {middle} H {right - 22} m -10 -7 l 10 7 l -10 7" fill="none" stroke="#555"/>',
        f'<text x="{right - 52}" y="{middle - 12}" text-anchor="middle">squeeze</text>',
    ]
    for channel in range(4):
        left = right + channel * (2 * CELL + GAP)
        drawn += grid(after[0, channel], left, TOP + CELL, f"channel {channel}", channel_of)
    width, height = right + 4 * (2 * CELL + GAP), TOP + 4 * CELL + 10
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    style = ' font-family="sans-serif" font-size="14">'
    return "\n".join([head + style, '<rect width="100%" height="100%" fill="white"/>', *drawn, "</svg>", ""])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the SVG file")
    parser.parse_args().output.write_text(squeeze_picture(), encoding="utf-8")
