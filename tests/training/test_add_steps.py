"""The example that gives a trained network more steps leaves what it computes as it was."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from srflow_training import load_checkpoint
from srflow_training.checkpoints import save_checkpoint
from tests.networks import random_srflow, tiny_config

SCRIPT = Path(__file__).parents[2] / "examples" / "add_steps.py"


def add_steps(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=120)


@torch.no_grad()
def test_new_steps_do_nothing_yet(tmp_path):
    model = random_srflow(tiny_config())
    save_checkpoint(tmp_path / "small.safetensors", model)
    done = add_steps(tmp_path / "small.safetensors", tmp_path / "larger.safetensors", 4)
    assert done.returncode == 0, done.stderr
    larger = load_checkpoint(tmp_path / "larger.safetensors")
    assert larger.config.steps == model.config.steps + 4
    hr, lr = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 8, 8)
    latents, nats = model.encode(hr, lr)
    same_latents, same_nats = larger.encode(hr, lr)
    torch.testing.assert_close(same_latents, latents)
    torch.testing.assert_close(same_nats, nats)
    torch.testing.assert_close(larger.decode(lr, latents), model.decode(lr, latents))


@pytest.mark.parametrize("steps", ["3", "0", "two"])
def test_steps_come_in_pairs(tmp_path, steps):
    save_checkpoint(tmp_path / "small.safetensors", random_srflow(tiny_config()))
    assert add_steps(tmp_path / "small.safetensors", tmp_path / "larger.safetensors", steps).returncode == 1
    assert not (tmp_path / "larger.safetensors").exists()
