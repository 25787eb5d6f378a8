"""Settings of the loss, and which images an iteration decodes for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from srflow_sdk._checks import MAX_TAU
from srflow_training._section import Count, Section, Share

_Weight = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Decodings:
    """The images that an iteration's loss decodes: the one at τ = 0, and a sample at `Objective.perceptual_tau`."""

    mean: bool = False
    sample: bool = False


class Objective(Section):
    """The loss: a flow's negative log-likelihood in bits per HR pixel and channel, or an LR encoder's L1 error.

    noise: standard deviation of the Gaussian noise on HR, in 8-bit levels (4/√3 as published; an LR encoder: 0).
    noise_max: if not 0, each crop's standard deviation is drawn between noise and this, and a network with
    `noise_conditional` sees how far it is above noise. Decoding then has the least noise, so noise should be small,
    e.g. 0.5 (8-bit rounding alone is 0.29).
    teacher: share of an LR encoder's loss that is the difference to the pictures of `data.teacher`, 0 … 1; the rest is
    the difference to the photographs.
    The other terms are a flow's, in weights (0: off). Each costs a decoding and its gradient in the iterations that
    have it.

    l1: mean absolute error of the decoding at τ = 0, for images in [0, 1]; it keeps fidelity. l1_every: add it only in
    iterations 0, n, 2n, …
    grid: mean amplitude of the waves that repeat every `scale` pixels in what is decoded for other terms: what is left
    of the squeezes' regular grid, and the weave that a perceptual loss makes.
    perceptual: a perceptual distance, 0 for equality, between HR and a sample at perceptual_tau, in 0 … 2, whose
    latents are the iteration's noise. perceptual_loss: its kind. gmsd: GMSD; haarpsi and ms_ssim: 1 − HaarPSI and
    1 − MS-SSIM; lpips_vgg: LPIPS with VGG16, whose weights `python -m srflow_training.lpips_weights` gets;
    ms_lpips_vgg: the mean of that at three sizes, for large scales; vgg16: the VGG16 feature distance
    (:mod:`srflow_training.figures`). LPIPS with AlexNet is not among them, because models are judged by it. Only gmsd,
    haarpsi and ms_ssim clip the sample to [0, 1], so values outside get no gradient from them. ms_ssim has as many of
    its five scales as fit the crop (three at 80 px, five from 161 px). perceptual_vgg16: file of the convolutions of
    vgg16, as for `srflow-eval --vgg16`.
    perceptual_every: add it only in iterations n − 1, 2n − 1, …, so that with l1_every=2 and perceptual_every=2 no
    iteration decodes twice.
    lr_consistency: mean absolute error between the reductions (`data.reduction`) of HR and of the sample, or of the
    decoding at τ = 0 in an iteration without a sample; iterations that decode nothing do not have it. Without l1 and
    perceptual, a sample is decoded for it, once in perceptual_every iterations.
    """

    noise: Annotated[float, Field(ge=0)] = 4 / math.sqrt(3)
    noise_max: Annotated[float, Field(ge=0)] = 0.0
    teacher: Share = 0.0
    l1: _Weight = 0.0
    l1_every: Count = 1
    grid: _Weight = 0.0
    perceptual: _Weight = 0.0
    perceptual_loss: Literal["vgg16", "lpips_vgg", "ms_lpips_vgg", "gmsd", "haarpsi", "ms_ssim"] = "gmsd"
    perceptual_vgg16: str = ""
    perceptual_tau: Annotated[float, Field(ge=0, le=MAX_TAU)] = 0.8
    perceptual_every: Count = 1
    lr_consistency: _Weight = 0.0

    def needs_noise(self, kind: str) -> bool:
        """True if training draws noise. kind: as for :meth:`problem`."""
        return kind == "srflow" or max(self.noise, self.noise_max) > 0

    def noise_above_least(self, share: Tensor) -> Tensor:
        """Each crop's standard deviation above `noise`, in 8-bit levels; share: [N], uniform in [0, 1)."""
        return share * max(0.0, self.noise_max - self.noise)

    @property
    def decodings(self) -> Decodings:
        """Every image that some iteration's loss decodes."""
        return Decodings(mean=self.l1 > 0, sample=self.perceptual > 0 or (self.lr_consistency > 0 and self.l1 == 0))

    def decodings_at(self, iteration: int) -> Decodings:
        """The images that this iteration's loss decodes, counted from 0."""
        return Decodings(
            mean=self.decodings.mean and iteration % self.l1_every == 0,
            sample=self.decodings.sample and (iteration + 1) % self.perceptual_every == 0,
        )

    def problem(self, *, kind: str, crop: int, noise_conditional: bool, iterations: int) -> str:
        """Say what these settings cannot be combined with, and how to fix it; empty if all is well.

        kind: srflow, or an LR encoder's. crop: HR side in pixels. noise_conditional: as in `SRFlowConfig`.
        iterations: of the run.
        """
        if self.noise_max and self.noise_max < self.noise:
            return (
                f"objective.noise_max is {self.noise_max:g}, less than objective.noise, {self.noise:g}: "
                f"set objective.noise={min(0.5, self.noise_max / 2):g}, the least of the noise"
            )
        if noise_conditional and self.noise_max <= self.noise:
            return (
                "network.noise_conditional needs training images with different noise: "
                "set objective.noise=0.5 and objective.noise_max=4"
            )
        named = [name for name in ("perceptual", "lr_consistency", "grid") if getattr(self, name) > 0]
        if named and kind != "srflow":
            return f"objective.{named[0]} is for samples, and an LR encoder has none: set it to 0"
        if self.grid and not self.l1 and not self.perceptual:
            return "objective.grid is for images that objective.l1 or perceptual decodes: set one above 0, or grid to 0"
        if self.l1 and kind != "srflow":
            return "objective.l1 is for flows, and an LR encoder's whole loss is L1: set it to 0"
        if self.perceptual_vgg16 and not (self.perceptual and self.perceptual_loss == "vgg16"):
            return (
                "objective.perceptual_vgg16 is only used with objective.perceptual above 0 and "
                "objective.perceptual_loss=vgg16: set both, or leave the file out with objective.perceptual_vgg16="
            )
        if self.decodings.sample and self.perceptual_every > iterations:
            return self._too_rare("perceptual_every", iterations, "no iteration would decode a sample")
        if self.l1 and 1 < iterations < self.l1_every:
            return self._too_rare("l1_every", iterations, "only the first iteration would have this term")
        if self.perceptual and self.perceptual_loss == "vgg16" and not self.perceptual_vgg16:
            return "objective.perceptual_loss=vgg16 needs the convolutions: set objective.perceptual_vgg16=FILE"
        least = LEAST_PERCEPTUAL * (4 if self.perceptual_loss == "ms_lpips_vgg" else 1)
        if self.perceptual and crop < least:
            return f"objective.perceptual needs crops of at least {least} pixels, not {crop}: set data.crop"
        return ""

    def _too_rare(self, name: str, iterations: int, why: str) -> str:
        return (
            f"objective.{name} is {getattr(self, name)}, more than the run's {iterations} iterations, so {why}: "
            "lower it, or raise schedule.iterations"
        )


LEAST_PERCEPTUAL = 16
"""Side in pixels of the smallest image that perceptual distances take, at each of their sizes."""
