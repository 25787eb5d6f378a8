from __future__ import annotations

import errno
import gc
import math
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from srflow_sdk import ArgumentError, ImageError, Latents
from srflow_sdk.drawing.tiles import Window
from srflow_sdk.latents import arrays

from .pictures import MODEL, changed_by, normal_arrays, normal_latents


def assert_equal(one: Latents, other: Latents) -> None:
    assert list(one.levels) == list(other.levels)
    for level, array in one.levels.items():
        np.testing.assert_array_equal(array, other.levels[level])


def test_they_cannot_be_changed_from_outside() -> None:
    given = normal_arrays(padded_height=96, padded_width=72)
    latents = Latents(given, height=90, width=70, model_sha256=MODEL)
    before = latents.levels[1].copy()
    given[1][:] = 5
    np.testing.assert_array_equal(latents.levels[1], before)
    window = Window(top=0, left=0, height=8, width=8)
    for array in (latents.levels[1], latents.scaled(0.5).levels[1], latents.window(window, 4)[1]):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0, 0] = 1
    with pytest.raises(TypeError):
        latents.levels[1] = before  # type: ignore[index]
    with pytest.raises(AttributeError):
        latents.height = 3  # type: ignore[misc]


def test_read_only_arrays_are_not_copied() -> None:
    given = arrays.read_only(normal_arrays(padded_height=96, padded_width=72))
    latents = Latents(given, height=90, width=70, model_sha256=MODEL)
    assert all(np.shares_memory(latents.levels[level], array) for level, array in given.items())


def test_bits_per_dimension_is_for_8_bit_levels() -> None:
    latents = normal_latents(log_likelihood=-1000.0)
    assert latents.log_likelihood == -1000
    assert latents.bits_per_dimension == pytest.approx(8 + 1000 / (3 * 90 * 70 * math.log(2)))


def test_log_likelihood_is_forgotten_once_they_change() -> None:
    latents = normal_latents(log_likelihood=5.0)
    other = normal_latents(seed=1, log_likelihood=6.0)
    mask = np.ones((90, 70), bool)
    changed = [latents.scaled(0.5), latents.normalised(1), latents.mixed(other, mask), latents.interpolated(other, 0.5)]
    assert [one.log_likelihood for one in changed] == [None] * 4
    kept = [latents.scaled(1), latents.scaled({2: 1}), latents.interpolated(other, 0), latents.interpolated(other, 1)]
    assert [one.log_likelihood for one in kept] == [5, 5, 5, 6]


def test_scaled_multiplies_the_levels_that_have_a_tau() -> None:
    latents = normal_latents()
    for level, array in latents.scaled(0.3).levels.items():
        np.testing.assert_array_equal(array, latents.levels[level] * np.float32(0.3))
    result = latents.scaled({1: 0, 3: 2})
    assert not result.levels[1].any()
    np.testing.assert_array_equal(result.levels[2], latents.levels[2])
    np.testing.assert_array_equal(result.levels[3], latents.levels[3] * 2)


def test_window_is_the_part_of_a_window_of_the_lr_image() -> None:
    latents = normal_latents()
    parts = latents.window(Window(top=4, left=2, height=6, width=8), 4)
    assert {level: part.shape for level, part in parts.items()} == {1: (6, 12, 16), 2: (12, 6, 8), 3: (48, 3, 4)}
    np.testing.assert_array_equal(parts[1], latents.levels[1][:, 8:20, 4:20])
    np.testing.assert_array_equal(parts[3], latents.levels[3][:, 2:5, 1:5])
    for wrong in (
        Window(top=1, left=0, height=2, width=2),
        Window(top=0, left=12, height=2, width=8),
        Window(top=-2, left=0, height=2, width=2),
    ):
        with pytest.raises(ArgumentError):
            latents.window(wrong, 4)


