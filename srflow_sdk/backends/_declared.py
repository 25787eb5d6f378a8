"""Holds what a bundle's graphs declare and return to its manifest."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.drawing.tiles import padded_size
from srflow_sdk.errors import BundleError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.graph_sizes import Shape, SizeError, Value, cost_of
from srflow_sdk.model.graph_structure import GraphStructure, read_graph, refusal
from srflow_sdk.model.manifest import INT8_ENCODER, Manifest

_Names = Sequence[str]
_SIDE = 256  # of the LR image for which the cost of a run is computed: what grows faster than the image shows
# The largest networks of srflow-train hold 3 times as much and need 2e8; a tiny one unshuffled by 4 holds 16 times.
_MAX_HELD, _MAX_WORK = 32, 1_000_000_000
_FLOAT = "tensor(float)"
_CONDITIONING = {"fp16": ("tensor(float16)", 2), "bf16": ("tensor(bfloat16)", 2)}  # type and bytes of a value
_LEVEL = re.compile(r"level([0-9]{1,2})_[a-z0-9_]+", re.ASCII)
_FIX = "fetch or export the bundle again"


def check_structure(bundle: Bundle, graphs: tuple[str, str]) -> None:
    """Check the files of an encoder and a sampler before a runtime loads them. Raises: BundleError."""
    encoder, sampler = (read_graph(bundle.file(name)) for name in graphs)
    precision = bundle.manifest.precision
    quantised = graphs[0] == INT8_ENCODER or (precision == "int8" and graphs != bundle.manifest.float32_graphs)
    if quantised != (encoder.ops["QuantizeLinear"] > 0):
        found = "is not" if quantised else "is"
        raise BundleError(f"{bundle.path}: precision is {precision}, but {graphs[0]} {found} quantised; {_FIX}")
    _check_fit(bundle, (encoder.inputs, encoder.outputs), (sampler.inputs, sampler.outputs))
    manifest = bundle.manifest
    side = padded_size(_SIDE, manifest.size_multiple)
    lr = {"lr": (1, 3, side, side)}
    made = _check_cost(bundle.file(graphs[0]), encoder, lr, side=side)
    # Its sides as they must be, which what it returns is held to later: the sampler is not to blame for others.
    conditioning = {
        name: (1, shape[1], *2 * (manifest.scale * side >> _level(name),)) if len(shape) == 4 else shape
        for name, shape in made.items()
    }
    noise = {
        f"noise_level{entry.level}": (1, entry.channels, *2 * (manifest.scale * side >> entry.level,))
        for entry in manifest.latent_levels
    }
    _check_cost(bundle.file(graphs[1]), sampler, {**conditioning, **noise, "tau": (1,)}, side=side)


def check_inverter_structure(bundle: Bundle, name: str, encoder: Any) -> None:
    """Check an inverter's file before a runtime loads it. encoder: its encoder's session. Raises: BundleError."""
    manifest = bundle.manifest
    side = padded_size(_SIDE, manifest.size_multiple)
    inputs = {
        value.name: (1, value.shape[1], *2 * (manifest.scale * side >> _level(value.name),))
        for value in encoder.get_outputs()
    }
    hr = (1, 3, *2 * (manifest.scale * side,))
    inverter = read_graph(bundle.file(name))
    if {*inverter.inputs} != {*inputs, "hr"}:
        raise BundleError(f"{bundle.path}: {name} does not fit the encoder; {_FIX}")
    _check_cost(bundle.file(name), inverter, {**inputs, "hr": hr}, side=side)


def _check_fit(bundle: Bundle, encoder: tuple[_Names, _Names], sampler: tuple[_Names, _Names]) -> None:
    """Check the names of what two graphs take and give."""
    wanted = {*encoder[1], "tau", *(f"noise_level{entry.level}" for entry in bundle.manifest.latent_levels)}
    if [*encoder[0]] != ["lr"] or wanted != {*sampler[0]} or [*sampler[1]] != ["sr"]:
        odd = ", ".join(sorted(wanted ^ {*sampler[0]})) or "lr or sr"
        raise BundleError(f"{bundle.path}: encoder and sampler do not fit together ({odd}); export the bundle again")


def _check_cost(path: Path, graph: GraphStructure, inputs: Mapping[str, Shape], *, side: int) -> dict[str, Shape]:
    """Check what a run would take for an LR image of side×side pixels, and return the shapes of its results."""
    values = {**graph.weights, **{name: Value(shape=shape) for name, shape in inputs.items()}}
    try:
        cost = cost_of(graph.nodes, graph.functions, values, graph.outputs)
    except SizeError as error:
        raise refusal(path, f"at the sizes that the manifest names, {error}") from error
    given = sum(math.prod(shape) for shape in (*inputs.values(), *cost.shapes.values()))
    if cost.numbers > _MAX_HELD * given:
        raise refusal(path, f"it would hold {cost.numbers / given:.0f} times as much as it takes and gives")
    if cost.work > _MAX_WORK * side**2:
        raise refusal(path, f"it would need {cost.work / side**2:.0e} multiplications for each pixel")
    return cost.shapes


def check_declared(bundle: Bundle, graphs: tuple[str, str], encoder: Any, sampler: Any) -> None:
    """Check that the sessions of two graphs fit each other and the manifest. Raises: BundleError, naming the field."""
    manifest = bundle.manifest
    conditioning = {output.name: output for output in encoder.get_outputs()}
    found = {value.name: value for value in sampler.get_inputs()}
    results = {value.name: value for value in sampler.get_outputs()}
    _check_fit(bundle, ([value.name for value in encoder.get_inputs()], [*conditioning]), ([*found], [*results]))

    def hold(graph: str, value: Any, kind: str, shape: tuple[int | None, ...], field: str) -> None:
        if value.type != kind or not _fits(value.shape, shape):
            raise BundleError(
                f"{bundle.path}: {graph} declares {value.name} as {_described(value.type, value.shape)}, where "
                f"{field} needs {_described(kind, shape)}; {_FIX}"
            )

    is_half = manifest.precision in _CONDITIONING and graphs != manifest.float32_graphs
    kind, _ = _CONDITIONING[manifest.precision] if is_half else (_FLOAT, 4)
    colours = (None, 3, None, None)
    hold(graphs[0], encoder.get_inputs()[0], _FLOAT, colours, "an encoder")
    for name, output in conditioning.items():
        channels = output.shape[1] if len(output.shape) == 4 and isinstance(output.shape[1], int) else 1
        for graph, value in ((graphs[0], output), (graphs[1], found[name])):
            hold(graph, value, kind, (None, channels, None, None), f"precision {manifest.precision}")
    for entry in manifest.latent_levels:
        hold(graphs[1], found[f"noise_level{entry.level}"], _FLOAT, (None, entry.channels, None, None), "latent_levels")
    hold(graphs[1], found["tau"], _FLOAT, (None,), "a sampler")
    hold(graphs[1], results["sr"], _FLOAT, colours, "a sampler")
    nbytes = _bytes_per_pixel(manifest, {name: output.shape[1] for name, output in conditioning.items()})
    if nbytes != manifest.conditioning_bytes_per_pixel:
        raise BundleError(
            f"{bundle.path}: conditioning_bytes_per_pixel is {manifest.conditioning_bytes_per_pixel}, but "
            f"{graphs[0]} has {nbytes}; {_FIX}"
        )


def check_inverter(bundle: Bundle, name: str, encoder: Any, inverter: Any) -> None:
    """Check that an inverter's session fits the encoder's and the manifest. Raises: BundleError."""
    manifest = bundle.manifest
    wanted = {value.name: (value.type, value.shape[1]) for value in encoder.get_outputs()}
    results = {f"latent_level{entry.level}": (_FLOAT, entry.channels) for entry in manifest.latent_levels}
    wanted |= {"hr": (_FLOAT, 3), **results, "log_density": (_FLOAT, 1)}
    given = {value.name: value for value in (*inverter.get_inputs(), *inverter.get_outputs())}
    for odd in sorted({*wanted} ^ {*given}):
        raise BundleError(f"{bundle.path}: encoder and {name} do not fit together ({odd}); {_FIX}")
    for tensor, (kind, channels) in wanted.items():
        value, shape = given[tensor], (None, channels, None, None)
        if value.type != kind or not _fits(value.shape, shape):
            raise BundleError(
                f"{bundle.path}: {name} declares {tensor} as {_described(value.type, value.shape)}, where the manifest "
                f"and the encoder need {_described(kind, shape)}; {_FIX}"
            )


def check_conditioning(
    manifest: Manifest, shapes: Mapping[str, Sequence[int]], *, batch: int, height: int, width: int
) -> None:
    """Check the shapes that an encoder returned for `batch` LR images of height×width. Raises: BundleError."""
    for name, shape in shapes.items():
        level = _level(name)
        expected = (batch, *(manifest.scale * side >> level for side in (height, width)))
        if (shape[0], *shape[2:]) != expected:
            expected = (batch, shape[1], *expected[1:])
            raise BundleError(
                f"the encoder returned {name} of {_sizes(shape)}, where scale {manifest.scale} and its level need "
                f"{_sizes(expected)}; {_FIX}"
            )


def check_sr(sr: NDArray[Any], noise: Mapping[int, NDArray[np.float32]]) -> None:
    """Check what a sampler returned for this noise, by level. Raises: BundleError."""
    level, drawn = next(iter(noise.items()))
    batch, _, height, width = drawn.shape
    expected = (batch, 3, height << level, width << level)
    if sr.shape != expected or sr.dtype != np.float32:
        raise BundleError(
            f"the sampler returned sr as {_described(str(sr.dtype), sr.shape)}, where the manifest's scale needs "
            f"{_described('float32', expected)}; {_FIX}"
        )


def check_inverted(
    latents: Mapping[int, NDArray[Any]], log_density: NDArray[Any], hr: NDArray[np.float32], *, scale: int
) -> None:
    """Check what an inverter returned for HR images, N×3×H×W. Raises: BundleError."""
    batch, _, height, width = hr.shape
    found = {f"latent_level{level}": (array, 1 << level) for level, array in latents.items()}
    for name, (array, factor) in {**found, "log_density": (log_density, scale)}.items():
        expected = (batch, array.shape[1] if array.ndim == 4 else 1, height // factor, width // factor)
        if array.shape != expected or array.dtype != np.float32:
            raise BundleError(
                f"the inverter returned {name} as {_described(str(array.dtype), array.shape)}, where the manifest's "
                f"scale needs {_described('float32', expected)}; {_FIX}"
            )


def _bytes_per_pixel(manifest: Manifest, channels: Mapping[str, int]) -> int:
    """Bytes of conditioning for each LR pixel, in the manifest's precision."""
    values = sum(count * (manifest.scale / 2 ** _level(name)) ** 2 for name, count in channels.items())
    _, size = _CONDITIONING.get(manifest.precision, (_FLOAT, 4))
    return round(size * float(values))


def _level(name: str) -> int:
    found = _LEVEL.fullmatch(name)
    if found is None:
        raise BundleError(f"the encoder's output {name!r} is not of a level; {_FIX}")
    return int(found[1])


def _fits(declared: Sequence[int | str | None], shape: tuple[int | None, ...]) -> bool:
    """True if sizes that must be free have names, and the others are as they must be."""
    return len(declared) == len(shape) and all(
        isinstance(have, int) == (want is not None) and want in (None, have)
        for have, want in zip(declared, shape, strict=True)
    )


def _described(kind: str, shape: Sequence[int | str | None]) -> str:
    return f"{kind} of {_sizes(shape) or 'no dimensions'}"


def _sizes(shape: Sequence[int | str | None]) -> str:
    """A shape in text; names of sizes, which are the graph's own, are left out."""
    return "×".join(str(size) if isinstance(size, int) else "?" for size in shape)
