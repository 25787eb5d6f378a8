"""How visible the edge of a paste is."""

import numpy as np
import pytest

from srflow_evaluation.transfer import detail, grown, likeness, seam, seam_error


@pytest.fixture
def mask():
    inside = np.zeros((40, 50), bool)
    inside[10:30, 15:35] = True
    return inside


def textured(seed, low=60, high=90):
    return np.random.default_rng(seed).integers(low, high, (40, 50, 3), dtype=np.uint8)


def test_neither_picture_has_a_seam_error_and_a_paste_has_the_step_between_them(mask):
    target, source = np.full((40, 50, 3), 50, np.uint8), np.full((40, 50, 3), 80, np.uint8)
    assert seam_error(target, target, source, mask) == seam_error(source, target, source, mask) == 0
    assert seam_error(np.where(mask[..., None], source, target), target, source, mask) == 30
    assert seam_error(np.where(mask[..., None], target + 10, target), target, source, mask) == 10


def test_steps_between_those_of_both_pictures_are_no_error(mask):
    target, source = textured(0), textured(1)
    between = ((target.astype(int) + source) // 2).astype(np.uint8)
    assert seam_error(between, target, source, mask) <= 1  # of rounding
    assert seam_error(np.where(mask[..., None], source, target), target, source, mask) > 1


def test_seam_error_is_the_mean_over_the_pairs_across_the_edge(mask):
    target, source = textured(0), textured(1, 120, 160)
    pasted = np.where(mask[..., None], source, target)
    errors = []
    for row, column in zip(*np.nonzero(mask), strict=True):
        for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if mask[near]:
                continue
            steps = [image[row, column].astype(int) - image[near] for image in (pasted, target, source)]
            for found, one, other in zip(*steps, strict=True):
                errors.append(max(min(one, other) - found, found - max(one, other), 0))
    assert seam_error(pasted, target, source, mask) == pytest.approx(np.mean(errors))


def test_seam_is_one_without_a_step_and_grows_with_it(mask):
    whole = textured(2)
    stepped = whole.copy()
    stepped[mask] += 100
    assert seam(whole, mask) == pytest.approx(1, abs=0.15)
    assert seam(stepped, mask) > 5


def test_detail_is_the_share_of_the_sources_steps_that_is_left(mask):
    source = np.repeat((np.indices((40, 50)).sum(axis=0) % 2 * 40)[..., None], 3, axis=2).astype(np.uint8)
    assert detail(source, source, mask) == 1
    assert detail(source // 4, source, mask) == 0.25
    assert detail(np.zeros_like(source), source, mask) == 0


def test_likeness_is_that_of_the_content_whatever_its_brightness_and_contrast(mask):
    source, other = textured(3), textured(4)
    assert likeness(source, source, mask) == pytest.approx(1)
    assert likeness(source // 2 + 90, source, mask) > 0.97
    assert likeness(255 - source, source, mask) == pytest.approx(-1)
    assert abs(likeness(other, source, mask)) < 0.1
    edge = source.copy()
    edge[~mask] = 0
    assert likeness(edge, source, mask) == pytest.approx(1)


def test_what_cannot_be_compared_has_no_figure(mask):
    flat, thin = np.full((40, 50, 3), 7, np.uint8), np.zeros((40, 50), bool)
    thin[20, 10:40] = True
    assert seam(flat, mask) is None
    assert detail(flat, flat, mask) is None
    assert likeness(flat, textured(0), mask) is None
    assert detail(textured(0), textured(1), thin) is None


def test_a_mask_grows_by_steps_along_rows_and_columns():
    point = np.zeros((9, 9), bool)
    point[4, 4] = True
    down, right = np.indices((9, 9)) - 4
    assert np.array_equal(grown(point, 2), abs(down) + abs(right) <= 2)
