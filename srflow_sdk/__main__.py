"""`python -m srflow_sdk` is srflow-upscale, for environments whose scripts are not on the path."""

from __future__ import annotations

import importlib

if __name__ == "__main__":
    importlib.import_module(
        "srflow_apps.commands.cli"
    ).upscale()  # by name: the runtime imports no application
