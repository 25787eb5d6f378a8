"""`model.py` of earlier model repositories imports :class:`TritonPythonModel` from here."""

from __future__ import annotations

from srflow_sdk._lazy_names import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__, {"TritonPythonModel": "srflow_apps.serving.triton_model"}
)
