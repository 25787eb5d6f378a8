"""Everything that can decode, with one signature, so that any two can be compared.

A :data:`Runner` is opened with `with runner() as infer`, which loads it, so that only one large
model at a time is in memory. `infer` takes `lr` 1×3×h×w, `noise_level{ℓ}` N×C×H/2^ℓ×W/2^ℓ and `tau`
[N], and gives `sr` N×3×H×W and, if it can, `level{ℓ}_decoded`, what the levels L … 2 decode to; all
float32.

ONNX Runtime has hardly any half-precision operators for CPUs: it casts to float32, computes there,
and rounds nothing in between, so a graph that overflows in half looks flawless.
:func:`round_as_on_gpus` rounds every value that a graph declares as float16 or bfloat16 after its
operator. The operators themselves work in float32, like the matrix units of GPUs, which multiply in
half and add in float32. Fused kernels round less often, so this is the stricter test.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, inliner, shape_inference
from polygraphy import config
from polygraphy.backend.onnxrt import OnnxrtRunner
from torch.utils._python_dispatch import TorchDispatchMode

from srflow_export import onnx_models
from srflow_export.graphs import decoded_names, noise_names, parse_level
from srflow_export.parity.photographs import Array
from srflow_sdk.backends import Backend
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import EngineRecord
from srflow_sdk.model.manifest import REQUIRED_FILES
from srflow_training.model import SRFlow

Infer = Callable[[Mapping[str, Array]], Mapping[str, Array]]
Runner = Callable[[], AbstractContextManager[Infer]]

Arithmetic = Literal["fp32", "fp64", "half weights", "fp16", "bf16"]
"""The arithmetic of the torch network, on the CPU: as a whole, with its weights rounded to half, or
by autocast, which rounds what graphs of that precision round."""

_SUMMING = (
    torch.ops.aten.convolution.default,
    torch.ops.aten.mm.default,
    torch.ops.aten.bmm.default,
)
"""Torch's operators that multiply and add in half precision."""

_HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
# Operators that only move rounded values, or take the larger of two.
_MOVING = {
    "Concat",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "MaxPool",
    "Pad",
    "Relu",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
}


@contextmanager
def compute_in(model: SRFlow, arithmetic: Arithmetic) -> Iterator[tuple[SRFlow, torch.dtype]]:
    """The network in an arithmetic, and the type of what it is given; without gradients."""
    with torch.no_grad():
        if arithmetic == "fp64":
            yield copy.deepcopy(model).double(), torch.float64
        elif arithmetic == "half weights":
            yield copy.deepcopy(model).half().float(), torch.float32
        elif arithmetic == "fp32":
            yield model, torch.float32
        else:
            half = torch.float16 if arithmetic == "fp16" else torch.bfloat16
            with torch.autocast("cpu", dtype=half), _SumInFloat32():  # type: ignore[no-untyped-call]
                yield model, torch.float32


