"""The sheet of small crops on which srflow-export calibrates int8, cut from nine photographs that may be passed on.

    python examples/training_photos.py data/train
    python benchmarks/calibration_crops.py data/train -o export/srflow_export/calibration/crops.png

Twelve crops of 48×48, reduced as LR images are, side by side in a PNG. The photographs are those of
lomiri-wallpapers-16.04 under CC-BY-4.0 and CC0; none is one of the gate's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, COLUMNS = 48, 4
# photograph, and the factors by which it is reduced
CROPS = (
    ("aitzgorri_by_Aitzol_Berasategi", (4,)),
    ("friends_by_Aitzol_Berasategi", (4, 12)),
    ("life_by_Aitzol_Berasategi", (4,)),
    ("picosdeeuropa_by_Aitzol_Berasategi", (4, 12)),
    ("sunset_by_Aitzol_Berasategi", (8,)),
    ("Picture_0B_by_freespace", (8,)),
    ("Picture_1A_by_freespace", (8,)),
    ("Wine_by_Jakkub_Mede", (4, 12)),
    ("seeding_by_Clements_Engelhardt", (4,)),
)


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    crops = [_liveliest(options.photos / f"{name}.jpg", factor) for name, factors in CROPS for factor in factors]
    sheet = Image.new("RGB", (COLUMNS * SIDE, len(crops) // COLUMNS * SIDE))
    for index, crop in enumerate(crops):
        sheet.paste(crop, (index % COLUMNS * SIDE, index // COLUMNS * SIDE))
    sheet.save(options.output, optimize=True)
    print(f"wrote {options.output}: {options.output.stat().st_size} bytes")


def _liveliest(path: Path, factor: int) -> Image.Image:
    """The crop of the reduced photograph with the largest standard deviation: flat ones say little about ranges."""
    with Image.open(path) as file:
        photo = file.convert("RGB")
        photo = photo.resize((photo.width // factor, photo.height // factor), Image.Resampling.BICUBIC)
    places = [
        (left, top, left + SIDE, top + SIDE)
        for top in range(0, photo.height - SIDE + 1, SIDE // 2)
        for left in range(0, photo.width - SIDE + 1, SIDE // 2)
    ]
    return max((photo.crop(place) for place in places), key=lambda crop: float(np.asarray(crop).std()))


if __name__ == "__main__":
    main()
