"""The presets, and what else a run's settings come from: YAML files and `--set`.

A preset is a file of this folder. Its first line, a comment, is what `srflow-train --help` says of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from srflow_sdk.errors import ArgumentError
from srflow_sdk.system.local_files import real_path
from srflow_training.model.config import ENCODER_FIELDS, ENCODERS
from srflow_training.settings import OFF, RunSettings

Stage = Literal["flow", "encoder"]


def preset_names() -> list[str]:
    """The presets that `--config` takes by name, sorted."""
    folder = resources.files("srflow_training") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_settings(config: str, overrides: Sequence[str] = (), *, stage: Stage = "flow") -> RunSettings:
    """Load a preset by name or a YAML file by path, with `section.field=value` overrides. Raises: ArgumentError.

    stage: "encoder" takes the flow's LR encoder alone, with `encoder_data` and `encoder_schedule` in place of fields of
    `data` and `schedule`.

    `base: PRESET|FILE.yaml` at the top of a file (by a path relative to it) takes all fields of another, except those
    that the file sets. A field without a value returns to its default, not the base's: `section.field=`, or null in a
    file (but `network.split_clamp: null` is no bound). `data.degradation.field=value` sets one of its fields.
    """
    raw, places = _read_sections(config)
    raw = _at_stage(raw, stage, config)
    if stage == "encoder":
        places |= {name.removeprefix("encoder_"): place for name, place in places.items() if name[:8] == "encoder_"}
    for override in overrides:
        name, separator, value = override.partition("=")
        section, *keys = name.split(".")
        if not separator or not keys or not all(keys):
            raise ArgumentError(f"--set {override}: section.field=value was expected, e.g. schedule.iterations=2000")
        inherited, own = raw.get(section) or {}, parse_yaml(value, where=f"--set {name}")[0] if value.strip() else None
        if not isinstance(inherited, dict):
            continue  # refused below
        if name == "network.split_clamp" and not value.strip():  # whose null is not its default
            raw[section] = {field: inherited[field] for field in inherited if field != "split_clamp"}
        else:
            for key in reversed(keys[1:]):
                own = {key: own}
            raw[section] = _merged(inherited, {keys[0]: own})
        places[name] = "--set: "
    return RunSettings.from_dict(raw, places)


def _at_stage(raw: dict[str, Any], stage: Stage, config: str) -> dict[str, Any]:
    """The sections of a stage's run. A run of an encoder alone has no other stage."""
    own = {name: raw.pop(f"encoder_{name}", None) or {} for name in ("data", "schedule")}
    network = raw.get("network")
    if stage == "flow" or not isinstance(network, dict) or network.get("kind") in ENCODERS:
        return raw
    kind = network.get("encoder", "rrdb")
    if kind not in ENCODERS or not all(isinstance(section, dict) for section in own.values()):
        raise ArgumentError(f"{config}: --stage encoder needs network.encoder: rrdb or plain, and sections of fields")
    stages = {name: _merged(raw[name], own[name]) for name in own if isinstance(raw.setdefault(name, {}), dict)}
    encoder = {name: network[name] for name in ENCODER_FIELDS[kind] if name in network}
    return {**raw, **stages, "network": {"kind": kind, **encoder}, "objective": {}}


def _merged(inherited: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A section's fields in place of its base's; those of a degradation likewise, unless they name a preset."""
    fields = {**own}
    mine, theirs = fields.get("degradation"), inherited.get("degradation")
    if isinstance(mine, str) and mine not in OFF:
        fields["degradation"] = {"preset": mine}
    elif isinstance(mine, dict) and "preset" not in mine and isinstance(theirs, dict):
        fields["degradation"] = {**theirs, **mine}
    return {**inherited, **fields}


def _read_sections(config: str, *, heirs: tuple[str, ...] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """Read a preset or file, with its fields in place of those of its `base`, and where each was read.

    heirs: the files whose base it is.
    """
    source = config if config in preset_names() else str(real_path(Path(config)))
    if source in heirs:
        raise ArgumentError(f"{heirs[-1]}: base {config} is based on this file itself: name another base")
    if source == config and config in preset_names():
        text = (resources.files("srflow_training") / "presets" / f"{config}.yaml").read_text(encoding="utf-8")
        raw, places = parse_yaml(text, where=config)
    elif Path(config).exists():
        raw, places = read_yaml(Path(config))
    else:
        where = f"{heirs[-1]}: base: " if heirs else ""
        names = ", ".join(preset_names())
        raise ArgumentError(f"{where}no configuration {config!r}: name a YAML file or a preset ({names})")
    if not isinstance(raw, dict):
        raise ArgumentError(f"{config}: the sections {', '.join(RunSettings.model_fields)} were expected")
    base = raw.pop("base", None)
    merged: dict[str, Any] = {}
    if base is not None:
        if not isinstance(base, str):
            raise ArgumentError(f"{config}: base is {base!r:.80}; the name of a preset or a YAML file was expected")
        beside = base if base in preset_names() else str(Path(config).parent / base)
        merged, inherited_places = _read_sections(beside, heirs=(*heirs, source))
        places = inherited_places | places
    for name, section in raw.items():
        inherited = merged.get(name) or {}
        if isinstance(inherited, dict) and isinstance(section, dict):
            merged[name] = _merged(inherited, section)
        elif section is not None or name not in merged:  # YAML reads a section without fields as None
            merged[name] = section
    return merged, places


def read_yaml(path: Path) -> tuple[Any, dict[str, str]]:
    """Parse a file, as :func:`parse_yaml`. Raises: ArgumentError."""
    if not path.is_file():  # a pipe would be waited for, and a device has no end
        raise ArgumentError(f"{path}: cannot be read: it is no regular file")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return parse_yaml(text, where=str(path))


def parse_yaml(text: str, *, where: str) -> tuple[Any, dict[str, str]]:
    """Parse YAML of plain values, and find the line of each field, by its dotted name. Raises: ArgumentError."""
    try:
        return yaml.safe_load(text), dict(_lines(yaml.compose(text, Loader=yaml.SafeLoader), where))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that is none
        raise ArgumentError(f"{where}: cannot be read as YAML: {' '.join(str(error).split())[:300]}") from error


def _lines(node: yaml.Node | None, where: str, prefix: str = "", depth: int = 3) -> Iterator[tuple[str, str]]:
    for key, value in node.value if isinstance(node, yaml.MappingNode) and depth else ():
        yield f"{prefix}{key.value}", f"{where}:{key.start_mark.line + 1}: "
        yield from _lines(value, where, f"{prefix}{key.value}.", depth - 1)
