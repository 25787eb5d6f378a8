from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from srflow_sdk.errors import ImageError
from srflow_sdk.files import open_image, read_image, write_image
from tests.sdk.files.pictures import WRITTEN, noise, picture


@pytest.mark.parametrize("suffix", WRITTEN)
def test_rows_that_stream_in_any_thread_are_those_of_the_whole_file(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / f"a{suffix}", noise(300, 17))
    whole = read_image(tmp_path / f"a{suffix}").pixels
    with open_image(tmp_path / f"a{suffix}") as reader:
        assert (reader.width, reader.height, reader.channels, reader.dtype) == (17, 300, 3, np.uint8)
        parts = []
        for count in (1, 1, 200, 98):
            thread = threading.Thread(target=lambda count=count: parts.append(reader.read_rows(count)))
            thread.start()
            thread.join()
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_more_rows_than_there_are_and_closed_files_are_typed_errors(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", picture())
    reader = open_image(tmp_path / "a.png")
    reader.read_rows(39)
    with pytest.raises(ImageError, match="2 rows were requested with 1 left"):
        reader.read_rows(2)
    reader.close()
    reader.close()
    with pytest.raises(ImageError, match="closed"):
        reader.read_rows(1)


def test_a_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    for pixels in (picture(), 255 - picture()):
        write_image(tmp_path / "a.png", pixels)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, pixels)


@pytest.mark.parametrize(
    ("value", "says"),
    [(-0.1, r"must be in \[0, 1\]"), (1.1, r"must be in \[0, 1\]"), (np.inf, "to inf"), (np.nan, r"\(NaN\)")],
)
def test_floats_out_of_range_are_refused_with_the_range(tmp_path: Path, value: float, says: str) -> None:
    pixels = picture(3, np.float32)
    pixels[20, 20, 1] = value
    tifffile.imwrite(tmp_path / "f.tif", pixels, photometric="rgb")
    with pytest.raises(ImageError, match=says):
        read_image(tmp_path / "f.tif")


@pytest.mark.parametrize("dtype", ["float64", "int16", "complex64"])
def test_other_types_of_pixels_are_refused(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "t.tif", np.ones((5, 5, 3), dtype), photometric="rgb")
    with pytest.raises(ImageError, match="save it with"):
        read_image(tmp_path / "t.tif")
    tifffile.imwrite(tmp_path / "t.tif", np.ones((5, 6, 5), np.uint8), photometric="rgb")
    with pytest.raises(ImageError, match="5 channels"):
        read_image(tmp_path / "t.tif")


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".tif", ".avif"])
def test_animations_and_pages_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(picture(3) // divisor) for divisor in (1, 2, 3)]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="an animation" if suffix == ".avif" else "3 frames"):
        read_image(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("full_first", [True, False])
def test_a_page_that_is_a_smaller_version_is_no_second_picture(tmp_path: Path, full_first: bool) -> None:
    pages = [(picture(), 0), (picture()[::4, ::4], 1), (picture()[::8, ::8], 1)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for pixels, kind in pages if full_first else pages[::-1]:
            file.write(pixels, photometric="rgb", subfiletype=kind, metadata=None)
    if full_first:
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, picture())
    else:
        with pytest.raises(ImageError, match="3 frames or pages"):
            read_image(tmp_path / "a.tif")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read where Linux has it")
def test_memory_does_not_grow_with_the_height(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = """
import sys
from pathlib import Path
from srflow_sdk.files import open_image
with open_image(sys.argv[1]) as reader:
    for _ in range(reader.height // 50):
        reader.read_rows(50)
# not ru_maxrss, which begins with that of the process which started this one
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024)
"""
    used = []
    for height in (500, 20_000):
        write_image(tmp_path / "a.jpg", np.zeros((height, 2000, 3), np.uint8))
        run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.jpg")], capture_output=True, check=True)
        used.append(int(run.stdout))
    assert used[1] < used[0] + 40  # the larger one has 120 MB of pixels
