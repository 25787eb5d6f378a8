"""A full-size checkpoint in the published layout exports as it is, and decodes, inverts and scores
as the network.

In fp32 alone: with --precision fp16, ×4 takes 131 s of an Intel Xeon's time and 2.2 GB, ×8 faces
248 s and 3.5 GB. tests/training/model/test_golden.py holds the network to what the published
implementation computed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from srflow_export.cli import main
from srflow_sdk import Bundle
from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_training import SRFlow, load_checkpoint
from srflow_training.validation import runtime_noise
from tests.published_checkpoints import write_published


def assert_it_is_the_network(bundle: Bundle, checkpoint: Path, *, tolerance: float) -> None:
    """tolerance: of pictures; latents and nats have ten times as much."""
    model = load_checkpoint(checkpoint)
    assert isinstance(model, SRFlow)
    generator = torch.Generator().manual_seed(0)
    hr = torch.nn.functional.interpolate(
        torch.rand(1, 3, 16, 20, generator=generator), scale_factor=4.0, mode="bicubic"
    )
    hr = hr.clamp(0, 1)
    lr = torch.nn.functional.avg_pool2d(hr, 4)
    noise = runtime_noise(model, lr, seed=0)
    with torch.no_grad():
        condition = model.condition(lr)
        drawn = model.decode_conditioned(condition, {level: 0.8 * z for level, z in noise.items()})
        latents, nats = model.encode_conditioned(hr, condition)
    with OnnxRuntimeBackend(bundle, device="cpu") as backend:
        conditioning = backend.encode(lr.numpy())
        sr = backend.sample(conditioning, {level: z.numpy() for level, z in noise.items()}, 0.8)
        found, log_density = backend.invert(conditioning, hr.numpy())
        back = backend.sample(conditioning, found, 1.0)
    assert np.abs(sr - drawn.numpy()).max() < tolerance * float(drawn.abs().max())
    assert np.abs(back - hr.numpy()).max() < tolerance
    for level, expected in latents.items():
        assert np.abs(found[level] - expected.numpy()).max() < 10 * tolerance * float(
            expected.abs().max()
        )
    assert log_density.sum(dtype=np.float64) == pytest.approx(float(nats), rel=10 * tolerance)


@pytest.mark.slow
def test_a_full_size_checkpoint_exports_without_a_flag_about_it_and_is_the_network(
    tmp_path: Path,
) -> None:
    checkpoint = write_published(tmp_path / "m.pth")
    result = CliRunner().invoke(
        main, ["--ckpt", str(checkpoint), "--halo", "40"]
    )  # measuring takes a minute
    assert result.exit_code == 0, result.output
    assert_it_is_the_network(Bundle.open(tmp_path / "m.srflow"), checkpoint, tolerance=1e-4)
