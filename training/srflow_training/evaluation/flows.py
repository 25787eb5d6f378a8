"""A flow in both directions, given one LR image: the same interface for bundles and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from srflow_sdk import Latents, Upscaler
from srflow_sdk.errors import NonFiniteError
from srflow_training._noise import runtime_noise
from srflow_training.model import SRFlow

if TYPE_CHECKING:
    from srflow_training.evaluation.subjects import LevelTaus

LevelArrays = Mapping[int, npt.NDArray[np.float32]]
"""Latents by level, finest first: C×H/2^level×W/2^level."""


@dataclass(frozen=True, kw_only=True)
class Inverted:
    """What an HR image is to a flow. nats: log-density of its values in [0, 1] given the LR image."""

    latents: LevelArrays
    nats: float


class ConditionedFlow(Protocol):
    """A flow given one LR image. Images are 1×3×H×W, RGB in [0, 1], not rounded."""

    def sample(self, tau: LevelTaus, seed: int) -> Tensor:
        """Draw an image; both kinds of model use the runtime's latents, so they are comparable."""
        ...

    def invert(self, hr: Tensor) -> Inverted:
        """Find the latents of an HR image, `scale` times as large. Raises: NonFiniteError."""
        ...

    def decode(self, latents: LevelArrays) -> Tensor:
        """Make the image of latents, clipped to [0, 1]. Raises: NonFiniteError."""
        ...


class BundleFlow:
    """A bundle's flow; :meth:`invert` raises BundleError if it has no inverter."""

    def __init__(self, upscaler: Upscaler, lr: Tensor) -> None:
        self._model_sha256 = upscaler.bundle.model_sha256
        self._scale = upscaler.scale
        self._encoding = upscaler.encode(_array(lr))

    def sample(self, tau: LevelTaus, seed: int) -> Tensor:
        """Draw an image."""
        return _tensor(self._encoding.sample(tau=tau.at(1) if tau.values else "auto", seed=seed))

    def invert(self, hr: Tensor) -> Inverted:
        """Find the latents of an HR image."""
        found = self._encoding.invert(_array(hr))
        assert found.log_likelihood is not None  # invert() always knows it
        return Inverted(latents=found.levels, nats=found.log_likelihood)

    def decode(self, latents: LevelArrays) -> Tensor:
        """Make the image of latents, whose size tells that of the image."""
        finest = min(latents)
        height, width = (side << finest for side in latents[finest].shape[1:])
        given = Latents(latents, height=height, width=width, model_sha256=self._model_sha256)
        return _tensor(self._encoding.decode(given))


class CheckpointFlow:
    """A checkpoint's flow, in one piece."""

    def __init__(self, network: SRFlow, lr: Tensor) -> None:
        self._network = network
        self._lr = lr
        with torch.no_grad():
            self._condition = network.condition(lr)

    @torch.no_grad()
    def sample(self, tau: LevelTaus, seed: int) -> Tensor:
        """Draw an image."""
        noise = runtime_noise(self._network, self._lr, seed=seed)
        scaled = {level: tau.at(level) * z for level, z in noise.items()}
        return self._network.decode_conditioned(self._condition, scaled)

    @torch.no_grad()
    def invert(self, hr: Tensor) -> Inverted:
        """Find the latents of an HR image."""
        latents, nats = self._network.encode_conditioned(hr, self._condition)
        if not all(bool(torch.isfinite(values).all()) for values in (nats, *latents.values())):
            raise NonFiniteError("the network's latents of a picture are not finite: it is too unlike its training")
        return Inverted(
            latents={level: latents[level][0].numpy() for level in sorted(latents)}, nats=float(nats.double())
        )

    @torch.no_grad()
    def decode(self, latents: LevelArrays) -> Tensor:
        """Make the image of latents."""
        given = {level: torch.from_numpy(np.array(values))[None] for level, values in latents.items()}
        image = self._network.decode_conditioned(self._condition, given)
        if not bool(torch.isfinite(image).all()):
            raise NonFiniteError("the network's picture of latents is not finite: they are too unlike its training")
        return image.clamp(0, 1)


def _array(image: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = image[0].permute(1, 2, 0).contiguous().numpy()
    return array


def _tensor(pixels: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]
