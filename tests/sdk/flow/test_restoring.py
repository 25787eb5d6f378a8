"""Upscaler.restore and best_of."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from srflow_sdk import Upscaler
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.errors import ArgumentError, BundleError, CancelledError
from srflow_sdk.flow.inverting import reduced_image
from srflow_sdk.flow.options import RestoreOptions
from srflow_sdk.flow.restoring import limited

from ..flow_bundle import write_flow_bundle
from ..pixels.icc_writer import ADOBE_RGB, gamma_curve, matrix_profile

KINDS = {
    "uint8": lambda picture: picture,
    "uint16": lambda picture: picture.astype(np.uint16) * 257,
    "float32": lambda picture: picture / np.float32(255),
    "float64": lambda picture: picture / 255,
    "gray": lambda picture: picture[..., 0],
    "PIL": Image.fromarray,
    "PIL gray": lambda picture: Image.fromarray(picture[..., 0]),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flow_bundle(tmp_path_factory.mktemp("flow") / "flow.srflow")


@pytest.fixture(scope="module")
def flow(bundle: Path) -> Upscaler:
    return Upscaler(bundle, device="cpu", threads=1)


@pytest.fixture(scope="module")
def noisy() -> np.ndarray:
    """A uint8 picture with noise and sides that are no multiple of anything, 71×58×3."""
    y, x = np.mgrid[0:71, 0:58]
    waves = np.stack([np.sin(x / 5 + shift) * np.cos(y / 3 - shift) for shift in (0, 1, 2)], -1)
    noise = np.random.default_rng(0).normal(0, 20, waves.shape)
    return np.clip(np.rint(127.5 + 70 * waves + noise), 0, 255).astype(np.uint8)


def test_restoring_is_reducing_inverting_limiting_and_decoding(flow: Upscaler, noisy: np.ndarray) -> None:
    encoding = flow.encode(reduced_image(noisy, flow.bundle.manifest))
    latents = encoding.invert(noisy)
    taus = dict.fromkeys(latents.levels, 0.4)
    wanted = encoding.decode(limited(latents, taus, over="spatial"))
    restored = flow.restore(noisy, tau=0.4, over="spatial")
    np.testing.assert_array_equal(restored, wanted)
    assert np.abs(restored.astype(int) - noisy).max() > 10


def test_at_temperature_0_it_is_the_super_resolved_reduction(flow: Upscaler, noisy: np.ndarray) -> None:
    upscaled = flow.upscale(reduced_image(noisy, flow.bundle.manifest), tau=0)[:71, :58]
    np.testing.assert_allclose(flow.restore(noisy, tau=0, over="spatial").astype(int), upscaled, atol=1)


def test_a_picture_with_small_latents_comes_back_as_it_was(flow: Upscaler, noisy: np.ndarray) -> None:
    smooth = np.full_like(noisy, 128) + np.arange(58, dtype=np.uint8)[:, None]
    np.testing.assert_array_equal(flow.restore(smooth, tau=2, over="local"), smooth)
    assert not np.array_equal(flow.restore(smooth, tau=0.1, over="local"), smooth)


def written(text: str, *, size: int, on: Image.Image, ink: str) -> np.ndarray:
    page = on.copy()
    for top in range(4, page.height, round(1.5 * size)):
        ImageDraw.Draw(page).text((4, top), text, ink, ImageFont.load_default(size))
    return np.asarray(page)


@pytest.fixture(scope="module")
def embedded() -> Iterator[Upscaler]:
    with Upscaler("x4-small", device="cpu", tile=None) as opened:
        yield opened


CAT = Image.open(Path(__file__).parents[3] / "examples" / "photos" / "cat.png").convert("RGB")
CLEAN = {
    "text": lambda: written("sphinx of black quartz", size=14, on=Image.new("RGB", (160, 128), "white"), ink="black"),
    "terminal": lambda: written("judge my vow", size=11, on=Image.new("RGB", (160, 128), "#1e1e24"), ink="#dcdcdc"),
    "caption": lambda: written("sphinx of black quartz", size=11, on=CAT.crop((0, 0, 160, 128)), ink="white"),
    "photograph": lambda: np.asarray(CAT.crop((0, 0, 160, 128))),
}


@pytest.mark.parametrize("name", CLEAN)
def test_clean_pictures_come_back_as_they_were_text_and_captions_too(embedded: Upscaler, name: str) -> None:
    picture = CLEAN[name]()
    np.testing.assert_array_equal(embedded.restore(picture), picture)


def error(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.mean((one.astype(float) - other) ** 2))


def test_noise_and_dots_become_less(embedded: Upscaler) -> None:
    photo, random = CLEAN["photograph"](), np.random.default_rng(0)
    noisy = np.clip(np.rint(photo + random.normal(0, 10, photo.shape)), 0, 255).astype(np.uint8)
    assert error(embedded.restore(noisy), photo) < 0.7 * error(noisy, photo)
    dotted = photo.copy()
    dotted[random.random(photo.shape[:2]) < 0.01] = 0
    dotted[random.random(photo.shape[:2]) < 0.01] = 255
    assert error(embedded.restore(dotted), photo) < 0.4 * error(dotted, photo)


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_has_the_kind_and_size_of_the_picture(flow: Upscaler, noisy: np.ndarray, kind: str) -> None:
    image: Any = KINDS[kind](noisy)
    restored: Any = flow.restore(image, tau=0.5)
    assert type(restored) is type(image)
    assert np.asarray(restored).shape == np.asarray(image).shape
    assert np.asarray(restored).dtype == np.asarray(image).dtype


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_stays_as_it_is(flow: Upscaler, noisy: np.ndarray, mode: str) -> None:
    alpha = np.random.default_rng(1).integers(0, 256, noisy.shape[:2], np.uint8)
    image = np.dstack([noisy if mode == "RGBA" else noisy[..., :1], alpha])
    restored = flow.restore(image, tau=0)
    np.testing.assert_array_equal(restored[..., -1], alpha)
    assert not np.array_equal(restored[..., 0], image[..., 0])


def test_it_does_not_depend_on_the_tiles(bundle: Path, flow: Upscaler, noisy: np.ndarray) -> None:
    image = noisy / np.float32(255)
    with Upscaler(bundle, device="cpu", threads=1, tile=16) as tiled:
        np.testing.assert_allclose(tiled.restore(image, tau=0.4), flow.restore(image, tau=0.4), atol=1e-3)


def test_progress_counts_the_tiles_of_all_three_passes(bundle: Path, noisy: np.ndarray) -> None:
    told: list[tuple[int, int]] = []
    with Upscaler(bundle, device="cpu", threads=1, tile=16) as tiled:
        tiled.restore(noisy, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 6) for done in range(1, 7)]  # two tiles, encoded, inverted and decoded


def test_a_tile_is_encoded_once_for_both_passes(noisy: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    encode = Painter.encode

    def counted(painter: Painter, *arguments: Any) -> Any:
        encoded.append(arguments)
        return encode(painter, *arguments)

    monkeypatch.setattr(Painter, "encode", counted)
    with Upscaler("x4-small", device="cpu", threads=1, tile=16) as embedded:
        manifest = embedded.bundle.manifest
        assert manifest.inverter_halo > manifest.halo, "or any model would do"
        embedded.restore(noisy)
    assert len(encoded) == 2  # LR 18×15


def test_it_can_be_cancelled_in_any_pass(bundle: Path, noisy: np.ndarray) -> None:
    with Upscaler(bundle, device="cpu", threads=1, tile=16) as tiled:
        for last in (1, 3, 5):
            cancel = threading.Event()

            def stop(done: int, total: int, last: int = last, cancel: threading.Event = cancel) -> None:
                assert done <= last
                if done == last:
                    cancel.set()

            with pytest.raises(CancelledError):
                tiled.restore(noisy, progress=stop, cancel=cancel)


def test_a_clean_picture_whose_call_is_cancelled_is_not_returned(flow: Upscaler) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        flow.restore(np.full((64, 64, 3), 128, np.uint8), cancel=cancel)


def test_a_bundle_without_an_inverter_is_refused_before_any_work(
    tmp_path: Path, noisy: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srflow_sdk.drawing.painter.Painter.encode", lambda *_, **__: pytest.fail("it went to work"))
    with (
        Upscaler(write_flow_bundle(tmp_path / "old.srflow", inverter=False), device="cpu") as old,
        pytest.raises(BundleError, match=r"has no inverter\.onnx.*export"),
    ):
        old.restore(noisy)


def test_levels_that_the_model_does_not_have_are_refused(flow: Upscaler, noisy: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match="level 7"):
        flow.restore(noisy, tau={7: 0.5})


def test_unknown_keywords_are_refused(flow: Upscaler, noisy: np.ndarray) -> None:
    with pytest.raises(TypeError, match="'temperature'"):
        flow.restore(noisy, temperature=1)  # type: ignore[call-overload]


def test_best_of_is_the_sample_with_the_highest_score(flow: Upscaler, noisy: np.ndarray) -> None:
    small = noisy[:20, :24]
    samples = flow.encode(small).samples(5, tau=1.5, sample=3)
    wanted = max(samples, key=lambda picture: picture.std())
    np.testing.assert_array_equal(flow.best_of(small, lambda picture: picture.std(), 5, tau=1.5, sample=3), wanted)


def test_of_equal_scores_the_first_sample_wins(flow: Upscaler, noisy: np.ndarray) -> None:
    small = noisy[:20, :24]
    first = flow.upscale(small, tau=1)
    np.testing.assert_array_equal(flow.best_of(small, lambda _: 1, 3, tau=1), first)
    np.testing.assert_array_equal(flow.best_of(small, lambda _: -np.inf, 3, tau=1), first)


def test_best_of_gives_the_score_pictures_of_the_images_kind(flow: Upscaler, noisy: np.ndarray) -> None:
    seen: list[Any] = []
    best = flow.best_of(Image.fromarray(noisy[:20, :24]), lambda picture: len(seen.append(picture) or seen), 3)
    assert [picture.size for picture in seen] == [(96, 80)] * 3
    assert best is seen[-1]


def test_best_of_holds_two_pictures_at_most(flow: Upscaler, noisy: np.ndarray) -> None:
    drawn: list[weakref.ref[Any]] = []
    held = []

    def score(picture: np.ndarray) -> float:
        drawn.append(weakref.ref(picture))
        held.append(sum(reference() is not None for reference in drawn))
        return len(held)

    flow.best_of(noisy[:20, :24], score, 6)
    assert max(held) == 2


@pytest.mark.parametrize("value", [float("nan"), "high", None, 10**400, 10**5000], ids=lambda _: "")
def test_scores_that_are_no_numbers_are_refused(flow: Upscaler, noisy: np.ndarray, value: Any) -> None:
    scores = itertools.chain([1.0], itertools.repeat(value))
    with pytest.raises(ArgumentError, match=r"score returned .* for sample 1"):
        flow.best_of(noisy[:20, :24], lambda _: next(scores), 3)


def test_an_error_of_the_score_ends_the_call(flow: Upscaler, noisy: np.ndarray) -> None:
    def fail(picture: np.ndarray) -> float:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        flow.best_of(noisy[:20, :24], fail, 3)


@pytest.mark.parametrize(("n", "options"), [(0, {}), (2.5, {}), (2, {"sample": 2**64 - 1})])
def test_best_of_refuses_numbers_of_samples_that_there_are_not(
    flow: Upscaler, noisy: np.ndarray, n: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(ArgumentError, match=r"sample|n is"):
        flow.best_of(noisy[:20, :24], lambda _: 0, n, **options)


def test_progress_of_best_of_counts_all_samples(flow: Upscaler, noisy: np.ndarray) -> None:
    told: list[tuple[int, int]] = []
    flow.best_of(noisy[:20, :24], lambda _: 0, 3, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """A clean photograph, 112×112×3."""
    photo = Path(__file__).parents[3] / "export/srflow_export/photos/face.png"
    return np.asarray(Image.open(photo).convert("RGB"))


def cut_out(photo: np.ndarray, hidden: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The photo with alpha, a circle with other colours around it, and whether pixels are inside the circle."""
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
    inside = (y - photo.shape[0] / 2) ** 2 + (x - photo.shape[1] / 2) ** 2 < (0.4 * photo.shape[0]) ** 2
    colours = photo if hidden is None else np.where(inside[..., None], photo, np.uint8(hidden))
    return np.dstack([colours, np.where(inside, 255, 0).astype(np.uint8)]), inside


