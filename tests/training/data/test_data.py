"""Training sees reproducible crops of photographs, each with the LR image that the photograph would
have."""

import hashlib
import itertools

import numpy as np
import pytest
import torch

from srflow_training.data import halve
from srflow_training.resampling import reduce_bicubic, reduce_bilinear, round_to_8_bit
from tests.training.crops import (
    SCALE,
    as_image,
    crops_of,
    equal,
    places,
    save,
    texture,
    three_photographs,
)

GOLDEN = ["49985e9c4f7e4f46", "9ffb3e1709f3c553", "dc312ddb5a62cc1b"]  # hr, lr, noise


@pytest.fixture
def folder(tmp_path):
    return three_photographs(tmp_path / "photos")


# LR images


@pytest.mark.parametrize(
    ("reduction", "reduce"), [("bicubic", reduce_bicubic), ("bilinear", reduce_bilinear)]
)
@pytest.mark.parametrize("shift", [0, 2])
def test_the_lr_of_a_crop_is_its_part_of_the_photographs_reduction(
    tmp_path,
    reduction,
    reduce,
    shift,
):
    """Inside and at the photograph's borders.

    With a shift, HR alone moves, by every offset up to it.
    """
    pixels = texture(28, 60)
    save(tmp_path / "a.png", pixels)
    crops = crops_of(
        tmp_path,
        batch=400,
        hr_shift=shift,
        reduction=reduction,
        flip="none",
        transposes=False,
    )
    whole = round_to_8_bit(reduce(as_image(pixels), SCALE))[0]
    offsets = set()
    tops = set()
    for hr, lr in zip(*crops[0][:2], strict=True):
        [(top, left)] = places(pixels, hr)
        for down, right in itertools.product(range(-shift, shift + 1), repeat=2):
            row, column = (top - down) // SCALE, (left - right) // SCALE
            on_grid = (row * SCALE, column * SCALE) == (top - down, left - right)
            expected = whole[:, row : row + 4, column : column + 4]
            if on_grid and expected.shape == lr.shape and torch.allclose(expected, lr, atol=1e-6):
                offsets.add((down, right))
                tops.add(row)
    assert len(offsets) > 5 if shift else offsets == {(0, 0)}
    assert tops == ({1, 2} if shift else {0, 1, 2, 3})  # shifted crops keep away from the border


def test_a_crop_beside_the_border_sees_the_mirrored_photograph(tmp_path):
    """Also where it lies between the pixels of the photograph's own LR image."""
    pixels = texture(19, 16)
    save(tmp_path / "a.png", pixels)
    hr, lr, *_ = crops_of(tmp_path, batch=40, flip="none", transposes=False)[0]
    tops = [places(pixels, crop)[0][0] for crop in hr]
    assert set(tops) == {0, 1, 2, 3}
    mirrored = np.pad(pixels, [(32, 32), (32, 32), (0, 0)], mode="symmetric")
    for top, image in zip(tops, lr, strict=True):
        around = mirrored[top : top + 80, :80]
        expected = round_to_8_bit(reduce_bicubic(as_image(around), SCALE))[0, :, 8:12, 8:12]
        assert torch.allclose(expected, image, atol=1e-6)


def test_flips_and_transposes_turn_hr_and_lr_alike(tmp_path):
    pixels = texture(16, 16)
    save(tmp_path / "a.png", pixels)
    hr, lr, *_ = crops_of(tmp_path, batch=64)[0]
    ways = {}
    for image, small in zip(hr, lr, strict=True):
        assert torch.allclose(
            round_to_8_bit(reduce_bicubic(image[None], SCALE))[0], small, atol=1.01 / 255
        )
        ways[image.numpy().tobytes()] = True
    assert len(ways) == 8
    plain = crops_of(tmp_path, batch=64, flip="none", transposes=False)[0].hr
    assert torch.equal(plain, as_image(pixels).expand(64, -1, -1, -1))
    mirrored = crops_of(tmp_path, batch=64, flip="horizontal", transposes=False)[0].hr
    assert {image.numpy().tobytes() for image in mirrored} == {
        as_image(turned)[0].numpy().tobytes() for turned in (pixels, pixels[:, ::-1])
    }


def test_bilinear_reduction_is_a_triangle_of_twice_the_scale():
    """By hand: at ×2 the weights are 1/8, 3/8, 3/8, 1/8; the border repeats its pixel."""
    row = torch.tensor([0.0, 0.8, 0.4, 0.0, 1.0, 0.2])
    image = row.expand(1, 1, 6, 6)
    expected = [
        0.0 / 8 + 3 * 0.0 / 8 + 3 * 0.8 / 8 + 0.4 / 8,
        0.8 / 8 + 3 * 0.4 / 8 + 1 / 8,
        3 * 1.2 / 8 + 0.2 / 8,
    ]
    assert torch.allclose(
        reduce_bilinear(image, 2)[0, 0], torch.tensor(expected).expand(3, 3), atol=1e-6
    )


