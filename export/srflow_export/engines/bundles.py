"""Add engines to an existing bundle, on the machine that will run it, without torch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from srflow_export.bundle_writer import staged_bundle
from srflow_export.engines.building import build_engine
from srflow_export.engines.graphs import PLUGINS_ABI, read_graph
from srflow_export.engines.requests import (
    EngineRequest,
    Library,
    check_profile,
    check_request,
    format_command,
    load_library,
)
from srflow_export.progress import Say
from srflow_sdk.backends.native_library import (
    PLUGINS,
    find_native_library,
    load_plugins,
    plugins_of,
)
from srflow_sdk.errors import ArgumentError, ExportError
from srflow_sdk.geometry.tiles import MIN_TILE, core_size, padded_size
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import (
    EnginePrecision,
    EngineRecord,
    EngineRuntime,
    LrProfile,
    PluginLibrary,
)
from srflow_sdk.model.manifest import INVERTER, REQUIRED_FILES, Manifest
from srflow_sdk.system.hardware import gpu_free_memory

# half of what is free on a GPU with 8 GB, and more than on any
_COMMON_GPU_BUDGET = 4 << 30
_ANY_GPU_BUDGET = 1 << 40
_ENDLESS = 1 << 14  # LR pixels a side: an image too large for one tile
_SHORT = {"tensorrt": "trt", "tensorrt_rtx": "rtx"}


def add_engines(
    target: str | os.PathLike[str],
    request: EngineRequest,
    *,
    say: Say = lambda _: None,
) -> Manifest:
    """Build engines from a bundle's graphs, and add them in place of older ones for these GPUs.

    The bundle changes once everything is built, and stays as it was on any error. If several
    processes do this to one bundle at once, one builds and the others wait, and then build for what
    it wrote. New engines come first in the manifest, so a runtime that can run them takes them.
    Raises: as :func:`build_engines`; BundleError if there is no such bundle, or it cannot be
    written.
    """
    check_request(request)
    # refuse before waiting, and without leaving a lock
    name_graphs(Bundle.open(target).manifest, request.precision)
    with staged_bundle(target, say=say) as stage:
        bundle = Bundle.open(target)
        manifest = bundle.manifest
        stage.copy(
            bundle,
            manifest.files.keys() - {name for record in manifest.engines for name in record.files},
        )
        elsewhere = format_command(request, bundle=target)
        graphs = name_graphs(manifest, request.precision)
        record = build_engines(
            stage.path,
            manifest,
            request,
            graphs=graphs,
            elsewhere=elsewhere,
            say=say,
        )
        kept = [other for other in manifest.engines if _machines(other) != _machines(record)]
        stage.copy(bundle, [name for other in kept for name in other.files])
        return stage.commit(dataclasses.replace(manifest, engines=(record, *kept), files={}))


def _machines(record: EngineRecord) -> tuple[object, ...]:
    """For which machines a set of engines is, in any version of the library."""
    return record.runtime, record.precision, record.compute_capabilities


def name_graphs(manifest: Manifest, precision: EnginePrecision) -> tuple[str, ...]:
    """Name a bundle's encoder and sampler in this precision, and its inverter if it has one.

    Raises: ArgumentError if it has no graphs in this precision.
    """
    if manifest.precision == precision:
        return (*REQUIRED_FILES, INVERTER) if INVERTER in manifest.files else REQUIRED_FILES
    if precision == "fp32" and manifest.float32_graphs is not None:
        return manifest.float32_graphs
    raise ArgumentError(
        f"engines in {precision} need graphs in {precision}, and this bundle has "
        f"{manifest.precision}: export the checkpoint with --precision {precision}"
    )


def build_engines(
    folder: Path,
    manifest: Manifest,
    request: EngineRequest,
    *,
    graphs: Sequence[str] = REQUIRED_FILES,
    elsewhere: str = "",
    say: Say = lambda _: None,
    library: Library | None = None,
) -> EngineRecord:
    """Build engines from the graphs in a bundle's folder, and write them under its `engines/`.

    The files are exactly what the library built; the record says what they are for.

    Args:
        folder: the bundle's.
        manifest: its scale, size multiple and halo give the shapes.
        request: which engines.
        graphs: an encoder, a sampler and perhaps an inverter in the request's precision.
        elsewhere: the command that builds the engines on another machine, for errors.
        say: receives lines of progress.
        library: None loads the request's.

    Raises:
        ArgumentError: the model does not take the sizes.
        MissingExtraError: see :func:`load_library`.
        ExportError: see :func:`load_library` and :func:`build_engine`.
        BundleError: a graph has inputs that this exporter does not write.
        OSError: an engine cannot be written.
    """
    profile = request.profile or default_profile(manifest, request.runtime)
    check_profile(profile, manifest)
    elsewhere = elsewhere or format_command(request)
    if library is None:
        library = load_library(request.runtime, elsewhere=elsewhere)
    request = dataclasses.replace(request, sms=tuple(sorted(set(request.sms))), profile=profile)
    capabilities = tuple(f"{sm // 10}.{sm % 10}" for sm in request.sms)
    if library.gpu and not capabilities:
        capabilities = (library.gpu.compute_capability,)
    read = [read_graph(folder / name, precision=request.precision) for name in graphs]
    plugins = load_plugin_library(
        library,
        nodes=sum(graph.flow_nodes for graph in read),
        rebuild=elsewhere,
        say=say,
    )
    stem = _make_file_prefix(library, capabilities, request.precision)
    names: dict[str, str] = {}
    (folder / "engines").mkdir(exist_ok=True)
    for graph in read:
        part = graph.name.partition(".")[0]
        shapes = graph.input_shapes(profile, scale=manifest.scale)
        with_plugins = plugins is not None and graph.flow_nodes > 0
        names[part] = f"engines/{stem}.{part}.engine"
        engine = build_engine(library.module, graph, shapes, request, plugins=with_plugins, say=say)
        (folder / names[part]).write_bytes(engine)
    return EngineRecord(
        runtime=request.runtime,
        version=library.version,
        precision=request.precision,
        compute_capabilities=capabilities,
        gpu=library.gpu.name if library.gpu else "",
        profile=profile,
        graphs={graph.name: graph.sha256 for graph in read},
        plugins=plugins,
        encoder=names["encoder"],
        sampler=names["sampler"],
        inverter=names.get("inverter", ""),
    )


def _make_file_prefix(library: Library, capabilities: Sequence[str], precision: str) -> str:
    """What engines' files begin with, such as rtx-1.7.1.116-sm89-sm120-fp16."""
    targets = [f"sm{capability.replace('.', '')}" for capability in capabilities]
    return "-".join([_SHORT[library.runtime], library.version, *targets, precision])


