import errno
import gc
import math
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from srflow_sdk import ArgumentError, ImageError, Latents
from srflow_sdk.latents import arrays

from .pictures import MODEL, normal_arrays, normal_latents


def assert_equal(one, other):
    assert list(one.levels) == list(other.levels)
    for level, array in one.levels.items():
        np.testing.assert_array_equal(array, other.levels[level])


def test_they_cannot_be_changed_from_outside():
    given = normal_arrays(padded_height=96, padded_width=72)
    latents = Latents(given, height=90, width=70, model_sha256=MODEL)
    before = latents.levels[1].copy()
    frozen = arrays.read_only(normal_arrays(padded_height=96, padded_width=72))
    kept = Latents(frozen, height=90, width=70, model_sha256=MODEL)
    assert all(np.shares_memory(kept.levels[level], array) for level, array in frozen.items())  # which need no copy
    given[1][:] = 5
    np.testing.assert_array_equal(latents.levels[1], before)
    for array in (latents.levels[1], latents.scaled(0.5).levels[1]):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0, 0] = 1
    with pytest.raises(TypeError):
        latents.levels[1] = before
    with pytest.raises(AttributeError):
        latents.height = 3


def test_bits_per_dimension_is_for_8_bit_levels():
    latents = normal_latents(log_likelihood=-1000.0)
    assert latents.log_likelihood == -1000
    assert latents.bits_per_dimension == pytest.approx(8 + 1000 / (3 * 90 * 70 * math.log(2)))


def test_log_likelihood_is_forgotten_once_they_change():
    latents = normal_latents(log_likelihood=5.0)
    assert [one.log_likelihood for one in (latents.scaled(0.5), latents.normalised(1))] == [None] * 2
    assert [one.log_likelihood for one in (latents.scaled(1), latents.scaled({2: 1}))] == [5, 5]
    assert latents == latents.scaled(1)  # the same object: nothing changed
    assert latents != normal_latents(log_likelihood=5.0)


def test_scaled_multiplies_the_levels_that_have_a_tau():
    latents = normal_latents()
    for level, array in latents.scaled(0.3).levels.items():
        np.testing.assert_array_equal(array, latents.levels[level] * np.float32(0.3))
    result = latents.scaled({1: 0, 3: 2})
    assert not result.levels[1].any()
    np.testing.assert_array_equal(result.levels[2], latents.levels[2])
    np.testing.assert_array_equal(result.levels[3], latents.levels[3] * 2)


def test_odd_arrays_are_refused_in_one_line():
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
        (good, {"precision": "fp8"}, "^precision is 'fp8'; it must be one of bundle, bf16, int8"),
    ]
    for levels, changed, message in cases:
        with pytest.raises(ArgumentError, match=message):
            Latents(levels, **{**usual, **changed})


def test_repr_says_size_levels_and_bits():
    shown = repr(normal_latents(log_likelihood=0.0).scaled({1: 1}))
    assert shown == ("Latents(90×70, level 1: 6×48×36, level 2: 12×24×18, level 3: 48×12×9, 8.000 bits per dimension)")


@pytest.fixture
def mapped(monkeypatch, tmp_path):
    """Small latents are mapped too, from files in this folder."""
    monkeypatch.setattr(arrays, "MAPPED_BEYOND_BYTES", 100_000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def open_files(folder):
    """Mappings of (deleted) files in a folder, by this process."""
    return Path("/proc/self/maps").read_text().count(str(folder))


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="mappings are only listed on Linux")  # noqa: PTH110
def test_large_latents_are_mapped_from_files_that_vanish_with_them(mapped):
    latents = normal_latents(height=80, width=160)
    assert open_files(mapped) == 3
    assert list(mapped.iterdir()) == []
    results = [latents.normalised(0.9, over=over) for over in ("spatial", "local", "global")]
    results.append(latents.scaled(0.5))
    part = results[0].levels[1][0]
    assert open_files(mapped) == 15
    del results, latents
    gc.collect()
    assert open_files(mapped) == 1
    assert np.isfinite(part).all()
    small = normal_latents(height=16, width=16)
    assert open_files(mapped) == 1
    del part, small
    assert open_files(mapped) == 0


def test_mapped_latents_equal_those_in_memory(monkeypatch, tmp_path):
    expected = normal_latents(height=80, width=160).normalised(0.9, over="local")
    monkeypatch.setattr(arrays, "MAPPED_BEYOND_BYTES", 0)
    result = normal_latents(height=80, width=160).normalised(0.9, over="local")
    assert_equal(result, expected)
    result.save(tmp_path / "a.safetensors")
    assert_equal(Latents.load(tmp_path / "a.safetensors"), expected)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system never reserves room")
def test_a_disk_that_is_full_or_not_there_is_said_before_anything_is_mapped(mapped, monkeypatch):
    def refused(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refused)
    with pytest.raises(ImageError, match=r"^the latents need 0\.0 GB in .*: No space left on device; TMPDIR names"):
        normal_latents(height=80, width=160)
    monkeypatch.setattr(tempfile, "tempdir", str(mapped / "missing"))
    with pytest.raises(ImageError, match=r"^the latents need 0\.0 GB in .*missing: No such file.*; TMPDIR names"):
        normal_latents(height=80, width=160)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system never reserves room")
def test_room_that_cannot_be_reserved_is_written(mapped, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    levels = normal_latents(height=80, width=160).levels
    for level, array in normal_arrays(padded_height=80, padded_width=160).items():
        np.testing.assert_array_equal(levels[level], array)
