"""The metrics, an entry each, and the conventions that they are computed by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from srflow_sdk.errors import ArgumentError
from srflow_sdk.model.manifest import Reduction

if TYPE_CHECKING:
    from torch import Tensor

    from srflow_evaluation.pictures import Picture
    from srflow_training.lpips import LPIPS

ConventionName = Literal["default", "published", "standard"]

_PUBLISHED = (
    ", to which networks' pictures are truncated, not rounded, of photographs cut to multiples of "
    "8 (or the scale); LR images are rounded after both passes of their reduction, and reflected "
    "below and on the right to what the network takes"
)


@dataclass(frozen=True, kw_only=True)
class Convention:
    """How metrics are computed: borders, windows, what is rounded.

    Attributes:
        name: the default one, that of the publication's measuring code, or the field's, of pictures
            that are not cut.
        reduction: of the LR images, for its text.
        lpips: the network of that metric; None: it is not measured.
    """

    name: ConventionName = "default"
    scale: int
    reduction: Reduction = "bicubic"
    lpips: LPIPS | None = None

    @property
    def border(self) -> int:
        """Pixels left out on every side for PSNR and SSIM."""
        return 0 if self.name == "published" else self.scale

    @property
    def lr_border(self) -> int:
        """LR pixels left out on every side for LR-PSNR."""
        return 0 if self.name == "published" else 1

    def metrics(self, only: Sequence[str] = ()) -> tuple[Metric, ...]:
        """All metrics that can be measured here, or `only` these, in the order of METRICS.

        Raises:
            ArgumentError: if one of `only` cannot be.
        """
        absent = {metric.name: why for metric in METRICS if (why := metric.absent(self))}
        for name in only:
            if name in absent:
                raise ArgumentError(f"--metrics {name}: it cannot be measured here: {absent[name]}")
        return tuple(
            metric
            for metric in METRICS
            if metric.name not in absent and (metric.name in only or not only)
        )

    def __str__(self) -> str:
        from srflow_training import figures

        cut = ""
        area = f"without a border of {self.border} pixels"
        window = "a Gaussian 11×11 window (σ 1.5)"
        lr_area = f"without a border of {self.lr_border} LR pixel"
        if self.name == "published":
            cut = _PUBLISHED
            area = "of whole pictures, no border left out"
            window = "a uniform 7×7 window"
            lr_area = "no border left out"
        flip = ""
        if figures.has_flip():
            flip = f"FLIP at {figures.FLIP_PIXELS_PER_DEGREE} pixels per degree; "
        lpips = "LPIPS, version 0.1, with AlexNet; " if self.lpips is not None else ""
        return (
            f"Convention {self.name}: all of 8-bit RGB{cut}; PSNR over "
            f"the three channels, SSIM with {window} for each channel, averaged, both {area}; "
            f"Y-PSNR of BT.601 luma likewise; LR-PSNR of the {self.reduction} reduction, rounded "
            f"to 8 bits, {lr_area}; {lpips}{flip}MS-SSIM over the three channels, with 3 scales "
            "for pictures up to 80 pixels on the smaller side, 4 up to 160 and 5 above; GMSD of "
            "the luma Y of YIQ, HaarPSI of YIQ; these and the other metrics of whole pictures; "
            "every figure is the mean over pictures"
        )


@dataclass(frozen=True)
class Metric:
    """A column of a table.

    Attributes:
        title: its heading, without the arrow.
        form: its format.
        better: the direction.
        function: srflow_training.figures, image 1×3×H×W, its picture, the convention → the figure.
        perceptual: how close it comes to the eye's judgement, 0 for metrics of fidelity; the
            largest stands for perception.
        absent: why it cannot be measured, or an empty text.
    """

    name: str
    title: str
    form: str
    better: Literal["higher", "lower"]
    function: Callable[[Any, Tensor, Picture, Convention], float]
    perceptual: int = 0
    absent: Callable[[Convention], str] = lambda _: ""

    @property
    def heading(self) -> str:
        """The title, and an arrow in the better direction."""
        return f"{self.title} {'↑' if self.better == 'higher' else '↓'}"

    def measure(self, image: Tensor, picture: Picture, convention: Convention) -> float:
        """The figure of an image."""
        from srflow_training import figures

        return self.function(figures, image, picture, convention)

    def of(self, figure: float) -> str:
        """The figure after the metric's name, without unit and arrow."""
        return f"{self.title.removesuffix(', dB')} {figure:{self.form}}"


def _ssim(figures: Any, image: Tensor, picture: Picture, convention: Convention) -> float:
    ssim = figures.uniform_ssim if convention.name == "published" else figures.ssim
    return float(ssim(image, picture.hr, border=convention.border))


def _lr_psnr(figures: Any, image: Tensor, picture: Picture, convention: Convention) -> float:
    """PSNR in dB of the image's reduction against its LR image."""
    if convention.name != "published":
        return float(
            figures.lr_psnr(
                image,
                picture.lr,
                reduction=picture.reduction,
                border=convention.lr_border,
            )
        )
    from srflow_training.resampling import reduce_in_passes

    small = reduce_in_passes(figures.as_shown(image), convention.scale, picture.reduction)
    return float(figures.psnr(small, picture.lr, border=convention.lr_border))


def _without_lpips(convention: Convention) -> str:
    from srflow_training.lpips_weights import HOW

    return "" if convention.lpips is not None else f"its weights are not on this machine: {HOW}"


def _without_flip(_: Convention) -> str:
    from srflow_training import figures

    return "" if figures.has_flip() else "pip install flip-evaluator"


METRICS = (
    Metric(
        "psnr",
        "PSNR, dB",
        ".2f",
        "higher",
        lambda f, x, p, c: f.psnr(x, p.hr, border=c.border),
    ),
    Metric(
        "lpips",
        "LPIPS",
        ".4f",
        "lower",
        lambda f, x, p, c: f.lpips(c.lpips, x, p.hr),
        3,
        _without_lpips,
    ),
    Metric(
        "y_psnr",
        "Y-PSNR, dB",
        ".2f",
        "higher",
        lambda f, x, p, c: f.y_psnr(x, p.hr, border=c.border),
    ),
    Metric("ssim", "SSIM", ".4f", "higher", _ssim),
    Metric("ms_ssim", "MS-SSIM", ".4f", "higher", lambda f, x, p, c: f.ms_ssim(x, p.hr)),
    Metric("haarpsi", "HaarPSI", ".4f", "higher", lambda f, x, p, c: f.haarpsi(x, p.hr)),
    Metric("gmsd", "GMSD", ".4f", "lower", lambda f, x, p, c: f.gmsd(x, p.hr), 1),
    Metric("flip", "FLIP", ".4f", "lower", lambda f, x, p, c: f.flip(x, p.hr), 0, _without_flip),
    Metric("lr_psnr", "LR-PSNR, dB", ".2f", "higher", _lr_psnr),
)
"""In the order of tables."""


def parse_metrics(text: str) -> tuple[str, ...]:
    """Parse "psnr,lpips". Raises: ArgumentError for names that are none, and for none at all."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    known = [metric.name for metric in METRICS]
    if unknown := [name for name in names if name not in known]:
        raise ArgumentError(f"--metrics names {unknown[0]!r}; there are {', '.join(known)}")
    return names


def perceptual_metric(metrics: Sequence[Metric]) -> Metric:
    """The metric that is closest to the eye's judgement: LPIPS, or GMSD."""
    return max(metrics, key=lambda metric: metric.perceptual)
