from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import srflow_sdk
from srflow_sdk import ArgumentError, Bundle, BundleError, CancelledError, ImageError, Upscaler, choose_model, cli
from srflow_sdk._batch.jobs import Job, Settings
from srflow_sdk._batch.models import ModelsByPicture
from srflow_sdk._batch.one_file import do_one
from srflow_sdk._batch.operations import Upscaling
from srflow_sdk._batch.storage import LocalStorage
from srflow_sdk._drawing.requests import DrawOptions
from srflow_sdk._files import read_image, read_provenance, write_image
from srflow_sdk.model_choice import measure_damage

from .tiny_bundle import write_tiny_bundle

Run = Callable[..., Result]


@pytest.fixture
def two_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two embedded models, whose pictures and default temperatures differ."""
    folder = tmp_path / "installed"
    folder.mkdir()
    write_tiny_bundle(folder / "x4-small.srflow", name="x4-small")
    write_tiny_bundle(folder / "x4-photo.srflow", name="x4-photo", gain=0.9, default_tau=0.5)
    monkeypatch.setattr("srflow_sdk.bundle._EMBEDDED", folder)
    return folder


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The names of a clean and of a noisy picture in the current directory."""
    monkeypatch.chdir(tmp_path)
    write_image("clean.png", _smooth())
    write_image("noisy.png", _noisy(10))
    return "clean.png", "noisy.png"


@pytest.fixture
def run_installed() -> Run:
    """srflow-upscale on one thread of the CPU."""
    return lambda *arguments: CliRunner().invoke(cli.upscale, [*arguments, "--device", "cpu", "--threads", "1"])


def _smooth(side: int = 96) -> np.ndarray:
    y, x = np.mgrid[0:side, 0:side]
    waves = [np.sin(x / 17 + shift) * np.cos(y / 15 - shift) for shift in (0, 1, 2)]
    return np.rint(127.5 + 90 * np.stack(waves, -1)).astype(np.uint8)


def _noisy(sigma: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, sigma, _smooth().shape)
    return np.clip(np.rint(_smooth() + noise), 0, 255).astype(np.uint8)


def _jpeg(pixels: np.ndarray, quality: int) -> Image.Image:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return Image.open(stream)


@pytest.mark.parametrize("sigma", [5, 8, 12])
def test_noise_is_measured(sigma: float) -> None:
    luma = sigma * np.sqrt(0.299**2 + 0.587**2 + 0.114**2)
    assert measure_damage(_noisy(sigma)).noise == pytest.approx(luma, rel=0.25)
    choice = choose_model(_noisy(sigma))
    assert choice.name == "x4-photo"
    assert choice.why.startswith("noise of ")


def test_clean_pictures_of_every_kind_get_the_model_for_clean_ones() -> None:
    smooth = _smooth()
    for picture in (smooth, smooth / 255, smooth.astype(np.uint16) * 257, smooth[..., :1], smooth[..., 0]):
        assert choose_model(picture) == srflow_sdk.ModelChoice(name="x4-small", why="clean")
    assert choose_model(Image.fromarray(smooth)).name == "x4-small"
    assert choose_model(np.zeros((1, 1, 3), np.uint8)).name == "x4-small"
    assert choose_model(np.full((40, 7, 4), 255, np.uint8)).name == "x4-small"


def test_drawings_and_pages_are_clean() -> None:
    page = np.full((256, 256, 3), 230, np.uint8)
    for line in range(16, 240, 23):  # "letters": strokes of one and two pixels
        for letter in range(16, 240, 9):
            page[line : line + 12, letter : letter + 1 + letter % 2] = 20
            page[line + letter % 11, letter : letter + 6] = 20
    boxes = np.full((256, 256, 3), 200, np.uint8)
    boxes[32:128, 40:200], boxes[136:224, 16:120] = 90, 30  # on a grid of eight pixels, as user interfaces are
    for drawing in (page, boxes):
        assert choose_model(drawing) == srflow_sdk.ModelChoice(name="x4-small", why="clean"), measure_damage(drawing)
        noise = np.random.default_rng(0).normal(0, 8, drawing.shape)
        assert choose_model(np.clip(drawing + noise, 0, 255).astype(np.uint8)).name == "x4-photo"


