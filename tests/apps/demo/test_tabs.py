"""What the tabs send to their page, the files that they write, and what they refuse."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from srflow_apps.commands import cli
from srflow_apps.demo.page_pictures import most_detailed
from srflow_apps.demo.tabs import SAMPLES, Tabs
from srflow_sdk import read_provenance
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import read_image, write_image
from srflow_sdk.upscaler import Upscaler
from tests.sdk.calibrated import calibrated
from tests.sdk.clean_and_noisy import smooth

from .conftest import copied, finished, opened, sent
from .visitor import CONTROLS

PNG = {**CONTROLS, "format": "png"}
RESTORE = {"over": "spatial", "choose": True, "tau": 0.9, "format": "png"}
TRANSFER = {"blend": "gradient", "seed": 0, "format": "png"}
WHOLE = {**PNG, "side": 384, "auto": True}  # all of a picture of 96×96


def pixels(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,")))))


def array(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


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


def test_opening_shows_the_photo_and_where_it_has_most_detail(tabs, session, first, shown, photo) -> None:
    assert (first["width"], first["height"]) == (61, 45)
    assert pixels(first["image"]).shape == (45, 61, 3)
    assert pixels(shown["before"]).shape == pixels(shown["after"]).shape == (96, 96, 3)
    assert (shown["name"], shown["why"]) == ("τ 0.8, seed 3, sample 0", "")
    top, left = (start // 2 * 2 for start in most_detailed(photo, 24))  # the model's multiple is 2
    assert shown["place"] == {"left": left, "top": top, "across": 24, "down": 24}
    place = tabs.show(session, {**CONTROLS, "left": 999, "top": -5})["place"]  # moved into the photo
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
        ("seed", [None, -1, 2**32, 0.5, True, "1", []], "the seed is .* a whole number from 0 to 4294967295"),
        ("sample", [None, -1, 8, "1", 1.0, True], "the sample is .* from 0 to 7"),
        ("side", [None, 0, -8, 513, 10**9, 8.5, "256", True], "from 1 to 512"),  # a larger one takes all memory
        (
            "tau",
            [None, float("nan"), float("inf"), "0.8", {}, True, 10**400],
            "the temperature is .*; it must be a fin",
        ),
        ("tau", [-1, 3], "from 0 to 2"),
        ("left", [1, "0", 1.5, True], "the crop's place is"),
        ("model", ["x4-large", "", 1], "model is one of auto, "),
    ],
)
def test_what_no_control_says_is_refused(tabs, session, first, name, values, words) -> None:
    for value in values:
        with pytest.raises(ArgumentError, match=words):
            tabs.show(session, {**CONTROLS, name: value})


@pytest.mark.parametrize("value", [None, "gif", "../png", "PNG", ["png"], {}])
def test_a_format_is_one_of_four(tabs, session, first, value) -> None:
    with pytest.raises(ArgumentError, match="format is one of png, jpg, webp, tif"):
        tabs.begin(session, "enlarge", {**CONTROLS, "format": value})


def test_the_photo_is_sent_again_only_with_another_crop(tabs, session, shown) -> None:
    assert "before" not in tabs.show(session, {**CONTROLS, "seed": 4, "shows": shown["place"]})
    moved = tabs.show(session, {**CONTROLS, "left": 0, "top": 0, "shows": shown["place"]})
    assert moved["before"] != shown["before"]
    smaller = tabs.show(session, {**CONTROLS, "side": 48, "shows": shown["place"]})
    assert pixels(smaller["before"]).shape == pixels(smaller["after"]).shape == (48, 48, 3)


def test_eight_samples_and_their_deviation(tabs, session, shown) -> None:
    drawn = tabs.samples(session, {**CONTROLS, "sample": 2}, threading.Event())
    assert len({*drawn["images"]}) == SAMPLES
    assert pixels(drawn["spread"]).shape == (96, 96, 3)
    assert "of 255" in drawn["scale"]
    np.testing.assert_array_equal(pixels(drawn["images"][0]), pixels(shown["after"]))
    changed = threading.Event()
    changed.set()
    assert tabs.samples(session, {**CONTROLS, "seed": 9}, changed) is None


def test_samples_show_where_they_differ_most(tabs, session, shown, monkeypatch) -> None:
    monkeypatch.setattr("srflow_apps.demo.tabs._THUMBNAIL_SIDE", 32)
    every = [pixels(tabs.show(session, {**CONTROLS, "sample": number})["after"]) for number in range(SAMPLES)]
    std = np.std(np.array(every, float), axis=0, ddof=1).mean(axis=2)
    sums = np.lib.stride_tricks.sliding_window_view(std, (32, 32)).sum((2, 3))
    part = pixels(tabs.samples(session, CONTROLS, threading.Event())["images"][3])
    places = [(y, x) for y, x in np.ndindex(sums.shape) if np.array_equal(every[3][y : y + 32, x : x + 32], part)]
    assert sums[places[0]] >= 0.999 * sums.max()  # of rounded values


def test_the_width_of_intervals_is_shown_at_the_default_temperature(tiny_bundle, tmp_path, session, uploaded) -> None:
    with Upscaler(calibrated(tiny_bundle, tmp_path / "calibrated.srflow"), device="cpu", threads=1) as upscaler:
        tabs = Tabs(upscaler, max_pixels=10**8)
        tabs.take(session, "enlarge", copied(session, uploaded))
        said = {tau: tabs.samples(session, {**CONTROLS, "tau": tau}, threading.Event()) for tau in (0.8, 0.5)}
    assert "255.0 of 255" in said[0.8]["scale"]  # at most
    words = "90 % of such photographs' values lie within intervals as wide as"
    assert [words in said[tau]["scale"] for tau in said] == [True, False]
    assert said[0.8]["spread"] != said[0.5]["spread"]


def test_the_rendered_file_is_what_the_command_writes(tabs, session, first, uploaded, tiny_bundle, tmp_path) -> None:
    job = finished(tabs, session, "enlarge", {**PNG, "sample": 2})
    assert (job.state, job.error) == ("done", None)
    arguments = ["--tau", "0.8", "--seed", "3", "--sample", "2", "--model", str(tiny_bundle), "--device", "cpu"]
    large = tmp_path / "large.png"
    done = CliRunner().invoke(cli.upscale, [str(uploaded), "-o", str(large), "--threads", "1", *arguments])
    assert done.exit_code == 0, done.output
    assert job.target.read_bytes() == large.read_bytes()
    made = read_provenance(job.target)
    assert (job.target.name, made.source) == ("photo_x4.png", "photo.png")


def test_the_whole_result_is_shown_reduced_and_says_so(tabs, session, first, monkeypatch, uploaded) -> None:
    monkeypatch.setattr("srflow_apps.demo.tabs._PREVIEW_SIDE", 50)
    result = finished(tabs, session, "enlarge", PNG).shown
    np.testing.assert_array_equal(pixels(result["before"]), array(uploaded))
    assert pixels(result["after"]).shape[1] == 100
    assert result["width"] == 4 * 61
    assert result["names"] == {"before": "the whole photo", "after": "τ 0.8, seed 3, sample 0"}
    assert result["note"] == "Shown reduced to 100 pixels; the file is whole."


def test_a_file_that_is_no_picture_leaves_the_page_empty(tabs, session, first, tmp_path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    for name in ("enlarge", "restore"):
        with pytest.raises(ImageError, match=r"bad\.png"):
            tabs.take(session, name, copied(session, bad))
    assert session.pictures == {}


def test_without_their_pictures_tabs_do_nothing(tabs, session, uploaded) -> None:
    sent(session, "photo", uploaded)
    for tab, said in (("enlarge", PNG), ("restore", RESTORE), ("transfer", TRANSFER)):
        with pytest.raises(ArgumentError, match=r"choose (one|both) first"):
            tabs.begin(session, tab, said)
    with pytest.raises(ArgumentError, match="choose one first"):
        tabs.show(session, CONTROLS)
    assert tabs.show_pictures(session) == {}


def test_two_pages_with_two_photos_do_not_meet(tabs, sessions, uploaded, photo, tmp_path) -> None:
    (tmp_path / "other").mkdir()
    write_image(tmp_path / "other" / "photo.png", photo[::-1])  # of the same name
    pages = [opened(sessions) for _ in range(2)]
    for page, path in zip(pages, (uploaded, tmp_path / "other" / "photo.png"), strict=True):
        tabs.take(page, "enlarge", copied(page, path))
    seen = [[tabs.show(page, CONTROLS)["after"] for page in pages] for _ in range(2)]
    assert seen[0] == seen[1]
    assert seen[0][0] != seen[0][1]
    asyncio.run(sessions.close(next(iter(sessions._sessions))))
    assert tabs.show(pages[1], CONTROLS)["after"] == seen[0][1]


@pytest.fixture
def compressed(tmp_path: Path) -> Path:
    Image.fromarray(smooth()).save(tmp_path / "compressed.jpg", quality=60)
    return tmp_path / "compressed.jpg"


@pytest.mark.slow
def test_the_photo_gets_what_suits_it_or_what_is_chosen(two_models, session, compressed) -> None:
    with Upscaler(device="cpu", threads=1) as upscaler:
        tabs = Tabs(upscaler, max_pixels=10**8)
        tabs.take(session, "enlarge", copied(session, compressed))
        for chosen, name, why in (
            ({}, "x4-photo", "JPEG of quality 60, blocks of 8×8, as of a JPEG"),
            ({"model": "x4-small"}, "x4-small", ""),
            ({"model": "auto"}, "x4-photo", "JPEG of quality 60, blocks of 8×8, as of a JPEG"),
            ({"model": "x4-photo"}, "x4-photo", "JPEG of quality 60, blocks of 8×8, as of a JPEG"),
        ):
            answer = tabs.show(session, {**WHOLE, **chosen})
            assert (answer["model"], answer["why"]) == (name, why)
            assert answer["tau"] == {"x4-small": 0.8, "x4-photo": 0.5}[name]
            job = finished(tabs, session, "enlarge", {**WHOLE, **chosen})
            assert read_provenance(job.target).model == name
            with Upscaler(name, device="cpu", threads=1) as one:
                expected = np.asarray(one.upscale(compressed, tau="auto", seed=CONTROLS["seed"]))
            np.testing.assert_array_equal(pixels(answer["after"]), expected)
            np.testing.assert_array_equal(read_image(job.target).pixels, expected)


def test_models_of_other_scales_are_there_to_choose(five_models, session, compressed) -> None:
    with Upscaler(device="cpu", threads=1) as upscaler:
        tabs = Tabs(upscaler, max_pixels=10**8)
        tabs.take(session, "enlarge", copied(session, compressed))
        assert tabs.show(session, WHOLE)["model"] == "x4-photo"
        for name, side in (("x2-small", 192), ("x8-small", 384), ("x16-small", 384)):
            answer = tabs.show(session, {**WHOLE, "model": name})
            assert (answer["model"], pixels(answer["after"]).shape) == (name, (side, side, 3))
            assert answer["scale"] == int(name.partition("-")[0].removeprefix("x"))


@pytest.fixture
def uses(flow) -> Tabs:
    return Tabs(flow, max_pixels=10**6)


@pytest.fixture
def other(tmp_path, photo) -> Path:
    """A picture of another size."""
    write_image(tmp_path / "other.png", np.tile(photo[::-1], (2, 1, 1)))
    return tmp_path / "other.png"


@pytest.fixture
def mask(tmp_path, photo):
    """A function that draws a mask with a square that is selected."""

    def draw(*, side: int) -> Path:
        drawn = np.zeros((*photo.shape[:2], 3), np.uint8)
        drawn[10 : 10 + side, 20 : 20 + side] = 255
        write_image(tmp_path / "mask.png", drawn)
        return tmp_path / "mask.png"

    return draw


@pytest.fixture
def both(session, uploaded, other):
    """A page that has sent both pictures of a transfer."""
    sent(session, "photo", uploaded)
    sent(session, "other", other)
    return session


def test_names_that_end_in_brackets_and_bmps_are_shown_and_restored(uses, session, uploaded, photo, tmp_path) -> None:
    sent(session, "photo", uploaded.rename(uploaded.with_name("photo.png[n=1]")))
    Image.fromarray(np.tile(photo, (2, 2, 1))).save(tmp_path / "other.bmp")  # which libvips does not read
    sent(session, "other", tmp_path / "other.bmp")
    assert pixels(uses.show_pictures(session)["other"]).shape == photo.shape
    Image.fromarray(photo).save(tmp_path / "noisy.bmp")
    sent(session, "restore", tmp_path / "noisy.bmp")
    job = finished(uses, session, "restore", RESTORE)
    assert (job.state, job.error) == ("done", None)
    np.testing.assert_array_equal(pixels(job.shown["before"]), photo)


@pytest.mark.parametrize(
    ("said", "keywords"),
    [(RESTORE, {"over": "spatial", "tau": 0.9}), ({**RESTORE, "over": "auto", "choose": False, "tau": 0.1}, {})],
    ids=["chosen", "as measured"],
)
def test_a_restored_file_is_what_the_sdk_writes(uses, flow, session, uploaded, tmp_path, said, keywords) -> None:
    sent(session, "restore", uploaded)
    job = finished(uses, session, "restore", said)
    assert (job.state, job.error, job.target.name) == ("done", None, "photo_restored.png")
    flow.restore_file(uploaded, tmp_path / "restored.png", **keywords)
    assert job.target.read_bytes() == (tmp_path / "restored.png").read_bytes()
    np.testing.assert_array_equal(pixels(job.shown["after"]), array(job.target))
    assert job.shown["names"] == {"before": "noisy", "after": "restored"}


def test_both_pictures_are_shown_in_the_photos_size(uses, both, photo) -> None:
    shown = uses.show_pictures(both)
    np.testing.assert_array_equal(pixels(shown["photo"]), photo)
    assert pixels(shown["other"]).shape == photo.shape
    assert sorted(path.name for path in both.folder.rglob("*.*")) == ["other.png", "photo.png"]


def test_a_transferred_file_has_the_content_inside_the_mask_and_the_photo_elsewhere(uses, both, mask, photo) -> None:
    sent(both, "mask", mask(side=16))
    job = finished(uses, both, "transfer", TRANSFER)
    assert (job.state, job.error, job.target.name) == ("done", None, "photo_transferred.png")
    result = array(job.target)
    np.testing.assert_array_equal(result[:, 45:], photo[:, 45:])
    assert (result[12:24, 22:34] != photo[12:24, 22:34]).mean() > 0.5
    assert read_provenance(job.target).operation == "transfer"
    np.testing.assert_array_equal(pixels(job.shown["after"]), result)
    names = sorted(path.name for path in both.folder.rglob("*.*"))
    assert names == ["mask.png", "other.png", "photo.png", "photo_transferred.png"]  # nothing of the way there


def test_a_picture_of_the_photos_size_goes_in_as_it_is(uses, flow, session, uploaded, photo, mask, tmp_path) -> None:
    same = tmp_path / "same.png"
    write_image(same, photo[::-1])
    for name, path in (("photo", uploaded), ("other", same), ("mask", mask(side=16))):
        sent(session, name, path)
    job = finished(uses, session, "transfer", {**TRANSFER, "blend": "none", "seed": 7})
    Image.open(mask(side=16)).convert("L").save(tmp_path / "gray.png")
    flow.transfer_file(uploaded, same, tmp_path / "gray.png", tmp_path / "both.png", blend="none", seed=7)
    np.testing.assert_array_equal(array(job.target), array(tmp_path / "both.png"))


def test_a_transfer_without_a_mask_is_refused(uses, both, mask, tmp_path) -> None:
    for drawn in (None, mask(side=0)):
        if drawn is not None:
            sent(both, "mask", drawn)
        with pytest.raises(ArgumentError, match="the mask is empty; paint"):
            uses.begin(both, "transfer", TRANSFER)
    for contents in (b"hello", b"\x89PNG\r\n\x1a\n" + 30 * b"0", b""):
        (tmp_path / "mask.png").write_bytes(contents)
        sent(both, "mask", tmp_path / "mask.png")
        with pytest.raises(ImageError, match=r"mask\.png"):
            uses.begin(both, "transfer", TRANSFER)


@pytest.mark.parametrize("sizes", [((64, 64), (1, 30_000)), ((1, 30_000), (64, 64))], ids=str)
def test_pictures_of_too_different_shapes_are_refused_before_they_take_gigabytes(
    uses, session, tmp_path, sizes
) -> None:
    for name, size in zip(("photo", "other"), sizes, strict=True):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
        sent(session, name, tmp_path / f"{name}.png")
    with pytest.raises(ArgumentError, match=r"too different a shape from photo\.png .*crop it"):
        uses.show_pictures(session)


@pytest.mark.parametrize("said", [{"seed": -1}, {"seed": None}, {"blend": "all"}, {"blend": 1}, {"format": "exe"}])
def test_controls_of_a_transfer_are_checked(uses, both, mask, said) -> None:
    sent(both, "mask", mask(side=10))
    with pytest.raises(ArgumentError):
        uses.begin(both, "transfer", {**TRANSFER, **said})
