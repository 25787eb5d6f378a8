"""What a frame of a clip costs with latents that move, in seconds of the processor, beside a plain upscale.

python benchmarks/clip_price.py data/unseen/china.png --size 320x240
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image

from srflow_sdk import Upscaler
from srflow_sdk.clips import FrameUpscaler


def main(photo: Path, size: str, model: str) -> None:
    """Print one line: the first frame has no motion, the second has."""
    width, height = map(int, size.split("x"))
    with Image.open(photo) as image:
        scene = np.asarray(image.convert("RGB").resize((width + 8, height + 8), Image.Resampling.BICUBIC))
    frames = [np.ascontiguousarray(scene[shift : shift + height, shift : shift + width]) for shift in (0, 3)]
    with Upscaler(model, device="cpu", threads=1) as upscaler:
        clip, spent = FrameUpscaler(upscaler), []
        upscaler.upscale(frames[0][:16, :16])
        for draw in (upscaler.upscale, lambda frame: clip.draw(frame, 0), lambda _: clip.draw(frames[1], 1)):
            start = time.process_time()
            draw(frames[0])
            spent.append(time.process_time() - start)
    print(f"{model}, {size}: plain {spent[0]:.1f} s, keyframe {spent[1]:.1f} s, frame with motion {spent[2]:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, help="any photograph")
    parser.add_argument("--size", default="320x240", help="of a frame, width x height  [default: 320x240]")
    parser.add_argument("--model", default="x4-small", help="[default: x4-small]")
    arguments = parser.parse_args()
    main(arguments.photo, arguments.size, arguments.model)
