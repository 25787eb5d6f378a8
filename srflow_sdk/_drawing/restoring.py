"""How a picture is restored: which of its latents are made smaller, and how small."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict, cast, get_args

import numpy as np

from srflow_sdk._drawing.limiting import limited, tails
from srflow_sdk._drawing.requests import DrawOptions, Progress
from srflow_sdk._latents.arguments import level_taus
from srflow_sdk._latents.draws import STATISTICS_SCHEME, Collection
from srflow_sdk.errors import ArgumentError
from srflow_sdk.manifest import Manifest
from srflow_sdk.picture_latents import Latents

Over = Literal["auto", "spatial", "local", "global"]

RESTORE_SCHEME = 1
"""Version of what the options mean, defaults included; pictures record it."""

NOISE_TAUS = {1: 1.1, 2: 1.25}
COARSE_TAU = 1.3
"""The default temperatures over "spatial" and "global", by level and of all other levels: from
benchmarks/restoration.py."""

DOTS_TAU = 1.0
"""The default temperature over "local"."""

_DOTS_SIZE, _DOTS_KURTOSIS = 1.0, 6.0  # noise has a kurtosis below 5; clean photos and JPEGs are smaller


class RestoreKeywords(TypedDict, total=False):
    """The fields of :class:`RestoreOptions` as keywords."""

    tau: float | Mapping[int, float] | None
    over: Over
    enlarge: bool
    seed: int
    progress: Progress | None
    cancel: threading.Event | None


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """The options of :meth:`Upscaler.restore`, which says what each field means. Raises: ArgumentError."""

    tau: float | Mapping[int, float] | None = None
    over: Over = "auto"
    enlarge: bool = False
    seed: int = 0
    progress: Progress | None = None
    cancel: threading.Event | None = None

    def __post_init__(self) -> None:
        DrawOptions(seed=self.seed, progress=self.progress, cancel=self.cancel)  # checks them
        if self.tau is not None:
            level_taus(self.tau, self.tau if isinstance(self.tau, Mapping) else (1,))
        if self.over not in get_args(Over):
            raise ArgumentError(f"over is {self.over!r}; it must be {', '.join(map(repr, get_args(Over)))}")
        if not isinstance(self.enlarge, (bool, np.bool_)):
            raise ArgumentError(f"enlarge is {self.enlarge!r}; it must be True or False")

    def check(self, manifest: Manifest) -> None:
        """Raises: ArgumentError for temperatures of levels that the model does not have."""
        self._taus([entry.level for entry in manifest.latent_levels], "spatial")

    @property
    def keywords(self) -> RestoreKeywords:
        """The options as keywords for another method."""
        return cast("RestoreKeywords", {field.name: getattr(self, field.name) for field in fields(self)})

    @property
    def number(self) -> float | None:
        """The temperature if one number was chosen for all levels."""
        return None if self.tau is None or isinstance(self.tau, Mapping) else float(self.tau)

    def restored(self, latents: Latents) -> Latents:
        """The latents of a degraded picture as those of a restored one. Raises: NonFiniteError, ArgumentError."""
        over = _collection_for(latents) if self.over == "auto" else self.over
        taus = self._taus(list(latents.levels), over)
        if self.enlarge:
            return latents.normalised(taus, over=over, seed=int(self.seed))
        return limited(latents, taus, over=over)

    def recorded(self) -> str:
        """The settings as a picture records them, but for the seed."""
        tau = self.tau
        values = {
            "enlarge": bool(self.enlarge),
            "over": self.over,
            "scheme": RESTORE_SCHEME,
            "statistics": STATISTICS_SCHEME,
            "tau": {str(level): float(t) for level, t in tau.items()} if isinstance(tau, Mapping) else self.number,
        }
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_record(cls, settings: str, *, seed: int) -> RestoreOptions:
        """The options that a picture records. Raises: ArgumentError if they are of another version, or damaged."""
        try:
            values: dict[str, Any] = json.loads(settings)
            versions = values["scheme"], values["statistics"]
            over, enlarge, tau = values["over"], values["enlarge"], values["tau"]
            if isinstance(tau, dict):
                tau = {int(level): number for level, number in tau.items()}
        except (ValueError, KeyError, TypeError) as error:
            raise ArgumentError("the settings that the picture records are damaged") from error
        if versions != (RESTORE_SCHEME, STATISTICS_SCHEME):
            raise ArgumentError(
                f"the picture was restored by version {versions[0]!r:.9}.{versions[1]!r:.9} of the method, but this "
                f"SDK has version {RESTORE_SCHEME}.{STATISTICS_SCHEME}"
            )
        return cls(tau=tau, over=over, enlarge=enlarge, seed=seed)

    def _taus(self, levels: list[int], over: Collection) -> dict[int, float]:
        if self.tau is not None:
            return level_taus(self.tau, levels)
        if over == "local":
            return dict.fromkeys(levels, DOTS_TAU)
        return {level: NOISE_TAUS.get(level, COARSE_TAU) for level in levels}


def _collection_for(latents: Latents) -> Collection:
    """Positions where a few latents are far too large (dots, scratches); otherwise channels (noise)."""
    size, kurtosis = tails(latents, min(latents.levels))
    return "local" if size > _DOTS_SIZE and kurtosis > _DOTS_KURTOSIS else "spatial"