class _SumInFloat32(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's has no types
    """Convolve and multiply values in half precision as GPUs do: add in float32, then round.

    Few CPUs have arithmetic in half precision; there, torch's own operators take ten times as long.
    """

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func not in _SUMMING or args[0].dtype == torch.float32:
            return func(*args, **(kwargs or {}))
        wide = [value.float() if isinstance(value, torch.Tensor) else value for value in args]
        return func(*wide).to(args[0].dtype)


def make_torch_runner(model: SRFlow, arithmetic: Arithmetic = "fp32") -> Runner:
    """Run the torch network: in float32 as the reference, otherwise as its own rounded twin."""

    @contextmanager
    def runner() -> Iterator[Infer]:
        with compute_in(model, arithmetic) as (network, dtype):

            def infer(feed: Mapping[str, Array]) -> Mapping[str, Array]:
                given = {name: torch.from_numpy(value).to(dtype) for name, value in feed.items()}
                tau = given["tau"][:, None, None, None]
                latents = {
                    parse_level(name): tau * given[name] for name in noise_names(model.config)
                }
                decoded = network.decoded_levels(network.condition(given["lr"]), latents)
                names = {name: parse_level(name) for name in decoded_names(model.config)} | {
                    "sr": 1
                }
                return {name: decoded[level].numpy() for name, level in names.items()}

            yield infer

    return runner


def make_backend_runner(open_one: Callable[[], Backend]) -> Runner:
    """Run a bundle on one of the SDK's devices, sample by sample; it gives only `sr`."""

    @contextmanager
    def runner() -> Iterator[Infer]:
        backend = open_one()

        def infer(feed: Mapping[str, Array]) -> Mapping[str, Array]:
            conditioning = backend.encode(feed["lr"])
            noise = {
                parse_level(name): value
                for name, value in feed.items()
                if name.startswith("noise_level")
            }
            images = [
                backend.sample(
                    conditioning,
                    {level: part[i : i + 1] for level, part in noise.items()},
                    float(tau),
                )
                for i, tau in enumerate(feed["tau"])
            ]
            return {"sr": np.concatenate(images)}

        try:
            yield infer
        finally:
            backend.deactivate()

    return runner


def make_graphs_runner(bundle: Bundle, *names: str, rounded: bool = False) -> Runner:
    """A bundle's graphs on ONNX Runtime's CPU provider; see :func:`load_graph`."""

    @contextmanager
    def runner() -> Iterator[Infer]:
        content = load_graph(bundle, *names, rounded=rounded).SerializeToString()
        session = partial(onnxruntime.InferenceSession, content, providers=["CPUExecutionProvider"])
        with OnnxrtRunner(session) as opened:
            yield opened.infer

    return runner


def make_engines_runner(bundle: Bundle, record: EngineRecord) -> Runner:
    """A bundle's TensorRT engines alone: without the SDK's latents, copies and CUDA graphs.

    It takes as many samples at once as they do, 4, and gives only `sr`.
    """

    @contextmanager
    def runner() -> Iterator[Infer]:
        config.USE_TENSORRT_RTX = record.runtime == "tensorrt_rtx"  # for what is imported next
        from polygraphy.backend.trt import EngineFromBytes, TrtRunner

        with ExitStack() as stack:
            encoder, sampler = (
                stack.enter_context(
                    TrtRunner(
                        EngineFromBytes(bundle.file(name).read_bytes()),
                        allocation_strategy="runtime",
                    )
                )
                for name in (record.encoder, record.sampler)
            )

            def infer(feed: Mapping[str, Array]) -> Mapping[str, Array]:
                conditioning = encoder.infer({"lr": feed["lr"]}, copy_outputs_to_host=False)
                rest = {name: value for name, value in feed.items() if name != "lr"}
                # its buffer is used again
                return {"sr": sampler.infer({**conditioning, **rest})["sr"].copy()}

            yield infer

    return runner


def load_graph(bundle: Bundle, *names: str, rounded: bool = False) -> onnx.ModelProto:
    """A bundle's graphs as one, with the levels' outputs.

    names: an encoder and what is joined to it, a sampler or an inverter; or a fused graph; by
    default the required files. rounded: compute as GPUs do in half precision.
    """
    *encoders, last = (onnx.load(bundle.file(name)) for name in names or REQUIRED_FILES)
    proto = onnx_models.join(encoders[0], last) if encoders else last
    return onnx_models.add_decoded_levels(round_as_on_gpus(proto) if rounded else proto)


def round_as_on_gpus(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite a graph with float32 operators, with values rounded to half where the graph says so.

    Model-local functions are inlined.
    Raises: onnx.shape_inference.InferenceError if types cannot be inferred.
    """
    flat = inliner.inline_local_functions(proto)
    graph = shape_inference.infer_shapes(flat, strict_mode=True).graph
    types = {weight.name: weight.data_type for weight in graph.initializer}
    values = (*graph.value_info, *graph.input, *graph.output)
    types |= {value.name: value.type.tensor_type.elem_type for value in values}
    onnx_models.convert_to_float32(flat)
    nodes = [rounded for node in flat.graph.node for rounded in _add_rounding(node, types)]
    del flat.graph.node[:], flat.graph.value_info[:]
    flat.graph.node.extend(nodes)
    return flat


def _add_rounding(node: onnx.NodeProto, types: dict[str, int]) -> Iterator[onnx.NodeProto]:
    """The node, and a rounding behind each of its outputs that is in half."""
    half = (
        []
        if node.op_type in _MOVING
        else [name for name in node.output if types.get(name) in _HALF]
    )
    node.output[:] = [f"{name}.exact" if name in half else name for name in node.output]
    yield node
    for name in half:
        yield helper.make_node("Cast", [f"{name}.exact"], [f"{name}.half"], to=types[name])
        yield helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT)
