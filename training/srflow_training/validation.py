"""Validation during a run: figures and pictures of photographs that are not trained on."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from srflow_sdk.errors import ImageError
from srflow_sdk.latents.random_field import LatentLevel, window_noise
from srflow_sdk.model.manifest import Reduction
from srflow_training.data import (
    MARGIN,
    Report,
    degrade,
    image_files,
    read_photo,
    report_skipped,
    size_of,
    to_image,
)
from srflow_training.figures import (
    bits_per_dimension,
    bits_per_dimension_loss,
    gmsd,
    haarpsi,
    lr_psnr,
    nonfinite,
    psnr,
    sample_difference,
    ssim,
    y_psnr,
)
from srflow_training.model import Encoder, SRFlow
from srflow_training.resampling import REDUCTIONS, enlarge_bicubic, mirror_pad, round_to_8_bit
from srflow_training.settings import Degradation

logger = logging.getLogger(__name__)

_LEAST = 64  # pixels
_CELL = 128
_GRID_ROWS = 4
_GRID_TAUS = (0.0, 0.5, 0.8, 1.0)
_NONFINITE = "validation/nonfinite_tau0.8"
_MAGENTA = (1.0, 0.0, 1.0)


class Validation:
    """Crops of the photographs in a folder, always the same ones.

    There are `count` of them, at most `size` pixels a side. They are spread over all usable
    photographs, in the order of their names: the centre of every n-th one, or, if there are fewer
    photographs than crops, also places around the centres. A photograph that is hardly larger than
    a crop may have fewer.

    Args:
        multiple: the network needs HR sizes that are multiples of this; crops are at least 64
            pixels a side.
        reduction: how LR images are made.
        degradation: how they are damaged instead, each crop always in the same way and none left
            clean.
        report: called with one line for each of the first ten files that are skipped, which cannot
            be read or are too small, and one for the rest.

    Raises:
        ImageError: if no photograph is left.
    """

    def __init__(
        self,
        folder: Path,
        *,
        scale: int,
        multiple: int,
        reduction: Reduction = "bicubic",
        degradation: Degradation | None = None,
        count: int = 8,
        size: int = 256,
        report: Report = logger.warning,
    ) -> None:
        self.scale = scale
        self.multiple = multiple
        self.reduction = reduction
        self.degradation = degradation
        self.crops: list[Tensor] = []
        least = -(-_LEAST // multiple) * multiple
        usable, skipped = _large_enough(folder, least)
        shares = Counter(usable[number * len(usable) // count] for number in range(count) if usable)
        for path, share in shares.items():
            try:
                photo = to_image(read_photo(path))
            except ImageError as error:
                skipped.append(str(error))
            else:
                self.crops += _spread(photo, max(size, least), share, multiple=multiple)
        report_skipped(skipped, report, start="validation: skipped")
        if not self.crops:
            raise ImageError(
                f"--val {folder}: no photograph is at least {least} px high and wide: add larger "
                "ones"
            )

    def figures(self, model: SRFlow | Encoder) -> dict[str, float]:
        """Measure figures by name: means over the crops.

        Of values that are not finite, it is the total number. An SRFlow: its negative
        log-likelihood of the clean crops in bits per value in [0, 1] (nll) and for 8-bit levels
        (bits_per_dimension, 8 more), PSNR (RGB, Y) and SSIM at τ = 0, the other figures at τ = 0.8.
        An LR encoder: PSNRs and SSIM. Both: bicubic's PSNR. See :mod:`srflow_training.figures`.
        LR-PSNR is measured against the clean reduction of HR: against a damaged LR image, samples
        that reproduce its noise and JPEG blocks would score best. Samples use the runtime's noise
        of seed 0 (sample_difference: 0 and 1), so a model always gets the same figures.
        """
        with _plain_inference(model):
            rows = [
                self._figures_of(model, self._reduce(hr, index), hr)
                for index, hr in enumerate(self.crops)
            ]
        sums = {name: sum(row[name] for row in rows) for name in rows[0]}
        return {
            name: total if name == _NONFINITE else total / len(rows) for name, total in sums.items()
        }

    def _reduce(self, hr: Tensor, index: int) -> Tensor:
        """The LR image of (a part of) crop `index`, damaged if the run damages them."""
        if self.degradation is not None:
            window = mirror_pad(hr, MARGIN * self.scale)
            rng = np.random.default_rng(index)
            lr = degrade(
                window,
                self.degradation,
                scale=self.scale,
                rng=rng,
                reduction=self.reduction,
            )
            return round_to_8_bit(lr)
        return self._reduce_cleanly(hr)

    def _reduce_cleanly(self, hr: Tensor) -> Tensor:
        return round_to_8_bit(REDUCTIONS[self.reduction](hr, self.scale))

    def _figures_of(
        self,
        model: SRFlow | Encoder,
        lr: Tensor,
        hr: Tensor,
    ) -> dict[str, float]:
        border = self.scale
        row = {"validation/psnr_bicubic": psnr(enlarge_bicubic(lr, self.scale), hr, border=border)}
        if isinstance(model, Encoder):
            image = _image_of(model, lr)
            row["validation/psnr"] = psnr(image, hr, border=border)
            row["validation/y_psnr"] = y_psnr(image, hr, border=border)
            row["validation/ssim"] = ssim(image, hr, border=border)
            return row
        flow = _ConditionedFlow(model, lr)
        nats = flow.log_likelihood(hr)
        mean = flow.sample(0.0)
        sample = flow.sample(0.8)
        return row | {
            "validation/nll": float(bits_per_dimension_loss(nats, hr)),
            "validation/bits_per_dimension": bits_per_dimension(nats, hr),
            "validation/psnr_tau0": psnr(mean, hr, border=border),
            "validation/y_psnr_tau0": y_psnr(mean, hr, border=border),
            "validation/ssim_tau0": ssim(mean, hr, border=border),
            "validation/gmsd_tau0.8": gmsd(sample, hr),
            "validation/haarpsi_tau0.8": haarpsi(sample, hr),
            "validation/lr_psnr_tau0.8": lr_psnr(
                sample,
                self._reduce_cleanly(hr),
                reduction=self.reduction,
            ),
            "validation/sample_difference_tau0.8": sample_difference(
                sample, flow.sample(0.8, seed=1)
            ),
            _NONFINITE: nonfinite(sample),
        }

    def grid(self, model: SRFlow | Encoder) -> Tensor:
        """Draw a picture 3×H×W in [0, 1], float32, on the CPU.

        It has a row of 128×128 cells for each of the first four crops. Columns: LR (pixels as
        squares), bicubic, an SRFlow's samples at τ = 0, 0.5, 0.8, 1 or an encoder's image, HR.
        Crops under 128 pixels have a white margin. If the network takes only larger ones, cells
        show their upper left part. Pixels that are not finite are magenta.
        """
        with _plain_inference(model):
            rows = enumerate(self.crops[:_GRID_ROWS])
            return torch.cat([self._grid_row(model, index, crop) for index, crop in rows], dim=1)

    def _grid_row(
        self,
        model: SRFlow | Encoder,
        index: int,
        crop: Tensor,
    ) -> Tensor:
        [hr] = _spread(crop, max(_CELL, self.multiple), 1, multiple=self.multiple)
        lr = self._reduce(hr, index)
        if isinstance(model, Encoder):
            images = [_image_of(model, lr)]
        else:
            flow = _ConditionedFlow(model, lr)
            images = [flow.sample(tau) for tau in _GRID_TAUS]
        enlarged = F.interpolate(lr, scale_factor=float(self.scale), mode="nearest")
        cells = [enlarged, enlarge_bicubic(lr, self.scale), *images, hr]
        return torch.cat([_cell(image) for image in cells], dim=2)


def runtime_noise(model: SRFlow, lr: Tensor, *, seed: int) -> dict[int, Tensor]:
    """Standard normal noise of sample 0 for an LR image 1×3×h×w, float32.

    It is {level: 1×C×H/2^level×W/2^level}.
    """
    height, width = lr.shape[2:]
    shapes = model.latent_shapes(height, width)
    levels = [
        LatentLevel(level=level, channels=channels) for level, (channels, _, _) in shapes.items()
    ]
    noise = window_noise(
        levels,
        scale=model.config.scale,
        seed=seed,
        sample=0,
        height=height,
        width=width,
    )
    return {level: torch.from_numpy(array)[None] for level, array in noise.items()}


class _ConditionedFlow:
    """A flow and one LR image 1×3×h×w, which is encoded once. Computes on the model's device."""

    def __init__(self, model: SRFlow, lr: Tensor) -> None:
        self.model = model
        self.lr = lr
        self.device = _device(model)
        self.condition = model.condition(lr.to(self.device))

    def sample(self, tau: float, *, seed: int = 0) -> Tensor:
        """1×3×H×W, not clipped, on the CPU."""
        noise = runtime_noise(self.model, self.lr, seed=seed)
        latents = {level: (tau * values).to(self.device) for level, values in noise.items()}
        return self.model.decode_conditioned(self.condition, latents).cpu()

    def log_likelihood(self, hr: Tensor) -> Tensor:
        """Log-density of hr, 1×3×H×W, in nats: [1] in float64."""
        return self.model.encode_conditioned(hr.to(self.device), self.condition)[1].double()


