"""What a bundle's graphs declare and return is held to its manifest: one line that names the field."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from srflow_export._bundle_writer import staged_bundle
from srflow_sdk import Upscaler
from srflow_sdk.errors import BundleError
from srflow_sdk.model.manifest import Precision
from tests.sdk.tiny_bundle import tiny_manifest, write_tiny_bundle

Change = Callable[[onnx.GraphProto], None]
IMAGE = np.full((16, 20, 3), 100, np.uint8)


def nothing(graph: onnx.GraphProto) -> None:
    pass


@pytest.fixture
def bundle(tmp_path: Path, tiny_bundle: Path) -> Callable[..., Path]:
    def write(*, encoder: Change = nothing, sampler: Change = nothing, **manifest: Any) -> Path:
        with staged_bundle(tmp_path / "changed.srflow") as stage:
            for name, change in (("encoder.onnx", encoder), ("sampler.onnx", sampler)):
                model = onnx.load(tiny_bundle / name)
                change(model.graph)
                (stage.path / name).write_bytes(model.SerializeToString())
            stage.commit(tiny_manifest(**manifest))
        return tmp_path / "changed.srflow"

    return write


def result_of(op: str, *constants: Any, kind: int = TensorProto.FLOAT, shape: Any = None, **attributes: Any) -> Change:
    """sr becomes what an operator makes of it."""

    def change(graph: onnx.GraphProto) -> None:
        graph.node[-1].output[0] = "before"
        names = [f"constant{number}" for number in range(len(constants))]
        graph.initializer.extend(
            numpy_helper.from_array(np.array(value), name) for value, name in zip(constants, names, strict=True)
        )
        graph.node.append(helper.make_node(op, ["before", *names], ["sr"], **attributes))
        graph.output[0].CopyFrom(
            helper.make_tensor_value_info("sr", kind, ["n", 3, "H", "W"] if shape is None else shape)
        )

    return change


DECLARED = {
    "two dimensions": (result_of("Reshape", np.int64([-1, 3]), shape=["n", 3]), "of ?×3,"),
    "three dimensions": (result_of("Squeeze", [0], shape=[3, "H", "W"]), "of 3×?×?"),
    "int64": (result_of("Cast", kind=TensorProto.INT64, to=TensorProto.INT64), "as int64"),
    "six channels": (result_of("Concat", axis=1, shape=["n", 6, "H", "W"]), "of ?×6×?×?"),
    "one channel": (result_of("Slice", [0], [1], [1], shape=["n", 1, "H", "W"]), "of ?×1×?×?"),
    "a batch of two": (result_of("Identity", shape=[2, 3, "H", "W"]), "of 2×3×?×?"),
}


def concat_twice(graph: onnx.GraphProto) -> None:
    DECLARED["six channels"][0](graph)
    graph.node[-1].input.append("before")


@pytest.mark.parametrize("case", DECLARED)
def test_what_a_sampler_declares_as_its_picture_is_a_picture(bundle, case: str) -> None:
    change, said = DECLARED[case]
    with pytest.raises(BundleError, match=rf"sampler\.onnx declares sr .*{re.escape(said)}.*of \?×3×\?×\?"):
        Upscaler(bundle(sampler=concat_twice if case == "six channels" else change), device="cpu")


RETURNED = {
    "too small": result_of("Slice", np.int64([0]), np.int64([9]), np.int64([2])),
    "an empty batch": result_of("Slice", np.int64([0]), np.int64([0]), np.int64([0])),
    "a batch of two": result_of("Concat", axis=0),
    "×8": result_of(
        "Resize", np.float32([]), np.float32([1, 1, 2, 2]), mode="nearest", coordinate_transformation_mode="asymmetric"
    ),
}


def concat_batches(graph: onnx.GraphProto) -> None:
    RETURNED["a batch of two"](graph)
    graph.node[-1].input.append("before")


@pytest.mark.parametrize("case", RETURNED)
def test_what_a_sampler_returns_is_a_picture_of_the_manifests_scale(bundle, case: str) -> None:
    change = concat_batches if case == "a batch of two" else RETURNED[case]
    with (
        Upscaler(bundle(sampler=change), device="cpu") as upscaler,
        pytest.raises(BundleError, match=r"returned sr .*scale needs float32 of 1×3×64×80"),
    ):
        upscaler.upscale(IMAGE)


def test_conditioning_of_another_size_is_refused(bundle) -> None:
    def enlarge(graph: onnx.GraphProto) -> None:
        graph.node[-1].output[0] = "small"
        graph.initializer.append(numpy_helper.from_array(np.float32([1, 1, 2, 2]), "twice"))
        graph.node.append(helper.make_node("Resize", ["small", "", "twice"], ["level2_base"], mode="nearest"))

    with (
        Upscaler(bundle(encoder=enlarge), device="cpu") as upscaler,
        pytest.raises(BundleError, match=r"returned level2_base of 1×3×32×40, where scale 4 .* need 1×3×16×20"),
    ):
        upscaler.upscale(IMAGE)


def test_conditioning_without_sides_is_refused(bundle) -> None:
    def flatten(graph: onnx.GraphProto) -> None:
        graph.node[-1].output[0] = "square"
        graph.initializer.append(numpy_helper.from_array(np.int64([-1]), "line"))
        graph.node.append(helper.make_node("Reshape", ["square", "line"], ["level2_base"]))

    with pytest.raises(BundleError, match="export the bundle again"):
        Upscaler(bundle(encoder=flatten), device="cpu")


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_a_precision_that_is_not_the_graphs_is_refused(bundle, precision: Precision) -> None:
    with pytest.raises(BundleError, match=f"precision (is )?{precision}"):
        Upscaler(bundle(precision=precision), device="cpu")


def test_a_quantised_graph_under_fp32_is_refused(bundle, tmp_path: Path) -> None:
    quantised = onnx.load(write_tiny_bundle(tmp_path / "int8.srflow", precision="int8") / "encoder.onnx").graph
    with pytest.raises(BundleError, match=r"precision is fp32, but encoder\.onnx is quantised"):
        Upscaler(bundle(encoder=lambda graph: graph.CopyFrom(quantised)), device="cpu")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_graphs_of_every_precision_run(tmp_path: Path, precision: Precision) -> None:
    with Upscaler(write_tiny_bundle(tmp_path / "b.srflow", precision=precision), device="cpu") as upscaler:
        assert upscaler.upscale(IMAGE).shape == (64, 80, 3)


@pytest.mark.parametrize("nbytes", [1, 31, 1 << 30])
def test_conditioning_bytes_that_are_not_the_graphs_are_refused(bundle, nbytes: int) -> None:
    with pytest.raises(BundleError, match=rf"conditioning_bytes_per_pixel is {nbytes}, but encoder\.onnx has 32"):
        Upscaler(bundle(conditioning_bytes_per_pixel=nbytes), device="cpu")


def test_latents_of_other_channels_are_refused(bundle) -> None:
    levels = tuple(
        type(entry)(level=entry.level, channels=entry.channels + 1) for entry in tiny_manifest().latent_levels
    )
    with pytest.raises(BundleError, match=r"declares noise_level1 as .* the manifest's levels .* need"):
        Upscaler(bundle(latent_levels=levels), device="cpu")


@pytest.mark.parametrize("change", [{"default_tau": 2.0}, {"default_tau": 1.01}, {"size_multiple": 1024}])
def test_manifest_values_that_no_network_has_are_refused(bundle, change: dict[str, Any]) -> None:
    (field,) = change
    with pytest.raises(BundleError, match=f"{field} is .*, outside"):
        bundle(**change)
