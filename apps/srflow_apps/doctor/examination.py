"""The checks of srflow-doctor: what this machine can run, why the rest does not work, and the commands that fix it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import TYPE_CHECKING, Any, get_args

from srflow_apps.doctor import onnxruntime_installs as installs
from srflow_apps.doctor.probes import ask
from srflow_apps.doctor.report_lines import Check, fix
from srflow_sdk._version import __version__
from srflow_sdk.errors import SRFlowError
from srflow_sdk.model.manifest import FLOAT32_DB, LEAST_DB
from srflow_sdk.system.device_names import PluginDevice
from srflow_sdk.system.hardware import cuda_of_wheels

if TYPE_CHECKING:
    from srflow_sdk.model.bundle import Bundle

Answer = dict[str, Any]
"""The answer of a probe; {"error": one line} if it failed."""

_LIBRARIES = (("TensorRT", "tensorrt", "tensorrt"), ("TensorRT-RTX", "tensorrt_rtx", "rtx"))  # name, module, extra
_NO_RUNTIME = "ONNX Runtime does not work, see above"
_COARSE = "below float32 precision; an environment with NVIDIA_TF32_OVERRIDE=1 is a cause, and =0 restores it"


def examine() -> Iterator[Check]:
    """Run the checks and yield each as soon as it is known. Never raises for what it finds; takes a few seconds."""
    # Probes that only load libraries run two at a time; upscaling, which is timed, runs alone after them.
    with ThreadPoolExecutor(2) as pool:
        driver, runtime = pool.map(ask, ("nvidia_driver", "onnxruntime"))
        vips = pool.submit(ask, "libvips")
        modules = [pool.submit(ask, "module", module) for _, module, _ in _LIBRARIES]
        machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
        yield Check("SDK", "ok", f"{DISTRIBUTION} {__version__}, {machine}")
        yield _check_machine()
        yield _check_models()
        yield _check_onnxruntime(runtime, wants_gpu="error" not in driver)
        image_files = _check_image_files(vips.result())
        libraries = [
            _check_tensorrt(*names, answer.result(), driver) for names, answer in zip(_LIBRARIES, modules, strict=True)
        ]
    yield _check_cpu()
    yield image_files
    yield _check_driver(driver)
    yield _check_cuda(runtime, driver)
    yield from libraries
    yield check_tensorrt_provider(runtime, driver)
    for device in get_args(PluginDevice):
        yield check_plugin(device, runtime, driver)
    yield check_openvino()
    yield _check_fastest()
    yield _check_native_library()
    yield _check_plugin_library()
    for extra in PURPOSES:
        yield check_extra(extra)


def _check_machine() -> Check:
    from srflow_sdk.system.hardware import available_memory

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        memory = f"{available_memory() / 2**30:.1f} GiB of free memory"
    except ImportError as error:  # psutil, absent or broken
        memory = f"amount of free memory unknown: {error}"
    return Check("machine", "ok", f"{cores} processor cores, {memory}")


def _check_models() -> Check:
    name = "embedded models"
    try:
        manifests = [bundle.manifest for bundle in _embedded().values()]
    except SRFlowError as error:
        return Check(name, "problem", str(error), basic=True)
    except ImportError as error:  # numpy, absent or broken
        return Check(name, "problem", str(error), fix("pip install --force-reinstall srflow-sdk"), basic=True)
    each = (f"{one.name}, ×{one.scale}, {one.precision}, tau {one.default_tau:g}" for one in manifests)
    return Check(name, "ok", f"{'; '.join(each)}; files verified", basic=True)


def _embedded() -> dict[str, Bundle]:
    """The embedded models by name. Raises: SRFlowError; ImportError if numpy is absent or broken."""
    from srflow_sdk.model.bundle import DEFAULT_MODEL, Bundle

    return {name: Bundle.embedded(name) for name in Bundle.embedded_names() or (DEFAULT_MODEL,)}


def _check_onnxruntime(runtime: Answer, *, wants_gpu: bool) -> Check:
    claims = installs.find_claims()
    clash = installs.clashing(claims)
    purposes = [("for the CPU", installs.CPU), ("for NVIDIA GPUs", installs.GPU)]
    if wants_gpu:
        purposes.reverse()
    fixes = tuple((purpose, installs.fix_command(claims, keep=keep)) for purpose, keep in purposes)
    broken = "error" in runtime
    active = runtime["error"] if broken else _active(runtime)
    if clash:
        names = " and ".join(map(str, clash))
        outcome = "import onnxruntime fails" if broken else "active"
        detail = f"{names} overwrite each other's files; {outcome}: {active}"
    elif broken and claims:
        files = sum(claim.missing for claim in claims)
        lost = f", {files} of its files are gone (another onnxruntime package was uninstalled)" if files else ""
        detail = f"{claims[0]} is installed and broken{lost}: {active}"
    elif broken:
        detail = f"not installed: {active}"
        fixes = tuple((purpose, f"pip install {keep}") for purpose, keep in purposes)
    else:
        return Check("ONNX Runtime", "ok", active)
    return Check("ONNX Runtime", "problem", detail, fixes)


def _active(runtime: Answer) -> str:
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in runtime["providers"])
    cuda = f", CUDA {runtime['cuda']}" if runtime["cuda"] else ""
    return f"{runtime['package']} {runtime['version']}{cuda} with {providers}"


def _check_image_files(answer: Answer) -> Check:
    if "error" in answer:
        again = fix("pip install --force-reinstall pyvips pyvips-binary")
        return Check("image files", "problem", answer["error"], again, basic=True)
    formats = answer["formats"]
    detail = f"libvips {answer['version']} reads {', '.join(name for name, reads in formats.items() if reads)}"
    missing = [name for name, reads in formats.items() if not reads]
    if missing:
        # HEIC needs a patented codec, which the wheel leaves out: not a fault of this installation.
        detail += f", not {', '.join(missing)}" + ' (pip install "srflow-sdk[heic]")' * ("HEIC" in missing)
    return Check("image files", "ok" if formats["PNG"] and formats["JPEG"] else "problem", detail, basic=True)


def _check_cpu() -> Check:
    answer = ask("upscale", "cpu")
    if "error" in answer:
        return Check("upscale on CPU", "problem", answer["error"], basic=True)
    return Check("upscale on CPU", "ok", _upscaled(answer), basic=True)


def _check_driver(driver: Answer) -> Check:
    if "error" not in driver:
        extras = f"[gpu-cu{cuda_of_wheels(driver['cuda'])}] and [tensorrt-cu{cuda_of_wheels(driver['cuda'])}] fit it"
        detail = f"{', '.join(driver['gpus'])}; the driver supports CUDA up to {driver['cuda']}: {extras}"
        return Check("NVIDIA GPU", "ok", detail)
    if "cannot open shared object" in driver["error"] or "Could not find module" in driver["error"]:
        return Check("NVIDIA GPU", "missing", "no NVIDIA driver")
    return Check("NVIDIA GPU", "problem", driver["error"])


def _check_cuda(runtime: Answer, driver: Answer) -> Check:
    name = "upscale on CUDA"
    if "error" in runtime:
        return Check(name, "missing", _NO_RUNTIME)
    if "CUDAExecutionProvider" not in runtime["providers"]:
        no_gpu = ", and there is no GPU to use" if "error" in driver else ""
        detail = f"the active ONNX Runtime ({runtime['package']}) is built without CUDA{no_gpu}"
        return Check(name, "missing", detail, _gpu_build(driver))
    if "error" not in driver and int(str(runtime["cuda"]).partition(".")[0] or 0) > cuda_of_wheels(driver["cuda"]):
        detail = (
            f"this ONNX Runtime is for CUDA {runtime['cuda']}, which the driver (up to {driver['cuda']}) does not run"
        )
        return Check(name, "problem", detail, _gpu_build(driver))
    libraries = ask("cuda_libraries")
    if "error" in libraries:
        major = str(runtime["cuda"]).partition(".")[0] or "?"
        detail = f"CUDA {major} or cuDNN is not installed: {libraries['error']}"
        return Check(name, "missing", detail, fix('pip install "onnxruntime-gpu[cuda,cudnn]"'))
    if "error" in driver:
        return Check(name, "missing", "CUDA is installed, but there is no GPU to use")
    return judged(name, ask("upscale", "cuda"))


def _gpu_build(driver: Answer) -> tuple[tuple[str, str], ...]:
    """How to get ONNX Runtime's build for NVIDIA GPUs, if there is one."""
    if "error" in driver:
        return ()
    keep = (
        installs.GPU if cuda_of_wheels(driver["cuda"]) == 13 else f'"{installs.GPU}<1.27"'
    )  # later wheels are for CUDA 13
    return fix(installs.fix_command(installs.find_claims(), keep=keep))


