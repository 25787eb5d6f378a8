"""A real bundle with a tiny network in it, made with onnx alone: fast, and with a known receptive field.

The encoder is two 3×3 convolutions, the sampler mixes their result with the latents of three levels through one more.
Nothing reaches further than REACH LR pixels, so any tiling with that halo must give the same picture.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from srflow_export.bundle_writer import staged_bundle
from srflow_sdk.model.bundle import Bundle, LatentLevel, Manifest

SCALE = 4
LEVELS = {1: 6, 2: 12, 3: 48}
REACH = 6
_FEATURES = 5
Int8 = Literal["near", "other", "infinite"]
INT8_ROW = {"graph": "encoder.int8+sampler", "photo": "face", "tau": 0.8, "psnr_db": 45.0}
_INT8_GAINS = {"near": 1.0, "other": 3.0, "infinite": math.inf}
_HALF = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
STUB_FILES = {"encoder.onnx": b"encoder", "sampler.onnx": b"sampler"}


def write_tiny_bundle(
    target: Path,
    *,
    gain: float = 1.0,
    half_overflow: bool = False,
    twins: bool = False,
    int8: Int8 | None = None,
    **manifest: Any,
) -> Path:
    """Write the bundle.

    gain multiplies the picture (1e38 makes it overflow). half_overflow: the picture goes through half precision, where
    what is brighter than 0.9 is infinite. twins: add float32 graphs. int8: add encoder.int8.onnx, which rounds what the
    encoder computes, computes something else, or gives infinite values; the manifest says that it is near. manifest:
    fields to override; precision and scale are the graphs' too.
    """
    precision, scale = manifest.get("precision", "fp32"), manifest.get("scale", SCALE)
    sampler = _sampler(gain, half_overflow=half_overflow, precision=precision, scale=scale)
    with staged_bundle(target) as stage:
        (stage.path / "encoder.onnx").write_bytes(_encoder(precision, scale=scale).SerializeToString())
        (stage.path / "sampler.onnx").write_bytes(sampler.SerializeToString())
        if twins:
            (stage.path / "encoder.fp32.onnx").write_bytes(_encoder(scale=scale).SerializeToString())
            (stage.path / "sampler.fp32.onnx").write_bytes(_sampler(gain, scale=scale).SerializeToString())
        if int8 is not None:
            quantised = _encoder("int8", gain=_INT8_GAINS[int8], scale=scale)
            (stage.path / "encoder.int8.onnx").write_bytes(quantised.SerializeToString())
            manifest.setdefault("parity", [INT8_ROW])
        stage.commit(tiny_manifest(**manifest))
    return target


def tiny_manifest(**overrides: Any) -> Manifest:
    fields: dict[str, Any] = {
        "name": "tiny",
        "variant": "bounded",
        "scale": SCALE,
        "size_multiple": 2,
        "latent_levels": tuple(
            LatentLevel(level=level, channels=channels)
            for level, channels in _levels(overrides.get("scale", SCALE)).items()
        ),
        "default_tau": 0.8,
        "halo": REACH,
        "conditioning_bytes_per_pixel": (2 if overrides.get("precision") in _HALF else 4) * (_FEATURES + 3),
    }
    return Manifest(**{**fields, **overrides})


def _levels(scale: int) -> dict[int, int]:
    """The levels that divide pictures of this scale, whose sides are multiples of 2 × scale."""
    return {level: channels for level, channels in LEVELS.items() if 2 * scale % (1 << level) == 0}


def write_stub_bundle(target: Path, content: bytes = b"one", **manifest: Any) -> Bundle:
    """A bundle whose graphs are not graphs: enough for everything but running it."""
    with staged_bundle(target) as stage:
        for name, data in STUB_FILES.items():
            (stage.path / name).write_bytes(data + content)
        stage.commit(tiny_manifest(**manifest))
    return Bundle.open(target)


def hidden_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def _weights(name: str, *shape: int) -> onnx.TensorProto:
    spread = 0.6 / np.sqrt(np.prod(shape[1:]))
    seed = np.frombuffer(name.encode().ljust(16, b"."), np.uint32)
    values = np.random.default_rng(seed).normal(0, spread, shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def _conv(source: str, weight: str, target: str, *, pad: int) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, weight], [target], pads=[pad] * 4)


def _value(name: str, *shape: str | int, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _conditioning(precision: str, scale: int) -> list[onnx.ValueInfoProto]:
    """Tensors of the LR image's size, which their names tell."""
    kind, level = _HALF.get(precision, TensorProto.FLOAT), f"level{scale.bit_length() - 1}"
    return [
        _value(f"{level}_features", "b", _FEATURES, "h", "w", kind=kind),
        _value(f"{level}_base", "b", 3, "h", "w", kind=kind),
    ]


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _encoder(precision: str = "fp32", *, gain: float = 1.0, scale: int = SCALE) -> onnx.ModelProto:
    nodes = [_conv("lr", "w1", "hidden", pad=1), helper.make_node("Relu", ["hidden"], ["active"])]
    weights = [_weights("w1", _FEATURES, 3, 3, 3), _weights("w2", _FEATURES, _FEATURES, 3, 3)]
    if precision == "int8":
        weights.append(numpy_helper.from_array(np.array(0.01, np.float32), "step"))
        weights.append(numpy_helper.from_array(np.array(0, np.int8), "zero"))
        nodes.append(helper.make_node("QuantizeLinear", ["active", "step", "zero"], ["quantised"]))
        nodes.append(helper.make_node("DequantizeLinear", ["quantised", "step", "zero"], ["rounded"]))
    nodes.append(_conv(nodes[-1].output[0], "w2", "features", pad=1))
    if gain != 1:
        weights.append(numpy_helper.from_array(np.array(gain, np.float32), "gain"))
        nodes[-1].output[0] = "plain"
        nodes.append(helper.make_node("Mul", ["plain", "gain"], ["features"]))
    kind = _HALF.get(precision, TensorProto.FLOAT)
    outputs = _conditioning(precision, scale)
    for source, target in zip(("features", "lr"), outputs, strict=True):
        nodes.append(helper.make_node("Cast", [source], [target.name], to=kind))
    graph = helper.make_graph(nodes, "encoder", [_value("lr", "b", 3, "h", "w")], outputs, weights)
    return _model(graph)


