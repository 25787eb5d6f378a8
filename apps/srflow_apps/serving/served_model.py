"""One model on one server: what it is, how large its messages may be, and its answers for tiles."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from srflow_apps.serving.http_client import Address, HttpClient, MalformedError, NotThereError, UnknownModelError
from srflow_sdk.drawing.tiles import MIN_TILE, TileSize, Window, padded_size
from srflow_sdk.errors import ArgumentError, BundleError, RemoteError, UnavailableError
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.model.serving_config import MODEL_PARAMETER, ServingOptions
from srflow_sdk.system.interrupts import cancelled_by
from srflow_sdk.system.raising import stop_if_set

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 4.0
ENVELOPE_BYTES = 4096
"""Room in a message for all but its largest tensors: names, shapes, small tensors, headers."""

LEAST_MESSAGE_BYTES = 1 << 16

_REQUEST_BYTES = 16  # for an LR pixel: three colours and a temperature, float32
_COLOURS_BYTES = 12  # for an HR pixel
_LARGEST_CORE, _STEP = 512, 16  # of tiles that are chosen here, in LR pixels

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class NoModelError(RemoteError):
    """The server has no such model."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The tiles and samples that messages can hold.

    message_bytes: of requests and answers. tile_pixels, answer_bytes, samples: the server's limits of a request's tile
    in LR pixels, of an answer, and of the samples in it. scale, multiple, halo: the model's.

    Raises: ArgumentError unless the smallest tile with its halo fits.
    """

    message_bytes: int
    tile_pixels: int
    answer_bytes: int
    samples: int
    scale: int
    multiple: int
    halo: int

    def __post_init__(self) -> None:
        side = padded_size(MIN_TILE, self.multiple) + 2 * padded_size(self.halo, self.multiple)
        needed = max(side**2 * max(_REQUEST_BYTES, self._sample_bytes) + ENVELOPE_BYTES, LEAST_MESSAGE_BYTES)
        if self.message_bytes < needed:
            raise ArgumentError(
                f"max_message_bytes is {self.message_bytes:,}; the smallest tile of this model, with its halo {side}×"
                f"{side} pixels, needs {needed:,}"
            )
        if self.pixels < side**2:
            raise ArgumentError(
                f"the server takes tiles of at most {self.tile_pixels:,} pixels and answers of {self.answer_bytes:,} "
                f"bytes; the smallest tile of this model, with its halo, has {side**2:,}: raise max_tile_pixels and "
                "max_answer_bytes in the model's config"
            )

    @property
    def _sample_bytes(self) -> int:
        """Of an answer, for an LR pixel."""
        return _COLOURS_BYTES * self.scale**2

    @property
    def _answer_room(self) -> int:
        return min(self.message_bytes - ENVELOPE_BYTES, self.answer_bytes)

    @property
    def pixels(self) -> int:
        """Most LR pixels of a tile's window, so that its request and one sample fit."""
        request = (self.message_bytes - ENVELOPE_BYTES) // _REQUEST_BYTES
        return min(request, self._answer_room // self._sample_bytes, self.tile_pixels)

    def samples_at_once(self, pixels: int) -> int:
        """Return how many samples of a window of so many LR pixels fit one answer, at least one."""
        return max(min(self._answer_room // (self._sample_bytes * pixels), self.samples), 1)

    def core(self, tile: TileSize, *, height: int, width: int, halo: int) -> int | None:
        """Return the side of tiles' cores for a height×width image, a multiple of `multiple`; None: it is one tile.

        tile: what is asked for. No window has more than :attr:`pixels`: a core that would need more becomes smaller.
        With "auto" it is as large as possible, up to 512 pixels.
        """
        multiple, most, reach = self.multiple, self.pixels, padded_size(halo, self.multiple)

        def fits(core: int) -> bool:
            return min(core + 2 * reach, height) * min(core + 2 * reach, width) <= most

        if (tile is None or tile == "auto") and height * width <= most:
            return None
        if tile is None or tile == "auto":
            core = padded_size(_LARGEST_CORE, multiple) if tile == "auto" else max(height, width)
            step = math.lcm(_STEP, multiple)
        else:
            core, step = padded_size(tile, multiple), multiple
        if fits(core):
            return core
        least = padded_size(MIN_TILE, multiple)
        return next((smaller for smaller in range(core // step * step, least, -step) if fits(smaller)), least)


class Server:
    """A model of :mod:`srflow_apps.serving` on a server. Thread-safe.

    manifest, precision: the model's. limits: of messages.
    timeout: seconds that a call may take. retry_for: seconds for which a call is tried again while the server is
    unavailable; the first one, which opens it, is not.

    Raises: ArgumentError, UnavailableError if it cannot be reached, NoModelError.
    """

    def __init__(
        self, address: Address, model: str, *, timeout: float, retry_for: float, max_message_bytes: int
    ) -> None:
        self.address = address
        self.model = model
        self._retry_for = retry_for
        self._client = HttpClient(address, timeout=timeout, max_message_bytes=max_message_bytes)
        try:
            self.manifest, options = self._described(self._usable(self._parameters))
            self.precision = options.precision
            self.limits = Limits(
                message_bytes=max_message_bytes,
                tile_pixels=options.max_tile_pixels,
                answer_bytes=options.max_answer_bytes,
                samples=options.max_samples,
                scale=self.manifest.scale,
                multiple=self.manifest.size_multiple,
                halo=self.manifest.halo,
            )
        except NotThereError as error:
            self.close()
            hint = "start the server, or check the name and port; Triton's port for HTTP is 8000"
            raise UnavailableError(f"{address} cannot be reached: {error}; {hint}") from error
        except UnknownModelError as error:
            others = self._others()
            self.close()
            raise NoModelError(f"{address} has no model {model!r}{others}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection. Closing twice is harmless."""
        self._client.close()

    def draw(
        self,
        lr: NDArray[np.float32],
        window: Window,
        tau: float | NDArray[np.float32],
        *,
        seed: int,
        samples: range,
        cancel: threading.Event | None,
    ) -> NDArray[np.float32]:
        """Samples of a tile, all of its window: float32 n×sh×sw×3, sRGB, not clipped.

        lr: the window, float32 3×h×w in [0, 1]. tau: a number, or a map h×w. It is tried again while the server is
        unavailable.

        Raises: UnavailableError, also if the server has another model now; RemoteError; CancelledError; ArgumentError,
        OutOfMemoryError, NonFiniteError and ImageError if the server says so.
        """
        inputs: dict[str, NDArray[Any]] = {
            "tile": np.ascontiguousarray(lr.transpose(1, 2, 0)),
            "origin": np.array([window.top, window.left], np.int64),
            "seed": np.array([seed], np.int64),
            "sample": np.array([samples.start], np.int64),
            "samples": np.array([len(samples)], np.int32),
        }
        if isinstance(tau, np.ndarray):
            inputs["tau_map"] = np.ascontiguousarray(tau)
        else:
            inputs["tau"] = np.array([tau], np.float32)
        scale = self.manifest.scale
        shape = len(samples), window.height * scale, window.width * scale, 3
        with cancelled_by(cancel):
            answer = self._persistent(lambda: self._client.infer(self.model, inputs, "tile_upscaled", shape), cancel)
            self._check_same_model(cancel)  # after the answer, so that one of another model is not used
        return answer

    def _check_same_model(self, cancel: threading.Event | None) -> None:
        found, options = self._described(self._persistent(self._parameters, cancel))
        if found.digest != self.manifest.digest:
            raise UnavailableError(
                f"{self.address} now serves another model as {self.model}: {found.name} (sha256 {found.digest[:12]}…) "
                f"instead of {self.manifest.name} (sha256 {self.manifest.digest[:12]}…); begin again"
            )
        if options.precision != self.precision:
            raise UnavailableError(
                f"{self.address} now draws in {options.precision} instead of {self.precision}; begin again"
            )

    def _persistent(self, ask: Callable[[], _T], cancel: threading.Event | None) -> _T:
        """The answer, also of a server that was away for a while. Raises: UnavailableError."""
        begun, pause, waiting = time.monotonic(), _FIRST_PAUSE_S, cancel or threading.Event()
        while True:
            try:
                return self._usable(ask)
            except (NotThereError, UnknownModelError) as error:  # it was there: the server stops, or loads it again
                gone = time.monotonic() - begun
                if gone + pause > self._retry_for:
                    tried = f" (tried for {gone:.0f} s)" if gone >= 1 else ""
                    raise UnavailableError(f"{self.address} is not available{tried}: {error}") from error
                if pause == _FIRST_PAUSE_S:
                    _log.warning("%s is not available: %s; trying again for %g s", self.address, error, self._retry_for)
            waiting.wait(pause)
            stop_if_set(cancel)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _usable(self, ask: Callable[[], _T]) -> _T:
        """The answer. Raises: RemoteError if it is malformed."""
        try:
            return ask()
        except MalformedError as error:
            raise RemoteError(f"{self.address} gave an answer that cannot be used: {error}") from error

    def _parameters(self) -> dict[str, str]:
        """The parameters of the model's config."""
        return self._client.parameters(self.model)

    def _others(self) -> str:
        """The models that there are, for an error."""
        try:
            names = self._usable(self._client.models)
        except (NotThereError, UnknownModelError, RemoteError):
            return ""
        return f"; its models are {', '.join(names[:20])}" if names else "; it has none that is ready"

    def _described(self, parameters: dict[str, str]) -> tuple[Manifest, ServingOptions]:
        """Read a config's parameters. Raises: RemoteError."""
        what = f"{self.model} on {self.address}"
        if MODEL_PARAMETER not in parameters:
            raise RemoteError(f"{what} is not a model that upscales pictures; name srflow_upscale, or one like it")
        try:
            return Manifest.from_description(parameters[MODEL_PARAMETER]), ServingOptions.of_parameters(parameters)
        except BundleError as error:
            raise RemoteError(f"{what}: {error}") from error
        except ArgumentError as error:
            raise RemoteError(f"the config of {what} cannot be used: {error}") from error
