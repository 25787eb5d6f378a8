"""A picture's latents, changed and decoded again: by a bundle's inverter, or by a checkpoint's network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from srflow_sdk import Latents
from srflow_sdk._drawing.painter import check_inverts
from srflow_training.evaluation.subjects import Subject


def check_round_trips(subject: Subject) -> None:
    """Raises: BundleError if a bundle has no inverter. A checkpoint always inverts."""
    if subject.upscaler is not None:
        check_inverts(subject.upscaler.bundle)


def round_trip(subject: Subject, hr: Tensor, lr: Tensor, change: Callable[[Latents], Latents]) -> Tensor:
    """Invert an HR image given its LR image, change its latents, and decode them: 1×3×H×W, not rounded; a bundle's is
    clipped to [0, 1].

    hr: 1×3×sh×sw, lr: 1×3×h×w in [0, 1], h and w multiples of what the model takes. A checkpoint computes the picture
    in one piece, a bundle in its tiles. Raises: BundleError, NonFiniteError, whatever `change` raises.
    """
    if subject.upscaler is not None:
        encoding = subject.upscaler.encode(to_array(lr))
        return to_tensor(encoding.decode(change(encoding.invert(to_array(hr)))))
    network = subject.network
    assert network is not None  # for the type checker: a flow is one or the other
    condition = network.condition(lr)
    found, nats = network.encode_conditioned(hr, condition)
    latents = change(
        Latents(
            {level: latent[0].numpy() for level, latent in found.items()},
            height=hr.shape[2],
            width=hr.shape[3],
            model_sha256=subject.sha256,
            log_likelihood=float(nats) if bool(torch.isfinite(nats)) else None,
        )
    )
    by_level = {level: torch.from_numpy(np.array(latent))[None] for level, latent in latents.levels.items()}
    return network.decode_conditioned(condition, by_level)


def to_array(image: Tensor) -> npt.NDArray[np.float32]:
    """1×3×H×W as H×W×3."""
    array: npt.NDArray[np.float32] = image[0].permute(1, 2, 0).contiguous().numpy()
    return array


def to_tensor(array: npt.NDArray[np.float32]) -> Tensor:
    """H×W×3 as 1×3×H×W."""
    return torch.from_numpy(array).permute(2, 0, 1)[None]


def to_pixels(image: Tensor) -> npt.NDArray[np.uint8]:
    """1×3×H×W in [0, 1] as 8-bit H×W×3."""
    pixels: npt.NDArray[np.uint8] = (image[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return np.ascontiguousarray(pixels)
