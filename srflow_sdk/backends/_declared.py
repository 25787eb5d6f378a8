"""Compares what a bundle's graphs take and return with its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import BundleError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import shape_of
from srflow_sdk.model.manifest import Manifest

_FIX = "fetch or export the bundle again"


def check_sampler(bundle: Bundle, encoder: Any, sampler: Any) -> None:
    """Check that a sampler's session takes what the encoder's gives and the manifest's latents. Raises: BundleError."""
    wanted = {value.name: value.shape[1:2] for value in encoder.get_outputs()} | {"tau": []}
    wanted |= {f"noise_level{entry.level}": [entry.channels] for entry in bundle.manifest.latent_levels}
    taken = {value.name: value.shape[1:2] for value in sampler.get_inputs()}
    if odd := sorted(name for name in wanted.keys() | taken.keys() if wanted.get(name) != taken.get(name)):
        raise BundleError(
            f"{bundle.path}: its sampler, its encoder and the manifest do not fit together ({', '.join(odd)}); {_FIX}"
        )


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
    if array.dtype != np.float32 or array.shape != shape:
        raise BundleError(
            f"the {graph} returned {name} as {array.dtype} of {_sizes(array.shape)}, where the manifest's scale needs "
            f"float32 of {_sizes(shape)}; {_FIX}"
        )


def _sizes(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "no dimensions"
