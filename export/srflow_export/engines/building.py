"""Build an engine from an ONNX graph; `trt` is TensorRT 10.15 to 11 or TensorRT-RTX.

Types come from the graph alone. Both libraries keep them ("strongly typed"), so nothing here
chooses a precision. What a library read is checked by the names and types of its ends and its
plugins, which weights do not change: a bad network has none of these faults.
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

from srflow_export.engines.graphs import Graph, Shape, convert_for_plugins
from srflow_export.engines.requests import EngineRequest
from srflow_export.progress import Say
from srflow_sdk.errors import ExportError

logger = logging.getLogger(__name__)

# a full-size graph takes seconds with TensorRT-RTX, and many minutes with TensorRT
_SAY_EVERY_S = 10.0
_TYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}

# of TensorFormat, each alone
_LINEAR = 1 << 0
_HWC8 = 1 << 2


def build_engine(
    trt: Any,
    graph: Graph,
    shapes: Mapping[str, tuple[Shape, Shape, Shape]],
    request: EngineRequest,
    *,
    plugins: bool = False,
    say: Say = lambda _: None,
) -> bytes:
    """Build an engine, after checking that the library read the graph correctly.

    shapes: see :meth:`Graph.input_shapes`. plugins: the graph's flow operations must become
    plugins, whose library is loaded. `say` is called from the caller's thread. KeyboardInterrupt
    stops the build at its next step.

    Raises: ExportError, with the library's own message, if it cannot read the graph, reads
    something else than was exported, or cannot build it.
    """
    name = graph.name
    log = build_logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, log)  # the network needs it for as long as it lives
    model = convert_for_plugins(graph.model) if plugins else graph.model
    if not parser.parse(model.SerializeToString()):
        raise ExportError(
            f"{name}: {trt.__name__} {trt.__version__} cannot read the graph: "
            f"{_join_errors(parser) or log.summarise()}; export the checkpoint again with this "
            "srflow-sdk, or use another version of the library"
        )
    check_network(trt, network, graph, plugins=plugins)
    _set_formats(network)
    config = builder.create_builder_config()
    _configure(trt, config, request)
    profile = builder.create_optimization_profile()
    for tensor_name, sizes in shapes.items():
        profile.set_shape(tensor_name, *sizes)
    if config.add_optimization_profile(profile) < 0:
        raise ExportError(
            f"{name}: {trt.__name__} {trt.__version__} does not accept these sizes: "
            f"{log.summarise()}; choose others with --shapes"
        )
    monitor = build_monitor(trt)
    config.progress_monitor = monitor
    start = time.monotonic()
    plan = _build_in_background(
        lambda: builder.build_serialized_network(network, config),
        monitor,
        name=name,
        say=say,
    )
    if plan is None:
        raise ExportError(
            f"{name}: {trt.__name__} {trt.__version__} cannot build it: "
            f"{log.summarise() or 'it gives no reason'}; other or smaller --shapes may work, or "
            "closing other programs that use the GPU"
        )
    engine = bytes(plan)
    say(f"{name}: built in {time.monotonic() - start:.0f} s, {len(engine) / 1e6:.1f} MB")
    return engine


def _set_formats(network: Any) -> None:
    """Make the ends linear, and couplings as convolutions write and read them.

    Linear, as the runtime has room for what a shape says, and HWC8 pads channels. A linear coupling
    of 16 bits would be copied for every sample.
    """
    for tensor in chain(*_ends(network)):
        is_half_coupling = tensor.name.endswith("_coupling") and tensor.dtype.itemsize == 2
        vectors = is_half_coupling and tensor.shape[1] % 8 == 0
        tensor.allowed_formats = _HWC8 if vectors else _LINEAR


def _ends(network: Any) -> tuple[list[Any], list[Any]]:
    """Return a network's inputs and outputs."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    return inputs, [network.get_output(index) for index in range(network.num_outputs)]


