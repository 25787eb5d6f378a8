"""The ranges of an encoder's activations on photographs, from which int8 takes its steps.

A range is the one with the least mean fourth power of the rounding error. Percentiles cut rare large values, which then
come out wrong by far (28 to 40 dB on the worst patch of an earlier embedded model, whose sums were rounded too); the
widest range made steps coarse (44 dB), the square still cut too much (43 dB), and the fourth power reached 46 dB.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from PIL import Image

from srflow_sdk.errors import ExportError

Array = npt.NDArray[np.float32]
Range = tuple[float, float]
"""The smallest and largest value that int8 must represent; 0 is between them."""

_SIDE, _COLUMNS = 48, 4  # of the crops on the sheet
_QUICK_SIDE = 32
_LEVELS = 255  # steps between the ends of a range
_BINS = 2048
_SHARES = np.linspace(0.4, 1.0, 13)  # of the largest value, tried as ends of a range
_SAMPLES = 16_384  # values of a tensor that a photograph contributes


def calibration_crops(size_multiple: int, *, side: int = _SIDE) -> list[Array]:
    """The LR crops that come with the exporter, float32 1×3×side×side in [0, 1], cut to a multiple.

    None is of one of the gate's photographs. Raises: ExportError if they are missing.
    """
    entry = resources.files("srflow_export") / "calibration" / "crops.png"
    if not entry.is_file():
        raise ExportError("the exporter's calibration crops are missing from this installation; install it again")
    with entry.open("rb") as file, Image.open(file) as image:
        sheet = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    side = max(side // size_multiple, 1) * size_multiple
    places = [(top, left) for top in range(0, sheet.shape[0], _SIDE) for left in range(0, _COLUMNS * _SIDE, _SIDE)]
    return [
        np.ascontiguousarray(sheet[top : top + side, left : left + side].transpose(2, 0, 1)[None])
        for top, left in places
    ]


def quick_crops(size_multiple: int) -> list[Array]:
    """Half as many, smaller crops, for networks on which the others would take minutes."""
    return calibration_crops(size_multiple, side=_QUICK_SIDE)[::2]


def activation_ranges(encoder: onnx.ModelProto, crops: Sequence[Array]) -> dict[str, Range]:
    """The range of every convolution's input by name. Deterministic.

    Raises: ExportError if one is not finite. That is a bad network, to which int8 cannot be fitted; `--also int8` then
    leaves it out.
    """
    names = sorted({node.input[0] for node in encoder.graph.node if node.op_type == "Conv"})
    session = _session_with_outputs(encoder, [name for name in names if name != "lr"])
    samples: dict[str, list[Array]] = {name: [] for name in names}
    ends: dict[str, Range] = dict.fromkeys(names, (0.0, 0.0))
    for lr in crops:
        found = dict(zip((value.name for value in session.get_outputs()), session.run(None, {"lr": lr}), strict=True))
        for name, values in (("lr", lr), *found.items()):
            if name in samples:
                if not np.isfinite(values).all():
                    raise ExportError(
                        "the network's features are not finite on photographs, so int8 has no ranges for them: train "
                        "it further, or leave int8 out"
                    )
                low, high = ends[name]
                ends[name] = min(low, float(values.min())), max(high, float(values.max()))
                flat = values.reshape(-1)
                samples[name].append(flat[:: max(1, flat.size // _SAMPLES) | 1].copy())
    return {name: _least_error(np.concatenate(samples[name]), ends[name]) for name in names}


def _session_with_outputs(encoder: onnx.ModelProto, names: Sequence[str]) -> onnxruntime.InferenceSession:
    watched = onnx.ModelProto()
    watched.CopyFrom(encoder)
    del watched.graph.output[:]
    for name in names:
        watched.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])


def _least_error(values: Array, ends: Range) -> Range:
    """The range with the least mean fourth power of the rounding error; both ends are tried."""
    low, high = ends
    if low == high:
        return ends
    counts, edges = np.histogram(values, bins=_BINS, range=ends)
    held = counts > 0
    counts, middles = counts[held].astype(np.float64), ((edges[:-1] + edges[1:]) / 2)[held]
    lows = low * _SHARES if low else np.zeros(1)
    highs = high * _SHARES if high else np.zeros(1)
    bottom, top = (grid.reshape(-1, 1) for grid in np.meshgrid(lows, highs, indexing="ij"))
    step = (top - bottom) / _LEVELS
    zero = np.round(-bottom / step)
    rounded = (np.clip(np.round(middles / step) + zero, 0, _LEVELS) - zero) * step
    best = int((((rounded - middles) ** 4) @ counts).argmin())
    return float(bottom[best, 0]), float(top[best, 0])
