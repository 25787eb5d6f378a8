"""Twenty steps of training on this GPU."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch.nn import functional as F

from benchmarks.gpu_report.engines import Setting
from benchmarks.gpu_report.network import new_network
from benchmarks.gpu_report.rows import Row
from benchmarks.gpu_report.torch_engine import gpu, milliseconds

STEPS, _RATE = 20, 2.5e-4
_BATCH, _CROP = 8, 160  # HR pixels a side
MOST_APART = 0.2
"""How much bf16's last loss may be above fp32's, in bits."""


def trained(setting: Setting, precision: Literal["fp32", "bf16"]) -> Iterator[Row]:
    """Maximum likelihood with Adam on one batch: the loss falls, and what a step takes."""
    device = gpu()
    name = f"{STEPS} training steps, {precision}"
    losses, step_ms = steps(device, precision, quick=setting.quick)
    taken = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else 0.0
    batch, crop = (2, 32) if setting.quick else (_BATCH, _CROP)
    value = f"{losses[0]:.3f} → {losses[-1]:.3f} bits; {step_ms:.1f} ms a step of {batch} crops of {crop}×{crop}"
    right = all(map(math.isfinite, losses)) and losses[-1] < losses[0]
    yield Row(name, setting.engine, f"{value}, {taken:.2f} GB", "the loss falls", "fine" if right else "wrong")
    file = setting.folder / "loss-fp32.txt"
    if precision == "fp32":
        file.write_text(str(losses[-1]), encoding="utf-8")
    elif file.is_file():
        apart = losses[-1] - float(file.read_text(encoding="utf-8"))
        verdict: Literal["fine", "wrong"] = "fine" if apart <= MOST_APART else "wrong"
        yield Row(f"{name}, above fp32", setting.engine, f"{apart:.3f} bits", f"≤ {MOST_APART}", verdict)


def steps(device: torch.device, precision: str, *, quick: bool) -> tuple[list[float], float]:
    """The losses, in bits per HR value, and the median milliseconds of the steps after the first."""
    model = new_network(quick=quick).to(device)
    batch, crop = (2, 32) if quick else (_BATCH, _CROP)
    hr, lr = (pictures.to(device) for pictures in _pictures(batch, crop, model.config.scale))
    for actnorm in model.actnorms():  # as at the start of a training
        actnorm.initialized.fill_(False)
    model.initialize_actnorms(hr, lr)
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=_RATE, betas=(0.9, 0.99))
    half = torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
    losses: list[torch.Tensor] = []

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with half:
            loss = -model(hr, lr).mean() / (hr[0].numel() * math.log(2))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        losses.append(loss.detach())

    first = milliseconds([step], device, 1)
    rest = milliseconds([step], device, STEPS - 1)
    return [float(loss) for loss in losses], rest or first


def _pictures(batch: int, crop: int, scale: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clouds, HR and LR; deterministic."""
    generator = torch.Generator().manual_seed(0)
    hr = torch.zeros(batch, 3, crop, crop)
    for cells in (4, 8, 16):
        noise = torch.rand(batch, 3, cells, cells, generator=generator)
        hr += F.interpolate(noise, size=(crop, crop), mode="bicubic").clamp(0, 1) / 3
    hr = (hr + torch.randn(hr.shape, generator=generator) * 4 / (255 * math.sqrt(3))).clamp(0, 1)
    return hr, F.interpolate(hr, scale_factor=1 / scale, mode="bicubic", antialias=True).clamp(0, 1)
