"""The measurements of `srflow-eval`: a module for each protocol, on the runner in `bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from srflow_sdk._lazy_names import lazy_names

if TYPE_CHECKING:
    from srflow_evaluation.crops import crops_of
    from srflow_evaluation.models import Subject, open_subject
    from srflow_evaluation.options import LevelTaus

__all__ = ["LevelTaus", "Subject", "crops_of", "open_subject"]

_MODULES = {
    "LevelTaus": "options",
    "Subject": "models",
    "crops_of": "crops",
    "open_subject": "models",
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
