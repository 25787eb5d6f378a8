"""The protocol `clips`: a clip's frames, enlarged in each way that :class:`FrameUpscaler` knows,
and how they flicker.

Flicker is the mean absolute difference between a frame and the one before it, carried along the
true motion, of pixels that are in both, in 8-bit steps; less the same of the HR clip, whose pixels
change too: by interpolation, and by light.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srflow_evaluation.bench import Bench, open_bench
from srflow_evaluation.options import Options
from srflow_evaluation.output import Table
from srflow_evaluation.pictures import Picture, PictureFiles, to_pixels
from srflow_evaluation.results import Results, Row
from srflow_sdk import Upscaler
from srflow_sdk.clips import FrameUpscaler
from srflow_sdk.clips.optical_flow import Motion, gray, motion_between
from srflow_sdk.errors import ArgumentError
from srflow_sdk.system.local_files import file_sha256
from srflow_training.data import size_of, to_image
from srflow_training.lpips_weights import weights_file

MOTION = "motion.npz"
"""The file in the clip's folder with its true motion: `flow` T×2×H×W, rows then columns, where each
pixel of a frame was in the one before, less where it is, and `visible` T×H×W, whether it was to be
seen there."""

FLICKER = "flicker"
_COLUMN = {FLICKER: ("flicker, /255 ↓", ".2f")}


@torch.no_grad()
def clips(options: Options) -> Table:
    """Measure and write results.csv (a row per frame and way) and summary.json; return the table.

    Raises:
        SRFlowError.
    """
    lpips = () if weights_file("alex") is None else ("lpips",)
    bench = open_bench(replace(options, metrics=options.metrics or ("psnr", *lpips, "lr_psnr")))
    tau = options.sampling_tau(bench.subject.default_tau)
    if bench.subject.upscaler is None:
        raise ArgumentError(
            "clips are drawn by the runtime: export the checkpoint, and name the bundle with "
            "--model"
        )
    if len(bench.pictures) < 2:
        raise ArgumentError(f"--hr {options.hr} holds one frame: a clip has two at least")
    truth = options.hr / MOTION
    known = file_sha256(truth) if truth.is_file() else "estimated"
    settings = {**bench.settings, "measured": "clips", "tau": str(tau), "motion": known}
    results = Results(options.out, settings)
    clip = _Clip.open(
        bench,
        bench.subject.upscaler,
        tau="auto" if not tau.values else tau.values[0],
        folder=options.hr,
    )
    for files in bench.pictures:
        results.forget(files.name)  # each depends on those before it
    rows = results.measure(bench.pictures, clip.rows_of, options.progress)
    means = {way: bench.means(rows, [FLICKER], method=way) for way in [*clip.ways, "HR"]}
    own = means.pop("HR")[FLICKER]
    how = "estimated from the HR frames" if known == "estimated" else f"that of {MOTION}"
    note = f"Flicker is beyond that of the HR clip, {own:.2f}; motion: {how}. τ {tau}."
    by_way = [{"method": way, **row} for way, row in means.items()]
    results.write_summary(summary := bench.summary("clips", rows, by_way, note, hr_flicker=own))
    return bench.table([*means.items()], summary["notes"], _COLUMN)


@dataclass(kw_only=True)
class _Clip:
    """A clip whose frames are measured in their order.

    Attributes:
        before: the last one by way, and as HR.
    """

    bench: Bench
    ways: Mapping[str, FrameUpscaler | None]
    truth: tuple[NDArray[np.float32], NDArray[np.bool_]] | None
    before: Mapping[str, NDArray[np.float32]]
    number: int = 0

    @classmethod
    def open(cls, bench: Bench, upscaler: Upscaler, *, tau: Any, folder: Path) -> _Clip:
        """Raises: ArgumentError if the file of its motion is not of these frames."""
        ways: dict[str, FrameUpscaler | None] = {"bicubic": None}
        ways["τ 0"] = FrameUpscaler(upscaler, latents="screen", tau=0.0)
        for latents in ("motion", "screen", "fresh"):
            ways[latents] = FrameUpscaler(upscaler, latents=latents, tau=tau)
        truth = None
        if (folder / MOTION).is_file():
            try:
                with np.load(folder / MOTION) as file:
                    truth = (
                        np.asarray(file["flow"], np.float32),
                        np.asarray(file["visible"], np.bool_),
                    )
            except (OSError, ValueError, KeyError) as error:
                raise ArgumentError(
                    f"{folder / MOTION} is damaged, or holds no flow and visible ({error})"
                ) from error
            shape = (len(bench.pictures), *size_of(bench.pictures[0].hr))
            if truth[1].shape != shape or truth[0].shape != (shape[0], 2, *shape[1:]):
                what = f"is of frames and pixels {truth[1].shape}, and the clip has {shape}"
                raise ArgumentError(
                    f"{folder / MOTION} {what}: delete it, and the motion is estimated"
                )
        return cls(bench=bench, ways=ways, truth=truth, before={})

    def rows_of(self, files: PictureFiles) -> list[Row]:
        """The rows of the next frame."""
        picture = self.bench.read(files)
        images = {way: self._image(way, picture) for way in self.ways}
        now = {
            way: to_pixels(image).astype(np.float32)
            for way, image in {**images, "HR": picture.hr}.items()
        }
        changes: dict[str, float] = {}
        if self.before and (motion := self._motion(now["HR"])) is not None:
            for way, frame in now.items():
                (came,), seen = motion.carried(self.before[way], top=0, bottom=len(frame))
                changes[way] = float(
                    np.abs(frame - np.clip(came, 0, 255))[seen[..., 0] == 1].mean()
                )
        self.before = now
        self.number = self.number + 1
        flicker = {way: {FLICKER: change - changes["HR"]} for way, change in changes.items()}
        rows = [
            {**self.bench.row(picture, way, [image]), **flicker.get(way, {})}
            for way, image in images.items()
        ]
        own = {FLICKER: changes["HR"]} if changes else {}
        return [*rows, {"picture": picture.name, "method": "HR", "tau": "", **own}]

    def _image(self, way: str, picture: Picture) -> Tensor:
        upscaler = self.ways[way]
        if upscaler is None:
            return self.bench.references[way](picture)
        return to_image(upscaler.draw(to_pixels(picture.lr), self.number))

    def _motion(self, hr: NDArray[np.float32]) -> Motion | None:
        """The true motion of this frame; None after a cut."""
        height, width = hr.shape[:2]
        if self.truth is None:
            before, now = (gray(frame.astype(np.uint8)) for frame in (self.before["HR"], hr))
            motion = motion_between(before, now, height=height, width=width)
            return None if motion.is_cut else motion
        flow, visible = (part[self.number] for part in self.truth)
        rows, columns = self.bench.cut.window(*visible.shape)
        flow = np.ascontiguousarray(flow[::-1, rows, columns].transpose(1, 2, 0))
        return Motion(flow=flow, seen=visible[rows, columns])
