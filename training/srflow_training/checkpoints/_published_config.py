"""Read the network from a YAML configuration of the published training code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from srflow_sdk.errors import ArgumentError, CheckpointError
from srflow_training._yaml import read_yaml
from srflow_training.model import SRFlowConfig


def read_published_config(path: Path, *, stacked_blocks: tuple[int, ...] | None = None) -> SRFlowConfig:
    """Read the network of a published YAML file (`scale`, `network_G: nf, nb, flow: K, L, stackRRDB: blocks`, …).

    Raises: CheckpointError if the file cannot be read or describes another network.
    """
    try:
        content = read_yaml(path)
    except ArgumentError as error:
        raise CheckpointError(str(error)) from error
    network = _section(content, "network_G", path)
    flow = _section(network, "flow", path)
    stacked = flow.get("stackRRDB")
    blocks = stacked_blocks or (stacked.get("blocks") if isinstance(stacked, dict) else None)
    values = {
        "scale": network.get("scale", network.get("upscale", content.get("scale"))),
        "nf": network.get("nf"),
        "blocks": network.get("nb"),
        "steps": flow.get("K"),
        "levels": flow.get("L"),
        "transition_steps": flow.get("additionalFlowNoAffine", 2),
        "stacked_blocks": blocks,
    }
    try:
        return SRFlowConfig.of_variant(
            "published", **{name: value for name, value in values.items() if value is not None}
        )
    except (ArgumentError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: does not describe an SRFlow network: {error}") from error


def _section(content: Any, name: str, path: Path) -> dict[str, Any]:
    section = content.get(name) if isinstance(content, dict) else None
    if not isinstance(section, dict):
        raise CheckpointError(f"{path}: has no section {name!r}; a published SRFlow configuration was expected")
    return section
