"""One ONNX file from picture to picture, for programs without latents: `--plain`.

The bundle's float32 graphs in one, with τ and a window of the latent field at (0, 0) as constants,
which a picture larger than the window sees repeated, and the runtime's bounds of colours. Standard
operators alone, no model-local functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, inliner, numpy_helper

from srflow_export import onnx_models
from srflow_export.parity.measure import psnr
from srflow_export.parity.photographs import photographs
from srflow_export.parity.runners import make_graphs_runner
from srflow_export.progress import Say
from srflow_sdk._version import __version__
from srflow_sdk.backends import Drawing
from srflow_sdk.drawing.low_resolution import CHROMA_REACH, CHROMA_SLACK, GRAY, ChromaBounds
from srflow_sdk.errors import ArgumentError, ExportError
from srflow_sdk.geometry.tiles import Window, padded_size
from srflow_sdk.latents.random_field import window_noise
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.pixels.conservative_smoothing import NEIGHBOURS, second_least_and_most
from srflow_sdk.pixels.in_memory import LUMA
from srflow_sdk.system.local_files import remove_stale_parts, write_atomically

WINDOW = 256  # LR pixels a side of the latents in a file with dynamic sides
# LR pixels on which a file with dynamic sides is compared: odd, so that they are padded
_PATCH = (45, 47)
# input and output in half cost most: 78 dB with x4-small; latents in half alone, 112
_LEAST_DB = 60.0


@dataclass(frozen=True, kw_only=True)
class PlainOptions:
    """The choices that a plain file fixes.

    tau: 0 … 1; None: the bundle's default number, also where its default is "auto". seed: of the
    latents.
    size: both sides in LR pixels, 16 … 2048; None: any. io: the type of input and output; inside it
    is float32.
    opset: 17 for programs that do not know 18.
    """

    tau: float | None = None
    seed: int = 0
    size: int | None = None
    io: Literal["float32", "float16"] = "float32"
    opset: Literal[18, 17] = 18

    def choose_tau(self, bundle: Bundle) -> float:
        """The temperature in a bundle's file."""
        return bundle.manifest.default_tau if self.tau is None else self.tau


