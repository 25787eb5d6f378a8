"""The network that all engines run, and what float32 on the CPU makes of its pictures.

A full-size published ×4 network (23 blocks, K = 16) with random weights: times do not depend on
them. Everything lies in one folder, made by the first check and read by the processes of the
others.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.gpu_report.report import EMBEDDED
from srflow_sdk import Upscaler

if TYPE_CHECKING:
    from srflow_training import SRFlow

TAU = 0.8
SEED = 7
MODEL = "x4-small"  # of the engine EMBEDDED
_TINY: dict[str, Any] = {
    "nf": 8,
    "growth": 4,
    "blocks": 2,
    "stacked_blocks": (0, 1),
    "steps": 2,
    "hidden": 8,
}


@dataclass(frozen=True)
class Setting:
    """An engine's name, `KIND PRECISION`, the folder of networks, and the size that is timed."""

    engine: str
    folder: Path
    quick: bool = False
    size: int = 256

    @property
    def kind(self) -> str:
        """`torch`, or a device of the SDK."""
        return self.engine.partition(" ")[0]

    @property
    def checkpoint(self) -> Path:
        """The network, as srflow-export takes it."""
        return self.folder / "network.safetensors"

    def pictures(self) -> dict[str, tuple[int, int]]:
        """Height and width of each picture that is compared; "odd" is odd at the coarsest level."""
        side = min(64, self.size // 2)
        return {"square": (side, side), "odd": (side + 2, side + 6), "upright": (2 * side, side)}

    def expected(self, name: str) -> np.ndarray:
        """What the processor makes of one of :meth:`pictures` in float32. Raises: OSError."""
        if self.engine == EMBEDDED:
            with Upscaler(MODEL, device="cpu") as upscaler:
                return draw(upscaler, picture(*self.pictures()[name]), in_levels=True)
        expected: np.ndarray = np.load(self.folder / f"{name}.npy")
        return expected


def network(setting: Setting) -> SRFlow:
    """The network with the weights of the folder, written there if it has none.

    The tiny encoder begins with large weights: its pictures would hardly depend on their LR images
        otherwise.
    """
    import torch

    from benchmarks.full_size_checkpoint import make_steady
    from srflow_training import SRFlow, SRFlowConfig, load_checkpoint, save_checkpoint

    if not setting.checkpoint.is_file():
        config = SRFlowConfig.of_variant("published", scale=4)
        made = make_steady(dataclasses.replace(config, **_TINY) if setting.quick else config)
        if setting.quick:
            first = next(
                module for module in made.encoder.modules() if isinstance(module, torch.nn.Conv2d)
            )
            first.weight.data *= 30
        save_checkpoint(setting.checkpoint, made)
    model = load_checkpoint(setting.checkpoint)
    assert isinstance(model, SRFlow)  # for the type checker: it has a flow
    return model


def picture(height: int, width: int) -> np.ndarray:
    """Smooth shapes, and pure colours here and there, float32 h×w×3 in [0, 1]; deterministic.

    The SDK keeps a sample within the chroma of the LR pixels around, which a random network exceeds
    elsewhere.
    """
    y, x = np.mgrid[:height, :width].astype(np.float32)
    shapes = [
        0.5 + 0.35 * np.sin(x / (5 + 3 * c) + c) * np.cos(y / (7 + 2 * c) - c) for c in range(3)
    ]
    random = np.random.default_rng(SEED)
    pure = random.integers(0, 2, (height, width, 3))
    return np.where(
        random.random((height, width, 1)) < 0.8, pure, np.stack(shapes, axis=-1)
    ).astype(np.float32)


def draw(upscaler: Upscaler, pixels: np.ndarray, *, in_levels: bool) -> np.ndarray:
    """A picture, float32 in [0, 1].

    in_levels: from 8 bits to 8 bits, which a GPU then rounds itself.
    """
    if not in_levels:
        floats: np.ndarray = upscaler.upscale(pixels, tau=TAU, seed=SEED)
        return floats
    levels = upscaler.upscale(np.round(pixels * 255).astype(np.uint8), tau=TAU, seed=SEED)
    return levels.astype(np.float32) / 255


def latents(model: SRFlow, height: int, width: int) -> dict[int, np.ndarray]:
    """Noise by level, 1×C×H×W, as the SDK draws it for the first sample."""
    from srflow_export.graphs import latent_levels
    from srflow_sdk.latents.random_field import window_noise

    noise = window_noise(
        latent_levels(model.config),
        scale=model.config.scale,
        seed=SEED,
        sample=0,
        height=height,
        width=width,
    )
    return {level: array[None] for level, array in noise.items()}


def make_references(setting: Setting) -> None:
    """Write the network, and what it makes of the pictures in float32."""
    import torch

    setting.folder.mkdir(parents=True, exist_ok=True)
    model = network(setting)
    for name, size in setting.pictures().items():
        file = setting.folder / f"{name}.npy"
        if not file.is_file():
            lr = torch.from_numpy(picture(*size).transpose(2, 0, 1)[None])
            noise = {
                level: TAU * torch.from_numpy(array)
                for level, array in latents(model, *size).items()
            }
            with torch.inference_mode():
                expected = model.decode(lr, noise)[0].numpy().transpose(1, 2, 0)
            np.save(setting.folder / "part.npy", expected)
            (setting.folder / "part.npy").replace(file)
