from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest

from srflow_sdk.errors import ImageError
from srflow_sdk.files import ImageWriter, Metadata, is_as_written, read_image, read_provenance, sealing, write_image
from tests.sdk.files.pictures import WRITTEN, noise, picture
from tests.sdk.files.test_provenance import EXAMPLE, FOREIGN
from tests.sdk.files.test_tiff_exif import exif_of

TAGGED = Metadata(exif=exif_of().tobytes(), xmp=FOREIGN, resolution=(10.0, 10.0))


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("metadata", [None, TAGGED], ids=["plain", "tagged"])
def test_what_is_written_holds_and_no_change_of_a_byte_does(
    tmp_path: Path, suffix: str, channels: int, metadata: Metadata | None
) -> None:
    path, chance = tmp_path / f"a{suffix}", random.Random(0)
    write_image(path, picture(channels), metadata=metadata, provenance=EXAMPLE)
    assert is_as_written(path)
    data, packet = path.read_bytes(), read_image(path).metadata.xmp
    assert packet is not None
    at = data.find(packet)  # a PNG's is compressed, and all of it counts
    for place in [0, len(data) - 1, *(chance.randrange(len(data)) for _ in range(40))]:
        changed = bytearray(data)
        changed[place] ^= chance.randint(1, 255)
        path.write_bytes(changed)
        if not (at >= 0 and at <= place < at + len(packet)):
            assert not holds(path), place
    for size in (*range(0, len(data), 997), len(data) - 1):
        path.write_bytes(data[:size])
        assert not holds(path), size


def holds(path: Path) -> bool | None:
    try:
        return is_as_written(path)
    except ImageError:
        return None


@pytest.mark.parametrize("suffix", WRITTEN)
def test_the_hash_is_read_back_and_does_not_go_into_other_files(tmp_path: Path, suffix: str) -> None:
    path, copy = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    with ImageWriter(path, width=50, height=600, channels=3, dtype=np.uint8, provenance=EXAMPLE) as writer:
        writer.write_rows(noise(600, 50))
        writer.finish()
        made = writer.provenance
    found = read_provenance(path)
    assert found == made == EXAMPLE
    assert found is not None
    assert made is not None
    assert found.content_sha256 == made.content_sha256
    assert len(str(found.content_sha256)) == 64
    write_image(copy, noise(600, 50), provenance=found)
    assert is_as_written(copy) is None
    write_image(copy, noise(600, 50), provenance=dataclasses.replace(found, content_sha256=None))
    assert copy.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("offset", [-200, -1, 0, 1, 100])
def test_a_packet_across_the_blocks_of_reading_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: int
) -> None:
    path, packet = tmp_path / "a", b"<packet " + bytes(range(1, 200)) + b">"
    monkeypatch.setattr(sealing, "_BLOCK_BYTES", 500)
    path.write_bytes(bytes(1000 + offset) + packet + bytes(900))
    with path.open("rb") as file:
        assert sealing._find(file, packet) == 1000 + offset
        assert sealing._find(file, packet + b"x") is None


def test_a_file_without_a_record_says_nothing(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", picture())
    assert is_as_written(tmp_path / "a.png") is None
