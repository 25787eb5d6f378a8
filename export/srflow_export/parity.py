"""The gate of every export: the bundle's graphs against the torch network, on patches of real photographs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from PIL import Image

from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.bundle import Bundle
from srflow_sdk.errors import ExportError
from srflow_training.model import SRFlow
from srflow_training.noise import runtime_noise

TAUS = (0.0, 0.8, 1.0)
MIN_PSNR = {"fp32": 90.0, "fp16": 50.0}  # by how weights are stored, in dB
_PATCH = (40, 48)  # LR pixels; not square, so that height and width cannot be mistaken for each other
DIVERGED = 1e3  # image values are in [0, 1]
_MAX_DB = 200.0  # what equality is reported as

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ParityRow:
    """One graph at one τ against the torch network in float32 with the same latents.

    patches: how many were compared. diverged: patches on which the network itself gives values that are not finite, or
    a thousand times out of range, as published networks can at large τ; there is nothing to compare there.
    max_abs: largest difference, image values in [0, 1]. psnr_db: of the worst patch, in image space, relative to the
    reference's spread (at least 1). nonfinite: values that are not finite in the compared patches.
    """

    graph: str
    tau: float
    patches: int
    diverged: int
    max_abs: float
    psnr_db: float
    nonfinite: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def photographs(size_multiple: int) -> list[Array]:
    """The LR photographs that come with the exporter: float32 1×3×h×w in [0, 1], about 112×112."""
    photos = []
    folder = resources.files("srflow_export") / "photos"
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".png"):
            with entry.open("rb") as file, Image.open(file) as image:
                photo = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
            photos.append(_middle(photo.transpose(2, 0, 1)[None], photo.shape[:2], size_multiple))
    if not photos:
        raise ExportError("the exporter's photographs are missing from this installation; install srflow-sdk again")
    return photos


def photo_patches(size_multiple: int) -> list[Array]:
    """LR patches out of the middle of the photographs: float32 1×3×h×w in [0, 1]."""
    return [_middle(photo, _PATCH, size_multiple) for photo in photographs(size_multiple)]


def _middle(photo: Array, size: tuple[int, int], size_multiple: int) -> Array:
    """Out of the middle, as much of the height and width as multiples allow."""
    height, width = (max(side // size_multiple, 1) * size_multiple for side in size)
    top, left = (photo.shape[2] - height) // 2, (photo.shape[3] - width) // 2
    return np.ascontiguousarray(photo[:, :, top : top + height, left : left + width])


def measure(model: SRFlow, bundle: Bundle) -> list[ParityRow]:
    """Every graph of the bundle at every τ of TAUS, on the CPU."""
    patches = photo_patches(model.config.size_multiple)
    noises = [_noise(model, patch, seed) for seed, patch in enumerate(patches)]
    references = {
        tau: [_reference(model, patch, noise, tau) for patch, noise in zip(patches, noises, strict=True)]
        for tau in TAUS
    }
    outputs: dict[str, dict[float, list[Array]]] = {"encoder+sampler": {tau: [] for tau in TAUS}}
    with OnnxRuntimeBackend(bundle, device="cpu") as backend:
        for patch, noise in zip(patches, noises, strict=True):
            conditioning = backend.encode(patch)
            for tau in TAUS:
                outputs["encoder+sampler"][tau].append(backend.sample(conditioning, noise, tau))
    if "fused.onnx" in bundle.manifest.files:
        session = onnxruntime.InferenceSession(str(bundle.file("fused.onnx")), providers=["CPUExecutionProvider"])
        outputs["fused"] = {
            tau: [_run_fused(session, patch, noise, tau) for patch, noise in zip(patches, noises, strict=True)]
            for tau in TAUS
        }
    return [
        _compared(graph, tau, images, references[tau])
        for graph, by_tau in outputs.items()
        for tau, images in by_tau.items()
    ]


def check(rows: list[ParityRow], *, weights: str) -> None:
    """Raises: ExportError naming the first row that is below the bound or has new non-finite values."""
    for row in rows:
        where = f"{row.graph} at tau {row.tau:g}"
        if row.nonfinite:
            raise ExportError(f"{where}: {row.nonfinite} values are not finite and the checkpoint's are; not exported")
        if row.psnr_db < MIN_PSNR[weights]:
            raise ExportError(
                f"{where}: {row.psnr_db:.1f} dB against the checkpoint's network, {MIN_PSNR[weights]:.0f} are needed "
                f"(largest difference {row.max_abs:.2g}); not exported"
            )


def _noise(model: SRFlow, patch: Array, seed: int) -> dict[int, Array]:
    return {level: noise.numpy() for level, noise in runtime_noise(model, torch.from_numpy(patch), seed=seed).items()}


@torch.no_grad()
def _reference(model: SRFlow, patch: Array, noise: dict[int, Array], tau: float) -> Array:
    latents = {level: torch.from_numpy(latent) * tau for level, latent in noise.items()}
    return np.asarray(model.decode(torch.from_numpy(patch), latents).numpy(), dtype=np.float32)


def _run_fused(session: onnxruntime.InferenceSession, patch: Array, noise: dict[int, Array], tau: float) -> Array:
    feeds = {"lr": patch, "tau": np.array([tau], np.float32)}
    feeds |= {f"noise_level{level}": latent for level, latent in noise.items()}
    return np.asarray(session.run(["sr"], feeds)[0], dtype=np.float32)


def _compared(graph: str, tau: float, images: list[Array], references: list[Array]) -> ParityRow:
    pairs = [
        (image.astype(np.float64), reference.astype(np.float64))
        for image, reference in zip(images, references, strict=True)
        if np.abs(reference).max() < DIVERGED  # false for NaN too
    ]
    if not pairs and tau == 0:
        raise ExportError("the checkpoint's own network diverges on every photograph at tau 0: nothing to export")
    return ParityRow(
        graph=graph,
        tau=tau,
        patches=len(pairs),
        diverged=len(images) - len(pairs),
        max_abs=max((float(np.abs(np.nan_to_num(image - reference)).max()) for image, reference in pairs), default=0.0),
        psnr_db=min((_psnr(image, reference) for image, reference in pairs), default=_MAX_DB),
        nonfinite=sum(int((~np.isfinite(image)).sum()) for image, _ in pairs),
    )


def _psnr(image: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]) -> float:
    mean_square = float(np.mean(np.nan_to_num(image - reference) ** 2)) / max(1.0, float(np.ptp(reference))) ** 2
    return min(_MAX_DB, -10 * float(np.log10(mean_square))) if mean_square else _MAX_DB
