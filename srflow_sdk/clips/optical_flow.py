"""Dense motion between two frames, by OpenCV's DIS optical flow (Kroeger et al., ECCV 2016)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.pixels.in_memory import Floats, Pixels, luma, to_unit
from srflow_sdk.system.hardware import require_extra

_CUT = 0.6  # share of pixels that were not seen, from which on a frame begins a new shot
_LEAST_SIDE = 16  # DIS takes no smaller frames
_LARGEST_CHANGE = 32  # 8-bit steps of a pixel from frame to frame: a fade, not a flash
# pixels by which the ways there and back may miss: one of an output four times as large
_LARGEST_GAP = 0.25


@dataclass(frozen=True, kw_only=True)
class Motion:
    """How a frame H×W moved since the one before.

    Attributes:
        flow: float32 H×W×2, columns then rows: where each pixel was, less where it is, in pixels.
        seen: H×W: True where the pixel was there, looked much the same, and the motion forward from
            there leads back to it.
    """

    flow: Floats
    seen: NDArray[np.bool_]

    @property
    def is_cut(self) -> bool:
        """True if the frames have so little in common that the second begins a new shot."""
        return float(self.seen.mean()) <= 1 - _CUT

    def carried(self, *pictures: Floats, top: int, bottom: int) -> tuple[list[Floats], Floats]:
        """Rows of pictures sH×sW×C of the frame before, where they are in this one.

        h×sW×1: 1 where they were seen.
        """
        cv2 = opencv()
        (height, width), columns = self.seen.shape, pictures[0].shape[1]
        scale = columns // width
        y, x = np.mgrid[top:bottom, :columns].astype(np.float32)
        small = (x + 0.5) / scale - 0.5, (y + 0.5) / scale - 0.5
        flow, seen = (
            cv2.remap(each, *small, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
            for each in (scale * self.flow, np.float32(self.seen))
        )
        x, y = x + flow[..., 0], y + flow[..., 1]
        with _one_thread(cv2):
            came = [
                cv2.remap(each, x, y, cv2.INTER_LANCZOS4, None, cv2.BORDER_REPLICATE)
                for each in pictures
            ]
        inside = (abs(x - (columns - 1) / 2) <= columns / 2) & (
            abs(y - (height * scale - 1) / 2) <= height * scale / 2
        )
        return came, (inside * seen)[..., None]


def opencv() -> Any:
    """The module cv2. Raises: MissingExtraError."""
    return require_extra("cv2", "video")


def gray(frame: Pixels) -> NDArray[np.uint8]:
    """The luma of a frame H×W×3 in 8 bits, at least 16×16 with its edges repeated."""
    levels = np.rint(255 * luma(to_unit(frame))[..., 0]).astype(np.uint8)
    return np.pad(levels, [(0, max(_LEAST_SIDE - side, 0)) for side in levels.shape], mode="edge")


def motion_between(
    before: NDArray[np.uint8], now: NDArray[np.uint8], *, height: int, width: int
) -> Motion:
    """The motion of the first height×width pixels of a frame. before, now: from :func:`gray`."""
    cv2 = opencv()
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow.setFinestScale(0)  # the presets' flow is coarser than pixels
    with _one_thread(cv2):
        back = flow.calc(now, before, None)
        forth = flow.calc(before, now, None)
        y, x = np.indices(now.shape, dtype=np.float32)
        x, y = x + back[..., 0], y + back[..., 1]
        there, was = (
            cv2.remap(each, x, y, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
            for each in (forth, before.astype(np.float32))
        )
    seen = np.hypot(*np.moveaxis(back + there, -1, 0)) <= _LARGEST_GAP
    seen &= np.abs(now - was) <= _LARGEST_CHANGE
    return Motion(flow=np.ascontiguousarray(back[:height, :width]), seen=seen[:height, :width])


@contextmanager
def _one_thread(cv2: Any) -> Iterator[None]:
    """Let OpenCV use one thread: it cuts its work into as many parts as it has threads."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
