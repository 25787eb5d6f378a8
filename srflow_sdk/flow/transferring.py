"""Transfers content: blends, inverts, normalises inside the mask, decodes and pastes.

The publication's section 4.5, "image content transfer", with a gradient-domain blend before it.
Only the surroundings of the mask are computed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from srflow_sdk.drawing.file_upscaling import FileResult
from srflow_sdk.drawing.inverting import reduced_image, round_trip_halo
from srflow_sdk.drawing.options import DrawOptions, part_progress
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.encoding import EncodedPicture
from srflow_sdk.errors import ImageError
from srflow_sdk.files import ImageReader, WriteOptions
from srflow_sdk.files.passed_images import AnyImage, load_image
from srflow_sdk.flow.options import Blend, TransferOptions
from srflow_sdk.flow.restoring import make_file
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.pixels.colour import ColourConversion, conversion_for
from srflow_sdk.pixels.in_memory import (
    FLOAT32,
    Floats,
    ImageKind,
    Pixels,
    array_of,
    from_unit,
    gray_if_all_are,
    is_tensor,
    luma,
    to_unit,
    unpacked,
)
from srflow_sdk.pixels.membrane import Mask, blended, bounds, neighbour_sums

_log = logging.getLogger(__name__)

REACH = 6
"""How far, in pixels, content fades into the target outside of the mask; decoding changes less than
0.01/255 there."""

_HALF = 0.5


@dataclass(frozen=True)
class Picture:
    """An image's pixels, H×W×channels, and its kind."""

    pixels: Pixels
    kind: ImageKind

    def cut(self, rows: slice, columns: slice) -> Picture:
        return Picture(self.pixels[rows, columns], self.kind)

    @property
    def alpha(self) -> Floats | None:
        """Float32 H×W×1 in [0, 1], None if there is none."""
        return to_unit(self.pixels[..., -1:]) if self.kind.has_alpha else None

    @property
    def colours(self) -> Floats:
        """The colours in the image's own profile: float32 H×W×1 or 3 in [0, 1]."""
        return to_unit(self.pixels[..., : self.kind.colours])

    def colours_for(self, kind: ImageKind) -> Floats:
        """The colours as another kind of image has them: its profile, gray or RGB."""
        srgb = self.colours
        if self.kind.colours == kind.colours and self.kind.icc_profile == kind.icc_profile:
            return srgb
        own = conversion_for(self.kind.icc_profile, channels=self.kind.colours)
        other = conversion_for(kind.icc_profile, channels=kind.colours)
        srgb = srgb if own is None else own.to_srgb(srgb)
        if kind.colours == 1:
            return luma(srgb) if self.kind.colours == 3 else srgb
        rgb = np.repeat(srgb, 3 // srgb.shape[2], axis=2)
        return rgb if other is None else other.from_srgb(rgb)


def mask_of(mask: AnyImage | Mask) -> Mask:
    """Make a mask bool H×W: of bools, or of an image, where it is opaque and bright.

    Bright is at least half as bright as white.
    """
    if is_tensor(mask):
        mask = array_of(mask)
    if isinstance(mask, np.ndarray) and mask.dtype == np.bool_:
        flat = mask[..., 0] if mask.ndim == 3 and mask.shape[2] == 1 else mask
        if flat.ndim != 2 or not flat.size:
            raise ImageError(f"the mask's shape is {mask.shape}; a mask of bool is H×W")
        return flat
    return find_mask(Picture(*load_image(mask)))


def find_mask(picture: Picture) -> Mask:
    """The mask that an image is: bool H×W."""
    colours = picture.pixels[..., : picture.kind.colours]
    if colours.dtype != np.float32 and colours.max() == 1:
        raise ImageError(
            f"the mask's values are 0 and 1 of {np.iinfo(colours.dtype).max}, all of which are "
            "black; multiply the mask by 255, or make an array boolean: mask.astype(bool)"
        )
    gray = picture.colours if picture.kind.colours == 1 else luma(picture.colours)
    inside: Mask = gray[..., 0] >= _HALF
    return inside if picture.alpha is None else inside & (picture.alpha[..., 0] >= _HALF)


def transfer_pixels(
    target: Picture,
    source: Picture,
    mask: Mask,
    lr: Picture | None,
    painter: Painter,
    options: TransferOptions,
) -> tuple[Pixels, int | None]:
    """Do the work of :meth:`Upscaler.transfer`.

    Return the picture, and the side of the tiles' cores, if any.
    """
    painter.check_open()
    manifest = painter.manifest
    options.taus(manifest)
    painter.inverting_backend()  # before any work: the bundle may have no inverter
    _check_sizes(target, source, mask, lr, manifest.scale)
    if source.alpha is not None:
        mask = mask & (source.alpha[..., 0] >= _HALF)
    result = target.pixels.copy()
    if not mask.any():
        _log.warning(
            "the mask is empty, so the result is the target: nothing in it is at least half as "
            "bright as white"
        )
        return result, None
    # What the content depends on, cut where LR pixels and tiles begin.
    rows, columns = bounds(
        mask,
        margin=manifest.scale * round_trip_halo(manifest) + REACH,
        unit=manifest.scale * manifest.size_multiple,
    )
    if lr is not None:
        lr = lr.cut(
            *(
                slice(side.start // manifest.scale, -(-side.stop // manifest.scale))
                for side in (rows, columns)
            )
        )
    mask = mask[rows, columns]
    into = target.cut(rows, columns)
    content = source.cut(rows, columns)
    own, tile = _draw_content(into, content, mask, lr, painter, options)
    own = gray_if_all_are(own, into.colours, content.colours)
    share = shares(mask)
    changed = share > 0
    before = into.colours[changed]
    after = before + share[changed][:, None] * (own[changed] - before)
    result[rows, columns, : target.kind.colours][changed] = from_unit(after, target.kind.dtype)
    return result, tile


def _check_sizes(
    target: Picture, source: Picture, mask: Mask, lr: Picture | None, scale: int
) -> None:
    """Raises: ImageError unless they fit the target's size."""
    height, width = target.pixels.shape[:2]
    for what, array, size in (
        ("source", source.pixels, (height, width)),
        ("mask", mask, (height, width)),
        ("LR image", None if lr is None else lr.pixels, (-(-height // scale), -(-width // scale))),
    ):
        if array is not None and array.shape[:2] != size:
            raise ImageError(
                f"the {what} has {array.shape[1]}×{array.shape[0]} pixels; for a target of "
                f"{width}×{height} it must have {size[1]}×{size[0]}: resize, pad or crop it, so "
                "that everything lies where it is to appear"
            )


def transfer_file(
    painter: Painter,
    target: Path,
    source: Path,
    mask: Path,
    output: Path,
    *,
    lr: Path | None,
    options: TransferOptions,
    writing: WriteOptions,
) -> FileResult:
    """Do the work of :meth:`Upscaler.transfer_file`."""

    def make(readers: Mapping[str, ImageReader]) -> tuple[Pixels, dict[str, Any], str]:
        of = {
            what: Picture(reader.read_rows(reader.height), reader.kind)
            for what, reader in readers.items()
        }
        for reader in readers.values():
            reader.close()  # the work takes memory
        pixels, tile = transfer_pixels(
            of["target"], of["source"], find_mask(of["mask"]), of.get("lr"), painter, options
        )
        others = {
            what: (path, readers[what].sha256()) for what, path in paths.items() if what != "target"
        }
        return pixels, {"tile": tile, **options.provenance_fields(painter.manifest, others)}, ""

    paths = {"target": target, "source": source, "mask": mask, **({} if lr is None else {"lr": lr})}
    return make_file(paths, output, painter, writing, make)


def _draw_content(
    target: Picture,
    source: Picture,
    mask: Mask,
    lr: Picture | None,
    painter: Painter,
    options: TransferOptions,
) -> tuple[Floats, int | None]:
    """Draw a part of the picture in the target's profile; return its tiles' cores, too.

    It is inverted and decoded with an LR image in sRGB with the target's alpha. blend="none": the
    target's, which decides brightness and shapes. blend="gradient": that, changed by what the
    content changes in the reduction, so the target's own LR image stays where there is no content.
    """
    # Many names: each picture is needed in the target's profile and as the network sees it.
    manifest = painter.manifest
    kind = target.kind
    conversion = conversion_for(kind.icc_profile, channels=kind.colours)
    before = target.colours
    content = source.colours_for(kind)
    if options.blend == "gradient":
        # Invisible colours of the target are none that the content could fit.
        hidden = target.pixels[..., -1] == 0 if kind.has_alpha else np.zeros_like(mask)
        content = from_unit(blended(before, content, mask | hidden, options.cancel), FLOAT32)
    pasted = np.where(mask[..., None], content, before)
    small = _reduce(before, pasted, target, lr, conversion, options.blend, manifest)
    passes = [part_progress(number, 3, options.progress) for number in range(3)]
    unit_kind = ImageKind(channels=kind.channels, dtype=FLOAT32)
    encoded = EncodedPicture(
        small,
        unit_kind,
        painter,
        memory_budget=None,
        halo=round_trip_halo(manifest),
        progress=passes[0],
        cancel=options.cancel,
    )
    large, large_kind = unpacked(_to_network(pasted, target, conversion))
    latents = encoded.invert(large, large_kind, progress=passes[1], cancel=options.cancel)
    latents = latents.normalised(
        options.taus(manifest), over="local", where=mask, seed=int(options.seed)
    )
    decoding = DrawOptions(tau=1.0, progress=passes[2], cancel=options.cancel)
    srgb = encoded.decode(latents, decoding)[..., : kind.colours]
    if conversion is None:
        return srgb, encoded.core
    # Colours outside sRGB bypass the network.
    lost = pasted - conversion.from_srgb(conversion.to_srgb(pasted))
    return conversion.from_srgb(from_unit(srgb, FLOAT32)) + lost, encoded.core


def _to_network(colours: Floats, target: Picture, conversion: ColourConversion | None) -> Floats:
    """Convert the target's colours to what the network sees: sRGB, with the target's alpha."""
    srgb = colours if conversion is None else conversion.to_srgb(colours)
    return srgb if target.alpha is None else np.concatenate([srgb, target.alpha], axis=2)


def _reduce(
    before: Floats,
    pasted: Floats,
    target: Picture,
    lr: Picture | None,
    conversion: ColourConversion | None,
    blend: Blend,
    manifest: Manifest,
) -> Floats:
    """Make the LR image of the target, or of what is pasted into it, from the given one if any."""
    reduced: Floats = reduced_image(_to_network(before, target, conversion), manifest)
    small = reduced
    if lr is not None:
        colours = target.kind.colours
        small = lr.colours_for(ImageKind(channels=colours, dtype=FLOAT32))
        if target.alpha is not None:
            small = np.concatenate([small, reduced_image(target.alpha, manifest)], axis=2)
    if blend == "gradient":
        change = reduced_image(_to_network(pasted, target, conversion), manifest) - reduced
        small = from_unit(small + change, FLOAT32)
    return small


def shares(mask: Mask) -> Floats:
    """How much of the drawn picture shows: 1 inside the mask, 0 beyond :data:`REACH`."""
    share = mask.astype(np.float32)
    grown = mask
    for distance in range(1, REACH + 1):
        larger = grown | (neighbour_sums(grown.astype(np.float64)) > 0)
        share[larger & ~grown] = 1 - distance / (REACH + 1)
        grown = larger
    return share
