"""Print the hashes of pictures that any system must draw alike: python -m windows.pictures
BUNDLE
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np

from srflow_sdk import Upscaler
from srflow_sdk.files import read_image

PHOTO = Path(__file__).parents[1] / "examples" / "photos" / "cat.png"

if __name__ == "__main__":
    photo = read_image(PHOTO).pixels[:40, :48]
    for model in ("x4-small", sys.argv[1]):
        with Upscaler(model, device="cpu", threads=1, tile=32) as upscaler:
            for tau in (0.0, 0.8):
                drawn = np.ascontiguousarray(upscaler.upscale(photo, tau=tau, seed=7))
                digest = hashlib.sha256(drawn).hexdigest()
                print(upscaler.bundle.path.name, tau, drawn.shape, digest)
