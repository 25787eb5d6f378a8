"""A bundle exported with --plugins: the same file runs without the library, with it, and in
TensorRT-RTX."""

from importlib.util import find_spec

import numpy as np
import onnx
import pytest

from srflow_sdk import Bundle, Upscaler
from tests.export.running import run, save_tiny


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    shape = {"levels": 2, "split_levels": (1,), "steps": 2}
    checkpoint = save_tiny(folder / "tiny.safetensors", **shape)
    result = run(checkpoint, "--plugins", "--halo", 16)
    assert result.exit_code == 0, result.output
    return Bundle.open(folder / "tiny.srflow")


def flow_nodes(model):
    return [node for node in model.graph.node if node.domain == "srflow"]


def picture(bundle, monkeypatch, library):
    monkeypatch.setenv("SRFLOW_NATIVE_LIBRARY", library)
    image = np.random.default_rng(0).random((14, 10, 3), dtype=np.float32)
    with Upscaler(bundle, device="cpu") as upscaler:
        return upscaler.upscale(image, tau=0.8, seed=3)


def test_the_flow_is_in_nodes_that_are_functions_too_and_carry_what_tensorrt_looks_for(bundle):
    model = onnx.load(bundle.file("sampler.onnx"))
    nodes = flow_nodes(model)
    assert sorted(node.op_type for node in nodes) == ["FlowStepTail"] * 4
    assert {function.name for function in model.functions} == {"FlowStepTail"}
    assert {function.domain for function in model.functions} == {"srflow"}
    for node in nodes:
        attributes = {
            attribute.name: onnx.helper.get_attribute_value(attribute)
            for attribute in node.attribute
        }
        assert (attributes["plugin_namespace"], attributes["plugin_version"]) == (b"srflow", b"1")
    builtin = {schema.name for schema in onnx.defs.get_all_schemas()}
    assert not builtin & {node.op_type for node in nodes}
    assert bundle.manifest.plugins
    # dynamic sizes are kept
    assert [d.dim_param for d in model.graph.output[0].type.tensor_type.shape.dim][2:] == [
        "sr_height",
        "sr_width",
    ]


def test_the_same_picture_with_the_library_and_without(bundle, ort_library, monkeypatch):
    inlined = picture(bundle, monkeypatch, "")
    native = picture(bundle, monkeypatch, str(ort_library))
    # the roundings differ, so the library was really used
    assert 0 < np.abs(inlined - native).max() < 1e-5
    assert min(row["psnr_db"] for row in bundle.manifest.parity) > 90


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="pip install tensorrt-rtx-cu13")
def test_tensorrt_rtx_builds_the_exported_files_without_plugins(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path))
    how = "--rtx fp32 --sm 89 --shapes 8,16,32"
    result = run("--engines-for", bundle.path, *how.split())
    assert result.exit_code == 0, result.output
    (record,) = Bundle.open(bundle.path).manifest.engines
    assert record.compute_capabilities == ("8.9",)
