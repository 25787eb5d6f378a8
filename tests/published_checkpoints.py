"""Checkpoints in the published layouts with trained statistics, drawn as the golden case's weights
are.

Near-isometric networks are what training starts from, and what random initialisation gives. Trained
ones multiply: their actnorms, 1×1s and affine maps have spreads, so their own float32 round trip
loses tens of dB.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from srflow_training.checkpoints.keys import from_published, published_srflow_name, to_published
from srflow_training.model import SRFlow, SRFlowConfig
from srflow_training.resampling import reduce_bicubic
from tests.networks import golden_state_dict

State = dict[str, Tensor]
CAT = Path(__file__).parents[1] / "examples" / "photos" / "cat.png"

LAYOUTS: dict[str, dict[str, object]] = {
    "x4": {"scale": 4},
    "x8": {"scale": 8},
    "x8-faces": {"scale": 8, "blocks": 8},
    "x4-wrapped": {"scale": 4},
}
"""The published configurations: general ×4 (L = 3) and ×8 (L = 4) of 23 blocks, faces ×8 of 8, and
×4 as trainers wrap it, in a dict under "state_dict" with "module." before every name."""

SMALL: dict[str, object] = {
    "blocks": 4,
    "stacked_blocks": (0, 1, 2, 3),
    "steps": 2,
    "nf": 16,
    "growth": 8,
    "hidden": 16,
}
"""Overrides for networks that export in a few seconds."""


def published_state(
    config: SRFlowConfig,
    *,
    seed: int = 101,
    heads: float = 0.2,
    condition: float = 1.0,
    scales: float = 0.0,
) -> State:
    """Weights by published name; deterministic.

    Drawn as the golden case's; then actnorms see a photograph, as at the start of training, since
    deep flows of drawn actnorms multiply to infinity. heads: gain of the last layers of the flow's
    nets; a trained network's are not small. condition: of the 1×1 convolutions; the actnorms around
    them become as uneven. scales: subtracted from the couplings' raw scales; 12 brings sigmoid(s +
    2) + 1e-4 near 1e-4.
    """
    with torch.device("meta"):
        names = to_published(SRFlow(config).state_dict(), config)
    spec = {
        "seed": seed,
        "G": 0.5,
        "A": heads,
        "shapes": {name: list(tensor.shape) for name, tensor in names.items()},
    }
    drawn = {name: torch.from_numpy(value) for name, value in golden_state_dict(spec).items()}
    for name, tensor in drawn.items():
        _make_harder(name, tensor.numpy(), condition=condition, scales=scales)
    model = SRFlow(config)
    model.load_state_dict(from_published(drawn, model.state_dict(), published_srflow_name(config)))
    for actnorm in model.actnorms():
        actnorm.initialized.fill_(False)
    step = 32 * config.size_multiple
    photo = np.asarray(Image.open(CAT).convert("RGB"), np.float32)[:step, :step] / 255
    hr = torch.from_numpy(photo.transpose(2, 0, 1)[None].copy())
    model.initialize_actnorms(hr, reduce_bicubic(hr, config.scale))
    return {
        name: tensor.clone() for name, tensor in to_published(model.state_dict(), config).items()
    }


def _make_harder(name: str, value: np.ndarray, *, condition: float, scales: float) -> None:
    """Change a drawn tensor in place."""
    if name.endswith("invconv.weight") and condition != 1:
        left, _, right = np.linalg.svd(value.astype(np.float64))
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        value[:] = (left * condition ** rng.permutation(np.linspace(-0.5, 0.5, len(value)))) @ right
    elif name.endswith("fAffine.4.bias"):
        value[1::2] -= scales  # times exp(3·logs), about 1


def write_published(
    path: Path, layout: str = "x4", *, state: State | None = None, **overrides: object
) -> Path:
    """Write a checkpoint of a layout, with these weights or those of :func:`published_state`."""
    config = SRFlowConfig.of_variant("published", **{**LAYOUTS[layout], **overrides})
    state = published_state(config) if state is None else state
    if layout == "x4-wrapped":
        torch.save(
            {"state_dict": OrderedDict((f"module.{name}", value) for name, value in state.items())},
            path,
        )
    else:
        torch.save(state, path)
    return path
