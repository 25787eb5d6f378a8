"""How long a batch takes, from what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from srflow_apps.batch.command import Speed, about, how_much, measure_speed, seconds_for
from srflow_apps.batch.jobs import Settings
from srflow_sdk.files import write_image
from srflow_sdk.upscaler import Upscaler


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "about 1 second"),
        (75, "about 75 seconds"),
        (720, "about 12 minutes"),
        (9000, "about 2.5 hours"),
        (90_000, "about 25 hours"),
    ],
)
def test_times_are_in_words(seconds: float, words: str) -> None:
    assert about(seconds) == words


def test_amounts_are_in_words() -> None:
    assert how_much(44, 310_400_000) == "44 files, 310 megapixels"
    assert how_much(1, 490_000) == "1 file, 0.49 megapixels"


def test_the_speed_is_measured_on_a_piece_of_the_input(upscaler: Upscaler, tmp_path: Path, photo: np.ndarray) -> None:
    write_image(tmp_path / "a.png", np.tile(photo, (4, 4, 1)))
    before = sorted(tmp_path.iterdir())
    speed = measure_speed(upscaler, tmp_path / "a.png", tmp_path / "out" / "a.png", settings=Settings())
    assert speed.encode > 0
    assert speed.sample > 0
    assert 0.1 < speed.bytes_per_pixel < 4
    assert sorted(tmp_path.iterdir()) == before, "nothing is written there"


def test_halos_and_samples_take_their_time(tiny_bundle: Path) -> None:
    speed = Speed(encode=2.0, sample=1.0, bytes_per_pixel=1.0)
    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=None) as whole:
        assert seconds_for(whole, speed, width=64, height=64, samples=3) == 64 * 64 * 5
    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=16) as tiled:
        assert seconds_for(tiled, speed, width=64, height=64, samples=3) > 64 * 64 * 5
