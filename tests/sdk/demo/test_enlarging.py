"""What the tab "Enlarge" sends to its page, and the file that it writes."""

from __future__ import annotations

import base64
import io
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from srflow_sdk import cli, read_provenance
from srflow_sdk._demo.enlarging import RENDER, SAMPLES, Enlarging
from srflow_sdk._demo.live import LivePhoto
from srflow_sdk._demo.work import cancel
from srflow_sdk.errors import ArgumentError, CancelledError, ImageError

CONTROLS = (0.8, False, 3, 96)  # tau, auto, seed, side of the enlarged crop


def pixels(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,")))))


@pytest.fixture
def enlarging(upscaler, sessions) -> Enlarging:
    return Enlarging(upscaler, sessions, max_pixels=10**8)


@pytest.fixture
def opened(enlarging, session, uploaded):
    """Values of viewer, overview and strip after the photo was opened."""
    return [json.loads(value) for value in enlarging.open(session, str(uploaded), *CONTROLS)]


def test_opening_shows_the_middle_of_the_photo(opened, session) -> None:
    viewer, overview, strip = opened
    assert pixels(viewer["before"]).shape == pixels(viewer["after"]).shape == (96, 96, 3)
    assert viewer["spread"] is None
    assert viewer["names"]["after"] == "τ 0.8, seed 3, sample 0"
    assert (overview["width"], overview["height"]) == (61, 45)
    assert (overview["left"], overview["top"], overview["across"], overview["down"]) == (18, 10, 24, 24)
    assert pixels(overview["image"]).shape == (45, 61, 3)
    assert strip == {"images": None, "chosen": 0}
    assert session.path.name == "photo.png"


def test_the_picture_follows_tau_seed_and_sample(enlarging, session, opened) -> None:
    seen = [opened[0]["after"]]
    for values in ((0.2, False, 3, 96), (0.2, True, 3, 96), (0.2, False, 4, 96)):
        seen.append(json.loads(enlarging.draw(session, *values))["after"])
    viewer, strip = enlarging.choose(session, {"sample": 5}, 0.2, False, 4, 96)
    seen.append(json.loads(viewer)["after"])
    assert len(set(seen)) == 5
    assert json.loads(strip) == {"chosen": 5}
    assert json.loads(viewer)["names"]["after"] == "τ 0.2, seed 4, sample 5"


def cancelled(*_: object, **__: object) -> None:
    raise CancelledError("something changed")


def test_moving_the_slider_turns_auto_off(enlarging, session, opened) -> None:
    viewer, auto = enlarging.slide(session, 0.3, True, 3, 96)
    assert auto is False
    assert json.loads(viewer)["names"]["after"].startswith("τ 0.3,")


def test_moving_the_crop_stays_within_the_photo(enlarging, session, opened) -> None:
    viewer, overview, strip = map(json.loads, enlarging.place(session, {"left": 999, "top": -5}, *CONTROLS))
    assert (overview["left"], overview["top"]) == (38, 0)
    assert viewer["before"] != opened[0]["before"]
    assert viewer["spread"] is None
    assert strip["images"] is None


def test_eight_samples_and_their_deviation_come_once_the_page_rests(enlarging, session, opened) -> None:
    shown, overview, strip = enlarging.eight(session, *CONTROLS)
    viewer, strip = json.loads(shown), json.loads(strip)
    assert overview is None
    assert "after" not in viewer  # it stands there already
    assert len({*strip["images"]}) == SAMPLES
    assert pixels(viewer["spread"]).shape == (96, 96, 3)
    assert "of 255" in viewer["scale"]
    np.testing.assert_array_equal(pixels(strip["images"][0]), pixels(opened[0]["after"]))


def test_controls_that_changed_while_the_photo_was_opened_count_once_it_rests(enlarging, session, opened) -> None:
    tau, auto, seed, side = CONTROLS
    viewer, overview, strip = map(json.loads, enlarging.eight(session, tau, auto, seed + 1, side // 2))
    assert pixels(viewer["after"]).shape == pixels(viewer["before"]).shape == (side // 2, side // 2, 3)
    assert f"seed {seed + 1}" in viewer["names"]["after"]
    assert overview["across"] == side // 2 // 4
    assert len(strip["images"]) == SAMPLES


def test_a_new_crop_reaches_the_page_also_if_something_changes_before_it_rests(
    enlarging, session, opened, monkeypatch
) -> None:
    tau, auto, seed, side = CONTROLS
    enlarging.draw(session, tau, auto, seed + 1, side // 2)  # which only tells the viewer
    with monkeypatch.context() as patched:
        patched.setattr(LivePhoto, "samples", cancelled)
        assert enlarging.eight(session, tau, auto, seed + 1, side // 2) is None
    viewer, overview, _ = map(json.loads, enlarging.eight(session, tau, auto, seed + 1, side // 2))
    assert pixels(viewer["before"]).shape == (side // 2, side // 2, 3)
    assert overview["across"] == side // 2 // 4
    assert enlarging.eight(session, tau, auto, seed + 1, side // 2)[1] is None  # once is enough


def test_a_change_stops_the_eight_samples(enlarging, session, opened, monkeypatch) -> None:
    monkeypatch.setattr("srflow_sdk._demo.enlarging._SETTLED_S", 30)
    older = session.strip
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(enlarging.eight(session, *CONTROLS)))
    waiting.start()
    while session.strip is older:  # until it waits
        waiting.join(0.01)
    enlarging.draw(session, *CONTROLS)
    waiting.join(10)
    assert found == [None]


def test_the_rendered_file_is_what_the_command_writes(enlarging, session, opened, uploaded, tiny_bundle, tmp_path):
    enlarging.choose(session, {"sample": 2}, *CONTROLS)
    *_, (words, file) = enlarging.render(session, "png", *CONTROLS)
    arguments = ["--tau", "0.8", "--seed", "3", "--sample", "2", "--model", str(tiny_bundle), "--device", "cpu"]
    large = tmp_path / "large.png"
    done = CliRunner().invoke(cli.upscale, [str(uploaded), "-o", str(large), "--threads", "1", *arguments])
    assert done.exit_code == 0, done.output
    assert Path(file).read_bytes() == large.read_bytes()
    assert Path(file).name == "photo_x4.png"
    assert words.endswith("photo_x4.png is ready</span></div>")
    made = read_provenance(file)
    assert (made.tau, made.seed, made.sample, made.source) == (0.8, 3, 2, "photo.png")


def test_what_is_shown_is_part_of_the_rendered_file(enlarging, session, opened) -> None:
    *_, (_, file) = enlarging.render(session, "png", *CONTROLS)
    left, top = 4 * opened[1]["left"], 4 * opened[1]["top"]
    shown = pixels(opened[0]["after"]).astype(int)
    assert np.abs(shown - np.asarray(Image.open(file))[top : top + 96, left : left + 96]).max() <= 1


def test_cancelling_a_render_leaves_no_file(enlarging, session, opened) -> None:
    steps = enlarging.render(session, "png", *CONTROLS)
    assert "progress" in next(steps)[0]
    cancel(session, RENDER)
    *_, (words, file) = steps
    assert file is None
    assert "Cancelled" in words or "ready" in words
    assert [path.name for path in session.folder.rglob("*.*")] == ["photo.png"]


def test_a_file_that_is_no_picture_leaves_the_page_empty(enlarging, session, opened, tmp_path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"bad\.png"):
        enlarging.open(session, str(bad), *CONTROLS)
    assert session.path is None
    assert enlarging.draw(session, *CONTROLS) == ""
    with pytest.raises(ArgumentError, match="choose one first"):
        list(enlarging.render(session, "png", *CONTROLS))


def test_clearing_the_photo_empties_the_page(enlarging, session, opened) -> None:
    assert enlarging.open(session, None, *CONTROLS) == ("", "", "")
    assert session.photo is None


@pytest.mark.parametrize("seed", [None, -1, 2**32, 0.5, True])
def test_a_seed_that_is_none_is_refused(enlarging, session, opened, seed) -> None:
    with pytest.raises(ArgumentError, match="seed is a whole number from 0 to 4294967295"):
        enlarging.draw(session, 0.8, False, seed, 96)


@pytest.mark.parametrize("sample", [None, -1, 8, "1"])
def test_a_sample_that_is_none_of_the_eight_is_refused(enlarging, session, opened, sample) -> None:
    with pytest.raises(ArgumentError, match="choose one of 0 to 7"):
        enlarging.choose(session, {"sample": sample}, *CONTROLS)


def test_two_pages_with_two_photos_do_not_meet(enlarging, sessions, uploaded, photo, tmp_path) -> None:
    from srflow_sdk._files import write_image

    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "photo.png"  # of the same name
    write_image(other, photo[::-1])
    pages = [sessions.get("one"), sessions.get("two")]
    first = [enlarging.open(page, str(path), *CONTROLS)[0] for page, path in zip(pages, (uploaded, other), strict=True)]
    again = [enlarging.draw(page, *CONTROLS) for page in pages]
    after = [json.loads(value)["after"] for value in (*first, *again)]
    assert after[:2] == after[2:]
    assert after[0] != after[1]
    sessions.end("one")
    assert json.loads(enlarging.draw(pages[1], *CONTROLS))["after"] == after[1]