def _check_tensorrt(name: str, module: str, extra: str, answer: Answer, driver: Answer) -> Check:
    if "error" in answer:
        absent = f"No module named '{module}'" in answer["error"]
        extra += f"-cu{cuda_of_wheels(driver['cuda'])}" if extra == "tensorrt" and "error" not in driver else ""
        detail = "not installed" if absent else answer["error"]
        return Check(name, "missing" if absent else "problem", detail, fix(f'pip install "{DISTRIBUTION}[{extra}]"'))
    if "error" in driver:
        return Check(name, "missing", f"{module} {answer['version']}, but no GPU to run engines on")
    return Check(name, "ok", f"{module} {answer['version']} on {driver['gpus'][0]}")


def check_tensorrt_provider(runtime: Answer, driver: Answer) -> Check:
    """Check ONNX Runtime's built-in TensorRT provider, which `--device tensorrt` uses for bundles without engines.

    It is loaded but not run: building its first engines takes minutes.
    """
    name = "TensorRT EP"
    if "error" in runtime:
        return Check(name, "missing", _NO_RUNTIME)
    if "TensorrtExecutionProvider" not in runtime["providers"]:
        detail = f"the active ONNX Runtime ({runtime['package']}) is built without TensorRT"
        return Check(name, "missing", detail, _gpu_build(driver))
    library = ask("tensorrt_provider")
    if "error" in library:
        return Check(name, "missing", library["error"])
    if "error" in driver:
        return Check(name, "missing", f"TensorRT {library['version']} is installed, but there is no GPU to use")
    return Check(name, "ok", f"TensorRT {library['version']} loads; --device tensorrt builds engines on first use")


