"""Runs srflow-export in this process, and graphs in ONNX Runtime; saves a tiny network for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from click.testing import CliRunner, Result

from srflow_export.cli import main
from srflow_training import save_checkpoint
from tests.networks import random_srflow, tiny_config


def run(*arguments: object) -> Result:
    """Run srflow-export with these arguments."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def save_tiny(path: Path, **settings: Any) -> Path:
    """Save a tiny network with random weights, and return its path."""
    save_checkpoint(path, random_srflow(tiny_config(**settings)))
    return path


def run_graph(model: onnx.ModelProto, **inputs: Any) -> list[np.ndarray]:
    """Compute a graph's outputs on the CPU."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, inputs))
