"""Which engines a machine can run, and what it is told where it can run none."""

import dataclasses
import sys

import numpy as np
import pytest

from srflow_sdk._version import __version__
from srflow_sdk.backends import native_library, open_backend
from srflow_sdk.backends.native_library import PLUGINS
from srflow_sdk.backends.providers import Provider
from srflow_sdk.backends.tensorrt import TensorRTBackend, select_engines, tensorrt_offered
from srflow_sdk.errors import BundleError, DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import LrProfile, PluginLibrary
from srflow_sdk.model.manifest import REQUIRED_FILES
from srflow_sdk.system.hardware import Gpu

from .engine_machine import RTX_4090, noise
from .fake_tensorrt import with_plugins, write_engine_bundle, write_plugin_library

H100 = Gpu(name="NVIDIA H100", compute_capability="9.0", cuda="13.0")
RTX_3080 = Gpu(name="NVIDIA GeForce RTX 3080", compute_capability="8.6", cuda="13.0")
L4 = {"gpu": "NVIDIA L4", "compute_capabilities": ("8.9", "12.0"), "precision": "fp16"}
RTX = {"runtime": "tensorrt_rtx", "compute_capabilities": ("8.9", "12.0")}
OTHER_GRAPHS = {"graphs": dict.fromkeys(REQUIRED_FILES, "0" * 64)}
TRT, TRT_FP16, RTX_BUILD = (
    f"{how} --shapes 20x20,40x40,64x64"
    for how in ("--trt fp32", "--trt fp16", "--rtx fp32 --sm {}")
)


def refused(bundle):
    with pytest.raises(DeviceError) as caught:
        TensorRTBackend(bundle).activate()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_first_engines_that_fit_are_taken_and_else_each_says_why_not(machine, engine_bundle):
    (record,) = engine_bundle.manifest.engines
    old = dataclasses.replace(record, version="10.15.1.29", encoder="engines/old.plan")
    foreign = dataclasses.replace(
        record, compute_capabilities=("12.0",), encoder="engines/foreign.plan"
    )
    last = dataclasses.replace(record, precision="fp16")

    def holding(*records):
        return dataclasses.replace(
            engine_bundle,
            manifest=dataclasses.replace(engine_bundle.manifest, engines=tuple(records)),
        )

    assert select_engines(holding(old, foreign, record, last)) == (
        record,
        machine.library,
        RTX_4090,
    )
    assert tensorrt_offered(engine_bundle)
    text = refused(holding(old, foreign))
    assert "engines/old.plan: built by tensorrt 10.15.1.29" in text
    assert "; engines/foreign.plan: built for compute capability 12.0" in text


@pytest.mark.parametrize(
    ("record", "found", "library", "says", "ends"),
    [
        (
            {},
            None,
            {},
            "the driver shows no GPU 0 or is not installed",
            "run srflow-doctor for details",
        ),
        (
            OTHER_GRAPHS,
            RTX_4090,
            {},
            "plan: built from a different encoder.onnx than the bundle's; build",
            TRT,
        ),
        (
            {},
            RTX_4090,
            {"__version__": "11.2.0.1"},
            "built by tensorrt 11.1.0.106, but 11.2.0.1 is installed",
            TRT,
        ),
        (
            L4,
            H100,
            {},
            "capability 8.9 or 12.0 (NVIDIA L4), but this GPU, NVIDIA H100, has 9.0; build them",
            TRT_FP16,
        ),
        # TensorRT-RTX builds for no H100
        (L4 | RTX, H100, {}, "this GPU, NVIDIA H100, has 9.0", TRT_FP16),
        (RTX, RTX_3080, {}, "has 8.6", RTX_BUILD.format(86)),
        (
            RTX,
            RTX_4090,
            {"__version__": "1.8"},
            "built by tensorrt-rtx 1.7.1.116, but 1.8",
            RTX_BUILD.format(89),
        ),
    ],
)
def test_engines_that_do_not_fit_are_refused_with_the_fix(
    machine, tiny_bundle, tmp_path, record, found, library, says, ends
):
    machine.install(record.get("runtime", "tensorrt"), **library)
    machine.found = found
    bundle = write_engine_bundle(tiny_bundle, tmp_path / "b.srflow", **record)
    text = refused(bundle)
    assert says in text
    assert text.endswith(ends)
    assert found is None or f": srflow-export --engines-for {bundle.path} " in text
    assert ("pip install" in text) == ("__version__" in library)
    if found is not RTX_4090:
        assert not tensorrt_offered(bundle)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_bundle_without_engines_is_refused_with_what_runs_it_and_what_builds_them(
    machine, tiny_bundle, precision
):
    bundle = Bundle.open(tiny_bundle)
    bundle = dataclasses.replace(
        bundle, manifest=dataclasses.replace(bundle.manifest, precision=precision)
    )
    assert not tensorrt_offered(bundle)
    text = refused(bundle)
    assert (
        'has no TensorRT engines; use device="cuda" or device="cpu", which run its ONNX graphs'
        in text
    )
    assert text.endswith(f"srflow-export --engines-for {bundle.path} --trt fp32")


