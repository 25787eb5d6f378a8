"""How far values in their own units are from the input's, once the enlargement is reduced again by bicubic averaging.

    python benchmarks/radiometry.py photo.jpg

The photo's luma becomes values 2000 … 12000 of 16 bits, as of a satellite's band; it is enlarged with
value_range=("1%", "99%"). Prints the bias (mean of the difference) and its amounts, with and without
`consistent`, and the difference of the medians of both pictures, in units of the input.
"""

from __future__ import annotations

import argparse

import numpy as np
from PIL import Image

from srflow_sdk import Upscaler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo")
    parser.add_argument("--side", type=int, default=128, help="of the square that is taken from its middle, in pixels")
    asked = parser.parse_args()
    with Image.open(asked.photo) as opened:
        luma = opened.convert("L")
    left, top = ((side - asked.side) // 2 for side in luma.size)
    square = np.asarray(luma.crop((left, top, left + asked.side, top + asked.side)), np.float64)
    values = np.rint(2000 + 10_000 * square / 255).astype(np.uint16)
    with Upscaler("x4-small", device="cpu") as upscaler:
        for tau in (0.0, 0.8):
            for consistent in (False, True):
                large = upscaler.upscale(values, value_range=("1%", "99%"), tau=tau, consistent=consistent)
                size = values.shape[1::-1]
                reduced = np.asarray(Image.fromarray(large.astype(np.float32)).resize(size, Image.Resampling.BICUBIC))
                off = reduced - values
                medians = float(np.median(large)) - float(np.median(values))
                kind = "consistent" if consistent else "plain"
                middle, most = np.percentile(np.abs(off), (50, 99))
                amounts = f"half within {middle:.1f}, 99 % within {most:.0f}"
                print(f"tau {tau}, {kind}: bias {off.mean():.1f}, {amounts}, medians {medians:+.0f}")


if __name__ == "__main__":
    main()
