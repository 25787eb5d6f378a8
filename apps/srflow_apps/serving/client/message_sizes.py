"""How large tiles may be and how many samples fit an answer, so that no message is larger than a limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from srflow_sdk.drawing.tiles import MIN_TILE, TileSize, padded_size
from srflow_sdk.errors import ArgumentError

ENVELOPE_BYTES = 4096
"""What a message holds besides its largest tensors: names, shapes, small tensors, headers."""

LEAST_MESSAGE_BYTES = 1 << 16

_REQUEST_BYTES = 16  # for an LR pixel: three colours and a temperature, float32
_COLOURS_BYTES = 12  # for an HR pixel
_LARGEST_CORE, _STEP = 512, 16  # of tiles that are chosen here, in LR pixels


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a message may hold. message_bytes: in both directions. tile_pixels, answer_bytes, samples: the server's."""

    message_bytes: int
    tile_pixels: int
    answer_bytes: int
    samples: int

    def pixels(self, scale: int) -> int:
        """Most LR pixels of a tile's window, so that its request and one sample fit."""
        room = self.message_bytes - ENVELOPE_BYTES
        answer = min(room, self.answer_bytes) // (_COLOURS_BYTES * scale**2)
        return min(room // _REQUEST_BYTES, answer, self.tile_pixels)

    def samples_at_once(self, pixels: int, scale: int) -> int:
        """Most samples of a window of so many LR pixels that fit one answer, at least one."""
        room = min(self.message_bytes - ENVELOPE_BYTES, self.answer_bytes)
        return max(min(room // (_COLOURS_BYTES * scale**2 * pixels), self.samples), 1)


def check_limits(limits: Limits, *, scale: int, halo: int, multiple: int) -> None:
    """Raises: ArgumentError unless the smallest tile with its halo fits."""
    side = padded_size(MIN_TILE, multiple) + 2 * padded_size(halo, multiple)
    pixels = side**2
    needed = max(pixels * max(_REQUEST_BYTES, _COLOURS_BYTES * scale**2) + ENVELOPE_BYTES, LEAST_MESSAGE_BYTES)
    if limits.message_bytes < needed:
        raise ArgumentError(
            f"max_message_bytes is {limits.message_bytes:,}; the smallest tile of this model, with its halo {side}×"
            f"{side} pixels, needs {needed:,}"
        )
    if limits.pixels(scale) < pixels:
        raise ArgumentError(
            f"the server takes tiles of at most {limits.tile_pixels:,} pixels and answers of {limits.answer_bytes:,} "
            f"bytes; the smallest tile of this model, with its halo, has {pixels:,}: raise max_tile_pixels and "
            "max_answer_bytes in the model's config"
        )


def largest_core(tile: TileSize, *, height: int, width: int, multiple: int, halo: int, most: int) -> int | None:
    """The side of tiles' cores for a height×width image, a multiple of `multiple`; None: the image is one tile.

    tile: what is asked for. No window has more than `most` pixels: a core that would need more becomes smaller. With
    "auto" it is as large as possible, up to 512 pixels. `most` must be enough for the smallest tile.
    """
    reach = padded_size(halo, multiple)

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
