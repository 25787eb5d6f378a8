"""The protocol `clips`: a clip's frames, enlarged in each way of :class:`FrameUpscaler`.

Flicker is the mean absolute difference between a frame and the one before it, carried along the
true motion, of pixels that are in both, in 8-bit steps; less the same of the HR clip, whose pixels
change too: by interpolation, and by light.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from srflow_evaluation.pictures import Picture, PictureFiles
from srflow_evaluation.results import Results, Row
from srflow_sdk import Upscaler
from srflow_sdk.clips import FrameUpscaler
from srflow_sdk.clips.optical_flow import Motion, gray, motion_between
from srflow_sdk.errors import ArgumentError
from srflow_sdk.system.local_files import file_sha256
from srflow_training.data import size_of, to_image, to_pixels
from srflow_training.lpips_weights import weights_file

MOTION = "motion.npz"
"""The file in the clip's folder with its true motion: `flow` T×2×H×W, rows then columns, where each
pixel of a frame was in the one before, less where it is, and `visible` T×H×W, whether it was to be
seen there."""

FLICKER = "flicker"
_Frame = NDArray[np.float32]  # H×W×3
_Truth = tuple[NDArray[np.float32], NDArray[np.bool_]]  # `flow` and `visible`
_COLUMN = {FLICKER: ("flicker, /255 ↓", ".2f")}


@torch.no_grad()
def clips(options: Options) -> Table:
    """Measure and write results.csv (a row per frame and way) and summary.json.

    Returns:
        The table.

    Raises:
        SRFlowError.
    """
    if not options.metrics:
        lpips = () if weights_file("alex") is None else ("lpips",)
        options = replace(options, metrics=("psnr", *lpips, "lr_psnr"))
    bench = open_bench(options)
    tau = options.sampling_tau(bench.subject.default_tau)
    if bench.subject.upscaler is None:
        raise ArgumentError(
            "clips are drawn by the runtime: export the checkpoint, and name the bundle with "
            "--model"
        )
    if len(bench.pictures) < 2:
        raise ArgumentError(f"--hr {options.hr} holds one frame: a clip has two at least")
    path = options.hr / MOTION
    settings = {
        **bench.settings,
        "measured": "clips",
        "tau": str(tau),
        "motion": file_sha256(path) if path.is_file() else "estimated",
    }
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
    motion = f"that of {MOTION}" if clip.truth else "estimated from the HR frames"
    summary = bench.summary(
        "clips",
        rows,
        [{"method": way, **row} for way, row in means.items()],
        f"Flicker is beyond that of the HR clip, {own:.2f}; motion: {motion}. τ {tau}.",
        hr_flicker=own,
    )
    results.write_summary(summary)
    return bench.table([*means.items()], summary["notes"], _COLUMN)


@dataclass(kw_only=True)
class _Clip:
    """A clip whose frames are measured in their order.

    Attributes:
        before: the last one by way, and as HR.
    """

    bench: Bench
    ways: Mapping[str, FrameUpscaler | None]
    truth: _Truth | None
    before: Mapping[str, _Frame]
    number: int = 0

    @classmethod
    def open(cls, bench: Bench, upscaler: Upscaler, *, tau: Any, folder: Path) -> _Clip:
        """Raises: ArgumentError if the file of its motion is not of these frames."""
        ways: dict[str, FrameUpscaler | None] = {"bicubic": None}
        ways["τ 0"] = FrameUpscaler(upscaler, latents="screen", tau=0.0)
        for latents in ("motion", "screen", "fresh"):
            ways[latents] = FrameUpscaler(upscaler, latents=latents, tau=tau)
        path = folder / MOTION
        truth = _read_motion(path, bench.pictures) if path.is_file() else None
        return cls(bench=bench, ways=ways, truth=truth, before={})

    def rows_of(self, files: PictureFiles) -> list[Row]:
        """The rows of the next frame."""
        picture = self.bench.read(files)
        images = {way: self._enlarge(way, picture) for way in self.ways}
        frames = {}
        for way, image in {**images, "HR": picture.hr}.items():
            frames[way] = to_pixels(image).astype(np.float32)
        changes = self._measure_changes(frames)
        self.before = frames
        self.number += 1
        rows = []
        for way, image in images.items():
            row = self.bench.row(picture, way, [image])
            if changes:
                row[FLICKER] = changes[way] - changes["HR"]
            rows.append(row)
        of_hr: Row = {"picture": picture.name, "method": "HR", "tau": ""}
        if changes:
            of_hr[FLICKER] = changes["HR"]
        return [*rows, of_hr]

    def _measure_changes(self, frames: Mapping[str, _Frame]) -> dict[str, float]:
        """How much each way's frame differs from the last one, carried along; none after a cut."""
        if not self.before:
            return {}
        motion = self._find_motion(frames["HR"])
        if motion is None:
            return {}
        changes = {}
        for way, frame in frames.items():
            (carried,), seen = motion.carried(self.before[way], top=0, bottom=len(frame))
            difference = np.abs(frame - np.clip(carried, 0, 255))
            changes[way] = float(difference[seen[..., 0] == 1].mean())
        return changes

    def _enlarge(self, way: str, picture: Picture) -> Tensor:
        upscaler = self.ways[way]
        if upscaler is None:
            return self.bench.references[way](picture)
        return to_image(upscaler.draw(to_pixels(picture.lr), self.number))

    def _find_motion(self, hr: _Frame) -> Motion | None:
        """The true motion of this frame; None after a cut."""
        height, width = hr.shape[:2]
        if self.truth is None:
            before = gray(self.before["HR"].astype(np.uint8))
            now = gray(hr.astype(np.uint8))
            motion = motion_between(before, now, height=height, width=width)
            return None if motion.is_cut else motion
        flow, visible = (part[self.number] for part in self.truth)
        rows, columns = self.bench.cut.window(*visible.shape)
        flow = np.ascontiguousarray(flow[::-1, rows, columns].transpose(1, 2, 0))
        return Motion(flow=flow, seen=visible[rows, columns])


def _read_motion(path: Path, frames: Sequence[PictureFiles]) -> _Truth:
    """The true motion, and where it is known.

    Raises:
        ArgumentError: if it is not of these frames.
    """
    try:
        with np.load(path) as file:
            flow = np.asarray(file["flow"], np.float32)
            visible = np.asarray(file["visible"], np.bool_)
    except (OSError, ValueError, KeyError) as error:
        raise ArgumentError(f"{path} is damaged, or holds no flow and visible ({error})") from error
    count = len(frames)
    height, width = size_of(frames[0].hr)
    shape = (count, height, width)
    if visible.shape != shape or flow.shape != (count, 2, height, width):
        raise ArgumentError(
            f"{path} is of frames and pixels {visible.shape}, and the clip has {shape}: delete it, "
            "and the motion is estimated"
        )
    return flow, visible
