"""The options of a protocol, parsed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from srflow_evaluation.convention import ConventionName
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.published_results import PUBLISHED
from srflow_evaluation.realesrgan import MODELS
from srflow_evaluation.results import Shard
from srflow_evaluation.subjects import Subject
from srflow_sdk.errors import ArgumentError

Normalisation = Literal["default", "published"]
"""How latents are made normal again: as the SDK does it, or by the publication's formula."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options that the user gave. models: none is the embedded one. centre: `--crop`. most: `--pictures`.

    others, tools: of `--other`, folders of pictures and names of Real-ESRGAN's models. bilinear: which of them enlarged
    bilinear reductions. sample_tau: of restore's sample. sheets: how many pictures get one; None: the protocol chooses.
    figure: the panels of plots; None: the publication's.
    """

    models: Sequence[str] = ()
    hr: Path
    out: Path
    lr: Path | None = None
    references: Sequence[Path] = ()
    others: Mapping[str, Path]
    tools: Sequence[str] = ()
    bilinear: Sequence[str] = ()
    convention: ConventionName = "default"
    taus: Sequence[LevelTaus] = ()
    sample_tau: LevelTaus | None = None
    samples: int | None = None
    centre: int | None = None
    most: int | None = None
    sheets: int | None = None
    published: str | None = None
    figure: Literal["published", "all"] | None = None
    vgg16: Path | None = None
    metrics: Sequence[str] = ()
    shard: Shard | None = None
    device: str = "cpu"
    degradations: Sequence[str] = ()
    degraded: Path | None = None
    source: Path | None = None
    mask: Path | None = None
    normalise: Normalisation | None = None
    progress: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        object.__setattr__(self, "taus", tuple(dict.fromkeys(self.taus)))  # one that is named twice is measured once

    @property
    def model(self) -> str | None:
        """The only model. Raises: ArgumentError if several are named."""
        if len(self.models) > 1:
            raise ArgumentError(f"this protocol measures one model, not {len(self.models)}: give --model once")
        return self.models[0] if self.models else None

    def only_tau(self, protocol: str) -> LevelTaus | None:
        """The only temperature, or None. Raises: ArgumentError if several are named."""
        if len(self.taus) > 1:
            raise ArgumentError(f"{protocol} has one temperature, not {len(self.taus)}: give --tau once")
        return self.taus[0] if self.taus else None

    def default_tau(self, subject: Subject) -> LevelTaus:
        """The temperature of a model if none is named: the publication's with `--published`, otherwise the model's."""
        return subject.default_tau if self.published is None else LevelTaus((PUBLISHED[self.published].tau,))

    def sampling_tau(self, protocol: str, default: LevelTaus) -> LevelTaus:
        """The only temperature, at which samples differ. Raises: ArgumentError."""
        tau = self.only_tau(protocol) or default
        if tau.is_zero:
            raise ArgumentError("at tau 0 all samples are the same: give a larger --tau")
        return tau

    def sample_count(self, default: int, why: str, *, least: int = 2) -> int:
        """How many samples. why: what needs at least so many. Raises: ArgumentError if there are fewer."""
        count = default if self.samples is None else self.samples
        if count < least:
            raise ArgumentError(f"--samples is {count}; {why}: give at least {least}")
        return count

    def only_degradation(self, protocol: str) -> str | None:
        """The only degradation, or None. Raises: ArgumentError if several are named."""
        if len(self.degradations) > 1:
            raise ArgumentError(
                f"{protocol} has one degradation, not {len(self.degradations)}: give --degradation once, or join them "
                f"with a plus: {'+'.join(self.degradations)}"
            )
        return self.degradations[0] if self.degradations else None

    @property
    def inputs(self) -> dict[str, Path]:
        """The folders of what a protocol needs of each picture, by option."""
        found = {"degraded": self.degraded, "source": self.source, "mask": self.mask}
        return {name: folder for name, folder in found.items() if folder is not None}


def parse_others(texts: Sequence[str]) -> dict[str, Path]:
    """Parse NAME=DIR. Raises: ArgumentError."""
    found: dict[str, Path] = {}
    for text in texts:
        match = re.fullmatch(r"([^=]+)=(.+)", text)
        if match is None:
            raise ArgumentError(
                f"--other is {text!r}; it must be NAME=DIR, e.g. --other ESRGAN=outputs/esrgan, or one of "
                f"{', '.join(MODELS)}"
            )
        if match[1] in found:
            raise ArgumentError(f"--other names {match[1]} twice: give each folder a name of its own")
        found[match[1]] = Path(match[2])
    return found
