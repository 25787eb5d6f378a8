"""How metrics are computed: what is rounded, which border is left out, which windows SSIM has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor

from srflow_evaluation.pictures import Picture, reduce_in_passes
from srflow_sdk.errors import ArgumentError
from srflow_sdk.model.manifest import Reduction
from srflow_training import figures
from srflow_training._lpips import LPIPS
from srflow_training.lpips_weights import HOW, weights_file

ConventionName = Literal["default", "published", "standard"]

_NEEDED = {
    "lpips": f"its weights are not on this machine: {HOW}",
    "vgg16_feature_distance": "it needs --vgg16 FILE",
    "flip": "pip install flip-evaluator",
}
"""Why a metric may not be at hand, by its name."""

METRICS = (
    "psnr",
    "lpips",
    "y_psnr",
    "ssim",
    "ms_ssim",
    "haarpsi",
    "gmsd",
    "flip",
    "vgg16_feature_distance",
    "lr_psnr",
)
"""Names of all metrics, in the order of tables."""

_PUBLISHED = (
    ", to which networks' pictures are truncated, not rounded, of photographs cut to multiples of 8 (or the scale); LR "
    "images are rounded after both passes of their reduction, and reflected below and on the right to what the network "
    "takes"
)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A column of a table. form: its format. better: the direction. measure: image 1×3×H×W, its picture → the figure.

    perceptual: how close it comes to the eye's judgement, 0 for metrics of fidelity; the largest stands for perception.
    """

    name: str
    heading: str
    form: str
    better: Literal["higher", "lower"]
    measure: Callable[[Tensor, Picture], float]
    perceptual: int = 0

    def of(self, figure: float) -> str:
        """The figure after the metric's name, without unit and arrow."""
        return f"{self.heading.rstrip(' ↑↓').removesuffix(', dB')} {figure:{self.form}}"


@dataclass(frozen=True, kw_only=True)
class Convention:
    """The default one, that of the publication's measuring code, or the field's, of pictures that are not cut."""

    name: ConventionName
    scale: int
    reduction: Reduction

    @property
    def border(self) -> int:
        """Pixels left out on every side for PSNR and SSIM."""
        return 0 if self.name == "published" else self.scale

    @property
    def lr_border(self) -> int:
        """LR pixels left out on every side for LR-PSNR."""
        return 0 if self.name == "published" else 1

    def lr_psnr(self, image: Tensor, lr: Tensor) -> float:
        """PSNR in dB of the image's reduction against its LR image."""
        if self.name != "published":
            return figures.lr_psnr(image, lr, reduction=self.reduction, border=self.lr_border)
        small = reduce_in_passes(figures.as_shown(image), self.scale, self.reduction)
        return figures.psnr(small, lr, border=self.lr_border)

    def __str__(self) -> str:
        default = self.name != "published"
        area = f"without a border of {self.border} pixels" if default else "of whole pictures, no border left out"
        window = "a Gaussian 11×11 window (σ 1.5)" if default else "a uniform 7×7 window"
        lr_area = f"without a border of {self.lr_border} LR pixel" if default else "no border left out"
        flip = f"FLIP at {figures.FLIP_PIXELS_PER_DEGREE} pixels per degree; " if figures.has_flip() else ""
        lpips = "LPIPS, version 0.1, with AlexNet; " if weights_file("alex") is not None else ""
        return (
            f"Convention {self.name}: all of 8-bit RGB{'' if default else _PUBLISHED}; "
            f"PSNR over the three channels, SSIM with {window} "
            f"for each channel, averaged, both {area}; Y-PSNR of BT.601 luma likewise; "
            f"LR-PSNR of the {self.reduction} reduction, rounded to 8 bits, {lr_area}; "
            f"{lpips}{flip}MS-SSIM over the three channels, with 3 scales for pictures up to 80 pixels on the smaller "
            "side, 4 up to 160 and 5 above; GMSD of the luma Y of YIQ, HaarPSI of YIQ; "
            "these and the other metrics of whole pictures; every figure is the mean over pictures"
        )

    def metrics(
        self,
        *,
        vgg16: figures.Features | None = None,
        lpips: LPIPS | None = None,
        only: Sequence[str] = (),
    ) -> tuple[Metric, ...]:
        """All metrics whose networks and parameters are at hand, or `only` these, in the same order.

        Raises: ArgumentError if one of `only` is not at hand.
        """
        border, ssim = self.border, figures.uniform_ssim if self.name == "published" else figures.ssim

        def simple(function: Callable[[Tensor, Tensor], float]) -> Callable[[Tensor, Picture], float]:
            return lambda image, picture: function(image, picture.hr)

        columns = [
            _higher("psnr", "PSNR, dB", ".2f", lambda image, picture: figures.psnr(image, picture.hr, border=border)),
            *([] if lpips is None else [_lower("lpips", "LPIPS", simple(partial(figures.lpips, lpips)), perceptual=3)]),
            _higher(
                "y_psnr", "Y-PSNR, dB", ".2f", lambda image, picture: figures.y_psnr(image, picture.hr, border=border)
            ),
            _higher("ssim", "SSIM", ".4f", lambda image, picture: ssim(image, picture.hr, border=border)),
            _higher("ms_ssim", "MS-SSIM", ".4f", simple(figures.ms_ssim)),
            _higher("haarpsi", "HaarPSI", ".4f", simple(figures.haarpsi)),
            _lower("gmsd", "GMSD", simple(figures.gmsd), perceptual=1),
        ]
        if figures.has_flip():
            columns.append(_lower("flip", "FLIP", simple(figures.flip), perceptual=0))
        if vgg16 is not None:
            columns.append(
                _lower(
                    "vgg16_feature_distance",
                    "VGG16 feature distance",
                    _VGG16Distance(vgg16),
                    perceptual=2,
                )
            )
        columns.append(_higher("lr_psnr", "LR-PSNR, dB", ".2f", lambda image, picture: self.lr_psnr(image, picture.lr)))
        if absent := [name for name in only if name not in {metric.name for metric in columns}]:
            raise ArgumentError(f"--metrics {absent[0]}: it cannot be measured here: {_NEEDED[absent[0]]}")
        return tuple(metric for metric in columns if metric.name in only or not only)


