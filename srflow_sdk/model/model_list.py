"""The embedded models, for people: what `srflow-upscale --models` prints."""

from __future__ import annotations

from collections.abc import Iterator

from srflow_sdk.model.bundle import DEFAULT_MODEL, Bundle
from srflow_sdk.model.model_choice import CLEAN, PHOTO

_FOR = {
    CLEAN: "clean photographs",
    PHOTO: "photographs as they come: noisy, compressed, a little blurred",
}


def lines() -> Iterator[str]:
    """One line for each model. Raises: BundleError if one is damaged."""
    for name in Bundle.embedded_names():
        manifest = Bundle.embedded(name).manifest
        tau = f"{'auto ' if manifest.auto_tau else ''}{manifest.default_tau:g}"
        default = " (what Upscaler() opens)" if name == DEFAULT_MODEL else ""
        yield f"{name}  ×{manifest.scale}  tau {tau}  for {_FOR.get(name, 'what its card says')}{default}"
