"""Holds what a bundle's graphs declare and return to its manifest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.drawing.tiles import padded_size
from srflow_sdk.errors import BundleError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_shapes import shape_of
from srflow_sdk.model.graph_sizes import Declared, Graph, Shape, SizeError, cost_of
from srflow_sdk.model.graph_structure import read_graph, refusal
from srflow_sdk.model.manifest import INT8_ENCODER, Manifest

_SIDE = 256  # of the LR image for which the cost of a run is computed: what grows faster than the image shows
# The largest networks of srflow-train hold 3 times as much and need 2e8; a tiny one unshuffled by 4 holds 16 times.
_MAX_HELD, _MAX_WORK = 32, 1_000_000_000
_HALF = {"fp16": "float16", "bf16": "bfloat16"}
_FIX = "fetch or export the bundle again"
_Tensors = Mapping[str, Declared]


def check_graphs(bundle: Bundle, graphs: tuple[str, str]) -> dict[str, Declared]:
    """Check the files of an encoder and a sampler before a runtime loads them.

    Returns what the encoder gives and the sampler takes, by name. Raises: BundleError, naming the field.
    """
    manifest = bundle.manifest
    encoder, sampler = (read_graph(bundle.file(name)) for name in graphs)
    precision = manifest.precision
    quantised = graphs[0] == INT8_ENCODER or (precision == "int8" and graphs != manifest.float32_graphs)
    if quantised != (encoder.ops["QuantizeLinear"] > 0):
        found = "is not" if quantised else "is"
        raise BundleError(f"{bundle.path}: precision is {precision}, but {graphs[0]} {found} quantised; {_FIX}")
    kind = "float32" if graphs == manifest.float32_graphs else _HALF.get(precision, "float32")
    conditioning = {name: _tensor(_channels(value), kind) for name, value in encoder.outputs.items()}
    noise = {f"noise_level{entry.level}": _tensor(entry.channels) for entry in manifest.latent_levels}
    _check(bundle, graphs[0], encoder, takes={"lr": _tensor(3)}, gives=conditioning)
    tau = {"tau": Declared("float32", (None,))}
    _check(bundle, graphs[1], sampler, takes={**conditioning, **noise, **tau}, gives={"sr": _tensor(3)})
    shapes = _at_size(manifest, conditioning, graphs[0])
    nbytes = round((2 if precision in _HALF else 4) * sum(map(math.prod, shapes.values())) / _side(manifest) ** 2)
    if nbytes != manifest.conditioning_bytes_per_pixel:
        raise BundleError(
            f"{bundle.path}: conditioning_bytes_per_pixel is {manifest.conditioning_bytes_per_pixel}, but "
            f"{graphs[0]} has {nbytes}; {_FIX}"
        )
    return conditioning


def check_inverter(bundle: Bundle, name: str, conditioning: _Tensors) -> None:
    """Check an inverter's file before a runtime loads it. conditioning: from :func:`check_graphs`.

    Raises: BundleError.
    """
    latents = {f"latent_level{entry.level}": _tensor(entry.channels) for entry in bundle.manifest.latent_levels}
    gives = {**latents, "log_density": _tensor(1)}
    _check(bundle, name, read_graph(bundle.file(name)), takes={**conditioning, "hr": _tensor(3)}, gives=gives)


def _tensor(channels: int, kind: str = "float32") -> Declared:
    return Declared(kind, (None, channels, None, None))


def _channels(value: Declared) -> int:
    """A picture's channels; 1 for what is none, so that it is refused."""
    channels = value.shape[1] if len(value.shape) == 4 else None
    return 1 if channels is None else channels


def _check(bundle: Bundle, name: str, graph: Graph, *, takes: _Tensors, gives: _Tensors) -> None:
    """Check a graph's inputs and outputs, and what a run would take for an LR image of 256 pixels a side."""
    manifest, path, wanted = bundle.manifest, bundle.file(name), {**takes, **gives}
    declared = {**graph.inputs, **graph.outputs}
    if odd := sorted({*takes} ^ {*graph.inputs} | {*gives} ^ {*graph.outputs}):
        raise BundleError(
            f"{bundle.path}: {name} and the others do not fit together ({', '.join(odd)}); export the bundle again"
        )
    for tensor, need in wanted.items():
        if declared[tensor] != need:
            raise BundleError(
                f"{bundle.path}: {name} declares {tensor} as {declared[tensor]}, where precision {manifest.precision}, "
                f"the manifest's levels and the other graphs need {need}; {_FIX}"
            )
    # Sides as they must be, which what the encoder returns is held to later: others are not to blame for its own.
    side, inputs = _side(manifest), _at_size(manifest, takes, name)
    try:
        cost = cost_of(graph, inputs)
    except SizeError as error:
        raise refusal(path, f"at the sizes that the manifest names, {error}") from error
    given = sum(math.prod(shape) for shape in (*inputs.values(), *cost.shapes.values()))
    if cost.numbers > _MAX_HELD * given:
        raise refusal(path, f"it would hold {cost.numbers / given:.0f} times as much as it takes and gives")
    if cost.work > _MAX_WORK * side**2:
        raise refusal(path, f"it would need {cost.work / side**2:.0e} multiplications for each pixel")
    for tensor, need in gives.items():
        if len(shape := cost.shapes[tensor]) != 4 or shape[1] != need.shape[1]:
            raise refusal(path, f"it makes {tensor} of {_sizes(shape)} for an image of {side}×{side}")


def _side(manifest: Manifest) -> int:
    return padded_size(_SIDE, manifest.size_multiple)


def _at_size(manifest: Manifest, tensors: _Tensors, graph: str) -> dict[str, Shape]:
    """Their shapes for an LR image of so many pixels a side."""
    size = 2 * (_side(manifest),)
    return {
        name: shape_of(name, tensor.shape, size, scale=manifest.scale, graph=graph) for name, tensor in tensors.items()
    }


def check_conditioning(
    manifest: Manifest, shapes: Mapping[str, Sequence[int]], *, batch: int, height: int, width: int
) -> None:
    """Check the shapes that an encoder returned for `batch` LR images of height×width. Raises: BundleError."""
    for name, shape in shapes.items():
        channels, size = shape[1], (height, width)
        expected = (batch, *shape_of(name, (1, channels, 1, 1), size, scale=manifest.scale, graph="the encoder")[1:])
        if tuple(shape) != expected:
            raise BundleError(
                f"the encoder returned {name} of {_sizes(shape)}, where scale {manifest.scale} and its level need "
                f"{_sizes(expected)}; {_FIX}"
            )


def check_sr(sr: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Check what a sampler returned for latents of pictures of this shape. Raises: BundleError."""
    _check_returned("sampler", "sr", sr, shape)


def check_inverted(
    latents: Mapping[int, NDArray[Any]], log_density: NDArray[Any], hr: NDArray[np.float32], *, scale: int
) -> None:
    """Check what an inverter returned for HR images, N×3×H×W. Raises: BundleError."""
    batch, _, height, width = hr.shape
    found = {f"latent_level{level}": (array, 1 << level) for level, array in latents.items()}
    for name, (array, factor) in {**found, "log_density": (log_density, scale)}.items():
        channels = array.shape[1] if array.ndim == 4 else 1
        _check_returned("inverter", name, array, (batch, channels, height // factor, width // factor))


def _check_returned(graph: str, name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    found, need = Declared(str(array.dtype), array.shape), Declared("float32", shape)
    if found != need:
        raise BundleError(f"the {graph} returned {name} as {found}, where the manifest's scale needs {need}; {_FIX}")


def _sizes(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "no dimensions"
