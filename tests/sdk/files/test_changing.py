"""Files that change while they are read: an error, whatever has been decoded by then."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from srflow_sdk.errors import ImageError
from srflow_sdk.files import open_image, read_image, write_image
from tests.sdk.files.pictures import WRITTEN, noise

CHANGED = "the file changed while it was read; try again when nothing writes to it any more"

TRUNCATES = """
import os, sys
from srflow_sdk.files import open_image
from srflow_sdk.errors import ImageError

for path in sys.argv[1:]:
    try:
        with open_image(path) as reader:
            reader.read_rows(1)
            os.truncate(path, os.path.getsize(path) // 20)
            reader.read_rows(reader.height - 1)
            reader.check_unchanged()
    except ImageError as error:
        print(error)
"""


def truncated_in_place(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def written_in_place(path: Path) -> None:
    """With the same length, and a time that is certainly another."""
    with path.open("r+b") as file:
        file.write(file.read(1))
    os.utime(path, ns=(0, 1))


def replaced(path: Path) -> None:
    """With all that can be seen but the inode."""
    status = path.stat()
    (path.parent / "new").write_bytes(path.read_bytes())
    os.utime(path.parent / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    (path.parent / "new").replace(path)


def test_a_file_that_becomes_shorter_is_an_error_and_not_a_signal(tmp_path: Path) -> None:
    paths = [tmp_path / f"a{suffix}" for suffix in (*WRITTEN, ".gif", ".bmp", ".png")]
    for path in paths:
        if path.suffix in WRITTEN:
            write_image(path, noise(600, 600))
        else:
            Image.fromarray(noise(600, 600)).save(path)
    done = subprocess.run(
        [sys.executable, "-c", TRUNCATES, *map(str, paths)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done
    assert done.stdout.splitlines() == [f"{path}: {CHANGED}" for path in paths]
    assert not done.stderr


@pytest.mark.parametrize("suffix", [".tif", ".webp"])  # read row by row, and whole
@pytest.mark.parametrize("change", [truncated_in_place, written_in_place, replaced, Path.unlink])
def test_every_change_is_seen_and_ends_the_reading(tmp_path: Path, suffix: str, change: Callable[[Path], None]) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(path, noise(40, 40))
    with open_image(path) as reader, open_image(path) as other:
        reader.read_rows(40)
        reader.check_unchanged()
        change(path)
        for call in (reader.check_unchanged, lambda: other.read_rows(1), other.sha256):
            with pytest.raises(ImageError, match=CHANGED):
                call()


def test_a_file_may_be_read_again_after_it_was_opened(tmp_path: Path) -> None:
    """Looking at a file changes the time of access, which does not count."""
    path = tmp_path / "a.png"
    write_image(path, noise(40, 40))
    with open_image(path) as reader:
        os.utime(path, ns=(1, path.stat().st_mtime_ns))
        assert read_image(path).pixels.shape == (40, 40, 3)
        reader.check_unchanged()
