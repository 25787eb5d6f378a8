import errno
import io
import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import open_image, read_image, spooled, write_image
from tests.sdk.files.pictures import WRITTEN, noise, picture


@pytest.mark.parametrize("suffix", WRITTEN)
def test_rows_that_stream_in_any_thread_are_those_of_the_whole_file(tmp_path, suffix):
    write_image(tmp_path / f"a{suffix}", noise(300, 17))
    whole = read_image(tmp_path / f"a{suffix}").pixels
    with open_image(tmp_path / f"a{suffix}") as reader:
        assert (reader.width, reader.height, reader.channels, reader.dtype) == (
            17,
            300,
            3,
            np.uint8,
        )
        parts = []
        for count in (1, 1, 200, 98):
            thread = threading.Thread(
                target=lambda count=count: parts.append(reader.read_rows(count))
            )
            thread.start()
            thread.join()
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_rows_of_closed_files_are_typed_errors(tmp_path):
    write_image(tmp_path / "a.png", picture())
    reader = open_image(tmp_path / "a.png")
    reader.read_rows(39)
    reader.close()
    reader.close()
    with pytest.raises(ImageError, match="closed"):
        reader.read_rows(1)


READ_AND_LEFT = """
import os, sys
from pathlib import Path
from srflow_sdk.files import ImageReader, read_image
def delete(name):
    held = [os.path.realpath(f"/proc/self/fd/{number}") for number in range(3, 50)]
    assert os.path.realpath(name) not in held
    os.remove(name)
for name in sys.argv[1:]:
    content = Path(name).read_bytes()
    reader = ImageReader(name)
    reader.read_rows(2)
    reader.close()
    read_image(name)
    delete(name)
    Path(name).write_bytes(content[:60])
    try:
        read_image(name)
    except Exception:
        delete(name)
"""


def test_a_file_that_was_read_is_no_longer_open_and_can_be_deleted(tmp_path):
    for suffix in WRITTEN:
        write_image(tmp_path / f"a{suffix}", picture())
    # In a process of its own: an application that imports pyvips first keeps libvips' cache, and so
    # do tests.
    files = [f"a{suffix}" for suffix in WRITTEN]
    done = subprocess.run(
        [sys.executable, "-c", READ_AND_LEFT, *files], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr, list(tmp_path.iterdir())) == (0, "", [])


def test_a_file_that_changed_is_read_anew(tmp_path):
    for pixels in (picture(), 255 - picture()):
        write_image(tmp_path / "a.png", pixels)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, pixels)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (-0.1, r"must be in \[0, 1\]"),
        (1.1, r"must be in \[0, 1\]"),
        (np.inf, "to inf"),
        (np.nan, "from nan"),
    ],
)
def test_floats_out_of_range_are_refused_with_the_range(tmp_path, value, says):
    pixels = picture(3, np.float32)
    pixels[20, 20, 1] = value
    tifffile.imwrite(tmp_path / "f.tif", pixels, photometric="rgb")
    with pytest.raises(ImageError, match=says):
        read_image(tmp_path / "f.tif")


@pytest.mark.parametrize("dtype", ["float64", "int16", "complex64"])
def test_other_types_of_pixels_are_refused(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "t.tif", np.ones((5, 5, 3), dtype), photometric="rgb")
    with pytest.raises(ImageError, match="save it with"):
        read_image(tmp_path / "t.tif")
    tifffile.imwrite(tmp_path / "t.tif", np.ones((5, 6, 5), np.uint8), photometric="rgb")
    with pytest.raises(ImageError, match="5 channels"):
        read_image(tmp_path / "t.tif")


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".tif", ".avif"])
def test_animations_and_pages_are_refused(tmp_path, suffix):
    frames = [Image.fromarray(picture(3) // divisor) for divisor in (1, 2, 3)]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="an animation" if suffix == ".avif" else "3 frames"):
        read_image(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("full_first", [True, False])
def test_a_page_that_is_a_smaller_version_is_no_second_picture(tmp_path, full_first):
    pages = [(picture(), 0), (picture()[::4, ::4], 1), (picture()[::8, ::8], 1)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for pixels, kind in pages if full_first else pages[::-1]:
            file.write(pixels, photometric="rgb", subfiletype=kind, metadata=None)
    if full_first:
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, picture())
    else:
        with pytest.raises(ImageError, match="3 frames or pages"):
            read_image(tmp_path / "a.tif")


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak of memory is read where Linux has it"
)
def test_memory_does_not_grow_with_the_height(tmp_path):
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
        run = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "a.jpg")], capture_output=True, check=True
        )
        used.append(int(run.stdout))
    assert used[1] < used[0] + 40  # the larger one has 120 MB of pixels


# Files that change while they are read: an error, whatever has been decoded by then.


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


def truncated_in_place(path):
    os.truncate(path, path.stat().st_size - 1)


def written_in_place(path):
    """With the same length, and a time that is certainly another."""
    with path.open("r+b") as file:
        file.write(file.read(1))
    os.utime(path, ns=(0, 1))