@pytest.mark.parametrize(
    ("runtime", "fix"),
    [
        (
            "tensorrt",
            'pip install "tensorrt-cu13==11.1.0.106"',
        ),
        (
            "tensorrt_rtx",
            'pip install "tensorrt-rtx-cu13==1.7.1.116"',
        ),
    ],
)
def test_a_library_that_is_not_installed_is_named_with_its_version(
    machine, monkeypatch, tiny_bundle, tmp_path, runtime, fix
):
    bundle = write_engine_bundle(tiny_bundle, tmp_path / "b.srflow", runtime=runtime)
    monkeypatch.delitem(sys.modules, runtime)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])
    assert not tensorrt_offered(bundle)
    assert f"(No module named '{runtime}'): {fix}" in refused(bundle)


def test_a_library_that_cannot_be_loaded_is_to_be_installed_again(
    machine, monkeypatch, tmp_path, engine_bundle
):
    """As the wheel of TensorRT's Python module is without the wheel of its libraries."""
    (tmp_path / "tensorrt.py").write_text(
        "raise FileNotFoundError('Could not find: libnvinfer.so.11')"
    )
    monkeypatch.delitem(sys.modules, "tensorrt")
    monkeypatch.syspath_prepend(tmp_path)
    assert "which cannot be imported (Could not find: libnvinfer.so.11): pip install" in refused(
        engine_bundle
    )


def test_a_machine_on_which_cuda_does_not_start_is_told_why(machine, monkeypatch, engine_bundle):
    machine.gpu.devices = 0
    assert "cudaGetDeviceCount: cudaErrorNoDevice" in refused(engine_bundle)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    assert refused(engine_bundle).endswith('pip install "cuda-bindings==13.*"')


def test_engines_that_the_library_does_not_load_are_refused(machine, tiny_bundle, tmp_path):
    bundle = write_engine_bundle(
        tiny_bundle, tmp_path / "b.srflow", spoil=lambda encoder, _: (encoder, b"not a plan")
    )
    with pytest.raises(
        DeviceError, match=r"sampler\.plan cannot be loaded: .*magic tag does not.*build it again"
    ):
        TensorRTBackend(bundle).activate()
    assert machine.gpu.used == 0


# Through `open_backend`: compared with the CPU before they are used, and passed over by "auto".


@pytest.mark.parametrize("wrong", [False, True])
def test_engines_are_used_if_they_draw_the_cpus_picture_and_released_if_not(
    machine, tiny_bundle, tmp_path, monkeypatch, wrong
):
    # as srflow-export builds them unless told otherwise
    profile = LrProfile(min=(2, 2), opt=(64, 64), max=(64, 64))
    bundle = write_engine_bundle(tiny_bundle, tmp_path / "two.srflow", profile=profile)
    if wrong:
        begin = TensorRTBackend.begin
        monkeypatch.setattr(TensorRTBackend, "begin", lambda *these: lambda: 1 - begin(*these)())
        with pytest.raises(
            DeviceError,
            match=r"a different picture from cpu .*again: srflow-export --engines-for",
        ):
            open_backend(bundle, device="tensorrt")
    else:
        backend = open_backend(bundle, device="tensorrt")
        assert backend.device == "tensorrt"
        backend.deactivate()
    assert machine.gpu.used == 0


