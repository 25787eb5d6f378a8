"""The options of restoring and of transferring, as those in `drawing.options`."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from srflow_sdk._checks import level_taus, one_of
from srflow_sdk.drawing.options import DrawOptions, Progress, WatchKeywords, option
from srflow_sdk.errors import ArgumentError

if TYPE_CHECKING:
    from pathlib import Path

    from srflow_sdk.model.manifest import Manifest

LevelTaus = float | Mapping[int, float]
"""A temperature for all levels, or one for each that is named."""

Over = Literal["auto", "spatial", "local", "global"]
Blend = Literal["gradient", "none"]

RESTORE_SCHEME = 6
"""Version of what restoring's options mean, defaults included; pictures record it."""

TRANSFER_SCHEME = 1
"""Version of what transferring's options mean, likewise."""

FINEST_TAU = 0.8
"""The default temperature with blend="gradient", on the finest level alone: normalising the others
blurs the content. From benchmarks/transfer.py."""

PLAIN_TAU = 0.9
"""The default temperature with blend="none", on all levels, as published."""


class RestoreKeywords(WatchKeywords, total=False):
    """The fields of :class:`RestoreOptions` as keywords."""

    tau: LevelTaus | None
    over: Over


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """The keywords of :meth:`Upscaler.restore`.

    Args:
        tau: the largest root mean square of latents, 0 … 2, for all levels or by level. None is
            what was measured best.
        over: the latents that count together: "spatial", a channel, against noise; "local", a
            position, against dots; "global", a level; "auto" is what the picture shows.
        progress, cancel: as in :meth:`Upscaler.upscale`; the tiles of all passes count.

    Raises:
        ArgumentError: for values that are wrong for any picture.
    """

    tau: LevelTaus | None = option(
        None,
        "How large latents may be: smaller is smoother.  [default: as measured]",
        metavar="T|LEVEL=T,…",
        most=True,
    )
    over: Over = option(
        "auto", "spatial: noise everywhere; local: dots; auto: what the picture shows.", most=True
    )
    progress: Progress | None = None
    cancel: threading.Event | None = None

    def __post_init__(self) -> None:
        if self.tau is not None:
            level_taus(self.tau)
        one_of("over", self.over, Over)

    @property
    def number(self) -> float | None:
        """The temperature if one number was chosen for all levels."""
        return None if self.tau is None or isinstance(self.tau, Mapping) else float(self.tau)

    def recorded(self) -> str:
        """The settings as a picture records them."""
        tau = (
            {str(level): float(number) for level, number in self.tau.items()}
            if isinstance(self.tau, Mapping)
            else self.number
        )
        return json.dumps({"over": self.over, "scheme": RESTORE_SCHEME, "tau": tau})

    def provenance_fields(self) -> dict[str, Any]:
        """The fields of a restored picture's provenance that the options decide."""
        from srflow_sdk.files.provenance import RESTORE

        return {
            "tau": self.number,
            "seed": 0,
            "sample": 0,
            "consistent": False,
            "operation": RESTORE,
            "settings": self.recorded(),
        }

    @classmethod
    def from_record(cls, settings: str) -> RestoreOptions:
        """The options that a picture records.

        Raises: ArgumentError if they are of another version, or damaged.
        """
        try:
            values: dict[str, Any] = json.loads(settings)
            version = values["scheme"]
            over = values["over"]
            tau = values["tau"]
            if isinstance(tau, dict):
                tau = {int(level): number for level, number in tau.items()}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArgumentError("the settings that the picture records are damaged") from error
        if version != RESTORE_SCHEME:
            raise ArgumentError(
                f"the picture was restored by version {version!r:.9} of the method, but this SDK "
                f"has {RESTORE_SCHEME}"
            )
        return cls(tau=tau, over=over)


class TransferKeywords(WatchKeywords, total=False):
    """The fields of :class:`TransferOptions` as keywords."""

    blend: Blend
    tau: LevelTaus | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class TransferOptions:
    """The keywords of :meth:`Upscaler.transfer`.

    Args:
        blend: "gradient" first fits the content's brightness and colour (Poisson image editing),
            for any two pictures; "none" is the publication's way, for pictures that agree at LR
            size.
        tau: of the normalised latents, 0 … 2, or by level; None is 0.8 on the finest level for
            "gradient", else 0.9.
        seed: of the statistics that normalising draws.
        progress, cancel: as in :meth:`Upscaler.upscale`; tiles count when encoded, inverted and
            decoded.

    Raises:
        ArgumentError: for values that are wrong for any picture.
    """

    blend: Blend = option(
        "gradient",
        "gradient: fit brightness and colour first; none: as published, for pictures that agree at "
        "LR size.",
        most=True,
    )
    tau: LevelTaus | None = option(
        None,
        "Temperature of the content's latents.  [default: gradient 1=0.8, the finest level alone; "
        "none 0.9]",
        metavar="T|LEVEL=T,…",
        most=True,
    )
    seed: int = option(0, "Of what normalising draws: same seed, same picture.", least=0)
    progress: Progress | None = None
    cancel: threading.Event | None = None

    def __post_init__(self) -> None:
        DrawOptions(seed=self.seed)  # checks it
        if self.tau is not None:
            level_taus(self.tau)
        one_of("blend", self.blend, Blend)

    def taus(self, manifest: Manifest) -> dict[int, float]:
        """Temperatures by level.

        Levels without one stay as they are. Raises: ArgumentError for unknown levels.
        """
        levels = sorted(entry.level for entry in manifest.latent_levels)
        if self.tau is not None:
            return level_taus(self.tau, levels)
        return (
            {levels[0]: FINEST_TAU}
            if self.blend == "gradient"
            else dict.fromkeys(levels, PLAIN_TAU)
        )

    def number(self, manifest: Manifest) -> float | None:
        """The temperature if all levels have the same one."""
        taus = self.taus(manifest)
        number, *others = {*taus.values()}
        return number if len(taus) == len(manifest.latent_levels) and not others else None

    def provenance_fields(
        self, manifest: Manifest, others: Mapping[str, tuple[Path, str] | None]
    ) -> dict[str, Any]:
        """The fields of a picture's provenance that the options decide.

        others: the other inputs and their sha256.
        """
        from srflow_sdk.files.provenance import TRANSFER
        from srflow_sdk.latents.normalising import STATISTICS_SCHEME

        values = {
            "lr": None,
            **{
                what: other and {"name": other[0].name, "sha256": other[1]}
                for what, other in others.items()
            },
            "blend": self.blend,
            "scheme": TRANSFER_SCHEME,
            "statistics": STATISTICS_SCHEME,
            "tau": {str(level): tau for level, tau in self.taus(manifest).items()},
        }
        return {
            "tau": self.number(manifest),
            "seed": int(self.seed),
            "sample": 0,
            "consistent": False,
            "operation": TRANSFER,
            "settings": json.dumps(values, sort_keys=True),
        }
