"""Draw the picture of README.md: a detail of a photograph enlarged four times, bicubic left, x4-small at τ = 0.8 right.

    python benchmarks/landing_picture.py -o docs/images/demo.jpg

Each pixel of the two results is drawn as four, and the whole is as wide as a page of GitHub shows it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from srflow_sdk import Upscaler

PHOTO = Path(__file__).parents[1] / "examples" / "photos" / "cat.png"
WHISKERS = (190, 425, 398, 575)  # left, top, right, bottom in the result
ZOOM, GAP = 2, 8


def main(out: Path) -> None:
    """Write the picture."""
    with Image.open(PHOTO) as opened:
        photo = opened.convert("RGB")
    with Upscaler("x4-small") as upscaler:
        large = upscaler.upscale(photo, tau=0.8)
    details = [one.crop(WHISKERS) for one in (photo.resize(large.size, Image.Resampling.BICUBIC), large)]
    width, height = (ZOOM * side for side in details[0].size)
    picture = Image.new("RGB", (2 * width + GAP, height), "white")
    for number, detail in enumerate(details):
        picture.paste(detail.resize((width, height), Image.Resampling.NEAREST), (number * (width + GAP), 0))
    picture.save(out, quality=90)
    print(f"{out}: {picture.width}×{picture.height}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    main(parser.parse_args().output)
