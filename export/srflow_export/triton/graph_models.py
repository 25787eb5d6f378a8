"""`srflow_encoder`, `srflow_sampler`, `srflow_fused` and `srflow_inverter`: a bundle's graphs as models of their own.

A GPU's config takes TensorRT engines if the bundle has some, otherwise ONNX Runtime; the CPU's takes ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from srflow_export.engines._profiles import input_shapes
from srflow_export.triton.config_text import Tensor, document, listed, parameters, quoted, tensors, warmup
from srflow_sdk._version import __version__
from srflow_sdk.backends.providers import onnxruntime
from srflow_sdk.drawing.tiles import padded_size
from srflow_sdk.errors import BundleError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import EngineRecord, LrProfile
from srflow_sdk.model.manifest import FP32_GRAPHS, INVERTER
from srflow_sdk.model.serving_config import MODEL_PARAMETER, VERSION_PARAMETER, described

Role = Literal["encoder", "sampler", "fused", "inverter"]

_SHARED = "sampler.onnx"  # it may hold the inverter's weights
_FUSED = "fused.onnx"
BATCH = 4  # tiles of ONNX Runtime's batches: at the profile's optimum one takes half of what a GPU with 8 GB has
_CPU_CORE = 64  # LR pixels a side of the tiles that the runtime uses on CPUs
# Only the CUDA accelerator's own parameters reach this option of ONNX Runtime; float32 would have ten bits otherwise.
_WITHOUT_TF32 = (
    'optimization { execution_accelerators { gpu_execution_accelerator [ { name: "cuda" '
    'parameters { key: "use_tf32" value: "0" } } ] } }'
)
_DTYPES = {"tensor(float)": "FP32", "tensor(float16)": "FP16", "tensor(bfloat16)": "BF16"}


@dataclass(frozen=True, kw_only=True)
class GraphModel:
    """One model to write. gpu, cpu: its configs. files: of the version's folder, and what to copy there."""

    name: str
    gpu: str
    cpu: str
    files: Mapping[str, Path]


@dataclass(frozen=True, kw_only=True)
class _Graph:
    """The declarations of an ONNX file: name, dtype and shape of each value, with None for what is dynamic."""

    inputs: Mapping[str, tuple[str, Sequence[int | None]]]
    outputs: Mapping[str, tuple[str, Sequence[int | None]]]


def graph_models(bundle: Bundle, suffix: str = "") -> Iterator[GraphModel]:
    """The models of all graphs that the bundle has. suffix: of their names. Raises: BundleError."""
    encoder, sampler = _pair(bundle)
    files: dict[Role, str] = {"encoder": encoder, "sampler": sampler}
    files |= {"fused": _FUSED} if _FUSED in bundle.manifest.files else {}
    if INVERTER in bundle.manifest.files and encoder == "encoder.onnx":  # it takes that encoder's types
        files["inverter"] = INVERTER
    for role, file in files.items():
        yield _model(bundle, role, file, f"srflow_{role}{suffix}")


def engines_of(bundle: Bundle) -> EngineRecord | None:
    """The engines that Triton's TensorRT backend can run: the newest of TensorRT proper."""
    return next((record for record in bundle.manifest.engines if record.runtime == "tensorrt"), None)


def _pair(bundle: Bundle) -> tuple[str, str]:
    """Encoder and sampler for ONNX Runtime, which has no convolution in bfloat16 on CPUs and few GPUs."""
    if bundle.manifest.precision == "bf16" and all(name in bundle.manifest.files for name in FP32_GRAPHS):
        return FP32_GRAPHS
    return "encoder.onnx", "sampler.onnx"


def _model(bundle: Bundle, role: Role, file: str, name: str) -> GraphModel:
    manifest = bundle.manifest
    graph = _read(bundle, file)
    files = {"model.onnx": bundle.file(file)}
    if role == "inverter":
        files |= {_SHARED: bundle.file(_SHARED)}
    side = padded_size(_CPU_CORE, manifest.size_multiple) + 2 * padded_size(manifest.halo, manifest.size_multiple)
    on_cpu = LrProfile(min=(side, side), opt=(side, side), max=(side, side))
    cpu = _config(bundle, name, graph, onnx=True, kind="KIND_CPU", profile=on_cpu)
    record = engines_of(bundle)
    engines = _engine_files(bundle, record, role) if record is not None else {}
    if record is None or not engines:
        profile = manifest.default_profile
        gpu = _config(bundle, name, graph, onnx=True, kind="KIND_GPU", profile=profile)
        return GraphModel(name=name, gpu=gpu, cpu=cpu, files=files)
    built_from = next(graph_file for graph_file in record.graphs if graph_file.startswith(f"{role}."))
    gpu = _config(
        bundle,
        name,
        _read(bundle, built_from),
        onnx=False,
        kind="KIND_GPU",
        profile=record.profile,
        engines=engines,
    )
    return GraphModel(
        name=name, gpu=gpu, cpu=cpu, files=files | {plan: bundle.file(path) for plan, path in _plans(engines)}
    )


