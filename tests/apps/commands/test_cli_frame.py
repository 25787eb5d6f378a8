"""srflow-upscale --frame: one frame of an animation, or one page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import Result
from PIL import Image

from srflow_sdk.files import read_image

Run = Callable[..., Result]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".tif"])
def test_one_frame_of_an_animation_is_a_picture(run: Run, folder: Path, suffix: str) -> None:
    name = f"moving{suffix}"
    frames = [Image.new("RGB", (20, 16), colour) for colour in ("black", "white")]
    frames[1].putpixel((3, 3), (0, 0, 0))  # or a GIF would have one frame
    frames[0].save(name, save_all=True, append_images=frames[1:])
    assert "--frame N take it" in run(name, "-o", "out.png").stderr
    done = run(name, "--frame", "2", "-o", "out.png")
    assert done.exit_code == 0, done.stderr
    assert read_image(Path("out.png")).pixels[-8:].mean() > 150  # black gives 80
    assert "1 skipped" in run(name, "--frame", "2", "-o", "out.png", "--resume").stderr
    assert run(name, "--frame", "2", "--from-output", "out.png", "-o", "again.png").exit_code == 0
    assert Path("again.png").read_bytes() == Path("out.png").read_bytes()


def test_a_frame_never_replaces_its_file_and_keeps_depth_and_orientation(run: Run, folder: Path) -> None:
    pages = [np.full((12, 16, 3), value, np.uint16) for value in (0, 60000)]
    with tifffile.TiffWriter("deep.tif") as file:
        for page in pages:
            file.write(page, photometric="rgb")
    before = Path("deep.tif").read_bytes()
    Path("link.tif").symlink_to("deep.tif")
    for name in ("deep.tif", "link.tif"):
        result = run(name, "--frame", "2", "-o", "deep.tif")
        assert (result.exit_code, "would overwrite the input" in result.stderr) == (2, True)
    assert Path("deep.tif").read_bytes() == before
    assert run("deep.tif", "--frame", "2", "-o", "out.png").exit_code == 0
    assert read_image(Path("out.png")).pixels.dtype == np.uint16
    turned = Image.Exif()
    turned[0x112] = 6
    Image.new("RGB", (20, 16)).save("turned.jpg", exif=turned)
    assert run("turned.jpg", "--frame", "1", "-o", "out.png").exit_code == 0
    assert read_image(Path("out.png")).pixels.shape == (80, 64, 3)