def replaced(path):
    """With all that can be seen but the inode."""
    status = path.stat()
    (path.parent / "new").write_bytes(path.read_bytes())
    os.utime(path.parent / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    (path.parent / "new").replace(path)


def test_a_file_that_becomes_shorter_is_an_error_and_not_a_signal(tmp_path):
    paths = [tmp_path / f"a{suffix}" for suffix in (*WRITTEN, ".gif", ".bmp", ".png")]
    for path in paths:
        if path.suffix in WRITTEN:
            write_image(path, noise(600, 600))
        else:
            Image.fromarray(noise(600, 600)).save(path)
    done = subprocess.run(
        [sys.executable, "-c", TRUNCATES, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done
    assert done.stdout.splitlines() == [f"{path}: {CHANGED}" for path in paths]
    assert not done.stderr


@pytest.mark.not_on_windows("open files stay as they are")
@pytest.mark.parametrize("suffix", [".tif", ".webp"])  # read row by row, and whole
@pytest.mark.parametrize("change", [truncated_in_place, written_in_place, replaced, Path.unlink])
def test_every_change_is_seen_and_ends_the_reading(tmp_path, suffix, change):
    path = tmp_path / f"a{suffix}"
    write_image(path, noise(40, 40))
    with open_image(path) as reader, open_image(path) as other:
        reader.read_rows(40)
        reader.check_unchanged()
        change(path)
        for call in (reader.check_unchanged, lambda: other.read_rows(1), other.sha256):
            with pytest.raises(ImageError, match=CHANGED):
                call()


# Encoded pictures that come as bytes or from a file object.


@pytest.fixture
def spool(tmp_path, monkeypatch):
    """The folder that they are copied to."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


class Endless(io.RawIOBase):
    """Begins with some bytes, and then gives zeros for ever."""

    def __init__(self, head):
        self.head = head

    def read(self, size=-1):
        given = self.head
        self.head = b""
        return given or bytes(size)


def test_the_bytes_and_what_is_left_of_a_stream_are_a_file_meanwhile(spool):
    stream = io.BytesIO(b"xyzabc")
    stream.seek(3)
    for given in (b"abc", bytearray(b"abc"), memoryview(b"abc"), stream):
        with spooled(given, name="stdin") as path:
            assert (path.name, path.read_bytes()) == ("stdin", b"abc")
        assert not list(spool.iterdir())
    with (
        pytest.raises(ArgumentError, match='open\\(path, "rb"\\)'),
        spooled(io.StringIO("abc"), name="image"),
    ):
        pytest.fail("there is no file")


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"not a picture"])
def test_errors_name_the_picture_and_not_the_file(spool, content):
    with pytest.raises(ImageError) as error, spooled(content, name="stdin") as path:
        read_image(path)
    assert str(error.value).startswith("stdin: ")
    assert str(spool) not in str(error.value)
    assert not list(spool.iterdir())


def test_a_stream_without_end_is_read_up_to_the_limit(monkeypatch):
    monkeypatch.setattr("srflow_sdk.files.passed_images._METADATA_BYTES", 1000)
    png = Endless(b"\x89PNG\r\n\x1a\n")
    with (
        pytest.raises(ImageError, match=r"over 17,000 bytes; .*--max-pixels"),
        spooled(png, name="a", max_pixels=1000),
    ):
        pytest.fail("there is no file")


def test_a_folder_without_room_is_named(spool):
    class Full(io.BytesIO):
        def read(self, size=-1):
            raise OSError(errno.ENOSPC, "No space left on device")

    with (
        pytest.raises(
            ImageError,
            match=f"stdin cannot be copied to {re.escape(str(spool))}: No space left .* TMPDIR",
        ),
        spooled(Full(), name="stdin"),
    ):
        pytest.fail("there is no file")


# libvips has threads, and a forked process does not: it would wait for them for ever.


SCRIPT = """
import faulthandler, os, sys, warnings
import numpy as np
from srflow_sdk import Upscaler
from srflow_sdk.errors import SRFlowError

bundle, folder, parent, child = sys.argv[1:]
array = np.full((20, 24, 3), 90, np.uint8)
upscaler = Upscaler(bundle, device="cpu", threads=2)
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork with threads

def use(what):
    if what == "file":
        upscaler.upscale_file(f"{folder}/lying.png", f"{folder}/{os.getpid()}.png")
    elif what == "rotated":
        upscaler.upscale(f"{folder}/rotated.jpg")
    else:
        upscaler.upscale(array)

use(parent)
expected = upscaler.upscale(array)
pid = os.fork()
if pid == 0:
    faulthandler.dump_traceback_later(40, exit=True)  # instead of hanging for ever
    try:
        use(child)
        same = np.array_equal(upscaler.upscale(array), expected)
        print("works" if same else "other pixels", flush=True)
    except SRFlowError as error:
        print(type(error).__name__, error, flush=True)
    os._exit(0)
sys.exit(os.waitpid(pid, 0)[1] != 0)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others do not fork")
@pytest.mark.parametrize(
    ("parent", "child", "works"),
    [
        ("array", "rotated", True),
        ("file", "array", True),
        ("file", "rotated", False),
        ("rotated", "file", False),
    ],
)
def test_a_forked_process_works_or_says_at_once_what_to_do(
    tiny_bundle, tmp_path, parent, child, works
):
    image = Image.fromarray(noise(20, 24))
    exif = Image.Exif()
    image.save(tmp_path / "lying.png")
    exif[0x112] = 6
    image.save(tmp_path / "rotated.jpg", exif=exif)
    command = [sys.executable, "-c", SCRIPT, str(tiny_bundle), str(tmp_path), parent, child]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    if works:
        assert done.stdout == "works\n"
    else:
        assert done.stdout.startswith("DeviceError this process was forked")
        assert 'multiprocessing.get_context("spawn")' in done.stdout
        assert done.stdout.count("\n") == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
