"""examples/web/src/choice.js, in node: it measures pictures as the SDK does, and chooses the same
model."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from srflow_sdk.files import read_image, write_image
from srflow_sdk.model.model_choice import choose_model
from srflow_sdk.pixels.damage import measure_damage, strips_of
from tests.sdk.clean_and_noisy import noisy, smooth

from .test_web_modules import NODE, in_node

pytestmark = pytest.mark.skipif(NODE is None, reason="no node on this machine: apt install nodejs")

PROGRAM = """
const { readFile } = await import("node:fs/promises");
const found = [];
for (const [path, pixels, height, width] of values) {
  const damage = its.damageOf(await readFile(pixels), height, width, await readFile(path));
  found.push({ damage, ...its.choice(damage) });
}
console.log(JSON.stringify(found));
"""
PHOTOS = ("astronaut", "chelsea")
SEED = 5


def photographs():
    data = pytest.importorskip("skimage.data")
    for name in PHOTOS:
        whole = getattr(data, name)()
        yield name, whole[60:200, 40:221]
        yield f"{name}-reduced", np.asarray(Image.fromarray(whole).resize((150, 110)))


def files(folder):
    """Pictures of every kind that the rules tell apart, as files."""
    random = np.random.default_rng(SEED)
    for name, pixels in (
        *photographs(),
        ("smooth", smooth(131)),
        ("noise", noisy(8)),
        ("small", smooth(7)),
    ):
        damaged = {"clean": pixels}
        for sigma in (1.5, 3, 12):
            spread = random.normal(0, sigma, pixels.shape)
            damaged[f"noise{sigma}"] = np.clip(np.rint(pixels + spread), 0, 255).astype(np.uint8)
        place = random.random(pixels.shape[:2])
        damaged["soft"] = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(2.5)))
        damaged["dots"] = pixels.copy()
        damaged["dots"][place < 0.002] = 0
        damaged["dots"][place > 0.998] = 255
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=40)
        damaged["blocks"] = np.asarray(Image.open(stream))
        for what, picture in damaged.items():
            write_image(folder / f"{name}-{what}.png", picture)
        image = Image.fromarray(pixels)
        for ending, qualities in {
            "jpg": (5, 60, 93, 94, 98),
            "webp": (30, 80, 97),
            "avif": (30, 80, 97),
        }.items():
            for quality in qualities:
                image.save(folder / f"{name}-{quality}.{ending}", quality=quality)
        image.save(
            folder / f"{name}-progressive.jpg", quality=97, progressive=True, qtables="web_low"
        )
        image.save(folder / f"{name}.gif")
        image.convert("L").save(folder / f"{name}-gray.jpg", quality=95)
        for ending in ("webp", "avif"):
            write_image(folder / f"{name}-lossless.{ending}", pixels, lossless=True)


@pytest.mark.slow
def test_the_page_measures_and_chooses_as_the_sdk(tmp_path):
    files(tmp_path)
    given = []
    paths = sorted(tmp_path.iterdir())
    for path in paths:
        pixels = read_image(path).pixels
        rgb = pixels if pixels.shape[2] > 2 else np.repeat(pixels[..., :1], 3, axis=2)
        rgba = np.dstack([rgb[..., :3], np.full(rgb.shape[:2], 255, np.uint8)])
        raw = tmp_path / f"{path.name}.rgba"
        raw.write_bytes(rgba.tobytes())
        given.append([str(path), str(raw), *rgba.shape[:2]])
    chosen = []
    for path, found in zip(paths, in_node("choice.js", PROGRAM, *given), strict=True):
        damage = measure_damage(strips_of(read_image(path).pixels))
        expected = choose_model(path)
        assert (found["name"], found["why"]) == (expected.name, expected.why), path.name
        for name, slack in {
            "noise": 1e-4,
            "dots": 1e-4,
            "grid": 0.1,
            "sharp": 0.005,
            "sharp_at_half": 0.005,
        }.items():
            # Of little noise, rounding decides whether it is texture.
            mine, its = (
                max(value, name == "noise")
                for value in (found["damage"][name], getattr(damage, name))
            )
            assert mine == pytest.approx(its, rel=1e-3, abs=slack), f"{name} of {path.name}"
        chosen.append(expected.name)
    assert min(chosen.count("x4-small"), chosen.count("x4-photo")) > len(chosen) / 5, "both, often"
