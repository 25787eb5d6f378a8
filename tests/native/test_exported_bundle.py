"""A bundle exported with --plugins: the same file runs without the library, with it, and in
TensorRT-RTX."""

from importlib.util import find_spec

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from srflow_export import onnx_models
from srflow_export.cli import main
from srflow_sdk import Bundle, Upscaler
from srflow_training import load_checkpoint, save_checkpoint
from tests.networks import random_srflow, tiny_config


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    config = tiny_config(levels=2, split_levels=(1,), steps=2)
    save_checkpoint(folder / "tiny.safetensors", random_srflow(config))
    arguments = ["--ckpt", str(folder / "tiny.safetensors"), "--plugins", "--halo", "16"]
    result = CliRunner().invoke(main, arguments)
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
    assert (
        0 < np.abs(inlined - native).max() < 1e-5
    )  # the roundings differ, so the library was really used
    assert min(row["psnr_db"] for row in bundle.manifest.parity) > 90


def test_half_conditioning_goes_into_the_kernels_as_it_is(bundle, ort_library):
    model = load_checkpoint(bundle.path.with_name("tiny.safetensors"))
    proto = onnx_models.sampler_model(model, "fp16", flow_nodes=True)
    kinds = {node.input[2] for node in flow_nodes(proto)}
    assert kinds == {
        f"level{level}_step{step}_injector_scale" for level in (1, 2) for step in (0, 1)
    }  # without a cast
    random = np.random.default_rng(0)
    sizes = {"lr_batch": 1, "batch": 2, "tau_batch": 1, "height_level1": 8, "width_level1": 12}
    sizes |= {"height_level2": 4, "width_level2": 6}
    feeds = {}
    for value in proto.graph.input:
        shape = [sizes.get(d.dim_param, d.dim_value) for d in value.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        feeds[value.name] = (0.3 * random.standard_normal(shape)).astype(dtype)
    outputs = []
    for library in (None, ort_library):
        options = onnxruntime.SessionOptions()
        if library is not None:
            options.register_custom_ops_library(str(library))
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        outputs.append(session.run(["sr"], feeds)[0])
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-3, atol=1e-3)
    assert np.abs(outputs[0]).max() > 0.1


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="pip install tensorrt-rtx-cu13")
def test_tensorrt_rtx_builds_the_exported_files_without_plugins(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path))
    arguments = [
        "--engines-for",
        str(bundle.path),
        "--rtx",
        "fp32",
        "--sm",
        "89",
        "--shapes",
        "8,16,32",
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    (record,) = Bundle.open(bundle.path).manifest.engines
    assert record.compute_capabilities == ("8.9",)
