"""Shapes of a graph's inputs from LR sizes, whoever read the graph."""

from __future__ import annotations

import pytest

from srflow_sdk.errors import BundleError
from srflow_sdk.model.engine_records import LrProfile
from srflow_sdk.model.engine_shapes import InputShapes, input_shapes, shapes_text

PROFILE = LrProfile(min=(16, 20), opt=(88, 100), max=(256, 300))


def test_dimensions_that_vary_may_have_any_name_or_none() -> None:
    found = [
        input_shapes([(name, dimensions)], PROFILE, scale=4, graph="g.onnx")[name]
        for name, dimensions in (
            ("level1_step12_coupling", ["b", 8, "h1", "w1"]),
            ("level1_coupling", [None, 8, None, None]),  # in bundles of version 0.1
        )
    ]
    assert found == [InputShapes(min=(1, 8, 32, 40), opt=(1, 8, 176, 200), max=(1, 8, 512, 600))] * 2


def test_a_bound_of_all_inputs_is_one_text() -> None:
    inputs = [("noise_level3", ["n", 48, "h3", "w3"]), ("tau", ["m"]), ("hr", ["n", 3, "H", "W"])]
    shapes = input_shapes(inputs, PROFILE, scale=4, graph="g.onnx")
    assert shapes_text(shapes, "min") == "noise_level3:1x48x8x10,tau:1,hr:1x3x64x80"
    assert shapes_text(shapes, "max") == "noise_level3:1x48x128x150,tau:1,hr:1x3x1024x1200"


@pytest.mark.parametrize(
    ("name", "dimensions"),
    [("image", [1, 3, "h", "w"]), ("lr", [1, "c", "h", "w"]), ("lr", [1, None, None, None]), ("tau", [1, 1])],
)
def test_an_input_that_the_exporter_never_made_is_named(name: str, dimensions: list[int | str | None]) -> None:
    with pytest.raises(BundleError, match=f"odd.onnx: the tensor {name} is not one that srflow-export gives"):
        input_shapes([(name, dimensions)], PROFILE, scale=4, graph="odd.onnx")