# LR files


@pytest.mark.parametrize("name", ["{}.png", "{}x4.bmp"])
def test_lr_files_are_found_by_name_and_cut_on_their_grid(tmp_path, name):
    hr_pixels = texture(50, 47)
    lr_pixels = texture(12, 11, seed=1)
    save(tmp_path / "hr" / "sub" / "0001.png", hr_pixels)
    save(tmp_path / "lr" / "sub" / name.format("0001"), lr_pixels)
    crops = crops_of(
        tmp_path / "hr",
        lr=str(tmp_path / "lr"),
        hr_shift=3,
        batch=60,
        flip="none",
        transposes=False,
    )
    offsets = set()
    for hr, lr in zip(*crops[0][:2], strict=True):
        [(top, left)], [(small_top, small_left)] = places(hr_pixels, hr), places(lr_pixels, lr)
        offsets.add((top - 4 * small_top, left - 4 * small_left))
    assert len(offsets) > 20
    assert {abs(offset) for pair in offsets for offset in pair} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("kind", "mark", "side", "missing"),
    [
        ("lr", "x4", 8, "no LR image alone or alonex4"),
        ("teacher", "", 32, "no teacher's picture alone"),
    ],
)
def test_files_that_are_missing_or_of_another_size_are_reported_and_their_photographs_skipped(
    tmp_path,
    kind,
    mark,
    side,
    missing,
):
    for name in ("good", "alone", "wrong"):
        save(tmp_path / "hr" / f"{name}.png", texture(33, 32))
    save(tmp_path / kind / f"good{mark}.png", texture(side, side))
    save(tmp_path / kind / f"wrong{mark}.png", texture(side + 1, side))
    reports = []
    crops = crops_of(tmp_path / "hr", reports=reports, **{kind: str(tmp_path / kind)})
    assert len(crops.photos) == 1
    assert missing in reports[0]
    assert f"is not {side}×{side} px, as of 1/4 of the photograph" in reports[1]


# A teacher


def test_a_teachers_crop_lies_where_the_photographs_lies_and_is_turned_alike(tmp_path):
    """The teacher's picture is the photograph's negative, so a crop of any other place or turn
    differs."""
    for name, size in (("a", (50, 47)), ("b", (128, 96))):  # b is also used halved
        pixels = texture(*size, seed=len(name))
        save(tmp_path / "hr" / f"{name}.png", pixels)
        save(
            tmp_path / "teacher" / f"{name}.png",
            255 - pixels[: size[0] // 4 * 4, : size[1] // 4 * 4],
        )
    save(tmp_path / "teacher" / "b-halved1.png", 255 - halve(pixels))
    crops = crops_of(tmp_path / "hr", teacher=str(tmp_path / "teacher"), narrowest=48, batch=64)
    assert len(crops.photos.sizes) == 3
    for iteration in range(3):
        batch = crops[iteration]
        assert torch.allclose(batch.teacher, 1 - batch.hr)


# Determinism


def test_crops_follow_from_seed_and_iteration_alone(folder):
    first = crops_of(folder)
    again = crops_of(folder)
    other = crops_of(folder, seed=1)
    again[3]  # having drawn before must not matter
    assert equal(first[7], again[7])
    for index in range(3):
        assert not torch.equal(first[7][index], first[8][index])
        assert not torch.equal(first[7][index], other[7][index])
        assert len(first[7][index].flatten(1).unique(dim=0)) == 4  # no two elements alike
    with pytest.raises(IndexError, match="iteration 100 of 100"):
        first[len(first)]


def test_a_seed_gives_the_crops_that_it_always_gave(folder):
    """So that a run that was begun with an older version goes on with the same ones."""
    batch = crops_of(folder, choose_of=3, hr_shift=1)[5]
    found = [
        hashlib.sha256(part.contiguous().numpy().tobytes()).hexdigest()[:16] for part in batch[:3]
    ]
    assert found == GOLDEN


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_the_batch_that_one_would_have(folder, ranks):
    whole = crops_of(folder, choose_of=2, hr_shift=1)[5]
    for rank in range(ranks):
        share = crops_of(folder, choose_of=2, hr_shift=1, rank=rank, ranks=ranks)[5]
        for mine, everything in zip(share[:3], whole[:3], strict=True):
            assert torch.equal(mine, everything[rank::ranks])
