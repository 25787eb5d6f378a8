"""Runs of a tiny network, for the tests of the trainer."""

import torch

from srflow_training.settings import RunSettings
from srflow_training.trainer import Trainer

TINY = {"nf": 8, "growth": 4, "blocks": 2}
FLOW = {"kind": "srflow", "variant": "bounded", **TINY, "stacked_blocks": [0, 1], "steps": 1, "hidden": 8}
SCHEDULE = {"iterations": 6, "save_every": 3, "log_every": 2, "validate_every": 2}


def settings(network=FLOW, schedule=SCHEDULE, data=None, objective=None, hardware=None):
    return RunSettings.from_dict(
        {
            "network": network,
            "data": {"crop": 16, "batch": 2, "workers": 0, **(data or {})},
            "objective": objective or {},
            "schedule": {**SCHEDULE, **schedule},
            "hardware": {"accelerator": "cpu", "precision": "fp32", **(hardware or {})},
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
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]} | {
        "images": events.Tags()["images"]
    }
