"""LPIPS (Zhang et al., 2018), where its backbones' weights are on this machine: nothing is downloaded."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from srflow_sdk._raising import require_extra
from srflow_sdk.errors import CheckpointError
from srflow_training.figures import LPIPS

BACKBONE_NAMES = {"alex": "AlexNet", "vgg": "VGG16"}
"""For people, by the names of :func:`open_lpips`."""

_CACHED = {"alex": "alexnet-owt-*.pth", "vgg": "vgg16-*.pth"}
_BACKBONES: dict[tuple[int, ...], str] = {(64, 3, 11, 11): "alex", (64, 3, 3, 3): "vgg"}  # by the first kernel's shape
_HOW = (
    'pip install "srflow-sdk[lpips]", and --lpips-backbone alexnet-owt-7be5be79.pth '
    "(or vgg16-397923af.pth), from https://download.pytorch.org/models/"
)


def backbone_files(named: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The files to measure LPIPS with: those named, or torchvision's cached ones; and a sentence if there are none.

    Raises: MissingExtraError if files are named and lpips is not installed.
    """
    if named:
        require_extra("lpips", "lpips")
        return list(named), []
    if importlib.util.find_spec("lpips") is None:
        return [], [f"LPIPS is not measured, because lpips is not installed: {_HOW}."]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    cached = [found[0] for pattern in _CACHED.values() if (found := sorted(folder.glob(pattern)))]
    notes = [] if cached else [f"LPIPS is not measured, because its backbone is not on this machine: {_HOW}."]
    return cached, notes


def open_lpips(files: Sequence[Path], *, spatial: bool = False) -> dict[str, LPIPS]:
    """Open the networks of files of torchvision's AlexNet or VGG16, by alex and vgg. Raises: CheckpointError.

    spatial: they give the distance at each pixel, N×1×H×W.
    """
    return dict(_open(path, spatial=spatial) for path in files)


def _open(path: Path, *, spatial: bool) -> tuple[str, LPIPS]:
    import lpips

    if not path.is_file():
        raise CheckpointError(f"{path}: no such file: name torchvision's weights of AlexNet or VGG16")
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        first = tuple(state["features.0.weight"].shape)
    except Exception as error:  # torch.load's errors are of many types
        raise CheckpointError(f"{path}: is not torchvision's weights of AlexNet or VGG16: name those") from error
    backbone = _BACKBONES.get(first)
    if backbone is None:
        raise CheckpointError(f"{path}: is not torchvision's weights of AlexNet or VGG16: name those")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips calls torchvision in an old way
        network = lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False, spatial=spatial)
    try:
        for name, parameter in network.net.named_parameters():
            _, layer, kind = name.split(".")
            parameter.data.copy_(state[f"features.{layer}.{kind}"])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: its convolutions are not those of torchvision's {backbone}: name that"
        ) from error
    return backbone, network.requires_grad_(False).eval()