def _sampler(
    gain: float, *, half_overflow: bool = False, precision: str = "fp32", scale: int = SCALE
) -> onnx.ModelProto:
    """sr = gain · (lr enlarged + conv(features enlarged, tau · noise of every level enlarged))."""
    inputs = [*_conditioning(precision, scale), _value("tau", "m")]
    nodes = [
        helper.make_node("Cast", [inputs[0].name], ["features"], to=TensorProto.FLOAT),
        helper.make_node("Cast", [inputs[1].name], ["base"], to=TensorProto.FLOAT),
    ]
    nodes.append(helper.make_node("Reshape", ["tau", "column"], ["tau4"]))
    weights = [
        numpy_helper.from_array(np.array([-1, 1, 1, 1]), "column"),
        numpy_helper.from_array(np.array(gain, np.float32), "gain"),
    ]

    def enlarge(source: str, target: str, factor: int) -> None:
        sizes = f"sizes_{target}"
        weights.append(numpy_helper.from_array(np.array([1, 1, factor, factor], np.float32), sizes))
        nodes.append(
            helper.make_node(
                "Resize",
                [source, "", sizes],
                [target],
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        )

    enlarge("base", "base_hr", scale)
    enlarge("features", "features_hr", scale)
    nodes.append(_conv("features_hr", "w_features", "detail", pad=1))
    weights.append(_weights("w_features", 3, _FEATURES, 3, 3))
    total = "detail"
    for level, channels in _levels(scale).items():
        inputs.append(_value(f"noise_level{level}", "n", channels, f"h{level}", f"w{level}"))
        nodes.append(helper.make_node("Mul", [f"noise_level{level}", "tau4"], [f"latent{level}"]))
        enlarge(f"latent{level}", f"latent{level}_hr", 2**level)
        nodes.append(_conv(f"latent{level}_hr", f"w_noise{level}", f"texture{level}", pad=1))
        weights.append(_weights(f"w_noise{level}", 3, channels, 3, 3))
        nodes.append(helper.make_node("Add", [total, f"texture{level}"], [f"sum{level}"]))
        total = f"sum{level}"
    nodes.append(helper.make_node("Add", ["base_hr", total], ["mixed"]))
    result = "scaled" if half_overflow else "sr"
    nodes.append(helper.make_node("Mul", ["mixed", "gain"], [result]))
    if half_overflow:
        weights.append(numpy_helper.from_array(np.array(65504 / 0.9, np.float32), "large"))
        nodes += [
            helper.make_node("Mul", ["scaled", "large"], ["enlarged"]),
            helper.make_node("Cast", ["enlarged"], ["half"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", ["half"], ["back"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["back", "large"], ["sr"]),
        ]
    return _model(helper.make_graph(nodes, "sampler", inputs, [_value("sr", "n", 3, "H", "W")], weights))
