"""Runs srflow-export in this process, and graphs in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from click.testing import CliRunner, Result

from srflow_export.cli import main


def run(*arguments: object) -> Result:
    """Run srflow-export with these arguments."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def run_graph(model: onnx.ModelProto, **inputs: Any) -> list[np.ndarray]:
    """Compute a graph's outputs on the CPU."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, inputs))
