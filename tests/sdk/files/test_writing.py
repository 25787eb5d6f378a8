import subprocess
import sys
import threading

import numpy as np
import pytest

from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import ImageWriter, check_writable, read_image, write_image
from tests.sdk.files.pictures import WRITTEN, names, noise, picture


def writer(path, pixels):
    height, width, channels = pixels.shape
    return ImageWriter(path, width=width, height=height, channels=channels, dtype=pixels.dtype)


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("counts", [(1,) * 50, (7, 40, 3)])
def test_the_file_does_not_depend_on_how_rows_came(tmp_path, suffix, counts):
    pixels = noise(50, 33)
    write_image(tmp_path / f"whole{suffix}", pixels)
    with writer(tmp_path / f"rows{suffix}", pixels) as rows:
        for start, count in zip(np.cumsum((0, *counts)), counts, strict=False):
            rows.write_rows(pixels[start : start + count])
    assert (tmp_path / f"rows{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "a[1].png",
        "a.png[page=1].png",
        "ü 写真.png",
        "-o.png",
        "%d.png",
        "é" * 125 + ".png",
        pytest.param("\udcff\udcfe.png", marks=pytest.mark.not_on_windows("names are text")),
    ],
)
def test_odd_file_names_are_only_names(tmp_path, name):
    write_image(tmp_path / name, picture())
    assert names(tmp_path) == [name]
    np.testing.assert_array_equal(read_image(tmp_path / name).pixels, picture())


def test_nothing_is_seen_under_the_target_before_the_end(tmp_path):
    with writer(tmp_path / "a.png", picture()) as rows:
        rows.write_rows(picture())
        (part,) = names(tmp_path)
        rows.finish()
        assert names(tmp_path) == [part]
        rows.finish()
    assert part.startswith(".a.png.")
    assert part.endswith(".part")
    assert names(tmp_path) == ["a.png"]


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize(
    ("error", "written"), [(RuntimeError, 0), (KeyboardInterrupt, 250), (RuntimeError, 500)]
)
def test_an_exception_in_the_block_leaves_the_old_file_and_no_other(
    tmp_path, suffix, error, written
):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")
    threads = threading.active_count()
    with pytest.raises(error), writer(path, noise(500, 30)) as rows:  # noqa: PT012
        rows.write_rows(noise(500, 30)[:written])
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == [f"a{suffix}"]
    assert threading.active_count() == threads


def test_rows_that_are_missing_are_an_error_and_leave_no_file(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(ImageError, match="only 39 of 40 rows"), writer(path, picture()) as rows:
        rows.write_rows(picture()[:39])
    assert names(tmp_path) == []


# Beyond the limit every write fails, as on a full disk; in a process of its own, because limits do
# not end.
FAILING = """
import resource, signal, sys, threading
import numpy as np
from pathlib import Path
from srflow_sdk.errors import ImageError
from srflow_sdk.files import ImageWriter
from srflow_sdk.system import libvips
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
noise = np.random.default_rng(0).integers(0, 256, (100, 600, 3), dtype=np.uint8)
reason = libvips.reason
for suffix, height, said in (
    (".png", 20_000, ""),
    (".tif", 20_000, ""),
    (".tif", 20_000, "the TIFF is too large"),
    (".jpg", 20_000, ""),
    (".webp", 500, ""),
    (".avif", 500, ""),
):
    rows = noise if suffix != ".tif" else noise / np.float32(255)
    libvips.reason = (lambda error: said) if said else reason  # whatever the encoder says
    number = 0
    try:
        size = {"width": 600, "height": height, "channels": 3}
        with ImageWriter(Path("a" + suffix), **size, dtype=rows.dtype) as writer:
            for number in range(height // 100):
                writer.write_rows(rows)
    except ImageError as error:
        print(number < 100, threading.active_count(), error)
"""


@pytest.mark.not_on_windows("limits of files")
def test_a_full_disk_ends_writing_promptly_and_is_called_so(tmp_path):
    command = [sys.executable, "-c", FAILING]
    run = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path
    )
    expected = "True 1 {} cannot be written: the disk is full, or a limit is reached"
    files = ("a.png", "a.tif", "a.tif", "a.jpg", "a.webp", "a.avif")
    assert run.stdout.splitlines() == [expected.format(name) for name in files]
    assert run.stderr == ""
    assert names(tmp_path) == []


def test_other_failures_are_not_blamed_on_the_disk(tmp_path, monkeypatch):
    def fail(*_arguments, **_options):
        raise RuntimeError("out of paint")

    monkeypatch.setattr("srflow_sdk.files.writing.attach", fail)
    with pytest.raises(ImageError, match="cannot be written: out of paint"):
        write_image(tmp_path / "a.tif", picture())
    assert names(tmp_path) == []


def test_floats_beyond_the_range_are_clipped(tmp_path):
    pixels = picture(1, np.float32) * 2 - 0.5
    write_image(tmp_path / "a.tif", pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, np.clip(pixels, 0, 1))


def test_the_largest_sides(tmp_path):
    for name, size in {"a.webp": (16_383, 2), "a.jpg": (65_500, 2), "a.png": (600_000, 1)}.items():
        write_image(
            tmp_path / name, np.zeros((size[1], size[0], 4 if name == "a.png" else 1), np.uint8)
        )
        assert read_image(tmp_path / name).pixels.shape[:2] == size[::-1]
    for name, size in {
        "a.webp": (16_384, 1),
        "a.jpg": (1, 65_501),
        "a.avif": (70_000, 9),
        "a.png": (700_000, 1),
    }.items():
        with pytest.raises(ImageError, match=f"{size[0]}×{size[1]} pixels"):
            check_writable(name, size=size)
    assert check_writable("a.TIFF") == ".tiff"


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_quality_costs_bytes(tmp_path, suffix):
    for quality in (10, 60, 95):
        write_image(tmp_path / f"{quality}{suffix}", noise(40, 56), quality=quality)
    sizes = [(tmp_path / f"{quality}{suffix}").stat().st_size for quality in (10, 60, 95)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".avif"])
def test_lossless_pictures_keep_every_pixel(tmp_path, suffix):
    pixels = noise(40, 56, 4)
    pixels[..., 3:] |= 1  # colours that nobody sees may change
    write_image(tmp_path / f"a{suffix}", pixels, lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}").pixels, pixels)


NAN = np.full((4, 4, 3), np.nan, np.float32)


@pytest.mark.parametrize(
    ("name", "pixels", "options", "says"),
    [
        ("a.png", np.zeros((4, 4, 3), bool), {}, "cannot be written"),
        ("a.png", NAN, {}, "NaN or infinite"),
        ("a.bmp", picture(), {}, r"\.png, \.jpg"),
        ("absent/a.png", picture(), {}, "cannot be written: No such file"),
        ("folder.png", picture(), {}, "cannot be written: (Is a directory|Access)"),
        ("a.png", picture(), {"quality": 90}, "PNG is lossless and has no quality"),
        ("a.jpg", picture(), {"lossless": True}, "JPEG cannot be lossless; use .png"),
        ("a.webp", picture(), {"lossless": True, "quality": 90}, "leave out one of them"),
        ("a.jpg", picture(), {"quality": 101}, "quality is 101"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path, name, pixels, options, says):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises((ImageError, ArgumentError), match=says):
        write_image(tmp_path / name, pixels, **options)
    assert names(tmp_path) == ["folder.png"]
