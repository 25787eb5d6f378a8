"""Mutated pictures of every format: each is read whole, or refused in one line that begins with its name."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from srflow_sdk.errors import ImageError
from srflow_sdk.files import ImageFile, read_image, read_provenance, write_image
from tests.faults.attempts import Attempt
from tests.faults.mutation import mutated
from tests.faults.workers import is_one_line, read_in_worker
from tests.sdk.files.pictures import picture, profile
from tests.sdk.files.test_png import chunk

_PATIENCE_S = 30


def attack(folder: Path, count: int, seed: int) -> Iterator[Attempt]:
    """Mutate a picture of each format in turn."""
    chance, whole = random.Random(seed), originals()

    def mutants() -> Iterator[tuple[str, Path]]:
        for number in range(count):
            path = folder / f"{number:06d}"
            path.write_bytes(mutated(whole[number % len(whole)], chance))
            yield f"mutant {number}", path

    return read_in_worker(__name__, mutants(), patience_s=_PATIENCE_S)


def read(path: Path) -> str | None:
    """Read the pixels and the provenance; every tenth is written again."""
    refusals = []
    for reader in (read_provenance, lambda path: read_image(path, max_pixels=1_000_000)):
        try:
            file = reader(path)
        except ImageError as error:
            refusals.append(str(error))
            continue
        if isinstance(file, ImageFile) and path.name.endswith("0"):
            target = path.with_name(f"{path.name}.written.png")
            write_image(target, file.pixels, metadata=file.metadata)
            again = read_image(target)
            target.unlink()
            if again.pixels.shape[:2] != file.pixels.shape[:2]:
                return f"written with {again.pixels.shape}, read with {file.pixels.shape}"
    odd = [text for text in refusals if not text.startswith(f"{path}: ") or not is_one_line(text)]
    if odd:
        return f"a refusal that is not one line about the file: {odd[0]!r}"
    left = [other.name for other in path.parent.iterdir() if other.name.startswith(f".{path.name}")]
    return f"left behind: {left}" if left else None


def originals() -> list[bytes]:
    """Small pictures of every format and most of its features."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Acme"
    exif.get_ifd(0x8825)[1] = "N"
    blocks = {"exif": exif.tobytes(), "icc_profile": profile(), "xmp": b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"}
    rgb, found = Image.fromarray(picture(height=24, width=31)), []
    for name, options in (
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("BMP", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("GIF", {}),
        ("AVIF", {}),
    ):
        stream = io.BytesIO()
        rgb.save(stream, name, **options, **({} if name in ("GIF", "TIFF") else blocks))
        found.append(stream.getvalue())
    stream = io.BytesIO()
    rgb.save(stream, "TIFF", exif=exif.tobytes())
    found.append(stream.getvalue())
    stream = io.BytesIO()
    rgb.save(stream, "PNG")
    behind = chunk(b"eXIf", exif.tobytes()[6:])
    found.append(stream.getvalue()[:-12] + behind + stream.getvalue()[-12:])
    for image, name in ((rgb.quantize(9), "PNG"), (rgb.convert("CMYK"), "JPEG"), (rgb.convert("1"), "TIFF")):
        stream = io.BytesIO()
        image.save(stream, name)
        found.append(stream.getvalue())
    stream = io.BytesIO()
    tifffile.imwrite(stream, picture(3, np.float32, height=24, width=31), photometric="rgb", tile=(16, 16))
    return [*found, stream.getvalue()]
