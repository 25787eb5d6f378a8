"""What `srflow-eval` measures, a module for each protocol."""

from srflow_training.evaluation.crop_report import DEFAULT_TAUS, Row, crops_of, markdown, report, to_json
from srflow_training.evaluation.subjects import LevelTaus, Sampler, Subject, open_subject

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
