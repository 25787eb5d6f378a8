"""Measure the error of a halo: photographs in tiles against the same photographs in one piece, in units of 1/255.

    python benchmarks/unseen_photos.py data/unseen
    python benchmarks/halo.py data/unseen [--model BUNDLE] [--crop 160] [--tiles 32 64] [--halos 4 6 8 10 12 14 16]

Each photograph gives two LR images: a crop from the middle of the original, and one from its half-size copy, which is
sharper. All tiles are compared, placed as by srflow-upscale. It prints the largest difference anywhere, and the largest
mean difference of a picture. For the embedded model, the SDK promises at most 2 and 0.02 on photographs; srflow-export
asks for a twentieth of that on its own photographs. With the values above this takes half an hour on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_evaluation.output import markdown_table
from srflow_export.halo import differences, whole
from srflow_sdk import Bundle
from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.drawing.tiles import plan_tiles

TAUS = (0.0, 0.8, 1.0)


def crops(folder: Path, side: int, multiple: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Name and LR image, float32 1×3×h×w in [0, 1]."""
    for path in sorted(folder.iterdir()):
        with Image.open(path) as photo:
            for name, image in ((path.stem, photo), (f"{path.stem} reduced", photo.reduce(2))):
                width, height = (min(side, length) // multiple * multiple for length in image.size)
                left, top = (image.width - width) // 2, (image.height - height) // 2
                crop = np.asarray(image.crop((left, top, left + width, top + height)).convert("RGB"), np.float32) / 255
                yield name, np.ascontiguousarray(crop.transpose(2, 0, 1)[None])


def main() -> None:
    """Print the table: a row for every tile size and halo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--crop", type=int, default=160, help="LR pixels a side")
    parser.add_argument("--tiles", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--halos", type=int, nargs="+", default=[4, 6, 8, 10, 12, 14, 16])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    bundle = Bundle.embedded() if options.model is None else Bundle.open(options.model)
    manifest = bundle.manifest
    # (tile, tau, halo): the largest and the mean difference of every picture
    found: dict[tuple[int, float, int], list[tuple[float, float]]] = {}
    with OnnxRuntimeBackend(bundle, threads=options.threads) as backend:
        for seed, (name, lr) in enumerate(crops(options.photos, options.crop, manifest.size_multiple)):
            reference = whole(backend, manifest, lr, taus=TAUS, seed=seed)
            for core in options.tiles:
                for halo in options.halos:
                    tiles = plan_tiles(*lr.shape[2:], core=core, halo=halo, multiple=manifest.size_multiple)
                    parts = [differences(backend, manifest, reference, tile) for tile in tiles]
                    for tau in TAUS:
                        largest = max(float(part[tau].max()) for part in parts)
                        mean = sum(float(part[tau].sum(dtype=np.float64)) for part in parts)
                        mean /= reference.pictures[tau].size
                        found.setdefault((core, tau, halo), []).append((255 * largest, 255 * mean))
            print(f"{name}: done", flush=True)
    print(f"{manifest.name}, halo {manifest.halo}; {seed + 1} crops of up to {options.crop}×{options.crop}, in 1/255")
    rows = [
        [str(core), str(halo), *(worst(found[core, tau, halo]) for tau in TAUS)]
        for core in options.tiles
        for halo in options.halos
    ]
    print(markdown_table(["tile", "halo", *(f"tau {tau:g}" for tau in TAUS)], rows))


def worst(pairs: list[tuple[float, float]]) -> str:
    """The largest of the largest differences, and of the means."""
    largest, mean = (max(values) for values in zip(*pairs, strict=True))
    return f"{largest:.2f}, {mean:.4f}"


if __name__ == "__main__":
    main()
