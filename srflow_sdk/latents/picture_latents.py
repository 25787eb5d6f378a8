"""The latents of one picture: all that its LR image does not say, to be changed, kept in files, and decoded again."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from srflow_sdk._checks import file_path, one_of, real, whole
from srflow_sdk.drawing.tiles import Window
from srflow_sdk.errors import ArgumentError, ImageError, NonFiniteError
from srflow_sdk.latents import arrays
from srflow_sdk.latents import latents_file as files
from srflow_sdk.latents.arguments import MAX_SIDE, checked_levels, checked_mask, level_taus
from srflow_sdk.latents.bits_per_dimension import bits_per_dimension
from srflow_sdk.latents.blending import interpolate, mix
from srflow_sdk.latents.draws import Collection
from srflow_sdk.latents.normalising import Normalisation, mean_and_deviation, normalise
from srflow_sdk.latents.random_field import LatentLevel
from srflow_sdk.model.bundle import Bundle, where_released
from srflow_sdk.system.device_names import ComputePrecision

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Latents"]

_SHA256 = re.compile(r"[0-9a-f]{64}")


class _HasBundle(Protocol):
    @property
    def bundle(self) -> Bundle: ...


class Latents:
    """All of a photograph that its LR image does not say: float32 arrays by level of the flow.

    True latents are standard normal; those of a picture that the model finds unlikely (noise, JPEG blocks, something
    pasted in) are not, and making them so makes the picture likelier. `Encoding.invert` makes latents from a picture,
    and `Encoding.decode` a picture from latents.

    They never change: every method returns new ones, and arrays cannot be written. So threads may share them. Together
    they are as large as the picture in float32; beyond 256 MB they lie in memory-mapped temporary files (in TMPDIR),
    which vanish with the object. `==` tells whether two names mean one object; numpy.array_equal compares the arrays.
    """

    def __init__(
        self,
        levels: Mapping[int, NDArray[np.float32]],
        *,
        height: int,
        width: int,
        model_sha256: str,
        log_likelihood: float | None = None,
        precision: ComputePrecision = "bundle",
    ) -> None:
        """Latents from arrays. Writable arrays are copied; read-only ones are taken as they are, without a copy.

        levels: by level, 1 … 16: float32, C×(padded HR height / 2^level)×(padded HR width / 2^level).
        height, width: of the HR picture in pixels, without padding.
        model_sha256: :attr:`Bundle.model_sha256` of the model that they belong to.
        log_likelihood: log-density of the picture's values in [0, 1], in nats, if it is known.
        precision: the encoder's arithmetic when they were made.

        Raises: ArgumentError for other types, shapes and sizes.
        """
        height = whole("height", height, least=1, most=MAX_SIDE)
        width = whole("width", width, least=1, most=MAX_SIDE)
        if not isinstance(model_sha256, str) or not _SHA256.fullmatch(model_sha256):
            raise ArgumentError(f"model_sha256 is {model_sha256!r:.80}; it must be 64 hexadecimal digits")
        one_of("precision", precision, ComputePrecision)
        if log_likelihood is not None:
            log_likelihood = real("log_likelihood", log_likelihood)
        self._about = files.Described(
            height=height,
            width=width,
            model_sha256=model_sha256,
            log_likelihood=log_likelihood,
            precision=precision,
        )
        checked = checked_levels(levels, height=height, width=width)
        if any(array.flags.writeable or not array.flags.c_contiguous for array in checked.values()):
            copies = arrays.like(checked)
            for level, array in checked.items():
                np.copyto(copies[level], array)
            checked = copies
        self._levels = arrays.read_only(checked)

    @classmethod
    def zeros(
        cls,
        latent_levels: Iterable[LatentLevel],
        *,
        height: int,
        width: int,
        padded_height: int,
        padded_width: int,
        model_sha256: str,
    ) -> Self:
        """Latents that are all zero: those of the picture that a model gives at temperature 0.

        latent_levels: the manifest's.
        height, width: of the HR picture in pixels.
        padded_height, padded_width: of the picture with its padding, whole multiples of 2^level for each level.

        Raises: ArgumentError for sizes that do not fit; ImageError or OutOfMemoryError if there is no room.
        """
        entries = list(latent_levels)
        sides = {"padded_height": padded_height, "padded_width": padded_width}
        for name, side in sides.items():
            whole(name, side, least=1, most=MAX_SIDE)
            if odd := [entry.level for entry in entries if side % (1 << entry.level)]:
                raise ArgumentError(f"{name} is {side}; for level {max(odd)} it must be a multiple of {1 << max(odd)}")
        levels = arrays.allocate(
            {e.level: (e.channels, padded_height >> e.level, padded_width >> e.level) for e in entries}
        )
        return cls(arrays.read_only(levels), height=height, width=width, model_sha256=model_sha256)

    @property
    def levels(self) -> Mapping[int, NDArray[np.float32]]:
        """Read-only arrays by level, finest first: C×(padded HR height / 2^level)×(padded HR width / 2^level)."""
        return MappingProxyType(arrays.read_only(self._levels))

    @property
    def height(self) -> int:
        """Rows of the HR picture, without padding."""
        return self._about.height

    @property
    def width(self) -> int:
        """Columns of the HR picture, without padding."""
        return self._about.width

    @property
    def model_sha256(self) -> str:
        """:attr:`Bundle.model_sha256` of the model that they belong to; for another they mean nothing."""
        return self._about.model_sha256

    @property
    def precision(self) -> ComputePrecision:
        """The encoder's arithmetic when they were made: with another, they are decoded less exactly."""
        return self._about.precision

    @property
    def log_likelihood(self) -> float | None:
        """Log-density of the picture's values in [0, 1] given its LR image, in nats; None once latents were changed."""
        return self._about.log_likelihood

    @property
    def bits_per_dimension(self) -> float | None:
        """The log-likelihood as bits per value for 8-bit levels: -nats / (3·H·W·ln 2) + 8; lower is likelier."""
        if self.log_likelihood is None:
            return None
        return bits_per_dimension(self.log_likelihood, height=self.height, width=self.width)

    def with_log_likelihood(self, nats: float) -> Self:
        """The same latents, whose picture has this log-likelihood. Raises: ArgumentError unless it is finite."""
        return self._with(self._levels, log_likelihood=nats)

    def window(self, window: Window, scale: int) -> dict[int, NDArray[np.float32]]:
        """The part of a window, by level, as views: C×h×w.

        window: in LR pixels of the padded image.
        scale: HR size / LR size of the model.
        Raises: ArgumentError for other types, and if the window splits latent pixels or leaves the image.
        """
        if not isinstance(window, Window):
            raise ArgumentError(f"window is {type(window).__name__}; it must be a Window in LR pixels")
        scale = whole("scale", scale, least=1, most=MAX_SIDE)
        parts = {}
        for level, array in self._levels.items():
            place = window.scaled(scale, 1 << level)
            _, height, width = array.shape
            inside = min(place.top, place.left) >= 0 and place.top + place.height <= height
            if not inside or place.left + place.width > width:
                raise ArgumentError(f"{window} leaves the image, {height << level}×{width << level} HR pixels")
            parts[level] = array[:, place.slices[0], place.slices[1]]
        return parts

    def scaled(self, tau: float | Mapping[int, float]) -> Self:
        """Latents times a temperature.

        tau: 0 … 2, or numbers by level; levels that are not named stay as they are.
        Raises: ArgumentError.
        """
        taus = level_taus(tau, self._levels)

        def scale(level: int, source: NDArray[np.float32], target: NDArray[np.float32]) -> None:
            np.multiply(source, np.float32(taus[level]), out=target)

        return self._changed({level for level in taus if taus[level] != 1}, scale)

    def normalised(
        self,
        tau: float | Mapping[int, float],
        *,
        over: Collection = "spatial",
        where: NDArray[np.bool_] | None = None,
        seed: int = 0,
        enlarge: bool = True,
    ) -> Self:
        """Latents whose collections have the mean and deviation that true samples would have (latent normalisation).

        A collection of N latents with mean m and standard deviation s (over N - 1) becomes (S/s)·(z - m) + M, where
        M ~ N(0, tau²/N) and S² ~ Gamma((N - 1)/2, scale 2·tau²/(N - 1)): the publication's sections 4.3 and 4.5, with
        tau² for its variance. M and S follow from seed, level and collection, to the bit (statistics 1, in
        `srflow_sdk/latents/draws.py`). Only latents of the picture count, not those of its padding.

        tau: 0 … 2, or numbers by level; levels that are not named stay as they are.
        over: the collections: "spatial", one channel at all positions; "local", all channels at one position;
            "global", a whole level.
        where: boolean H×W of the HR picture. At a level, a position is inside if any of its 2^level × 2^level pixels
            is; only those inside count, and only they change.
        seed: of the drawn M and S, 0 … 2^64 - 1.
        enlarge: False enlarges neither deviations nor means: it takes min(1, S/s), and of m and M the one nearer to 0.
            Pictures that lost detail (JPEG, blur) have latents that are too small, and enlarged ones would show it.

        Collections with fewer than two latents stay as they are. Latents that are all equal become M.

        Raises: ArgumentError; NonFiniteError if latents are NaN or infinite.
        """
        taus = level_taus(tau, self._levels)
        one_of("over", over, Collection)
        seed = whole("seed", seed, least=0, most=(1 << 64) - 1)
        mask = np.ones((1, 1), np.bool_)
        if where is not None:
            mask = checked_mask("where", where, height=self.height, width=self.width)

        def apply(level: int, source: NDArray[np.float32], target: NDArray[np.float32]) -> None:
            inside = self._everywhere(level) if where is None else arrays.mask_positions(mask, level)
            how = Normalisation(over=over, level=level, tau=taus[level], seed=seed, enlarge=enlarge)
            normalise(source, target, inside, how)

        return self._changed(set(taus), apply)

    def mixed(self, other: Latents, mask: NDArray[np.bool_]) -> Self:
        """These latents, with those of another picture inside a mask.

        mask: boolean H×W of the HR picture; at a level, a position is inside if any of its pixels is.
        Raises: ArgumentError, also if the other latents are of another model or size.
        """
        self._check_fits(other)
        checked = checked_mask("mask", mask, height=self.height, width=self.width)

        def apply(level: int, source: NDArray[np.float32], target: NDArray[np.float32]) -> None:
            mix(source, other._levels[level], target, arrays.mask_positions(checked, level))

        return self._changed(set(self._levels), apply)

    def interpolated(self, other: Latents, t: float) -> Self:
        """Latents between these, at t = 0, and others, at t = 1, which give the ends bit for bit.

        Each level goes along the sphere (slerp), so that latents between two normal ones are as large as both. Where
        there is no arc, because a side is zero or both are parallel, it goes along the line.
        Raises: ArgumentError unless t is 0 … 1, and if the other latents are of another model or size.
        """
        self._check_fits(other)
        share = real("t", t, least=0, most=1)
        if share in (0, 1):
            return self if share == 0 else self._with(other._levels, log_likelihood=other.log_likelihood)

        def apply(level: int, source: NDArray[np.float32], target: NDArray[np.float32]) -> None:
            positions = arrays.picture_positions(level, height=self.height, width=self.width)
            interpolate(source, other._levels[level], target, t=share, positions=positions)

        return self._changed(set(self._levels), apply)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file: tensors `level1` …, float32, and size, model, precision and log-likelihood as
        metadata.

        The name may be any; `.safetensors` is usual. An older file is unchanged after an error.
        Raises: ImageError; ArgumentError for what is no path.
        """
        files.write(file_path("path", path), self._levels, self._about)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, model: Bundle | _HasBundle | None = None) -> Self:
        """Read latents that :meth:`save` wrote.

        model: a Bundle or Upscaler that they are meant for.
        Raises: ImageError for a file that is missing, damaged or holds something else; ArgumentError if the latents
        belong to another model.
        """
        bundle = model if isinstance(model, Bundle) else getattr(model, "bundle", None)
        if model is not None and not isinstance(bundle, Bundle):
            what = f"model is {type(model).__name__}"
            raise ArgumentError(f"{what}; it must be a Bundle (Bundle.open(path)) or an Upscaler")
        levels, described = files.read(file_path("path", path))
        try:
            latents = cls(arrays.read_only(levels), **vars(described))
        except ArgumentError as error:
            raise ImageError(f"{os.fspath(path)} is not a file of latents: {error}; Latents.save writes one") from error
        if bundle is not None:
            if bundle.model_sha256 != latents.model_sha256:
                raise ArgumentError(
                    f"{os.fspath(path)} holds latents of the model {latents.model_sha256[:12]}…, and {bundle.path} is "
                    f"{bundle.model_sha256[:12]}…; open the model that they were made with, or invert the picture again"
                    f"{where_released(latents.model_sha256)}"
                )
            channels = {entry.level: entry.channels for entry in bundle.manifest.latent_levels}
            if channels != {level: len(array) for level, array in levels.items()}:
                raise ImageError(f"{os.fspath(path)} is not a file of latents: its levels are not those of its model")
        return latents

    def __repr__(self) -> str:
        parts = [f"{self.height}×{self.width}"]
        parts += [
            f"level {level}: {'×'.join(map(str, array.shape))} deviation {self._deviation(level):.3f}"
            for level, array in self._levels.items()
        ]
        if (bits := self.bits_per_dimension) is not None:
            parts.append(f"{bits:.3f} bits per dimension")
        return f"Latents({', '.join(parts)})"

    def _deviation(self, level: int) -> float:
        """Standard deviation of a level without padding; NaN if it has none."""
        inside = self._everywhere(level)
        if inside.size * len(self._levels[level]) < 2:
            return math.nan
        try:
            return float(mean_and_deviation(self._levels[level], inside, level=level, whole_level=True)[1][0])
        except NonFiniteError:
            return math.nan

    def _everywhere(self, level: int) -> NDArray[np.bool_]:
        return np.ones(arrays.picture_positions(level, height=self.height, width=self.width), np.bool_)

    def _check_fits(self, other: Latents) -> None:
        if not isinstance(other, Latents):
            raise ArgumentError(f"other is {type(other).__name__}; it must be Latents, as Encoding.invert gives them")
        if other.model_sha256 != self.model_sha256:
            raise ArgumentError(
                f"these latents are of the model {self.model_sha256[:12]}…, the others of "
                f"{other.model_sha256[:12]}…; invert both pictures with one model"
            )
        shapes, others = ({level: array.shape for level, array in one._levels.items()} for one in (self, other))
        if (self.height, self.width) != (other.height, other.width) or shapes != others:
            raise ArgumentError(
                f"these latents are of a picture of {self.height}×{self.width} pixels, the others of "
                f"{other.height}×{other.width}; both pictures must have one size"
            )

    def _changed(
        self, levels: set[int], change: Callable[[int, NDArray[np.float32], NDArray[np.float32]], None]
    ) -> Self:
        """New latents whose named levels are written by change(level, source, target); the others are shared."""
        if not levels:
            return self
        targets = arrays.like({level: self._levels[level] for level in levels})
        for level, target in targets.items():
            change(level, self._levels[level], target)
        return self._with({**self._levels, **arrays.read_only(targets)}, log_likelihood=None)

    def _with(self, levels: Mapping[int, NDArray[np.float32]], *, log_likelihood: float | None) -> Self:
        return type(self)(levels, **{**vars(self._about), "log_likelihood": log_likelihood})
