"""TensorRT and TensorRT-RTX over a FakeGpu: an engine is an ONNX graph that ONNX Runtime computes
in "device" memory.

Public names are the libraries' own, checked against the real TensorRT-RTX in
test_tensorrt_surface.py. What the libraries leave undefined fails here; what they refuse, they
refuse here with a line in the log.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import types
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from srflow_export.bundle_writer import staged_bundle
from srflow_sdk._version import __version__
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import EngineRecord, LrProfile
from srflow_sdk.system.local_files import file_sha256

from ..tiny_bundle import LEVELS, SCALE, tiny_manifest
from .fake_gpu import FakeGpu

VERSION = {"tensorrt": "11.1.0.106", "tensorrt_rtx": "1.7.1.116"}
PROFILE = LrProfile(min=(20, 20), opt=(40, 40), max=(64, 64))
_MAGIC = b"FAKE ENGINE\n"
_WITH_PLUGINS = b"FAKE ENGINE WITH PLUGINS\n"
_ACTIVATIONS = 200  # bytes for each element of the first input
_TYPES = {"tensor(float)": ("FLOAT", np.float32), "tensor(float16)": ("HALF", np.float16)}


class Dims(tuple[int, ...]):
    pass


class _Named:
    def __init__(self, name, itemsize=0):
        self.name = name
        self.itemsize = itemsize


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def log(self, severity, msg):
        raise NotImplementedError


class ExecutionContextAllocationStrategy:
    USER_MANAGED = "user managed"


class CudaGraphStrategy:
    WHOLE_GRAPH_CAPTURE = "whole graph capture"


class IRuntimeCache:
    def __init__(self):
        self._kernels = b"compiled"

    def serialize(self):
        return self._kernels

    def deserialize(self, blob):
        if not blob.startswith(b"compiled"):
            return False
        self._kernels = blob + b" again"
        return True


class IRuntimeConfig:
    cuda_graph_strategy = "disabled"
    _strategy = "static"
    _cache: IRuntimeCache | None = None

    def set_execution_context_allocation_strategy(self, strategy):
        self._strategy = strategy

    def create_runtime_cache(self):
        return IRuntimeCache()

    def set_runtime_cache(self, cache):
        self._cache = cache
        return True


class IExecutionContext:
    def __init__(self, engine):
        self._engine = engine
        self._gpu = engine._gpu
        self._log = engine._log
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._memory = (0, 0)
        self._version = 0  # of all that a graph captures
        # the version that was enqueued, with all that the library does at the first time
        self._ready = -1
        self._stream_in_use: int | None = None
        self._busy = threading.Lock()

    def set_input_shape(self, name, shape):
        low, _, high = self._engine._profile[name]
        fits = len(shape) == len(low) and all(
            a <= b <= c for a, b, c in zip(low, shape, high, strict=True)
        )
        if not fits:
            self._log.log(
                ILogger.ERROR, f"setInputShape: {name} of {shape} is outside {low} … {high}"
            )
            return False
        self._version += 1
        self._shapes[name] = tuple(shape)
        return True

    def infer_shapes(self):
        missing = [name for name in self._engine._inputs if name not in self._shapes]
        if not missing:
            self._engine._output_shapes(self._shapes)
        return missing

    def get_tensor_shape(self, name):
        if name in self._shapes:
            return Dims(self._shapes[name])
        return Dims(self._engine._output_shapes(self._shapes)[name])

    def update_device_memory_size_for_shapes(self):
        return _ACTIVATIONS * int(np.prod(next(iter(self._shapes.values()))))

    def set_device_memory(self, memory, size):
        self._version += 1
        self._memory = (memory, size)

    def set_tensor_address(self, name, memory):
        if memory % 256:
            self._gpu.violated(f"{name} is not aligned")
        self._version += 1
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle):
        if not self._busy.acquire(blocking=False):
            self._gpu.violated("two threads use one execution context")
        try:
            return self._execute(stream_handle)
        finally:
            self._busy.release()

    def _execute(self, stream):
        runtime = self._engine._runtime
        capturing = self._gpu.capturing(stream)
        version = self._version
        if runtime._rendezvous is not None and self._ready < 0:
            runtime._rendezvous.wait(timeout=20)
        if runtime._failure:
            self._log.log(ILogger.ERROR, runtime._failure)
            return False
        names = {*self._engine._inputs, *self._engine._outputs}
        for what, wrong in {
            "an execution context is used on two streams at once": self._stream_in_use
            not in (None, stream),
            "shapes or addresses are not set": {*self._shapes} != {*self._engine._inputs}
            or {*self._addresses} != names,
            "the activations do not fit the memory": self._memory[1]
            < self.update_device_memory_size_for_shapes(),
            "what is not ready is captured": capturing
            and (self._ready != version or self._engine._own_graphs),
        }.items():
            if wrong:
                self._gpu.violated(what)

        def work():
            if version != self._version:
                self._gpu.violated(
                    "a graph runs whose execution context was changed after the capture"
                )
            self._compute()
            self._stream_in_use = None

        self._gpu.put(stream, work)
        if not capturing:
            self._ready = version
            self._stream_in_use = stream
        return True

    def _compute(self):
        engine = self._engine
        gpu = self._gpu
        gpu.view(*self._memory)[...] = 0x55  # activations: nothing else may lie there
        feeds = {}
        for name, dtype in engine._inputs.items():
            shape = self._shapes[name]
            nbytes = int(np.prod(shape)) * dtype().itemsize
            feeds[name] = gpu.view(self._addresses[name], nbytes).view(dtype).reshape(shape).copy()
        for name, value in zip(engine._outputs, engine._session.run(None, feeds), strict=True):
            gpu.view(self._addresses[name], value.nbytes)[...] = np.frombuffer(
                value.tobytes(), np.uint8
            )


class ICudaEngine:
    def __init__(self, runtime, content):
        header, _, graph = content.removeprefix(_MAGIC).partition(b"\n")
        self._runtime = runtime
        self._gpu = runtime._gpu
        self._log = runtime._logger
        self._own_graphs = runtime._own_graphs
        self._profile = json.loads(header)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
        inputs = self._session.get_inputs()
        outputs = self._session.get_outputs()
        self._inputs, self._outputs = (
            {one.name: _TYPES[one.type][1] for one in side} for side in (inputs, outputs)
        )
        self._types = {one.name: _TYPES[one.type][0] for one in (*inputs, *outputs)}
        self._known: dict[tuple[Any, ...], dict[str, tuple[int, ...]]] = {}

    @property
    def num_io_tensors(self):
        return len(self._types)

    def get_tensor_name(self, index):
        return list(self._types)[index]

    def get_tensor_mode(self, name):
        return _Named("INPUT" if name in self._inputs else "OUTPUT")

    def get_tensor_dtype(self, name):
        return _Named(self._types[name], {**self._inputs, **self._outputs}[name]().itemsize)

    def create_runtime_config(self):
        return IRuntimeConfig()

    def create_execution_context(self, strategy=None):
        if isinstance(strategy, IRuntimeConfig):
            self._runtime._configs.append(strategy)
            strategy = strategy._strategy
        assert strategy == ExecutionContextAllocationStrategy.USER_MANAGED
        self._runtime._contexts += 1
        return IExecutionContext(self)

    def _output_shapes(self, shapes):
        key = tuple(sorted(shapes.items()))
        if key not in self._known:
            zeros = {name: np.zeros(shapes[name], dtype) for name, dtype in self._inputs.items()}
            try:
                values = self._session.run(None, zeros)
            except Exception as error:
                raise RuntimeError("infer_shapes error") from error
            self._known[key] = {
                name: value.shape for name, value in zip(self._outputs, values, strict=True)
            }
        return self._known[key]


class IPluginRegistry:
    """`_loads`: what it was asked to load."""

    def __init__(self):
        self._loads: list[str] = []
        self._registered = False

    def load_library(self, plugin_path):
        """NvInferRuntimeCommon.h: "will fail and return nullptr if any of the plugins are already
        registered"."""
        self._loads.append(plugin_path)
        if self._registered:
            return None
        self._registered = True
        return object()

    def get_creator(self, type, version, plugin_namespace=""):
        known = (type, version, plugin_namespace) == ("FlowStepTail", "1", "srflow")
        return object() if known and self._registered else None


