"""Transfers content in memory and between files: blend, invert, normalise inside the mask, decode, and paste that.

The publication's section 4.5, "image content transfer", with a gradient-domain blend before it. Only the surroundings
of the mask are computed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.drawing.file_upscaling import FileResult, finished, made_of, writer_for
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.drawing.passes import pass_of
from srflow_sdk.drawing.tiles import padded_size
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files import Provenance, WriteOptions, check_writable, open_image
from srflow_sdk.files.formats import save_options
from srflow_sdk.files.provenance import TRANSFER
from srflow_sdk.flow.flow_options import TransferOptions
from srflow_sdk.flow.inverting import reduced_image, round_trip_halo
from srflow_sdk.flow.restoring import encoded_for_both
from srflow_sdk.flow.transfer_inputs import Inputs, Picture, mask_in
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.pixels import Floats
from srflow_sdk.pixels.colour import conversion_for
from srflow_sdk.pixels.in_memory import ImageKind, from_unit, to_unit
from srflow_sdk.pixels.membrane import blended, bounds, neighbour_sums
from srflow_sdk.system.local_files import real_path
from srflow_sdk.system.raising import memory_errors_typed

_log = logging.getLogger(__name__)

REACH = 6
"""How far, in pixels, content fades into the target outside of the mask. From benchmarks/transfer.py --reach."""


def transferred(inputs: Inputs, painter: Painter, options: TransferOptions) -> tuple[NDArray[Any], int | None]:
    """Do the work of :meth:`Upscaler.transfer`. Raises: its errors.

    Returns the picture, of the target's kind, and the side of the tiles' cores in LR pixels (None: one tile).
    """
    painter.check_open()
    manifest, target = painter.manifest, inputs.target
    options.taus(manifest)
    painter.inverting_backend()  # before any work: the bundle may have no inverter
    result = target.pixels.copy()
    if not inputs.mask.any():
        _log.warning(
            "the mask is empty, so the result is the target: nothing in it is at least half as bright as white"
        )
        return result, None
    # What the content depends on, cut where LR pixels and tiles begin.
    margin, unit = manifest.scale * round_trip_halo(manifest) + REACH, manifest.scale * manifest.size_multiple
    rows, columns = bounds(inputs.mask, margin=margin, unit=unit)
    mask = inputs.mask[rows, columns]
    own, tile = _drawn(inputs, rows, columns, painter, options)
    part = result[rows, columns]
    share = shares(mask)
    changed = share > 0
    before = target.colours(rows, columns)[changed]
    after = before + share[changed][:, None] * (own[changed] - before)
    part[..., : target.kind.colours][changed] = from_unit(after, target.kind.dtype)
    return result, tile


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
    """Do the work of :meth:`Upscaler.transfer_file`. Every input must be the same when the output is complete."""
    started = time.monotonic()
    paths = {"target": target, "source": source, "mask": mask, **({} if lr is None else {"lr": lr})}
    for what, path in paths.items():
        if real_path(path) == real_path(output):
            raise ArgumentError(f"{path} is the {what} and would be overwritten by the result; name another output")
    save_options(output, quality=writing.quality, lossless=writing.lossless)  # before any work
    manifest, most = painter.manifest, writing.max_pixels
    with memory_errors_typed(f"while transferring into {target}; use smaller pictures"):
        with ExitStack() as stack:
            readers = {what: stack.enter_context(open_image(path, max_pixels=most)) for what, path in paths.items()}
            of = {what: Picture.read(reader) for what, reader in readers.items()}
            digests = {what: reader.sha256() for what, reader in readers.items()}
        size = of["target"].width, of["target"].height
        check_writable(output, channels=of["target"].kind.channels, size=size)
        inputs = Inputs.of(of["target"], of["source"], mask_in(of["mask"]), of.get("lr"), scale=manifest.scale)
        pixels, tile = transferred(inputs, painter, options)
        others = {what: (path, digests[what]) for what, path in paths.items() if what != "target"}
        provenance = transferred_provenance(
            manifest, options, others, target=target, target_sha256=digests["target"], tile=tile
        )
        with writer_for(output, readers["target"], painter, provenance, writing, size=size) as writer:
            writer.write_rows(pixels)
            made = finished(writer, output, writing)
            for reader in readers.values():
                reader.check_unchanged()
    return FileResult(source=target, size=size, outputs=(made,), seconds=time.monotonic() - started)


def transferred_provenance(
    manifest: Manifest,
    options: TransferOptions,
    others: Mapping[str, tuple[Path, str] | None],
    *,
    target: Path,
    target_sha256: str,
    tile: int | None,
) -> Provenance:
    """The record of how a picture was made, for its file's metadata. others: the other inputs and their sha256."""
    named = {what: other and {"name": other[0].name, "sha256": other[1]} for what, other in others.items()}
    return made_of(
        manifest,
        source=target,
        source_sha256=target_sha256,
        tile=tile,
        tau=options.number(manifest),
        seed=int(options.seed),
        sample=0,
        consistent=False,
        operation=TRANSFER,
        settings=options.recorded(manifest, {"lr": None, **named}),
    )


