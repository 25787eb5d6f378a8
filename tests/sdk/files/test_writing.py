from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import ImageWriter, check_writable, read_image, remove_stale_parts, write_image
from tests.sdk.files.pictures import WRITTEN, names, noise, picture


def writer(path: Path, pixels: np.ndarray) -> ImageWriter:
    height, width, channels = pixels.shape
    return ImageWriter(path, width=width, height=height, channels=channels, dtype=pixels.dtype)


def open_descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("counts", [(1,) * 50, (7, 40, 3), (50,)])
def test_the_file_does_not_depend_on_how_rows_came(tmp_path: Path, suffix: str, counts: tuple[int, ...]) -> None:
    pixels = noise(50, 33)
    write_image(tmp_path / f"whole{suffix}", pixels)
    with writer(tmp_path / f"rows{suffix}", pixels) as rows:
        for start, count in zip(np.cumsum((0, *counts)), counts, strict=False):
            rows.write_rows(pixels[start : start + count])
    assert (tmp_path / f"rows{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


@pytest.mark.parametrize(
    "name", ["a[1].png", "a.png[page=1].png", "ü 写真.png", "-o.png", "%d.png", "é" * 125 + ".png", "n" * 251 + ".png"]
)
def test_odd_file_names_are_only_names(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, picture())
    assert names(tmp_path) == [name]
    np.testing.assert_array_equal(read_image(tmp_path / name).pixels, picture())


@pytest.mark.skipif(sys.platform != "linux", reason="names are any bytes on Linux only")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\xfe.png")
    write_image(path, picture())
    np.testing.assert_array_equal(read_image(path).pixels, picture())


def test_nothing_is_seen_under_the_target_before_the_end(tmp_path: Path) -> None:
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
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("written", [0, 250, 500])
def test_an_exception_in_the_block_leaves_the_old_file_and_no_other(
    tmp_path: Path, suffix: str, error: type[BaseException], written: int
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")
    threads = threading.active_count()
    with pytest.raises(error), writer(path, noise(500, 300)) as rows:  # noqa: PT012
        rows.write_rows(noise(500, 300)[:written])
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == [f"a{suffix}"]
    assert threading.active_count() == threads


def test_too_few_and_too_many_rows_are_errors_and_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="only 39 of 40 rows"), writer(tmp_path / "a.png", picture()) as rows:
        rows.write_rows(picture()[:39])
    with pytest.raises(ArgumentError, match="more rows"), writer(tmp_path / "a.png", picture()) as rows:
        rows.write_rows(picture(height=41))
    assert names(tmp_path) == []


@pytest.mark.parametrize("bad", [picture(3, np.uint16), picture(4), picture(width=55), picture()[..., 0]])
def test_rows_that_do_not_fit_are_errors(tmp_path: Path, bad: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match="do not fit"), writer(tmp_path / "a.png", picture()) as rows:
        rows.write_rows(bad)


def test_rows_outside_the_block_are_errors(tmp_path: Path) -> None:
    rows = writer(tmp_path / "a.png", picture())
    with pytest.raises(ArgumentError, match="with-block"):
        rows.write_rows(picture())
    with pytest.raises(ArgumentError, match="context manager"):
        rows.finish()


# Beyond the limit every write fails, as on a full disk; in a process of its own, because limits do not end.
FAILING = """
import resource, signal, sys, threading
import numpy as np
from pathlib import Path
from typing import Any
from srflow_sdk.errors import ImageError
from srflow_sdk.files import ImageWriter, libvips
if sys.argv[4:]:
    libvips.reason = lambda error: sys.argv[4]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
rows = np.random.default_rng(0).integers(0, 256, (100, 600, 3), dtype=np.uint8)
rows = rows if sys.argv[3] == "uint8" else rows / np.float32(255)
number = 0
try:
    with ImageWriter(Path(sys.argv[1]), width=600, height=int(sys.argv[2]), channels=3, dtype=rows.dtype) as writer:
        for number in range(int(sys.argv[2]) // 100):
            writer.write_rows(rows)
except ImageError as error:
    print(number, threading.active_count(), error)
"""


@pytest.mark.parametrize(
    ("suffix", "height", "dtype"),
    [
        (".png", 20_000, "uint8"),
        (".jpg", 20_000, "uint8"),
        (".tif", 20_000, "uint8"),
        (".tif", 20_000, "float32"),
        (".webp", 500, "uint8"),
        (".avif", 500, "uint8"),
    ],
)
def test_a_full_disk_ends_writing_promptly(tmp_path: Path, suffix: str, height: int, dtype: str) -> None:
    command = [sys.executable, "-c", FAILING, str(tmp_path / f"a{suffix}"), str(height), dtype]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    number, threads, message = run.stdout.split(" ", 2)
    assert int(number) < 100  # of 200; WebP writes at the end
    assert threads == "1"
    assert message == f"{tmp_path / f'a{suffix}'} cannot be written: the disk is full, or a limit is reached\n"
    assert run.stderr == ""
    assert names(tmp_path) == []


def test_a_full_disk_is_called_so_whatever_the_encoder_says(tmp_path: Path) -> None:
    said = "vips2tiff: Attempt to write value larger than 0xFFFFFFFF in Classic TIFF file."
    command = [sys.executable, "-c", FAILING, str(tmp_path / "a.tif"), "20000", "float32", said]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.endswith("cannot be written: the disk is full, or a limit is reached\n")


def test_other_failures_are_not_blamed_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("out of paint")

    monkeypatch.setattr("srflow_sdk.files.writing.attach", fail)
    with pytest.raises(ImageError, match="cannot be written: out of paint"):
        write_image(tmp_path / "a.tif", picture())
    assert names(tmp_path) == []


def test_many_writers_at_once_in_one_thread(tmp_path: Path) -> None:
    pictures = [np.roll(noise(300, 200), number, 0) for number in range(8)]
    writers = [writer(tmp_path / f"{number}.png", pictures[0]) for number in range(8)]
    for opened in writers:
        opened.__enter__()
    for start in range(0, 300, 60):
        for opened, pixels in zip(writers, pictures, strict=True):
            opened.write_rows(pixels[start : start + 60])
    for opened in writers:
        opened.__exit__(None, None, None)
    for number, pixels in enumerate(pictures):
        np.testing.assert_array_equal(read_image(tmp_path / f"{number}.png").pixels, pixels)


def test_many_threads_write_without_growth_of_descriptors(tmp_path: Path) -> None:
    def write(number: int) -> None:
        write_image(tmp_path / f"{number}{WRITTEN[number % len(WRITTEN)]}", picture())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(60)))  # libvips keeps a few pipes, whose number depends on the threads
        before = open_descriptors()
        list(pool.map(write, range(60)))
        after = open_descriptors()
    assert len(names(tmp_path)) == 60
    assert after <= before + 4


