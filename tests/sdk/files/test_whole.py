from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srflow_sdk._files import ImageWriter, Metadata, is_whole, write_image, writing
from tests.sdk.files.pictures import WRITTEN, noise, picture
from tests.sdk.files.test_provenance import EXAMPLE
from tests.sdk.files.test_tiff_exif import exif_of


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("tagged", [False, True])
def test_what_we_write_is_whole_and_no_part_of_it_is(tmp_path: Path, suffix: str, channels: int, tagged: bool) -> None:
    path = tmp_path / f"a{suffix}"
    if tagged:
        write_image(path, picture(channels), metadata=Metadata(exif=exif_of().tobytes()), provenance=EXAMPLE)
    else:
        write_image(path, picture(channels))
    assert is_whole(path)
    data = path.read_bytes()
    boxes = [data.index(kind) - 4 for kind in (b"meta", b"mdat")] if suffix == ".avif" else []
    for size in [*range(0, len(data), 97), *range(len(data) - 40, len(data)), *boxes]:
        path.write_bytes(data[:size])
        assert not is_whole(path), size


@pytest.mark.parametrize("tagged", [False, True])
def test_large_tiffs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tagged: bool) -> None:
    monkeypatch.setattr(writing, "_BIGTIFF_BYTES", 1)
    path = tmp_path / "a.tif"
    write_image(path, noise(600, 50), metadata=Metadata(exif=exif_of().tobytes() if tagged else None))
    data = path.read_bytes()
    assert is_whole(path)
    for size in [*range(0, len(data), 997), len(data) - 1]:
        path.write_bytes(data[:size])
        assert not is_whole(path), size


@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_part_under_way_is_not_whole(tmp_path: Path, suffix: str) -> None:
    with ImageWriter(tmp_path / f"a{suffix}", width=50, height=600, channels=3, dtype=np.uint8) as writer:
        writer.write_rows(noise(500, 50))
        (part,) = tmp_path.iterdir()
        assert not is_whole(part)
        writer.write_rows(noise(100, 50))
        writer.finish()
        assert is_whole(part)


def test_whatever_is_no_picture_of_ours_is_not_whole(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.gif")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"not an image at all" * 50)
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for name in ("a.gif", "empty.png", "text.png", "folder.png", "pipe.png", "loop.png", "absent.png", "a\0b.png"):
        assert not is_whole(tmp_path / name)
    tiffs = (b"II*\0\x08\0\0\0", b"II+\0\x08\0\0\0" + b"\xff" * 40)
    for head in (*tiffs, b"\0\0\0\x0cftypavif", b"RIFF", b"\0\0\0\1ftyp"):
        (tmp_path / "a.png").write_bytes(head)
        assert not is_whole(tmp_path / "a.png")
