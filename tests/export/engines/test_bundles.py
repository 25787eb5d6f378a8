"""Engines put into a bundle that is there already, and the same by NVIDIA's own tool."""

import dataclasses
import shlex
import subprocess
import sys
import threading

import pytest

from srflow_export import exporter
from srflow_export._bundle_writer import staged_bundle
from srflow_export.engines import _bundles as bundles
from srflow_export.engines._builder import BuilderOptions
from srflow_export.engines._bundles import add_engines, trtexec_commands
from srflow_export.engines._profiles import parse_shapes
from srflow_export.engines._request import EngineRequest
from srflow_export.exporter import ExportOptions, export_checkpoint
from srflow_sdk.errors import BundleError, ExportError, MissingExtraError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import EngineRecord
from srflow_training import save_checkpoint
from tests.export.engines.conftest import REQUEST
from tests.networks import random_srflow, tiny_config


@pytest.fixture
def bundle(exported, manifest, tmp_path):
    with staged_bundle(tmp_path / "tiny.srflow") as stage:
        for name in ("encoder.onnx", "sampler.onnx"):
            (stage.path / name).write_bytes((exported / name).read_bytes())
        stage.commit(manifest)
    return tmp_path / "tiny.srflow"


@pytest.fixture
def no_builds(rtx, monkeypatch):
    """Engines that only say what they are: test_build.py has real ones."""
    monkeypatch.setattr(
        "srflow_export.engines._pairs.build_engine",
        lambda trt, graph, shapes, options, *, sms, **_: repr((graph.sha256, shapes, sms)).encode(),
    )


def test_engines_are_added_and_replaced_for_the_same_gpus_only(no_builds, bundle):
    before = Bundle.open(bundle).manifest
    add_engines(bundle, dataclasses.replace(REQUEST, sms=(89,)))
    add_engines(bundle, dataclasses.replace(REQUEST, sms=(120,)))
    first = Bundle.open(bundle).manifest
    assert [record.compute_capabilities for record in first.engines] == [("12.0",), ("8.9",)]
    profile = parse_shapes("16,32,64")
    add_engines(bundle, dataclasses.replace(REQUEST, sms=(89,), profile=profile))
    after = Bundle.open(bundle).manifest  # which verifies every file
    assert [(record.compute_capabilities, record.profile) for record in after.engines] == [
        (("8.9",), profile),
        (("12.0",), first.engines[0].profile),
    ]
    assert len(after.files) == 6
    assert after.engines[0].encoder == first.engines[1].encoder
    assert after.files[after.engines[0].encoder] != first.files[first.engines[1].encoder]
    assert dataclasses.replace(after, engines=(), files={}, digest="") == dataclasses.replace(
        before, files={}, digest=""
    )


def test_the_inverters_engine_is_added_kept_and_replaced_with_the_others(no_builds, exported, manifest, tmp_path):
    with staged_bundle(tmp_path / "tiny.srflow") as stage:
        for name in ("encoder.onnx", "sampler.onnx", "inverter.onnx"):
            (stage.path / name).write_bytes((exported / name).read_bytes())
        stage.commit(manifest)
    for sm in (89, 120, 89):
        after = add_engines(tmp_path / "tiny.srflow", dataclasses.replace(REQUEST, sms=(sm,)))
    assert [record.compute_capabilities for record in after.engines] == [("8.9",), ("12.0",)]
    assert all(record.inverter in after.files for record in after.engines)
    assert len(Bundle.open(tmp_path / "tiny.srflow").manifest.files) == 3 + 6
    commands = trtexec_commands(tmp_path / "tiny.srflow", after, dataclasses.replace(REQUEST, runtime="tensorrt"))
    assert "--saveEngine=inverter.engine" in shlex.split(commands[2])


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
        runtime="tensorrt",
        precision="fp16",
        profile=parse_shapes("16,88x100,256"),
        builder=BuilderOptions(level=4, workspace=3 << 30),
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
    assert {"level2_step0_coupling:1x8x256x256", "noise_level3:1x48x128x128", "tau:1"} <= set(largest)
    assert len(largest) == 13


