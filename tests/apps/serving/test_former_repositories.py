"""Model repositories that earlier versions wrote go on loading: their model.py is never written again."""

from __future__ import annotations

import pytest

from srflow_apps.serving.triton_model import TritonPythonModel
from srflow_export.triton.upscale_model import MODEL_PY

FORMER = '''"""Loaded by Triton's python backend; srflow-sdk, in the server's Python environment, does the work."""

try:
    from srflow_sdk._serving.triton_model import TritonPythonModel
except ImportError as error:
    raise ImportError(
        f"srflow_upscale needs srflow-sdk in the server's Python environment ({error}): "
        "pip install 'srflow-sdk>=0.1.0'"
    ) from error

__all__ = ["TritonPythonModel"]
'''


@pytest.mark.parametrize("text", [FORMER, MODEL_PY], ids=["former", "today"])
def test_a_model_py_finds_the_model(text: str) -> None:
    names: dict[str, object] = {}
    exec(compile(text, "model.py", "exec"), names)
    assert names["TritonPythonModel"] is TritonPythonModel
