"""A request's tensors, checked: every error names the field that is wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.drawing.temperature import checked_tau
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import RAISE_LIMIT, read_image, spooled
from srflow_sdk.files.passed_images import eight_bit_picture
from srflow_sdk.model.manifest import MAX_TAU, Manifest
from srflow_sdk.model.serving_config import ServingOptions
from srflow_sdk.pixels.in_memory import ImageKind, unpacked
from srflow_sdk.system.raising import memory_errors_typed

PICTURES = ("image", "image_bytes", "tile")
OF_TILES = ("origin", "tau_map")
_FARTHEST = 1 << 31  # LR pixels from the picture's corner
_INPUTS: dict[str, tuple[Any, tuple[int | str, ...]]] = {  # dtype and shape; a side with a name is free
    "image": (np.uint8, ("height", "width", 3)),
    "image_bytes": (np.object_, (1,)),
    "tile": (np.float32, ("height", "width", 3)),
    "tau": (np.float32, (1,)),
    "seed": (np.int64, (1,)),
    "samples": (np.int32, (1,)),
    "sample": (np.int64, (1,)),
    "origin": (np.int64, (2,)),
    "tau_map": (np.float32, ("height", "width")),
}


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """The options of every request. tau: None is the model's default."""

    tau: float | None
    seed: int
    sample: int
    samples: int


@dataclass(frozen=True, kw_only=True)
class ImageRequest(_Drawn):
    """A whole picture. pixels: H×W×channels of uint8."""

    pixels: NDArray[np.uint8]
    kind: ImageKind


@dataclass(frozen=True, kw_only=True)
class TileRequest(_Drawn):
    """A tile of a client's picture.

    lr: float32 3×h×w in [0, 1]. top, left: its place. tau_map: h×w, instead of tau.
    """

    lr: NDArray[np.float32]
    top: int
    left: int
    tau_map: NDArray[np.float32] | None


def read_request(
    inputs: Mapping[str, NDArray[Any]], manifest: Manifest, options: ServingOptions
) -> ImageRequest | TileRequest:
    """Check a request's tensors, by name. Nothing returned shares memory with them.

    Raises: ArgumentError or ImageError, whose messages begin with the field; OutOfMemoryError.
    """
    for name, value in inputs.items():
        _check_tensor(name, value)
    given = [name for name in PICTURES if name in inputs]
    if len(given) != 1:
        found = f"the request has {' and '.join(given)}" if given else "the request has none"
        raise ArgumentError(f"{', '.join(PICTURES)}: send exactly one of them; {found}")
    if given != ["tile"] and (odd := [name for name in OF_TILES if name in inputs]):
        raise ArgumentError(f"{odd[0]}: only a tile has one; leave it out, or send tile instead of {given[0]}")
    drawn = _drawn(inputs, options)
    with memory_errors_typed("for the request's picture; send a smaller one"):
        if given == ["tile"]:
            return _tile_request(inputs, drawn, manifest, options)
        with _field(given[0]):
            if given == ["image"]:
                _check_pixels(*inputs["image"].shape[:2], limit=options.max_pixels)
                pixels, kind = unpacked(inputs["image"].copy())
            else:
                pixels, kind = _file(inputs["image_bytes"], options)
    height, width = pixels.shape[:2]
    _check_answer(drawn, height, width, 3, manifest, options)
    return ImageRequest(pixels=pixels, kind=kind, **drawn)


def _check_tensor(name: str, value: NDArray[Any]) -> None:
    if name not in _INPUTS:
        raise ArgumentError(f"{name}: there is no such input; the inputs are {', '.join(_INPUTS)}")
    dtype, shape = _INPUTS[name]
    if value.dtype != dtype:
        wanted = "BYTES" if name == "image_bytes" else np.dtype(dtype).name
        raise ArgumentError(f"{name}: its dtype is {value.dtype}; it must be {wanted}")
    if value.ndim != len(shape) or any(
        isinstance(side, int) and side != has for side, has in zip(shape, value.shape, strict=True)
    ):
        wanted = ", ".join(map(str, shape))
        raise ArgumentError(f"{name}: its shape is {list(value.shape)}; it must be [{wanted}]")
    if value.size == 0:
        raise ArgumentError(f"{name}: it is empty, of shape {list(value.shape)}")


