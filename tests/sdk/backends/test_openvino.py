"""OpenVINO's plug-in provider as it really computes, where it is installed."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from srflow_sdk.backends._plugin_providers import PLUGINS

HERE = Path(__file__).parent
PROVIDER = PLUGINS["openvino"].provider

if not PLUGINS["openvino"].installed:
    pytest.skip(
        "onnxruntime-ep-openvino is not installed: pip install onnxruntime-ep-openvino", allow_module_level=True
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What openvino_run.py printed."""
    folder = tmp_path_factory.mktemp("openvino")
    command: list[str | Path] = [sys.executable, HERE / "openvino_run.py"]
    if sys.platform == "linux" and "GenuineIntel" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        if platform.machine() != "x86_64" or shutil.which("cc") is None:
            pytest.skip("OpenVINO's plug-in takes Intel's processors, and there is no cc to build what passes for one")
        shim = folder / "intel_vendor.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, HERE / "intel_vendor.c"], check=True, timeout=60)
        command.append(shim)
    environ = {**os.environ, "SRFLOW_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=120)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if not answer["devices"][0]:
        pytest.skip("OpenVINO offers no device on this machine")
    return answer


def test_its_library_is_registered_once(run: dict[str, Any]) -> None:
    first, again = run["devices"]
    assert first == again


def test_the_whole_graph_runs_there_with_the_cpu_behind_it(run: dict[str, Any]) -> None:
    assert run["device"] == "openvino"
    assert run["providers"] == [PROVIDER, "CPUExecutionProvider"]
    assert run["taken"] == [PROVIDER]


def test_pictures_of_any_size_are_float32_pictures(run: dict[str, Any]) -> None:
    """Left alone, OpenVINO computes in bfloat16 where the processor can: 54 dB."""
    assert min(run["decibels"]) > 90


def test_threads_share_one_backend(run: dict[str, Any]) -> None:
    assert run["threads"] == [True] * 6


def test_cpu_threads_and_the_cache_are_handed_on(run: dict[str, Any]) -> None:
    assert run["load_config"]["CPU"]["INFERENCE_NUM_THREADS"] == 1
    assert run["cached"] == 2


def test_auto_leaves_the_processor_to_onnx_runtime(run: dict[str, Any]) -> None:
    assert run["auto"] == "cpu"
