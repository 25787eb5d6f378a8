"""The latents of one picture, to be changed, kept in files, and decoded again."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from srflow_sdk._checks import file_path, level_taus, one_of, real, whole
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.latents import arrays
from srflow_sdk.latents.normalising import Collection, normalise
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.system.hardware import ComputePrecision

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Latents"]

_SIDES = ("height", "width")
_MAX_LEVEL = 16
_MAX_SIDE = (1 << 32) - 1

_Level = NDArray[np.float32]
_LatentsT = TypeVar("_LatentsT", bound="Latents")


class _HasBundle(Protocol):
    @property
    def bundle(self) -> Bundle: ...


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Latents:
    """All of a photograph that its LR image does not say: float32 arrays by level of the flow.

    True latents are standard normal; those of a picture that the model finds unlikely (noise, JPEG
    blocks, something pasted in) are not, and making them so makes the picture likelier.
    `Encoding.invert` makes latents from a picture, and `Encoding.decode` a picture from latents.

    They never change: every method returns new ones, and arrays cannot be written. So threads may
    share them. Together they are as large as the picture in float32. `==` tells whether two names
    mean one object; numpy.array_equal compares the arrays.

    Args:
        levels: Arrays by level, 1 … 16, finest first: float32, C×(padded HR height /
            2^level)×(padded HR width / 2^level). Writable ones are copied; read-only ones are taken
            as they are.
        height, width: Of the HR picture in pixels, without padding.
        model_sha256: :attr:`Bundle.model_sha256` of the model that they belong to; for another they
            mean nothing.
        log_likelihood: Log-density of the picture's values in [0, 1] given its LR image, in nats;
            None if it is not known, as once latents were changed.
        precision: The encoder's arithmetic when they were made: with another, they are decoded less
            exactly.

    Raises:
        ArgumentError: For other types, shapes and sizes.

    Example:
        >>> encoding = upscaler.encode(lr)
        >>> smoother = encoding.decode(encoding.invert(hr).scaled(0.7))
    """

    levels: Mapping[int, NDArray[np.float32]] = field(kw_only=False)
    height: int
    width: int
    model_sha256: str
    log_likelihood: float | None = None
    precision: ComputePrecision = "bundle"

    def __post_init__(self) -> None:
        known: dict[str, Any] = {
            side: whole(side, vars(self)[side], least=1, most=_MAX_SIDE) for side in _SIDES
        }
        one_of("precision", self.precision, ComputePrecision)
        if self.log_likelihood is not None:
            known["log_likelihood"] = real("log_likelihood", self.log_likelihood)
        self._check_levels()
        checked = {int(level): np.asarray(self.levels[level]) for level in sorted(self.levels)}
        if any(array.flags.writeable or not array.flags.c_contiguous for array in checked.values()):
            copies = arrays.like(checked)
            for level, array in checked.items():
                np.copyto(copies[level], array)
            checked = copies
        vars(self).update(known, levels=MappingProxyType(arrays.read_only(checked)))

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), **{**vars(self), "levels": dict(self.levels)}), ()

    def _check_levels(self) -> None:
        """Raises: ArgumentError unless all are of one padded picture."""
        if not isinstance(self.levels, Mapping) or not self.levels:
            raise ArgumentError(
                "levels is empty or no mapping; it must hold a float32 array for each level"
            )
        padded = set()
        for level, given in self.levels.items():
            whole("a level", level, least=1, most=_MAX_LEVEL)
            array = np.asarray(given)
            if array.dtype != np.float32 or array.ndim != 3 or not array.size:
                raise ArgumentError(
                    f"level {level} is {array.dtype} {array.shape}; it must be a float32 array "
                    "C×h×w"
                )
            padded.add((array.shape[1] << level, array.shape[2] << level))
        if len(padded) > 1 or self.height > min(padded)[0] or self.width > min(padded)[1]:
            sizes = ", ".join(f"{rows}×{columns}" for rows, columns in sorted(padded))
            raise ArgumentError(
                f"the levels are of pictures of {sizes}, not of one of {self.height}×{self.width}"
            )

    @property
    def bits_per_dimension(self) -> float | None:
        """The log-likelihood as bits per value for 8-bit levels: -nats / (3·H·W·ln 2) + 8.

        Lower is likelier.
        """
        nats = self.log_likelihood
        return (
            None if nats is None else bits_per_dimension(nats, height=self.height, width=self.width)
        )

    def scaled(self, tau: float | Mapping[int, float]) -> Self:
        """Latents times a temperature.

        Args:
            tau: 0 … 2, or numbers by level; levels that are not named stay as they are.

        Raises:
            ArgumentError: For other temperatures and levels.
        """
        taus = level_taus(tau, self.levels)

        def scale(level: int, source: _Level, target: _Level) -> None:
            np.multiply(source, np.float32(taus[level]), out=target)

        return change_levels(self, {level for level in taus if taus[level] != 1}, scale)

    def normalised(
        self,
        tau: float | Mapping[int, float],
        *,
        over: Collection = "spatial",
        where: NDArray[np.bool_] | None = None,
        seed: int = 0,
    ) -> Self:
        """Give collections of latents the statistics that true samples would have.

        Their means and deviations are drawn, as those of as many normal numbers would be. A
        collection of N latents with mean m and standard deviation s (over N - 1) becomes (S/s)·(z
        - m) + M, where M ~ N(0, tau²/N) and S² ~ Gamma((N - 1)/2, scale 2·tau²/(N - 1)): the
        publication's sections 4.3 and 4.5, with tau² for its variance. M and S follow from seed,
        level and collection, to the bit (statistics 1, in `srflow_sdk/latents/normalising.py`).
        Only latents of the picture count, not those of its padding. Collections with fewer than two
        latents stay as they are. Latents that are all equal become M.

        Args:
            tau: 0 … 2, or numbers by level; levels that are not named stay as they are.
            over: The collections: "spatial", one channel at all positions; "local", all channels at
                one position; "global", a whole level.
            where: Boolean H×W of the HR picture. At a level, a position is inside if any of its
                2^level × 2^level pixels is; only those inside count, and only they change.
            seed: Of the drawn M and S, 0 … 2^64 - 1.

        Raises:
            ArgumentError: For other values.
            NonFiniteError: Latents are NaN or infinite.
        """
        taus = level_taus(tau, self.levels)
        one_of("over", over, Collection)
        seed = whole("seed", seed, least=0, most=(1 << 64) - 1)
        size = self.height, self.width
        mask = np.ones(size, np.bool_) if where is None else np.asarray(where)
        if mask.dtype != np.bool_ or mask.shape != size:
            raise ArgumentError(
                f"where is of {mask.dtype} and shape {mask.shape}; it must be boolean, as "
                f"where > 127 is, and of the HR picture's {self.height}×{self.width}"
            )

        def apply(level: int, source: _Level, target: _Level) -> None:
            inside = arrays.mask_positions(mask, level)
            normalise(source, target, inside, over=over, level=level, tau=taus[level], seed=seed)

        return change_levels(self, set(taus), apply)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file: tensors `level1` …, float32, and what they belong to.

        Args:
            path: Any name; `.safetensors` is usual. An older file is unchanged after an error.

        Raises:
            ImageError: It cannot be written.
            ArgumentError: It is no path.
        """
        about = {
            "model_sha256": self.model_sha256,
            "height": str(self.height),
            "width": str(self.width),
        }
        if self.log_likelihood is not None:
            about["log_likelihood"] = repr(self.log_likelihood)
        if self.precision != "bundle":
            about["precision"] = self.precision
        arrays.write_file(file_path("path", path), self.levels, about)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, model: Bundle | _HasBundle | None = None
    ) -> Self:
        """Read latents that :meth:`save` wrote.

        Args:
            path: The file.
            model: A Bundle or Upscaler that they are meant for.

        Raises:
            ImageError: The file is missing, damaged or holds something else.
            ArgumentError: The latents belong to another model.
        """
        levels, about = arrays.read_file(file_path("path", path))
        try:
            likelihood = about.get("log_likelihood")
            latents = cls(
                arrays.read_only(levels),
                height=int(about["height"]),
                width=int(about["width"]),
                model_sha256=about["model_sha256"],
                log_likelihood=None if likelihood is None else float(likelihood),
                precision=about.get("precision", "bundle"),
            )
        except (KeyError, TypeError, ValueError) as error:  # ArgumentError is one, too
            why = error if isinstance(error, ArgumentError) else "it does not say of what picture"
            raise ImageError(
                f"{os.fspath(path)} is not a file of latents: {why}; Latents.save writes one"
            ) from error
        if model is not None:
            bundle = model if isinstance(model, Bundle) else model.bundle
            check_made_by(latents, bundle.manifest, f"the latents in {os.fspath(path)}")
        return latents

    def __repr__(self) -> str:
        shapes = (
            f"level {level}: {'×'.join(map(str, array.shape))}"
            for level, array in self.levels.items()
        )
        parts = [f"{self.height}×{self.width}", *shapes]
        if (bits := self.bits_per_dimension) is not None:
            parts.append(f"{bits:.3f} bits per dimension")
        return f"Latents({', '.join(parts)})"