class Runtime:
    """`_failure`: what contexts log as they fail from now on. `_rendezvous`: threads meet at a
    context's first use."""

    _gpu: FakeGpu
    _own_graphs: bool
    _registry: IPluginRegistry
    _failure = ""
    _rendezvous: threading.Barrier | None = None
    _contexts = 0
    _configs: list[IRuntimeConfig]

    def __init__(self, logger):
        self._logger = logger
        type(self)._made.append(self)
        self._configs = []

    def deserialize_cuda_engine(self, serialized_engine):
        if serialized_engine.startswith(_WITH_PLUGINS):
            if not self._registry._registered:
                self._logger.log(
                    ILogger.ERROR, "IPluginRegistry::getCreator: cannot find FlowStepTail version 1"
                )
                return None
            serialized_engine = serialized_engine.replace(_WITH_PLUGINS, _MAGIC, 1)
        if not serialized_engine.startswith(_MAGIC):
            self._logger.log(
                ILogger.ERROR, "Error Code 1: Serialization\n(magic tag does not match)"
            )
            return None
        return ICudaEngine(self, serialized_engine)


def write_plugin_library(file, version=__version__, major=10, abi=2):
    """A real library with the C functions that are asked; the plugins are the registry's own. major
    0: without."""
    if shutil.which("cc") is None:
        pytest.skip("cc is not installed: apt-get install gcc")
    answers = {"srflow_tensorrt_major": major, "srflow_plugins_abi": abi} if major else {}
    source = f'const char *srflow_version(void) {{ return "{version}"; }}\n'
    source += "".join(
        f"int {name}(void) {{ return {number}; }}\n" for name, number in answers.items()
    )
    made = file.with_suffix(".made")  # not written into a file that is loaded
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(made)],
        input=source,
        text=True,
        check=True,
    )
    return made.replace(file)