def test_mixed_takes_the_others_where_any_pixel_is_inside() -> None:
    latents, other = normal_latents(), normal_latents(seed=1)
    mask = np.zeros((90, 70), bool)
    mask[9, 17] = mask[89, 69] = True
    result = latents.mixed(other, mask)
    for level, array in result.levels.items():
        expected = latents.levels[level].copy()
        for y, x in ((9 >> level, 17 >> level), (89 >> level, 69 >> level)):
            expected[:, y, x] = other.levels[level][:, y, x]
        np.testing.assert_array_equal(array, expected)
    inverse = other.mixed(latents, ~mask)
    assert (inverse.levels[1][:, :45, :35] != result.levels[1][:, :45, :35]).any(axis=0).sum() == 2  # any, both ways


def test_interpolated_keeps_the_size_of_normal_latents() -> None:
    latents, other = normal_latents(), normal_latents(seed=1)
    for t in (0.1, 0.5, 0.8):
        result = latents.interpolated(other, t)
        for level, array in result.levels.items():
            size, sizes = np.linalg.norm(array), [np.linalg.norm(one.levels[level]) for one in (latents, other)]
            assert min(sizes) * 0.99 < size < max(sizes) * 1.01
    half, back = latents.interpolated(other, 0.3), other.interpolated(latents, 0.7)
    np.testing.assert_allclose(half.levels[2], back.levels[2], atol=1e-6)
    shares = [
        np.corrcoef(latents.interpolated(other, t).levels[1].ravel(), other.levels[1].ravel())[0, 1]
        for t in (0.2, 0.5, 0.9)
    ]
    np.testing.assert_allclose(shares, np.sin(np.array([0.2, 0.5, 0.9]) * np.pi / 2), atol=0.03)


def test_interpolated_gives_both_ends_and_keeps_equal_latents_bit_for_bit() -> None:
    latents, other = normal_latents(), normal_latents(seed=1)
    assert_equal(latents.interpolated(other, 0), latents)
    assert_equal(latents.interpolated(other, 1.0), other)
    assert_equal(latents.interpolated(normal_latents(log_likelihood=3), 0.37), latents)


def test_interpolated_goes_along_the_line_where_there_is_no_arc() -> None:
    latents = normal_latents()
    zero, opposite = latents.scaled(0), changed_by(latents, lambda level, array: -array)
    np.testing.assert_allclose(zero.interpolated(latents, 0.25).levels[1], latents.levels[1] / 4, atol=1e-6)
    np.testing.assert_allclose(latents.interpolated(opposite, 0.25).levels[1], latents.levels[1] / 2, atol=1e-6)


def test_latents_of_another_model_or_size_are_refused() -> None:
    latents, mask = normal_latents(), np.ones((90, 70), bool)
    stranger = Latents(dict(latents.levels), height=90, width=70, model_sha256="f" * 64)
    for other, message in (
        (stranger, r"^these latents are of .* the model 012345678\w+…, the others of .* ffff\w+…; invert"),
        (normal_latents(height=89), r"^these latents are of 90×70 pixels .*, the others of 89×70 pixels"),
    ):
        for call in (
            lambda other=other: latents.mixed(other, mask),
            lambda other=other: latents.interpolated(other, 0.5),
        ):
            with pytest.raises(ArgumentError, match=message):
                call()
    with pytest.raises(ArgumentError, match=r"^other is ndarray; it must be Latents"):
        latents.mixed(mask, mask)  # type: ignore[arg-type]
    for t in (-0.1, 1.1, math.nan, "a", True):
        with pytest.raises(ArgumentError, match=r"^t is .*; it must be a finite number from 0 to 1$"):
            latents.interpolated(latents, t)  # type: ignore[arg-type]


def test_odd_arrays_are_refused_in_one_line() -> None:
    good = normal_arrays(padded_height=96, padded_width=72)
    usual = {"height": 90, "width": 70, "model_sha256": MODEL}
    cases = [
        ({}, {}, "^levels is empty"),
        ({0: good[1]}, {}, r"^a level is 0; it must be a whole number from 1 to 16$"),
        ({1: good[1].astype(np.float64)}, {}, r"^level 1 is float64 \(6, 48, 36\); it must be a float32 array C×h×w$"),
        ({1: good[1][0]}, {}, r"^level 1 is float32 \(48, 36\)"),
        ({1: good[1], 2: good[1]}, {}, r"^the levels are of pictures of 96×72, 192×144, not of one"),
        (good, {"height": 97}, r"^the levels are of pictures of 96×72, not of one of 97×70$"),
        (good, {"width": 0}, "^width is 0"),
        (good, {"model_sha256": "x4-small"}, r"^model_sha256 is 'x4-small'; it must be 64 hexadecimal digits$"),
        (good, {"log_likelihood": math.nan}, r"^log_likelihood is nan; it must be a finite number$"),
    ]
    for levels, changed, message in cases:
        with pytest.raises(ArgumentError, match=message):
            Latents(levels, **{**usual, **changed})


