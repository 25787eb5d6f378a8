"""The measurements of `srflow-eval`, a module for each protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from srflow_sdk._lazy_names import lazy_names

if TYPE_CHECKING:
    from srflow_evaluation.crop_report import DEFAULT_TAUS, Row, crops_of, markdown, report, to_json
    from srflow_evaluation.flows import LevelTaus
    from srflow_evaluation.subjects import Sampler, Subject, open_subject

__all__ = [
    "DEFAULT_TAUS",
    "LevelTaus",
    "Row",
    "Sampler",
    "Subject",
    "crops_of",
    "markdown",
    "open_subject",
    "report",
    "to_json",
]

_SUBJECTS = ("LevelTaus", "Sampler", "Subject", "open_subject")

__getattr__, __dir__ = lazy_names(
    __name__, {name: "subjects" if name in _SUBJECTS else "crop_report" for name in __all__}
)
