"""Conditioning of tiles that is kept between draws, for as long as memory is enough."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from srflow_sdk.backends import Conditioning
from srflow_sdk.drawing.tiles import Tile

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class KeptTiles:
    """Conditioning by tile. Threads may use and drop it at a time: a tile that is not kept is encoded again."""

    def __init__(self) -> None:
        self._tiles: dict[Tile, Conditioning] = {}
        self.nbytes = 0
        """Bytes on the device."""

    def __len__(self) -> int:
        return len(self._tiles)

    def get(self, tile: Tile) -> Conditioning | None:
        return self._tiles.get(tile)

    def keep(self, tile: Tile, conditioning: Conditioning) -> None:
        self._tiles[tile] = conditioning
        self.nbytes += conditioning.nbytes

    def drop_half(self) -> None:
        """Drop the later half, so that drawing has room, too."""
        for tile in list(self._tiles)[(len(self._tiles) + 1) // 2 :]:
            self.nbytes -= self._tiles.pop(tile).nbytes

    def drop(self) -> bool:
        """Drop everything, because memory ran out. False if there was nothing."""
        dropped = len(self._tiles)
        self._tiles, self.nbytes = {}, 0
        if dropped:
            _log.warning("memory ran out: %d tiles that were kept encoded are encoded again when needed", dropped)
        return dropped > 0

    def spared(self, make: Callable[[], _T]) -> _T:
        """Call `make`; if memory runs out in it, drop everything and call it once more."""
        try:
            return make()
        except MemoryError:
            if not self.drop():
                raise
        return make()
