"""Add engines to an existing bundle, without its checkpoint or torch, on the machine that will run it.

Built engines are kept in the user's cache folder, so that the same input is not built twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from srflow_export.bundle_writer import acquired, bundle_lock, staged_bundle
from srflow_export.engines.building import build_engine, check_sms
from srflow_export.engines.graphs import Graph, read_graph
from srflow_export.engines.requests import (
    EngineRequest,
    Library,
    check_profile,
    check_request,
    command_of,
    load_library,
)
from srflow_sdk._version import __version__
from srflow_sdk.backends.native_library import PLUGINS, check_native_library, find_native_library, load_plugins
from srflow_sdk.drawing.tiles import MIN_TILE, core_size, padded_size
from srflow_sdk.errors import ArgumentError, ExportError, MissingExtraError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import EnginePrecision, EngineRecord, EngineRuntime, LrProfile, PluginLibrary
from srflow_sdk.model.manifest import INVERTER, REQUIRED_FILES, Manifest
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.hardware import gpu_free_memory
from srflow_sdk.system.local_files import file_sha256, write_atomically

logger = logging.getLogger(__name__)

_COMMON_GPU_BUDGET, _ANY_GPU_BUDGET = 4 << 30, 1 << 40  # half of what is free on a GPU with 8 GB, and more than on any
_ENDLESS = 1 << 14  # LR pixels a side: an image too large for one tile
_SHORT = {"tensorrt": "trt", "tensorrt_rtx": "rtx"}
_FORMAT = 2  # of the key and the entry, and of what is built from a graph


def add_engines(
    target: str | os.PathLike[str],
    request: EngineRequest,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Build engines from a bundle's graphs and add them to the bundle, in place of older ones for the same GPUs.

    The bundle changes once everything is built, and stays as it was on any error. If several processes do this to one
    bundle at once, one builds and the others wait, and then build for what it wrote. New engines come first in the
    manifest, so a runtime that can run them takes them. Raises: as :func:`build_engines`;
    BundleError if there is no such bundle, or it cannot be written.
    """
    check_request(request)
    graphs_of(Bundle.open(target).manifest, request.precision)  # refuse before waiting, and without leaving a lock
    with bundle_lock(target, say=say), staged_bundle(target) as stage:
        bundle = Bundle.open(target)
        manifest = bundle.manifest
        engines = {name for record in manifest.engines for name in record.files}
        for name in manifest.files.keys() - engines:
            _copy(bundle, name, stage.path)
        elsewhere = command_of(request, bundle=target)
        graphs = graphs_of(manifest, request.precision)
        record = build_engines(stage.path, manifest, request, graphs=graphs, elsewhere=elsewhere, say=say)
        kept = [other for other in manifest.engines if not _replaces(record, other)]
        for other in kept:
            for name in other.files:
                _copy(bundle, name, stage.path)
        return stage.commit(dataclasses.replace(manifest, engines=(record, *kept), files={}))


def _copy(bundle: Bundle, name: str, folder: Path) -> None:
    copy = folder / name
    copy.parent.mkdir(exist_ok=True)
    shutil.copyfile(bundle.path / name, copy)


def _replaces(new: EngineRecord, old: EngineRecord) -> bool:
    """True if both are for the same machines, in any version of the library."""
    return (new.runtime, new.precision, new.compute_capabilities) == (
        old.runtime,
        old.precision,
        old.compute_capabilities,
    )


def check_targets(request: EngineRequest) -> None:
    """Let the library refuse GPUs before anything is exported; does nothing if the library cannot be loaded.

    Raises: ArgumentError for a GPU that it does not build for.
    """
    if not request.sms:
        return
    try:
        library = load_library(request.runtime, elsewhere="")
    except (MissingExtraError, ExportError):
        return  # reported when the build starts: by then there is a bundle for its command to name
    check_sms(library.module, request.sms)


def graphs_of(manifest: Manifest, precision: EnginePrecision) -> tuple[str, ...]:
    """File names of a bundle's encoder and sampler in this precision, and of its inverter if it has one in it.

    Raises: ArgumentError if it has no graphs in this precision.
    """
    if manifest.precision == precision:
        return (*REQUIRED_FILES, INVERTER) if INVERTER in manifest.files else REQUIRED_FILES
    if precision == "fp32" and manifest.float32_graphs is not None:
        return manifest.float32_graphs
    raise ArgumentError(
        f"engines in {precision} need graphs in {precision}, and this bundle has {manifest.precision}: export the "
        f"checkpoint with --precision {precision}"
    )


