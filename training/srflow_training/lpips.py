"""LPIPS 0.1, the learned perceptual distance.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018.
Two networks: AlexNet's, by which models are measured, and VGG16's, on which they may be trained.
Their weights come from :mod:`srflow_training.lpips_weights`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srflow_sdk.errors import CheckpointError
from srflow_training.checkpoints import read_tensors
from srflow_training.lpips_weights import HEADS, HOW, Backbone, convolution_shapes, weights_file

MISSING = f"LPIPS is not measured, because its weights are not on this machine: {HOW}."
"""The note where models are measured without it."""

# ImageNet's, of RGB in [0, 1]
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class _Features(nn.Module):
    """Convolutions, each followed by a ReLU, fixed; images are N×3×H×W, RGB in [0, 1].

    Attributes:
        steps: (stride, padding) of each.
        window: side of the pooling, with stride 2, before the convolutions `pooled`.
        seen: those whose outputs are the features.
    """

    mean: Tensor
    std: Tensor
    steps: Sequence[tuple[int, int]]
    window: int
    pooled: Sequence[int]
    seen: Sequence[int]

    def __init__(self, convolutions: Iterable[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_MEAN)[None, :, None, None])
        self.register_buffer("std", torch.tensor(_STD)[None, :, None, None])
        self.convolutions = nn.ModuleList()
        for (weight, bias), (stride, padding) in zip(convolutions, self.steps, strict=True):
            out, inputs, size, _ = weight.shape
            convolution = nn.Conv2d(inputs, out, size, stride=stride, padding=padding)
            convolution.load_state_dict({"weight": weight, "bias": bias})
            self.convolutions.append(convolution)
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> list[Tensor]:
        """The five outputs, N×C×H'×W'."""
        x = (image - self.mean) / self.std
        features = []
        for number, convolution in enumerate(self.convolutions):
            x = F.relu(
                convolution(F.max_pool2d(x, self.window, stride=2) if number in self.pooled else x)
            )
            if number in self.seen:
                features.append(x)
        return features


class AlexNetFeatures(_Features):
    """The five convolutions of AlexNet (Krizhevsky, 2014)."""

    steps = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
    window = 3
    pooled = (1, 2)
    seen = range(5)


class VGG16Features(_Features):
    """The 13 convolutions of VGG16 (Simonyan and Zisserman, 2015).

    The features are relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3.
    """

    steps = ((1, 1),) * 13
    window = 2
    pooled = (2, 4, 7, 10)
    seen = (1, 3, 6, 9, 12)


class LPIPS(nn.Module):
    """The learned perceptual distance of two images N×3×H×W, RGB in [0, 1]: 0 for equality.

    The published code scales inputs to [−1, 1], then by a mean and a deviation: together
    ImageNet's, which is what features do here. Build it with :meth:`open`.

    Args:
        features: image → its features by layer.
        heads: for each layer the weight of every channel, [C], at least 0.
    """

    def __init__(self, features: nn.Module, heads: Sequence[Tensor]) -> None:
        super().__init__()
        self.features = features
        for number, head in enumerate(heads):
            self.register_buffer(f"head{number}", head[None, :, None, None])
        self.requires_grad_(False).eval()

    @classmethod
    def open(cls, backbone: Backbone) -> LPIPS:
        """Open the weights in the cache folder.

        Raises:
            CheckpointError: if they are not there, or damaged.
        """
        path = weights_file(backbone)
        if path is None:
            raise CheckpointError(f"LPIPS's weights are not on this machine: {HOW}")
        shapes = convolution_shapes(backbone)
        expected: dict[str, tuple[int, ...]] = {
            f"{number}.weight": shape for number, shape in enumerate(shapes)
        }
        expected |= {f"{number}.bias": shape[:1] for number, shape in enumerate(shapes)}
        expected |= {
            f"head{number}": (channels,) for number, channels in enumerate(HEADS[backbone])
        }
        try:
            state, _ = read_tensors(path)
        except CheckpointError:
            state = {}
        if {name: tuple(tensor.shape) for name, tensor in state.items()} != expected:
            raise CheckpointError(
                f"{path} does not hold LPIPS's weights; this writes it anew: {HOW}"
            )
        convolutions = [
            (state[f"{number}.weight"], state[f"{number}.bias"]) for number in range(len(shapes))
        ]
        features = (AlexNetFeatures if backbone == "alex" else VGG16Features)(convolutions)
        return cls(features, [state[f"head{number}"] for number in range(len(HEADS[backbone]))])

    @classmethod
    def for_measuring(cls, device: torch.device | str = "cpu") -> LPIPS | None:
        """AlexNet's, by which models are measured; None if its weights are not there.

        Raises:
            CheckpointError.
        """
        return None if weights_file("alex") is None else cls.open("alex").to(device)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.get_buffer("head0").device

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """The distance of each pair, [N]: the sum over layers of the mean over their positions."""
        return torch.stack(
            [layer.mean(dim=(1, 2, 3)) for layer in self._layers(image, reference)]
        ).sum(dim=0)

    def maps(self, image: Tensor, reference: Tensor) -> Tensor:
        """The distance at each pixel, N×1×H×W: the sum over layers, each enlarged bilinearly."""
        size = image.shape[2:]
        layers = [
            F.interpolate(layer, size=size, mode="bilinear", align_corners=False)
            for layer in self._layers(image, reference)
        ]
        return torch.stack(layers).sum(dim=0)

    def _layers(self, image: Tensor, reference: Tensor) -> list[Tensor]:
        """Distances at the positions of each layer, N×1×H'×W'.

        Each feature vector over the channels has length 1.
        """
        layers = []
        for number, (one, other) in enumerate(
            zip(self.features(image), self.features(reference), strict=True)
        ):
            one, other = (F.normalize(x.to(image.dtype), dim=1, eps=1e-10) for x in (one, other))
            layers.append(
                (self.get_buffer(f"head{number}") * (one - other).square()).sum(dim=1, keepdim=True)
            )
        return layers
