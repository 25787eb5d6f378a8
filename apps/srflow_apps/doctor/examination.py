"""The checks of srflow-doctor: what this machine can run, why the rest does not work, and the
commands that fix it.

A broken or mixed native library can end Python without an exception. So what loads one is asked
`apart`, in a process of its own: `python -m srflow_apps.doctor.examination QUESTION`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import itertools
import json
import os
import platform
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

from srflow_sdk import __version__
from srflow_sdk.system.hardware import (
    PluginDevice,
    available_memory,
    cuda_driver,
    cuda_of_wheels,
    find_gpu,
)

DISTRIBUTION = "srflow-sdk"
EXTRAS = {
    "export": ("srflow-export", "checkpoints become bundles"),
    "train": ("srflow-train", "training and srflow-eval"),
    "demo": ("srflow-demo", "a local page"),
    "cloud": ("URLs", "s3:// in the place of paths"),
    "ray": ("Ray", "--ray"),
    "video": ("clips", "srflow-upscale clip.mp4"),
}
"""Name of the line and what it is for, by the extra."""

DEADLINE_S = 120
OK = "ok"
MISSING = "missing"
PROBLEM = "problem"
_CPU_RUNTIME = "onnxruntime"
_GPU_RUNTIME = "onnxruntime-gpu"
_NO_RUNTIME = "ONNX Runtime does not work, see above"
_NO_GPU = "there is no NVIDIA GPU to use"

Found = Sequence[Any]
"""A state, a detail, and fixes, as of :class:`Check`; a fix may be its command alone."""


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        state: "ok"; "missing" if an optional part is absent; "problem" if a part is broken, or
            required and absent.
        fixes: Purposes and commands, the likeliest first; a purpose may be empty.
        basic: True if upscaling on the CPU depends on it.
    """

    name: str
    state: str
    detail: str
    fixes: tuple[tuple[str, str], ...] = ()
    basic: bool = False

    def lines(self, *, width: int = 118) -> str:
        """The check as aligned lines for a terminal of this width, at least 60 columns. Commands
        are never wrapped.
        """
        head = f"{self.state:<8} {self.name:<16} "
        indent = " " * len(head)
        detail = textwrap.wrap(
            self.detail,
            max(width, 60),
            initial_indent=head,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        fixes = [
            f"{indent}fix{f' ({purpose})' if purpose else ''}: {command}"
            for purpose, command in self.fixes
        ]
        return "\n".join([*detail, *fixes])

    def to_data(self) -> dict[str, Any]:
        """The check as JSON values, for programs."""
        return {
            **vars(self),
            "fixes": [{"purpose": purpose, "command": command} for purpose, command in self.fixes],
        }


def basics_work(checks: Iterable[Check]) -> bool:
    """True if upscaling files on the CPU works."""
    return all(check.state == OK for check in checks if check.basic)


def examine() -> Iterator[Check]:
    """Run the checks, two at a time, and yield each in its order. Never raises for what it finds;
    takes seconds.
    """
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(_check_part, PARTS, PARTS.values())


def _check_part(name: str, look: Callable[[], Found]) -> Check:
    try:
        state, detail, *fixes = look()
    except Exception as error:  # whatever is broken: that is what a user wants to know
        state = PROBLEM
        detail = _one_line(error)
        fixes = [_AGAIN.get(name, "")]
    commands = tuple(("", one) if isinstance(one, str) else tuple(one) for one in fixes if one)
    return Check(name, state, detail, commands, basic=name in _BASIC)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__


def run_apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of this module run in a process of its own. Raises: RuntimeError, one line,
    for what it raised.
    """
    if __name__ == "__main__":  # this is that process
        return function

    @functools.wraps(function)
    def ask(*arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "srflow_apps.doctor.examination", function.__name__, *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=DEADLINE_S,
            stdin=subprocess.DEVNULL,
            env={
                **os.environ,
                "PYTHONSAFEPATH": "1",
                "PYTHONWARNINGS": "ignore",
                "PYTHONIOENCODING": "utf-8",
            },
        )
        if done.returncode == 1 and (said := done.stderr.strip().rpartition("\n")[2]):
            raise RuntimeError(said)
        if done.returncode:
            raise RuntimeError(f"Python crashed (exit status {done.returncode})")
        return json.loads(done.stdout.splitlines()[-1])

    return ask


@run_apart
def describe_runtime() -> dict[str, Any]:
    """Describe the package that `import onnxruntime` really imports."""
    ort = importlib.import_module("onnxruntime")
    if not hasattr(ort, "InferenceSession"):
        raise ImportError("the folder onnxruntime/ exists, but the package in it does not")
    package = getattr(ort, "package_name", "") or "onnxruntime"
    cuda = getattr(ort, "cuda_version", "")
    return {
        "version": ort.__version__,
        "package": package,
        "cuda": cuda,
        "providers": ort.get_available_providers(),
    }


@run_apart
def find_gpus() -> dict[str, Any]:
    """The GPUs that the NVIDIA driver sees, and the CUDA version that it supports."""
    cuda_driver()  # which says what is missing
    gpus = list(itertools.takewhile(bool, map(find_gpu, itertools.count())))
    if not gpus:
        raise RuntimeError("the driver is installed, but it does not start or sees no GPU")
    return {"gpus": [one.name for one in gpus if one], "cuda": gpus[0] and gpus[0].cuda}


@run_apart
def upscale(device: str) -> str:
    """Upscale a small image with the embedded model: what was done, in words.

    A device that may err is compared with the CPU as it opens, and raises what is wrong.
    """
    import numpy as np

    from srflow_sdk.upscaler import Upscaler

    with Upscaler(device=device) as upscaler:
        start = time.perf_counter()
        height, width = upscaler.upscale(np.full((32, 32, 3), 0.5, np.float32)).shape[:2]
        return f"works: 32×32 to {width}×{height} in {time.perf_counter() - start:.2f} s"


@run_apart
def check_plugin(device: str) -> Found:
    """A plug-in provider of ONNX Runtime, upscaling on the first device that it finds."""
    from srflow_sdk.backends.providers import PROVIDERS, find_devices

    row = PROVIDERS[device]
    if not row.offered():
        return MISSING, f"not installed; it needs {row.needs}", f"pip install {row.package}"
    if not (devices := find_devices(row)):
        return (
            MISSING,
            f"{row.version()} is installed but offers no device here; it needs {row.needs}",
        )
    one = devices[0].device
    name = devices[0].ep_metadata.get("FULL_DEVICE_NAME")
    kind = f"{one.type.name}, {name or one.vendor}".rstrip(", ")
    return OK, f"{row.version()} on {kind}: {upscale(device)}"


@run_apart
def check_openvino() -> Found:
    """OpenVINO, upscaling on the device that it would take."""
    if importlib.util.find_spec("openvino") is None:
        detail = "not installed; it runs on processors of any maker and on Intel's GPUs"
        return MISSING, detail, f'pip install "{DISTRIBUTION}[openvino]"'
    from srflow_sdk.backends.openvino import best_device, import_openvino, openvino_core

    device = best_device()
    version = str(import_openvino().__version__).partition("-")[0]
    name = openvino_core().get_property(device, "FULL_DEVICE_NAME")
    return OK, f"{version} on {device}, {name}: {upscale('openvino')}"


@run_apart
def load_cuda_libraries() -> None:
    """Load what ONNX Runtime's CUDA provider needs; the error names the first library that is
    missing.
    """
    ort = importlib.import_module("onnxruntime")
    getattr(ort, "preload_dlls", lambda: None)()
    for provider in ("shared", "cuda"):  # the second uses symbols of the first
        library = next(
            Path(str(ort.__file__)).parent.glob(f"capi/*onnxruntime_providers_{provider}.*")
        )
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


@run_apart
def start_cuda() -> None:
    """Start CUDA by cuda-bindings, with which the SDK's own kernels run."""
    from srflow_sdk.backends.tensorrt_engines.cuda import CudaGpu

    CudaGpu.open()


@run_apart
def import_version(name: str) -> str:
    """Import a module."""
    return str(getattr(importlib.import_module(name), "__version__", ""))


@run_apart
def check_image_files() -> Found:
    """libvips' version and which image formats it reads."""
    vips = importlib.import_module("pyvips")
    loaders = {
        "PNG": "png",
        "JPEG": "jpeg",
        "WebP": "webp",
        "TIFF": "tiff",
        "GIF": "gif",
        "AVIF": "heif",
    }
    formats = {
        name: bool(vips.type_find("VipsForeignLoad", f"{kind}load"))
        for name, kind in loaders.items()
    }
    formats["HEIC"] = importlib.util.find_spec("pi_heif") is not None
    version = ".".join(str(vips.version(part)) for part in range(3))
    detail = (
        f"libvips {version} reads {', '.join(name for name, reads in formats.items() if reads)}"
    )
    if missing := [name for name, reads in formats.items() if not reads]:
        # HEIC needs a patented codec, which the wheel leaves out: not a fault of this installation.
        detail += f", not {', '.join(missing)}" + ' (pip install "srflow-sdk[heic]")' * (
            "HEIC" in missing
        )
    return OK if formats["PNG"] and formats["JPEG"] else PROBLEM, detail


@run_apart
def check_native_library() -> Found:
    """A library of ours, where the runtime looks for it: the kernels of exported plugins."""
    from srflow_sdk.backends import native_library as native

    if (path := native.find_native_library(native.VARIABLE)) is None:
        return MISSING, "none; bundles with plugins run without it (docs/native.md)"
    # which really loads it
    native.register(importlib.import_module("onnxruntime").SessionOptions(), path)
    return OK, f"{path}, kernels for {'CPU and CUDA' if native.has_cuda_kernels(path) else 'CPU'}"


@functools.cache
def _ask_or_none(fact: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    with contextlib.suppress(Exception):
        return fact()
    return None


def list_runtimes() -> list[str]:
    """The distributions that own `import onnxruntime`, with versions: of two, each overwrites the
    other's files.
    """
    owners = {
        f"{one.metadata['Name'].lower().replace('_', '-')} {one.version}"
        for one in metadata.distributions()
        if re.search(r"^onnxruntime/", one.read_text("RECORD") or "", re.MULTILINE)
    }
    return sorted(owners)


def keep_only(keep: str) -> str:
    """The command that leaves only this runtime, complete: pip would otherwise leave files of the
    others behind.
    """
    names = sorted(
        {_CPU_RUNTIME, _GPU_RUNTIME, *(one.partition(" ")[0] for one in list_runtimes())}
    )
    return f"pip uninstall -y {' '.join(names)} && pip install --force-reinstall --no-deps {keep}"


def _check_sdk() -> Found:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = (
        f"{platform.system()} {platform.machine()}, {cores} cores, "
        f"{available_memory() / 2**30:.1f} GiB free"
    )
    return OK, f"{DISTRIBUTION} {__version__}, Python {platform.python_version()}, {machine}"


def _check_models() -> Found:
    from srflow_sdk.model.bundle import DEFAULT_MODEL, Bundle

    each = []
    for bundle in map(Bundle.embedded, Bundle.embedded_names() or (DEFAULT_MODEL,)):
        one = bundle.manifest
        each.append(
            f"{one.name}, ×{one.scale}, {one.precision}, tau "
            f"{'auto ' * one.auto_tau}{one.default_tau:g}"
        )
    return OK, f"{'; '.join(each)}; files verified"


def _check_onnxruntime() -> Found:
    owners = list_runtimes()
    purposes = [("for the CPU", _CPU_RUNTIME), ("for NVIDIA GPUs", _choose_gpu_runtime())]
    if _ask_or_none(find_gpus):
        purposes.reverse()
    try:
        one = describe_runtime()
        active = (
            f"{one['package']} {one['version']}{', CUDA ' * bool(one['cuda'])}{one['cuda']} with "
        )
        active += ", ".join(name.removesuffix("ExecutionProvider") for name in one["providers"])
        if len(owners) < 2:
            return OK, active
        says = f"active: {active}"
    except Exception as error:
        says = f"import onnxruntime fails: {_one_line(error)}"
    if not owners:
        return (
            PROBLEM,
            f"not installed; {says}",
            *((purpose, f"pip install {keep}") for purpose, keep in purposes),
        )
    detail = (
        f"{owners[0]} is installed and broken, perhaps because another onnxruntime was "
        f"uninstalled; {says}"
    )
    if len(owners) > 1:
        detail = f"{' and '.join(owners)} overwrite each other's files; {says}"
    return PROBLEM, detail, *((purpose, keep_only(keep)) for purpose, keep in purposes)


def _choose_gpu_runtime() -> str:
    """What pip installs for the driver; wheels since 1.27 are for CUDA 13."""
    gpus = _ask_or_none(find_gpus)
    older = gpus is not None and cuda_of_wheels(gpus["cuda"]) == 12
    return f'"{_GPU_RUNTIME}<1.27"' if older else _GPU_RUNTIME


def _check_nvidia_gpu() -> Found:
    try:
        one = find_gpus()
    except Exception as error:
        if re.search("cannot open shared object|Could not find module", str(error)):
            return MISSING, "no NVIDIA driver"
        raise
    wheels = cuda_of_wheels(one["cuda"])
    fitting = f"[gpu-cu{wheels}] and [tensorrt-cu{wheels}] fit it"
    return OK, f"{', '.join(one['gpus'])}; the driver supports CUDA up to {one['cuda']}: {fitting}"


def _check_cuda() -> Found:
    runtime = _ask_or_none(describe_runtime)
    gpus = _ask_or_none(find_gpus)
    if runtime is None or gpus is None:
        return MISSING, _NO_GPU if runtime else _NO_RUNTIME
    build = keep_only(_choose_gpu_runtime())
    if "CUDAExecutionProvider" not in runtime["providers"]:
        return (
            MISSING,
            f"the active ONNX Runtime ({runtime['package']}) is built without CUDA",
            build,
        )
    major = int(str(runtime["cuda"]).partition(".")[0] or 0)
    if major > cuda_of_wheels(gpus["cuda"]):
        why = (
            f"this ONNX Runtime is for CUDA {runtime['cuda']}, which the driver (up to "
            f"{gpus['cuda']}) does not run"
        )
        return PROBLEM, why, build
    try:
        load_cuda_libraries()
    except Exception as error:
        install = f'pip install "{_GPU_RUNTIME}[cuda,cudnn]"'
        return MISSING, f"CUDA {major} or cuDNN is not installed: {_one_line(error)}", install
    try:
        start_cuda()
    except Exception as error:  # which says what to install
        return (
            PROBLEM,
            f"{upscale('cuda')}, but latents are drawn by the processor: {_one_line(error)}",
        )
    return OK, upscale("cuda")


def _check_tensorrt(module: str, extra: str) -> Found:
    if (gpus := _ask_or_none(find_gpus)) is None:
        return MISSING, _NO_GPU  # so nobody downloads gigabytes for nothing
    of_driver = f"-cu{cuda_of_wheels(gpus['cuda'])}" if extra == "tensorrt" else ""
    fix = f'pip install "{DISTRIBUTION}[{extra}{of_driver}]"'
    try:
        version = import_version(module)
    except Exception as error:
        absent = f"No module named '{module}'" in str(error)
        return (MISSING, "not installed", fix) if absent else (PROBLEM, _one_line(error), fix)
    return OK, f"{module} {version} on {gpus['gpus'][0]}"


def _check_plugin(device: str) -> Found:
    if _ask_or_none(describe_runtime) is None:
        return MISSING, _NO_RUNTIME
    if device == "rtx" and _ask_or_none(find_gpus) is None:
        return MISSING, _NO_GPU
    answer: Found = check_plugin(device)
    return answer


def check_extra(extra: str) -> Found:
    """Check an extra of :data:`EXTRAS`, by the SDK's own metadata, against the distributions that
    are installed.
    """
    from packaging.requirements import Requirement

    purpose = EXTRAS[extra][1]
    install = f'pip install "{DISTRIBUTION}[{extra}]"'
    # Each requirement of the extra has a marker that names it; the rest of the marker is about the
    # machine.
    every = [
        one
        for one in map(Requirement, metadata.requires(DISTRIBUTION) or [])
        if f'"{extra}"' in str(one.marker)
    ]
    here = [one for one in every if one.marker is None or one.marker.evaluate({"extra": extra})]
    has = {
        one: next((dist.version for dist in metadata.distributions(name=one.name)), "")
        for one in here
    }
    if wrong := [
        one for one, version in has.items() if version and not one.specifier.contains(version, True)
    ]:
        each = (f"{one.name} {has[one]} is installed, {one.specifier} is needed" for one in wrong)
        return PROBLEM, f"{purpose}: {', '.join(each)}", install
    if absent := [one.name for one, version in has.items() if not version]:
        return MISSING, f"{purpose}; not installed: {', '.join(absent)}", install
    if not has:
        return MISSING, f"{purpose}; not made for this Python or machine"
    return OK, ", ".join(f"{one.name} {version}" for one, version in has.items())


PARTS: dict[str, Callable[[], Found]] = {
    "SDK": _check_sdk,
    "embedded models": _check_models,
    "ONNX Runtime": _check_onnxruntime,
    "upscale on CPU": lambda: (OK, upscale("cpu")),
    "image files": check_image_files,
    "NVIDIA GPU": _check_nvidia_gpu,
    "upscale on CUDA": _check_cuda,
    "TensorRT": partial(_check_tensorrt, "tensorrt", "tensorrt"),
    "TensorRT-RTX": partial(_check_tensorrt, "tensorrt_rtx", "rtx"),
    **{f"{device} EP": partial(_check_plugin, device) for device in get_args(PluginDevice)},
    "OpenVINO": check_openvino,
    "native library": check_native_library,
    **{name: partial(check_extra, extra) for extra, (name, _) in EXTRAS.items()},
}
"""The parts that are looked at, by the names of their lines. An error of one is a problem."""

_BASIC = ("embedded models", "upscale on CPU", "image files")
_AGAIN = {  # the command for a part that is broken
    "embedded models": f"pip install --force-reinstall {DISTRIBUTION}",
    "image files": "pip install --force-reinstall pyvips pyvips-binary",
    "OpenVINO": "pip install -U --force-reinstall openvino",
}

if __name__ == "__main__":
    try:
        sys.stdout.write("\n" + json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
    except Exception as error:
        sys.exit(_one_line(error))
