import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import srflow_sdk
from srflow_sdk import ArgumentError, Bundle, BundleError, ImageError, Upscaler, choose_model
from srflow_sdk.files import read_image, write_image
from srflow_sdk.model.model_choice import measure_damage
from tests.sdk.files.pictures import IRREGULAR, make_irregular

from ..clean_and_noisy import noisy, smooth
from ..tiny_bundle import write_tiny_bundle

CAT = Path(__file__).parents[3] / "examples" / "photos" / "cat.png"


def _jpeg(pixels, quality):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return Image.open(stream)


@pytest.mark.parametrize("sigma", [5, 12])
def test_noise_is_measured(sigma):
    luma = sigma * np.sqrt(0.299**2 + 0.587**2 + 0.114**2)
    assert measure_damage(noisy(sigma)).noise == pytest.approx(luma, rel=0.25)
    choice = choose_model(noisy(sigma))
    assert choice.name == "x4-photo"
    assert choice.why.startswith("noise of ")
    clipped = noisy(8)
    clipped[:40] = 255
    assert choose_model(clipped).name == "x4-photo"


def test_clean_pictures_of_every_kind_get_the_model_for_clean_ones():
    clean = smooth()
    for picture in (clean, clean / 255, clean.astype(np.uint16) * 257, clean[..., :1], clean[..., 0]):
        assert choose_model(picture) == srflow_sdk.ModelChoice(name="x4-small", why="no damage found")
    assert choose_model(Image.fromarray(clean)).name == "x4-small"
    assert choose_model(np.zeros((1, 1, 3), np.uint8)).name == "x4-small"
    assert choose_model(np.full((40, 7, 4), 255, np.uint8)).name == "x4-small"


def test_drawings_and_pages_are_clean():
    page = np.full((256, 256, 3), 230, np.uint8)
    for line in range(16, 240, 23):  # "letters": strokes of one and two pixels
        for letter in range(16, 240, 9):
            page[line : line + 12, letter : letter + 1 + letter % 2] = 20
            page[line + letter % 11, letter : letter + 6] = 20
    boxes = np.full((256, 256, 3), 200, np.uint8)
    boxes[32:128, 40:200], boxes[136:224, 16:120] = 90, 30  # on a grid of eight pixels, as user interfaces are
    for drawing in (page, boxes):
        assert choose_model(drawing) == srflow_sdk.ModelChoice(name="x4-small", why="no damage found"), measure_damage(
            drawing
        )
        noise = np.random.default_rng(0).normal(0, 8, drawing.shape)
        assert choose_model(np.clip(drawing + noise, 0, 255).astype(np.uint8)).name == "x4-photo"


def test_what_decides_of_a_jpeg_is_seen_in_its_pixels():
    """From clean to damaged there is a step between: the model for clean pictures, with less detail of its own."""
    cat = np.asarray(Image.open(CAT).convert("RGB"))
    seen = [choose_model(_jpeg(cat, quality)) for quality in (98, 90, 30)]
    assert seen == [
        srflow_sdk.ModelChoice(name="x4-small", why="no damage found"),
        srflow_sdk.ModelChoice(name="x4-small", why="faint: blocks of 8×8, as of a JPEG; auto τ 0.4", tau=0.4),
        srflow_sdk.ModelChoice(name="x4-photo", why="JPEG of quality 30, blocks of 8×8, as of a JPEG"),
    ]
    assert choose_model(np.asarray(_jpeg(cat, 90))) == seen[1], "as a screenshot"
    assert choose_model(np.asarray(_jpeg(cat, 30))).why == "blocks of 8×8, as of a JPEG"


@pytest.mark.filterwarnings("error")
def test_coarse_tables_count_where_texture_hides_the_blocks(tmp_path, monkeypatch):
    textured = np.clip(smooth(256) + np.random.default_rng(1).normal(0, 20, (256, 256, 1)), 0, 255).astype(np.uint8)
    Image.fromarray(textured).save(tmp_path / "a.jpg", quality=45)
    damage = measure_damage(tmp_path / "a.jpg")
    assert (damage.quality, damage.blocks < 1.2) == (45, True)
    assert choose_model(tmp_path / "a.jpg") == srflow_sdk.ModelChoice(name="x4-photo", why="JPEG of quality 45")
    assert choose_model(read_image(tmp_path / "a.jpg").pixels).tau == 0.4
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # a large picture is no bomb
    assert measure_damage(tmp_path / "a.jpg") == damage


def _texture():
    """Detail everywhere, as of gravel: neighbouring pixels are alike, as in no noise."""
    field = np.random.default_rng(3).normal(0, 1, (258, 258))
    for _ in range(2):
        field = field + np.roll(field, 1, 0) + np.roll(field, 1, 1) + np.roll(field, (1, 1), (0, 1))
    texture = np.clip(128 + 24 * field / field.std(), 0, 255)
    return np.repeat(np.rint(texture)[1:-1, 1:-1, None], 3, axis=2).astype(np.uint8)


