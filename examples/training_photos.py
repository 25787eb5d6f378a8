"""Fetch 46 photographs to train on, from Debian's archive (needs apt-get and dpkg).

    python examples/training_photos.py data/train

Licences, by package: lomiri-wallpapers-16.04 (CC-BY-4.0, CC-BY-SA-4.0, CC0; per file in its debian/copyright),
lomiri-wallpapers-20.04 (CC-BY-SA-3.0), lxqt-themes (LGPL-2.1+), mate-backgrounds (GPL-2+),
plasma-workspace-wallpapers (LGPL-3, Mountain CC-BY-SA-4.0; per folder in its metadata.json).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

# package -> where in it a photograph is, by name -> photographs; the other images are drawings, gradients and logos
PHOTOS = {
    "lomiri-wallpapers-16.04": (
        "usr/share/backgrounds/{}.*",
        "Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly Picture_0B_by_freespace Picture_1A_by_freespace "
        "Wine_by_Jakkub_Mede aitzgorri_by_Aitzol_Berasategi free_by_Peter_Nerlich friends_by_Aitzol_Berasategi "
        "greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi picosdeeuropa_by_Aitzol_Berasategi "
        "seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi",
    ),
    "lomiri-wallpapers-20.04": ("usr/share/backgrounds/{}.*", "Kleiber_by_Lukas_Baubkus"),
    "lxqt-themes": (
        "usr/share/lxqt/wallpapers/{}.*",
        "Butterfly-Kenneth-Wimer Valendas after-the-rain appleflower beam butterfly cloud drop flowers fog "
        "this-is-not-windows",
    ),
    "mate-backgrounds": (
        "usr/share/backgrounds/mate/nature/{}.*",
        "Aqua Blinds Dune FreshFlower Garden GreenMeadow LadyBird RainDrops Storm TwoWings Wood YellowFlower",
    ),
    "plasma-workspace-wallpapers": (
        "usr/share/wallpapers/{}/contents/images/*",
        "BytheWater ColdRipple ColorfulCups EveningGlow FallenLeaf Grey Mountain OneStandsOut Path",
    ),
}


def main(target: Path) -> None:
    """Download and unpack the packages, and copy the photographs; nothing is installed."""
    target.mkdir(parents=True, exist_ok=True)
    for package, (place, names) in PHOTOS.items():
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run(["apt-get", "download", "-q", package], cwd=scratch, check=True)
            (archive,) = Path(scratch).glob("*.deb")
            subprocess.run(["dpkg", "-x", str(archive), scratch], check=True)
            for name in names.split():
                # one for each screen: links to the same file, or a landscape and a smaller portrait
                files = [path for path in Path(scratch).glob(place.format(name)) if not path.is_symlink()]
                photo = max(files, key=lambda path: path.stat().st_size)
                shutil.copy(photo, target / f"{name}{photo.suffix}")
    print(f"{len(list(target.iterdir()))} photographs in {target}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("data/train"), help="[default: data/train]")
    main(parser.parse_args().folder)
