"""Enlarge a small photo four times, and put the result beside that of bicubic interpolation."""

from __future__ import annotations

import time
from pathlib import Path

from PIL import Image

from srflow_sdk import Upscaler, choose_model

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "examples" / "photos" / "cat.png"
OUT = ROOT / "demo"
GAP = 8  # white pixels between the two pictures


def main() -> None:
    photo = Image.open(PHOTO).convert("RGB")
    with Upscaler() as upscaler:
        start = time.perf_counter()
        large = upscaler.upscale(photo)
        seconds = time.perf_counter() - start
        model = choose_model(photo).name
        device = upscaler.device

    bicubic = photo.resize(large.size, Image.Resampling.BICUBIC)
    comparison = Image.new("RGB", (2 * large.width + GAP, large.height), "white")
    comparison.paste(bicubic, (0, 0))
    comparison.paste(large, (large.width + GAP, 0))

    OUT.mkdir(exist_ok=True)
    large.save(OUT / "cat_x4.png")
    comparison.save(OUT / "bicubic_and_srflow.png")
    print(
        f"{photo.width}×{photo.height} to {large.width}×{large.height} in {seconds:.1f} s on the "
        f"{device} ({model})"
    )
    print(f"picture:                    {OUT / 'cat_x4.png'}")
    print(f"bicubic left, SRFlow right: {OUT / 'bicubic_and_srflow.png'}")


if __name__ == "__main__":
    main()