def change_levels(
    latents: _LatentsT, levels: set[int], change: Callable[[int, _Level, _Level], None]
) -> _LatentsT:
    """Make latents whose named levels are written by change(level, source, target).

    The others are shared.
    """
    if not levels:
        return latents
    targets = arrays.like({level: latents.levels[level] for level in levels})
    for level, target in targets.items():
        change(level, latents.levels[level], target)
    return replace(
        latents, levels={**latents.levels, **arrays.read_only(targets)}, log_likelihood=None
    )


def bits_per_dimension(nats: float, *, height: int, width: int) -> float:
    """Negative log-likelihood in bits per value of an RGB picture, for 8-bit levels.

    Lower is likelier.

    nats: log-density of the H×W×3 values in [0, 1]. An 8-bit level is 1/256 of that range, hence
    log2 256 = 8 is added: the figure is about the bits that a lossless code of the 8-bit picture
    needs, and 8 means "all levels are alike".
    """
    return 8.0 - nats / (3 * height * width * math.log(2))


def check_made_by(latents: Latents, manifest: Manifest, what: str = "the latents") -> None:
    """Raises: ArgumentError unless this model made them."""
    if latents.model_sha256 != manifest.digest:
        raise ArgumentError(
            f"{what} are of the model {latents.model_sha256[:12]}…, not of {manifest.name} "
            f"({manifest.digest[:12]}…): "
            f"take the bundle that made them, or invert the picture again"
        )
