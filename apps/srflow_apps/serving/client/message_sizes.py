"""How large tiles may be and how many samples fit an answer, so that no message is larger than a limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from srflow_sdk.drawing.tiles import MIN_TILE, TileSize, padded_size
from srflow_sdk.errors import ArgumentError

ENVELOPE_BYTES = 4096
"""Room in a message for all but its largest tensors: names, shapes, small tensors, headers."""

LEAST_MESSAGE_BYTES = 1 << 16

_REQUEST_BYTES = 16  # for an LR pixel: three colours and a temperature, float32
_COLOURS_BYTES = 12  # for an HR pixel
_LARGEST_CORE, _STEP = 512, 16  # of tiles that are chosen here, in LR pixels


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
