"""`python -m srflow_sdk` is srflow-upscale, for environments whose scripts are not on the path."""

from __future__ import annotations

from srflow_sdk.cli import upscale

if __name__ == "__main__":
    upscale()
