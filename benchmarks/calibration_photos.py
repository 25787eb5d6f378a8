"""Fetch 100 photographs that no model was trained on, to calibrate intervals and to test them (needs npm).

    python benchmarks/calibration_photos.py data/intervals
    srflow-eval calibrate --model my.srflow --hr data/intervals/calibrate

They come with the npm packages below, themes of web pages under the MIT licence; the photographs are Unsplash's, as far
as the packages say. None looks like a picture of examples/training_photos.py, of docs/photographs.tsv, or one that
models are judged by (perceptual hashes, and a look at each). They are only measured, so none is passed on.

`calibrate/` and `test/` are told apart by the hash of a photograph's name: a quarter is for the test. Each is reduced
by 2, 3 or 4, to about 400 pixels a side, so that nothing of its JPEG coding is left.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import tarfile
import tempfile
from pathlib import Path

from PIL import Image

SIDE = 400

# package, folder in it -> photographs; the other pictures are drawings, screens and edited copies
PHOTOS = {
    ("admin-lte@4.10.0", "dist/assets/img"): "photo1.png photo2.png photo3.jpg photo4.jpg",
    ("argon-design-system-react@1.1.0", "src/assets/img/theme"): (
        "img-1-1200x1000.jpg img-2-1200x1000.jpg team-1-800x800.jpg team-2-800x800.jpg team-3-800x800.jpg "
        "team-4-800x800.jpg"
    ),
    ("material-dashboard@3.1.0", "assets/img"): (
        "home-decor-1.jpg home-decor-2.jpg home-decor-3.jpg ivancik.jpg meeting.jpg office-dark.jpg vr-bg.jpg "
        "product-12.jpg"
    ),
    ("material-dashboard@3.1.0", "assets/img/products"): (
        "product-11.jpg product-details-1.jpg product-details-2.jpg product-details-3.jpg product-details-4.jpg "
        "product-details-5.jpg"
    ),
    ("material-kit@2.0.4", "assets/img"): "bg2.jpg bg3.jpg bg7.jpg city-profile.jpg city.jpg profile_city.jpg",
    ("material-kit-react@1.10.0", "src/assets/img"): "bg4.jpg bg7.jpg landing-bg.jpg profile-bg.jpg",
    ("mdbootstrap@4.20.0", "img"): "sample.jpg",
    ("notus-react@1.1.0", "src/assets/img"): "team-4-470x470.png",
    ("now-ui-dashboard@1.0.1", "assets/img"): "bg5.jpg header.jpg",
    ("now-ui-kit-react@1.5.0", "src/assets/img"): (
        "bg1.jpg bg11.jpg bg3.jpg bg4.jpg bg6.jpg bg7.jpg bg8.jpg login.jpg"
    ),
    ("paper-kit-2@2.1.0", "assets/img"): (
        "antoine-barres.jpg bruno-abatti.jpg daniel-olahh.jpg daniel-olahs.jpg fabio-mangione.jpg federico-beccari.jpg "
        "ilya-yakover.jpg joshua-stannard.jpg login-image.jpg soroush-karimi.jpg uriel-soberanes.jpg"
    ),
    ("shards-ui@3.0.0", "dist/images/agency-landing"): "welcome-cover.jpg",
    ("shards-ui@3.0.0", "dist/images/app-promo"): "features-background.jpg welcome-cover.jpg",
    ("soft-ui-dashboard@1.0.1", "assets/img"): "ivancik.jpg marie.jpg team-1.jpg team-2.jpg team-3.jpg team-4.jpg",
    ("soft-ui-design-system@1.0.4", "assets/img"): (
        "anastasia.jpg annie-spratt.jpg blog7-1.jpg blog7-2.jpg blog7-3.jpg brooke.jpg card-2.jpg card-3.jpg "
        "charles.jpg ivana.jpg jordan.jpg kal-visuals.jpg nastuh.jpg toa-heftiba.jpg"
    ),
    ("startbootstrap-agency@7.0.12", "dist/assets/img"): "header-bg.jpg",
    ("startbootstrap-business-casual@7.0.9", "dist/assets/img"): (
        "about.jpg bg.jpg intro.jpg products-01.jpg products-02.jpg"
    ),
    ("startbootstrap-clean-blog@6.0.9", "dist/assets/img"): "about-bg.jpg contact-bg.jpg home-bg.jpg post-bg.jpg",
    ("startbootstrap-coming-soon@6.0.7", "dist/assets/img"): "bg-mobile-fallback.jpg",
    ("startbootstrap-creative@7.0.7", "dist/assets/img"): "bg-masthead.jpg",
    ("startbootstrap-grayscale@7.0.6", "dist/assets/img"): "bg-masthead.jpg bg-signup.jpg",
    ("startbootstrap-landing-page@6.0.6", "dist/assets/img"): (
        "bg-masthead.jpg bg-showcase-1.jpg bg-showcase-2.jpg bg-showcase-3.jpg"
    ),
    ("startbootstrap-stylish-portfolio@6.0.6", "dist/assets/img"): "bg-callout.jpg bg-masthead.jpg",
}


def main(target: Path) -> None:
    """Write the PNGs."""
    with tempfile.TemporaryDirectory() as scratch:
        for package in dict.fromkeys(package for package, _ in PHOTOS):
            place = Path(scratch, package)
            place.mkdir()
            subprocess.run(["npm", "pack", "--silent", package], cwd=place, check=True, stdout=subprocess.DEVNULL)
            (archive,) = place.glob("*.tgz")
            with tarfile.open(archive) as file:
                file.extractall(place, filter="data")
        for (package, folder), names in PHOTOS.items():
            for name in names.split():
                write(Path(scratch, package, "package", folder, name), target, package.partition("@")[0])
    counts = {part: len(list((target / part).glob("*.png"))) for part in ("calibrate", "test")}
    print(f"{counts['calibrate']} photographs in {target}/calibrate, {counts['test']} in {target}/test")


def write(photo: Path, target: Path, package: str) -> None:
    """Write a photograph, reduced, into the folder that its name belongs to."""
    name = f"{package}-{photo.stem}"
    folder = target / ("test" if hashlib.sha256(name.encode()).digest()[0] % 4 == 0 else "calibrate")
    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(photo) as image:
        factor = min(max(round(min(image.size) / SIDE), 2), 4)
        image.convert("RGB").reduce(factor).save(folder / f"{name}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("data/intervals"), help="[default: data/intervals]"
    )
    main(parser.parse_args().folder)
