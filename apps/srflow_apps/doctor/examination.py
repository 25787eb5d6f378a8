"""The checks of srflow-doctor: what this machine can run, why the rest does not work, and the commands that fix it."""

from __future__ import annotations

import os
import platform
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal, get_args

from srflow_apps.doctor.probes import ask
from srflow_sdk._version import __version__
from srflow_sdk.errors import SRFlowError
from srflow_sdk.model.manifest import FLOAT32_DB, LEAST_DB
from srflow_sdk.system.device_names import PluginDevice
from srflow_sdk.system.hardware import cuda_of_wheels

if TYPE_CHECKING:
    from srflow_sdk.model.bundle import Bundle

Answer = dict[str, Any]
"""The answer of a probe; {"error": one line} if it failed."""

Fixes = tuple[tuple[str, str], ...]

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

_CPU_RUNTIME, _GPU_RUNTIME = "onnxruntime", "onnxruntime-gpu"
_LIBRARIES = (("TensorRT", "tensorrt", "tensorrt"), ("TensorRT-RTX", "tensorrt_rtx", "rtx"))  # name, module, extra
_NO_RUNTIME = "ONNX Runtime does not work, see above"
_COARSE = "below float32 precision; an environment with NVIDIA_TF32_OVERRIDE=1 is a cause, and =0 restores it"
_NAME_WIDTH, _LEAST_WIDTH = 16, 60


@dataclass(frozen=True)
class Check:
    """One line of the report.

    state: "ok"; "missing" if an optional part is absent; "problem" if a part is broken, or required and absent.
    fixes: purposes and commands, the likeliest first; a purpose may be empty.
    basic: True if upscaling on the CPU depends on it.
    """

    name: str
    state: Literal["ok", "missing", "problem"]
    detail: str
    fixes: Fixes = ()
    basic: bool = False

    def lines(self, *, width: int = 118) -> str:
        """The check as aligned lines for a terminal of this width, at least 60 columns. Commands are never wrapped."""
        head = f"{self.state:<8} {self.name:<{_NAME_WIDTH}} "
        wrapper = textwrap.TextWrapper(
            max(width, _LEAST_WIDTH),
            initial_indent=head,
            subsequent_indent=" " * len(head),
            break_long_words=False,
            break_on_hyphens=False,
        )
        indent = " " * len(head)
        fixes = [f"{indent}fix{f' ({purpose})' if purpose else ''}: {command}" for purpose, command in self.fixes]
        return "\n".join([*wrapper.wrap(self.detail), *fixes])


def basics_work(checks: Iterable[Check]) -> bool:
    """True if upscaling files on the CPU works."""
    return all(check.state == "ok" for check in checks if check.basic)


def as_data(checks: Sequence[Check]) -> dict[str, Any]:
    """The checks as JSON values, for programs."""
    described = [
        {**vars(check), "fixes": [{"purpose": purpose, "command": command} for purpose, command in check.fixes]}
        for check in checks
    ]
    return {"works": basics_work(checks), "checks": described}


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
        answers = [module.result() for module in modules]
    yield judged("upscale on CPU", ask("upscale", "cpu"), basic=True)
    yield _check_image_files(vips.result())
    yield _check_driver(driver)
    yield _check_cuda(runtime, driver)
    for names, answer in zip(_LIBRARIES, answers, strict=True):
        yield _check_tensorrt(*names, answer, driver)
    for device in get_args(PluginDevice):
        yield check_plugin(device, runtime, driver)
    yield check_openvino()
    yield _check_fastest()
    yield _check_library("native library", "native_library", "bundles with plugins run without it")
    yield _check_library("TensorRT plugins", "plugin_library", "engines are built without it", built=True)
    for extra in PURPOSES:
        yield check_extra(extra)


def _fix(command: str) -> Fixes:
    return (("", command),)


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
        return Check(name, "problem", str(error), _fix("pip install --force-reinstall srflow-sdk"), basic=True)
    each = (f"{one.name}, ×{one.scale}, {one.precision}, tau {one.default_tau:g}" for one in manifests)
    return Check(name, "ok", f"{'; '.join(each)}; files verified", basic=True)


def _embedded() -> dict[str, Bundle]:
    """The embedded models by name. Raises: SRFlowError; ImportError if numpy is absent or broken."""
    from srflow_sdk.model.bundle import DEFAULT_MODEL, Bundle

    return {name: Bundle.embedded(name) for name in Bundle.embedded_names() or (DEFAULT_MODEL,)}


def runtimes() -> list[str]:
    """The distributions that own `import onnxruntime`, with versions: of two, each overwrites the other's files."""
    found = {
        f"{one.metadata['Name'].lower().replace('_', '-')} {one.version}"
        for one in metadata.distributions()
        if re.search(r"^onnxruntime/", one.read_text("RECORD") or "", re.MULTILINE)
    }
    return sorted(found)


def only_runtime(keep: str) -> str:
    """The command that leaves only this runtime, complete: pip would otherwise leave files of the others behind."""
    names = sorted({_CPU_RUNTIME, _GPU_RUNTIME, *(one.partition(" ")[0] for one in runtimes())})
    return f"pip uninstall -y {' '.join(names)} && pip install --force-reinstall --no-deps {keep}"


