"""Which model suits a picture: what its file says, what its pixels show beyond doubt, and what is
no damage."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from srflow_sdk import (
    ArgumentError,
    Bundle,
    BundleError,
    ImageError,
    ModelChoice,
    Upscaler,
    choose_model,
)
from srflow_sdk.files import write_image
from tests.sdk.files.pictures import IRREGULAR, make_irregular

from ..clean_and_noisy import noisy, smooth
from ..pixels.test_damage import cat, texture
from ..tiny_bundle import write_tiny_bundle

CLEAN = ModelChoice(name="x4-small", why="no damage found")


def damaged(why):
    return ModelChoice(name="x4-photo", why=why)


def page():
    drawn = Image.new("RGB", (400, 300), "white")
    for line in range(12):
        ImageDraw.Draw(drawn).text(
            (8, 8 + 24 * line), "sphinx of black quartz, judge my vow", "black"
        )
    return drawn


def test_clean_pictures_of_every_kind_get_the_model_for_clean_ones():
    clean = smooth()
    for picture in (
        clean,
        clean / 255,
        clean.astype(np.uint16) * 257,
        clean[..., :1],
        clean[..., 0],
        page(),
        cat(),
    ):
        assert choose_model(picture) == CLEAN
    assert choose_model(np.zeros((1, 1, 3), np.uint8)) == CLEAN
    assert choose_model(np.full((40, 7, 4), 255, np.uint8)) == CLEAN


@pytest.mark.filterwarnings("error")
def test_a_jpeg_s_tables_decide_whatever_its_pixels_show(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    for quality in (30, 85, 92):
        cat().save(path, quality=quality)
        assert choose_model(path) == damaged(f"JPEG of quality {quality}")
        assert (
            choose_model(path.read_bytes()) == choose_model(Image.open(path)) == choose_model(path)
        )
    with monkeypatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # a large picture is no bomb
        assert choose_model(path).name == "x4-photo"
    cat().save(path, quality=98)
    assert choose_model(path) == CLEAN
    page().save(path, quality=60)
    assert choose_model(path).name == "x4-photo", "a page, too"


def test_pixels_without_a_history_show_that_of_a_jpeg(tmp_path):
    cat().save(tmp_path / "a.jpg", quality=70)
    with Image.open(tmp_path / "a.jpg") as image:
        image.save(tmp_path / "a.png")
        image.save(tmp_path / "again.jpg", quality=98)
        shot = np.asarray(image)[5:, 3:]
    for picture in (tmp_path / "a.png", tmp_path / "again.jpg", shot):
        assert choose_model(picture) == damaged("blocks of 8×8, as of a JPEG")


def test_lossy_files_count_by_their_bits_unless_they_are_lossless(tmp_path):
    for ending, kind in {"avif": "AVIF of ", "webp": "WebP of "}.items():
        file = tmp_path / f"photo.{ending}"
        cat().save(file, quality=30)
        with Image.open(file) as image:
            for picture in (file, file.read_bytes(), image):
                assert choose_model(picture).name == "x4-photo"
                assert choose_model(picture).why.startswith(kind)
        write_image(file, np.asarray(cat()), lossless=True)
        assert choose_model(file) == CLEAN
        noise = np.random.default_rng(0).normal(0, 20, (96, 96, 3))
        Image.fromarray(np.clip(smooth() + noise, 0, 255).astype(np.uint8)).save(file, quality=95)
        assert choose_model(file).why.startswith("noise of "), "with many bits, pixels decide"


def test_of_gifs_those_are_damaged_whose_few_colours_make_noise(tmp_path):
    page().save(tmp_path / "page.gif")
    few = cat().quantize(32)
    cat().quantize(palette=few).save(tmp_path / "photo.gif")
    assert choose_model(tmp_path / "page.gif") == CLEAN
    assert choose_model(tmp_path / "photo.gif").why.startswith("noise of ")


def test_noise_and_dots_are_damage_and_texture_is_none():
    assert choose_model(noisy(8)) == damaged("noise of 4/255")
    assert choose_model(texture()) == CLEAN
    noise = np.random.default_rng(0).normal(0, 30, texture().shape)
    assert choose_model(np.clip(texture() + noise, 0, 255).astype(np.uint8)).why.startswith(
        "noise of "
    )
    clipped = noisy(8)
    clipped[:40] = 255
    assert choose_model(clipped).name == "x4-photo"
    place = np.random.default_rng(0).random((256, 256))
    dotted = smooth(256)
    dotted[place < 0.002] = 0
    dotted[place > 0.998] = 255
    assert choose_model(dotted) == damaged("black and white dots")
    stars = np.full((256, 256, 3), 20, np.uint8)
    stars[place > 0.995] = 255
    assert choose_model(stars) == CLEAN, "nobody's dirt is white alone"


def test_a_soft_photograph_is_drawn_by_the_model_for_such():
    assert choose_model(cat().filter(ImageFilter.GaussianBlur(1.2))) == damaged(
        "soft: no sharp edge"
    )


def test_a_photograph_that_no_model_sharpens_says_that_it_stays_soft(tmp_path):
    blurred = cat().filter(ImageFilter.GaussianBlur(2.5))
    assert choose_model(blurred) == damaged("soft: no sharp edge; it stays soft")
    blurred.save(tmp_path / "a.jpg", quality=85)
    assert choose_model(tmp_path / "a.jpg") == damaged("JPEG of quality 85; it stays soft")


def test_what_transparent_pixels_hide_does_not_count():
    cut_out = np.dstack([noisy(8), np.full(smooth().shape[:2], 255, np.uint8)])
    cut_out[:, 32:] = 128, 128, 128, 0
    assert choose_model(cut_out[..., :3]).name == "x4-small"
    assert choose_model(cut_out).name == "x4-photo"


@pytest.mark.not_on_windows("links and FIFOs")
def test_what_cannot_be_read_is_said_in_one_line(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        choose_model(tmp_path / "bad.jpg")
    with pytest.raises(ImageError, match="must be a PIL"):
        choose_model(7)
    with pytest.raises(ArgumentError, match="picture is ''"):
        choose_model("")
    for kind in IRREGULAR:
        make_irregular(tmp_path / f"{kind}.jpg", kind)
        with pytest.raises(ImageError, match=r"not a regular file|directory"):
            choose_model(tmp_path / f"{kind}.jpg")  # and does not wait for someone to write to it
    write_image(tmp_path / "a.png", smooth())
    with pytest.raises(ImageError, match="pixels"):
        choose_model(tmp_path / "a.png", max_pixels=100)


def test_names_of_embedded_models_resolve(two_models, tmp_path, monkeypatch):
    assert Bundle.embedded_names() == ("x4-small", "x4-photo")
    assert Bundle.open("x4-photo").path == two_models / "x4-photo.srflow"
    assert Bundle.embedded("x4-photo").is_embedded
    with Upscaler("x4-photo", device="cpu", threads=1) as upscaler:
        assert upscaler.bundle.manifest.name == "x4-photo"
    monkeypatch.chdir(tmp_path)
    write_tiny_bundle(tmp_path / "x4-photo", name="mine")
    assert Bundle.open("x4-photo").manifest.name == "x4-photo", (
        "what lies in the current directory changes nothing"
    )
    for path in ("./x4-photo", Path("x4-photo"), str(tmp_path / "x4-photo")):
        assert Bundle.open(path).manifest.name == "mine"
    with pytest.raises(BundleError, match=r"no such bundle.*installed: x4-small, x4-photo"):
        Bundle.open("x4-foto")
    with pytest.raises(BundleError, match=r"no model 'x4-other' \(it has: x4-small, x4-photo\)"):
        Bundle.embedded("x4-other")