def _network_flags(trt: Any) -> int:
    """Ask for strong typing; versions without the flag have no other kind of network."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _join_errors(parser: Any) -> str:
    """Join the errors of a parser to one line."""
    return "; ".join(map(_describe_error, map(parser.get_error, range(parser.num_errors))))


def _describe_error(error: Any) -> str:
    operator = error.node_operator()
    node = error.node_name()
    return (
        f"{error.desc()} (operator {operator}, node {node})"
        if node or operator
        else str(error.desc())
    )


def _configure(trt: Any, config: Any, request: EngineRequest) -> None:
    if request.sms:
        config.num_compute_capabilities = len(request.sms)
    for index, sm in enumerate(request.sms):
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{sm}"), index)
    if request.level is not None:
        config.builder_optimization_level = request.level
    # TF32 is on by default; it computes float32 convolutions with the ten mantissa bits of half
    # precision.
    config.clear_flag(trt.BuilderFlag.TF32)


def _build_in_background(build: Callable[[], Any], monitor: Any, *, name: str, say: Say) -> Any:
    """Run the build in another thread, and report its progress from this one.

    Python delivers signals to the main thread: a KeyboardInterrupt raised inside the library's
    callbacks would be swallowed there, and the build would go on for minutes.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(build)
        start = time.monotonic()
        try:
            while not concurrent.futures.wait([future], timeout=_SAY_EVERY_S).done:
                say(f"{name}: building for {time.monotonic() - start:.0f} s")
            return future.result()
        except BaseException:
            monitor.stopped.set()
            raise


def build_monitor(trt: Any) -> Any:
    """A `trt.IProgressMonitor` that ends the build at its next step once `stopped` is set."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.stopped = threading.Event()

        def phase_start(self, _phase: str, _parent: str | None, _steps: int) -> None:
            pass

        def step_complete(self, _phase: str, _step: int) -> bool:
            return not self.stopped.is_set()

        def phase_finish(self, _phase: str) -> None:
            pass

    return Monitor()


def build_logger(trt: Any) -> Any:
    """Make a `trt.ILogger` that keeps errors for `summarise()`.

    It sends all but verbose messages to :mod:`logging` as debug.
    """
    severity = trt.ILogger.Severity

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self._errors: list[str] = []
            self._warnings: list[str] = []

        def log(self, level: Any, message: str) -> None:
            if level in (severity.INTERNAL_ERROR, severity.ERROR):
                self._errors.append(message)
            elif level == severity.WARNING:
                self._warnings.append(message)
            if level != severity.VERBOSE:
                logger.debug("%s: %s", level.name, message)

        def summarise(self) -> str:
            """The first errors, or warnings if there are no errors, in one line."""
            return "; ".join(
                " ".join(line.split()) for line in (self._errors or self._warnings)[:3]
            )

    return Logger()


def check_network(trt: Any, network: Any, graph: Graph, *, plugins: bool = False) -> None:
    """Check that a parsed network has the graph's ends and plugins. Raises: ExportError."""
    layers = map(network.get_layer, range(network.num_layers))
    plugin_layers = sum(layer.type.name == "PLUGIN_V3" for layer in layers)
    parsed: dict[str, str | int] = {"plugins": plugin_layers}
    wanted: dict[str, str | int] = {"plugins": graph.flow_nodes if plugins else 0}
    for end, tensors, expected in zip(
        ("input", "output"), _ends(network), graph.types(), strict=True
    ):
        parsed |= {f"{end} {tensor.name}": _type_name(tensor.dtype) for tensor in tensors}
        wanted |= {f"{end} {name}": type_ for name, type_ in expected.items()}
    faults = [
        f"{name}: {parsed.get(name, 'none')} instead of {wanted.get(name, 'none')}"
        for name in dict.fromkeys((*wanted, *parsed))
        if parsed.get(name) != wanted.get(name)
    ]
    if faults:
        raise ExportError(
            f"{graph.name}, as {trt.__name__} reads it, is not the graph that was exported: "
            f"{'; '.join(faults)}; export the checkpoint again with --precision "
            f"{graph.precision}, or use another version of the library"
        )


def _type_name(dtype: Any) -> str:
    """Return numpy's name of a `trt.DataType`, such as "float16"; of others in lower case."""
    return _TYPES.get(dtype.name, str(dtype.name).lower())
