"""Model repositories that earlier versions wrote: they go on loading, or say what to do."""

from __future__ import annotations

import json
import logging
import sys
from types import SimpleNamespace

import pytest

from srflow_apps.serving.triton_model import TritonPythonModel
from srflow_export.triton import MODEL_PY

LOGS = ("log_error", "log_warn", "log_info")
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


def test_a_repository_of_the_mode_that_is_gone_says_what_to_do_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    utils = SimpleNamespace(TritonModelException=RuntimeError, Logger=SimpleNamespace(**dict.fromkeys(LOGS, print)))
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    for package in ("srflow_sdk", "srflow_apps"):
        monkeypatch.setattr(logging.getLogger(package), "handlers", [])
    config = json.dumps({"parameters": {"mode": {"string_value": "bls"}}})
    with pytest.raises(RuntimeError, match=r"^the mode bls is gone, .*: srflow-export --bundle BUNDLE --triton REPO$"):
        TritonPythonModel().initialize({"model_config": config})