def test_clipped_areas_do_not_hide_noise() -> None:
    picture = _noisy(8)
    picture[:40] = 255
    assert choose_model(picture).name == "x4-photo"


@pytest.mark.parametrize("quality", [30, 60, 85])
def test_the_quality_of_a_jpeg_is_in_its_tables(tmp_path: Path, quality: int) -> None:
    _jpeg(_smooth(), quality).save(tmp_path / "a.jpg", "JPEG", quality=quality)
    assert measure_damage(tmp_path / "a.jpg").quality == quality
    assert choose_model(tmp_path / "a.jpg") == srflow_sdk.ModelChoice(name="x4-photo", why=f"JPEG of quality {quality}")
    Image.fromarray(_smooth()).save(tmp_path / "fine.jpg", "JPEG", quality=97)
    assert choose_model(tmp_path / "fine.jpg").name == "x4-small"


@pytest.mark.filterwarnings("error")
def test_large_pictures_are_no_bombs_if_the_limit_allows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.fromarray(_smooth()).save(tmp_path / "a.jpg", quality=60)
    assert measure_damage(tmp_path / "a.jpg").quality == 60
    Image.fromarray(_smooth()).save(tmp_path / "a.png")
    assert measure_damage(tmp_path / "a.png").quality is None


def test_a_jpeg_that_became_a_png_shows_its_blocks(tmp_path: Path) -> None:
    textured = np.clip(_smooth(256) + np.random.default_rng(1).normal(0, 12, (256, 256, 1)), 0, 255).astype(np.uint8)
    compressed = np.asarray(_jpeg(textured, 30))
    assert measure_damage(textured).blocks < 1.2
    for cut in (0, 3):  # wherever the blocks begin
        assert measure_damage(compressed[cut:, cut:]).blocks > 1.5
    assert choose_model(compressed).why.startswith("blocks of 8×8, as of a JPEG")


def _texture() -> np.ndarray:
    """Detail everywhere, as of gravel: neighbouring pixels are alike, as in no noise."""
    field = np.random.default_rng(3).normal(0, 1, (258, 258))
    for _ in range(2):
        field = field + np.roll(field, 1, 0) + np.roll(field, 1, 1) + np.roll(field, (1, 1), (0, 1))
    texture = np.clip(128 + 24 * field / field.std(), 0, 255)
    return np.repeat(np.rint(texture)[1:-1, 1:-1, None], 3, axis=2).astype(np.uint8)


def test_texture_everywhere_is_not_noise() -> None:
    assert measure_damage(_texture()).noise == 0, "though the mask alone answers 3 levels"
    assert choose_model(_texture()).name == "x4-small"
    noise = np.random.default_rng(0).normal(0, 15, _texture().shape)
    assert choose_model(np.clip(_texture() + noise, 0, 255).astype(np.uint8)).why.startswith("noise of ")


def test_noise_that_grows_with_brightness_is_found_where_it_is() -> None:
    dark_first = np.repeat(np.linspace(4, 230, 256)[:, None, None], 256, axis=1).repeat(3, axis=2)
    speckled = dark_first * (1 + 0.1 * np.random.default_rng(0).standard_normal(dark_first.shape))
    assert choose_model(dark_first.astype(np.uint8)).name == "x4-small"
    assert choose_model(np.clip(speckled, 0, 255).astype(np.uint8)).why.startswith("noise of ")


def test_black_and_white_dots_are_found() -> None:
    dotted, place = _smooth(256), np.random.default_rng(0).random((256, 256))
    assert measure_damage(dotted).dots == 0
    dotted[place < 0.002], dotted[place > 0.998] = 0, 255
    assert measure_damage(dotted).dots == pytest.approx(0.2, rel=0.4)
    assert choose_model(dotted) == srflow_sdk.ModelChoice(name="x4-photo", why="black and white dots")
    stars = np.full((256, 256, 3), 20, np.uint8)
    stars[place > 0.995] = 255
    assert choose_model(stars).why == "clean", "nobody's dirt is white alone"


def test_a_sensors_mosaic_is_found() -> None:
    mosaic = _texture()
    around = sum(np.roll(mosaic.astype(float), shift, axis) for shift in (1, -1) for axis in (0, 1)) / 4
    between = np.indices(mosaic.shape[:2]).sum(axis=0) % 2 == 0
    mosaic[between] = np.rint(around[between])
    assert measure_damage(_texture()).mosaic == pytest.approx(1, abs=0.05)
    for cut in (0, 1):
        assert choose_model(mosaic[cut:]).why.endswith("a sensor's mosaic"), measure_damage(mosaic)