def test_texture_everywhere_is_not_noise():
    assert measure_damage(_texture()).noise == 0, "though the mask alone answers 3 levels"
    assert choose_model(_texture()).name == "x4-small"
    noise = np.random.default_rng(0).normal(0, 15, _texture().shape)
    assert choose_model(np.clip(_texture() + noise, 0, 255).astype(np.uint8)).why.startswith("noise of ")


def test_noise_that_grows_with_brightness_is_found_where_it_is():
    dark_first = np.repeat(np.linspace(4, 230, 256)[:, None, None], 256, axis=1).repeat(3, axis=2)
    speckled = dark_first * (1 + 0.1 * np.random.default_rng(0).standard_normal(dark_first.shape))
    assert choose_model(dark_first.astype(np.uint8)).name == "x4-small"
    assert choose_model(np.clip(speckled, 0, 255).astype(np.uint8)).why.startswith("noise of ")


def test_black_and_white_dots_are_found():
    dotted, place = smooth(256), np.random.default_rng(0).random((256, 256))
    assert measure_damage(dotted).dots == 0
    dotted[place < 0.002], dotted[place > 0.998] = 0, 255
    assert measure_damage(dotted).dots == pytest.approx(0.2, rel=0.4)
    assert choose_model(dotted) == srflow_sdk.ModelChoice(name="x4-photo", why="black and white dots")
    stars = np.full((256, 256, 3), 20, np.uint8)
    stars[place > 0.995] = 255
    assert choose_model(stars).why == "no damage found", "nobody's dirt is white alone"


def test_blocks_of_a_jpeg_that_was_saved_again_at_high_quality_count(tmp_path):
    textured = np.clip(smooth(256) + np.random.default_rng(1).normal(0, 2, (256, 256, 1)), 0, 255).astype(np.uint8)
    Image.fromarray(textured).save(tmp_path / "fine.jpg", quality=96)
    assert choose_model(tmp_path / "fine.jpg").name == "x4-small"
    _jpeg(textured, 30).save(tmp_path / "again.jpg", "JPEG", quality=96)
    assert choose_model(tmp_path / "again.jpg").why == "blocks of 8×8, as of a JPEG"


def test_lossy_files_count_by_their_kind_and_drawings_stay_clean(tmp_path):
    photo = np.asarray(Image.open(Path(__file__).parents[3] / "examples/photos/cat.png").convert("RGB"))
    assert choose_model(photo).why == "no damage found"
    for ending, kind in {"avif": "AVIF of ", "webp": "WebP of ", "gif": "GIF of "}.items():
        file = tmp_path / f"photo.{ending}"
        Image.fromarray(photo).save(file, quality=30)
        with Image.open(file) as image:
            for picture in (file, file.read_bytes(), image):
                assert (choose_model(picture).name, choose_model(picture).why[: len(kind)]) == ("x4-photo", kind)
    Image.fromarray(photo).save(tmp_path / "faint.avif", quality=75)
    assert choose_model(tmp_path / "faint.avif").why.startswith("faint: AVIF of ")
    page = Image.new("RGB", (400, 300), "white")
    for line in range(12):
        ImageDraw.Draw(page).text((8, 8 + 24 * line), "sphinx of black quartz, judge my vow", "black")
    page.save(tmp_path / "page.gif")
    for ending in ("avif", "webp"):
        write_image(tmp_path / f"page.{ending}", np.asarray(page), lossless=True)
    for ending in ("avif", "gif", "webp"):
        assert choose_model(tmp_path / f"page.{ending}").why == "no damage found", ending


def test_what_transparent_pixels_hide_does_not_count():
    cut_out = np.dstack([noisy(8), np.full(smooth().shape[:2], 255, np.uint8)])
    cut_out[:, 32:] = 128, 128, 128, 0
    assert choose_model(cut_out[..., :3]).name == "x4-small"
    assert choose_model(cut_out).name == "x4-photo"


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
    assert Bundle.open("x4-photo").manifest.name == "x4-photo", "what lies in the current directory changes nothing"
    for path in ("./x4-photo", Path("x4-photo"), str(tmp_path / "x4-photo")):
        assert Bundle.open(path).manifest.name == "mine"
    with pytest.raises(BundleError, match=r"no such bundle.*installed: x4-small, x4-photo"):
        Bundle.open("x4-foto")
    with pytest.raises(BundleError, match=r"no model 'x4-other' \(it has: x4-small, x4-photo\)"):
        Bundle.embedded("x4-other")
