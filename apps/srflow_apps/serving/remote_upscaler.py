"""The client's entry point: :class:`RemoteUpscaler`, whose tiles a server draws."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from srflow_apps.serving.http_client import parse_address
from srflow_apps.serving.served_model import LEAST_MESSAGE_BYTES, NoModelError, Server
from srflow_sdk._checks import real, whole
from srflow_sdk.backends import Backend, Conditioning
from srflow_sdk.base_upscaler import BaseUpscaler
from srflow_sdk.drawing.options import Request
from srflow_sdk.drawing.painter import KeptTiles, Painter, is_usable, not_finite
from srflow_sdk.drawing.tiles import Tile, TileSize, check_tile
from srflow_sdk.encoding import Encoding
from srflow_sdk.errors import ArgumentError, RemoteError
from srflow_sdk.files.passed_images import EncodedImage
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.model_choice import BY_PICTURE
from srflow_sdk.pixels.in_memory import InMemoryImage, Tensor
from srflow_sdk.system.raising import stop_if_set

_log = logging.getLogger(__name__)


class RemotePainter(Painter):
    """Asks the server for whole tiles: it draws the latents of their place, encodes and samples.

    Nothing of a tile is kept between calls, here or there. A tile that does not fit a message becomes smaller.
    """

    def __init__(self, bundle: Bundle, server: Server, tile: TileSize) -> None:
        super().__init__(bundle, _ServerBackend(server), tile)
        self._server = server
        self._limits = server.limits
        self._told = False

    def core(self, height: int, width: int, *, halo: int | None = None) -> int | None:
        self.check_open()
        halo = self.manifest.halo if halo is None else halo
        core = self._limits.core(self._tile, height=height, width=width, halo=halo)
        asked = min(height, width) if self._tile is None else self._tile
        if core is not None and asked != "auto" and core < min(asked, height, width) and not self._told:
            self._told = True
            _log.warning(
                "%s do not fit messages of %d bytes, or are more than the server takes; continuing with tiles of %d "
                "pixels",
                "whole pictures of this size" if self._tile is None else f"tiles of {asked} pixels",
                self._limits.message_bytes,
                core,
            )
        return core

    def inverting_backend(self) -> NoReturn:
        raise _only_here(self.backend.device)

    def samples(
        self, tile: Tile, lr: NDArray[np.float32], request: Request, kept: KeptTiles, *, rounded: bool
    ) -> Iterator[NDArray[Any]]:
        options = request.options
        if request.latents is not None:
            raise _only_here(self.backend.device)
        if max(int(options.seed), request.samples.stop - 1) >> 63:
            raise ArgumentError("seed and sample must be below 2^63 where a server draws")
        window, scale = tile.window, self.manifest.scale
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
                core = picture[rows, columns]
                if not is_usable(core):
                    raise not_finite(f"the server {self.backend.device}", tile, request, sample)
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
        raise _only_here(self.device)

    def sample_impl(
        self, conditioning: Conditioning, noise: Mapping[int, NDArray[np.float32]], tau: float
    ) -> NDArray[np.float32]:
        raise _only_here(self.device)


def _only_here(server: str) -> RemoteError:
    return RemoteError(
        f"{server} only upscales; to invert, decode, restore or transfer pictures, use Upscaler with the bundle on "
        "this machine"
    )


MODEL = "srflow_upscale"
"""The name that srflow-export gives the model for clients; of several bundles, before a hyphen and a bundle's name."""

MAX_MESSAGE_BYTES = 8_000_000

LONGEST_S = 10_000_000.0
"""Longest time to wait, 116 days."""


class RemoteUpscaler(BaseUpscaler):
    """Super-resolution on a Triton server, which `srflow-export --triton` makes a repository for.

        with RemoteUpscaler("gpu-machine:8000") as upscaler:
            upscaler.upscale("photo.jpg").save("large.png")

    Pictures and files are read, cut into tiles, finished and written here, as :class:`Upscaler` does it; the server
    draws the tiles. With equal tiles the pictures are those of an Upscaler on the server's device, bit for bit;
    otherwise they differ by the halo's truncation.

    Args:
        url: "host:port" or "http://host:port"; without a port, Triton's own, 8000. Connections are not encrypted.
        model: its name on the server, such as "srflow_upscale". "auto" draws each picture with the one that suits it,
            as :class:`Upscaler` does, of the embedded models that the server has ("srflow_upscale-x4-small" …);
            everything with "srflow_upscale" if it has none.
        tile: as for :class:`Upscaler`, but "auto" takes the largest that fits a message, up to 512 pixels, and one
            that does not fit becomes smaller, with one warning.
        max_message_bytes: no request or answer is larger; what is beyond it is not read. Several samples are asked for
            at a time as far as they fit.
        timeout: seconds that the server may take for one tile, to the last byte of its answer.
        retry_for: how many seconds a server that is unavailable is tried again, after pauses that grow; only opening
            it fails at once. Other failures are not tried again.

    :attr:`bundle` has the manifest as far as the server tells it, and no files; :attr:`precision` is the server's own.
    `encode` keeps nothing encoded: each later call has its tiles encoded again. It has no `restore`, `transfer` and
    `log_likelihood`, and `Encoding.invert` and `Encoding.decode` raise RemoteError: they need the model here. Seeds and
    samples are below 2^63. An answer that the protocol does not allow is a RemoteError, and one whose values are not
    finite, or beyond ±65,504, a NonFiniteError.

    Thread-safe. Not to be used in a process that is forked after it was made.

    Raises:
        ArgumentError: an argument is wrong, or the server says so of a request.
        UnavailableError: the server cannot be reached, or has another model by now, so that no picture is made with
            two.
        RemoteError: it has no such model, or its answer cannot be used.

    Every method raises these and the errors of :class:`Upscaler`, also for what the server says of its memory.
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
        if not isinstance(model, str) or not model:
            raise ArgumentError(f"model is {model!r}; it must be the name of a model on the server")
        message_bytes = whole("max_message_bytes", max_message_bytes, least=LEAST_MESSAGE_BYTES, most=(1 << 31) - 1)
        patience = {
            "timeout": real("timeout", timeout, least=0.001, most=LONGEST_S),
            "retry_for": real("retry_for", retry_for, least=0, most=LONGEST_S),
        }

        def ask(name: str) -> None:
            server = Server(address, name, **patience, max_message_bytes=message_bytes)
            stack.callback(server.close)
            self._servers.append(server)

        self._servers = list[Server]()
        with contextlib.ExitStack() as stack:
            for name in Bundle.embedded_names() if model == BY_PICTURE else ():
                with contextlib.suppress(NoModelError):
                    ask(f"{MODEL}-{name}")
            if not self._servers:
                ask(MODEL if model == BY_PICTURE else model)
            stack.pop_all()
        by_path = {Path(server.model): server for server in self._servers}
        bundles = [Bundle(path=path, manifest=server.manifest) for path, server in by_path.items()]
        super().__init__(bundles, lambda one: RemotePainter(one, by_path[one.path], tile), tile)

    def close(self) -> None:
        super().close()
        for server in self._servers:  # also of a model that no picture needed
            server.close()

    def _encoding(self, image: InMemoryImage | Tensor | EncodedImage, **how: Any) -> Encoding[Any]:
        return super()._encoding(image, **{**how, "memory_budget": 0})
