"""Started by tests: one run on the processes that the configuration names, each writing its
weights."""

import signal
import sys
from pathlib import Path

import torch

from srflow_training.presets import load_settings
from srflow_training.trainer import Trainer


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def main(config, photos, out):
    trainer = Trainer(load_settings(config), data=photos, out=out, val=None, resume=False)
    initialize = getattr(trainer.model, "initialize_actnorms", None)
    kept = {}

    def initialize_and_keep(*arguments):
        initialize(*arguments)
        kept.update(weights(trainer.model))

    trainer.model.initialize_actnorms = initialize_and_keep
    figures = []

    def report(entry):
        figures.append(entry)
        sys.stdout.write(f"iteration {entry['iteration']:.0f}\n")
        sys.stdout.flush()

    trainer.run(report)
    precision = trainer.settings.hardware.precision
    state = {
        "precision": precision,
        "initialised": kept,
        "trained": weights(trainer.model),
        "figures": figures,
    }
    torch.save(state, out / f"rank-{trainer.fabric.global_rank}.pt")
    trainer.fabric.barrier()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever started this may ignore it
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
