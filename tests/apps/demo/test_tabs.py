"""What the tabs send to their page, the files that they write, what they refuse, and the crop that
they draw."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from srflow_apps.commands import cli
from srflow_apps.demo.live import LivePhoto
from srflow_apps.demo.tabs import SAMPLES, Tabs, reduce_picture
from srflow_sdk import read_image, read_provenance
from srflow_sdk.drawing.options import DrawOptions
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import write_image
from srflow_sdk.upscaler import Upscaler
from tests.sdk.calibrated import calibrated
from tests.sdk.clean_and_noisy import smooth

from .conftest import copied, finished, sent
from .page.browser import of_url as pixels
from .visitor import CONTROLS

TURN = ThreadPoolExecutor(1)
PNG = {**CONTROLS, "format": "png"}
RESTORE = {"over": "spatial", "format": "png"}
WHOLE = {**PNG, "side": 384, "auto": True}  # all of a picture of 96×96


@pytest.fixture
def tabs(upscaler) -> Tabs:
    return Tabs(upscaler, max_pixels=10**8)


@pytest.fixture
def first(tabs, session, uploaded):
    """What the page shows of the photo after it was chosen."""
    return tabs.take(session, "enlarge", copied(session, uploaded))


@pytest.fixture
def shown(tabs, session, first):
    """What the page shows of the crop at first."""
    return tabs.show(session, CONTROLS)


def test_opening_shows_the_photo_and_its_middle(tabs, session, first, shown) -> None:
    assert (first["width"], first["height"]) == (61, 45)
    assert pixels(first["image"]).shape == (45, 61, 3)
    assert pixels(shown["before"]).shape == pixels(shown["after"]).shape == (96, 96, 3)
    assert (shown["name"], shown["why"]) == ("τ 0.8, seed 3, sample 0", "")
    assert shown["place"] == {"left": 18, "top": 10, "across": 24, "down": 24}
    # moved into the photo
    place = tabs.show(session, {**CONTROLS, "left": 999, "top": -5})["place"]
    assert (place["left"], place["top"]) == (38, 0)


def test_each_control_changes_the_picture(tabs, session, shown) -> None:
    seen = [shown["after"]]
    for changes in ({"tau": 0}, {"auto": True}, {"seed": 4}, {"sample": 5}):
        answer = tabs.show(session, {**CONTROLS, **changes})
        seen.append(answer["after"])
    same, cold, auto, *others = seen
    assert auto == same, "auto is the model's 0.8 in texture, whatever the slider says"
    assert len({same, cold, *others}) == 4
    assert answer["name"] == "τ 0.8, seed 3, sample 5"


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        (
            "seed",
            [None, -1, 2**32, 0.5, True, "1", []],
            "the seed is .* a whole number from 0 to 4294967295",
        ),
        ("sample", [None, -1, 8, "1", 1.0, True], "the sample is .* from 0 to 7"),
        # a larger one takes all memory
        ("side", [None, 0, -8, 513, 10**9, 8.5, "256", True], "from 1 to 512"),
        (
            "tau",
            [None, float("nan"), "0.8", {}, True, 10**400],
            "the temperature is .*; it must be a fin",
        ),
        ("model", ["x4-large", "", 1], "model is one of auto, "),
        (
            "format",
            [None, "gif", "../png", "PNG", ["png"], {}],
            "format is one of png, jpg, webp, tif",
        ),
        ("over", [None, "all", 1], "over is one of auto, spatial, local"),
    ],
)
def test_what_no_control_says_is_refused(
    tabs, session, first, uploaded, name, values, words
) -> None:
    sent(session, "restore", uploaded)

    def asked(change: dict[str, object]) -> object:
        if name == "over":
            return tabs.begin(session, "restore", {**RESTORE, **change}, TURN)
        return (
            tabs.begin(session, "enlarge", {**PNG, **change}, TURN)
            if name == "format"
            else tabs.show(session, {**CONTROLS, **change})
        )

    for value in values:
        with pytest.raises(ArgumentError, match=words):
            asked({name: value})


def test_the_photo_is_sent_again_only_with_another_crop(tabs, session, shown) -> None:
    assert "before" not in tabs.show(session, {**CONTROLS, "seed": 4, "shows": shown["place"]})
    moved = tabs.show(session, {**CONTROLS, "left": 0, "top": 0, "shows": shown["place"]})
    assert moved["before"] != shown["before"]
    smaller = tabs.show(session, {**CONTROLS, "side": 48, "shows": shown["place"]})
    assert pixels(smaller["before"]).shape == pixels(smaller["after"]).shape == (48, 48, 3)


def test_eight_samples_their_deviation_and_where_they_differ_most(
    tabs, session, shown, monkeypatch
) -> None:
    monkeypatch.setattr("srflow_apps.demo.tabs._THUMBNAIL_SIDE", 32)
    every = [
        pixels(tabs.show(session, {**CONTROLS, "sample": number})["after"])
        for number in range(SAMPLES)
    ]
    std = np.std(np.array(every, float), axis=0, ddof=1).mean(axis=2)
    sums = np.lib.stride_tricks.sliding_window_view(std, (32, 32)).sum((2, 3))
    drawn = tabs.samples(session, {**CONTROLS, "sample": 2}, threading.Event())
    assert len({*drawn["images"]}) == SAMPLES
    part = pixels(drawn["images"][3])
    places = [
        (y, x)
        for y, x in np.ndindex(sums.shape)
        if np.array_equal(every[3][y : y + 32, x : x + 32], part)
    ]
    assert sums[places[0]] >= 0.98 * sums.max()
    spread = pixels(drawn["spread"]).astype(int)
    assert spread.shape == (96, 96, 3)
    dark, bright = (spread[std <= np.quantile(std, share)] for share in (0.1, 1))
    assert dark.mean() < bright.mean()
    assert "of 255" in drawn["scale"]
    changed = threading.Event()
    changed.set()
    assert tabs.samples(session, {**CONTROLS, "seed": 9}, changed) is None


def test_the_width_of_intervals_is_shown_at_the_default_temperature(
    tiny_bundle, tmp_path, session, uploaded
) -> None:
    with Upscaler(
        calibrated(tiny_bundle, tmp_path / "calibrated.srflow"), device="cpu", threads=1
    ) as upscaler:
        tabs = Tabs(upscaler, max_pixels=10**8)
        tabs.take(session, "enlarge", copied(session, uploaded))
        said = {
            tau: tabs.samples(session, {**CONTROLS, "tau": tau}, threading.Event())
            for tau in (0.8, 0.5)
        }
    assert "255.0 of 255" in said[0.8]["scale"]  # at most
    words = "90 % of such photographs' values lie within intervals as wide as"
    assert [words in said[tau]["scale"] for tau in said] == [True, False]
    assert said[0.8]["spread"] != said[0.5]["spread"]


def test_the_rendered_file_is_what_the_command_writes_and_is_shown_reduced(
    tabs, session, first, uploaded, tiny_bundle, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("srflow_apps.demo.tabs._PREVIEW_SIDE", 100)
    job = finished(tabs, session, "enlarge", {**PNG, "sample": 2})
    assert (job.state, job.error, job.target.name) == ("done", None, "photo_x4.png")
    arguments = [
        "--tau",
        "0.8",
        "--seed",
        "3",
        "--sample",
        "2",
        "--model",
        str(tiny_bundle),
        "--device",
        "cpu",
    ]
    large = tmp_path / "large.png"
    done = CliRunner().invoke(
        cli.upscale,
        [str(uploaded), "-o", str(large), "--threads", "1", *arguments],
    )
    assert done.exit_code == 0, done.output
    assert job.target.read_bytes() == large.read_bytes()
    np.testing.assert_array_equal(pixels(job.shown["before"]), np.asarray(Image.open(uploaded)))
    assert (pixels(job.shown["after"]).shape[1], job.shown["width"]) == (100, 4 * 61)
    assert job.shown["names"] == {"before": "the whole photo", "after": "τ 0.8, seed 3, sample 2"}
    assert job.shown["note"] == "Shown reduced to 100 pixels; the file is whole."


def test_a_file_that_is_no_picture_leaves_the_page_empty(tabs, session, first, tmp_path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    for tab in ("enlarge", "restore"):
        with pytest.raises(ImageError, match=r"bad\.png"):
            tabs.take(session, tab, copied(session, bad))
    assert session.pictures == {}


@pytest.fixture
def compressed(tmp_path: Path) -> Path:
    Image.fromarray(smooth()).save(tmp_path / "compressed.jpg", quality=60)
    return tmp_path / "compressed.jpg"


def test_the_photo_gets_what_suits_it_or_what_is_chosen(five_models, session, compressed) -> None:
    why = "JPEG of quality 60"
    with Upscaler(device="cpu", threads=1) as upscaler:
        tabs = Tabs(upscaler, max_pixels=10**8)
        tabs.take(session, "enlarge", copied(session, compressed))
        for chosen, name, says, scale in (
            ({}, "x4-photo", why, 4),
            ({"model": "x4-small"}, "x4-small", "", 4),
            ({"model": "auto"}, "x4-photo", why, 4),
            ({"model": "x2-small"}, "x2-small", "", 2),
            ({"model": "x8-small"}, "x8-small", "", 8),
        ):
            answer = tabs.show(session, {**WHOLE, **chosen})
            assert (answer["model"], answer["why"], answer["scale"]) == (name, says, scale)
            with Upscaler(name, device="cpu", threads=1) as one:
                expected = np.asarray(one.upscale(compressed, tau="auto", seed=CONTROLS["seed"]))
                assert answer["tau"] == one.bundle.manifest.default_tau
            drawn = pixels(answer["after"])
            if scale == 8:  # only the middle of it is shown
                assert drawn.shape == (384, 384, 3)
            else:
                np.testing.assert_array_equal(drawn, expected)
        job = finished(tabs, session, "enlarge", {**WHOLE, "model": "x4-small"})
        assert read_provenance(job.target).model == "x4-small"


def test_a_restored_file_is_what_the_sdk_writes(flow, session, photo, tmp_path) -> None:
    noisy = tmp_path / "noisy.png[n=1]"  # which libvips takes for an option
    Image.fromarray(photo).save(noisy, "BMP")  # which libvips does not read
    tabs = Tabs(flow, max_pixels=10**6)
    assert tabs.take(session, "restore", copied(session, noisy)) == {}
    for over in ("auto", "spatial"):
        job = finished(tabs, session, "restore", {**RESTORE, "over": over})
        assert (job.state, job.error, job.target.name) == ("done", None, "noisy_restored.png")
        flow.restore_file(noisy, tmp_path / "restored.png", over=over)
        assert job.target.read_bytes() == (tmp_path / "restored.png").read_bytes()
        np.testing.assert_array_equal(pixels(job.shown["before"]), photo)
        np.testing.assert_array_equal(
            pixels(job.shown["after"]),
            np.asarray(Image.open(job.target)),
        )
        assert job.shown["names"] == {"before": "noisy", "after": "restored"}


def test_a_preview_is_reduced_keeps_alpha_and_takes_results_of_any_size(tmp_path: Path) -> None:
    picture = np.zeros((300, 2000, 4), np.uint8)
    picture[:, 1000:] = (200, 100, 50, 255)
    write_image(tmp_path / "wide.png", picture)
    seen, width = reduce_picture(tmp_path / "wide.png", most=100)
    assert (seen.shape, width) == ((15, 100, 4), 2000)
    assert seen[7, 10, 3] == 0
    assert np.abs(seen[7, 90].astype(int) - (200, 100, 50, 255)).max() <= 1
    # more pixels than files may have by themselves
    Image.new("1", (12_500, 8_100)).save(tmp_path / "large.png")
    assert reduce_picture(tmp_path / "large.png", most=100)[0].shape[:2] == (65, 100)


def live_crop(
    upscaler, path: Path, *, place: tuple[int, int] | None = (0, 0), side: int = 24
) -> LivePhoto:
    live = LivePhoto(upscaler.engine.painter, path, max_pixels=10**8)
    live.show(place=place, side=side)
    return live


def part(whole: np.ndarray, live: LivePhoto, shape: tuple[int, ...]) -> np.ndarray:
    top, left = live.crop.top * 4, live.crop.left * 4
    return whole[top : top + shape[0], left : left + shape[1]]


@pytest.mark.parametrize(
    ("place", "tau"),
    [((13, 7), 0.8), ((999, 999), "auto"), ((-5, 20), 0.8), (None, "auto")],
)
def test_a_crop_is_that_part_of_the_file_that_the_sdk_writes(
    upscaler, uploaded, tmp_path, tau, place
) -> None:
    upscaler.upscale_file(uploaded, tmp_path / "large.png", tau=tau, seed=3, sample=2)
    live = live_crop(upscaler, uploaded, place=place)
    drawn = live.draw(DrawOptions(tau=tau, seed=3, sample=2))
    assert drawn.shape[0] >= 24 * 4 - 4
    expected = part(read_image(tmp_path / "large.png").pixels, live, drawn.shape)
    assert np.abs(drawn.astype(int) - expected).max() <= 1
    assert (drawn != expected).mean() < 0.001


def test_the_same_crop_is_encoded_once(upscaler, uploaded, monkeypatch) -> None:
    encoded: list[object] = []
    backend = upscaler.engine.painter.backend
    encode = backend.encode
    monkeypatch.setattr(backend, "encode", lambda *a, **k: (encoded.append(a), encode(*a, **k))[1])
    live = live_crop(upscaler, uploaded, place=(4, 4))
    for tau in (0.1, 0.5, 0.9):
        live.show(place=(4, 4), side=24)
        live.draw(DrawOptions(tau=tau))
    assert len(encoded) == 1
    live.show(place=(8, 4), side=24)
    assert len(encoded) == 2


def test_samples_of_a_photo_smaller_than_the_crop_are_those_of_an_encoding(
    upscaler, uploaded, photo
) -> None:
    drawn, std = live_crop(upscaler, uploaded, side=128).samples(4, DrawOptions(tau=0.8, seed=5))
    encoding = upscaler.encode(photo)
    for picture, expected in zip(drawn, encoding.samples(4, tau=0.8, seed=5), strict=True):
        np.testing.assert_array_equal(picture, expected)
    np.testing.assert_allclose(std, encoding.std(4, tau=0.8, seed=5), atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_gray_and_transparent_photos_keep_their_channels(upscaler, tmp_path, photo, mode) -> None:
    path = tmp_path / "photo.png"
    image = Image.fromarray(photo).convert(mode)
    if mode != "L":
        alpha = np.full(photo.shape[:2], 255, np.uint8)
        alpha[:, 12:] = 0
        image.putalpha(Image.fromarray(alpha))
    image.save(path)
    live = live_crop(upscaler, path)
    upscaler.upscale_file(path, tmp_path / "large.png", tau=0.8)
    saved = read_image(tmp_path / "large.png").pixels[:96, :96]
    drawn = live.draw(DrawOptions(tau=0.8))
    # what is transparent has any colour
    assert np.abs(drawn.astype(int) - saved)[:, :44].max() <= 1
    assert live.enlarge_bicubic().shape == drawn.shape == (96, 96, len(mode))
    if mode != "L":
        for picture in (drawn, live.enlarge_bicubic(), *live.samples(2, DrawOptions(tau=0.8))[0]):
            np.testing.assert_array_equal(picture[..., -1], saved[..., -1])


def test_bicubic_is_that_of_the_whole_photo(upscaler, uploaded, photo) -> None:
    live = live_crop(upscaler, uploaded, place=(10, 12), side=20)
    height, width = photo.shape[:2]
    whole = np.asarray(
        Image.fromarray(photo).resize((4 * width, 4 * height), Image.Resampling.BICUBIC),
    )
    shown = live.enlarge_bicubic()
    assert np.abs(shown.astype(int) - part(whole, live, shown.shape)).max() <= 1
