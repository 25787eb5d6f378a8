"""Which model draws a page's photo: the one that suits it, or the one that the visitor chooses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srflow_apps.demo.tabs import Tabs
from srflow_sdk import ArgumentError, Upscaler, read_provenance
from srflow_sdk.files import read_image
from tests.sdk.clean_and_noisy import smooth

from .conftest import finished, sent
from .test_enlarging import pixels
from .visitor import CONTROLS

WHOLE = {**CONTROLS, "side": 384, "auto": True}  # all of a picture of 96×96


@pytest.fixture
def compressed(tmp_path: Path) -> Path:
    path = tmp_path / "compressed.jpg"
    Image.fromarray(smooth()).save(path, quality=60)
    return path


@pytest.fixture
def tabs(two_models, sessions):
    with Upscaler(device="cpu", threads=1) as upscaler:
        yield Tabs(upscaler, sessions, max_pixels=10**8)


def drawn(model: str, path: Path) -> np.ndarray:
    with Upscaler(model, device="cpu", threads=1) as upscaler:
        return np.asarray(upscaler.upscale(path, tau="auto", seed=CONTROLS["seed"]))


@pytest.mark.slow
def test_the_photo_gets_what_suits_it_or_what_is_chosen(tabs, session, compressed) -> None:
    tabs.open(session, sent(session, "enlarge", compressed))
    for chosen, name, why in (
        ({}, "x4-photo", "JPEG of quality 60"),
        ({"model": "x4-small"}, "x4-small", ""),
        ({"model": "auto"}, "x4-photo", "JPEG of quality 60"),
        ({"model": "x4-photo"}, "x4-photo", "JPEG of quality 60"),
    ):
        answer = tabs.show(session, {**WHOLE, **chosen})
        assert (answer["model"], answer["why"]) == (name, why)
        assert answer["tau"] == {"x4-small": 0.8, "x4-photo": 0.5}[name]
        np.testing.assert_array_equal(pixels(answer["after"]), drawn(name, compressed))
        job = finished(session, "enlarge", tabs.render(session, {**WHOLE, "format": "png", **chosen}))
        assert job.state == "done"
        assert read_provenance(session.results["enlarge"]).model == name
        np.testing.assert_array_equal(read_image(session.results["enlarge"]).pixels, drawn(name, compressed))


def test_models_of_other_scales_are_there_to_choose(five_models, sessions, session, compressed) -> None:
    with Upscaler(device="cpu", threads=1) as upscaler:
        tabs = Tabs(upscaler, sessions, max_pixels=10**8)
        tabs.open(session, sent(session, "enlarge", compressed))
        assert tabs.show(session, WHOLE)["model"] == "x4-photo"
        for name, side in (("x2-small", 192), ("x8-small", 384), ("x16-small", 384)):
            answer = tabs.show(session, {**WHOLE, "model": name})
            assert (answer["model"], pixels(answer["after"]).shape) == (name, (side, side, 3))


def test_a_model_that_there_is_not_is_refused(tabs, session, compressed) -> None:
    tabs.open(session, sent(session, "enlarge", compressed))
    with pytest.raises(ArgumentError, match="model is one of auto, x4-small, x4-photo"):
        tabs.show(session, {**CONTROLS, "model": "x4-large"})


def test_one_model_is_not_chosen(upscaler, sessions, session, compressed) -> None:
    tabs = Tabs(upscaler, sessions, max_pixels=10**8)
    tabs.open(session, sent(session, "enlarge", compressed))
    answer = tabs.show(session, WHOLE)
    assert (answer["model"], answer["why"]) == (upscaler.bundle.manifest.name, "")
