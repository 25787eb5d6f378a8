"""The doctor's checks of ONNX Runtime's providers for GPUs and other processors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from srflow_apps.doctor import onnxruntime_installs as installs
from srflow_apps.doctor.checks import Check, upscaled
from srflow_sdk.model.psnr_bounds import FLOAT32_DB, LEAST_DB
from srflow_sdk.system.device_names import PluginDevice

Ask = Callable[..., dict[str, Any]]

_COARSE = "below float32 precision; on NVIDIA GPUs, NVIDIA_TF32_OVERRIDE=0 in the environment restores it"
_TITLES = {"rtx": "TensorRT-RTX EP", "webgpu": "WebGPU EP"}
_NO_RUNTIME = "ONNX Runtime does not work, see above"


def check_tensorrt_provider(runtime: dict[str, Any], driver: dict[str, Any], ask: Ask) -> Check:
    """Check ONNX Runtime's built-in TensorRT provider, which `--device tensorrt` uses for bundles without engines.

    runtime, driver: answers of the probes `onnxruntime` and `nvidia_driver`. ask: runs a probe. The provider is loaded
    but not run: building its first engines takes minutes.
    """
    name = "TensorRT EP"
    if "error" in runtime:
        return Check(name=name, state="missing", detail=_NO_RUNTIME)
    if "TensorrtExecutionProvider" not in runtime["providers"]:
        detail = f"the active ONNX Runtime ({runtime['package']}) is built without TensorRT"
        fixes = () if "error" in driver else (("", installs.fix_command(installs.find_claims(), keep=installs.GPU)),)
        return Check(name=name, state="missing", detail=detail, fixes=fixes)
    library = ask("tensorrt_provider")
    if "error" in library:
        return Check(name=name, state="missing", detail=library["error"])
    if "error" in driver:
        detail = f"TensorRT {library['version']} is installed, but there is no GPU to use"
        return Check(name=name, state="missing", detail=detail)
    detail = f"TensorRT {library['version']} loads; --device tensorrt builds engines on first use"
    return Check(name=name, state="ok", detail=detail)


def check_plugin(device: PluginDevice, runtime: dict[str, Any], driver: dict[str, Any], ask: Ask) -> Check:
    """Check a plug-in provider: whether it is installed, what it finds here, and the picture that it computes.

    runtime, driver, ask: as for :func:`check_tensorrt_provider`.
    """
    name = _TITLES[device]
    if "error" in runtime:
        return Check(name=name, state="missing", detail=_NO_RUNTIME)
    plugin = ask("plugin_provider", device)
    if plugin.get("installed") is False:
        fixes = (("", plugin["fix"]),)
        return Check(name=name, state="missing", detail=f"not installed; it needs {plugin['needs']}", fixes=fixes)
    if device == "rtx" and "error" in driver:
        detail = "it is installed, but there is no NVIDIA GPU to use"
        return Check(name=name, state="missing", detail=detail)
    if "error" in plugin:
        return Check(name=name, state="problem", detail=plugin["error"])
    if not plugin["devices"]:
        detail = f"{plugin['version']} is installed but offers no device here; it needs {plugin['needs']}"
        return Check(name=name, state="missing", detail=detail)
    return judged(name, ask("upscale", device), on=f"{plugin['version']} on {plugin['devices'][0]}: ")


def check_openvino(ask: Ask) -> Check:
    """Check OpenVINO: whether it is installed, its device, what the processor can compute in, and its picture."""
    name, again = "OpenVINO", "pip install -U --force-reinstall openvino"
    found = ask("openvino")
    if "error" in found:
        absent = "is not installed" in found["error"]
        detail = "not installed; it runs on processors of any maker and on Intel's GPUs" if absent else found["error"]
        fixes = (("", 'pip install "srflow-sdk[openvino]"' if absent else again),)
        return Check(name=name, state="missing" if absent else "problem", detail=detail, fixes=fixes)
    processor = f"; the processor has {', '.join(found['processor'])}" if found["processor"] else ""
    check = judged(name, ask("upscale", "openvino"), on=f"{found['version']} on {found['device']}{processor}: ")
    if check.state == "problem":
        return Check(name=name, state="problem", detail=check.detail, fixes=(("", again),))
    return check


def plugin_devices() -> tuple[PluginDevice, ...]:
    """The plug-in providers' devices, in the order of "auto"."""
    return get_args(PluginDevice)


def judged(name: str, answer: dict[str, Any], *, on: str = "") -> Check:
    """Judge a device by the answer of the probe `upscale`: "ok" only if its picture agrees with the CPU's.

    The probe upscales with an embedded model, so the network is not to blame.
    """
    if "error" in answer:
        return Check(name=name, state="problem", detail=f"{on}{answer['error']}")
    decibels = answer["decibels"]
    detail = f"{on}{upscaled(answer)}"
    if decibels is None or decibels >= FLOAT32_DB:
        return Check(name=name, state="ok", detail=detail)
    if decibels < LEAST_DB:
        return Check(name=name, state="problem", detail=f"{detail}: a wrong picture; its driver or package is broken")
    return Check(name=name, state="ok", detail=f"{detail}: {_COARSE}")
