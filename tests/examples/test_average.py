"""The example that averages two trainings of one network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from srflow_training import load_checkpoint, save_checkpoint
from srflow_training.checkpoints import load_with_notes
from tests.networks import random_srflow, tiny_config

SCRIPT = Path(__file__).parents[2] / "examples" / "average.py"


def average(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_weights_lie_between_and_the_further_trainings_notes_stay(tmp_path: Path) -> None:
    one, other, mean = (tmp_path / f"{name}.safetensors" for name in ("one", "other", "mean"))
    for path, seed in ((one, 0), (other, 1)):
        save_checkpoint(path, random_srflow(tiny_config(), seed=seed), notes={"removes_damage": seed == 1})
    assert average(one, other, mean, "--share", 0.25).returncode == 0
    made, notes = load_with_notes(mean)
    assert notes["removes_damage"] is True
    first, second = (load_checkpoint(path).state_dict() for path in (one, other))
    for name, values in made.state_dict().items():
        torch.testing.assert_close(values.double(), 0.75 * first[name].double() + 0.25 * second[name].double())


def test_other_networks_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    one, other, mean = (tmp_path / f"{name}.safetensors" for name in ("one", "other", "mean"))
    save_checkpoint(one, random_srflow(tiny_config()))
    save_checkpoint(other, random_srflow(tiny_config(hidden=12)))
    done = average(one, other, mean)
    assert (done.returncode, mean.exists()) == (1, False)
    assert "are different networks" in done.stderr
