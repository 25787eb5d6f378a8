"""Write the photographs on which the embedded model is evaluated. It was trained on none of them.

    python benchmarks/unseen_photos.py data/unseen
    srflow-eval report --hr data/unseen

They come with scikit-image (astronaut, chelsea, coffee, rocket, motorcycle) and scikit-learn (china, flower).
"""

from __future__ import annotations

import sys
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
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data/unseen"))