def _check_onnxruntime(runtime: Answer, *, wants_gpu: bool) -> Check:
    found, purposes = runtimes(), [("for the CPU", _CPU_RUNTIME), ("for NVIDIA GPUs", _GPU_RUNTIME)]
    if wants_gpu:
        purposes.reverse()
    active = runtime.get("error") or (
        f"{runtime['package']} {runtime['version']}{', CUDA ' * bool(runtime['cuda'])}{runtime['cuda']} with "
        f"{', '.join(name.removesuffix('ExecutionProvider') for name in runtime['providers'])}"
    )
    if len(found) > 1:
        outcome = "import onnxruntime fails" if "error" in runtime else "active"
        detail = f"{' and '.join(found)} overwrite each other's files; {outcome}: {active}"
    elif "error" not in runtime:
        return Check("ONNX Runtime", "ok", active)
    elif found:
        detail = f"{found[0]} is installed and broken, perhaps because another onnxruntime was uninstalled: {active}"
    else:
        install = tuple((purpose, f"pip install {keep}") for purpose, keep in purposes)
        return Check("ONNX Runtime", "problem", f"not installed: {active}", install)
    return Check("ONNX Runtime", "problem", detail, tuple((why, only_runtime(keep)) for why, keep in purposes))


def _check_image_files(answer: Answer) -> Check:
    if "error" in answer:
        again = _fix("pip install --force-reinstall pyvips pyvips-binary")
        return Check("image files", "problem", answer["error"], again, basic=True)
    formats = answer["formats"]
    detail = f"libvips {answer['version']} reads {', '.join(name for name, reads in formats.items() if reads)}"
    missing = [name for name, reads in formats.items() if not reads]
    if missing:
        # HEIC needs a patented codec, which the wheel leaves out: not a fault of this installation.
        detail += f", not {', '.join(missing)}" + ' (pip install "srflow-sdk[heic]")' * ("HEIC" in missing)
    return Check("image files", "ok" if formats["PNG"] and formats["JPEG"] else "problem", detail, basic=True)


def _check_driver(driver: Answer) -> Check:
    if "error" not in driver:
        major = cuda_of_wheels(driver["cuda"])
        fitting = f"[gpu-cu{major}] and [tensorrt-cu{major}] fit it"
        detail = f"{', '.join(driver['gpus'])}; the driver supports CUDA up to {driver['cuda']}: {fitting}"
        return Check("NVIDIA GPU", "ok", detail)
    if "cannot open shared object" in driver["error"] or "Could not find module" in driver["error"]:
        return Check("NVIDIA GPU", "missing", "no NVIDIA driver")
    return Check("NVIDIA GPU", "problem", driver["error"])


def _check_cuda(runtime: Answer, driver: Answer) -> Check:
    name = "upscale on CUDA"
    if (absent := _without_provider(name, "CUDA", runtime, driver)) is not None:
        return absent
    major = str(runtime["cuda"]).partition(".")[0] or "0"
    if "error" not in driver and int(major) > cuda_of_wheels(driver["cuda"]):
        needs = f"this ONNX Runtime is for CUDA {runtime['cuda']}"
        detail = f"{needs}, which the driver (up to {driver['cuda']}) does not run"
        return Check(name, "problem", detail, _gpu_build(driver))
    libraries = ask("cuda_libraries")
    if "error" in libraries:
        detail = f"CUDA {major} or cuDNN is not installed: {libraries['error']}"
        return Check(name, "missing", detail, _fix('pip install "onnxruntime-gpu[cuda,cudnn]"'))
    if "error" in driver:
        return Check(name, "missing", "CUDA is installed, but there is no GPU to use")
    return judged(name, ask("upscale", "cuda"))


def _without_provider(name: str, provider: str, runtime: Answer, driver: Answer) -> Check | None:
    """The check of a provider that the active ONNX Runtime does not have; None if it has it."""
    if "error" in runtime:
        return Check(name, "missing", _NO_RUNTIME)
    if any(one.lower() == f"{provider.lower()}executionprovider" for one in runtime["providers"]):
        return None
    no_gpu = ", and there is no GPU to use" if "error" in driver else ""
    detail = f"the active ONNX Runtime ({runtime['package']}) is built without {provider}{no_gpu}"
    return Check(name, "missing", detail, _gpu_build(driver))


def _gpu_build(driver: Answer) -> Fixes:
    """How to get ONNX Runtime's build for NVIDIA GPUs, if there is one."""
    if "error" in driver:
        return ()
    # Wheels since 1.27 are for CUDA 13.
    return _fix(only_runtime(_GPU_RUNTIME if cuda_of_wheels(driver["cuda"]) == 13 else f'"{_GPU_RUNTIME}<1.27"'))