@pytest.mark.parametrize("hidden", [0, 255, None])
def test_a_clean_cut_out_comes_back_without_halos(embedded: Upscaler, face: np.ndarray, hidden: int | None) -> None:
    image, inside = cut_out(face, hidden)
    restored = embedded.restore(image)
    assert np.abs(restored.astype(int) - image)[inside].max() <= 1
    np.testing.assert_array_equal(restored[~inside], image[~inside])


@pytest.mark.parametrize("hidden", [0, 255])
def test_a_cut_out_is_about_as_likely_as_its_photo(embedded: Upscaler, face: np.ndarray, hidden: int) -> None:
    image, _ = cut_out(face, hidden)
    assert embedded.log_likelihood(image) == pytest.approx(embedded.log_likelihood(face), rel=0.05)


def test_hidden_colours_do_not_show_in_the_reduced_image(flow: Upscaler) -> None:
    y, x = np.mgrid[0:523, 0:40]
    shades = (128 + 100 * np.sin(y / 40) * np.cos(x / 9)).astype(np.uint8)
    alpha = np.where((y // 16 + x // 16) % 2 == 0, 255, 0).astype(np.uint8)
    black, white = (np.dstack([np.where(alpha > 0, shades, np.uint8(hidden)), alpha]) for hidden in (0, 255))
    small = reduced_image(black, flow.bundle.manifest)
    np.testing.assert_array_equal(small, reduced_image(white, flow.bundle.manifest))
    assert small.shape == (131, 10, 2)


def test_a_file_with_a_profile_is_restored_as_its_picture_is(flow: Upscaler, noisy: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(noisy).save(tmp_path / "wide.png", icc_profile=matrix_profile(ADOBE_RGB, gamma_curve(563 / 256)))
    with Image.open(tmp_path / "wide.png") as picture:
        wanted = flow.restore(picture.copy(), tau=0.4, over="spatial")
    flow.restore_file(tmp_path / "wide.png", tmp_path / "clean.png", tau=0.4, over="spatial")
    with Image.open(tmp_path / "clean.png") as restored:
        np.testing.assert_array_equal(np.asarray(restored), np.asarray(wanted))


FORGED = {
    "401 digits": "1" + "0" * 400,
    "nested": "[" * 100_000,
    "list": "[1]",
    "no level": '{"x": 1}',
}


@pytest.mark.parametrize("tau", FORGED.values(), ids=FORGED)
def test_forged_settings_are_refused(tau: str) -> None:
    recorded = RestoreOptions(tau=1.0).recorded()
    assert RestoreOptions.from_record(recorded) == RestoreOptions(tau=1.0)
    forged = recorded.replace('"tau": 1.0', f'"tau": {tau}')
    assert forged != recorded
    long = recorded.replace('"auto"', f'"{"a" * 10_000}"')
    for settings in (forged, long):
        with pytest.raises(ArgumentError) as caught:
            RestoreOptions.from_record(settings)
        assert len(str(caught.value)) < 150


@pytest.mark.parametrize("latents", [None, np.zeros((3, 8, 8), np.float32), {}])
def test_decoding_something_else_is_refused(flow: Upscaler, noisy: np.ndarray, latents: Any) -> None:
    with pytest.raises(ArgumentError, match=r"latents is .*; it must be Latents"):
        flow.encode(noisy[:20, :24]).decode(latents)


def test_hidden_colours_do_not_show_in_transferred_content(embedded: Upscaler, face: np.ndarray) -> None:
    y, x = np.mgrid[:112, :112]
    mask = (abs(y - 56) < 20) & (x > 60)
    pictures = []
    for hidden in (0, 255, None):
        image, inside = cut_out(face, hidden)
        pictures.append(embedded.transfer(image, face, mask, blend="none")[inside].astype(int))
    plain = embedded.transfer(face, face, mask, blend="none")[inside].astype(int)
    assert all(np.abs(picture[:, :3] - plain).mean() < 0.2 for picture in pictures)