def _drawn(
    inputs: Inputs, rows: slice, columns: slice, painter: Painter, options: TransferOptions
) -> tuple[Floats, int | None]:
    """The colours of a part of the picture as the model makes them, in the target's profile, and the tiles' cores."""
    manifest, target, mask = painter.manifest, inputs.target, inputs.mask[rows, columns]
    conversion = conversion_for(target.kind.icc_profile, channels=target.kind.colours)
    before, content = target.colours(rows, columns), inputs.source.colours_for(target.kind, rows, columns)
    if options.blend == "gradient":
        # Invisible colours of the target are none that the content could fit.
        hidden = target.pixels[rows, columns, -1] == 0 if target.kind.has_alpha else np.zeros_like(mask)
        content = np.clip(blended(before, content, mask | hidden, options.cancel), np.float32(0), np.float32(1))
    pasted = np.where(mask[..., None], content, before)

    def seen(colours: Floats) -> Floats:
        srgb = colours if conversion is None else conversion.to_srgb(colours)
        if not target.kind.has_alpha:
            return srgb
        return np.concatenate([srgb, to_unit(target.pixels[rows, columns, -1:])], axis=2)

    kind = ImageKind(channels=target.kind.channels, dtype=np.dtype(np.float32))
    lr = _lr_of(inputs, rows, columns, seen(before), seen(pasted), manifest, options)
    encoded, inverted, drawn = (pass_of(number, 3, options.progress) for number in range(3))
    encoding = encoded_for_both(lr, kind, painter, progress=encoded, cancel=options.cancel)
    latents = encoding.invert(seen(pasted), progress=inverted, cancel=options.cancel)
    latents = latents.normalised(options.taus(manifest), over="local", where=mask, seed=int(options.seed))
    decoded = encoding.decode(latents, progress=drawn, cancel=options.cancel)
    srgb = np.asarray(decoded, np.float32)[..., : target.kind.colours]
    height, width = (padded_size(side, manifest.size_multiple) for side in lr.shape[:2])
    tile = painter.core(height, width, halo=round_trip_halo(manifest))
    if conversion is None:
        return srgb, tile
    # Colours outside sRGB bypass the network.
    lost = pasted - conversion.from_srgb(conversion.to_srgb(pasted))
    return conversion.from_srgb(np.clip(srgb, np.float32(0), np.float32(1))) + lost, tile


def _lr_of(
    inputs: Inputs,
    rows: slice,
    columns: slice,
    before: Floats,
    pasted: Floats,
    manifest: Manifest,
    options: TransferOptions,
) -> Floats:
    """The LR image to invert and decode with: sRGB float32, with the target's alpha.

    blend="none": the target's, which decides brightness and shapes. blend="gradient": that, changed by what the content
    changes in the reduction, so the target's own LR image stays where there is no content.
    """
    if inputs.lr is None:
        small: Floats = reduced_image(before, manifest)
    else:
        scale = manifest.scale
        places = (slice(side.start // scale, -(-side.stop // scale)) for side in (rows, columns))
        kind = ImageKind(channels=inputs.target.kind.colours, dtype=np.dtype(np.float32))
        small = inputs.lr.colours_for(kind, *places)
        if inputs.target.kind.has_alpha:
            small = np.concatenate([small, reduced_image(before[..., -1:], manifest)], axis=2)
    if options.blend == "none":
        return small
    change = reduced_image(pasted, manifest) - reduced_image(before, manifest)
    changed: Floats = np.clip(small + change, np.float32(0), np.float32(1))
    return changed


def shares(mask: NDArray[np.bool_]) -> Floats:
    """How much of the drawn picture shows: 1 inside the mask, less for each pixel outside, 0 beyond :data:`REACH`."""
    share = mask.astype(np.float32)
    grown = mask
    for distance in range(1, REACH + 1):
        larger = grown | (neighbour_sums(grown.astype(np.float64)) > 0)
        share[larger & ~grown] = 1 - distance / (REACH + 1)
        grown = larger
    return share
