"""What a bundle's graphs take and return is held to its manifest: one line that names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

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


def result_of(op: str, *constants: Any, **attributes: Any) -> Change:
    """sr becomes what an operator makes of it."""

    def change(graph: onnx.GraphProto) -> None:
        graph.node[-1].output[0] = "before"
        names = [f"constant{number}" for number in range(len(constants))]
        graph.initializer.extend(
            numpy_helper.from_array(np.array(value), name) for value, name in zip(constants, names, strict=True)
        )
        graph.node.append(helper.make_node(op, ["before", *names], ["sr"], **attributes))

    return change


RETURNED = {
    "too small": result_of("Slice", np.int64([0]), np.int64([9]), np.int64([2])),
    "an empty batch": result_of("Slice", np.int64([0]), np.int64([0]), np.int64([0])),
    "×8": result_of(
        "Resize", np.float32([]), np.float32([1, 1, 2, 2]), mode="nearest", coordinate_transformation_mode="asymmetric"
    ),
}


@pytest.mark.parametrize("case", RETURNED)
def test_what_a_sampler_returns_is_a_picture_of_the_manifests_scale(bundle, case: str) -> None:
    with (
        Upscaler(bundle(sampler=RETURNED[case]), device="cpu") as upscaler,
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


def test_an_encoder_that_gives_what_the_sampler_does_not_take_is_refused(bundle) -> None:
    def rename(graph: onnx.GraphProto) -> None:
        graph.node[-1].output[0] = graph.output[-1].name = "level2_other"

    with pytest.raises(BundleError, match=r"do not fit together \(level2_base, level2_other\)"):
        Upscaler(bundle(encoder=rename), device="cpu")


def test_a_graph_that_onnx_runtime_does_not_know_is_one_line(bundle) -> None:
    with pytest.raises(BundleError, match=r"sampler\.onnx is not a graph that ONNX Runtime .* can load: .*"):
        Upscaler(bundle(sampler=result_of("NoSuchOperator")), device="cpu")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_graphs_of_every_precision_run(tmp_path: Path, precision: Precision) -> None:
    with Upscaler(write_tiny_bundle(tmp_path / "b.srflow", precision=precision), device="cpu") as upscaler:
        assert upscaler.upscale(IMAGE).shape == (64, 80, 3)


def test_latents_of_other_channels_are_refused(bundle) -> None:
    levels = tuple(
        type(entry)(level=entry.level, channels=entry.channels + 1) for entry in tiny_manifest().latent_levels
    )
    with pytest.raises(BundleError, match=r"do not fit together \(noise_level1, noise_level2, noise_level3\)"):
        Upscaler(bundle(latent_levels=levels), device="cpu")


@pytest.mark.parametrize("change", [{"default_tau": 2.0}, {"default_tau": 1.01}, {"size_multiple": 1024}])
def test_manifest_values_that_no_network_has_are_refused(bundle, change: dict[str, Any]) -> None:
    (field,) = change
    with pytest.raises(BundleError, match=f"{field} is .*, outside"):
        bundle(**change)