def load_plugin_library(
    library: Library, *, nodes: int, rebuild: str, say: Say
) -> PluginLibrary | None:
    """Load the plugin library, if there is one, before graphs are parsed.

    The parser takes a plugin only if its creator is registered by then, and inlines the node's
    function otherwise. nodes: how many there are in all graphs; without any, nothing is loaded or
    said. rebuild: as :func:`load_plugins`. Returns the library that the engines will need; None:
    their flow operations are functions. Raises: DeviceError or ExportError for a library that does
    not fit.
    """
    if not nodes:
        return None
    path = None
    why = f"as {library.title} has no plugins"
    if library.runtime == "tensorrt":
        path = find_native_library(PLUGINS)
        why = (
            "as there is no plugin library: python -m srflow_export.native tensorrt builds one "
            "(docs/native.md)"
        )
    if path is None:
        say(f"flow operations: {nodes} functions in standard operators, {why}")
        return None
    plugins = plugins_of(path)
    major = library.version.partition(".")[0]
    if (str(plugins.tensorrt_major), plugins.abi) != (major, PLUGINS_ABI):
        raise ExportError(
            f"{path} is for TensorRT {plugins.tensorrt_major} (ABI {plugins.abi}), not {major} "
            f"(ABI {PLUGINS_ABI}): build it again (python -m srflow_export.native tensorrt), or "
            f"set {PLUGINS}= to do without"
        )
    load_plugins(library.module, plugins, rebuild=rebuild)
    say(f"flow operations: {nodes} plugins of {path}, which the engines need wherever they run")
    return plugins


def default_profile(manifest: Manifest, runtime: EngineRuntime) -> LrProfile:
    """Return the smallest image, and the window of `tile="auto"` here as optimum and maximum.

    TensorRT-RTX builds for GPUs that are elsewhere: the optimum is that of one with 8 GB, and the
    maximum that of any, as its engines take memory for the sizes at hand.
    """
    free = gpu_free_memory() if runtime == "tensorrt" else None
    multiple = manifest.size_multiple

    def largest(budget: int) -> int:
        core = core_size(
            "auto",
            height=_ENDLESS,
            width=_ENDLESS,
            multiple=multiple,
            halo=manifest.halo,
            conditioning_bytes_per_pixel=manifest.conditioning_bytes_per_pixel,
            budget=budget,
        )
        return (core or MIN_TILE) + 2 * padded_size(manifest.halo, multiple)

    best = largest(_COMMON_GPU_BUDGET if free is None else free // 2)
    most = largest(_ANY_GPU_BUDGET) if runtime == "tensorrt_rtx" else best
    return LrProfile(min=(multiple, multiple), opt=(best, best), max=(most, most))