def parse_metrics(text: str) -> tuple[str, ...]:
    """Parse "psnr,lpips". Raises: ArgumentError for names that are none, and for none at all."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if unknown := [name for name in names if name not in METRICS]:
        raise ArgumentError(f"--metrics names {unknown[0]!r}; there are {', '.join(METRICS)}")
    return names


def perceptual_metric(metrics: tuple[Metric, ...]) -> Metric:
    """The metric that is closest to the eye's judgement: LPIPS, the VGG16 feature distance, or GMSD."""
    return max(metrics, key=lambda metric: metric.perceptual)


def mixed_scales(windows: Sequence[tuple[slice, slice]]) -> list[str]:
    """A sentence if MS-SSIM has not the same number of scales for all pictures, of which these parts are measured."""
    counts = {figures.ms_ssim_scales(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in windows}
    if len(counts) == 1:
        return []
    return [
        f"The pictures' sizes differ, so that MS-SSIM has {min(counts)} scales for some and {max(counts)} for others: "
        "compare its mean only with means over the same pictures."
    ]


def _higher(name: str, heading: str, form: str, measure: Callable[[Tensor, Picture], float]) -> Metric:
    return Metric(name=name, heading=f"{heading} ↑", form=form, better="higher", measure=measure)


def _lower(name: str, heading: str, measure: Callable[[Tensor, Picture], float], *, perceptual: int) -> Metric:
    return Metric(name=name, heading=f"{heading} ↓", form=".4f", better="lower", measure=measure, perceptual=perceptual)


class _VGG16Distance:
    """The distance of an image to its picture, whose features are kept for the next image of the same picture."""

    def __init__(self, features: figures.Features) -> None:
        self._features = features
        self._last: tuple[Tensor, Sequence[Tensor]] | None = None

    def __call__(self, image: Tensor, picture: Picture) -> float:
        if self._last is None or self._last[0] is not picture.hr:
            self._last = (picture.hr, self._features(picture.hr))
        return figures.vgg16_distance(self._of, image, picture.hr)

    def _of(self, image: Tensor) -> Sequence[Tensor]:
        if self._last is not None and image is self._last[0]:
            return self._last[1]
        return self._features(image)