@contextmanager
def _plain_inference(model: SRFlow | Encoder) -> Iterator[None]:
    """No gradients, and float32 even where training computes in mixed precision."""
    with torch.no_grad(), torch.autocast(_device(model).type, enabled=False):
        yield


def _device(model: SRFlow | Encoder) -> torch.device:
    return next(model.parameters()).device


def _image_of(model: Encoder, lr: Tensor) -> Tensor:
    image: Tensor = model(lr.to(_device(model)))
    return image.cpu()


def _large_enough(folder: Path, least: int) -> tuple[list[Path], list[str]]:
    """The photographs of at least this many pixels a side, and a line for each other file."""
    usable = []
    skipped = []
    for path in image_files(folder, option="--val"):
        try:
            if min(size_of(path)) < least:
                raise ImageError(f"{path}: smaller than {least} px")
            usable.append(path)
        except ImageError as error:
            skipped.append(str(error))
    return usable, skipped


def _spread(image: Tensor, most: int, count: int, *, multiple: int) -> list[Tensor]:
    """Up to `count` different crops of at most `most` pixels a side, the centre first.

    Sides are multiples of `multiple`. The others follow Roberts' R2 sequence (2018), of which any
    number of first members covers the image evenly.
    """
    height, width = (min(most, size) // multiple * multiple for size in image.shape[2:])
    free_rows = image.shape[2] - height
    free_columns = image.shape[3] - width
    places = [(free_rows // 2, free_columns // 2)]
    for number in range(1, count):
        down, right = (
            (0.5 + number * step) % 1 for step in (0.7548776662466927, 0.5698402909980532)
        )
        places.append((round(down * free_rows), round(right * free_columns)))
    return [
        image[..., top : top + height, left : left + width].contiguous()
        for top, left in dict.fromkeys(places)
    ]


def _cell(image: Tensor) -> Tensor:
    finite = torch.isfinite(image).all(dim=1, keepdim=True)
    shown = torch.where(finite, image.clamp(0, 1), torch.tensor(_MAGENTA)[None, :, None, None])
    return F.pad(shown, (0, _CELL - image.shape[3], 0, _CELL - image.shape[2]), value=1.0)[0]
