"""LR sizes for people, and every input's shapes from them."""

import onnx
import pytest

from srflow_export.engines._graph import Graph, read_graph
from srflow_export.engines._profiles import InputShapes, check_profile, input_shapes, parse_shapes, shapes_text
from srflow_sdk.drawing import tiles
from srflow_sdk.errors import ArgumentError, BundleError
from srflow_sdk.model.engine_records import LrProfile
from tests.sdk.tiny_bundle import tiny_manifest


def test_shapes_are_squares_or_height_by_width():
    assert parse_shapes("16,88,256") == LrProfile(min=(16, 16), opt=(88, 88), max=(256, 256))
    assert parse_shapes("16x20, 88X100, 256×300") == LrProfile(min=(16, 20), opt=(88, 100), max=(256, 300))


@pytest.mark.parametrize("text", ["16,88,256", "16x20,88x100,256x300"])
def test_a_profile_is_described_as_it_is_written(text):
    assert parse_shapes(str(parse_shapes(text))) == parse_shapes(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("16,88", "expected three sizes, not 2"),
        ("16,88,256,300", "expected three sizes, not 4"),
        ("16,,256", "'' is not a size"),
        ("16,8x8x8,256", "'8x8x8' is not a size"),
        ("16,-88,256", "'-88' is not a size"),
        ("16,٨٨,256", "is not a size"),
        ("16,88.0,256", "is not a size"),
        ("88,16,256", "must be in order"),
        ("16x16,88x300,256x256", "must be in order"),
        ("0,88,256", "must be in order, from 1"),
        ("16,88,99999", "must be in order, from 1 to 16384"),
    ],
)
def test_bad_shapes_are_refused_with_an_example(text, why):
    with pytest.raises(ArgumentError, match=why) as caught:
        parse_shapes(text)
    assert "16,88,256" in str(caught.value)


def test_sides_that_the_model_does_not_take_are_refused_with_the_next_that_it_does():
    manifest = tiny_manifest(size_multiple=8)
    check_profile(parse_shapes("16,88,256"), manifest)
    with pytest.raises(ArgumentError, match=r"multiples of 8, and 90x100 is not; use 96x104"):
        check_profile(parse_shapes("16,90x100,256"), manifest)


@pytest.mark.parametrize(("halo", "multiple"), [(12, 2), (13, 8), (0, 1)])
def test_the_default_holds_the_tiles_that_the_runtime_cuts_by_itself(halo, multiple):
    manifest = tiny_manifest(halo=halo, size_multiple=multiple, conditioning_bytes_per_pixel=33792)
    profile = manifest.default_profile
    check_profile(profile, manifest)
    core = tiles.core_size(
        "auto",
        height=1 << 14,
        width=1 << 14,
        multiple=multiple,
        halo=halo,
        conditioning_bytes_per_pixel=33792,
        budget=4 << 30,
    )
    planned = tiles.plan_tiles(9 * core, 9 * core, core=core, halo=halo, multiple=multiple)
    assert all(profile.holds(tile.window.height, tile.window.width) for tile in planned)
    assert max(tile.window.height for tile in planned) == profile.opt[0] == profile.max[0]


def test_the_default_of_the_full_size_network():
    profile = tiny_manifest(halo=12, conditioning_bytes_per_pixel=33792).default_profile
    assert str(profile) == "2x2,168x168,168x168"


def test_every_input_has_the_size_of_its_level(exported):
    profile = parse_shapes("16x20,88x100,256x300")
    encoder = read_graph(exported / "encoder.onnx", precision="fp16").input_shapes(profile, scale=4)
    assert encoder == {"lr": InputShapes(min=(1, 3, 16, 20), opt=(1, 3, 88, 100), max=(1, 3, 256, 300))}
    sampler = read_graph(exported / "sampler.onnx", precision="fp16").input_shapes(profile, scale=4)
    assert sampler["tau"] == InputShapes(min=(1,), opt=(1,), max=(1,))
    assert sampler["level1_step0_coupling"].min == (1, 8, 32, 40)
    assert sampler["level3_step0_injector_scale"].max == (1, 48, 128, 150)
    assert sampler["noise_level2"].opt == (1, 12, 88, 100)
    assert set(sampler) == {
        *(
            f"level{level}_{part}"
            for level in (1, 2, 3)
            for part in ("step0_coupling", "step0_injector_scale", "step0_injector_shift")
        ),
        *(f"noise_level{level}" for level in (1, 2, 3)),
        "tau",
    }


@pytest.mark.parametrize(("name", "shape"), [("image", (1, 3, "h", "w")), ("lr", (1, "c", "h", "w")), ("tau", (1, 1))])
def test_an_input_that_the_exporter_never_made_is_named(name, shape):
    value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [value], []))
    graph = Graph(name="odd.onnx", precision="fp32", content=b"", model=model)
    with pytest.raises(BundleError, match=f"odd.onnx: the tensor {name} is not one that srflow-export gives"):
        graph.input_shapes(parse_shapes("16,88,256"), scale=4)


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
