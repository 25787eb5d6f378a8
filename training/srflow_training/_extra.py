"""The [train] extra, without which no command of this package works."""

from __future__ import annotations

from typing import Any

from srflow_sdk.system.memory import check_address_space
from srflow_sdk.system.raising import require_extra

_ADDRESS_SPACE = 2_000_000_000  # for torch's libraries, threads and a small network


def require_all() -> Any:
    """Check that the [train] extra is installed; return torch. Raises: MissingExtraError, DeviceError."""
    check_address_space(_ADDRESS_SPACE, "training")
    for module in ("safetensors", "yaml", "piq", "pydantic"):
        require_extra(module, "train")
    return require_extra("torch", "train")
