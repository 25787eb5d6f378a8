"""ICC profiles for tests, written by hand: matrix and curves, or lookup tables."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

D50 = np.array([0.9642, 1.0, 0.8249])
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))

_D65 = np.array([0.9505, 1.0, 1.0890])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]],
)


def gamma_curve(gamma: float) -> bytes:
    return struct.pack(">4s4xIH2x", b"curv", 1, round(gamma * 256))


def identity_curve() -> bytes:
    return struct.pack(">4s4xI", b"curv", 0)


def sampled_curve(samples: Sequence[float]) -> bytes:
    return struct.pack(
        f">4s4xI{len(samples)}H", b"curv", len(samples), *(round(s * 65535) for s in samples)
    )


def parametric_curve(kind: int, *numbers: float) -> bytes:
    return struct.pack(
        f">4s4xH2x{len(numbers)}i", b"para", kind, *(round(n * 65536) for n in numbers)
    )


SRGB_CURVE = parametric_curve(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def primaries_matrix(primaries: Sequence[tuple[float, float]]) -> Array:
    """Linear RGB with a D65 white to XYZ, adapted to D50."""
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    to_d65 = xyz * np.linalg.solve(xyz, _D65)
    adaptation = (
        np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ D50) / (_BRADFORD @ _D65)) @ _BRADFORD
    )
    return np.asarray(adaptation @ to_d65)


def matrix_profile(primaries: Sequence[tuple[float, float]], curve: bytes) -> bytes:
    """An RGB profile of a matrix and one curve for all channels."""
    return profile(b"RGB ", b"XYZ ", matrix_tags(primaries, curve))


def matrix_tags(primaries: Sequence[tuple[float, float]], curve: bytes) -> dict[bytes, bytes]:
    columns = zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries_matrix(primaries).T, strict=True)
    matrix = {
        name: struct.pack(">4s4x3i", b"XYZ ", *(round(v * 65536) for v in column))
        for name, column in columns
    }
    return matrix | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)


def gray_profile(curve: bytes) -> bytes:
    return profile(b"GRAY", b"XYZ ", {b"kTRC": curve})


def table_profile(
    to_lab: Callable[[Array], Array],
    from_lab: Callable[[Array], Array] | None,
    *,
    device: bytes = b"RGB ",
) -> bytes:
    """A profile of lookup tables with 17 levels. Functions take and give n×channels; device values
    are in [0, 1]."""
    channels = {b"RGB ": 3, b"CMYK": 4}[device]
    lab = to_lab(_grid(channels)) * [652.8, 256, 256] + [0, 32768, 32768]
    tags = {b"A2B0": _lut16(channels, 3, lab)}
    if from_lab is not None:
        # The code 65280 stands for L = 100, and 0 … 65535 for a and b from −128.
        codes = _grid(3) * 65535
        colours = from_lab((codes - [0, 32768, 32768]) / [652.8, 256, 256])
        tags[b"B2A0"] = _lut16(3, channels, np.clip(colours, 0, 1) * 65535)
    return profile(device, b"Lab ", tags)


def profile(device: bytes, space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Header, tag table and tags, of version 2."""
    white = struct.pack(">4s4x3i", b"XYZ ", *(round(v * 65536) for v in D50))
    text = struct.pack(">4s4xI5s", b"desc", 5, b"test\0") + bytes(78)
    tags = {b"desc": text, b"wtpt": white, b"cprt": b"text\0\0\0\0none\0"} | tags
    table = struct.pack(">I", len(tags))
    data = b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    illuminant = struct.pack(">3i", *(round(v * 65536) for v in D50))
    header = struct.pack(
        ">I4sI4s4s4s12x4s28x12s48x",
        start + len(data),
        b"lcms",
        0x02400000,
        b"mntr",
        device,
        space,
        b"acsp",
        illuminant,
    )
    return header + table + data


def _grid(channels: int, levels: int = 17) -> Array:
    axes = np.meshgrid(*[np.linspace(0, 1, levels)] * channels, indexing="ij")
    return np.stack(axes, axis=-1).reshape(-1, channels)


def _lut16(inputs: int, outputs: int, table: Array, levels: int = 17) -> bytes:
    identity = struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))
    straight = struct.pack(">2H", 0, 65535)
    values = np.rint(np.clip(table, 0, 65535)).astype(">u2").tobytes()
    head = (
        struct.pack(">4s4x3Bx", b"mft2", inputs, outputs, levels)
        + identity
        + struct.pack(">2H", 2, 2)
    )
    return head + straight * inputs + values + straight * outputs