def library_module(gpu, runtime):
    """`tensorrt` or `tensorrt_rtx`. Its Runtime objects are in `_made`."""
    module = types.ModuleType(runtime)
    registry = IPluginRegistry()
    rtx = runtime == "tensorrt_rtx"
    fields = {"_gpu": gpu, "_own_graphs": rtx, "_made": [], "_registry": registry}
    vars(module).update(
        __version__=VERSION[runtime],
        get_plugin_registry=lambda: registry,
        ILogger=ILogger,
        ExecutionContextAllocationStrategy=ExecutionContextAllocationStrategy,
        Runtime=type("Runtime", (Runtime,), fields),
        **({"CudaGraphStrategy": CudaGraphStrategy} if rtx else {}),
    )
    return module


def write_engine_bundle(tiny, target, *, spoil=lambda *engines: engines, **record):
    """The tiny bundle, or another one of the same levels, with engines of its graphs, its
    inverter's among them.

    spoil: what to put in place of the engines' bytes. record: fields to override.
    """
    names = [
        name for name in ("encoder.onnx", "sampler.onnx", "inverter.onnx") if (tiny / name).exists()
    ]
    graphs = {name: (tiny / name).read_bytes() for name in names}
    profile = record.get("profile", PROFILE)
    with staged_bundle(target) as stage:
        for name, content in graphs.items():
            (stage.path / name).write_bytes(content)
        (stage.path / "engines").mkdir()
        built = spoil(*(_engine(content, profile) for content in graphs.values()))
        plans = {
            name.removesuffix(".onnx"): f"engines/{name.removesuffix('.onnx')}.plan"
            for name in graphs
        }
        for plan, content in zip(plans.values(), built, strict=True):
            (stage.path / plan).write_bytes(content)
        fields = {
            "runtime": "tensorrt",
            "version": VERSION[record.get("runtime", "tensorrt")],
            "precision": "fp32",
            "compute_capabilities": ("8.9",),
            "gpu": "",
            "profile": profile,
            **plans,
            "graphs": {name: file_sha256(stage.path / name) for name in graphs},
        }
        stage.commit(tiny_manifest(engines=(EngineRecord(**{**fields, **record}),)))
    return Bundle.open(target)


def _engine(graph, profile):
    """Engine bytes with a profile for each input of the graph, as the exporter's rule has it."""
    shapes = {}
    for value in onnx.load_from_string(graph).graph.input:
        channels = value.type.tensor_type.shape.dim[1].dim_value if value.name != "tau" else 0
        found = re.match(r"(?:noise_)?level(\d+)", value.name)
        scale = SCALE / 2 ** int(found[1]) if found else {"lr": 1, "hr": SCALE}.get(value.name, 0)
        shapes[value.name] = [
            [1, channels, *(int(side * scale) for side in size)] if channels else [1]
            for size in (profile.min, profile.opt, profile.max)
        ]
    assert set(LEVELS) >= {int(name[-1]) for name in shapes if name.startswith("noise")}
    return _MAGIC + json.dumps(shapes).encode() + b"\n" + graph


def with_plugins(*engines):
    """The engines, as if built with plugins: for `spoil`."""
    return [engine.replace(_MAGIC, _WITH_PLUGINS, 1) for engine in engines]
