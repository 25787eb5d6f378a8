"""An LR image, some rows at a time: what the network sees of it, and what bypasses the network."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.drawing.rows import ArrayRows, RowSource
from srflow_sdk.drawing.tiles import padded_size
from srflow_sdk.pixels.colour import ColourConversion, conversion_for
from srflow_sdk.pixels.in_memory import ImageKind, to_unit
from srflow_sdk.pixels.transparency import ENLARGE_CONTEXT, enlarged, enlarged_alpha, filled


@dataclass(frozen=True, kw_only=True)
class LowResolution:
    """The LR image of one run. Rows are requested from the top down; see :class:`~srflow_sdk.drawing.rows.RowSource`.

    source: its pixels, H×W×kind.channels. multiple: the network's sides are multiples of it; the last row and column
    are repeated to fill up. reach: distance from a visible pixel, in LR pixels, within which the network must not see
    what lies under transparency.
    """

    source: RowSource
    kind: ImageKind
    height: int
    width: int
    multiple: int
    reach: int

    @classmethod
    def of(cls, pixels: NDArray[Any], kind: ImageKind, *, multiple: int, reach: int) -> LowResolution:
        """Take an image in memory."""
        height, width = pixels.shape[:2]
        return cls(source=ArrayRows(pixels), kind=kind, height=height, width=width, multiple=multiple, reach=reach)

    @functools.cached_property
    def conversion(self) -> ColourConversion | None:
        """Converts its colours to sRGB for the network and back; None if they are sRGB."""
        return conversion_for(self.kind.icc_profile, channels=self.kind.colours)

    @property
    def padded_height(self) -> int:
        return padded_size(self.height, self.multiple)

    @property
    def padded_width(self) -> int:
        return padded_size(self.width, self.multiple)

    def network_rows(self, top: int, bottom: int) -> NDArray[np.float32]:
        """Rows of the padded image for the network: float32 3×(bottom - top)×padded_width, sRGB in [0, 1]."""
        colours = self.colours(top, min(bottom, self.height))
        margins = ((0, bottom - top - colours.shape[0]), (0, self.padded_width - self.width), (0, 0))
        padded = np.pad(np.repeat(colours, 3 // colours.shape[2], axis=2), margins, mode="edge")
        return np.ascontiguousarray(padded.transpose(2, 0, 1))

    def colours(self, top: int, bottom: int) -> NDArray[np.float32]:
        """Rows as the network sees them, not padded: float32 h×W×1 or 3 in [0, 1], sRGB, nothing under transparency."""
        return self._opaque(top, bottom, to_unit if self.conversion is None else self.conversion.to_srgb)

    def own_colours(self, top: int, bottom: int) -> NDArray[np.float32]:
        """Rows as :meth:`colours` gives them, in the image's own profile."""
        return self._opaque(top, bottom, to_unit)

    def visible(self, top: int, bottom: int) -> NDArray[np.float32] | None:
        """1 where the image is not fully transparent, otherwise 0: h×W; None if it has no alpha."""
        if not self.kind.has_alpha:
            return None
        return (self.source.rows(top, bottom)[..., -1] > 0).astype(np.float32)

    def enlarged_alpha(self, top: int, bottom: int, scale: int) -> NDArray[np.generic]:
        """Alpha of rows, `scale` times as large, of the kind's dtype: sh×sW."""
        above, below = self._around(top, bottom, ENLARGE_CONTEXT)
        alpha = enlarged_alpha(self.source.rows(above, below)[..., -1], scale)
        return alpha[(top - above) * scale : (bottom - above) * scale]

    def in_own_profile(self, srgb: NDArray[np.float32], top: int, bottom: int, scale: int) -> NDArray[np.float32]:
        """The network's colours of rows, sh×sW×3, in the image's own profile.

        Colours outside sRGB bypass the network: the difference that the conversion to sRGB and back makes to the LR
        image is enlarged and added.
        """
        if self.conversion is None:
            return srgb
        above, below = self._around(top, bottom, ENLARGE_CONTEXT)
        own = self.own_colours(above, below)
        lost = own - self.conversion.from_srgb(self.conversion.to_srgb(own))
        lost = enlarged(lost, scale)[(top - above) * scale : (bottom - above) * scale]
        result: NDArray[np.float32] = self.conversion.from_srgb(np.clip(srgb, 0, 1)) + lost
        return result

    def forget(self, before: int) -> None:
        """Drop the rows above this one: they, and what is computed from them, will not be requested again."""
        margin = ENLARGE_CONTEXT + (self.reach if self.kind.has_alpha else 0)
        self.source.forget(max(before - margin, 0))

    def _opaque(
        self, top: int, bottom: int, values: Callable[[NDArray[Any]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Values of the rows' colours, taken from visible neighbours where they are fully transparent."""
        above, below = self._around(top, bottom, self.reach if self.kind.has_alpha else 0)
        pixels = self.source.rows(above, below)
        colours = values(pixels[..., : self.kind.colours])
        if self.kind.has_alpha:
            colours = filled(colours, pixels[..., -1], self.reach)
        return colours[top - above : bottom - above]

    def _around(self, top: int, bottom: int, margin: int) -> tuple[int, int]:
        return max(top - margin, 0), min(bottom + margin, self.height)
