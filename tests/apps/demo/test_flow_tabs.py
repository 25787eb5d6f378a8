"""What the tabs "Restore" and "Transfer" write, and what they refuse."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srflow_apps.demo.tabs import Tabs
from srflow_sdk import read_provenance
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import write_image

from .conftest import finished, sent

RESTORE = {"over": "spatial", "choose": True, "tau": 0.9, "format": "png"}
TRANSFER = {"blend": "gradient", "seed": 0, "format": "png"}


@pytest.fixture
def uses(flow, sessions) -> Tabs:
    return Tabs(flow, sessions, max_pixels=10**6)


@pytest.fixture
def other(tmp_path, photo) -> Path:
    """A picture of another size."""
    path = tmp_path / "other.png"
    write_image(path, np.tile(photo[::-1], (2, 1, 1)))
    return path


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


def pixels(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,")))))


def test_a_name_that_ends_in_brackets_is_a_name(uses, session, uploaded, other) -> None:
    for picture, path in (("photo", uploaded), ("other", other)):
        sent(session, picture, path.rename(path.with_name(f"{path.name}[n=1]")))
    assert set(uses.show_pictures(session)) == {"photo", "other"}


def test_a_bmp_which_libvips_does_not_read_is_fitted_and_restored(uses, session, uploaded, photo, tmp_path) -> None:
    Image.fromarray(np.tile(photo, (2, 2, 1))).save(tmp_path / "other.bmp")
    sent(session, "photo", uploaded)
    sent(session, "other", tmp_path / "other.bmp")
    assert pixels(uses.show_pictures(session)["other"]).shape == photo.shape
    Image.fromarray(photo).save(tmp_path / "noisy.bmp")
    sent(session, "restore", tmp_path / "noisy.bmp")
    job = finished(session, "restore", uses.restore(session, RESTORE))
    assert (job.state, job.error) == ("done", None)
    np.testing.assert_array_equal(pixels(job.result["before"]), photo)


def test_a_restored_file_is_what_the_sdk_writes(uses, flow, session, uploaded, tmp_path) -> None:
    sent(session, "restore", uploaded)
    job = finished(session, "restore", uses.restore(session, RESTORE))
    assert (job.state, job.error) == ("done", None)
    file = session.results["restore"]
    flow.restore_file(uploaded, tmp_path / "restored.png", over="spatial", tau=0.9)
    assert file.read_bytes() == (tmp_path / "restored.png").read_bytes()
    assert file.name == "photo_restored.png"
    np.testing.assert_array_equal(pixels(job.result["before"]), np.asarray(Image.open(uploaded)))
    np.testing.assert_array_equal(pixels(job.result["after"]), np.asarray(Image.open(file)))
    assert job.result["names"] == {"before": "noisy", "after": "restored"}


def test_without_a_chosen_strength_it_is_as_measured(uses, flow, session, uploaded, tmp_path) -> None:
    sent(session, "restore", uploaded)
    finished(session, "restore", uses.restore(session, {**RESTORE, "over": "auto", "choose": False, "tau": 0.1}))
    flow.restore_file(uploaded, tmp_path / "restored.png")
    assert session.results["restore"].read_bytes() == (tmp_path / "restored.png").read_bytes()


def test_restoring_nothing_or_a_broken_file_is_refused(uses, session, tmp_path) -> None:
    with pytest.raises(ArgumentError, match="choose one first"):
        uses.restore(session, RESTORE)
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"bad\.png"):
        uses.check(tmp_path / "bad.png")


def test_both_pictures_are_shown_in_the_photos_size(uses, session, uploaded, other, photo) -> None:
    sent(session, "photo", uploaded)
    assert uses.show_pictures(session) == {}
    sent(session, "other", other)
    shown = uses.show_pictures(session)
    np.testing.assert_array_equal(pixels(shown["photo"]), photo)
    assert pixels(shown["other"]).shape == photo.shape
    assert sorted(path.name for path in session.folder.rglob("*.*")) == ["other.png", "photo.png"]


def test_a_transferred_file_has_the_content_inside_the_mask_and_the_photo_elsewhere(uses, both, mask, photo) -> None:
    sent(both, "mask", mask(side=16))
    job = finished(both, "transfer", uses.transfer(both, TRANSFER))
    assert (job.state, job.error) == ("done", None)
    file = both.results["transfer"]
    result = np.asarray(Image.open(file))
    np.testing.assert_array_equal(result[:, 45:], photo[:, 45:])
    assert (result[12:24, 22:34] != photo[12:24, 22:34]).mean() > 0.5
    assert file.name == "photo_transferred.png"
    assert read_provenance(file).operation == "transfer"
    np.testing.assert_array_equal(pixels(job.result["after"]), result)
    names = sorted(path.name for path in both.folder.rglob("*.*"))
    assert names == ["mask.png", "other.png", "photo.png", "photo_transferred.png"]  # nothing of the way there


def test_a_picture_of_the_photos_size_goes_in_as_it_is(uses, flow, session, uploaded, photo, mask, tmp_path) -> None:
    same = tmp_path / "same.png"
    write_image(same, photo[::-1])
    for name, path in (("photo", uploaded), ("other", same), ("mask", mask(side=16))):
        sent(session, name, path)
    finished(session, "transfer", uses.transfer(session, {**TRANSFER, "blend": "none", "seed": 7}))
    Image.open(mask(side=16)).convert("L").save(tmp_path / "gray.png")
    flow.transfer_file(uploaded, same, tmp_path / "gray.png", tmp_path / "both.png", blend="none", seed=7)
    made = np.asarray(Image.open(session.results["transfer"]))
    np.testing.assert_array_equal(made, np.asarray(Image.open(tmp_path / "both.png")))


@pytest.mark.parametrize("side", [None, 0])
def test_a_transfer_without_a_mask_is_refused(uses, both, mask, side) -> None:
    if side is not None:
        sent(both, "mask", mask(side=side))
    with pytest.raises(ArgumentError, match="the mask is empty; paint"):
        uses.transfer(both, TRANSFER)


@pytest.mark.parametrize("contents", [b"hello", b"\x89PNG\r\n\x1a\n" + 30 * b"0", b""])
def test_a_mask_that_is_no_picture_is_refused(uses, both, tmp_path, contents) -> None:
    (tmp_path / "mask.png").write_bytes(contents)
    sent(both, "mask", tmp_path / "mask.png")
    with pytest.raises(ImageError, match="draw it again"):
        uses.transfer(both, TRANSFER)


def test_a_transfer_needs_both_pictures(uses, session, uploaded) -> None:
    sent(session, "photo", uploaded)
    with pytest.raises(ArgumentError, match="choose both first"):
        uses.transfer(session, TRANSFER)


@pytest.mark.parametrize("sizes", [((64, 64), (1, 30_000)), ((1, 30_000), (64, 64))], ids=str)
def test_pictures_of_too_different_shapes_are_refused_before_they_take_gigabytes(
    uses, session, tmp_path, sizes
) -> None:
    for name, size in zip(("photo", "other"), sizes, strict=True):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
        sent(session, name, tmp_path / f"{name}.png")
    with pytest.raises(ArgumentError, match=r"too different a shape from photo\.png .*crop it"):
        uses.show_pictures(session)


def test_large_results_are_shown_reduced_and_say_so(uses, session, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("srflow_apps.demo.tabs._PREVIEW_SIDE", 16)
    write_image(tmp_path / "photo.png", np.full((24, 48, 3), 99, np.uint8))
    sent(session, "restore", tmp_path / "photo.png")
    job = finished(session, "restore", uses.restore(session, RESTORE))
    assert pixels(job.result["after"]).shape == (16, 32, 3)
    assert Image.open(session.results["restore"]).size == (48, 24)
    assert job.result["note"] == "Shown reduced to 32 pixels; the file is whole."


@pytest.mark.parametrize("said", [{"seed": -1}, {"seed": None}, {"blend": "all"}, {"format": "exe"}])
def test_controls_of_a_transfer_are_checked(uses, both, mask, said) -> None:
    sent(both, "mask", mask(side=10))
    with pytest.raises(ArgumentError):
        uses.transfer(both, {**TRANSFER, **said})
