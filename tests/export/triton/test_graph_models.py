from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from srflow_export.triton.graph_models import GraphModel, graph_models
from srflow_export.triton.readme import readme
from srflow_sdk.errors import BundleError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import EngineRecord, LrProfile, PluginLibrary
from tests.sdk.tiny_bundle import write_tiny_bundle


def models(bundle: Bundle) -> dict[str, GraphModel]:
    return {model.name.removeprefix("srflow_"): model for model in graph_models(bundle)}


def record(**overrides: Any) -> EngineRecord:
    fields: dict[str, Any] = {
        "runtime": "tensorrt",
        "version": "10.15.1",
        "precision": "fp32",
        "compute_capabilities": ("8.9",),
        "gpu": "NVIDIA L4",
        "profile": LrProfile(min=(16, 16), opt=(40, 48), max=(64, 64)),
        "encoder": "engines/a-encoder.engine",
        "sampler": "engines/a-sampler.engine",
        "graphs": {"encoder.onnx": "0" * 64, "sampler.onnx": "0" * 64},
    }
    return EngineRecord(**{**fields, **overrides})


def with_engines(bundle: Bundle, *records: EngineRecord) -> Bundle:
    files = {name: {"sha256": "0" * 64, "bytes": 0} for entry in records for name in entry.files}
    manifest = dataclasses.replace(bundle.manifest, engines=records, files={**bundle.manifest.files, **files})
    return dataclasses.replace(bundle, manifest=manifest)


def text_of(bundle: Bundle, repository: Path) -> str:
    return readme({"srflow_upscale": bundle}, repository)


@pytest.fixture
def tiny(tmp_path: Path) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path / "tiny.srflow"))


def test_inputs_have_the_graphs_types_and_sizes_without_the_batch(tiny: Bundle) -> None:
    sampler = models(tiny)["sampler"].gpu
    assert '{ name: "level2_features" data_type: TYPE_FP32 dims: [5, -1, -1] }' in sampler
    assert '{ name: "noise_level3" data_type: TYPE_FP32 dims: [48, -1, -1] }' in sampler
    assert '{ name: "tau" data_type: TYPE_FP32 dims: [1] reshape: { shape: [ ] } }' in sampler


def test_half_precision_conditioning_has_its_type(tmp_path: Path) -> None:
    half = Bundle.open(write_tiny_bundle(tmp_path / "half.srflow", precision="fp16"))
    assert '"level2_features" data_type: TYPE_FP16' in models(half)["encoder"].cpu


def test_bfloat16_bundles_serve_their_float32_graphs(tmp_path: Path) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "b.srflow", precision="bf16", twins=True))
    encoder = models(bundle)["encoder"]
    assert '"level2_features" data_type: TYPE_FP32' in encoder.gpu
    assert encoder.files == {"model.onnx": bundle.path / "encoder.fp32.onnx"}


def test_cuda_guesses_kernels_and_keeps_all_bits_of_float32(tiny: Bundle) -> None:
    pytest.importorskip("tritonclient.grpc")
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    read = {kind: text_format.Parse(getattr(models(tiny)["encoder"], kind), ModelConfig()) for kind in ("gpu", "cpu")}
    assert read["gpu"].parameters["cudnn_conv_algo_search"].string_value == "1"
    (accelerator,) = read["gpu"].optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, dict(accelerator.parameters)) == ("cuda", {"use_tf32": "0"})
    assert "cudnn_conv_algo_search" not in read["cpu"].parameters
    assert not read["cpu"].HasField("optimization")
    assert "cudnn" not in models(with_engines(tiny, record()))["encoder"].gpu


def test_warm_up_is_at_the_default_profiles_optimum(tiny: Bundle) -> None:
    height, width = tiny.manifest.default_profile.opt
    found = models(tiny)
    assert f'key: "lr" value: {{ data_type: TYPE_FP32 dims: [3, {height}, {width}]' in found["encoder"].gpu
    level1 = f'key: "noise_level1" value: {{ data_type: TYPE_FP32 dims: [6, {2 * height}, {2 * width}]'
    assert level1 in found["sampler"].gpu


