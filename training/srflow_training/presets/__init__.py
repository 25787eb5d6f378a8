"""The presets, and what else a run's settings come from: YAML files and `--set`.

A preset is a file of this folder. Its first line, a comment, is what `srflow-train --help` says of
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from srflow_sdk.errors import ArgumentError
from srflow_training.model.config import ENCODER_FIELDS, ENCODERS
from srflow_training.settings import OFF, RunSettings, field_names

Stage = Literal["flow", "encoder"]


def preset_names() -> list[str]:
    """The presets that `--config` takes by name, sorted."""
    folder = resources.files("srflow_training") / "presets"
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    )


def load_settings(
    config: str,
    overrides: Sequence[str] = (),
    *,
    stage: Stage = "flow",
) -> RunSettings:
    """Load a preset by name or a YAML file by path, with `section.field=value` overrides.

    `base: PRESET|FILE.yaml` at the top of a file (by a path relative to it) takes all fields of
    another, except those that the file sets. An override without a value, `section.field=`, returns
    the field to its default, not the base's. `data.degradation.field=value` sets one of its fields.

    Args:
        stage: "encoder" takes the flow's LR encoder alone, with `encoder_data` and
            `encoder_schedule` in place of fields of `data` and `schedule`.

    Raises:
        ArgumentError.
    """
    raw = _at_stage(_read_sections(config), stage, config)
    for override in overrides:
        name, separator, value = override.partition("=")
        section, *keys = name.split(".")
        if not separator or not keys or not all(keys):
            raise ArgumentError(
                f"--set {override}: section.field=value was expected, e.g. schedule.iterations=2000"
            )
        if value.strip():
            own = parse_yaml(value, where=f"--set {name}")
        else:  # an unknown field stays, to be refused
            own = _DEFAULT if keys[-1] in field_names(".".join((section, *keys[:-1]))) else None
        for key in reversed(keys[1:]):
            own = {key: own}
        if isinstance(inherited := raw.get(section) or {}, dict):  # else it is refused below
            raw[section] = _merge(inherited, {keys[0]: own})
    return RunSettings.from_dict(raw)


_DEFAULT = object()
"""In the place of a value: the field's default."""


def _at_stage(raw: dict[str, Any], stage: Stage, config: str) -> dict[str, Any]:
    """The sections of a stage's run. A run of an encoder alone has no other stage."""
    own = {name: raw.pop(f"encoder_{name}", None) or {} for name in ("data", "schedule")}
    network = raw.get("network")
    if stage == "flow" or not isinstance(network, dict) or network.get("kind") in ENCODERS:
        return raw
    kind = network.get("encoder", "rrdb")
    if kind not in ENCODERS or not all(isinstance(section, dict) for section in own.values()):
        raise ArgumentError(
            f"{config}: --stage encoder needs network.encoder: rrdb or plain, and sections of "
            "fields"
        )
    stages = {
        name: _merge(raw[name], own[name])
        for name in own
        if isinstance(raw.setdefault(name, {}), dict)
    }
    encoder = {name: network[name] for name in ENCODER_FIELDS[kind] if name in network}
    return {**raw, **stages, "network": {"kind": kind, **encoder}, "objective": {}}


def _merge(inherited: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A section's fields in place of its base's.

    Those of a degradation likewise, unless they name a preset.
    """
    fields = {**own}
    mine = fields.get("degradation")
    theirs = inherited.get("degradation")
    if isinstance(theirs, str) and theirs not in OFF:
        theirs = {"preset": theirs}
    if isinstance(mine, dict) and "preset" not in mine:
        fields["degradation"] = _merge(theirs if isinstance(theirs, dict) else {}, mine) or None
    return {name: value for name, value in {**inherited, **fields}.items() if value is not _DEFAULT}


def _read_sections(config: str) -> dict[str, Any]:
    """Read a preset or file, with its fields in place of those of its `base`."""
    if config in preset_names():
        file = resources.files("srflow_training") / "presets" / f"{config}.yaml"
        raw = parse_yaml(file.read_text(encoding="utf-8"), where=config)
    elif Path(config).exists():
        raw = read_yaml(Path(config))
    else:
        names = ", ".join(preset_names())
        raise ArgumentError(f"no configuration {config!r}: name a YAML file or a preset ({names})")
    if not isinstance(raw, dict):
        raise ArgumentError(
            f"{config}: the sections {', '.join(RunSettings.model_fields)} were expected"
        )
    base = raw.pop("base", None)
    merged: dict[str, Any] = {}
    if base is not None:
        if not isinstance(base, str):
            raise ArgumentError(
                f"{config}: base is {base!r:.80}; the name of a preset or a YAML file was expected"
            )
        beside = base if base in preset_names() else str(Path(config).parent / base)
        merged = _read_sections(beside)
    for name, section in raw.items():
        inherited = merged.get(name) or {}
        if isinstance(inherited, dict) and isinstance(section, dict):
            merged[name] = _merge(inherited, section)
        elif section is not None or name not in merged:
            # YAML reads a section without fields as None
            merged[name] = section
    return merged


def read_yaml(path: Path) -> Any:
    """Parse a file of plain values. Raises: ArgumentError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    return parse_yaml(text, where=str(path))


def parse_yaml(text: str, *, where: str) -> Any:
    """Parse YAML of plain values. Raises: ArgumentError."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that is none
        raise ArgumentError(
            f"{where}: cannot be read as YAML: {' '.join(str(error).split())[:300]}"
        ) from error
