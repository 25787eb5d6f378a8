"""A flow in both directions, given one LR image: the same interface for bundles and checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from srflow_evaluation.arrays import to_array, to_tensor
from srflow_sdk import Latents, Upscaler
from srflow_sdk._checks import MAX_TAU
from srflow_sdk.errors import ArgumentError, NonFiniteError
from srflow_sdk.system.hardware import available_memory
from srflow_training._noise import runtime_noise
from srflow_training.model import SRFlow


@dataclass(frozen=True)
class LevelTaus:
    """τ: one value for all levels of the flow, or one for each of levels 1 … L; or "auto", for bundles: no values."""

    values: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> LevelTaus:
        """Parse "0.8", "0.9:0.8:0.7" or "auto". Raises: ArgumentError if a value is not a number from 0 to 2."""
        if text == "auto":
            return cls(())
        try:
            values = tuple(float(part) for part in text.split(":"))
        except ValueError:
            values = ()
        if not values or not all(0 <= value <= MAX_TAU for value in values):
            raise ArgumentError(
                f"tau is {text!r}; it must be a number from 0 to {MAX_TAU:g}, one for each level (0.9:0.8:0.7), or auto"
            )
        return cls(values)

    def at(self, level: int) -> float:
        """τ of a level, counted from 1."""
        return self.values[0] if len(self.values) == 1 else self.values[level - 1]

    @property
    def is_zero(self) -> bool:
        """True if every sample is the same."""
        return bool(self.values) and not any(self.values)

    @property
    def in_json(self) -> float | str:
        """A number if all levels share it, otherwise text."""
        return self.values[0] if len(self.values) == 1 else str(self)

    def __str__(self) -> str:
        return "auto" if not self.values else ":".join(f"{value:g}" for value in self.values)


class ConditionedFlow(Protocol):
    """A flow given one LR image. Images are 1×3×H×W, RGB in [0, 1], not rounded."""

    def sample(self, tau: LevelTaus, seed: int) -> Tensor:
        """Draw an image; both kinds of model use the runtime's latents, so they are comparable."""
        ...

    def invert(self, hr: Tensor) -> Latents:
        """Find the latents of an HR image, `scale` times as large, and its log-likelihood. Raises: NonFiniteError."""
        ...

    def decode(self, latents: Latents) -> Tensor:
        """Make the image of latents, clipped to [0, 1]. Raises: NonFiniteError."""
        ...


class BundleFlow:
    """A bundle's flow, in its tiles; :meth:`invert` raises BundleError if it has no inverter."""

    def __init__(self, upscaler: Upscaler, lr: Tensor) -> None:
        self._encoding = upscaler.encode(to_array(lr))
        self._shape = (1, 3, *(upscaler.scale * size for size in lr.shape[2:]))

    def sample(self, tau: LevelTaus, seed: int) -> Tensor:
        """Draw an image. The runtime gives none that is not finite: it is NaN, and measured as a checkpoint's is."""
        try:
            return to_tensor(self._encoding.sample(tau=tau.at(1) if tau.values else "auto", seed=seed))
        except NonFiniteError:
            return torch.full(self._shape, math.nan)

    def invert(self, hr: Tensor) -> Latents:
        """Find the latents of an HR image."""
        return self._encoding.invert(to_array(hr))

    def decode(self, latents: Latents) -> Tensor:
        """Make the image of latents."""
        return to_tensor(self._encoding.decode(latents))


class CheckpointFlow:
    """A checkpoint's flow, on the network's device; tensors come from the CPU. sha256: of the model.

    A picture is computed in one piece, so that no halo is cut off. What it is conditioned on is kept for all samples if
    a quarter of the free memory holds it, and otherwise computed step by step in every pass, with the same results.
    """

    def __init__(self, network: SRFlow, lr: Tensor, *, sha256: str) -> None:
        self._network = network
        self._sha256 = sha256
        self._lr = lr
        self._device = next(network.parameters()).device
        fits = network.conditioning_bytes(lr) <= _free_bytes(self._device) // 4
        with torch.no_grad():
            condition = network.condition if fits else network.condition_when_needed
            self._condition = condition(lr.to(self._device))

    @torch.no_grad()
    def sample(self, tau: LevelTaus, seed: int) -> Tensor:
        """Draw an image."""
        noise = runtime_noise(self._network, self._lr, seed=seed)
        scaled = {level: (tau.at(level) * z).to(self._device) for level, z in noise.items()}
        return self._network.decode_conditioned(self._condition, scaled).cpu()

    @torch.no_grad()
    def invert(self, hr: Tensor) -> Latents:
        """Find the latents of an HR image."""
        levels, nats = self._network.encode_conditioned(hr.to(self._device), self._condition)
        if not all(bool(torch.isfinite(values).all()) for values in (nats, *levels.values())):
            raise NonFiniteError("the network's latents of a picture are not finite: it is too unlike its training")
        return Latents(
            {level: levels[level][0].cpu().numpy() for level in sorted(levels)},
            height=hr.shape[2],
            width=hr.shape[3],
            model_sha256=self._sha256,
            log_likelihood=float(nats.double()),
        )

    @torch.no_grad()
    def decode(self, latents: Latents) -> Tensor:
        """Make the image of latents."""
        given = {level: torch.from_numpy(np.array(values))[None] for level, values in latents.levels.items()}
        given = {level: z.to(self._device) for level, z in given.items()}
        image = self._network.decode_conditioned(self._condition, given).cpu()
        if not bool(torch.isfinite(image).all()):
            raise NonFiniteError("the network's picture of latents is not finite: they are too unlike its training")
        return image.clamp(0, 1)


def _free_bytes(device: torch.device) -> int:
    """Memory that tensors on this device may still take."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()


class PaddedFlow:
    """A flow of pictures of any size: see :func:`padded`.

    flow: LR image → the flow. multiple: its LR sides must be multiples of this. truncating: its pictures are
    :func:`truncated`, as in the publication's measuring code.
    """

    def __init__(
        self, flow: Callable[[Tensor], ConditionedFlow], lr: Tensor, *, multiple: int, scale: int, truncating: bool
    ) -> None:
        self._flow = flow(padded(lr, multiple))
        self._truncating = truncating
        self._multiple = multiple * scale
        self._height, self._width = (scale * size for size in lr.shape[2:])

    def sample(self, tau: LevelTaus, seed: int) -> Tensor:
        """Draw an image."""
        return self._finished(self._flow.sample(tau, seed))

    def invert(self, hr: Tensor) -> Latents:
        """Find the latents of an HR image, padded likewise."""
        return self._flow.invert(padded(hr, self._multiple))

    def decode(self, latents: Latents) -> Tensor:
        """Make the image of latents."""
        return self._finished(self._flow.decode(latents))

    def _finished(self, image: Tensor) -> Tensor:
        image = image[..., : self._height, : self._width]
        return truncated(image) if self._truncating else image


def padded(image: Tensor, multiple: int) -> Tensor:
    """Reflect an image below and on the right until its sides are multiples of a number."""
    down, right = (-size % multiple for size in image.shape[2:])
    return F.pad(image, (0, right, 0, down), mode="reflect") if down or right else image


def truncated(image: Tensor) -> Tensor:
    """The 8-bit levels below an image's values, clipped to [0, 1]; values that are not finite stay as they are."""
    return torch.where(torch.isfinite(image), (image.clamp(0, 1) * 255).floor() / 255, image)