def _engine_files(bundle: Bundle, record: EngineRecord, role: Role) -> dict[str, str]:
    """The engine of a role for each compute capability; those built earlier for other GPUs too, if sizes are equal."""
    found: dict[str, str] = {}
    for other in bundle.manifest.engines:
        alike = (other.runtime, other.precision, other.profile) == (record.runtime, record.precision, record.profile)
        file = {"encoder": other.encoder, "sampler": other.sampler, "inverter": other.inverter}.get(role, "")
        if alike and file:
            found = dict.fromkeys(other.compute_capabilities, file) | found
    return found


def _plans(engines: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names of the version's files for the engines, and those in the bundle."""
    return [(f"sm{capability.replace('.', '')}.plan", file) for capability, file in engines.items()]


def _config(
    bundle: Bundle,
    name: str,
    graph: _Graph,
    *,
    onnx: bool,
    kind: str,
    profile: LrProfile,
    engines: Mapping[str, str] | None = None,
) -> str:
    """profile: warm-up happens at its optimum; an engine's also says which sizes it takes, one image at a time."""
    backend = 'backend: "onnxruntime"' if onnx else 'platform: "tensorrt_plan"'
    files = _engine_fields(engines) if engines else ('default_model_filename: "model.onnx"',)
    own = {VERSION_PARAMETER: __version__, MODEL_PARAMETER: described(bundle)}
    # Memory plans are kept for every shape, and tiles come in several; the runtime does without them, too.
    tuned = {"enable_mem_pattern": "0"} if onnx else {}
    on_cuda = onnx and kind == "KIND_GPU"
    # 1: HEURISTIC. Without it the backend searches every convolution's algorithms anew for each shape, whatever the
    # accelerator's own parameters say (onnxruntime_backend, src/onnxruntime.cc, "Default GPU execution provider").
    tuned |= {"cudnn_conv_algo_search": "1"} if on_cuda else {}
    sized = {} if onnx else {"lr_sizes": str(profile)}
    return document(
        f"name: {quoted(name)}",
        backend,
        *files,
        f"max_batch_size: {BATCH if onnx else 1}",
        tensors("input", (_tensor(*entry) for entry in graph.inputs.items())),
        tensors("output", (_tensor(*entry) for entry in graph.outputs.items())),
        "dynamic_batching: { }",
        f"instance_group [ {{ kind: {kind} count: 1 }} ]",
        "version_policy: { latest: { num_versions: 1 } }",
        parameters(own | tuned | sized),
        _WITHOUT_TF32 if on_cuda else "",
        _warmup(bundle, graph, profile),
    )


def _engine_fields(engines: Mapping[str, str]) -> tuple[str, ...]:
    plans = _plans(engines)
    names = dict(zip(engines, (plan for plan, _ in plans), strict=True))
    entries = (f"{{ key: {quoted(capability)} value: {quoted(plan)} }}" for capability, plan in names.items())
    return f"default_model_filename: {quoted(plans[0][0])}", listed("cc_model_filenames", entries)


def _tensor(name: str, declared: tuple[str, Sequence[int | None]]) -> Tensor:
    """An input or output without its batch; tau, which is only a batch, is N×1 for the client and N for the graph."""
    dtype, shape = declared
    dims = [-1 if side is None else side for side in shape[1:]]
    return Tensor(name=name, dtype=dtype, dims=dims or [1], scalar=not dims)


def _warmup(bundle: Bundle, graph: _Graph, profile: LrProfile) -> str:
    declared = [(name, shape) for name, (_, shape) in graph.inputs.items()]
    shapes = input_shapes(declared, profile, scale=bundle.manifest.scale, graph="a graph")
    inputs = [
        (name, dtype, list(shapes[name].opt[1:]) if len(shape) > 1 else [1])
        for name, (dtype, shape) in graph.inputs.items()
    ]
    return warmup("optimum", inputs)


def _read(bundle: Bundle, file: str) -> _Graph:
    """Raises: BundleError if the graph is not one that the runtime would load."""
    path, ort = bundle.file(file), onnxruntime()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        raise BundleError(f"{path} is not a graph that ONNX Runtime can load; export the bundle again") from error
    return _Graph(inputs=_values(session.get_inputs(), path), outputs=_values(session.get_outputs(), path))


def _values(values: Sequence[object], path: Path) -> dict[str, tuple[str, Sequence[int | None]]]:
    found: dict[str, tuple[str, Sequence[int | None]]] = {}
    for value in values:
        name, kind, shape = str(getattr(value, "name", "")), getattr(value, "type", ""), getattr(value, "shape", [])
        if kind not in _DTYPES or not shape:
            raise BundleError(f"{path}: {name} is a {kind} of shape {shape}; export the bundle again")
        found[name] = _DTYPES[kind], [side if isinstance(side, int) else None for side in shape]
    return found
