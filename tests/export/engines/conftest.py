"""A tiny network's typed graphs, TensorRT-RTX, and a cache folder of each test's own."""

import importlib
import platform
import shutil
import sys

import pytest

from srflow_export import onnx_models
from srflow_export.engines.requests import EngineRequest
from tests.networks import random_srflow, tiny_config
from tests.sdk.tiny_bundle import tiny_manifest

REQUEST = EngineRequest(runtime="tensorrt_rtx", precision="fp16", sms=(120, 89))


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def rtx():
    """The module. Where its wheels exist it must be there: it comes with the developers' extra."""
    if (sys.platform, platform.machine()) not in (("linux", "x86_64"), ("win32", "AMD64")):
        pytest.skip("TensorRT-RTX has no wheels for this platform")
    return importlib.import_module("tensorrt_rtx")


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A folder with encoder.onnx, sampler.onnx and inverter.onnx in half precision."""
    folder = tmp_path_factory.mktemp("exported")
    model = random_srflow(tiny_config(steps=1))
    exports = {
        "encoder": onnx_models.encoder_model,
        "sampler": onnx_models.sampler_model,
        "inverter": onnx_models.inverter_model,
    }
    for name, export in exports.items():
        (folder / f"{name}.onnx").write_bytes(onnx_models.serialise(export(model, "fp16"), {}))
    return folder


@pytest.fixture
def folder(exported, tmp_path):
    """The same, to write engines into."""
    return shutil.copytree(exported, tmp_path / "bundle")


@pytest.fixture
def manifest():
    return tiny_manifest(precision="fp16", halo=12, conditioning_bytes_per_pixel=33792)
