"""Fetch 46 photographs to train on, from Debian's archive (needs apt-get and dpkg), and add those
of a folder.

    python examples/training_photos.py data/train
    python examples/training_photos.py data/train --also more-photos

A folder's LICENCES.tsv is copied with its photographs. What looks like a picture that models are
judged by is left out and named: `evaluated_photos.tsv` has the perceptual hashes of Debian's
budgie-backgrounds, of the photographs of scikit-image and scikit-learn, and of Set5, Set14, BSD100,
Urban100 and Kodak's. DIV2K's are not compared. Licences, by package: lomiri-wallpapers-16.04
(CC-BY-4.0, CC-BY-SA-4.0, CC0; per file in its debian/copyright), lomiri-wallpapers-20.04
(CC-BY-SA-3.0), lxqt-themes (LGPL-2.1+), mate-backgrounds (GPL-2+), plasma-workspace-wallpapers
(LGPL-3, Mountain CC-BY-SA-4.0; per folder in its metadata.json).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# package -> where in it a photograph is, by name -> photographs; the other images are drawings,
# gradients and logos
PHOTOS = {
    "lomiri-wallpapers-16.04": (
        "usr/share/backgrounds/{}.*",
        "Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly Picture_0B_by_freespace "
        "Picture_1A_by_freespace "
        "Wine_by_Jakkub_Mede aitzgorri_by_Aitzol_Berasategi free_by_Peter_Nerlich "
        "friends_by_Aitzol_Berasategi "
        "greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi picosdeeuropa_by_Aitzol_Berasategi "
        "seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi",
    ),
    "lomiri-wallpapers-20.04": ("usr/share/backgrounds/{}.*", "Kleiber_by_Lukas_Baubkus"),
    "lxqt-themes": (
        "usr/share/lxqt/wallpapers/{}.*",
        "Butterfly-Kenneth-Wimer Valendas after-the-rain appleflower beam butterfly cloud drop "
        "flowers fog "
        "this-is-not-windows",
    ),
    "mate-backgrounds": (
        "usr/share/backgrounds/mate/nature/{}.*",
        "Aqua Blinds Dune FreshFlower Garden GreenMeadow LadyBird RainDrops Storm TwoWings Wood "
        "YellowFlower",
    ),
    "plasma-workspace-wallpapers": (
        "usr/share/wallpapers/{}/contents/images/*",
        "BytheWater ColdRipple ColorfulCups EveningGlow FallenLeaf Grey Mountain OneStandsOut Path",
    ),
}

EVALUATED = Path(__file__).with_name("evaluated_photos.tsv")
IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
# bits of 64 that may differ: of 341 × 269 pairs of different photographs, the closest differ in 14
SAME = 12


def hashes(path: Path) -> tuple[int, int]:
    """Perceptual hashes of a picture and of its mirror image, 64 bits each, that survive resizing
    and coding.

    Each bit says whether a frequency of the 32×32 gray picture's cosine transform, of 8×8 low ones,
    is above the median (Zauner, "Implementation and Benchmarking of Perceptual Image Hash
    Functions", 2010).
    """
    with Image.open(path) as image:
        image.draft("RGB", (256, 256))  # JPEGs are decoded at a fraction of their size
        gray = ImageOps.exif_transpose(image).convert("L").resize((32, 32), Image.Resampling.BOX)
    pixels = np.asarray(gray, np.float64)
    cosines = np.cos(np.pi / 32 * (np.arange(32) + 0.5) * np.arange(1, 9)[:, None])

    def of(picture: np.ndarray) -> int:
        low = cosines @ picture @ cosines.T
        return int("".join("01"[int(bit)] for bit in (low > np.median(low)).flat), 2)

    return of(pixels), of(pixels[:, ::-1])


def evaluated() -> dict[int, str]:
    """{hash: whose picture it is} of the table."""
    rows = [line.split("\t") for line in EVALUATED.read_text(encoding="utf-8").splitlines()[1:]]
    return {int(digits, 16): f"{name} of {package}" for digits, package, name in rows}


def judged_by(path: Path, known: Mapping[int, str]) -> str:
    """Which picture of the table this is a near copy of, mirrored or not; empty if none."""
    distance, name = min(
        ((of ^ other).bit_count(), name) for of in hashes(path) for other, name in known.items()
    )
    return name if distance <= SAME else ""


def write_table(folders: Mapping[str, Path]) -> None:
    """Write the table of hashes anew. folders: of pictures, by package."""
    lines = ["hash\tpackage\tname"]
    for package, folder in folders.items():
        lines += [f"{hashes(path)[0]:016x}\t{package}\t{path.stem}" for path in pictures(folder)]
    EVALUATED.write_text("\n".join(lines) + "\n", encoding="utf-8")


def pictures(folder: Path) -> list[Path]:
    """The picture files in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)


def main(target: Path, also: Path | None = None) -> None:
    """Download and unpack the packages, and copy the photographs; nothing is installed. also: a
    folder of others.
    """
    target.mkdir(parents=True, exist_ok=True)
    for package, (place, names) in PHOTOS.items():
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run(["apt-get", "download", "-q", package], cwd=scratch, check=True)
            (archive,) = Path(scratch).glob("*.deb")
            subprocess.run(["dpkg", "-x", str(archive), scratch], check=True)
            for name in names.split():
                # one for each screen: links to the same file, or a landscape and a smaller portrait
                files = [
                    path for path in Path(scratch).glob(place.format(name)) if not path.is_symlink()
                ]
                photo = max(files, key=lambda path: path.stat().st_size)
                shutil.copy(photo, target / f"{name}{photo.suffix}")
    if also is not None:
        add(also, target)
    print(f"{len(list(target.iterdir()))} files in {target}")


def add(folder: Path, target: Path) -> None:
    """Copy a folder's photographs, and its table of licences."""
    known = evaluated()
    for path in pictures(folder):
        try:
            name = judged_by(path, known)
        except (OSError, ValueError, SyntaxError) as error:
            print(f"left out: {path}: cannot be read as an image: {error}")
            continue
        if name:
            print(f"left out: {path} looks like {name}, by which models are judged")
        else:
            shutil.copy(path, target / path.name)
    for table in folder.glob("LICENCES.tsv"):
        shutil.copy(table, target / table.name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("data/train"), help="[default: data/train]"
    )
    parser.add_argument(
        "--also", type=Path, metavar="FOLDER", help="add the photographs of this folder"
    )
    options = parser.parse_args()
    if options.also is not None and not options.also.is_dir():
        parser.error(f"--also {options.also}: is not a folder")
    main(options.folder, options.also)
