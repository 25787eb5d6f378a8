"""The network that all engines run, the pictures that they draw, and what float32 on the CPU makes of those.

A full-size published ×4 network (23 blocks, K = 16) with random weights: times do not depend on them. Everything lies
in one folder, made by the first check and read by the processes of the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import numpy as np

from benchmarks.bench.processes import ROOT

if TYPE_CHECKING:
    from srflow_training import SRFlow

TAU, SEED = 0.8, 7
MANY = 8
"""Samples in one batch, and threads at once."""

_TINY: dict[str, Any] = {"nf": 8, "growth": 4, "blocks": 2, "stacked_blocks": (0, 1), "steps": 2, "hidden": 8}
_WEIGHTS, _COUNTS, _CONDITIONING, _PEAKS = "network.pt", "counts.json", "conditioning.npz", "peaks.json"


@dataclass(frozen=True)
class Case:
    """A picture: lr, float32 1×3×h×w; noise, N×C×H×W by level; tau; and what float32 makes of it, N×3×sh×sw."""

    lr: np.ndarray
    noise: Mapping[int, np.ndarray]
    tau: float
    expected: np.ndarray

    def save(self, file: Path) -> None:
        """Write it as .npz."""
        noise = {f"noise{level}": array for level, array in self.noise.items()}
        _save(file, lr=self.lr, tau=np.float64(self.tau), expected=self.expected, **noise)

    @classmethod
    def load(cls, file: Path) -> Case:
        """Read it."""
        with np.load(file) as found:
            levels = sorted(int(name[5:]) for name in found if name.startswith("noise"))
            noise = {level: found[f"noise{level}"] for level in levels}
            return cls(found["lr"], noise, float(found["tau"]), found["expected"])


@dataclass(frozen=True)
class Work:
    """The folder, and the sizes of its pictures: smallest×smallest is square, size×size is what is timed."""

    folder: Path
    size: int

    @property
    def smallest(self) -> int:
        """LR pixels a side of the square picture, and of the smallest that engines are built for."""
        return min(64, self.size // 2)

    def sizes(self) -> dict[str, tuple[int, int, float]]:
        """Height, width and tau of each picture but the largest. "odd" has odd sides at the coarsest level."""
        side, far = self.smallest, 2 * self.smallest
        return {
            "square": (side, side, TAU),
            "odd": (side + 2, side + 6, TAU),
            "rectangular": (side, far, TAU),
            "upright": (far, side, TAU),
            "tau 0": (side, side, 0.0),
        }

    def case(self, name: str) -> Case:
        """A picture of :meth:`sizes`, or "batch" or "largest"."""
        return Case.load(self.folder / f"{name}.npz")

    def conditioning(self) -> dict[str, np.ndarray]:
        """The float32 conditioning of the square picture, by name."""
        with np.load(self.folder / _CONDITIONING) as found:
            return dict(found)

    def counts(self) -> dict[str, float]:
        """Multiply-adds for each LR pixel: "encoder", "sampler"."""
        counts: dict[str, float] = json.loads((self.folder / _COUNTS).read_text(encoding="utf-8"))
        return counts

    def keep_peaks(self, found: Mapping[str, float]) -> None:
        """Keep what this GPU can do at most: multiply-adds a second by precision, and "bytes" a second of a copy."""
        (self.folder / _PEAKS).write_text(json.dumps(found), encoding="utf-8")

    def peaks(self) -> dict[str, float]:
        """What :meth:`keep_peaks` kept; empty if nothing was measured."""
        file = self.folder / _PEAKS
        found: dict[str, float] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return found

    @property
    def checkpoint(self) -> Path:
        """For srflow-export, once it is needed."""
        return self.folder / "network.safetensors"


def allow_bare_machines() -> None:
    """Import the network and the drawing kernels where packages are missing that only other uses of theirs need.

    Exports say themselves what they lack. Stand-ins are there for these imports alone. Where srflow-sdk is not
    installed, its packages are those of the clone.
    """

    class TypeAdapter:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def validate_python(self, value: Any) -> Any:
            return value

    sys.path.extend(str(ROOT / folder) for folder in ("apps", "training", "export"))
    stand_ins = {name: MagicMock() for name in ("onnx", "PIL", "platformdirs")}
    stand_ins["pydantic"] = MagicMock(TypeAdapter=TypeAdapter)
    missing = {name: stand_in for name, stand_in in stand_ins.items() if importlib.util.find_spec(name) is None}
    if missing:
        sys.modules.update(missing)
        with contextlib.suppress(ModuleNotFoundError):  # torch: every check says so
            import srflow_export.graphs  # noqa: F401
            import srflow_sdk.backends.tensorrt_engines.execution  # noqa: F401
        for name in missing:
            del sys.modules[name]


def new_network(*, quick: bool) -> SRFlow:
    """The network, or a tiny one of its scale and levels; float32 on the CPU, deterministic."""
    from benchmarks.full_size_checkpoint import steady
    from srflow_training import SRFlowConfig

    config = SRFlowConfig.of_variant("published", scale=4)
    return steady(dataclasses.replace(config, **_TINY) if quick else config)


def network(work: Work, *, quick: bool) -> SRFlow:
    """The network with the weights of the folder, which are written there if it has none."""
    import torch

    model, file = new_network(quick=quick), work.folder / _WEIGHTS
    if file.is_file():
        model.load_state_dict(torch.load(file, weights_only=True))
    else:
        torch.save(model.state_dict(), file)
    return model


def picture(height: int, width: int) -> np.ndarray:
    """Smooth shapes and some noise, float32 1×3×h×w in [0, 1]; deterministic."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    shapes = [0.5 + 0.35 * np.sin(x / (5 + 3 * c) + c) * np.cos(y / (7 + 2 * c) - c) for c in range(3)]
    noise = np.random.default_rng(SEED).normal(0, 0.05, (3, height, width))
    return np.clip(np.stack(shapes) + noise, 0, 1).astype(np.float32)[None]


