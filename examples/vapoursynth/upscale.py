"""Enlarge a clip in VapourSynth: `upscale` for scripts of your own, or this file as vspipe's script
(README.md).
"""

from __future__ import annotations

import numpy as np
import vapoursynth as vs

from srflow_sdk import Upscaler


def upscale(
    clip: vs.VideoNode, upscaler: Upscaler, *, tau: float | str | None = None, seed: int = 0
) -> vs.VideoNode:
    """Enlarge every frame by the model's scale.

    clip: RGBS, of one size. Its frames are clipped to [0, 1], because conversions from YUV leave
    that range.
    upscaler: stays open as long as frames are asked for.
    tau, seed: as for Upscaler.upscale; the seed is that of every frame, so that texture keeps its
        place.

    Returns: an RGBS clip in [0, 1], with the properties of the frames of `clip`. VapourSynth draws
    one frame at a time, in any order, while its other threads decode ahead.
    Raises: vs.Error, also while frames are drawn.
    """
    if clip.format.id != vs.RGBS or clip.width == 0:
        size = "" if clip.width else "width=640, height=360, "
        matrix = ', matrix_in_s="709"' if clip.format.color_family == vs.YUV else ""
        found = clip.format.name if clip.width else "of several sizes"
        raise vs.Error(
            f"upscale takes RGBS clips of one size, and this one is {found}: "
            f"use clip.resize.Bicubic({size}format=vs.RGBS{matrix})"
        )

    def draw(n: int, f: list[vs.VideoFrame]) -> vs.VideoFrame:
        small = f[0]
        large = f[1].copy()
        pixels = np.clip(np.stack([np.asarray(small[plane]) for plane in range(3)]), 0, 1)
        for plane, drawn in enumerate(upscaler.upscale(pixels, layout="chw", tau=tau, seed=seed)):
            np.asarray(large[plane])[:] = drawn
        return large

    width = clip.width * upscaler.scale
    height = clip.height * upscaler.scale
    empty = vs.core.std.BlankClip(clip, width=width, height=height, keep=True).std.CopyFrameProps(
        clip
    )
    return empty.std.ModifyFrame([clip, empty], draw)


if __name__ == "__vapoursynth__":  # vspipe runs it; what `--arg` names is a global
    given = globals()
    # The file's own matrix is taken where it names one, and BT.709 where it does not.
    clip = vs.core.bs.VideoSource(given["source"]).resize.Bicubic(format=vs.RGBS, matrix_in_s="709")
    tau = float(given["tau"]) if "tau" in given else None
    large = upscale(clip, Upscaler(given.get("model", "x4-photo")), tau=tau)
    large.resize.Bicubic(
        format=vs.YUV420P8, matrix_s="709", dither_type="error_diffusion"
    ).set_output()