def build_engines(
    folder: Path,
    manifest: Manifest,
    request: EngineRequest,
    *,
    graphs: Sequence[str] = REQUIRED_FILES,
    elsewhere: str = "",
    say: Callable[[str], None] = lambda _: None,
    library: Library | None = None,
) -> EngineRecord:
    """Build engines from the graphs in a bundle's folder, and write them under its `engines/`.

    manifest: its scale, size multiple and halo give the shapes. graphs: file names of an encoder, a sampler and perhaps
    an inverter in the request's precision, in this order. elsewhere: the command that builds the engines on another
    machine, for errors. library: None loads the request's. The files are exactly what the library built; the record
    says what they are for.

    Raises: ArgumentError for an impossible request; MissingExtraError or ExportError, see
    :func:`load_library` and :func:`build_engine`;
    ExportError if an engine cannot be written; BundleError for a graph with
    inputs that this exporter does not write.
    """
    check_request(request)
    profile = request.profile or default_profile(manifest, request.runtime)
    check_profile(profile, manifest)
    elsewhere = elsewhere or command_of(request)
    if library is None:
        library = load_library(request.runtime, elsewhere=elsewhere)
    sms = tuple(sorted(set(request.sms)))
    check_sms(library.module, sms)
    read = [read_graph(folder / name, precision=request.precision) for name in graphs]
    plugins = plugins_for(library, nodes=sum(graph.flow_nodes for graph in read), rebuild=elsewhere, say=say)
    names: dict[str, str] = {}
    request = dataclasses.replace(request, sms=sms, profile=profile)
    for graph in read:
        part = graph.name.partition(".")[0]
        engine = _engine(graph, manifest, request, library, plugins if graph.flow_nodes else None, say)
        names[part] = _write(folder, f"{_stem(library, sms, request.precision)}.{part}.engine", engine)
    return EngineRecord(
        runtime=request.runtime,
        version=library.version,
        precision=request.precision,
        compute_capabilities=tuple(f"{sm // 10}.{sm % 10}" for sm in sms) or _own_capability(library),
        gpu=library.gpu.name if library.gpu else "",
        profile=profile,
        graphs={graph.name: graph.sha256 for graph in read},
        plugins=plugins,
        encoder=names["encoder"],
        sampler=names["sampler"],
        inverter=names.get("inverter", ""),
    )


def _engine(
    graph: Graph,
    manifest: Manifest,
    request: EngineRequest,
    library: Library,
    plugins: PluginLibrary | None,
    say: Callable[[str], None],
) -> bytes:
    """An engine from the cache, or built."""
    assert request.profile is not None  # for the type checker: build_engines fills it in
    shapes = graph.input_shapes(request.profile, scale=manifest.scale)

    def build() -> bytes:
        with_plugins = plugins is not None
        return build_engine(
            library.module, graph, shapes, request.builder, sms=request.sms, plugins=with_plugins, say=say
        )

    folder = cache_folder("built-engines") if request.builder.use_cache else None
    if folder is None:
        return build()
    made_of: dict[str, Any] = {
        "graph": graph.sha256,
        "precision": graph.precision,
        "shapes": {name: dataclasses.asdict(entry) for name, entry in shapes.items()},
        "library": [library.runtime, library.version],
        "sms": request.sms,
        "gpu": dataclasses.asdict(library.gpu) if library.gpu else None,
        "level": request.builder.level,
        "workspace": request.builder.workspace,
    }
    if plugins is not None:
        made_of["plugins"] = dataclasses.asdict(plugins)
    return EngineCache(folder).get(made_of, build, name=graph.name, say=say)


def _stem(library: Library, sms: tuple[int, ...], precision: str) -> str:
    """How the engines' file names begin, such as "rtx-1.7.1.116-sm89-sm120-fp16"."""
    targets = sms or tuple(int(capability.replace(".", "")) for capability in _own_capability(library))
    return "-".join([_SHORT[library.runtime], library.version, *(f"sm{target}" for target in targets), precision])


def _own_capability(library: Library) -> tuple[str, ...]:
    return (library.gpu.compute_capability,) if library.gpu else ()


def _write(folder: Path, name: str, engine: bytes) -> str:
    """Write an engine, and return its name in the bundle."""
    path = folder / "engines" / name
    if path.exists():
        raise ArgumentError(
            f"engines/{name} already exists: a bundle has one set for each library, precision and set of GPUs"
        )
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(engine)
    except OSError as error:
        raise ExportError(f"{path}: the engine cannot be written: {error.strerror or error}") from error
    return f"engines/{name}"


