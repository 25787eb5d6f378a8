"""Which of a bundle's engines this machine can run, and why not the others, with the command that fixes it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

from srflow_sdk.backends._native_library import load_plugins
from srflow_sdk.errors import DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import EngineRecord, EngineRuntime, first_command, rebuild_command
from srflow_sdk.system.hardware import Gpu, find_gpu
from srflow_sdk.system.raising import is_installed

_LIBRARIES = {"tensorrt": ("TensorRT", "tensorrt"), "tensorrt_rtx": ("TensorRT-RTX", "tensorrt-rtx-cu13")}
"""By module: the library's name for people, and pip's name for it."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Engines that fit: their record, the library that built them, and the GPU that they will run on.

    rebuild: the command that builds such engines again; resize: the same, to which other `--shapes` can be added.
    """

    record: EngineRecord
    library: ModuleType
    gpu: Gpu
    rebuild: str
    resize: str


def tensorrt_offered(bundle: Bundle, *, gpu: int = 0) -> bool:
    """True if it is worth trying: some of the bundle's engines are for this GPU, and a library for them is installed.

    Nothing large is loaded. Only :func:`select_engines` tells whether versions and graphs fit too.
    """
    records = [record for record in bundle.manifest.engines if is_installed(record.runtime)]
    found = find_gpu(gpu) if records else None
    return found is not None and any(found.compute_capability in record.compute_capabilities for record in records)


def select_engines(bundle: Bundle, *, runtime: EngineRuntime | None = None, gpu: int = 0) -> Selection:
    """The first engines of the manifest that this machine can run.

    runtime: take only this library's; None takes any. gpu: the GPU's number among those that CUDA shows this process.
    Raises: DeviceError, which says for each pair of engines why it cannot run, with the fix.
    """
    found = find_gpu(gpu)
    records = [record for record in bundle.manifest.engines if runtime in (None, record.runtime)]
    if not records:
        wanted: EngineRuntime = runtime or "tensorrt"
        build = first_command(
            bundle.path,
            runtime=wanted,
            precision=bundle.manifest.precision,
            compute_capability=found.compute_capability if found else None,
        )
        raise DeviceError(
            f'{bundle.path} has no {_LIBRARIES[wanted][0]} engines; use device="cuda" or device="cpu", which run '
            f"its ONNX graphs, or build engines: {build}"
        )
    if found is None:
        raise DeviceError(
            f"engines need an NVIDIA GPU, but the driver shows no GPU {gpu} or is not installed; check it with "
            'nvidia-smi, or use device="cpu"; run srflow-doctor for details'
        )
    reasons = []
    for record in records:
        try:
            return _selected(bundle, record, found)
        except DeviceError as error:
            reasons.append(f"{record.encoder}: {error}")
    raise DeviceError(f"{bundle.path} has no engines that can run here; {'; '.join(reasons)}")


def _selected(bundle: Bundle, record: EngineRecord, gpu: Gpu) -> Selection:
    profile = None if record.profile == bundle.manifest.default_profile else record.profile
    rebuild, resize = (
        rebuild_command(bundle.path, record, compute_capability=gpu.compute_capability, profile=sizes)
        for sizes in (profile, None)
    )
    library = _fitting_library(bundle, record, gpu, rebuild)
    return Selection(record=record, library=library, gpu=gpu, rebuild=rebuild, resize=resize)


def _fitting_library(bundle: Bundle, record: EngineRecord, gpu: Gpu, rebuild: str) -> ModuleType:
    """The library that runs a pair of engines. Raises: DeviceError if they do not fit this machine or bundle."""
    title, distribution = _LIBRARIES[record.runtime]
    for name, digest in record.graphs.items():
        if bundle.manifest.files.get(name, {}).get("sha256") != digest:
            raise DeviceError(f"built from a different {name} than the bundle's; build them again: {rebuild}")
    exactly = f'pip install "{distribution}=={record.version}"'
    try:
        library = importlib.import_module(record.runtime)
    except ModuleNotFoundError as error:
        if error.name == record.runtime:
            raise DeviceError(f"they need {title} {record.version}, which is not installed: {exactly}") from error
        raise DeviceError(f"{title} is broken here ({error}); install it again: {exactly}") from error
    except (ImportError, OSError) as error:  # its module exists, its libraries do not
        raise DeviceError(f"{title} cannot be imported ({error}); install it again: {exactly}") from error
    installed = getattr(library, "__version__", "a build without a version")
    if installed != record.version:
        raise DeviceError(
            f"built by {title} {record.version}, but {installed} is installed, and no other version runs them: "
            f"{exactly}, or build them for this one: {rebuild}"
        )
    if gpu.compute_capability not in record.compute_capabilities:
        wanted = " or ".join(record.compute_capabilities)
        model = f" ({record.gpu})" if record.gpu else ""
        raise DeviceError(
            f"built for compute capability {wanted}{model}, but this GPU, {gpu.name}, has {gpu.compute_capability}; "
            f"build them for it, on this machine: {rebuild}"
        )
    if record.plugins is not None:
        load_plugins(library, record.plugins, rebuild=rebuild)
    return library