def check_plugin(device: PluginDevice, runtime: Answer, driver: Answer) -> Check:
    """Check a plug-in provider of ONNX Runtime: its package, what it finds here, and the picture that it computes."""
    name = f"{device} EP"
    if "error" in runtime:
        return Check(name, "missing", _NO_RUNTIME)
    plugin = ask("plugin_provider", device)
    if plugin.get("installed") is False:
        return Check(name, "missing", f"not installed; it needs {plugin['needs']}", fix(plugin["fix"]))
    if device == "rtx" and "error" in driver:
        return Check(name, "missing", "it is installed, but there is no NVIDIA GPU to use")
    if "error" in plugin:
        return Check(name, "problem", plugin["error"])
    if not plugin["devices"]:
        detail = f"{plugin['version']} is installed but offers no device here; it needs {plugin['needs']}"
        return Check(name, "missing", detail)
    return judged(name, ask("upscale", device), on=f"{plugin['version']} on {plugin['devices'][0]}: ")


def check_openvino() -> Check:
    """Check OpenVINO: its package, its device, what the processor can compute in, and its picture."""
    name, again = "OpenVINO", fix("pip install -U --force-reinstall openvino")
    found = ask("openvino")
    if "is not installed" in found.get("error", ""):
        detail = "not installed; it runs on processors of any maker and on Intel's GPUs"
        return Check(name, "missing", detail, fix(f'pip install "{DISTRIBUTION}[openvino]"'))
    if "error" in found:
        return Check(name, "problem", found["error"], again)
    processor = f"; the processor has {', '.join(found['processor'])}" if found["processor"] else ""
    on = f"{found['version']} on {found['device']}{processor}: "
    return judged(name, ask("upscale", "openvino"), on=on, fixes=again)


def judged(name: str, answer: Answer, *, on: str = "", fixes: tuple[tuple[str, str], ...] = ()) -> Check:
    """Judge a device by the answer of the probe `upscale`: "ok" only if its picture agrees with the CPU's.

    The probe upscales with an embedded model, so the network is not to blame. on: begins the detail. fixes: for a
    problem.
    """
    if "error" in answer:
        return Check(name, "problem", f"{on}{answer['error']}", fixes)
    decibels, detail = answer["decibels"], f"{on}{_upscaled(answer)}"
    if decibels is None or decibels >= FLOAT32_DB:
        return Check(name, "ok", detail)
    if decibels < LEAST_DB:
        return Check(name, "problem", f"{detail}: a wrong picture; its driver or package is broken", fixes)
    return Check(name, "ok", f"{detail}: {_COARSE}")


def _upscaled(answer: Answer) -> str:
    """The answer of the probe `upscale` in words."""
    width, height = answer["size"]
    text = f"works: 32×32 to {width}×{height} in {answer['seconds']:.2f} s"
    if "decibels" not in answer:
        return text
    decibels = answer["decibels"]
    return f"{text}, {'equal to the CPU' if decibels is None else f'{decibels:.0f} dB against the CPU'}"


