"""What the tab "Enlarge" sends to its page, and the file that it writes."""

from __future__ import annotations

import base64
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from srflow_apps.commands import cli
from srflow_apps.demo.page_pictures import most_detailed
from srflow_apps.demo.tabs import SAMPLES, Tabs
from srflow_sdk import read_provenance
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import write_image
from srflow_sdk.upscaler import Upscaler
from tests.sdk.calibrated import calibrated

from .conftest import finished, sent
from .visitor import CONTROLS


def pixels(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,")))))


@pytest.fixture
def enlarging(upscaler, sessions) -> Tabs:
    return Tabs(upscaler, sessions, max_pixels=10**8)


@pytest.fixture
def opened(enlarging, session, uploaded):
    """What the page shows of the photo after it was opened."""
    return enlarging.open(session, sent(session, "enlarge", uploaded))


@pytest.fixture
def shown(enlarging, session, opened):
    """What the page shows of the crop at first."""
    return enlarging.show(session, CONTROLS)


def test_opening_shows_the_photo_and_where_it_has_most_detail(opened, shown, photo) -> None:
    assert (opened["width"], opened["height"]) == (61, 45)
    assert pixels(opened["image"]).shape == (45, 61, 3)
    assert pixels(shown["before"]).shape == pixels(shown["after"]).shape == (96, 96, 3)
    assert shown["name"] == "τ 0.8, seed 3, sample 0"
    top, left = (start // 2 * 2 for start in most_detailed(photo, 24))  # the model's multiple is 2
    assert shown["place"] == {"left": left, "top": top, "across": 24, "down": 24}


def test_the_picture_follows_tau_seed_and_sample(enlarging, session, shown) -> None:
    seen = [shown["after"]]
    for changes in ({"tau": 0.2}, {"tau": 0.2, "auto": True}, {"seed": 4}, {"sample": 5}):
        answer = enlarging.show(session, {**CONTROLS, **changes})
        seen.append(answer["after"])
    first, cold, auto, *others = seen
    assert auto == first, "auto is the model's 0.8 in texture, whatever the slider says"
    assert len({first, cold, *others}) == 4
    assert answer["name"] == "τ 0.8, seed 3, sample 5"


def test_the_photo_is_sent_again_only_with_another_crop(enlarging, session, shown) -> None:
    assert "before" not in enlarging.show(session, {**CONTROLS, "seed": 4, "shows": shown["place"]})
    moved = enlarging.show(session, {**CONTROLS, "left": 0, "top": 0, "shows": shown["place"]})
    assert moved["before"] != shown["before"]
    smaller = enlarging.show(session, {**CONTROLS, "side": 48, "shows": shown["place"]})
    assert pixels(smaller["before"]).shape == pixels(smaller["after"]).shape == (48, 48, 3)


def test_moving_the_crop_stays_within_the_photo(enlarging, session, opened) -> None:
    place = enlarging.show(session, {**CONTROLS, "left": 999, "top": -5})["place"]
    assert (place["left"], place["top"]) == (38, 0)


def test_the_width_of_intervals_is_shown_at_the_default_temperature(
    tiny_bundle, tmp_path, sessions, session, uploaded
) -> None:
    with Upscaler(calibrated(tiny_bundle, tmp_path / "calibrated.srflow"), device="cpu", threads=1) as upscaler:
        tabs = Tabs(upscaler, sessions, max_pixels=10**8)
        tabs.open(session, sent(session, "enlarge", uploaded))
        said = {tau: tabs.samples(session, {**CONTROLS, "tau": tau}, threading.Event()) for tau in (0.8, 0.5)}
        default = upscaler.bundle.manifest.default_tau
    assert "255.0 of 255" in said[0.8]["scale"]  # at most
    words = "90 % of such photographs' values lie within intervals as wide as"
    assert [words in said[tau]["scale"] for tau in said] == [default == tau for tau in said] == [True, False]
    assert said[0.8]["spread"] != said[0.5]["spread"]


def test_eight_samples_and_their_deviation(enlarging, session, shown) -> None:
    drawn = enlarging.samples(session, CONTROLS, threading.Event())
    assert len({*drawn["images"]}) == SAMPLES
    assert pixels(drawn["spread"]).shape == (96, 96, 3)
    assert "of 255" in drawn["scale"]
    np.testing.assert_array_equal(pixels(drawn["images"][0]), pixels(shown["after"]))


def test_samples_show_where_they_differ_most(enlarging, session, opened, monkeypatch) -> None:
    monkeypatch.setattr("srflow_apps.demo.tabs._THUMBNAIL_SIDE", 32)
    whole = {**CONTROLS, "left": 0, "top": 0}
    enlarging.show(session, whole)
    pictures, std = session.photo.samples(SAMPLES, tau=0.8, seed=3)
    sums = np.lib.stride_tricks.sliding_window_view(std.mean(axis=2), (32, 32)).sum((2, 3))
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    images = enlarging.samples(session, whole, threading.Event())["images"]
    np.testing.assert_array_equal(pixels(images[3]), pictures[3][top : top + 32, left : left + 32])


def test_a_change_stops_the_eight_samples(enlarging, session, shown) -> None:
    changed = threading.Event()
    changed.set()
    assert enlarging.samples(session, {**CONTROLS, "seed": 9}, changed) is None


def test_the_rendered_file_is_what_the_command_writes(enlarging, session, opened, uploaded, tiny_bundle, tmp_path):
    job = finished(session, "enlarge", enlarging.render(session, {**CONTROLS, "sample": 2, "format": "png"}))
    assert (job.state, job.error) == ("done", None)
    file = session.results["enlarge"]
    arguments = ["--tau", "0.8", "--seed", "3", "--sample", "2", "--model", str(tiny_bundle), "--device", "cpu"]
    large = tmp_path / "large.png"
    done = CliRunner().invoke(cli.upscale, [str(uploaded), "-o", str(large), "--threads", "1", *arguments])
    assert done.exit_code == 0, done.output
    assert file.read_bytes() == large.read_bytes()
    assert file.name == "photo_x4.png"
    made = read_provenance(file)
    assert (made.tau, made.seed, made.sample, made.source) == (0.8, 3, 2, "photo.png")


def test_the_whole_result_is_shown_with_its_own_width(enlarging, session, opened, monkeypatch, uploaded) -> None:
    monkeypatch.setattr("srflow_apps.demo.tabs._PREVIEW_SIDE", 50)
    result = finished(session, "enlarge", enlarging.render(session, {**CONTROLS, "format": "png"})).result
    np.testing.assert_array_equal(pixels(result["before"]), np.asarray(Image.open(uploaded)))
    assert pixels(result["after"]).shape[1] == 100
    assert result["width"] == 4 * 61
    assert result["names"]["after"] == "τ 0.8, seed 3, sample 0"
    assert "Shown reduced to 100 pixels" in result["note"]


def test_cancelling_a_render_leaves_no_file(enlarging, session, opened) -> None:
    turn, let = ThreadPoolExecutor(1), threading.Event()
    turn.submit(let.wait, 60)  # other work, so that it waits
    session.begin("enlarge", *enlarging.render(session, {**CONTROLS, "format": "png"}), turn=turn)
    session.jobs["enlarge"].cancel()
    session.jobs["enlarge"].join(60)
    let.set()
    assert session.jobs["enlarge"].state == "cancelled"
    assert [path.name for path in session.folder.rglob("*.*")] == ["photo.png"]


def test_a_file_that_is_no_picture_leaves_the_page_empty(enlarging, session, opened, tmp_path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"bad\.png"):
        enlarging.open(session, sent(session, "enlarge", bad))
    with pytest.raises(ArgumentError, match="choose one first"):
        enlarging.show(session, CONTROLS)


def test_without_a_photo_there_is_nothing_to_show_or_render(enlarging, session) -> None:
    for act in (enlarging.show, enlarging.render):
        with pytest.raises(ArgumentError, match="choose one first"):
            act(session, {**CONTROLS, "format": "png"})


def test_two_pages_with_two_photos_do_not_meet(enlarging, sessions, uploaded, photo, tmp_path) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "photo.png"  # of the same name
    write_image(other, photo[::-1])
    (key, one), (_, two) = pages = [sessions.open(), sessions.open()]
    for (_, page), path in zip(pages, (uploaded, other), strict=True):
        enlarging.open(page, sent(page, "enlarge", path))
    first = [enlarging.show(page, CONTROLS)["after"] for page in (one, two)]
    again = [enlarging.show(page, CONTROLS)["after"] for page in (one, two)]
    assert first == again
    assert first[0] != first[1]
    sessions.close(key)
    sessions.release()
    assert enlarging.show(two, CONTROLS)["after"] == first[1]