def _drawn(inputs: Mapping[str, NDArray[Any]], options: ServingOptions) -> dict[str, Any]:
    """The fields of _Drawn."""
    tau = None
    if "tau" in inputs:
        with _field("tau"):
            tau = checked_tau(float(inputs["tau"][0]))
    seed, sample = (int(inputs[name][0]) if name in inputs else 0 for name in ("seed", "sample"))
    samples = int(inputs["samples"][0]) if "samples" in inputs else 1
    for name, value in (("seed", seed), ("sample", sample)):
        if value < 0:
            raise ArgumentError(f"{name}: it is {value}; it must be at least 0")
    if not 1 <= samples <= options.max_samples:
        raise ArgumentError(f"samples: it is {samples}; this server draws 1 to {options.max_samples} for a request")
    return {"tau": tau, "seed": seed, "sample": sample, "samples": samples}


def _file(content: NDArray[Any], options: ServingOptions) -> tuple[NDArray[np.uint8], ImageKind]:
    if not isinstance(content[0], bytes):
        raise ArgumentError("it must be the bytes of a PNG, JPEG or other image file")
    try:
        with spooled(content[0], name="image", max_pixels=options.max_pixels) as path:
            file = read_image(path, max_pixels=options.max_pixels)
    except ImageError as error:  # whoever sends a request cannot raise the server's limit
        raise ImageError(str(error).replace(RAISE_LIMIT, "send a smaller one")) from error
    if file.pixels.dtype != np.uint8:
        raise ImageError(f"the file holds {file.pixels.dtype}; send one with 8 bits per channel")
    pixels, kind = unpacked(eight_bit_picture(file))
    if kind.has_alpha and pixels[..., -1].min() < 255:
        raise ImageError("the picture has transparent pixels, which the answer cannot hold; send one without alpha")
    return pixels, kind


def _tile_request(
    inputs: Mapping[str, NDArray[Any]], drawn: dict[str, Any], manifest: Manifest, options: ServingOptions
) -> TileRequest:
    tile, multiple = inputs["tile"], manifest.size_multiple
    height, width = tile.shape[:2]
    with _field("tile"):
        _check_pixels(height, width, limit=options.max_tile_pixels)
    if height % multiple or width % multiple:
        raise ArgumentError(f"tile: it is {width}×{height}; both sides must be multiples of {multiple}")
    _check_range("tile", tile, 1)
    top, left = map(int, inputs["origin"]) if "origin" in inputs else (0, 0)
    if top % multiple or left % multiple or max(abs(top), abs(left)) > _FARTHEST:
        raise ArgumentError(
            f"origin: it is row {top}, column {left}; both must be multiples of {multiple}, at most {_FARTHEST} from 0"
        )
    tau_map = inputs.get("tau_map")
    if tau_map is not None:
        if drawn["tau"] is not None:
            raise ArgumentError("tau_map: it stands instead of tau; leave one of them out")
        if tau_map.shape != (height, width):
            raise ArgumentError(f"tau_map: its shape is {list(tau_map.shape)}; it must be the tile's {[height, width]}")
        _check_range("tau_map", tau_map, MAX_TAU)
        tau_map = tau_map.copy()
    elif drawn["tau"] is None and manifest.auto_tau:
        raise ArgumentError(
            "tau: this model's default is made from the whole picture, so a tile needs tau, or tau_map for its pixels"
        )
    _check_answer(drawn, height, width, 12, manifest, options)
    lr = np.array(tile.transpose(2, 0, 1), order="C")
    return TileRequest(lr=lr, top=top, left=left, tau_map=tau_map, **drawn)


def _check_pixels(height: int, width: int, *, limit: int) -> None:
    if height * width > limit:
        raise ArgumentError(f"it has {width}×{height} pixels; this server takes at most {limit:,}")


def _check_range(name: str, values: NDArray[np.float32], most: float) -> None:
    low, high = float(values.min()), float(values.max())  # NaN if there is one
    if not (low >= 0 and high <= most):
        raise ArgumentError(f"{name}: its values run from {low:g} to {high:g}; they must be numbers from 0 to {most:g}")


def _check_answer(
    drawn: dict[str, Any], height: int, width: int, pixel_bytes: int, manifest: Manifest, options: ServingOptions
) -> None:
    size = drawn["samples"] * height * width * manifest.scale**2 * pixel_bytes
    if size > options.max_answer_bytes:
        raise ArgumentError(
            f"samples: the answer would have {size:,} bytes; this server sends at most {options.max_answer_bytes:,}: "
            "ask for fewer samples, or send a smaller picture"
        )


@contextlib.contextmanager
def _field(name: str) -> Iterator[None]:
    """Errors of the block name the field first."""
    try:
        yield
    except (ArgumentError, ImageError) as error:
        message = str(error).removeprefix("image: ")  # what a file of bytes is called
        own = message.startswith(f"{name} is ")
        raise type(error)(f"{name}: it {message.removeprefix(f'{name} ')}" if own else f"{name}: {message}") from error
