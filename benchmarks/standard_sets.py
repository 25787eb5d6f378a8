"""Lay out the field's test sets as `srflow-eval standard` reads them: OUT/SET/HR and OUT/SET/LR.

    git clone https://github.com/jbhuang0604/SelfExSR
    python benchmarks/standard_sets.py data/standard --selfexsr SelfExSR --kodak kodak
    srflow-eval standard --hr data/standard -o out/standard
    srflow-eval calibrate --model my.srflow --hr data/standard/calibration

The pictures are their owners', and none is part of this project: Set5 (Bevilacqua and others,
2012), Set14 (Zeyde and others, 2010), BSD100 (Berkeley's segmentation data set, Martin and others,
2001), Urban100 (Huang and others, 2015, from Flickr). The repository has them cut to multiples of
the scale, with LR images by MATLAB's bicubic. Kodak's 24 photographs were released for unrestricted
use, and are on https://r0k.us/graphics/kodak; they have no LR images.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from PIL import Image


def main() -> None:
    """Copy the pictures, and say how many each set has."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of the sets")
    parser.add_argument("--selfexsr", type=Path, help="the repository SelfExSR")
    parser.add_argument("--kodak", type=Path, help="folder of Kodak's photographs, PNG")
    parser.add_argument(
        "--scale", type=int, default=4, help="of the LR images: 2, 3 or 4  [default: 4]"
    )
    options = parser.parse_args()
    if options.selfexsr is None and options.kodak is None:
        parser.error("name what you downloaded: --selfexsr DIR, --kodak DIR")
    folders = options.selfexsr.glob(f"data/*/image_SRF_{options.scale}") if options.selfexsr else ()
    for folder in sorted(folders):
        for part in ("HR", "LR"):
            mark = f"_SRF_{options.scale}_{part}.png"
            files = {path.name.replace(mark, ".png"): path for path in folder.glob(f"*{mark}")}
            copy(files, options.out / folder.parent.name / part)
    if options.kodak is not None:
        whole = {path.name: path for path in options.kodak.glob("*.png")}
        for folder in (options.out / "Kodak" / "HR", options.out / "calibration" / "whole"):
            copy(whole, folder)
        (halved := options.out / "calibration" / "halved").mkdir(exist_ok=True)
        for name, path in whole.items():
            with Image.open(path) as photo:
                photo.convert("RGB").reduce(2).save(halved / name)


def copy(files: dict[str, Path], target: Path) -> None:
    """Copy files by their new names into a new folder."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name, path in sorted(files.items()):
        shutil.copyfile(path, target / name)
    print(f"{len(files)} pictures in {target}")


if __name__ == "__main__":
    main()
