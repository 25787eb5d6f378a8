"""What a page may say of its controls."""

from __future__ import annotations

import pytest

from srflow_apps.demo.tabs import Controls, choice_of, format_of
from srflow_sdk.errors import ArgumentError

from .visitor import CONTROLS


def test_good_controls_are_taken() -> None:
    controls = Controls.of({**CONTROLS, "left": 3, "top": 4})
    assert (controls.tau, controls.seed, controls.side, controls.sample, controls.place) == (0.8, 3, 96, 0, (3, 4))
    assert Controls.of({**CONTROLS, "auto": True}).tau == "auto"
    assert Controls.of(CONTROLS).place is None


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        (
            "seed",
            [None, -1, 2**32, 0.5, True, "1", []],
            "the seed is .* a whole number from 0 to 4294967295",
        ),
        ("sample", [None, -1, 8, "1", 1.0, True], "the sample is .* from 0 to 7"),
        ("side", [None, 0, -8, 513, 10**9, 8.5, "256", True], "from 1 to 512"),  # a larger one takes all memory
        (
            "tau",
            [None, float("nan"), float("inf"), "0.8", {}, True, 10**400, -(10**400)],
            "the temperature is .*; it must be a finite number",
        ),
        ("left", [1, "0", 1.5, True], "the crop's place is"),
    ],
)
def test_others_are_refused(name, values, words) -> None:
    for value in values:
        with pytest.raises(ArgumentError, match=words):
            Controls.of({**CONTROLS, name: value})


@pytest.mark.parametrize("value", [None, "gif", "../png", "PNG", ["png"], {}])
def test_a_format_is_one_of_four(value) -> None:
    with pytest.raises(ArgumentError, match="format is one of png, jpg, webp, tif"):
        format_of({"format": value})


def test_a_choice_is_one_of_its_own() -> None:
    assert choice_of({"blend": "none"}, "blend", ("gradient", "none")) == "none"
    with pytest.raises(ArgumentError, match="blend is one of gradient, none"):
        choice_of({"blend": 1}, "blend", ("gradient", "none"))
