"""Runs of a tiny network, for the tests of the trainer."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from srflow_training.settings import RunSettings
from srflow_training.trainer import Trainer

TINY = {"nf": 8, "growth": 4, "blocks": 2}
FLOW = {
    "kind": "srflow",
    "variant": "bounded",
    **TINY,
    "stacked_blocks": [0, 1],
    "steps": 1,
    "hidden": 8,
}
PLAIN = {"kind": "plain", "scale": 4, "nf": 8, "blocks": 2, "image_base": "bicubic"}
SCHEDULE = {
    "iterations": 6,
    "save_every": 3,
    "log_every": 2,
    "validate_every": 2,
    "validate_crops": 1,
}


def settings(network=FLOW, schedule=SCHEDULE, data=None, objective=None, hardware=None):
    return RunSettings.from_dict(
        {
            "network": network,
            "data": {"crop": 16, "batch": 2, "workers": 0, **(data or {})},
            "objective": objective or {},
            "schedule": {**SCHEDULE, **schedule},
            "hardware": {
                "accelerator": "cpu",
                "precision": "fp32",
                "threads": 1,
                **(hardware or {}),
            },
        }
    )


def trainer(out, photos, *, resume=False, val=None, **changes):
    return Trainer(settings(**changes), data=photos, out=out, val=val, resume=resume)


def assert_same_weights(first, second):
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor), name


def scalars(run):
    """{tag: {step: value}} of the run's TensorBoard files, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    } | {"images": events.Tags()["images"]}


def ranks_command(folder, photos):
    """The command of the processes that `two.yaml` in a folder is for, whose run is `two`."""
    script = Path(__file__).parent / "run_ranks.py"
    return [sys.executable, *map(str, (script, folder / "two.yaml", photos, folder / "two"))]


def run_two(folder, photos):
    """Run two processes to the end and load what each held."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(ranks_command(folder, photos), check=True, timeout=240, env=environment)
    return [torch.load(folder / "two" / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)]