def plugins_for(library: Library, *, nodes: int, rebuild: str, say: Callable[[str], None]) -> PluginLibrary | None:
    """Load the plugin library, if there is one (:func:`find_native_library`), before graphs are parsed.

    The parser takes a plugin only if its creator is registered by then, and inlines the node's function otherwise.
    nodes: how many there are in all graphs; without any, nothing is loaded or said. rebuild: as :func:`load_plugins`.
    Returns the library that the engines will need; None: their flow operations are functions.
    Raises: DeviceError or ExportError for a library that does not fit.
    """
    if not nodes:
        return None
    path, why = None, f"as {library.title} has no plugins"
    if library.runtime == "tensorrt":
        path = find_native_library(PLUGINS)
        why = "as there is no plugin library: python -m srflow_export.native tensorrt builds one (docs/native.md)"
    if path is None:
        say(f"flow operations: {nodes} functions in standard operators, {why}")
        return None
    native = check_native_library(path, version=__version__, variable=PLUGINS)
    if not hasattr(native, "srflow_tensorrt_major"):
        raise ExportError(f"{path} has no plugins for TensorRT: name a libsrflow_trt.so in {PLUGINS}")
    built_for, major = native.srflow_tensorrt_major(), library.version.partition(".")[0]
    if str(built_for) != major:
        raise ExportError(
            f"{path} is for TensorRT {built_for}, and {library.version} is installed: build it with the headers of "
            f"TensorRT {major} (python -m srflow_export.native tensorrt), or set {PLUGINS}= to do without plugins"
        )
    plugins = PluginLibrary(sha256=file_sha256(path), version=__version__, tensorrt_major=built_for)
    load_plugins(library.module, plugins, rebuild=rebuild)
    say(f"flow operations: {nodes} plugins of {path}, which the engines need wherever they run")
    return plugins


class EngineCache:
    """Engines in a folder, found by what they were built from. Safe for any number of processes at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(
        self,
        made_of: Mapping[str, Any],
        build: Callable[[], bytes],
        *,
        name: str,
        say: Callable[[str], None] = lambda _: None,
    ) -> bytes:
        """Return the engine of this input from the cache, or build it and keep it there.

        made_of: everything that decides what is built, as JSON values. While one process builds, others that want the
        same engine wait for it; the operating system frees the lock of one that dies. If the folder cannot be written,
        `say` receives a line and the engine is built without the cache. name: for lines of progress.
        """
        text = json.dumps({"format": _FORMAT, **made_of}, sort_keys=True, indent=1)
        key = hashlib.sha256(text.encode()).hexdigest()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            waiting = f"{name}: another export is building the same engine; waiting for it"
            lock = acquired(self.folder / f"{key}.lock", waiting=waiting, say=say)
        except OSError as error:
            say(f"{name}: {self.folder} cannot keep engines ({error.strerror or error}); building without the cache")
            return build()
        try:
            if (kept := self._read(key)) is not None:
                say(f"{name}: built before, {len(kept) / 1e6:.1f} MB from {self.folder}")
                return kept
            engine = build()
            self._write(key, made_of, engine)
            return engine
        finally:
            lock.release()

    def _read(self, key: str) -> bytes | None:
        try:
            record = json.loads((self.folder / f"{key}.json").read_bytes())
            engine = (self.folder / f"{key}.engine").read_bytes()
            if hashlib.sha256(engine).hexdigest() == record["sha256"]:
                return engine
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError):
            pass
        logger.warning("%s: the cached engine is damaged; building it again", self.folder / f"{key}.engine")
        return None

    def _write(self, key: str, made_of: Mapping[str, Any], engine: bytes) -> None:
        record = {"sha256": hashlib.sha256(engine).hexdigest(), "bytes": len(engine), "made_of": made_of}
        try:
            write_atomically(self.folder / f"{key}.engine", engine)
            write_atomically(self.folder / f"{key}.json", (json.dumps(record, indent=1) + "\n").encode())
        except OSError as error:
            logger.warning("%s: the engine cannot be cached (%s)", self.folder, error.strerror or error)


def default_profile(manifest: Manifest, runtime: EngineRuntime) -> LrProfile:
    """The smallest image; as optimum and maximum the largest window that `tile="auto"` uses on this machine's GPU.

    TensorRT-RTX builds for GPUs that are elsewhere: the optimum is that of one with 8 GB, and the maximum that of any,
    as its engines take memory for the sizes at hand.
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
