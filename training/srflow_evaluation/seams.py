"""How visible the edge of what was put into a picture is, and how much of it is left.

Pictures are 8-bit H×W×3, masks boolean H×W. Steps are differences of neighbours, side by side and one above the other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_NEAR = 3  # pixels


def seam_error(picture: Pixels, target: Pixels, source: Pixels, mask: Mask) -> float:
    """Gradient error across the mask's edge, in 8-bit levels, 0 for the target and for the source.

    The mean of how far each step across it lies outside of those that target and source have at that place.
    """
    errors = []
    for axis in (0, 1):
        across = np.diff(mask, axis=axis)
        found, one, other = (
            np.diff(image.astype(np.float64), axis=axis)[across] for image in (picture, target, source)
        )
        low, high = np.minimum(one, other), np.maximum(one, other)
        errors.append(np.maximum(np.maximum(low - found, found - high), 0).ravel())
    return float(np.concatenate(errors).mean())


def seam(picture: Pixels, mask: Mask) -> float | None:
    """How much larger steps across the mask's edge are than those up to 3 pixels from it; 1 is no seam.

    None if nothing differs there.
    """
    near = grown(mask, _NEAR) & grown(~mask, _NEAR)
    across, beside = (_mean_step(picture, near, across=value, mask=mask) for value in (True, False))
    return across / beside if across is not None and beside else None


def detail(picture: Pixels, source: Pixels, mask: Mask) -> float | None:
    """How much of the source's steps is left inside the mask, more than 3 pixels from its edge; None if it has none."""
    inside = ~grown(~mask, _NEAR)
    found, whole = (_mean_step(image, inside, across=False, mask=mask) for image in (picture, source))
    return found / whole if found is not None and whole else None


def likeness(picture: Pixels, source: Pixels, mask: Mask) -> float | None:
    """Correlation of the steps inside the mask, more than 3 pixels from its edge, with the source's; 1 is its content.

    Brightness and colour do not count. None if either has no steps.
    """
    inside = ~grown(~mask, _NEAR)
    found: list[list[NDArray[np.float64]]] = [[], []]
    for axis in (0, 1):
        both = np.delete(inside, -1, axis) & np.delete(inside, 0, axis)
        for steps, image in zip(found, (picture, source), strict=True):
            steps.append(np.diff(image.astype(np.float64), axis=axis)[both].ravel())
    one, other = (np.concatenate(steps) for steps in found)
    size = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / size) if size else None


def grown(mask: Mask, steps: int) -> Mask:
    """The mask, wider by some pixels."""
    for _ in range(steps):
        mask = np.pad(mask, 1)
        mask = mask[1:-1, 1:-1] | mask[:-2, 1:-1] | mask[2:, 1:-1] | mask[1:-1, :-2] | mask[1:-1, 2:]
    return mask


def _mean_step(picture: Pixels, near: Mask, *, across: bool, mask: Mask) -> float | None:
    """Mean size of the steps between two pixels `near`, on one side of the mask's edge or across it."""
    found = []
    values = picture.astype(np.float64)
    for axis in (0, 1):
        first, second = (np.delete(mask, end, axis) for end in (-1, 0))
        both = np.delete(near, -1, axis) & np.delete(near, 0, axis) & ((first != second) == across)
        found.append(np.abs(np.diff(values, axis=axis)).mean(axis=2)[both])
    steps = np.concatenate(found)
    return float(steps.mean()) if steps.size else None
