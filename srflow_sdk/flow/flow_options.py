"""The options of restoring and of transfer: what each keyword may be, what it becomes, and what a picture records."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast

from srflow_sdk._checks import flag, one_of
from srflow_sdk.drawing.options import DrawOptions, Progress, WatchKeywords
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files.provenance import RESTORE, TRANSFER
from srflow_sdk.flow.limiting import limited, tails, typical_size
from srflow_sdk.latents.normalising import STATISTICS_SCHEME, Collection
from srflow_sdk.latents.picture_latents import Latents, level_taus
from srflow_sdk.model.manifest import Manifest

Over = Literal["auto", "spatial", "local", "global"]

RESTORE_SCHEME = 4
"""Version of what the options mean, defaults included; pictures record it."""

DOTS_TAU = 1.0
"""The default temperature over "local"."""

# The default temperatures over "spatial" and "global": measured on photographs with noise of 5 to 40 of 255. The finest
# level says how much noise there is, and the others are limited more, the more there is.
_FINEST_TAU = 0.8
_COARSE_TAUS = (0.7, 1.15)
_COARSE_TAU, _BY_SIZE = 1.8, 0.41

# Which pictures are noisy, and which have dots. Measured on clean photographs, with captions too, pages and line art
# (typical sizes up to 0.68, size times kurtosis up to 4.1), photographs with noise of 2 of 255 (typical sizes up to
# 0.99) and 5 (from 1.31 on; kurtosis up to 3.1), and with 2 % of salt and pepper (kurtosis from 6.9 on, times size from
# 6.4 on).
_NOISY_SIZE = 1.15
_DOTS_KURTOSIS, _DOTS_TAILS = 5.0, 5.2


class RestoreKeywords(WatchKeywords, total=False):
    """The fields of :class:`RestoreOptions` as keywords."""

    tau: float | Mapping[int, float] | None
    over: Over
    enlarge: bool
    seed: int


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
            level_taus(self.tau)
        one_of("over", self.over, Over)
        flag("enlarge", self.enlarge)

    def check(self, manifest: Manifest) -> None:
        """Raises: ArgumentError for temperatures of levels that the model does not have."""
        if self.tau is not None:
            level_taus(self.tau, [entry.level for entry in manifest.latent_levels])

    @property
    def keywords(self) -> RestoreKeywords:
        return cast("RestoreKeywords", {field.name: getattr(self, field.name) for field in fields(self)})

    @property
    def number(self) -> float | None:
        """The temperature if one number was chosen for all levels."""
        return None if self.tau is None or isinstance(self.tau, Mapping) else float(self.tau)

    def restored(self, latents: Latents) -> Latents:
        """The latents of a degraded picture as those of a restored one. Raises: NonFiniteError, ArgumentError."""
        chosen = self._chosen(latents)
        if chosen is None:
            return latents
        over, taus = chosen
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

    def provenance_fields(self) -> dict[str, Any]:
        """The fields of a restored picture's provenance that the options decide."""
        return _fields(RESTORE, tau=self.number, seed=self.seed, settings=self.recorded())

    @classmethod
    def from_record(cls, settings: str, *, seed: int) -> RestoreOptions:
        """The options that a picture records. Raises: ArgumentError if they are of another version, or damaged."""
        try:
            values: dict[str, Any] = json.loads(settings)
            versions = values["scheme"], values["statistics"]
            over, enlarge, tau = values["over"], values["enlarge"], values["tau"]
            if isinstance(tau, dict):
                tau = {int(level): number for level, number in tau.items()}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArgumentError("the settings that the picture records are damaged") from error
        if versions != (RESTORE_SCHEME, STATISTICS_SCHEME):
            raise ArgumentError(
                f"the picture was restored by version {versions[0]!r:.9}.{versions[1]!r:.9} of the method, but this "
                f"SDK has version {RESTORE_SCHEME}.{STATISTICS_SCHEME}"
            )
        return cls(tau=tau, over=over, enlarge=enlarge, seed=seed)

    def _chosen(self, latents: Latents) -> tuple[Collection, dict[int, float]] | None:
        """The collections and temperatures for a picture with these latents; None if there is nothing to restore."""
        levels = list(latents.levels)
        finest = min(levels)
        size, kurtosis = tails(latents, finest)
        over: Collection
        if self.over == "auto":
            # Where a few latents are far too large there are dots or scratches. Noise is everywhere: the typical latent
            # is too large. Edges of text and drawings are neither.
            dots = kurtosis > _DOTS_KURTOSIS and size * kurtosis > _DOTS_TAILS
            over = "local" if dots else "spatial"
            if not dots and not self.enlarge and self.tau is None and typical_size(latents, finest) < _NOISY_SIZE:
                return None
        else:
            over = self.over
        if self.tau is not None:
            return over, level_taus(self.tau, levels)
        if over == "local":
            return over, dict.fromkeys(levels, DOTS_TAU)
        low, high = _COARSE_TAUS
        coarse = min(max(_COARSE_TAU - _BY_SIZE * size, low), high)
        return over, {level: _FINEST_TAU if level == finest else coarse for level in levels}


Blend = Literal["gradient", "none"]

TRANSFER_SCHEME = 1
"""Version of what the options mean, defaults included; pictures record it."""

FINEST_TAU = 0.8
"""The default temperature with blend="gradient", on the finest level alone: normalising the others blurs the content.
From benchmarks/transfer.py."""

PLAIN_TAU = 0.9
"""The default temperature with blend="none", on all levels, as published."""


class TransferKeywords(WatchKeywords, total=False):
    """The fields of :class:`TransferOptions` as keywords."""

    blend: Blend
    tau: float | Mapping[int, float] | None
    seed: int


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
            level_taus(self.tau)
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
        number, *others = {*taus.values()}
        return number if len(taus) == len(manifest.latent_levels) and not others else None

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

    def provenance_fields(self, manifest: Manifest, others: Mapping[str, tuple[Path, str] | None]) -> dict[str, Any]:
        """The fields of a picture's provenance that the options decide. others: the other inputs and their sha256."""
        named = {what: other and {"name": other[0].name, "sha256": other[1]} for what, other in others.items()}
        settings = self.recorded(manifest, {"lr": None, **named})
        return _fields(TRANSFER, tau=self.number(manifest), seed=self.seed, settings=settings)


def _fields(operation: str, *, tau: float | None, seed: int, settings: str) -> dict[str, Any]:
    drawn = {"tau": tau, "seed": int(seed), "sample": 0, "consistent": False}
    return {**drawn, "operation": operation, "settings": settings}
