"""The fixtures of the runtime's tests: applications are tested with the same tiny bundle and
photos."""

from tests.sdk.conftest import (
    _no_progress_lines,
    five_models,
    folder,
    photo,
    run,
    tiny_bundle,
    two_models,
    upscaler,
)

__all__ = [
    "_no_progress_lines",
    "five_models",
    "folder",
    "photo",
    "run",
    "tiny_bundle",
    "two_models",
    "upscaler",
]