@pytest.mark.parametrize(
    "error", [DeviceError("another GPU"), BundleError("no engine of these graphs")]
)
def test_auto_passes_over_engines_that_cannot_be_used(
    machine, engine_bundle, monkeypatch, caplog, error
):
    def fail(_self):
        raise error

    monkeypatch.setattr(TensorRTBackend, "activate_impl", fail)
    monkeypatch.setattr(Provider, "offered", lambda self: self.device == "cpu")
    backend = open_backend(engine_bundle, device="auto")
    assert backend.device == "cpu"
    backend.deactivate()
    assert caplog.messages[0] == f"continuing without tensorrt: {error}"


# Engines with plugins: the library is loaded before they are, and only the one that they were built
# with.


@pytest.fixture
def library(tmp_path, monkeypatch):
    """The library of plugins in the package's folder."""
    monkeypatch.setattr(native_library, "_BESIDE", tmp_path / "native")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv(PLUGINS, raising=False)
    (tmp_path / "native").mkdir()
    return write_plugin_library(tmp_path / "native" / "libsrflow_trt.so", major=11)


def with_library(library, tiny_bundle, **changes):
    """A bundle whose engines were built with that library."""
    fields = {"version": __version__, "tensorrt_major": 11, "abi": 2, **changes}
    target = library.parent / "tiny.srflow"
    return write_engine_bundle(
        tiny_bundle, target, spoil=with_plugins, plugins=PluginLibrary(**fields)
    )


@pytest.mark.parametrize("named", [False, True])
def test_the_library_that_the_variable_names_or_else_the_packages_is_loaded_once(
    machine, library, tiny_bundle, tmp_path, monkeypatch, named, lr, expected
):
    bundle = with_library(library, tiny_bundle)
    if named:
        library = library.rename(tmp_path / "other.so")
        monkeypatch.setenv(PLUGINS, str(library))
    for _ in range(2):
        with TensorRTBackend(bundle) as backend:
            assert np.abs(backend.sample(backend.encode(lr), noise(1), 0.7) - expected).max() < 1e-6
    assert machine.library.get_plugin_registry()._loads == [str(library)]


def test_engines_without_plugins_load_nothing(machine, library, engine_bundle):
    with TensorRTBackend(engine_bundle):
        assert machine.library.get_plugin_registry()._loads == []


@pytest.mark.parametrize(
    ("library_has", "record", "says"),
    [
        (
            None,
            {},
            "and here are none and TensorRT 11.1.0.106: name that file in SRFLOW_TENSORRT_PLUGINS, "
            "or build",
        ),
        ({"abi": 3}, {}, "(ABI 2) for TensorRT 11, and here are {library} (ABI 3, TensorRT 11)"),
        # of before it had a number
        ({}, {"abi": 0}, "(ABI 0) for TensorRT 11, and here are {library} (ABI 2, "),
        (
            {},
            {"tensorrt_major": 10},
            "need the libsrflow_trt.so of srflow-sdk 0.1.0 (ABI 2) for TensorRT 10, and",
        ),
        ({"version": "0.0.1"}, {}, "{library} is from srflow-sdk 0.0.1, but this is"),
    ],
)
def test_another_library_is_refused_before_tensorrt_loads_it(
    machine, library, tiny_bundle, library_has, record, says
):
    bundle = with_library(library, tiny_bundle, **record)
    if library_has is None:
        library.unlink()
    else:
        write_plugin_library(library, **{"major": 11, **library_has})
    text = refused(bundle)
    assert says.format(library=library) in text
    if "version" not in (library_has or {}):
        assert text.endswith(f"srflow-export --engines-for {bundle.path} {TRT}")
    assert machine.library.get_plugin_registry()._loads == []
