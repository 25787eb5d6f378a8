"""How content is transferred: what each keyword of :meth:`Upscaler.transfer` may be, and what a picture records."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypedDict

from srflow_sdk._checks import one_of
from srflow_sdk.drawing.requests import DrawOptions, Progress
from srflow_sdk.latents.arguments import check_taus, level_taus
from srflow_sdk.latents.draws import STATISTICS_SCHEME
from srflow_sdk.model.manifest import Manifest

Blend = Literal["gradient", "none"]

TRANSFER_SCHEME = 1
"""Version of what the options mean, defaults included; pictures record it."""

FINEST_TAU = 0.8
"""The default temperature with blend="gradient", on the finest level alone: normalising the others blurs the content.
From benchmarks/transfer.py."""

PLAIN_TAU = 0.9
"""The default temperature with blend="none", on all levels, as published."""


class TransferKeywords(TypedDict, total=False):
    """The fields of :class:`TransferOptions` as keywords."""

    blend: Blend
    tau: float | Mapping[int, float] | None
    seed: int
    progress: Progress | None
    cancel: threading.Event | None


@dataclass(frozen=True, kw_only=True)
class TransferOptions:
    """The options of :meth:`Upscaler.transfer`, which says what each field means. Raises: ArgumentError."""

    blend: Blend = "gradient"
    tau: float | Mapping[int, float] | None = None
    seed: int = 0
    progress: Progress | None = None
    cancel: threading.Event | None = None

    def __post_init__(self) -> None:
        DrawOptions(seed=self.seed, progress=self.progress, cancel=self.cancel)  # checks them
        if self.tau is not None:
            check_taus(self.tau)
        one_of("blend", self.blend, Blend)

    def taus(self, manifest: Manifest) -> dict[int, float]:
        """Temperatures by level; levels without one stay as they are. Raises: ArgumentError for unknown levels."""
        levels = sorted(entry.level for entry in manifest.latent_levels)
        if self.tau is not None:
            return level_taus(self.tau, levels)
        return {levels[0]: FINEST_TAU} if self.blend == "gradient" else dict.fromkeys(levels, PLAIN_TAU)

    def number(self, manifest: Manifest) -> float | None:
        """The temperature if all levels have the same one."""
        taus = self.taus(manifest)
        return (
            next(iter(taus.values()))
            if len(taus) == len(manifest.latent_levels) and len({*taus.values()}) == 1
            else None
        )

    def recorded(self, manifest: Manifest, files: Mapping[str, Mapping[str, str] | None]) -> str:
        """The settings as a picture records them, but for the seed.

        files: the name and sha256 of the inputs besides the target, by what they are; None for one that was not given.
        """
        values = {
            **files,
            "blend": self.blend,
            "scheme": TRANSFER_SCHEME,
            "statistics": STATISTICS_SCHEME,
            "tau": {str(level): tau for level, tau in self.taus(manifest).items()},
        }
        return json.dumps(values, sort_keys=True)
