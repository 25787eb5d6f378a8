"""Mutated files of every format: each is read, or refused in one line."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from tests.sdk.files.pictures import picture, profile
from tests.sdk.files.test_png import chunk, xmp_chunk

MUTANTS = int(os.environ.get("SRFLOW_FUZZ_MUTANTS", "1200"))
SEED = int(os.environ.get("SRFLOW_FUZZ_SEED", "0"))

# In a process of its own, so that a crash of libvips fails the test and does not end the tests.
READ_ALL = """
import logging, sys
from pathlib import Path
from srflow_sdk.errors import ImageError
from srflow_sdk._files import is_whole, read_image, read_provenance, write_image
logging.disable()  # what is said of metadata that is left out
folder = Path(sys.argv[1])
for path in sorted((folder / "in").iterdir()):
    print(path.name, flush=True)
    is_whole(path)
    for read in (read_provenance, lambda path: read_image(path, max_pixels=1_000_000)):
        try:
            file = read(path)
        except ImageError as error:
            assert str(error).startswith(f"{path}: ") and "\\n" not in str(error), str(error)
        else:
            if file is not None and path.name.endswith("0"):
                target = folder / "out" / "a.png"
                write_image(target, file.pixels, metadata=file.metadata)
                target.unlink()
    assert not list((folder / "out").iterdir())
"""


def seeds() -> list[bytes]:
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
    behind = chunk(b"eXIf", exif.tobytes()[6:]) + xmp_chunk(blocks["xmp"], compressed=True)
    found.append(stream.getvalue()[:-12] + behind + stream.getvalue()[-12:])
    for image, name in ((rgb.quantize(9), "PNG"), (rgb.convert("CMYK"), "JPEG"), (rgb.convert("1"), "TIFF")):
        stream = io.BytesIO()
        image.save(stream, name)
        found.append(stream.getvalue())
    stream = io.BytesIO()
    tifffile.imwrite(stream, picture(3, np.float32, height=24, width=31), photometric="rgb", tile=(16, 16))
    return [*found, stream.getvalue()]


def mutated(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(len(changed) if chance.random() < 0.5 else min(len(changed), 300))
        what = chance.randrange(5)
        if what == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif what == 1:
            changed[at : at + 4] = chance.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x80"))
        elif what == 2:
            changed[at:at] = chance.randbytes(chance.choice((1, 4, 100)))
        elif what == 3:
            del changed[at : at + chance.choice((1, 4, 50))]
        else:
            del changed[max(at, 16) :]
        if len(changed) < 2:
            break
    return bytes(changed)


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    chance, originals = random.Random(SEED), seeds()
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for number in range(MUTANTS):
        mutant = mutated(originals[number % len(originals)], chance)
        (tmp_path / "in" / f"{number:06d}").write_bytes(mutant)
    run = subprocess.run([sys.executable, "-c", READ_ALL, str(tmp_path)], capture_output=True, text=True, check=False)
    last = run.stdout.split()[-1] if run.stdout else "none"
    assert run.returncode == 0, f"seed {SEED}, mutant {last}: status {run.returncode}\n{run.stderr[-2000:]}"
    assert len(run.stdout.split()) == MUTANTS
    assert run.stderr == ""
