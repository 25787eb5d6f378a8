"""Encoded pictures that come as bytes or from a file object."""

from __future__ import annotations

import errno
import io
import tempfile
from pathlib import Path

import pytest

from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import read_image, spooled


class Endless(io.RawIOBase):
    """Begins with some bytes, and then gives zeros for ever."""

    def __init__(self, head: bytes) -> None:
        self.head = head

    def read(self, size: int = -1) -> bytes:
        given, self.head = self.head, b""
        return given or bytes(size)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_the_bytes_and_what_is_left_of_a_stream_are_a_file_meanwhile(tmp_path: Path) -> None:
    stream = io.BytesIO(b"xyzabc")
    stream.seek(3)
    for picture in (b"abc", bytearray(b"abc"), memoryview(b"abc"), stream):
        with spooled(picture, name="stdin") as path:  # type: ignore[arg-type]
            assert (path.name, path.read_bytes()) == ("stdin", b"abc")
        assert not list(tmp_path.iterdir())
    with pytest.raises(ArgumentError, match='open\\(path, "rb"\\)'), spooled(io.StringIO("abc"), name="image"):  # type: ignore[arg-type]
        pytest.fail("there is no file")


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"not a picture"])
def test_errors_name_the_picture_and_not_the_file(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ImageError) as error, spooled(content, name="stdin") as path:
        read_image(path)
    assert str(error.value).startswith("stdin: ")
    assert str(tmp_path) not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_stream_without_end_is_read_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srflow_sdk.files.passed_images._METADATA_BYTES", 1000)
    png = Endless(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ImageError, match=r"over 17,000 bytes; .*--max-pixels"), spooled(png, name="a", max_pixels=1000):
        pytest.fail("there is no file")


def test_a_folder_without_room_is_named(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ImageError, match=f"stdin cannot be copied to {tmp_path}: No space left .* TMPDIR"):  # noqa: SIM117
        with spooled(Full(), name="stdin"):
            pytest.fail("there is no file")
