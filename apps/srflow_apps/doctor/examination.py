"""The checks of srflow-doctor: what this machine can run, why the rest does not work, and the commands that fix it."""

from __future__ import annotations

import os
import platform
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from srflow_apps.doctor import onnxruntime_installs as installs
from srflow_apps.doctor.checks import Check, upscaled
from srflow_apps.doctor.extras import DISTRIBUTION, PURPOSES, check_extra
from srflow_apps.doctor.probes import ask
from srflow_apps.doctor.provider_checks import (
    check_openvino,
    check_plugin,
    check_tensorrt_provider,
    judged,
    plugin_devices,
)
from srflow_sdk._version import __version__
from srflow_sdk.errors import SRFlowError

if TYPE_CHECKING:
    from srflow_sdk.model.bundle import Bundle

REINSTALL = "pip install --force-reinstall srflow-sdk"

_NAME_WIDTH, _LEAST_WIDTH = 16, 60
_LIBRARIES = (("TensorRT", "tensorrt", "tensorrt"), ("TensorRT-RTX", "tensorrt_rtx", "rtx"))  # name, module, extra


def examine() -> Iterator[Check]:
    """Run the checks and yield each as soon as it is known. Never raises for what it finds; takes a few seconds."""
    # Probes that only load libraries run two at a time; upscaling, which is timed, runs alone after them.
    with ThreadPoolExecutor(2) as pool:
        driver, runtime = pool.map(ask, ("nvidia_driver", "onnxruntime"))
        vips = pool.submit(ask, "libvips")
        modules = [pool.submit(ask, "module", module) for _, module, _ in _LIBRARIES]
        yield _check_sdk()
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
    yield check_tensorrt_provider(runtime, driver, ask)
    for device in plugin_devices():
        yield check_plugin(device, runtime, driver, ask)
    yield check_openvino(ask)
    yield _check_fastest()
    yield _check_native_library()
    for extra in PURPOSES:
        yield check_extra(extra)


def basics_work(checks: Iterable[Check]) -> bool:
    """Whether upscaling files on the CPU works."""
    return all(check.state == "ok" for check in checks if check.basic)


def as_data(checks: Sequence[Check]) -> dict[str, Any]:
    """The checks as JSON values, for programs."""
    return {
        "works": basics_work(checks),
        "checks": [
            {
                "name": check.name,
                "state": check.state,
                "detail": check.detail,
                "basic": check.basic,
                "fixes": [{"purpose": purpose, "command": command} for purpose, command in check.fixes],
            }
            for check in checks
        ],
    }


def report(check: Check, *, width: int = 118) -> str:
    """The check as aligned lines for a terminal of this width, at least 60 columns."""
    head = f"{check.state:<8} {check.name:<{_NAME_WIDTH}} "
    indent = " " * len(head)
    lines = textwrap.wrap(
        check.detail,
        max(width, _LEAST_WIDTH),
        initial_indent=head,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    # Commands are never wrapped, so that they can be copied.
    lines += [f"{indent}fix{f' ({purpose})' if purpose else ''}: {command}" for purpose, command in check.fixes]
    return "\n".join(lines)


def _check_sdk() -> Check:
    machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return Check(name="SDK", state="ok", detail=f"{DISTRIBUTION} {__version__}, {machine}")


def _check_machine() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Check(name="machine", state="ok", detail=f"{cores} processor cores, {_memory()}")


def _memory() -> str:
    from srflow_sdk.system.memory import available_memory

    try:
        return f"{available_memory() / 2**30:.1f} GiB of free memory"
    except ImportError as error:  # psutil, absent or broken
        return f"amount of free memory unknown: {error}"


def _check_models() -> Check:
    name = "embedded models"
    try:
        manifests = [bundle.manifest for bundle in _embedded().values()]
    except SRFlowError as error:
        return Check(name=name, state="problem", detail=str(error), basic=True)
    except ImportError as error:  # numpy, absent or broken
        return Check(name=name, state="problem", detail=str(error), basic=True, fixes=(("", REINSTALL),))
    each = (f"{one.name}, ×{one.scale}, {one.precision}, tau {one.default_tau:g}" for one in manifests)
    return Check(name=name, state="ok", detail=f"{'; '.join(each)}; files verified", basic=True)


def _embedded() -> dict[str, Bundle]:
    """The embedded models by name. Raises: SRFlowError; ImportError if numpy is absent or broken."""
    from srflow_sdk.model.bundle import DEFAULT_MODEL, Bundle

    return {name: Bundle.embedded(name) for name in Bundle.embedded_names() or (DEFAULT_MODEL,)}


def _check_onnxruntime(runtime: dict[str, Any], *, wants_gpu: bool) -> Check:
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
        return Check(name="ONNX Runtime", state="ok", detail=active)
    return Check(name="ONNX Runtime", state="problem", detail=detail, fixes=fixes)


def _active(runtime: dict[str, Any]) -> str:
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in runtime["providers"])
    cuda = f", CUDA {runtime['cuda']}" if runtime["cuda"] else ""
    return f"{runtime['package']} {runtime['version']}{cuda} with {providers}"


