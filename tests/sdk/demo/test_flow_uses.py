"""What the tabs "Restore" and "Transfer" write, and what they refuse."""

from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srflow_sdk import read_provenance
from srflow_sdk._demo.flow_uses import FlowUses
from srflow_sdk._demo.pictures import data_url
from srflow_sdk._files import write_image
from srflow_sdk.errors import ArgumentError, ImageError


@pytest.fixture
def uses(flow) -> FlowUses:
    return FlowUses(flow, max_pixels=10**6)


@pytest.fixture
def other(tmp_path, photo) -> Path:
    """A picture of another size."""
    path = tmp_path / "other.png"
    write_image(path, np.tile(photo[::-1], (2, 1, 1)))
    return path


def mask(photo: np.ndarray, *, side: int) -> str:
    drawn = np.zeros((*photo.shape[:2], 3), np.uint8)
    drawn[10 : 10 + side, 20 : 20 + side] = 255
    return data_url(drawn)


def pixels(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,")))))


def test_a_restored_file_is_what_the_sdk_writes(uses, flow, session, uploaded, tmp_path) -> None:
    *steps, (words, file, viewer) = uses.restore(session, str(uploaded), "spatial", True, 0.9, "png")
    flow.restore_file(uploaded, tmp_path / "restored.png", over="spatial", tau=0.9)
    assert Path(file).read_bytes() == (tmp_path / "restored.png").read_bytes()
    assert Path(file).name == "photo_restored.png"
    assert "photo_restored.png is ready" in words
    assert all(made is None and shown == "" for _, made, shown in steps)
    shown = json.loads(viewer)
    np.testing.assert_array_equal(pixels(shown["before"]), np.asarray(Image.open(uploaded)))
    np.testing.assert_array_equal(pixels(shown["after"]), np.asarray(Image.open(file)))
    assert shown["names"] == {"before": "noisy", "after": "restored"}


def test_without_a_chosen_strength_it_is_as_measured(uses, flow, session, uploaded, tmp_path) -> None:
    *_, (_, file, _) = uses.restore(session, str(uploaded), "auto", False, 0.1, "png")
    flow.restore_file(uploaded, tmp_path / "restored.png")
    assert Path(file).read_bytes() == (tmp_path / "restored.png").read_bytes()


def test_restoring_nothing_or_a_broken_file_is_refused(uses, session, tmp_path) -> None:
    with pytest.raises(ArgumentError, match="choose one first"):
        list(uses.restore(session, None, "auto", False, 1, "png"))
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"bad\.png"):
        list(uses.restore(session, str(tmp_path / "bad.png"), "auto", False, 1, "png"))


def test_both_pictures_are_shown_in_the_photos_size(uses, session, uploaded, other, photo) -> None:
    assert uses.show_pictures(session, str(uploaded), None) == ""
    shown = json.loads(uses.show_pictures(session, str(uploaded), str(other)))
    np.testing.assert_array_equal(pixels(shown["photo"]), photo)
    assert pixels(shown["other"]).shape == photo.shape


def test_a_transferred_file_has_the_content_inside_the_mask_and_the_photo_elsewhere(
    uses, session, uploaded, other, photo
) -> None:
    *_, (_, file, viewer) = uses.transfer(
        session, str(uploaded), str(other), mask(photo, side=16), "gradient", 0, "png"
    )
    result = np.asarray(Image.open(file))
    np.testing.assert_array_equal(result[:, 45:], photo[:, 45:])
    assert (result[12:24, 22:34] != photo[12:24, 22:34]).mean() > 0.5
    assert Path(file).name == "photo_transferred.png"
    assert read_provenance(file).operation == "transfer"
    np.testing.assert_array_equal(pixels(json.loads(viewer)["after"]), result)


def test_a_picture_of_the_photos_size_goes_in_as_it_is(uses, flow, session, uploaded, photo, tmp_path) -> None:
    same = tmp_path / "same.png"
    write_image(same, photo[::-1])
    Image.fromarray(pixels(mask(photo, side=16))).convert("L").save(tmp_path / "mask.png")
    *_, (_, file, _) = uses.transfer(session, str(uploaded), str(same), mask(photo, side=16), "none", 7, "png")
    flow.transfer_file(uploaded, same, tmp_path / "mask.png", tmp_path / "both.png", blend="none", seed=7)
    np.testing.assert_array_equal(np.asarray(Image.open(file)), np.asarray(Image.open(tmp_path / "both.png")))


@pytest.mark.parametrize("drawn", ["", "empty"])
def test_a_transfer_without_a_mask_is_refused(uses, session, uploaded, other, photo, drawn) -> None:
    drawn = mask(photo, side=0) if drawn else ""
    with pytest.raises(ArgumentError, match="the mask is empty; paint"):
        list(uses.transfer(session, str(uploaded), str(other), drawn, "gradient", 0, "png"))


def test_a_mask_that_is_no_picture_is_refused(uses, session, uploaded, other) -> None:
    for url in ("data:image/png;base64,aGVsbG8=", "http://example.com/mask.png"):
        with pytest.raises(ImageError, match="draw it again"):
            list(uses.transfer(session, str(uploaded), str(other), url, "gradient", 0, "png"))


def test_a_transfer_needs_both_pictures(uses, session, uploaded) -> None:
    with pytest.raises(ArgumentError, match="choose both first"):
        list(uses.transfer(session, str(uploaded), None, "", "gradient", 0, "png"))


def test_uploads_may_go_once_the_work_began(uses, session, uploaded, tmp_path) -> None:
    steps = uses.restore(session, str(uploaded), "auto", False, 1, "png")
    next(steps)
    shutil.rmtree(uploaded.parent)
    assert Path(list(steps)[-1][1]).exists()


def test_large_results_are_shown_reduced_and_say_so(uses, session, flow, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("srflow_sdk._demo.flow_uses._PREVIEW_SIDE", 16)
    write_image(tmp_path / "photo.png", np.full((24, 48, 3), 99, np.uint8))
    *_, (_, file, viewer) = uses.restore(session, str(tmp_path / "photo.png"), "auto", False, 1, "png")
    shown = json.loads(viewer)
    assert pixels(shown["after"]).shape == (16, 32, 3)
    assert Image.open(file).size == (48, 24)
    assert shown["note"] == "Shown reduced to 32 pixels; the file is whole."


@pytest.mark.parametrize("seed", [None, -1, 1.5, 2**32])
def test_a_seed_of_a_transfer_that_is_none_is_refused(uses, session, uploaded, other, photo, seed) -> None:
    with pytest.raises(ArgumentError, match="the seed is a whole number from 0 to"):
        list(uses.transfer(session, str(uploaded), str(other), mask(photo, side=10), "none", seed, "png"))
