"""A painter whose tiles a server draws; everything else about pictures and files is as for the local one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from srflow_apps.serving.client.server import Server
from srflow_sdk.backends import Backend, Conditioning
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.drawing.requests import Request
from srflow_sdk.drawing.tiles import Tile, TileSize
from srflow_sdk.drawing.values import Gathered, is_usable, not_finite
from srflow_sdk.errors import ArgumentError, RemoteError
from srflow_sdk.model.bundle import Bundle

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
        raise _only_here(self.device)

    def _drawn(
        self,
        tile: Tile,
        lr: NDArray[np.float32],
        request: Request,
        colours: Callable[[NDArray[np.float32]], NDArray[np.float32]],
        kept: Conditioning | None,
    ) -> Generator[int, None, list[NDArray[np.float32]]]:
        if request.latents is not None:
            raise _only_here(self.device)
        if max(request.seed, request.samples.stop - 1) >> 63:
            raise ArgumentError("seed and sample must be below 2^63 where a server draws")
        window, scale = tile.window, self.manifest.scale
        at_once = self._limits.samples_at_once(window.height * window.width)
        rows, columns = tile.core.within(window).scaled(scale).slices
        gathered, done = Gathered(request.reduce), 0
        for first in range(0, len(request.samples), at_once):
            request.stop_if_cancelled()
            samples = request.samples[first : first + at_once]
            drawn = self._server.draw(
                lr,
                window,
                request.temperature.within(window),
                seed=request.seed,
                samples=samples,
                cancel=request.options.cancel,
            )
            for sample, picture in zip(samples, drawn, strict=True):
                core = picture[rows, columns]
                if not is_usable(core):
                    raise not_finite(f"the server {self.device}", tile, request, sample)
                gathered.add(colours(core))
                done += 1
                yield done
        return gathered.pictures()


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