def _check_cpu() -> Check:
    answer = ask("upscale", "cpu")
    if "error" in answer:
        return Check(name="upscale on CPU", state="problem", detail=answer["error"], basic=True)
    return Check(name="upscale on CPU", state="ok", detail=upscaled(answer), basic=True)


def _check_image_files(answer: dict[str, Any]) -> Check:
    if "error" in answer:
        fix = "pip install --force-reinstall pyvips pyvips-binary"
        return Check(name="image files", state="problem", detail=answer["error"], basic=True, fixes=(("", fix),))
    formats = answer["formats"]
    readable = ", ".join(name for name, reads in formats.items() if reads)
    missing = [name for name, reads in formats.items() if not reads]
    detail = f"libvips {answer['version']} reads {readable}"
    if not missing:
        return Check(name="image files", state="ok", detail=detail, basic=True)
    # HEIC needs a patented codec, which the wheel leaves out: not a fault of this installation.
    detail += f", not {', '.join(missing)} (needs the system's libvips: pip uninstall pyvips-binary)"
    works = formats["PNG"] and formats["JPEG"]
    return Check(name="image files", state="ok" if works else "problem", detail=detail, basic=True)


def _check_driver(driver: dict[str, Any]) -> Check:
    if "error" in driver:
        absent = "cannot open shared object" in driver["error"] or "Could not find module" in driver["error"]
        detail = "no NVIDIA driver" if absent else driver["error"]
        return Check(name="NVIDIA GPU", state="missing" if absent else "problem", detail=detail)
    detail = f"{', '.join(driver['gpus'])}; the driver supports CUDA up to {driver['cuda']}"
    return Check(name="NVIDIA GPU", state="ok", detail=detail)


def _check_cuda(runtime: dict[str, Any], driver: dict[str, Any]) -> Check:
    name = "upscale on CUDA"
    if "error" in runtime:
        return Check(name=name, state="missing", detail="ONNX Runtime does not work, see above")
    if "CUDAExecutionProvider" not in runtime["providers"]:
        detail = f"the active ONNX Runtime ({runtime['package']}) is built without CUDA"
        if "error" in driver:
            return Check(name=name, state="missing", detail=f"{detail}, and there is no GPU to use")
        fix = installs.fix_command(installs.find_claims(), keep=installs.GPU)
        return Check(name=name, state="missing", detail=detail, fixes=(("", fix),))
    libraries = ask("cuda_libraries")
    if "error" in libraries:
        major = str(runtime["cuda"]).partition(".")[0] or "?"
        detail = f"CUDA {major} or cuDNN is not installed: {libraries['error']}"
        fix = 'pip install "onnxruntime-gpu[cuda,cudnn]"'
        return Check(name=name, state="missing", detail=detail, fixes=(("", fix),))
    if "error" in driver:
        return Check(name=name, state="missing", detail="CUDA is installed, but there is no GPU to use")
    return judged(name, ask("upscale", "cuda"))


def _check_tensorrt(name: str, module: str, extra: str, answer: dict[str, Any], driver: dict[str, Any]) -> Check:
    if "error" in answer:
        absent = f"No module named '{module}'" in answer["error"]
        detail = "not installed" if absent else answer["error"]
        fixes = (("", f'pip install "{DISTRIBUTION}[{extra}]"'),)
        return Check(name=name, state="missing" if absent else "problem", detail=detail, fixes=fixes)
    if "error" in driver:
        return Check(name=name, state="missing", detail=f"{module} {answer['version']}, but no GPU to run engines on")
    return Check(name=name, state="ok", detail=f"{module} {answer['version']} on {driver['gpus'][0]}")


def _check_fastest() -> Check:
    """What `--precision fastest` chose for each embedded model that it was asked for before; nothing is measured."""
    name = "precision"
    try:
        from srflow_sdk.backends._precision import cached_choice

        chosen = {embedded: cached_choice(bundle) for embedded, bundle in _embedded().items()}
    except (ImportError, SRFlowError) as error:  # another line says so
        return Check(name=name, state="missing", detail=f"unknown: {error}")
    each = "; ".join(f"{embedded}: {choice or 'not measured yet'}" for embedded, choice in chosen.items())
    measures = "; --precision fastest measures it, once" if None in chosen.values() else ""
    return Check(name=name, state="ok", detail=f"fastest for {each}{measures}")


def _check_native_library() -> Check:
    name = "native library"
    answer = ask("native_library")
    if "error" in answer:
        return Check(name=name, state="problem", detail=answer["error"])
    if answer["path"] is None:
        return Check(name=name, state="missing", detail="none; bundles with plugins run without it (docs/native.md)")
    kernels = "CPU and CUDA" if answer["cuda"] else "CPU"
    return Check(name=name, state="ok", detail=f"{answer['path']}, kernels for {kernels}")