def drawn(model: SRFlow, height: int, width: int, *, samples: int = 1) -> dict[int, np.ndarray]:
    """Noise of the first samples, as the SDK draws it."""
    from srflow_sdk.latents.random_field import window_noise

    levels = latent_levels(model)
    scale = model.config.scale
    fields = [
        window_noise(levels, scale=scale, seed=SEED, sample=sample, height=height, width=width)
        for sample in range(samples)
    ]
    return {level: np.stack([field[level] for field in fields]) for level in fields[0]}


def latent_levels(model: SRFlow) -> list[Any]:
    """The levels with latents."""
    from srflow_sdk.latents.random_field import LatentLevel

    shapes = model.config.level_shapes
    return [LatentLevel(level=shape.level, channels=shape.latent_channels) for shape in shapes if shape.latent_channels]


def expected(model: SRFlow, lr: np.ndarray, noise: Mapping[int, np.ndarray], tau: float) -> np.ndarray:
    """What the network itself draws, in float32."""
    import torch

    with torch.inference_mode():
        latents = {level: tau * torch.from_numpy(array) for level, array in noise.items()}
        return model.decode(torch.from_numpy(lr), latents).numpy()


def make_references(work: Work, *, quick: bool) -> None:
    """Write the network, all pictures but the largest, the conditioning of the square one, and the counts."""
    if (work.folder / _COUNTS).is_file():  # of an earlier run; it is written last
        return
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from srflow_export import graphs

    model = network(work, quick=quick)
    for name, (height, width, tau) in work.sizes().items():
        _make(work, name, model, (height, width), tau=tau, samples=1)
    _make(work, "batch", model, (work.smallest, work.smallest), tau=TAU, samples=MANY)
    square = work.case("square")
    encoder, sampler = graphs.EncoderGraph(model).eval(), graphs.SamplerGraph(model).eval()
    counts = {}
    with torch.no_grad():
        noise = [torch.from_numpy(array) for array in square.noise.values()]
        with FlopCounterMode(display=False) as counter:
            conditioning = encoder(torch.from_numpy(square.lr))
        counts["encoder"] = counter.get_total_flops() / 2 / work.smallest**2
        with FlopCounterMode(display=False) as counter:
            sampler(*conditioning, *noise, torch.tensor([TAU]))
        counts["sampler"] = counter.get_total_flops() / 2 / work.smallest**2
    names = graphs.conditioning_names(model.config)
    arrays = {name: tensor.numpy() for name, tensor in zip(names, conditioning, strict=True)}
    _save(work.folder / _CONDITIONING, **arrays)
    (work.folder / _COUNTS).write_text(json.dumps(counts), encoding="utf-8")


def make_largest(work: Work, *, quick: bool) -> None:
    """Write the largest picture."""
    _make(work, "largest", network(work, quick=quick), (work.size, work.size), tau=TAU, samples=1)


def _make(work: Work, name: str, model: SRFlow, size: tuple[int, int], *, tau: float, samples: int) -> None:
    file = work.folder / f"{name}.npz"
    if not file.is_file():
        lr, noise = picture(*size), drawn(model, *size, samples=samples)
        Case(lr, noise, tau, expected(model, lr, noise, tau)).save(file)


def _save(file: Path, **arrays: np.ndarray) -> None:
    """Write .npz at once, so that a process that is stopped leaves no half of one."""
    part = file.with_suffix(".part.npz")
    np.savez(part, **arrays)  # type: ignore[arg-type]
    part.replace(file)
