"""The client: :class:`RemoteUpscaler`, whose tiles a server draws, and the model on the server that
draws them.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from srflow_apps.serving.http_client import (
    Address,
    HttpClient,
    NotThereError,
    UnknownModelError,
    parse_address,
)
from srflow_sdk._checks import real, whole
from srflow_sdk.backends import Backend, Conditioning, Finish
from srflow_sdk.drawing.options import Request
from srflow_sdk.drawing.painter import KeptTiles, Painter, is_usable, make_nonfinite_error
from srflow_sdk.engine import Engine
from srflow_sdk.errors import ArgumentError, BundleError, RemoteError, UnavailableError
from srflow_sdk.geometry.tiles import MIN_TILE, Tile, TileSize, Window, check_tile, padded_size
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.model.model_choice import BY_PICTURE
from srflow_sdk.model.serving_config import MODEL_PARAMETER, ServingOptions
from srflow_sdk.pixels.conservative_smoothing import smooth
from srflow_sdk.system.interrupts import cancelled_by, stop_if_set
from srflow_sdk.upscaler import Upscaler

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 4.0
ENVELOPE_BYTES = 4096
"""Room in a message for all but its largest tensors: names, shapes, small tensors, headers."""

LEAST_MESSAGE_BYTES = 1 << 16

_REQUEST_BYTES = 16  # for an LR pixel: three colours and a temperature, float32
_COLOURS_BYTES = 12  # for an HR pixel
_LARGEST_CORE = 512  # of tiles that are chosen here, in LR pixels

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The tiles and samples that messages can hold.

    message_bytes: of requests and answers. tile_pixels, answer_bytes, samples: the server's limits
    of a request's tile in LR pixels, of an answer, and of the samples in it. scale, multiple: the
    model's.
    """

    message_bytes: int
    tile_pixels: int
    answer_bytes: int
    samples: int
    scale: int
    multiple: int

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
        """Return the side of tiles' cores for a height×width image, a multiple of `multiple`; None:
        it is one tile.

        tile: what is asked for. No window has more than :attr:`pixels`: a core that would need more
        becomes smaller, down to the smallest that there is. With "auto" it is as large as possible,
        up to 512 pixels.
        """
        multiple = self.multiple
        if tile is None or tile == "auto":
            if height * width <= self.pixels:
                return None
            tile = max(height, width) if tile is None else _LARGEST_CORE
        largest = math.isqrt(self.pixels) - 2 * padded_size(halo, multiple)
        core = min(padded_size(tile, multiple), largest // multiple * multiple)
        return max(core, padded_size(MIN_TILE, multiple))


class Server:
    """A model of :mod:`srflow_apps.serving` on a server. Thread-safe.

    manifest, precision: the model's. limits: of messages.
    timeout: seconds that a call may take. retry_for: seconds for which a call is tried again while
    the server is unavailable; the first one, which opens it, is not.

    Raises: ArgumentError, UnavailableError if it cannot be reached, UnknownModelError.
    """

    def __init__(
        self,
        address: Address,
        model: str,
        *,
        timeout: float,
        retry_for: float,
        max_message_bytes: int,
    ) -> None:
        self.address = address
        self.model = model
        self._retry_for = retry_for
        self._client = HttpClient(address, timeout=timeout, max_message_bytes=max_message_bytes)
        try:
            self.manifest, options = self._read_parameters(self._client.parameters(model))
            self.precision = options.precision
            self.limits = Limits(
                message_bytes=max_message_bytes,
                tile_pixels=options.max_tile_pixels,
                answer_bytes=options.max_answer_bytes,
                samples=options.max_samples,
                scale=self.manifest.scale,
                multiple=self.manifest.size_multiple,
            )
        except NotThereError as error:
            hint = "start the server, or check the name and port; Triton's port for HTTP is 8000"
            raise UnavailableError(f"{address} cannot be reached: {error}; {hint}") from error
        except UnknownModelError as error:
            others = self._list_others()
            raise UnknownModelError(f"{address} has no model {model!r}{others}") from error

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

        lr: the window, float32 3×h×w in [0, 1]. tau: a number, or a map h×w. It is tried again
        while the server is unavailable.

        Raises: UnavailableError, also if the server has another model now; RemoteError;
        CancelledError; ArgumentError, OutOfMemoryError, NonFiniteError and ImageError if the server
        says so.
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
            answer = self._ask_patiently(
                lambda: self._client.infer(self.model, inputs, "tile_upscaled", shape), cancel
            )
            # after the answer, so that one of another model is not used
            self._check_same_model(cancel)
        return answer

    def _check_same_model(self, cancel: threading.Event | None) -> None:
        served, options = self._read_parameters(
            self._ask_patiently(lambda: self._client.parameters(self.model), cancel)
        )
        if served.digest != self.manifest.digest:
            raise UnavailableError(
                f"{self.address} now serves another model as {self.model}: {served.name} (sha256 "
                f"{served.digest[:12]}…) "
                f"instead of {self.manifest.name} (sha256 {self.manifest.digest[:12]}…); begin "
                "again"
            )
        if options.precision != self.precision:
            raise UnavailableError(
                f"{self.address} now draws in {options.precision} instead of {self.precision}; "
                "begin again"
            )

    def _ask_patiently(self, ask: Callable[[], _T], cancel: threading.Event | None) -> _T:
        """The answer, also of a server that was away for a while. Raises: UnavailableError."""
        begun = time.monotonic()
        pause = _FIRST_PAUSE_S
        waiting = cancel or threading.Event()
        while True:
            try:
                return ask()
            except (
                NotThereError,
                UnknownModelError,
            ) as error:  # it was there: the server stops, or loads it again
                gone = time.monotonic() - begun
                if gone + pause > self._retry_for:
                    tried = f" (tried for {gone:.0f} s)" if gone >= 1 else ""
                    raise UnavailableError(
                        f"{self.address} is not available{tried}: {error}"
                    ) from error
                if pause == _FIRST_PAUSE_S:
                    _log.warning(
                        "%s is not available: %s; trying again for %g s",
                        self.address,
                        error,
                        self._retry_for,
                    )
            waiting.wait(pause)
            stop_if_set(cancel)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _list_others(self) -> str:
        """The models that there are, for an error."""
        try:
            names = self._client.models()
        except (NotThereError, RemoteError):
            return ""
        return (
            f"; its models are {', '.join(names[:20])}" if names else "; it has none that is ready"
        )

    def _read_parameters(self, parameters: dict[str, str]) -> tuple[Manifest, ServingOptions]:
        """Read a config's parameters. Raises: RemoteError."""
        what = f"{self.model} on {self.address}"
        if MODEL_PARAMETER not in parameters:
            raise RemoteError(
                f"{what} is not a model that upscales pictures; name srflow_upscale, or one like it"
            )
        try:
            return Manifest.from_description(
                parameters[MODEL_PARAMETER]
            ), ServingOptions.of_parameters(parameters)
        except BundleError as error:
            raise RemoteError(f"{what}: {error}") from error
        except ArgumentError as error:
            raise RemoteError(f"the config of {what} cannot be used: {error}") from error


class RemotePainter(Painter):
    """Asks the server for whole tiles: it draws the latents of their place, encodes and samples.

    Nothing of a tile is kept between calls, here or there. A tile that does not fit a message
    becomes smaller.
    """

    def __init__(self, bundle: Bundle, server: Server, tile: TileSize) -> None:
        super().__init__(bundle, _ServerBackend(server), tile)
        self._server = server
        self._limits = server.limits

    def choose_core(self, height: int, width: int, *, halo: int | None = None) -> int | None:
        self.check_open()
        halo = self.manifest.halo if halo is None else halo
        return self._limits.core(self._tile, height=height, width=width, halo=halo)

    def conditioning_budget(self, asked: int | None = None) -> int:
        return 0

    def inverting_backend(self) -> NoReturn:
        raise _make_local_error(self.backend.device)

    def draw_samples(
        self,
        tile: Tile,
        lr: NDArray[np.float32],
        request: Request,
        kept: KeptTiles,
        finish: Finish | None,
    ) -> Iterator[NDArray[Any]]:
        options = request.options
        if request.latents is not None:
            raise _make_local_error(self.backend.device)
        if options.wrap:
            raise ArgumentError(
                "a server does not wrap textures; leave out wrap, or draw on this machine"
            )
        if max(int(options.seed), request.samples.stop - 1) >> 63:
            raise ArgumentError("seed and sample must be below 2^63 where a server draws")
        window = tile.window
        scale = self.manifest.scale
        at_once = self._limits.samples_at_once(window.height * window.width)
        rows, columns = tile.core.within(window).scaled(scale).slices
        for first in range(0, len(request.samples), at_once):
            stop_if_set(options.cancel)
            samples = request.samples[first : first + at_once]
            drawn = self._server.draw(
                lr,
                window,
                request.temperature.within(window),
                seed=int(options.seed),
                samples=samples,
                cancel=options.cancel,
            )
            for sample, picture in zip(samples, drawn, strict=True):
                core = (
                    smooth(picture, rows, columns) if request.smoothed else picture[rows, columns]
                )
                if not is_usable(core):
                    raise make_nonfinite_error(
                        f"the server {self.backend.device}", tile, request, sample
                    )
                yield core


class _ServerBackend(Backend):
    """A server in the place of a device: it has a name and closes. It draws whole tiles only."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self.precision = server.precision
        self.activate()

    @property
    def device(self) -> str:
        return str(self._server.address)

    def activate_impl(self) -> None:
        """The server was asked for its model before."""

    def deactivate_impl(self) -> None:
        self._server.close()

    def encode_impl(self, lr: NDArray[np.float32]) -> Conditioning:
        raise _make_local_error(self.device)

    def sample_impl(
        self, conditioning: Conditioning, noise: Mapping[int, NDArray[np.float32]], tau: float
    ) -> NDArray[np.float32]:
        raise _make_local_error(self.device)


def _make_local_error(server: str) -> RemoteError:
    return RemoteError(
        f"{server} only upscales; to invert, decode, restore or transfer pictures, use Upscaler "
        "with the bundle on "
        "this machine"
    )


MODEL = "srflow_upscale"
"""The name that srflow-export gives the model for clients; of several bundles, before a hyphen and
a bundle's name."""

MAX_MESSAGE_BYTES = 8_000_000

LONGEST_S = 10_000_000.0
"""Longest time to wait, 116 days."""


class RemoteUpscaler(Upscaler):
    """Super-resolution on a Triton server, which `srflow-export --triton` makes a repository for.

        with RemoteUpscaler("gpu-machine:8000") as upscaler:
            upscaler.upscale("photo.jpg").save("large.png")

    Pictures and files are read, cut into tiles, finished and written here, as :class:`Upscaler`
    does it; the server draws the tiles. With equal tiles the pictures are those of an Upscaler on
    the server's device, bit for bit; otherwise they differ by the halo's truncation.

    Args:
        url: "host:port" or "http://host:port"; without a port, Triton's own, 8000. Connections are
            not encrypted.
        model: Its name on the server, such as "srflow_upscale". "auto" draws each picture with the
            one that suits it, as :class:`Upscaler` does, of the embedded models that the server has
            ("srflow_upscale-x4-small" …); everything with "srflow_upscale" if it has none.
        tile: As for :class:`Upscaler`, but "auto" takes the largest that fits a message, up to 512
            pixels, and one that does not fit becomes smaller.
        max_message_bytes: No request or answer is larger; what is beyond it is not read. Several
            samples are asked for at a time as far as they fit.
        timeout: Seconds that the server may take for one tile, to the last byte of its answer.
        retry_for: How many seconds a server that is unavailable is tried again, after pauses that
            grow; only opening it fails at once. Other failures are not tried again.

    :attr:`bundle` has the manifest as far as the server tells it, and no files; :attr:`precision`
    is the server's own. `encode` keeps nothing encoded: each later call has its tiles encoded
    again. `restore`, `transfer`, `log_likelihood`, `Encoding.invert` and `Encoding.decode` raise
    RemoteError: they need the model here. Seeds and samples are below 2^63. An answer that the
    protocol does not allow is a RemoteError, and one whose values are not finite, or beyond
    ±65,504, a NonFiniteError.

    Thread-safe. Not to be used in a process that is forked after it was made.

    Raises:
        ArgumentError: An argument is wrong, or the server says so of a request.
        UnavailableError: The server cannot be reached, or has another model by now, so that no
            picture is made with two.
        RemoteError: It has no such model, or its answer cannot be used.

    Every method raises these and the errors of :class:`Upscaler`, also for what the server says of
    its memory.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = BY_PICTURE,
        tile: TileSize = "auto",
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        timeout: float = 120.0,
        retry_for: float = 30.0,
    ) -> None:
        address = parse_address(url)
        check_tile(tile)
        real("timeout", timeout, least=0.001, most=LONGEST_S)
        real("retry_for", retry_for, least=0, most=LONGEST_S)
        whole("max_message_bytes", max_message_bytes, least=LEAST_MESSAGE_BYTES, most=(1 << 31) - 1)

        def ask(name: str) -> Server:
            return Server(
                address,
                name,
                timeout=timeout,
                retry_for=retry_for,
                max_message_bytes=max_message_bytes,
            )

        servers = list[Server]()
        for name in Bundle.embedded_names() if model == BY_PICTURE else ():
            with contextlib.suppress(UnknownModelError):
                servers.append(ask(f"{MODEL}-{name}"))
        if not servers:
            servers.append(ask(MODEL if model == BY_PICTURE else model))
        by_path = {Path(server.model): server for server in servers}
        bundles = [Bundle(path=path, manifest=server.manifest) for path, server in by_path.items()]
        self.engine = Engine(bundles, lambda one: RemotePainter(one, by_path[one.path], tile), tile)
