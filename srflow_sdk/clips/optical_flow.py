"""Dense motion between two frames, by OpenCV's DIS optical flow (Kroeger et al., ECCV 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.pixels.in_memory import luma, to_unit
from srflow_sdk.system.raising import require_extra

CUT = 0.6
"""Share of pixels without a counterpart in the frame before, from which on a frame begins a new shot."""

_LEAST_SIDE = 16  # DIS takes no smaller frames
_ALLOWED, _SQUARE_ALLOWED = 0.01, 0.5  # of Sundaram et al.: "Dense point trajectories ...", ECCV 2010


@dataclass(frozen=True, kw_only=True)
class BackwardFlow:
    """flow: 2×H×W, rows then columns: where each pixel was in the frame before, less where it is, in pixels.

    seen: H×W, whether it was there: the motion forward leads back to the pixel.
    """

    flow: NDArray[np.float32]
    seen: NDArray[np.bool_]

    @property
    def is_cut(self) -> bool:
        """True if the frames have so little in common that the second begins a new shot."""
        return 1 - float(self.seen.mean()) >= CUT


def opencv() -> Any:
    """The module cv2. Raises: MissingExtraError."""
    return require_extra("cv2", "video")


def gray(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """The luma of a frame H×W×3 in 8 bits, at least 16×16 with its edges repeated."""
    levels = np.rint(255 * luma(to_unit(frame))[..., 0]).astype(np.uint8)
    return np.pad(levels, [(0, max(_LEAST_SIDE - side, 0)) for side in levels.shape], mode="edge")


def backward_flow(before: NDArray[np.uint8], now: NDArray[np.uint8], *, height: int, width: int) -> BackwardFlow:
    """The motion of a frame from the one before: of its first height×width pixels.

    before, now: from :func:`gray`. The same frames give the same motion, with any number of threads.
    """
    cv2 = opencv()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        back = _dis(cv2).calc(now, before, None)
        forth = _dis(cv2).calc(before, now, None)
        y, x = np.indices(now.shape, dtype=np.float32)
        there = cv2.remap(forth, x + back[..., 0], y + back[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    finally:
        cv2.setNumThreads(threads)
    lengths = (back**2).sum(-1) + (there**2).sum(-1)
    seen = ((back + there) ** 2).sum(-1) <= _ALLOWED * lengths + _SQUARE_ALLOWED
    flow = np.ascontiguousarray(back[:height, :width, ::-1].transpose(2, 0, 1))
    return BackwardFlow(flow=flow, seen=seen[:height, :width])


def _dis(cv2: Any) -> Any:
    found = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found.setFinestScale(0)  # latents need fractions of a pixel
    return found
