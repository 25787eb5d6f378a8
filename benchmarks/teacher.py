"""Draw the pictures of `data.teacher`: training photographs, by another network.

    python benchmarks/teacher.py MODEL.onnx PHOTOS OUT [--config x4-small] [--orientations 8]

MODEL takes N×3×h×w, RGB in [0, 1], and returns the enlargement. Its eight orientations (or the
first of them) are averaged. What OUT has already is kept, so that the command can be stopped and
given again. The configuration says the scale, the reduction, and at which sizes photographs are
used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch
from PIL import Image

from srflow_training.data import Photos, halve, read_photo, teacher_name, to_image
from srflow_training.presets import load_settings
from srflow_training.resampling import REDUCTIONS, round_to_8_bit


def draw(
    session: ort.InferenceSession, lr: npt.NDArray[np.float32], orientations: int
) -> npt.NDArray[np.float32]:
    """The network's picture of lr, 1×3×h×w, as the mean of this many orientations."""
    name = session.get_inputs()[0].name
    pictures = []
    for index in range(orientations):
        turns = index % 4
        flipped = index >= 4
        turned = np.rot90(lr[..., ::-1] if flipped else lr, turns, axes=(2, 3))
        (picture,) = session.run(None, {name: np.ascontiguousarray(turned)})
        upright = np.rot90(picture, -turns, axes=(2, 3))
        pictures.append(upright[..., ::-1] if flipped else upright)
    return np.asarray(np.mean(pictures, axis=0), np.float32)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    parser.add_argument("photos", type=Path, metavar="PHOTOS")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--config", default="x4-small", help="[default: x4-small]")
    parser.add_argument(
        "--orientations",
        type=int,
        choices=range(1, 9),
        default=8,
        metavar="1…8",
        help="[default: 8]",
    )
    parser.add_argument("--threads", type=int, default=1, help="[default: 1]")
    return parser.parse_args()


def main() -> None:
    """Draw what is missing, one photograph after the other."""
    # From the options to the file of each photograph: a script, read from top to bottom.
    given = parse_options()
    settings = load_settings(given.config)
    scale = settings.config().scale
    reduce = REDUCTIONS[settings.data.reduction]
    photos = Photos(given.photos, settings.data, scale, print)
    options = ort.SessionOptions()
    options.intra_op_num_threads = given.threads
    torch.set_num_threads(given.threads)
    session = ort.InferenceSession(str(given.model), options, providers=["CPUExecutionProvider"])
    for number, photo in enumerate(photos.sizes, start=1):
        file = given.out / teacher_name(photo, given.photos).with_suffix(".png")
        if file.exists():
            continue
        pixels = read_photo(photo.path)
        for _ in range(photo.halvings):
            pixels = halve(pixels)
        height, width = (side // scale * scale for side in pixels.shape[:2])
        lr = round_to_8_bit(reduce(to_image(pixels[:height, :width]), scale))
        picture = draw(session, lr.numpy(), given.orientations)[0].transpose(1, 2, 0)
        if picture.shape != (height, width, 3):
            raise SystemExit(
                f"{given.model} enlarges to {picture.shape[:2]}, not to {height, width}: give a "
                f"×{scale} one"
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part")
        Image.fromarray((picture.clip(0, 1) * 255).round().astype(np.uint8)).save(unfinished, "PNG")
        unfinished.replace(file)
        print(f"{number}/{len(photos.sizes)} {file}", flush=True)


if __name__ == "__main__":
    main()
