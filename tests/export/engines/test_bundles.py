"""Engines put into a bundle that is there already, and the same by NVIDIA's own tool."""

import dataclasses
import shlex
import subprocess
import sys

import pytest

from srflow_export.engines import bundles
from srflow_export.engines.build import EngineRequest
from srflow_export.engines.bundles import add_engines, trtexec_commands
from srflow_export.engines.profiles import parse_shapes
from srflow_sdk.bundle import Bundle, staged_bundle
from srflow_sdk.errors import ExportError
from tests.export.engines.conftest import REQUEST


@pytest.fixture
def bundle(exported, manifest, tmp_path):
    with staged_bundle(tmp_path / "tiny.srflow") as stage:
        for name in ("encoder.onnx", "sampler.onnx"):
            (stage.path / name).write_bytes((exported / name).read_bytes())
        stage.commit(manifest)
    return tmp_path / "tiny.srflow"


def test_engines_are_added_and_replaced_for_the_same_gpus_only(rtx, bundle):
    before = Bundle.open(bundle).manifest
    add_engines(bundle, dataclasses.replace(REQUEST, sms=(89,)))
    add_engines(bundle, dataclasses.replace(REQUEST, sms=(120,)))
    first = Bundle.open(bundle).manifest
    assert [record.compute_capabilities for record in first.engines] == [("8.9",), ("12.0",)]
    profile = parse_shapes("16,32,64")
    add_engines(bundle, dataclasses.replace(REQUEST, sms=(89,), profile=profile))
    after = Bundle.open(bundle).manifest  # which verifies every file
    assert [(record.compute_capabilities, record.profile) for record in after.engines] == [
        (("12.0",), first.engines[1].profile),
        (("8.9",), profile),
    ]
    assert len(after.files) == 6
    assert after.engines[1].encoder == first.engines[0].encoder
    assert after.files[after.engines[1].encoder] != first.files[first.engines[0].encoder]
    assert dataclasses.replace(after, engines=(), files={}, digest="") == dataclasses.replace(
        before, files={}, digest=""
    )


def test_a_failed_build_leaves_the_bundle_as_it_was(rtx, bundle, monkeypatch):
    before = Bundle.open(bundle).manifest

    def fail(*_args, **_kwargs):
        raise ExportError("no")

    monkeypatch.setattr(bundles, "build_engines", fail)
    with pytest.raises(ExportError):
        add_engines(bundle, REQUEST)
    assert Bundle.open(bundle).manifest == before
    assert [path.name for path in bundle.parent.iterdir() if path.name != "cache"] == [bundle.name]


def test_trtexec_is_told_the_same_shapes_and_types(bundle, manifest):
    request = EngineRequest(
        runtime="tensorrt", precision="fp16", profile=parse_shapes("16,88x100,256"), builder_level=4, workspace=3 << 30
    )
    encoder, sampler = (shlex.split(line) for line in trtexec_commands(bundle, manifest, request))
    assert encoder[0] == "trtexec"
    assert f"--onnx={bundle / 'encoder.onnx'}" in encoder
    assert "--saveEngine=encoder.engine" in encoder
    for option in ("--stronglyTyped", "--noTF32", "--builderOptimizationLevel=4", "--memPoolSize=workspace:3072"):
        assert option in encoder
    assert not {"--fp16", "--bf16", "--int8", "--best"} & set(encoder)  # what TensorRT 11 dropped
    assert "--optShapes=lr:1x3x88x100" in encoder
    (largest,) = (word.partition("=")[2].split(",") for word in sampler if word.startswith("--maxShapes="))
    assert {"level2_coupling:1x8x256x256", "noise_level3:1x48x128x128", "tau:1"} <= set(largest)
    assert len(largest) == 13


def test_engines_are_built_without_torch(bundle):
    code = "import sys, srflow_export.engines.bundles; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
