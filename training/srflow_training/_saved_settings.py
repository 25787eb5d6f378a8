"""Settings as runs save them: read from states of all versions, compared, and without paths to publish."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from srflow_training.model.config import default_stacked_blocks
from srflow_training.settings import Hardware, RunSettings


def saved_settings(text: str) -> RunSettings:
    """Read the settings that :func:`dump_settings` wrote into a state. Raises: ArgumentError."""
    raw = yaml.safe_load(text)
    network = raw["network"]
    if network["kind"] == "srflow" and network.get("variant") != "paper" and "stacked_blocks" not in network:
        # older states did not say, and bounded networks used the published blocks
        shape = {"scale": network.get("scale", 4), "blocks": network.get("blocks", 23)}
        network["stacked_blocks"] = list(default_stacked_blocks("published", **shape))
    if "flips" in raw["data"]:  # older states
        raw["data"]["flip"] = "both" if raw["data"].pop("flips") else "none"
    return RunSettings.from_dict(raw)


def first_difference(one: RunSettings, other: RunSettings, ignored: Mapping[str, set[str]]) -> str:
    """The first field outside hardware in which two runs differ, with both values; empty if there is none.

    ignored: {section: fields to skip}.
    """
    for section in ("network", "data", "objective", "schedule"):
        first, second = (settings.model_dump(mode="json")[section] for settings in (one, other))
        for name in sorted({*first, *second} - ignored.get(section, set())):
            if first.get(name) != second.get(name):
                return f"{section}.{name} ({first.get(name)!r}, not {second.get(name)!r})"
    return ""


def without_paths(settings: RunSettings) -> RunSettings:
    """Settings to publish with a model: files by name only, and nothing about the machine."""
    schedule, data, objective = settings.schedule, settings.data, settings.objective
    names = {name: Path(getattr(schedule, name)).name for name in ("encoder", "start")}
    return settings.model_copy(
        update={
            "schedule": schedule.model_copy(update=names),
            "objective": objective.model_copy(update={"perceptual_vgg16": Path(objective.perceptual_vgg16).name}),
            "data": data.model_copy(
                update={
                    **{name: Path(getattr(data, name)).name for name in ("lr", "teacher")},
                    "cache": "auto",
                    "workers": 0,
                }
            ),
            "hardware": Hardware(precision=settings.hardware.precision),
        }
    )
