"""The gate of every export: compare a bundle's graphs with the torch network on patches of real photographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from srflow_sdk._lazy_names import lazy_names

if TYPE_CHECKING:
    from srflow_export.parity._compare import compare
    from srflow_export.parity._gate import prove
    from srflow_export.parity._measure import ParityRow
    from srflow_export.parity._photos import LrPhoto, photographs

__all__ = ["LrPhoto", "ParityRow", "compare", "photographs", "prove"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "LrPhoto": "_photos",
        "ParityRow": "_measure",
        "compare": "_compare",
        "photographs": "_photos",
        "prove": "_gate",
    },
)
