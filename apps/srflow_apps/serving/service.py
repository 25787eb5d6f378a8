"""Answers requests: the pictures that :class:`~srflow_sdk.Upscaler` gives, and tiles that clients
cut themselves.

A request's tensors are checked first: every error names the field that is wrong.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.backends import Backend, open_backend
from srflow_sdk.drawing.options import DrawOptions, Request
from srflow_sdk.drawing.painter import KeptTiles, Painter
from srflow_sdk.drawing.temperature import Temperature
from srflow_sdk.encoding import EncodedPicture
from srflow_sdk.errors import ArgumentError, ImageError, OutOfMemoryError
from srflow_sdk.files import RAISE_LIMIT, read_image, spooled
from srflow_sdk.files.passed_images import eight_bit_picture
from srflow_sdk.geometry.tiles import Tile, Window
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.serving_config import ServingOptions
from srflow_sdk.pixels.in_memory import ImageKind, unpacked
from srflow_sdk.system.interrupts import memory_errors_typed

PICTURES = ("image", "image_bytes", "tile")
OF_TILES = ("origin", "tau_map")
_FARTHEST = 1 << 31  # LR pixels from the picture's corner
# dtype and shape; a side with a name is free
_INPUTS: dict[str, tuple[Any, tuple[int | str, ...]]] = {
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
_SESSIONS = 2  # tiles at a time by default: one's Python parts leave the processor to the other


class PictureService:
    """Draws for any number of threads with one bundle.

    backend: an active one; None opens the one that the options ask for. Raises: BundleError,
        DeviceError.
    """

    def __init__(
        self, bundle: Bundle, options: ServingOptions, *, backend: Backend | None = None
    ) -> None:
        self.options = options
        self.manifest = bundle.manifest
        how: dict[str, Any] = {"device": options.device, "precision": options.precision}
        self.backend = backend or open_backend(bundle, threads=options.threads or None, **how)
        self._painter = _ServicePainter(bundle, self.backend, options)

    def close(self) -> None:
        """Release the backend."""
        self._painter.close()

    def answer(
        self, inputs: Mapping[str, NDArray[Any]], *, after_tile: Callable[[], None] = lambda: None
    ) -> dict[str, NDArray[Any]]:
        """The outputs, by name, for a request's inputs, by name: docs/triton.md has both.

        upscaled: uint8 samples×sH×sW×3, for `image` and `image_bytes`. tile_upscaled: float32
        samples×sh×sw×3, for `tile`: sRGB as the network gives it, not clipped. after_tile: called
        after each tile of each sample; what it raises ends the work.

        Raises: SRFlowError; what concerns the request itself names the field.
        """
        for name, value in inputs.items():
            _check_tensor(name, value)
        given = [name for name in PICTURES if name in inputs]
        if len(given) != 1:
            sent = f"the request has {' and '.join(given)}" if given else "the request has none"
            raise ArgumentError(f"{', '.join(PICTURES)}: send exactly one of them; {sent}")
        if given != ["tile"] and (odd := [name for name in OF_TILES if name in inputs]):
            raise ArgumentError(
                f"{odd[0]}: only a tile has one; leave it out, or send tile instead of {given[0]}"
            )
        draw = DrawOptions()
        for name in ("tau", "seed", "sample"):
            if name in inputs:
                with _name_field(name):
                    draw = dataclasses.replace(draw, **{name: inputs[name][0].item()})
        samples = int(inputs["samples"][0]) if "samples" in inputs else 1
        most = self.options.max_samples
        if not 1 <= samples <= most:
            raise ArgumentError(
                f"samples: it is {samples}; this server draws 1 to {most} for a request"
            )
        if given == ["tile"]:
            with memory_errors_typed("for the tile; send a smaller one, or ask for fewer samples"):
                return {"tile_upscaled": self._draw_tile(inputs, draw, samples, after_tile)}
        with memory_errors_typed("for the pictures; send a smaller one, or ask for fewer samples"):
            return {"upscaled": self._draw_pictures(inputs, draw, samples, after_tile)}

    def _draw_pictures(
        self,
        inputs: Mapping[str, NDArray[Any]],
        draw: DrawOptions,
        samples: int,
        after_tile: Callable[[], None],
    ) -> NDArray[np.uint8]:
        if "image" in inputs:
            with _name_field("image"):
                _check_pixels(*inputs["image"].shape[:2], limit=self.options.max_pixels)
                pixels, kind = unpacked(inputs["image"].copy())
        else:
            with _name_field("image_bytes"):
                pixels, kind = _read_file(inputs["image_bytes"], self.options)
        self._check_answer(samples * pixels.shape[0] * pixels.shape[1] * 3)
        draw = dataclasses.replace(draw, progress=lambda _done, _total: after_tile())
        encoded = EncodedPicture(pixels, kind, self._painter, memory_budget=0)
        pictures = encoded.draw_images(draw, n=samples)
        return np.stack([_to_rgb(np.asarray(picture)) for picture in pictures])

    def _draw_tile(
        self,
        inputs: Mapping[str, NDArray[Any]],
        draw: DrawOptions,
        samples: int,
        after_tile: Callable[[], None],
    ) -> NDArray[np.float32]:
        # Many names, as each of a request's tensors is checked with the others.
        tile = inputs["tile"]
        tau_map = inputs.get("tau_map")
        multiple = self.manifest.size_multiple
        height, width = tile.shape[:2]
        with _name_field("tile"):
            _check_pixels(height, width, limit=self.options.max_tile_pixels)
        if height % multiple or width % multiple:
            raise ArgumentError(
                f"tile: it is {width}×{height}; both sides must be multiples of {multiple}"
            )
        low, high = float(tile.min()), float(tile.max())  # NaN if there is one
        if not (low >= 0 and high <= 1):
            raise ArgumentError(
                f"tile: its values run from {low:g} to {high:g}; they must be numbers from 0 to 1"
            )
        top, left = map(int, inputs["origin"]) if "origin" in inputs else (0, 0)
        if top % multiple or left % multiple or max(abs(top), abs(left)) > _FARTHEST:
            must = f"both must be multiples of {multiple}, at most {_FARTHEST} from 0"
            raise ArgumentError(f"origin: it is row {top}, column {left}; {must}")
        tau = draw.tau_for(self.manifest)
        if tau_map is not None:
            if draw.tau is not None:
                raise ArgumentError("tau_map: it stands instead of tau; leave one of them out")
            tau = tau_map.copy()
        elif tau == "auto":
            whole = "this model's default is made from the whole picture"
            raise ArgumentError(f"tau: {whole}, so a tile needs tau, or tau_map for its pixels")
        self._check_answer(samples * height * width * 12)
        window = Window(top=top, left=left, height=height, width=width)
        default = self.manifest.default_tau
        with _name_field("tau_map"):
            temperature = Temperature(
                tau, default=default, height=height, width=width, multiple=multiple
            )
        request = Request(
            options=draw,
            temperature=temperature.move_to(top, left),
            samples=range(draw.sample, draw.sample + samples),
        )
        lr = np.array(tile.transpose(2, 0, 1), order="C")
        place = Tile(core=window, window=window)
        pictures = self._painter.draw(
            place, lr, request, KeptTiles(), after_sample=lambda _done: after_tile()
        )
        return np.stack(pictures)

    def _check_answer(self, lr_bytes: int) -> None:
        """lr_bytes: of an answer, if it were as large as the input."""
        size = lr_bytes * self.manifest.scale**2
        most = self.options.max_answer_bytes
        if size > most:
            fix = "ask for fewer samples, or send a smaller picture"
            raise ArgumentError(
                f"samples: the answer would have {size:,} bytes; this server sends at most "
                f"{most:,}: {fix}"
            )


class _ServicePainter(Painter):
    """Computes so many tiles at a time. They never shrink: a request that needs too much leaves the
    others' pictures.

    Calls of equal shapes are not joined into batches, and each tile has no session of its own:
        neither was faster.
    """

    def __init__(self, bundle: Bundle, backend: Backend, options: ServingOptions) -> None:
        super().__init__(bundle, backend, options.tile)
        self._room = threading.Semaphore(options.sessions or _SESSIONS)

    def draw(self, *arguments: Any, **keywords: Any) -> list[NDArray[Any]]:
        with self._room:
            return super().draw(*arguments, **keywords)

    def shrink(self, tile: Tile, kept: KeptTiles, error: Exception) -> None:
        side = max(tile.window.height, tile.window.width)
        raise OutOfMemoryError(
            f"memory ran out on {self.backend.device} with tiles of {side} pixels; send a smaller "
            "picture or tile, or "
            "try again when fewer requests are worked on"
        ) from error


def _to_rgb(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture of any kind that :func:`_read_file` lets through, H×W or H×W×C, as H×W×3."""
    if picture.ndim == 2 or picture.shape[2] <= 2:
        gray = picture if picture.ndim == 2 else picture[..., 0]
        return np.repeat(gray[..., None], 3, axis=2)
    return picture[..., :3]


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


def _read_file(
    content: NDArray[Any], options: ServingOptions
) -> tuple[NDArray[np.uint8], ImageKind]:
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
        raise ImageError(
            "the picture has transparent pixels, which the answer cannot hold; send one without "
            "alpha"
        )
    return pixels, kind


def _check_pixels(height: int, width: int, *, limit: int) -> None:
    if height * width > limit:
        raise ArgumentError(f"it has {width}×{height} pixels; this server takes at most {limit:,}")


@contextlib.contextmanager
def _name_field(name: str) -> Iterator[None]:
    """Errors of the block name the field first."""
    try:
        yield
    except (ArgumentError, ImageError) as error:
        message = str(error).removeprefix("image: ")  # what a file of bytes is called
        own = message.startswith(f"{name} is ")
        raise type(error)(
            f"{name}: it {message.removeprefix(f'{name} ')}" if own else f"{name}: {message}"
        ) from error
