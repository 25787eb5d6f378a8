"""Captions of the protocols' plots and sheets, on the report's page."""

from __future__ import annotations

from pathlib import Path

_PLOTS = {
    "tau_sweep": "Each metric, and how much samples differ, over the temperature τ",
    "perception_distortion": "Each temperature as a point: closeness to the photograph, and naturalness",
    "best_of_n": "The best of the first n samples by each metric",
    "latents": "Quantiles of each photograph's latents over those of a standard normal distribution (dashed), by level",
    "calibration": "Error over the samples' deviation, coverage of central intervals, and the photograph's rank among "
    "the samples; dashed is a calibrated model",
}

_SHEETS = {
    "tau-sweep": "A detail of a photograph at each temperature",
    "best-of-n": "A detail of a photograph: its best samples",
    "restore": "A detail of a photograph: degraded, super-resolved and restored",
    "transfer": "Content of one picture put into another",
    "samples": "A detail of a photograph: samples of it, and the map of their deviation",
    "ntire21": "A detail of a photograph: samples of it",
    "diagnose": "The inputs that are no photographs, made of one",
}


def caption_of(protocol: str, path: Path) -> str:
    """A sentence on a plot or sheet of a protocol, with the name of its file.

    A file that is not known here has its name alone.
    """
    is_sheet = path.stem == "sheet" or path.stem.startswith("sheet_")
    text = _SHEETS.get(protocol, "") if is_sheet else _PLOTS.get(path.stem, "")
    return f"{text} ({path.name})." if text else f"{path.name}."