def _check_tensorrt(name: str, module: str, extra: str, answer: Answer, driver: Answer) -> Check:
    if "error" in answer:
        absent = f"No module named '{module}'" in answer["error"]
        extra += f"-cu{cuda_of_wheels(driver['cuda'])}" if extra == "tensorrt" and "error" not in driver else ""
        detail = "not installed" if absent else answer["error"]
        return Check(name, "missing" if absent else "problem", detail, _fix(f'pip install "{DISTRIBUTION}[{extra}]"'))
    if "error" in driver:
        return Check(name, "missing", f"{module} {answer['version']}, but no GPU to run engines on")
    return Check(name, "ok", f"{module} {answer['version']} on {driver['gpus'][0]}")


def check_plugin(device: PluginDevice, runtime: Answer, driver: Answer) -> Check:
    """Check a plug-in provider of ONNX Runtime: its package, what it finds here, and the picture that it computes."""
    name = f"{device} EP"
    if "error" in runtime:
        return Check(name, "missing", _NO_RUNTIME)
    plugin = ask("plugin_provider", device)
    if plugin.get("installed") is False:
        return Check(name, "missing", f"not installed; it needs {plugin['needs']}", _fix(plugin["fix"]))
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
    name, again = "OpenVINO", _fix("pip install -U --force-reinstall openvino")
    found = ask("openvino")
    if "is not installed" in found.get("error", ""):
        detail = "not installed; it runs on processors of any maker and on Intel's GPUs"
        return Check(name, "missing", detail, _fix(f'pip install "{DISTRIBUTION}[openvino]"'))
    if "error" in found:
        return Check(name, "problem", found["error"], again)
    on = f"{found['version']} on {found['device']}, which computes in {', '.join(found['arithmetic'])}: "
    return judged(name, ask("upscale", "openvino"), on=on, fixes=again)


def judged(name: str, answer: Answer, *, on: str = "", fixes: Fixes = (), basic: bool = False) -> Check:
    """Judge a device by the answer of the probe `upscale`: "ok" only if its picture agrees with the CPU's.

    The probe upscales with an embedded model, so the network is not to blame. on: begins the detail. fixes: for a
    problem.
    """
    if "error" in answer:
        return Check(name, "problem", f"{on}{answer['error']}", fixes, basic)
    width, height = answer["size"]
    detail = f"{on}works: 32×32 to {width}×{height} in {answer['seconds']:.2f} s"
    decibels = answer.get("decibels")
    if "decibels" in answer:
        detail += ", equal to the CPU" if decibels is None else f", {decibels:.0f} dB against the CPU"
    if decibels is None or decibels >= FLOAT32_DB:
        return Check(name, "ok", detail, basic=basic)
    if decibels < LEAST_DB:
        return Check(name, "problem", f"{detail}: a wrong picture; its driver or package is broken", fixes)
    return Check(name, "ok", f"{detail}: {_COARSE}")


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


def _check_library(name: str, probe: str, without: str, *, built: bool = False) -> Check:
    """Look for a library of ours where the runtime does. without: what that means. built: say how to build it."""
    answer = ask(probe)
    build = (("in a clone", "pip install '.[native]' && python -m srflow_export.native tensorrt"),) if built else ()
    if "error" in answer:
        return Check(name, "problem", answer["error"], build)
    if answer["path"] is None:
        return Check(name, "missing", f"none; {without} (docs/native.md)", build)
    return Check(name, "ok", f"{answer['path']}, {answer['what']}")


def check_extra(extra: str) -> Check:
    """Check an extra of :data:`PURPOSES`, by the SDK's own metadata, against the distributions that are installed."""
    name, purpose = PURPOSES[extra]
    present, absent, other, elsewhere = list[str](), list[str](), list[str](), list[str]()
    try:
        from packaging.requirements import Requirement

        # Each requirement of the extra has a marker that names it; the rest of the marker is about the machine.
        for one in map(Requirement, metadata.requires(DISTRIBUTION) or []):
            if not re.search(rf'extra == "{extra}"', str(one.marker)):
                continue
            version = next((dist.version for dist in metadata.distributions(name=one.name)), None)
            if one.marker is not None and not one.marker.evaluate({"extra": extra}):
                elsewhere.append(one.name)
            elif version is None:
                absent.append(one.name)
            elif one.specifier.contains(version, prereleases=True):
                present.append(f"{one.name} {version}")
            else:
                other.append(f"{one.name} {version} is installed, {one.specifier} is needed")
    except metadata.PackageNotFoundError:  # the SDK itself, started from its files
        return Check(name, "missing", f"{purpose}: unknown, because {DISTRIBUTION} is not installed")
    except ImportError as error:  # packaging, absent or broken
        return Check(name, "problem", f"{purpose}: unknown: {error}", _fix("pip install --force-reinstall packaging"))
    install = _fix(f'pip install "{DISTRIBUTION}[{extra}]"')
    if other:
        return Check(name, "problem", f"{purpose}: {', '.join(other)}", install)
    if absent:
        return Check(name, "missing", f"{purpose}; not installed: {', '.join(absent)}", install)
    not_here = f"not made for this Python or machine: {', '.join(elsewhere)}" if elsewhere else ""
    if not present:
        return Check(name, "missing", f"{purpose}; {not_here}")
    return Check(name, "ok", "; ".join(filter(None, (", ".join(present), not_here))))
