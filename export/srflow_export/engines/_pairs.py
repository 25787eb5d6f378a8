"""Build engines from a bundle's graphs, with a record for the manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from srflow_export.engines._builder import build_engine, check_sms
from srflow_export.engines._cache import EngineCache
from srflow_export.engines._checking import check_plan
from srflow_export.engines._graph import Graph, read_graph
from srflow_export.engines._library import Library, load_library
from srflow_export.engines._plugins import plugins_for
from srflow_export.engines._profiles import check_profile
from srflow_export.engines._request import EngineRequest, check_request, command_of
from srflow_sdk.errors import ArgumentError, ExportError
from srflow_sdk.model.engine_records import EnginePrecision, EngineRecord, PluginLibrary
from srflow_sdk.model.manifest import INVERTER, REQUIRED_FILES, Manifest
from srflow_sdk.system.cache_folder import cache_folder

_SHORT = {"tensorrt": "trt", "tensorrt_rtx": "rtx"}


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
    :func:`~srflow_export.engines._library.load_library` and :func:`~srflow_export.engines._builder.build_engine`;
    ExportError if what was built is not what was asked for, or cannot be written; BundleError for a graph with
    inputs that this exporter does not write.
    """
    check_request(request)
    profile = request.profile or manifest.default_profile
    check_profile(profile, manifest)
    elsewhere = elsewhere or command_of(request)
    if library is None:
        library = load_library(request.runtime, elsewhere=elsewhere)
    sms = tuple(sorted(set(request.sms)))
    check_sms(library.module, sms)
    read = [read_graph(folder / name, precision=request.precision) for name in graphs]
    plugins = plugins_for(library, nodes=sum(graph.flow_nodes for graph in read), rebuild=elsewhere, say=say)
    checked: list[bool] = []
    names: dict[str, str] = {}
    for graph in read:
        part = graph.name.partition(".")[0]
        own = plugins if graph.flow_nodes else None
        engine, is_checked = _engine(
            graph, manifest, dataclasses.replace(request, sms=sms, profile=profile), library, own, say
        )
        checked.append(is_checked)
        names[part] = _write(folder, f"{_stem(library, sms, request.precision)}.{part}.engine", engine)
    return EngineRecord(
        runtime=request.runtime,
        version=library.version,
        precision=request.precision,
        compute_capabilities=tuple(f"{sm // 10}.{sm % 10}" for sm in sms) or _own_capability(library),
        gpu=library.gpu.name if library.gpu else "",
        profile=profile,
        graphs={graph.name: graph.sha256 for graph in read},
        checked="engine" if all(checked) else "network",
        plugins=plugins,
        **names,
    )


def _engine(
    graph: Graph,
    manifest: Manifest,
    request: EngineRequest,
    library: Library,
    plugins: PluginLibrary | None,
    say: Callable[[str], None],
) -> tuple[bytes, bool]:
    """An engine from the cache, or built; and whether its own inspector confirmed it. One that fails is not cached."""
    assert request.profile is not None  # for the type checker: build_engines fills it in
    shapes = graph.input_shapes(request.profile, scale=manifest.scale)
    checks: list[bool] = []

    def check(engine: bytes) -> bytes:
        checks.append(library.gpu is not None and check_plan(library.module, engine, graph))
        return engine

    def build() -> bytes:
        with_plugins = plugins is not None
        engine = build_engine(
            library.module, graph, shapes, request.builder, sms=request.sms, plugins=with_plugins, say=say
        )
        return check(engine)

    folder = cache_folder("built-engines") if request.builder.use_cache else None
    if folder is None:
        return build(), checks[0]
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
    engine = EngineCache(folder).get(made_of, build, name=graph.name, say=say)
    if not checks:
        check(engine)
    return engine, checks[0]


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