def test_repr_says_size_levels_deviations_and_bits() -> None:
    shown = repr(normal_latents(log_likelihood=0.0).scaled({1: 1}))
    assert shown.startswith("Latents(90×70, level 1: 6×48×36 deviation 1.0")
    assert shown.endswith("8.000 bits per dimension)")
    assert "level 3: 48×12×9 deviation 0.0" in repr(normal_latents().scaled(0.01))
    broken = changed_by(normal_latents(), lambda level, array: array * np.nan)
    assert "deviation nan" in repr(broken)


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Small latents are mapped too, from files in this folder."""
    monkeypatch.setattr(arrays, "MAPPED_BEYOND_BYTES", 100_000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def open_files(folder: Path) -> int:
    """Mappings of (deleted) files in a folder, by this process."""
    return Path("/proc/self/maps").read_text().count(str(folder))


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="mappings are only listed on Linux")  # noqa: PTH110
def test_large_latents_are_mapped_from_files_that_vanish_with_them(mapped: Path) -> None:
    latents, other = normal_latents(height=80, width=160), normal_latents(height=80, width=160, seed=1)
    assert open_files(mapped) == 6
    assert list(mapped.iterdir()) == []
    results = [latents.normalised(0.9, over=over) for over in ("spatial", "local", "global")]
    results += [latents.scaled(0.5), latents.mixed(other, np.ones((80, 160), bool)), latents.interpolated(other, 0.4)]
    part = results[0].levels[1][0]
    assert open_files(mapped) == 24
    del results, other, latents
    gc.collect()
    assert open_files(mapped) == 1
    assert np.isfinite(part).all()
    small = normal_latents(height=16, width=16)
    assert open_files(mapped) == 1
    del part, small
    assert open_files(mapped) == 0


def test_mapped_latents_equal_those_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = normal_latents(height=80, width=160).normalised(0.9, over="local")
    monkeypatch.setattr(arrays, "MAPPED_BEYOND_BYTES", 0)
    result = normal_latents(height=80, width=160).normalised(0.9, over="local")
    assert_equal(result, expected)
    result.save(tmp_path / "a.safetensors")
    assert_equal(Latents.load(tmp_path / "a.safetensors"), expected)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system never reserves room")
def test_a_full_disk_is_said_before_anything_is_mapped(mapped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refused)
    with pytest.raises(ImageError, match=r"^the latents need 0\.0 GB in .*: No space left on device; TMPDIR names"):
        normal_latents(height=80, width=160)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system never reserves room")
def test_room_that_cannot_be_reserved_is_written(mapped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    levels = normal_latents(height=80, width=160).levels
    for level, array in normal_arrays(padded_height=80, padded_width=160).items():
        np.testing.assert_array_equal(levels[level], array)


def test_a_folder_that_is_missing_is_named(mapped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(mapped / "missing"))
    with pytest.raises(ImageError, match=r"^the latents need 0\.0 GB in .*missing: No such file.*; TMPDIR names"):
        normal_latents(height=80, width=160)


def test_a_window_of_another_type_is_refused() -> None:
    latents = normal_latents(height=90, width=70)
    with pytest.raises(ArgumentError, match="window is NoneType; it must be a Window"):
        latents.window(None, 4)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="scale is None"):
        latents.window(Window(top=0, left=0, height=8, width=8), None)  # type: ignore[arg-type]


def test_equality_is_identity() -> None:
    latents = normal_latents(height=90, width=70)
    assert latents == latents.scaled(1)  # the same object: nothing changed
    assert latents != normal_latents(height=90, width=70)