@pytest.mark.parametrize("name", ["a.png", "n" * 251 + ".png"])
def test_parts_of_killed_processes_are_removed_and_those_in_work_are_not(tmp_path: Path, name: str) -> None:
    code = (
        "import os, sys, numpy as np; from pathlib import Path; from srflow_sdk.files import ImageWriter\n"
        "w = ImageWriter(Path(sys.argv[1]), width=9, height=9, channels=1, dtype=np.uint8)\n"
        "w.__enter__(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=False).returncode == -9
    (stale,) = names(tmp_path)
    (tmp_path / ".other.png.0123abcd.part").write_bytes(b"")
    with writer(tmp_path / name, picture()) as rows:
        assert len(names(tmp_path)) == 3
        remove_stale_parts(tmp_path / name)
        assert stale not in names(tmp_path)
        assert len(names(tmp_path)) == 2
        rows.write_rows(picture())
    assert sorted(names(tmp_path)) == sorted([".other.png.0123abcd.part", name])
    remove_stale_parts(tmp_path / "absent" / "a.png")


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4, 3), bool), np.zeros((4, 4, 5), np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_pixels_that_files_cannot_hold_are_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(tmp_path / "a.png", pixels)
    assert names(tmp_path) == []


@pytest.mark.parametrize("suffix", WRITTEN)
def test_values_that_are_not_finite_are_refused(tmp_path: Path, suffix: str) -> None:
    pixels = picture(3, np.float32)
    pixels[3, 3] = np.nan
    with pytest.raises(ImageError, match="NaN or infinite"):
        write_image(tmp_path / f"a{suffix}", pixels)
    assert names(tmp_path) == []


def test_floats_beyond_the_range_are_clipped(tmp_path: Path) -> None:
    write_image(tmp_path / "a.tif", picture(1, np.float32) * 2 - 0.5)
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.tif").pixels, np.clip(picture(1, np.float32) * 2 - 0.5, 0, 1)
    )


