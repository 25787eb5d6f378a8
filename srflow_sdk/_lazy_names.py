"""Public names of a package that are imported on first use, so that importing it costs nothing."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # see srflow_sdk/__init__.py

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__`.

    homes: a name's module, in the package or in full from srflow_ on.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        import importlib  # not before a name is used

        home = homes[name] if homes[name].startswith("srflow_") else f"{package}.{homes[name]}"
        value = getattr(importlib.import_module(home), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(homes)