def test_engines_decide_platform_sizes_and_batch_on_gpus_only(tiny: Bundle) -> None:
    newest = record(compute_capabilities=("9.0", "8.9"), encoder="engines/b.engine", sampler="engines/c.engine")
    found = models(with_engines(tiny, newest, record(compute_capabilities=("8.9", "8.0"))))["encoder"]
    assert 'platform: "tensorrt_plan"' in found.gpu
    assert "max_batch_size: 1" in found.gpu
    assert 'key: "lr" value: { data_type: TYPE_FP32 dims: [3, 40, 48] zero_data: true }' in found.gpu
    assert 'key: "lr_sizes" value: { string_value: "16x16,40x48,64x64" }' in found.gpu
    assert '{ key: "9.0" value: "sm90.plan" }' in found.gpu
    assert {name: path.name for name, path in found.files.items()} == {
        "model.onnx": "encoder.onnx",
        "sm90.plan": "b.engine",
        "sm89.plan": "b.engine",
        "sm80.plan": "a-encoder.engine",
    }
    assert 'backend: "onnxruntime"' in found.cpu
    assert "max_batch_size: 4" in found.cpu


def test_engines_of_tensorrt_rtx_are_left_out(tiny: Bundle) -> None:
    found = models(with_engines(tiny, record(runtime="tensorrt_rtx")))["encoder"]
    assert 'backend: "onnxruntime"' in found.gpu
    assert list(found.files) == ["model.onnx"]


def test_float32_engines_of_a_half_precision_bundle_have_the_float32_graphs_types(tmp_path: Path) -> None:
    half = Bundle.open(write_tiny_bundle(tmp_path / "half.srflow", precision="fp16", twins=True))
    graphs = {"encoder.fp32.onnx": "0" * 64, "sampler.fp32.onnx": "0" * 64}
    found = models(with_engines(half, record(graphs=graphs)))["encoder"]
    assert '"level2_features" data_type: TYPE_FP32' in found.gpu
    assert '"level2_features" data_type: TYPE_FP16' in found.cpu


def test_the_embedded_model_has_an_inverter_too() -> None:
    inverter = models(Bundle.embedded())["inverter"].gpu
    assert '{ name: "hr" data_type: TYPE_FP32 dims: [3, -1, -1] }' in inverter
    assert '{ name: "log_density" data_type: TYPE_FP32 dims: [1, -1, -1] }' in inverter


def test_a_fused_graph_becomes_a_model(tiny: Bundle, tmp_path: Path) -> None:
    shutil.copyfile(Bundle.embedded().path / "encoder.onnx", tiny.path / "fused.onnx")
    files = {**tiny.manifest.files, "fused.onnx": {"sha256": "0" * 64, "bytes": 0}}
    bundle = dataclasses.replace(tiny, manifest=dataclasses.replace(tiny.manifest, files=files))
    assert 'name: "srflow_fused"' in models(bundle)["fused"].gpu


def test_a_graph_that_the_runtime_would_refuse_is_refused(tiny: Bundle) -> None:
    (tiny.path / "encoder.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"encoder\.onnx"):
        models(tiny)


def test_the_readme_names_what_engines_and_plugins_need(tiny: Bundle) -> None:
    library = PluginLibrary(sha256="0" * 64, version="0.1.0", tensorrt_major=10)
    text = text_of(with_engines(tiny, record(plugins=library)), Path("/srv/models"))
    assert "compute capability 8.9, with TensorRT 10.15.1 and no other version" in text
    assert "--backend-config=tensorrt,plugins=/opt/srflow/lib/libsrflow_trt_preload.so" in text
    assert "set SRFLOW_TENSORRT_PLUGINS=/opt/srflow/lib/libsrflow_trt.so" in text
    assert "  --mount type=bind,source=/opt/srflow/lib,target=/opt/srflow/lib,readonly " in text
    assert "  --env SRFLOW_TENSORRT_PLUGINS=/opt/srflow/lib/libsrflow_trt.so srflow-triton" in text
    # A bundle with nodes for plugins, whose engines were built without a library, or which has none.
    nodes = dataclasses.replace(tiny, manifest=dataclasses.replace(tiny.manifest, plugins=True))
    for bundle in (nodes, with_engines(nodes, record())):
        assert "plugin" not in text_of(bundle, Path("/srv/models"))


def test_the_readmes_container_is_built_outside_of_the_clone(tiny: Bundle) -> None:
    """The clone's .dockerignore leaves out what `python -m build` makes there, and the clone has its own Dockerfile."""
    text = text_of(tiny, Path("/srv/models"))
    folder = re.findall(r"--wheel --outdir (\S+) ", text)[0]
    assert f"cat > {folder}/Dockerfile" in text
    assert f"docker build -t srflow-triton {folder}\n" in text
    assert "COPY *.whl" in text