@pytest.mark.parametrize(
    ("name", "size"),
    [("a.webp", (16_384, 1)), ("a.jpg", (1, 65_501)), ("a.avif", (70_000, 9)), ("a.png", (700_000, 1))],
)
def test_sizes_that_formats_cannot_hold_are_known_before_the_work(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"{size[0]}×{size[1]} pixels"):
        check_writable(name, size=size)


@pytest.mark.parametrize(("name", "size"), [("a.webp", (16_383, 2)), ("a.jpg", (65_500, 2)), ("a.png", (600_000, 1))])
def test_the_largest_sides(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    write_image(tmp_path / name, np.zeros((size[1], size[0], 4 if name == "a.png" else 1), np.uint8))
    assert read_image(tmp_path / name).pixels.shape[:2] == size[::-1]


def test_unknown_endings_and_absent_folders_are_typed_errors(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"\.png, \.jpg"):
        write_image(tmp_path / "a.bmp", picture())
    with pytest.raises(ImageError, match="cannot be written: No such file"):
        write_image(tmp_path / "absent" / "a.png", picture())
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match="cannot be written: Is a directory"):
        write_image(tmp_path / "folder.png", picture())
    assert names(tmp_path) == ["folder.png"]


def test_check_writable_gives_the_ending_and_refuses_transparency_in_jpeg() -> None:
    assert check_writable("a.TIFF") == ".tiff"
    with pytest.raises(ImageError, match="no transparency"):
        check_writable("a.jpg", channels=4)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_quality_costs_bytes(tmp_path: Path, suffix: str) -> None:
    for quality in (10, 60, 95):
        write_image(tmp_path / f"{quality}{suffix}", noise(40, 56), quality=quality)
    sizes = [(tmp_path / f"{quality}{suffix}").stat().st_size for quality in (10, 60, 95)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".avif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_lossless_pictures_keep_every_pixel(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = noise(40, 56, channels)
    pixels[..., 3:] |= 1  # colours that nobody sees may change
    write_image(tmp_path / f"a{suffix}", pixels, lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}").pixels, pixels)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("a.png", {"quality": 90}, "PNG is lossless and has no quality"),
        ("a.jpg", {"lossless": True}, "JPEG cannot be lossless; use .png"),
        ("a.webp", {"lossless": True, "quality": 90}, "leave out one of them"),
        ("a.jpg", {"quality": 101}, "quality is 101"),
        ("a.jpg", {"quality": 0}, "quality is 0"),
        ("a.jpg", {"quality": "high"}, "quality is 'high'"),
        ("a.jpg", {"quality": True}, "quality is True"),
        ("a.webp", {"lossless": "yes"}, "lossless is 'yes'"),
    ],
)
def test_what_a_format_does_not_offer_is_refused(tmp_path: Path, name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        write_image(tmp_path / name, picture(), **options)
    assert not list(tmp_path.iterdir())
