"""A bundle's graphs → a pair of engines beside them, and the record of it for the manifest."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srflow_export.engines._builder import BuilderOptions, build_engine, check_sms
from srflow_export.engines._cache import EngineCache
from srflow_export.engines._checking import check_plan
from srflow_export.engines._graph import Graph, read_graph
from srflow_export.engines._library import Library, load_library
from srflow_export.engines._profiles import check_profile
from srflow_export.engines._timing_cache import read_measurements
from srflow_sdk._engine_commands import engines_command
from srflow_sdk._machine.cache import cache_folder
from srflow_sdk.engine_records import EnginePrecision, EngineRecord, EngineRuntime, LrProfile
from srflow_sdk.errors import ArgumentError, ExportError, MissingExtraError
from srflow_sdk.manifest import REQUIRED_FILES, Manifest

_SHORT = {"tensorrt": "trt", "tensorrt_rtx": "rtx"}


@dataclass(frozen=True, kw_only=True)
class EngineRequest:
    """Which engines are wanted.

    runtime: the library. precision: of the graphs that they are built from. sms: GPUs that TensorRT-RTX builds for, as
    compute capabilities without the dot, such as (89, 120); empty for TensorRT, which builds for this machine's GPU.
    profile: LR sizes, None: those of :attr:`srflow_sdk.manifest.Manifest.default_profile`.
    builder_level: 0 to 5, how long to look for fast kernels; workspace: bytes that activations and scratch may take on
    the GPU; None leaves each to the library. timing_cache: a file of TensorRT's measurements, read and written.
    use_cache: take engines that were built before from the user's cache folder, and keep new ones there.
    """

    runtime: EngineRuntime
    precision: EnginePrecision
    sms: tuple[int, ...] = ()
    profile: LrProfile | None = None
    builder_level: int | None = None
    workspace: int | None = None
    timing_cache: Path | None = None
    use_cache: bool = True


def check_request(request: EngineRequest) -> None:
    """What can be refused before anything is exported. Raises: ArgumentError."""
    is_rtx = request.runtime == "tensorrt_rtx"
    if is_rtx and not request.sms:
        raise ArgumentError(
            "TensorRT-RTX builds for GPUs that are named: add --sm with their compute capabilities, such as "
            "--sm 89 120 for GeForce 40 and 50"
        )
    if request.sms and not is_rtx:
        raise ArgumentError("--sm goes with --rtx: TensorRT builds for this machine's own GPU; leave --sm out")
    if request.timing_cache is not None and is_rtx:
        raise ArgumentError("TensorRT-RTX times no kernels while it builds: leave the timing cache out")
    if request.timing_cache is not None:
        if not request.timing_cache.parent.is_dir():
            raise ArgumentError(f"{request.timing_cache}: its folder does not exist; make it, or name another file")
        read_measurements(request.timing_cache)
    if request.builder_level is not None and not 0 <= request.builder_level <= 5:
        raise ArgumentError(f"the builder level is {request.builder_level}; it is 0 to 5")
    if request.workspace is not None and request.workspace < 1 << 20:
        raise ArgumentError(f"the workspace is {request.workspace} bytes; give it at least 1 MiB, or leave it out")


def check_targets(request: EngineRequest) -> None:
    """What the library itself can refuse before anything is exported; nothing where it cannot be loaded.

    Raises: ArgumentError for a GPU that it does not build for.
    """
    if not request.sms:
        return
    try:
        library = load_library(request.runtime, elsewhere="")
    except (MissingExtraError, ExportError):
        return  # said when it is to build, with the command for a bundle that is there by then
    check_sms(library.module, request.sms)


def command_of(request: EngineRequest, *, bundle: str | os.PathLike[str] = "BUNDLE") -> str:
    """The command that builds the same engines on any machine that can."""
    return engines_command(
        bundle,
        runtime=request.runtime,
        precision=request.precision,
        sms=request.sms,
        profile=request.profile,
        builder_level=request.builder_level,
        workspace=request.workspace,
    )


def graphs_of(manifest: Manifest, precision: EnginePrecision) -> tuple[str, str]:
    """File names of a bundle's encoder and sampler in this precision. Raises: ArgumentError if it has none."""
    if manifest.precision == precision:
        return REQUIRED_FILES
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
    encoder: str = "encoder.onnx",
    sampler: str = "sampler.onnx",
    elsewhere: str = "",
    say: Callable[[str], None] = lambda _: None,
    library: Library | None = None,
) -> EngineRecord:
    """Build a pair of engines from two graphs of a bundle's folder, and write them under its `engines/`.

    manifest: its scale, size multiple and halo give the shapes. encoder, sampler: the graphs' file names, whose
    precision is the request's. elsewhere: the command that builds them on another machine, for errors. library: None
    loads the request's. The engines are files as the library made them; the record says what they are for.

    Raises: ArgumentError for a request that cannot be; MissingExtraError or ExportError, see
    :func:`~srflow_export.engines._library.load_library` and :func:`~srflow_export.engines._builder.build_engine`;
    ExportError if what was built is not what was asked for, or cannot be written.
    """
    check_request(request)
    profile = request.profile or manifest.default_profile
    check_profile(profile, manifest)
    if library is None:
        library = load_library(request.runtime, elsewhere=elsewhere or command_of(request))
    sms = tuple(sorted(set(request.sms)))
    check_sms(library.module, sms)
    graphs = [read_graph(folder / name, precision=request.precision) for name in (encoder, sampler)]
    checked: list[bool] = []
    names = []
    for graph, part in zip(graphs, ("encoder", "sampler"), strict=True):
        engine, is_checked = _engine(
            graph, manifest, dataclasses.replace(request, sms=sms, profile=profile), library, say
        )
        checked.append(is_checked)
        names.append(_write(folder, f"{_stem(library, sms, request.precision)}.{part}.engine", engine))
    return EngineRecord(
        runtime=request.runtime,
        version=library.version,
        precision=request.precision,
        compute_capabilities=tuple(f"{sm // 10}.{sm % 10}" for sm in sms) or _own_capability(library),
        gpu=library.gpu.name if library.gpu else "",
        profile=profile,
        encoder=names[0],
        sampler=names[1],
        graphs={graph.name: graph.sha256 for graph in graphs},
        checked="engine" if all(checked) else "network",
    )


