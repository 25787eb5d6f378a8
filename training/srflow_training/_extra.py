"""The [train] extra, without which no command of this package works."""

from __future__ import annotations

from typing import Any

from srflow_sdk.system.raising import require_extra


def require_all() -> Any:
    """Check that the [train] extra is installed; return torch. Raises: MissingExtraError."""
    for module in ("safetensors", "yaml", "piq", "pydantic"):
        require_extra(module, "train")
    return require_extra("torch", "train")
