"""Small SRFlow networks with random weights that neither explode nor vanish."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from srflow_training.model import SRFlow, SRFlowConfig
from srflow_training.model.layers import ZerosConv

GOLDEN = Path(__file__).parent / "golden"


def tiny_config(variant: str = "bounded", **overrides: object) -> SRFlowConfig:
    """nf 8, growth 4, K = 2, hidden 8, and two blocks that both condition the flow."""
    values = {
        "nf": 8,
        "growth": 4,
        "blocks": 2,
        "stacked_blocks": (0, 1),
        "steps": 2,
        "hidden": 8,
        **overrides,
    }
    return SRFlowConfig.of_variant(variant, **values)  # type: ignore[arg-type]


PLAIN: dict[str, Any] = {
    "encoder": "plain",
    "growth": 32,
    "stacked_blocks": (),
    "condition": (8, 12, 16),
    "condition_kernel": 1,
    "steps": (1, 2, 2),
    "hidden": (8, 12, 16),
    "injector_hidden": (4, 8, 12),
}
"""What `tiny_config` needs for a small plain encoder, and nets of another size at each level, at
×4."""
PLAIN_X2 = {
    **PLAIN,
    "scale": 2,
    **{name: PLAIN[name][1:] for name in ("condition", "steps", "hidden", "injector_hidden")},
}


def random_srflow(config: SRFlowConfig, *, seed: int = 0) -> SRFlow:
    """A network in eval mode with every parameter away from its initial value, so that every path
    contributes."""
    torch.manual_seed(seed)
    model = SRFlow(config)
    model.encoder.initialize()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # 1×1s stay well-conditioned
            size = 0.2 / len(parameter) ** 0.5 if "mix" in name else 0.05
            parameter.add_(size * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, ZerosConv):
                module.weight.mul_(0.2)
        for actnorm in model.actnorms():
            actnorm.initialized.fill_(True)
    return model.eval()


def golden_state_dict(spec: dict) -> dict[str, np.ndarray]:
    """Weights in the published layout, each drawn by numpy with its name as the key, so that none
    has to be stored.

    spec: {"seed", "G", "A", "shapes": {name: shape}}.
    """
    state = {}
    for name, shape in spec["shapes"].items():
        rng = np.random.default_rng([spec["seed"], zlib.crc32(name.encode())])
        draw = rng.standard_normal(shape)
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        if name.endswith("invconv.weight"):
            channels = shape[0]
            rotation = np.eye(channels)
            for _ in range(4):  # a product of Householder reflections: orthogonal without LAPACK
                axis = rng.standard_normal(channels)
                axis /= np.sqrt((axis * axis).sum())
                rotation = rotation - 2 * np.outer(axis, axis @ rotation)
            value = rotation + 0.02 * draw
        elif name.startswith("RRDB.RRDB_trunk") and name.endswith(".weight"):
            value = draw * spec["G"] / np.sqrt(fan_in)
        elif name.endswith(
            (".affine.fAffine.4.weight", ".affine.fFeatures.4.weight", "conv.weight")
        ):
            value = draw * spec["A"] / np.sqrt(fan_in)
        elif name.endswith(".weight"):
            value = draw / np.sqrt(fan_in)
        elif ".fAffine." in name or ".fFeatures." in name:
            value = 0.05 * draw
        elif name.endswith("actnorm.logs"):
            value = 0.2 + 0.05 * draw
        else:
            value = 0.05 * draw
        state[name] = value.astype(np.float32)
    return state


def golden_checkpoint(path: Path) -> Path:
    """Write the golden case's ×4 checkpoint in the published layout, as the published code
    would."""
    spec = json.loads((GOLDEN / "srflow_x4_small.json").read_text())
    torch.save(
        {name: torch.from_numpy(value) for name, value in golden_state_dict(spec).items()}, path
    )
    return path


@contextlib.contextmanager
def proved_on_small_patches() -> Iterator[None]:
    """Exports are proved on patches of 12×16 LR pixels, which takes most of the time out of a tiny
    network's export."""
    from srflow_export import exporter
    from srflow_export.parity import gate

    def photographs(size_multiple: int) -> list[Any]:
        side = -(-48 // size_multiple) * size_multiple
        return [
            replace(photo, lr=np.ascontiguousarray(photo.lr[..., :side, :side]))
            for photo in whole(size_multiple)
        ]

    whole = gate.photographs
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(exporter.PATCHES, "quick", (12, 16))
        patch.setattr(gate, "photographs", photographs)
        yield