def _engine(
    graph: Graph, manifest: Manifest, request: EngineRequest, library: Library, say: Callable[[str], None]
) -> tuple[bytes, bool]:
    """From the cache or built, and whether its own inspector confirmed it. What fails that test is not kept."""
    assert request.profile is not None  # for the type checker: build_engines fills it in
    shapes = graph.input_shapes(request.profile, scale=manifest.scale)
    options = BuilderOptions(
        sms=request.sms,
        level=request.builder_level,
        workspace=request.workspace,
        timing_cache=request.timing_cache,
    )
    checks: list[bool] = []

    def check(engine: bytes) -> bytes:
        checks.append(library.gpu is not None and check_plan(library.module, engine, graph))
        return engine

    def build() -> bytes:
        return check(build_engine(library.module, graph, shapes, options, say=say))

    folder = cache_folder("built-engines") if request.use_cache else None
    if folder is None:
        return build(), checks[0]
    made_of: dict[str, Any] = {
        "graph": graph.sha256,
        "precision": graph.precision,
        "shapes": {name: dataclasses.asdict(entry) for name, entry in shapes.items()},
        "library": [library.runtime, library.version],
        "sms": request.sms,
        "gpu": dataclasses.asdict(library.gpu) if library.gpu else None,
        "level": request.builder_level,
        "workspace": request.workspace,
    }
    engine = EngineCache(folder).get(made_of, build, name=graph.name, say=say)
    if not checks:
        check(engine)
    return engine, checks[0]


def _stem(library: Library, sms: tuple[int, ...], precision: str) -> str:
    """Such as "rtx-1.7.1.116-sm89-sm120-fp16"."""
    targets = sms or tuple(int(capability.replace(".", "")) for capability in _own_capability(library))
    return "-".join([_SHORT[library.runtime], library.version, *(f"sm{target}" for target in targets), precision])


def _own_capability(library: Library) -> tuple[str, ...]:
    return (library.gpu.compute_capability,) if library.gpu else ()


def _write(folder: Path, name: str, engine: bytes) -> str:
    """Its name in the bundle."""
    path = folder / "engines" / name
    if path.exists():
        raise ArgumentError(
            f"engines/{name} is there already: a bundle has one pair for each library, precision and set of GPUs"
        )
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(engine)
    except OSError as error:
        raise ExportError(f"{path}: the engine cannot be written: {error.strerror or error}") from error
    return f"engines/{name}"