def test_engines_are_built_without_torch(bundle):
    code = "import sys, srflow_export.engines._bundles; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def builds(monkeypatch, bundle):
    """Engines without a library; `builds.meanwhile` runs while the first pair is built, in a thread of its own.

    That build goes on when the other one is at its end, or stands at the lock and says so.
    """
    return Builds(monkeypatch)


class Builds:
    def __init__(self, monkeypatch):
        self.meanwhile = None
        self.free = threading.Event()
        self.thread = None
        monkeypatch.setattr(bundles, "build_engines", self.build)

    def say(self, line):
        if "waiting for it" in line:
            self.free.set()

    def _run(self):
        try:
            self.meanwhile()
        finally:
            self.free.set()

    def build(self, folder, manifest, request, **_):
        if self.meanwhile is not None and self.thread is None:
            self.thread = threading.Thread(target=self._run)
            self.thread.start()
            assert self.free.wait(60)
        (folder / "engines").mkdir(exist_ok=True)
        (sm,) = request.sms
        names = [f"engines/sm{sm}.{part}.engine" for part in ("encoder", "sampler")]
        for name in names:
            (folder / name).write_bytes(name.encode())
        return EngineRecord(
            runtime="tensorrt_rtx",
            version="1",
            precision="fp16",
            compute_capabilities=(f"{sm // 10}.{sm % 10}",),
            gpu="",
            profile=parse_shapes("16,32,64"),
            encoder=names[0],
            sampler=names[1],
            graphs={name: manifest.files[name]["sha256"] for name in ("encoder.onnx", "sampler.onnx")},
        )


def test_engines_that_are_built_at_once_all_arrive(bundle, builds):
    builds.meanwhile = lambda: add_engines(bundle, dataclasses.replace(REQUEST, sms=(120,)), say=builds.say)
    add_engines(bundle, dataclasses.replace(REQUEST, sms=(89,)))
    builds.thread.join(60)
    manifest = Bundle.open(bundle).manifest
    assert [record.compute_capabilities for record in manifest.engines] == [("12.0",), ("8.9",)]
    assert len(manifest.files) == 6


def test_an_export_while_engines_are_built_is_not_replaced_by_the_older_bundle(
    bundle, builds, exported, monkeypatch, tmp_path
):
    """The graphs and the comparison are none of this test's; all else of the export is real."""
    graphs = [(name, (exported / name).read_bytes()) for name in ("encoder.onnx", "sampler.onnx")]
    monkeypatch.setattr(exporter, "_onnx_files", lambda *_: graphs)
    monkeypatch.setattr(exporter, "prove", lambda *_, **__: [])
    save_checkpoint(tmp_path / "new.safetensors", random_srflow(tiny_config(steps=1)))
    options = ExportOptions(halo=16, name="the new one")
    builds.meanwhile = lambda: export_checkpoint(tmp_path / "new.safetensors", bundle, options, say=builds.say)
    add_engines(bundle, dataclasses.replace(REQUEST, sms=(89,)))
    builds.thread.join(60)
    assert Bundle.open(bundle).manifest.name == "the new one"


def test_what_is_no_bundle_is_refused_without_a_lock_beside_it(tmp_path):
    with pytest.raises(BundleError, match="there is no such bundle"):
        add_engines(tmp_path / "absent.srflow", REQUEST)
    assert not list(tmp_path.iterdir())


def test_the_command_for_another_machine_asks_for_all_the_same(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    request = EngineRequest(
        runtime="tensorrt",
        precision="fp16",
        profile=parse_shapes("16,32,64"),
        builder=BuilderOptions(level=4, workspace=3 << 29),
    )
    with pytest.raises(MissingExtraError) as caught:
        add_engines(bundle, request)
    assert str(caught.value).endswith(
        f"--engines-for {bundle} --trt fp16 --shapes 16x16,32x32,64x64 --builder-level 4 --workspace 1.5"
    )
