import threading

import numpy as np
import pytest

from srflow_sdk.errors import CancelledError
from srflow_sdk.pixels.membrane import Grid, blended

STEP = 1 / 255


def harmonic_function(height, width):
    """Harmonic on the grid, too: the second differences of x² - y² and x·y cancel."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    return 0.5 + 0.4 * (x**2 - y**2) - 0.3 * x * y


def masks(height, width):
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(0)
    return {
        "disc": np.hypot(y - height / 2, x - width / 2) < min(height, width) / 3,
        "ring": np.abs(np.hypot(y - height / 2, x - width / 2) - min(height, width) / 3) < 4,
        "parts": ((y // 9) % 2 == 1) & ((x // 13) % 2 == 1) & (y < height - 1) & (x < width - 1),
        "line": (y == height // 2) & (x > 2) & (x < width - 3),
        "pixel": (y == 3) & (x == 5),
        "specks": (rng.random((height, width)) < 0.4)
        & (y > 0)
        & (x > 0)
        & (y < height - 1)
        & (x < width - 1),
    }


@pytest.mark.parametrize("name", list(masks(9, 9)))
def test_a_harmonic_function_is_found_again_from_its_border(name):
    exact = harmonic_function(75, 131)
    mask = masks(75, 131)[name]
    found = Grid(mask).solve(np.where(mask, 7.0, exact))
    assert np.abs(found - exact).max() < 0.05 * STEP
    assert np.array_equal(found[~mask], exact[~mask])


def test_without_a_border_there_is_no_correction():
    assert not Grid(np.ones((20, 30), bool)).solve(np.ones((20, 30))).any()
    source = np.random.default_rng(0).random((20, 30, 3), np.float32)
    assert np.array_equal(blended(np.zeros_like(source), source, np.ones((20, 30), bool)), source)
    assert np.array_equal(blended(source, 1 - source, np.zeros((20, 30), bool)), source), (
        "an empty mask"
    )


def test_content_that_differs_by_a_constant_arrives_without_a_step():
    target = np.random.default_rng(0).random((60, 80, 3), np.float32) / 2
    mask = masks(60, 80)["disc"]
    mask[:30, :20] = True  # up to the border
    result = blended(target, target + np.float32([0.3, 0.2, -0.1]), mask)
    assert np.abs(result - target).max() < 0.05 * STEP
    assert np.array_equal(result[~mask], target[~mask])
    detail = np.zeros((60, 80, 1), np.float32)
    detail[25:35, 35:45] = 0.5  # which keeps its gradients
    result = blended(np.full_like(detail, 0.2), detail, masks(60, 80)["disc"])
    assert np.allclose(
        result[masks(60, 80)["disc"]],
        0.2 + detail[masks(60, 80)["disc"]],
        atol=0.05 * STEP,
    )


def test_a_cancelled_blend_ends_before_its_next_step():
    cancel = threading.Event()
    cancel.set()
    mask = np.zeros((40, 40), bool)
    mask[5:30, 8:35] = True
    pictures = np.random.default_rng(0).random((2, 40, 40, 3)).astype(np.float32)
    with pytest.raises(CancelledError):
        blended(pictures[0], pictures[1], mask, cancel)
