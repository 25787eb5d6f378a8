"""Write three short clips whose motion is known, for `srflow-eval clips`.

    python benchmarks/unseen_photos.py data/unseen
    python benchmarks/clips.py data/clips
    srflow-eval clips --hr data/clips/pan -o results/clips

`pan`: a camera that moves over a flower, from rest to nine pixels a frame, never by whole pixels.
`tiles`: the same over a roof whose rows are finer than LR pixels. `zoom`: one that comes nearer by
a hundredth a frame, while a disc cut from another photograph passes. Each is a folder of 24 PNGs,
256×256, with motion.npz: `flow`, float32 24×2×256×256, where each pixel was in the frame before
less where it is (rows, columns; frame 0 has zeros), and `visible`, whether it was to be seen there.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FRAMES = 24
SIDE = 256
_EDGE = 2  # pixels around the disc whose colour is mixed with what is behind it

Camera = NDArray[np.float64]
"""Row and column of a frame's corner in its photograph, and the photograph's pixels for one of the
frame."""


def photograph(photo: Image.Image, camera: Camera) -> Image.Image:
    top, left, step = camera
    # Pillow counts from the corners of pixels, at which both have their zero.
    return photo.transform(
        (SIDE, SIDE),
        Image.Transform.AFFINE,
        (step, 0, left, 0, step, top),
        Image.Resampling.BICUBIC,
    )


def find_motion(before: Camera, now: Camera) -> NDArray[np.float64]:
    """2×H×W: where each pixel was, less where it is."""
    own = np.indices((SIDE, SIDE)) + 0.5
    place = now[:2, None, None] + own * now[2]
    return (place - before[:2, None, None]) / before[2] - own


def find_inside(flow: NDArray[np.float64]) -> NDArray[np.bool_]:
    there = np.indices((SIDE, SIDE)) + flow
    return ((there >= 0) & (there <= SIDE - 1)).all(0)


def render_pan(
    photo: Image.Image,
) -> tuple[list[Image.Image], NDArray[np.float64], NDArray[np.bool_]]:
    speed = np.linspace(0.15, 7.3, FRAMES - 1)[:, None] * [0.35, 0.9]
    corners = np.cumsum([[100.0, 100.0], *speed], axis=0)
    cameras = [np.array([*corner, 0.8]) for corner in corners]
    flows = [find_motion(*pair) for pair in pairwise([cameras[0], *cameras])]
    return (
        [photograph(photo, camera) for camera in cameras],
        np.stack(flows),
        np.stack([find_inside(flow) for flow in flows]),
    )


def render_zoom(
    photo: Image.Image, other: Image.Image
) -> tuple[list[Image.Image], NDArray[np.float64], NDArray[np.bool_]]:
    """Zoom out of a photograph, while a disc of another one passes in front of it."""
    # A scene is told from top to bottom: cameras, the disc's places, then each frame, its motion
    # and what of it was visible before.
    middle = np.array([photo.height / 2, photo.width / 2])
    steps = [0.99**number for number in range(FRAMES)]
    cameras = [np.array([*(middle - step * SIDE / 2), step]) for step in steps]
    centres = np.array([[120.0 + 0.7 * number, -20 + 12.3 * number] for number in range(FRAMES)])
    # The other photograph moves with its disc.
    discs = [np.array([*([150, 225] - centre), 1.0]) for centre in centres]
    distance = np.stack(
        [np.hypot(*(np.indices((SIDE, SIDE)) + 0.5 - c[:, None, None])) - 45 for c in centres]
    )
    frames = []
    flows = []
    visible = []
    for number, camera in enumerate(cameras):
        share = Image.fromarray(
            np.rint(255 * np.clip(0.5 - distance[number], 0, 1)).astype(np.uint8)
        )
        frames.append(
            Image.composite(photograph(other, discs[number]), photograph(photo, camera), share)
        )
        last = max(number - 1, 0)
        behind = find_motion(cameras[last], camera)
        before = find_motion(discs[last], discs[number])
        flow = np.where(distance[number] < 0, before, behind)
        y, x = np.clip(np.rint(np.indices((SIDE, SIDE)) + flow), 0, SIDE - 1).astype(int)
        there = distance[last][y, x]
        same = np.where(
            distance[number] < 0,
            np.maximum(distance[number], there),
            -np.minimum(distance[number], there),
        )
        flows.append(flow)
        visible.append(find_inside(flow) & (same < -_EDGE))
    return frames, np.stack(flows), np.stack(visible)


def main(folder: Path, photos: Path) -> None:
    """Write all clips."""
    opened = {
        name: Image.open(photos / f"{name}.png").convert("RGB")
        for name in ("china", "flower", "astronaut", "chelsea")
    }
    clips = {"pan": render_pan(opened["flower"]), "tiles": render_pan(opened["china"])}
    clips["zoom"] = render_zoom(opened["astronaut"], opened["chelsea"])
    for name, (frames, flow, visible) in clips.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(frames):
            frame.save(folder / name / f"{number:04}.png")
        np.savez_compressed(
            folder / name / "motion.npz", flow=flow.astype(np.float32), visible=visible
        )
    print(f"{len(clips)} clips in {folder}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("data/clips"), help="[default: data/clips]"
    )
    parser.add_argument(
        "--photos", type=Path, default=Path("data/unseen"), help="[default: data/unseen]"
    )
    arguments = parser.parse_args()
    main(arguments.folder, arguments.photos)