def _check_fastest() -> Check:
    """Tell what `--precision fastest` chose for each embedded model before; nothing is measured."""
    try:
        from srflow_sdk.backends.ways import cached_choice

        chosen = {embedded: cached_choice(bundle) for embedded, bundle in _embedded().items()}
    except (ImportError, SRFlowError) as error:  # another line says so
        return Check("precision", "missing", f"unknown: {error}")
    each = "; ".join(f"{embedded}: {choice or 'not measured yet'}" for embedded, choice in chosen.items())
    measures = "; --precision fastest measures it, once" if None in chosen.values() else ""
    return Check("precision", "ok", f"fastest for {each}{measures}")


def _check_native_library() -> Check:
    name, answer = "native library", ask("native_library")
    if "error" in answer:
        return Check(name, "problem", answer["error"])
    if answer["path"] is None:
        return Check(name, "missing", "none; bundles with plugins run without it (docs/native.md)")
    return Check(name, "ok", f"{answer['path']}, kernels for {'CPU and CUDA' if answer['cuda'] else 'CPU'}")


def _check_plugin_library() -> Check:
    """Look for TensorRT's plugins where an export and the runtime do."""
    name, answer = "TensorRT plugins", ask("plugin_library")
    build = (("in a clone", "pip install '.[native]' && python -m srflow_export.native tensorrt"),)
    if "error" in answer:
        return Check(name, "problem", answer["error"], build)
    if answer["path"] is None:
        return Check(name, "missing", "no library; engines are built without them (docs/native.md)", build)
    return Check(name, "ok", f"{answer['path']}, for TensorRT {answer['major']}")


DISTRIBUTION = "srflow-sdk"
PURPOSES = {
    "export": ("srflow-export", "checkpoints become bundles"),
    "train": ("srflow-train", "training and srflow-eval"),
    "demo": ("srflow-demo", "a local page"),
    "cloud": ("URLs", "s3:// in the place of paths"),
    "ray": ("Ray", "--ray"),
    "video": ("clips", "srflow-upscale clip.mp4"),
}
"""Name of the line and what it is for, by the extra."""

_STATES = ("present", "absent", "other", "elsewhere")
"""Installed as needed, not installed, installed in another version, not made for this machine."""


def check_extra(extra: str) -> Check:
    """Check an extra of :data:`PURPOSES` against the distributions that are installed."""
    name, purpose = PURPOSES[extra]
    try:
        found = _found(extra)
    except metadata.PackageNotFoundError:  # the SDK itself, started from its files
        return Check(name, "missing", f"{purpose}: unknown, because {DISTRIBUTION} is not installed")
    except ImportError as error:  # packaging, absent or broken
        return Check(name, "problem", f"{purpose}: unknown: {error}", fix("pip install --force-reinstall packaging"))
    install = fix(f'pip install "{DISTRIBUTION}[{extra}]"')
    present, absent, other, elsewhere = (", ".join(found[state]) for state in _STATES)
    if elsewhere:
        elsewhere = f"not made for this Python or machine: {elsewhere}"
    if other:
        return Check(name, "problem", f"{purpose}: {other}", install)
    if absent:
        return Check(name, "missing", f"{purpose}; not installed: {absent}", install)
    if not present:
        return Check(name, "missing", f"{purpose}; {elsewhere}")
    return Check(name, "ok", "; ".join(filter(None, (present, elsewhere))))


def _found(extra: str) -> dict[str, list[str]]:
    """The extra's packages, by the SDK's own metadata, and how they are found, one of :data:`_STATES`."""
    from packaging.requirements import Requirement

    found: dict[str, list[str]] = {state: [] for state in _STATES}
    # Each requirement of the extra has a marker that names it; the rest of the marker is about the machine.
    asked = map(Requirement, metadata.requires(DISTRIBUTION) or [])
    for requirement in (one for one in asked if re.search(rf'extra == "{extra}"', str(one.marker))):
        name, marker = requirement.name, requirement.marker
        assert marker is not None  # for the type checker
        if not marker.evaluate({"extra": extra}):
            found["elsewhere"].append(name)
            continue
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            found["absent"].append(name)
            continue
        if requirement.specifier.contains(version, prereleases=True):
            found["present"].append(f"{name} {version}")
        else:
            found["other"].append(f"{name} {version} is installed, {requirement.specifier} is needed")
    return found