def test_blocks_of_a_jpeg_that_was_saved_again_at_high_quality_count(tmp_path: Path) -> None:
    textured = np.clip(_smooth(256) + np.random.default_rng(1).normal(0, 2, (256, 256, 1)), 0, 255).astype(np.uint8)
    Image.fromarray(textured).save(tmp_path / "fine.jpg", quality=96)
    assert choose_model(tmp_path / "fine.jpg").why == "clean"
    _jpeg(textured, 30).save(tmp_path / "again.jpg", "JPEG", quality=96)
    assert choose_model(tmp_path / "again.jpg").why == "blocks of 8×8, as of a JPEG"


def test_bytes_and_file_objects_are_seen_as_the_file_is(tmp_path: Path) -> None:
    Image.fromarray(_smooth()).save(tmp_path / "a.jpg", quality=60)
    expected = measure_damage(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    assert expected.quality == 60
    for picture in (content, bytearray(content), io.BytesIO(content)):
        assert measure_damage(picture) == expected
    assert choose_model(content).why == "JPEG of quality 60"
    with pytest.raises(ImageError, match=r"^image: "):
        choose_model(content[: len(content) // 2])
    with pytest.raises(ArgumentError, match="picture is ''"):
        choose_model("")


def test_choosing_can_be_cancelled(tmp_path: Path, two_models: Path) -> None:
    write_image(tmp_path / "a.png", _smooth())
    cancel = threading.Event()
    cancel.set()
    for picture in (tmp_path / "a.png", _smooth()):
        with pytest.raises(CancelledError):
            choose_model(picture, cancel=cancel)
    job = Job(name="a", source=tmp_path / "a.png", targets=(tmp_path / "big.png",))
    settings = Settings(operation=Upscaling(draw=DrawOptions()))
    with ModelsByPicture(lambda bundle: Upscaler(bundle, device="cpu", threads=1), max_pixels=10_000) as models:
        with pytest.raises(CancelledError):
            do_one(job, models, settings=settings, cancel=cancel)
        assert not models.chosen(job.source)


def test_what_transparent_pixels_hide_does_not_count() -> None:
    cut_out = np.dstack([_noisy(8), np.full(_smooth().shape[:2], 255, np.uint8)])
    cut_out[:, 32:] = 128, 128, 128, 0
    assert choose_model(cut_out[..., :3]).name == "x4-small"
    assert choose_model(cut_out).name == "x4-photo"


def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        choose_model(tmp_path / "bad.jpg")
    with pytest.raises(ImageError, match="must be a PIL"):
        choose_model(7)  # type: ignore[arg-type]
    write_image(tmp_path / "a.png", _smooth())
    with pytest.raises(ImageError, match="pixels"):
        choose_model(tmp_path / "a.png", max_pixels=100)


def test_names_of_embedded_models_resolve(two_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_command_lists_the_models(run_installed: Run, two_models: Path) -> None:
    first, second = run_installed("--models").stdout.splitlines()
    assert first.startswith("x4-small  ×4  tau 0.8  for clean photographs (the default)")
    assert second.startswith("x4-photo  ×4  tau 0.5  for photographs as they come")


def test_auto_gives_each_picture_the_model_that_suits_it(
    run_installed: Run, two_models: Path, mixed: tuple[str, str]
) -> None:
    result = run_installed(*mixed, "-o", "out", "--model", "auto", "--report", "report.json")
    assert (result.exit_code, result.stdout.split()) == (0, ["out/clean.png", "out/noisy.png"])
    assert "clean.png: x4-small (clean)\n" in result.stderr
    assert "noisy.png: x4-photo (noise of 5.5/255)" in result.stderr
    for name, model in zip(mixed, ("x4-small", "x4-photo"), strict=True):
        with Upscaler(model, device="cpu", threads=1) as upscaler:
            expected = upscaler.upscale(read_image(name).pixels)
        assert np.array_equal(read_image(f"out/{name}").pixels, expected), "at the model's own temperature, too"
        provenance = read_provenance(f"out/{name}")
        assert provenance is not None
        assert provenance.model == model
    report = json.loads(Path("report.json").read_text())
    assert [file["model"] for file in report["files"]] == ["x4-small", "x4-photo"]
    assert (report["model"]["name"], report["settings"]["tau"]) == ("auto", None)

    again = run_installed(*mixed, "-o", "out", "--model", "auto", "--resume", "--report", "report.json")
    assert again.stdout == "", "both are kept"
    assert "x4-" not in again.stderr, "so nothing is said of their models"
    kept = json.loads(Path("report.json").read_text())
    assert [file["model"] for file in kept["files"]] == ["x4-small", "x4-photo"]
    other = run_installed(*mixed, "-o", "out", "--model", "x4-photo", "--resume")
    assert other.stdout == "out/clean.png\n", "only the one that another model drew is made again"


def test_a_picture_is_made_again_with_the_embedded_model_that_made_it(
    run_installed: Run, two_models: Path, mixed: tuple[str, str]
) -> None:
    run_installed("noisy.png", "-o", "big.png", "--model", "auto")
    for model in ([], ["--model", "auto"], ["--model", "x4-photo"]):
        result = run_installed("--from-output", "big.png", "-o", "again.png", *model)
        assert (result.exit_code, result.stdout) == (0, "again.png\n")
        assert np.array_equal(read_image("again.png").pixels, read_image("big.png").pixels)
    assert run_installed("--from-output", "big.png", "-o", "again.png", "--model", "x4-small").exit_code == 1


def test_a_dry_run_says_what_would_be_chosen(run_installed: Run, two_models: Path, mixed: tuple[str, str]) -> None:
    result = run_installed(*mixed, "-o", "out", "--model", "auto", "--dry-run")
    assert result.exit_code == 0
    assert "noisy.png: x4-photo" in result.stderr
    assert not Path("out").exists()


def test_what_auto_cannot_do_is_refused(run_installed: Run, two_models: Path, mixed: tuple[str, str]) -> None:
    for options, why in (
        (["--name", "{model}.png"], "{model} differs"),
        (["--ray", "auto"], "with --ray, name"),
        (["--server", "localhost:1"], "with --server, name"),
    ):
        result = CliRunner().invoke(cli.upscale, [*mixed, "-o", "out", "--model", "auto", *options])
        assert result.exit_code == 2
        assert why in result.stderr
    restored = CliRunner().invoke(cli.restore, [*mixed, "-o", "out", "--model", "auto"])
    assert restored.exit_code == 2
    assert restored.stderr.endswith(
        "Error: --model auto is for srflow-upscale; srflow-restore needs one model: name it\n"
    )
    assert not Path("out").exists()
    with pytest.raises(ArgumentError, match=r"choose_model\(picture\)\.name is the model that suits"):
        Upscaler("auto")
    with pytest.raises(ArgumentError, match="bundle is 3"):
        Upscaler(3)  # type: ignore[arg-type]


def test_one_bad_picture_does_not_stop_auto(run_installed: Run, two_models: Path, mixed: tuple[str, str]) -> None:
    Path("bad.png").write_bytes(b"no picture")
    result = run_installed("bad.png", *mixed, "-o", "out", "--model", "auto")
    assert (result.exit_code, result.stdout.split()) == (1, ["out/clean.png", "out/noisy.png"])
    assert sum("bad.png" in line for line in result.stderr.splitlines()) == 1


def test_a_file_that_comes_from_elsewhere_is_fetched_once(two_models: Path, mixed: tuple[str, str]) -> None:
    fetched: list[str] = []

    class Elsewhere(LocalStorage):
        @contextlib.contextmanager
        def reading(self, path: Path) -> Iterator[Path]:
            fetched.append(path.name)
            with super().reading(path) as local:
                yield local

    jobs = [Job(name=name, source=Path(name), targets=(Path(f"big-{name}"),)) for name in mixed]
    settings = Settings(operation=Upscaling(draw=DrawOptions()), resume=True)
    with ModelsByPicture(lambda bundle: Upscaler(bundle, device="cpu", threads=1), max_pixels=10_000) as models:
        done = [do_one(job, models, settings=settings, storage=Elsewhere()) for job in jobs]
    assert [(file.status, file.model) for file in done] == [("done", "x4-small"), ("done", "x4-photo")]
    assert fetched == list(mixed)
