"""Write the photographs on which the embedded model is evaluated. It was trained on none of them.

    python benchmarks/unseen_photos.py data/unseen
    srflow-eval report --hr data/unseen

They come with scikit-image (astronaut, chelsea, coffee, rocket, motorcycle) and scikit-learn
(china, flower).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import skimage
from PIL import Image
from sklearn import datasets

SKIMAGE = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")


def main(folder: Path) -> None:
    """Write seven PNGs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SKIMAGE:
        with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
            image.convert("RGB").save(folder / f"{Path(name).stem}.png")
    for name in ("china.jpg", "flower.jpg"):
        Image.fromarray(datasets.load_sample_image(name)).save(folder / f"{Path(name).stem}.png")
    print(f"7 photographs in {folder}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("data/unseen"), help="[default: data/unseen]"
    )
    main(parser.parse_args().folder)