def write_plain(source: Path, target: Path, options: PlainOptions, *, say: Say) -> None:
    """Write a bundle's plain file once it draws the runtime's picture.

    Missing folders are made. Raises: ArgumentError for another suffix than .onnx, or a bundle
    without float32 graphs; BundleError; ExportError if its picture of a photograph is not the
    runtime's, or the file cannot be written. In each case nothing is left and an older file stays.
    """
    if target.suffix != ".onnx":
        raise ArgumentError(
            f"{target}: a plain file is one of ONNX: name it {target.stem or 'plain'}.onnx"
        )
    bundle = Bundle.open(source)
    model = plain_model(bundle, options)
    facts = _make_metadata(bundle, options, model.opset_import[0].version)
    content = onnx_models.serialise(model, {f"srflow.{name}": text for name, text in facts.items()})
    decibels = _compare(content, bundle, options)
    if decibels < _LEAST_DB:
        raise ExportError(
            f"{target} is not written: its picture is {decibels:.1f} dB from the runtime's; try "
            "another tau"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_stale_parts(target)
        write_atomically(target, content)
    except OSError as error:
        raise ExportError(
            f"{target}: the file cannot be written: {error.strerror or error}"
        ) from error
    at = f"tau {facts['tau']}, {len(content) / 1e6:.1f} MB"
    say(f"wrote {target}: {at}, {decibels:.1f} dB from the runtime's picture")


def plain_model(bundle: Bundle, options: PlainOptions) -> onnx.ModelProto:
    """Make `input` (1×3×h×w in [0, 1]) → `output` (1×3×sh×sw, clipped).

    Raises: ArgumentError, BundleError.
    """
    names = bundle.manifest.float32_graphs
    if names is None:
        raise ArgumentError(f"{bundle.path} has no float32 graphs: export its checkpoint again")
    joined = onnx_models.join(*(onnx.load(bundle.file(name)) for name in names))
    proto = inliner.inline_local_functions(joined)
    opset = min(options.opset, *(entry.version for entry in proto.opset_import if not entry.domain))
    _rewrite(proto.graph, opset)
    del proto.opset_import[:]
    proto.opset_import.append(helper.make_opsetid("", opset))
    proto.ir_version = 8  # that of opsets 17 and 18; older programs refuse newer ones
    _Surroundings(proto.graph, bundle, options).add()
    return proto


def _rewrite(graph: onnx.GraphProto, opset: int) -> None:
    """Make every slice with steps a MaxPool, for ncnn, and a Split one of opset 17."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Split" and opset < 18:
            kept = [attribute for attribute in node.attribute if attribute.name != "num_outputs"]
            node.ClearField("attribute")
            node.attribute.extend(kept)
        if (
            node.op_type == "Slice"
            and len(node.input) == 5
            and all(name in values for name in node.input[1:])
        ):
            start, end, axis, step = (values[name].tolist() for name in node.input[1:])
            if start == [0] and end[0] >= 2**31 - 1 and axis in ([2], [3]) and step[0] > 1:
                strides = [step[0] if axis == [side] else 1 for side in (2, 3)]
                pool = helper.make_node(
                    "MaxPool",
                    node.input[:1],
                    node.output,
                    kernel_shape=[1, 1],
                    strides=strides,
                )
                node.CopyFrom(pool)


class _Surroundings:
    """The nodes around the network: padding, latents repeated, smoothing, colours, cropping."""

    def __init__(self, graph: onnx.GraphProto, bundle: Bundle, options: PlainOptions) -> None:
        self._graph = graph
        self._manifest = bundle.manifest
        self._options = options
        self._tau = options.choose_tau(bundle)
        self._smoothed = bundle.manifest.smoothed and self._tau > 0
        self._inner = list(graph.node)
        del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]

    def add(self) -> None:
        """Put the nodes before and after the network's own, and drop constants that none uses."""
        graph = self._graph
        size = self._options.size
        scale = self._manifest.scale
        io = TensorProto.FLOAT16 if self._options.io == "float16" else TensorProto.FLOAT
        large = [scale * size] * 2 if size else ["large_height", "large_width"]
        graph.input.append(
            helper.make_tensor_value_info("input", io, (1, 3, size or "height", size or "width"))
        )
        graph.output.append(helper.make_tensor_value_info("output", io, (1, 3, *large)))
        self._constant("tau", np.ones(1, np.float32))  # the latents have it
        picture = self._node("Cast", "input", to=TensorProto.FLOAT)
        ends = self._pad_any(picture) if size is None else self._pad_fixed(picture, size)
        graph.node.extend(self._inner)
        result = self._node(
            "Slice",
            self._bound_colours(self._smooth("sr") if self._smoothed else "sr"),
            self._integers(0, 0),
            ends,
            self._integers(2, 3),
        )
        self._node("Cast", self._clip(result), to=io, output="output")
        used = {name for node in graph.node for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        graph.ClearField("initializer")
        graph.initializer.extend(kept)

    def _pad_fixed(self, picture: str, size: int) -> str:
        """Pad a picture of known size, and give the network its latents. Returns where to crop."""
        padded = padded_size(size, self._manifest.size_multiple)
        for level, values in self._latents(padded).items():
            self._store_in_half(f"noise_level{level}", values)
        margins = self._integers(*[0] * 6, *[padded - size] * 2)
        self._node("Pad", picture, margins, mode="edge", output="lr")
        return self._integers(*[self._manifest.scale * size] * 2)

    def _pad_any(self, picture: str) -> str:
        """Do the same for any size; latents repeat beyond their window.

        (m − 1)·size is −size modulo m, not negative.
        """
        multiple = self._manifest.size_multiple
        scale = self._integers(self._manifest.scale)
        size = self._node("Shape", picture, start=2)
        margin = self._node(
            "Mod",
            self._node("Mul", size, self._integers(multiple - 1)),
            self._integers(multiple),
        )
        margins = self._node("Concat", self._integers(*[0] * 6), margin, axis=0)
        self._node("Pad", picture, margins, mode="edge", output="lr")
        large = self._node("Mul", self._node("Add", size, margin), scale)
        window = padded_size(WINDOW if self._tau else 1, multiple)  # without τ, all latents are 0
        for level, values in self._latents(window).items():
            self._repeat(level, values, large)
        return self._node("Mul", size, scale)

    def _repeat(self, level: int, values: NDArray[np.float32], large: str) -> None:
        """Repeat a level's latents up to the size of a picture that is so large."""
        zero, one = (self._constant(f"plain.number{number}", np.array(number)) for number in (0, 1))
        repeated = self._store_in_half(f"plain.window{level}", values)
        extents = self._node("Div", large, self._integers(1 << level))
        for axis, index, name in ((2, zero, None), (3, one, f"noise_level{level}")):
            extent = self._node("Gather", extents, index, axis=0)
            places = self._node("Range", zero, extent, one)
            places = self._node("Mod", places, self._integers(values.shape[axis - 1]))
            repeated = self._node("Gather", repeated, places, axis=axis, output=name)

    def _smooth(self, picture: str) -> str:
        """Smooth a picture as :mod:`srflow_sdk.pixels.conservative_smoothing` does."""
        luma = self._mix_channels(picture, np.array([LUMA], np.float32))
        margins = self._integers(0, 0, 1, 1, 0, 0, 1, 1)
        around = self._node("Pad", luma, margins, mode="edge")
        sides = self._integers(2, 3)
        # ends two, one and no rows and columns before the last
        ends = {0: -2, 1: -1, 2: 2**31 - 1}
        neighbours = [
            self._node(
                "Slice",
                around,
                self._integers(down, right),
                self._integers(ends[down], ends[right]),
                sides,
            )
            for down, right in NEIGHBOURS
        ]
        low, high = second_least_and_most(
            neighbours,
            partial(self._node, "Min"),
            partial(self._node, "Max"),
        )
        smooth = self._node("Max", self._node("Min", luma, high), low)
        return self._node("Add", picture, self._node("Sub", smooth, luma))

    def _bound_colours(self, picture: str) -> str:
        """Bound the network's colours as :class:`ChromaBounds` does, so that gray stays gray."""
        luma = np.array([LUMA], np.float32)
        chroma = np.eye(3, dtype=np.float32)[[2, 0]] - luma  # blue less luma, red less luma
        limits = self._limit_colours(chroma)
        channels = self._integers(1)
        high = self._node("Slice", limits, self._integers(0), self._integers(2), channels)
        low = self._node(
            "Neg", self._node("Slice", limits, self._integers(2), self._integers(4), channels)
        )
        colours = self._node(
            "Max", self._node("Min", self._mix_channels(picture, chroma), high), low
        )
        red, green, blue = LUMA
        back = np.array([[0, 1], [-blue / green, -red / green], [1, 0]], np.float32)
        return self._node(
            "Add",
            self._mix_channels(colours, back),
            self._mix_channels(picture, luma.repeat(3, axis=0)),
        )

    def _limit_colours(self, chroma: NDArray[np.float32]) -> str:
        """Find the most of both differences and of their negatives, for each pixel: 4 channels."""
        reach = min(CHROMA_REACH, self._manifest.halo)
        both = self._mix_channels("lr", np.concatenate([chroma, -chroma]))
        most = self._node("MaxPool", both, kernel_shape=[2 * reach + 1] * 2, pads=[reach] * 4)
        unfolded = self._node("DepthToSpace", most, blocksize=2, mode="CRD")
        # of all channels
        strongest = self._node("MaxPool", unfolded, kernel_shape=[2, 2], strides=[2, 2])
        coloured = self._clip(
            self._node("Mul", self._node("Sub", strongest, self._float(GRAY)), self._float(1e9))
        )
        slack = self._node("Mul", strongest, self._float(CHROMA_SLACK))
        # 0 where all around is gray
        limits = self._node("Mul", self._node("Add", most, slack), coloured)
        scales = self._constant(
            "plain.scales", np.array([1, 1, *[self._manifest.scale] * 2], np.float32)
        )
        return self._node(
            "Resize",
            limits,
            "",
            scales,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def _mix_channels(self, picture: str, matrix: NDArray[np.float32]) -> str:
        """A matrix times the channels of each pixel."""
        name = f"plain.matrix{len(self._graph.node)}"
        return self._node("Conv", picture, self._constant(name, matrix[..., None, None]))

    def _clip(self, values: str) -> str:
        return self._node("Clip", values, self._float(0), self._float(1))

    def _float(self, value: float) -> str:
        return self._constant(f"plain.float{value:g}", np.array(value, np.float32))

    def _latents(self, side: int) -> dict[int, NDArray[np.float32]]:
        """τ times the field's window at (0, 0), by level."""
        noise = window_noise(
            self._manifest.latent_levels,
            scale=self._manifest.scale,
            seed=self._options.seed,
            sample=0,
            height=side,
            width=side,
        )
        return {level: np.float32(self._tau) * values for level, values in noise.items()}

    def _store_in_half(self, name: str, values: NDArray[np.float32]) -> str:
        half = self._constant(f"{name}.half", values[None].astype(np.float16))  # half the file
        return self._node("Cast", half, to=TensorProto.FLOAT, output=name)

    def _integers(self, *values: int) -> str:
        return self._constant(f"plain.{'_'.join(map(str, values))}", np.array(values, np.int64))

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        if all(tensor.name != name for tensor in self._graph.initializer):
            self._graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def _node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        output = output or f"plain.node{len(self._graph.node)}"
        self._graph.node.append(
            helper.make_node(kind, inputs, [output], f"{output}/{kind}", **attributes)
        )
        return output


def _compare(content: bytes, bundle: Bundle, options: PlainOptions) -> float:
    """Return the least PSNR of the file's pictures, in colour and gray, against the runtime's."""
    height, width = _PATCH if options.size is None else (options.size, options.size)
    photo = photographs(1)[1].lr[0].transpose(1, 2, 0)
    colour = np.pad(photo, ((0, height), (0, width), (0, 0)), mode="wrap")[:height, :width].astype(
        options.io
    )
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    decibels = []
    for image in (colour, colour[..., 1:2].repeat(3, axis=2)):
        expected = draw_as_runtime(
            bundle,
            image.astype(np.float32),
            tau=options.choose_tau(bundle),
            seed=options.seed,
        )
        (picture,) = session.run(["output"], {"input": image.transpose(2, 0, 1)[None]})
        decibels.append(
            psnr(picture[0].transpose(1, 2, 0).astype(np.float32), expected, least_spread=1)
        )
    return min(decibels)


def draw_as_runtime(
    bundle: Bundle,
    image: NDArray[np.float32],
    *,
    tau: float,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Draw a picture h×w×3 in one tile with a bundle's float32 graphs, as the runtime does."""
    manifest = bundle.manifest
    height, width = image.shape[:2]
    rows, columns = (padded_size(side, manifest.size_multiple) for side in (height, width))
    padded = np.pad(
        image,
        ((0, rows - height), (0, columns - width), (0, 0)),
        mode="edge",
    ).transpose(2, 0, 1)[None]
    window = Window(top=0, left=0, height=rows, width=columns)
    drawing = Drawing(
        levels=manifest.latent_levels,
        scale=manifest.scale,
        seed=seed,
        sample=0,
        window=window,
        tau=tau,
        core=window.scaled(manifest.scale),
        smoothed=manifest.smoothed and tau > 0,
    )
    inputs = {f"noise_level{level}": values for level, values in drawing.noise().items()}
    with make_graphs_runner(bundle, *(manifest.float32_graphs or ()))() as draw:
        inputs |= {"lr": np.ascontiguousarray(padded), "tau": np.full(1, tau, np.float32)}
        (sr,) = draw(inputs)["sr"]
    picture = ChromaBounds(padded[0], window, manifest.halo).limit(drawing.cut_core(sr))
    return picture[: manifest.scale * height, : manifest.scale * width].clip(0, 1)


def _make_metadata(bundle: Bundle, options: PlainOptions, opset: int) -> dict[str, str]:
    """The file's metadata: what open photo editors ask of a model is named."""
    manifest = bundle.manifest
    size = options.size
    tau = options.choose_tau(bundle)
    choices = f"--tau {tau} --seed {options.seed} --io {options.io} --opset {opset}" + (
        f" --size {size}" if size else ""
    )
    ours = (
        "srflow-train of srflow-sdk, Apache-2.0" if "training" in manifest.provenance else "unknown"
    )
    repeated = (
        f"up to {WINDOW} pixels a side, the runtime's picture; beyond, the texture's random field "
        "repeats"
    )
    return {
        "model": manifest.name,
        "scope": f"pictures, {manifest.scale} times as high and wide",
        **{
            name: str(manifest.provenance.get(name, "unknown"))
            for name in ("licence", "training_data")
        },
        "training_code": ours,
        "architecture": "SRFlow: an encoder of the picture, and a conditional normalizing flow",
        "paper": "SRFlow: Learning the Super-Resolution Space with Normalizing Flow, ECCV 2020, "
        "arXiv:2006.14200",
        "limitations": "detail that it adds is plausible, not known: no evidence of what was there",
        "input": f"'input', {options.io}, "
        f"1x3x{'height x width' if size is None else f'{size}x{size}'}, sRGB, R first",
        "output": f"'output', the same, {manifest.scale} times as high and wide",
        "range": "0 to 1, both",
        "scale": str(manifest.scale),
        "halo": f"{manifest.halo} input pixels, the least overlap of tiles on each side",
        "tau": f"{tau:g}"
        + ", everywhere, where the model's default follows the picture" * manifest.auto_tau,
        "seed": str(options.seed),
        "latents": repeated
        if size is None and tau
        else "the runtime's picture at any size that it takes",
        "opset": str(opset),
        "made_by": f"srflow-sdk {__version__}: srflow-export --bundle {manifest.name} --plain "
        f"{choices}",
        "bundle_sha256": bundle.model_sha256,
    }
