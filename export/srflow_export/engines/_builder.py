"""Build an engine from an ONNX graph with TensorRT 10.15 to 11 or TensorRT-RTX; `trt` is either module.

Types come from the graph alone. Both libraries keep them ("strongly typed"), so nothing here chooses a precision.
"""

from __future__ import annotations

import concurrent.futures
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srflow_export.engines._build_progress import build_logger, build_monitor
from srflow_export.engines._checking import check_network
from srflow_export.engines._graph import Graph
from srflow_export.engines._profiles import InputShapes
from srflow_export.engines._timing_cache import keep_measurements, read_measurements
from srflow_sdk.errors import ArgumentError, ExportError

logger = logging.getLogger(__name__)

_SAY_EVERY_S = 2.0  # a full-size graph takes seconds with TensorRT-RTX, and many minutes with TensorRT
_NO_CAPABILITIES = ("NONE", "CURRENT")  # CURRENT needs a GPU


@dataclass(frozen=True, kw_only=True)
class BuilderOptions:
    """How engines are built, whatever their target.

    level: 0 to 5, the effort to find fast kernels; None: the library's default. workspace: bytes of GPU memory for
    activations and scratch; None: all there is. timing_cache: a file of TensorRT's kernel timings, read if it exists
    and written back. use_cache: take engines that were built before from the user's cache folder, and keep new ones
    there.
    """

    level: int | None = None
    workspace: int | None = None
    timing_cache: Path | None = None
    use_cache: bool = True


def build_engine(
    trt: Any,
    graph: Graph,
    shapes: Mapping[str, InputShapes],
    options: BuilderOptions,
    *,
    sms: tuple[int, ...] = (),
    plugins: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> bytes:
    """Build an engine, after checking that the library read the graph correctly; `options.use_cache` is not used here.

    sms: compute capabilities that TensorRT-RTX builds for, such as (89, 120); empty for TensorRT, which builds for this
    machine's GPU. plugins: the graph's flow operations must become plugins, whose library is loaded.
    `say` is called from the caller's thread. KeyboardInterrupt stops the build at its next step.

    Raises: ArgumentError for a GPU that the library does not build for, or a timing cache that cannot be read;
    ExportError, with the library's own message, if it cannot read the graph, reads something else than was exported, or
    cannot build it.
    """
    name, log = graph.name, build_logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph.model.SerializeToString()):
        errors = "; ".join(_parser_error(parser.get_error(index)) for index in range(parser.num_errors))
        raise ExportError(
            f"{name}: {trt.__name__} {trt.__version__} cannot read the graph: {errors or log.said()}; export the "
            "checkpoint again with this srflow-sdk, or use another version of the library"
        )
    check_network(trt, network, graph, plugins=plugins)
    config = builder.create_builder_config()
    _configure(trt, config, options, sms=sms)
    if config.add_optimization_profile(_profile(builder, shapes)) < 0:
        raise ExportError(
            f"{name}: {trt.__name__} {trt.__version__} does not accept these sizes: {log.said()}; choose others "
            "with --shapes"
        )
    cache = _read_timing_cache(config, options.timing_cache)
    monitor = build_monitor(trt)
    config.progress_monitor = monitor
    start = time.monotonic()
    plan = _in_background(lambda: builder.build_serialized_network(network, config), monitor, name=name, say=say)
    if plan is None:
        raise ExportError(f"{name}: {trt.__name__} {trt.__version__} cannot build it: {_reason(log.said(), options)}")
    engine = bytes(plan)
    say(f"{name}: built in {time.monotonic() - start:.0f} s, {len(engine) / 1e6:.1f} MB")
    if cache is not None and options.timing_cache is not None:
        keep_measurements(options.timing_cache, bytes(config.get_timing_cache().serialize()))
    return engine


def known_sms(trt: Any) -> tuple[int, ...]:
    """Compute capabilities that the library builds for by name, such as (75, 80, 86, 89, 120)."""
    names = trt.ComputeCapability.__members__
    return tuple(sorted(int(name.removeprefix("SM")) for name in names if name not in _NO_CAPABILITIES))


def check_sms(trt: Any, sms: Iterable[int]) -> None:
    """Raises: ArgumentError for the first that the library does not build for, listing those it does."""
    for sm in sms:
        if sm not in known_sms(trt):
            raise _refused(trt, sm)


def _network_flags(trt: Any) -> int:
    """Ask for strong typing; versions without the flag have no other kind of network."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parser_error(error: Any) -> str:
    operator, node = error.node_operator(), error.node_name()
    return f"{error.desc()} (operator {operator}, node {node})" if node or operator else str(error.desc())


def _configure(trt: Any, config: Any, options: BuilderOptions, *, sms: tuple[int, ...]) -> None:
    if sms:
        _set_compute_capabilities(trt, config, sms)
    if options.level is not None:
        config.builder_optimization_level = options.level
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    # TF32 is on by default; it computes float32 convolutions with the ten mantissa bits of half precision.
    config.clear_flag(trt.BuilderFlag.TF32)
    # Without it the inspector gives only the names of an engine's layers, not their types.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED


def _set_compute_capabilities(trt: Any, config: Any, sms: tuple[int, ...]) -> None:
    config.num_compute_capabilities = len(sms)
    for index, sm in enumerate(sms):
        if not config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{sm}"), index):
            raise _refused(trt, sm)


def _refused(trt: Any, sm: int) -> ArgumentError:
    return ArgumentError(
        f"--sm {sm}: {trt.__name__} {trt.__version__} does not build for this GPU, only for "
        f"{', '.join(map(str, known_sms(trt)))}. Others, such as data-centre GPUs, need TensorRT itself: --trt on a "
        "machine that has one"
    )


def _profile(builder: Any, shapes: Mapping[str, InputShapes]) -> Any:
    profile = builder.create_optimization_profile()
    for tensor, entry in shapes.items():
        profile.set_shape(tensor, entry.min, entry.opt, entry.max)
    return profile


def _read_timing_cache(config: Any, file: Path | None) -> Any:
    """Read and set the file's timing cache: empty if the file is missing or of another GPU or version; None: no file.

    If two builds write the file at once, the later one wins, and only timings are lost.
    """
    if file is None:
        return None
    content = read_measurements(file)
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, False):
        if content:
            logger.warning("%s: timings of another GPU or version; a new timing cache replaces them", file)
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _in_background(build: Callable[[], Any], monitor: Any, *, name: str, say: Callable[[str], None]) -> Any:
    """Run the build in another thread, and report its progress from this one.

    Python delivers signals to the main thread: a KeyboardInterrupt raised inside the library's callbacks would be
    swallowed there, and the build would go on for minutes.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(build)
        told = ""
        try:
            while not concurrent.futures.wait([future], timeout=_SAY_EVERY_S).done:
                line = f"{name}: {monitor.line()}"
                if line != told:
                    say(line)
                told = line
            return future.result()
        except BaseException:
            monitor.stop()
            raise


def _reason(said: str, options: BuilderOptions) -> str:
    memory = any(words in said.lower() for words in ("outofmemory", "out of memory", "workspace"))
    if not memory:
        return f"{said or 'it gives no reason'}; other --shapes may work"
    if options.workspace is not None:
        return (
            f"the workspace of {options.workspace >> 20} MiB is too small for the largest size ({said}); raise it, "
            "or choose smaller --shapes"
        )
    return f"memory ran out ({said}); choose smaller --shapes, or close other programs that use the GPU"
