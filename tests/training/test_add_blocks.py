"""The example that gives a trained encoder more blocks leaves what it computes as it was."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from srflow_training import RRDB, load_checkpoint
from srflow_training.checkpoints import save_checkpoint
from tests.networks import random_srflow, tiny_config

SCRIPT = Path(__file__).parents[2] / "examples" / "add_blocks.py"


def add_blocks(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=120)


def test_new_blocks_do_nothing_yet_but_can_be_trained(tmp_path):
    model = random_srflow(tiny_config())
    save_checkpoint(tmp_path / "small.safetensors", model)
    done = add_blocks(tmp_path / "small.safetensors", tmp_path / "larger.safetensors", 2)
    assert done.returncode == 0, done.stderr
    larger = load_checkpoint(tmp_path / "larger.safetensors")
    assert isinstance(larger, RRDB)
    assert len(larger.blocks) == len(model.encoder.blocks) + 2
    lr = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(larger(lr), model.encoder(lr))
    torch.testing.assert_close(larger.features(lr).last, model.encoder.features(lr).last)
    larger(lr).square().sum().backward()
    assert larger.blocks[-1].dense[-1].convs[-1].weight.grad.abs().max() > 0


@pytest.mark.parametrize("count", ["0", "two"])
def test_a_wrong_count_is_refused(tmp_path, count):
    save_checkpoint(tmp_path / "small.safetensors", random_srflow(tiny_config()))
    assert add_blocks(tmp_path / "small.safetensors", tmp_path / "larger.safetensors", count).returncode == 1
