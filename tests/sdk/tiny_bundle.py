"""A real bundle with a tiny network in it, made with onnx alone: fast, and with a known receptive
field.

The encoder is two 3×3 convolutions, the sampler mixes their result with the latents of three levels
through one more. Nothing reaches further than REACH LR pixels, so any tiling with that halo must
give the same picture.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, numpy_helper

from srflow_export.bundle_writer import staged_bundle
from srflow_sdk.model.bundle import Bundle, LatentLevel, Manifest

SCALE = 4
LEVELS = {1: 6, 2: 12, 3: 48}
REACH = 6
_FEATURES = 5
Int8 = Literal["near", "other", "infinite"]
INT8_ROW = {"graph": "encoder.int8+sampler", "photo": "face", "tau": 0.8, "psnr_db": 45.0}
_INT8_GAINS = {"near": 1.0, "other": 3.0, "infinite": math.inf}
_HALF = {"fp16": ("float16", TensorProto.FLOAT16), "bf16": ("bfloat16", TensorProto.BFLOAT16)}
_FLOAT = ("float", TensorProto.FLOAT)
STUB_FILES = {"encoder.onnx": b"encoder", "sampler.onnx": b"sampler"}


def with_manifest(bundle: Path, target: Path, **fields: Any) -> Path:
    """Write a copy of a bundle whose manifest has these fields."""
    shutil.copytree(bundle, target)
    manifest = dataclasses.replace(Bundle.open(bundle).manifest, **fields)
    (target / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return target


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

    gain multiplies the picture (1e38 makes it overflow). half_overflow: the picture goes through
    half precision, where what is brighter than 0.9 is infinite. twins: add float32 graphs. int8:
    add encoder.int8.onnx, which rounds what the encoder computes, computes something else, or gives
    infinite values; the manifest says that it is near. manifest: fields to override; precision and
    scale are the graphs' too.
    """
    precision = manifest.get("precision", "fp32")
    scale = manifest.get("scale", SCALE)
    sampler = _sampler(gain, half_overflow=half_overflow, precision=precision, scale=scale)
    with staged_bundle(target) as stage:
        (stage.path / "encoder.onnx").write_bytes(_encoder(precision, scale=scale))
        (stage.path / "sampler.onnx").write_bytes(sampler)
        if twins:
            (stage.path / "encoder.fp32.onnx").write_bytes(_encoder(scale=scale))
            (stage.path / "sampler.fp32.onnx").write_bytes(_sampler(gain, scale=scale))
        if int8 is not None:
            quantised = _encoder("int8", gain=_INT8_GAINS[int8], scale=scale)
            (stage.path / "encoder.int8.onnx").write_bytes(quantised)
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
        "conditioning_bytes_per_pixel": (2 if overrides.get("precision") in _HALF else 4)
        * (_FEATURES + 3),
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


def _model(
    inputs: str, outputs: str, nodes: list[str], *weights: onnx.TensorProto, **numbers: Any
) -> bytes:
    """A model's file, of nodes in ONNX's own notation. numbers: constants."""
    text = (
        f'<ir_version: 8, opset_import: ["": 17]> graph ({inputs}) => ({outputs}) {{ '
        f"{' '.join(nodes)} }}"
    )
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(weights)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value), name) for name, value in numbers.items()
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _conditioning(precision: str, scale: int) -> tuple[str, int, str]:
    """Tensors of the LR image's size, which their names tell: their level, element type, and
    declaration."""
    level = f"level{scale.bit_length() - 1}"
    kind, element = _HALF.get(precision, _FLOAT)
    return (
        level,
        element,
        f"{kind}[b, {_FEATURES}, h, w] {level}_features, {kind}[b, 3, h, w] {level}_base",
    )


@functools.cache  # hundreds of tests write bundles
def _encoder(precision: str = "fp32", *, gain: float = 1.0, scale: int = SCALE) -> bytes:
    level, element, outputs = _conditioning(precision, scale)
    rounded = (
        "quantised = QuantizeLinear(active, step, zero) rounded = DequantizeLinear(quantised, "
        "step, zero)"
    )
    int8 = precision == "int8"
    nodes = [
        "hidden = Conv<pads = [1, 1, 1, 1]>(lr, w1) active = Relu(hidden)",
        rounded if int8 else "",
        f"plain = Conv<pads = [1, 1, 1, 1]>({'rounded' if int8 else 'active'}, w2) features = "
        "Mul(plain, gain)",
        f"{level}_features = Cast<to = {element}>(features) {level}_base = Cast<to = "
        f"{element}>(lr)",
    ]
    weights = [_weights("w1", _FEATURES, 3, 3, 3), _weights("w2", _FEATURES, _FEATURES, 3, 3)]
    numbers = {
        "gain": np.float32(gain),
        **({"step": np.float32(0.01), "zero": np.int8(0)} if int8 else {}),
    }
    return _model("float[b, 3, h, w] lr", outputs, nodes, *weights, **numbers)


@functools.cache
def _sampler(
    gain: float, *, half_overflow: bool = False, precision: str = "fp32", scale: int = SCALE
) -> bytes:
    """sr = gain · (lr enlarged + conv(features enlarged, tau · noise of every level enlarged))."""
    level, _, conditioning = _conditioning(precision, scale)
    inputs = [conditioning, "float[m] tau"]
    total = "detail"
    weights = [_weights("w_features", 3, _FEATURES, 3, 3)]
    numbers = {"gain": np.float32(gain)}

    def enlarged(name: str, factor: int) -> str:
        numbers[f"sizes_{name}"] = np.array([1, 1, factor, factor], np.float32)
        how = (
            'mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = '
            '"floor"'
        )
        return f"{name}_hr = Resize<{how}>({name}, , sizes_{name})"

    nodes = [
        f"features = Cast<to = 1>({level}_features) base = Cast<to = 1>({level}_base) tau4 = "
        "Reshape(tau, column)",
        enlarged("base", scale),
        enlarged("features", scale),
        "detail = Conv<pads = [1, 1, 1, 1]>(features_hr, w_features)",
    ]
    for number, channels in _levels(scale).items():
        inputs.append(f"float[n, {channels}, h{number}, w{number}] noise_level{number}")
        nodes.append(f"latent{number} = Mul(noise_level{number}, tau4)")
        nodes.append(enlarged(f"latent{number}", 2**number))
        nodes.append(
            f"texture{number} = Conv<pads = [1, 1, 1, 1]>(latent{number}_hr, w_noise{number})"
        )
        nodes.append(f"sum{number} = Add({total}, texture{number})")
        weights.append(_weights(f"w_noise{number}", 3, channels, 3, 3))
        total = f"sum{number}"
    nodes.append(
        f"mixed = Add(base_hr, {total}) {'scaled' if half_overflow else 'sr'} = Mul(mixed, gain)"
    )
    if half_overflow:
        numbers["large"] = np.float32(65504 / 0.9)
        nodes.append("enlarged = Mul(scaled, large) half = Cast<to = 10>(enlarged)")
        nodes.append("back = Cast<to = 1>(half) sr = Div(back, large)")
    column = np.array([-1, 1, 1, 1])
    return _model(
        ", ".join(inputs), "float[n, 3, H, W] sr", nodes, *weights, column=column, **numbers
    )
