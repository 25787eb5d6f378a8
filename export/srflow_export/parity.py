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
from srflow_sdk.latents import standard_normal
from srflow_training.model import SRFlow

TAUS = (0.0, 0.8, 1.0)
MIN_PSNR = {"fp32": 90.0, "fp16": 50.0}  # by how weights are stored, in dB
_PATCH = (40, 48)  # LR pixels; not square, so that height and width cannot be mistaken for each other
_MAX_DB = 200.0  # what equality is reported as

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ParityRow:
    """One graph at one τ against the torch network in float32 with the same latents, over all patches.

    max_abs: largest difference, image values in [0, 1]. psnr_db: in image space, relative to the reference's spread
    (at least 1). nonfinite: values that are finite in the reference and not here. reference_nonfinite: values of the
    network itself that are not finite, left out of the comparison.
    """

    graph: str
    tau: float
    patches: int
    max_abs: float
    psnr_db: float
    nonfinite: int
    reference_nonfinite: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def photo_patches(size_multiple: int) -> list[Array]:
    """LR patches of the photographs that come with the exporter: float32 1×3×h×w in [0, 1]."""
    patches = []
    height, width = (max(side // size_multiple, 1) * size_multiple for side in _PATCH)
    folder = resources.files("srflow_export") / "photos"
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".png"):
            with entry.open("rb") as file, Image.open(file) as image:
                photo = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
            top, left = (photo.shape[0] - height) // 2, (photo.shape[1] - width) // 2
            patch = photo[top : top + height, left : left + width].transpose(2, 0, 1)[None]
            patches.append(np.ascontiguousarray(patch))
    if not patches:
        raise ExportError("the exporter's photographs are missing from this installation; install srflow-sdk again")
    return patches


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
            raise ExportError(
                f"{where}: {row.nonfinite} values are not finite where the checkpoint's are; not exported"
            )
        if row.psnr_db < MIN_PSNR[weights]:
            raise ExportError(
                f"{where}: {row.psnr_db:.1f} dB against the checkpoint's network, {MIN_PSNR[weights]:.0f} are needed "
                f"(largest difference {row.max_abs:.2g}); not exported"
            )


def _noise(model: SRFlow, patch: Array, seed: int) -> dict[int, Array]:
    shapes = model.latent_shapes(patch.shape[2], patch.shape[3])
    return {
        level: standard_normal(seed, 0, level, channels=channels, top=0, left=0, height=height, width=width)[None]
        for level, (channels, height, width) in shapes.items()
    }


@torch.no_grad()
def _reference(model: SRFlow, patch: Array, noise: dict[int, Array], tau: float) -> Array:
    latents = {level: torch.from_numpy(latent) * tau for level, latent in noise.items()}
    return np.asarray(model.decode(torch.from_numpy(patch), latents).numpy(), dtype=np.float32)


def _run_fused(session: onnxruntime.InferenceSession, patch: Array, noise: dict[int, Array], tau: float) -> Array:
    feeds = {"lr": patch, "tau": np.array([tau], np.float32)}
    feeds |= {f"noise_level{level}": latent for level, latent in noise.items()}
    return np.asarray(session.run(["sr"], feeds)[0], dtype=np.float32)


def _compared(graph: str, tau: float, images: list[Array], references: list[Array]) -> ParityRow:
    pixels = np.concatenate([image.ravel() for image in images]).astype(np.float64)
    expected = np.concatenate([reference.ravel() for reference in references]).astype(np.float64)
    known = np.isfinite(expected)
    if not known.any():
        raise ExportError(f"the checkpoint's network gives no finite value at tau {tau:g}: there is nothing to export")
    compared = known & np.isfinite(pixels)
    difference = (pixels - expected)[compared]
    spread = max(1.0, float(np.ptp(expected[known])))
    mean_square = float(np.mean(difference**2)) / spread**2 if difference.size else 1.0
    return ParityRow(
        graph=graph,
        tau=tau,
        patches=len(images),
        max_abs=float(np.abs(difference).max(initial=0)),
        psnr_db=min(_MAX_DB, -10 * float(np.log10(mean_square))) if mean_square else _MAX_DB,
        nonfinite=int((known & ~np.isfinite(pixels)).sum()),
        reference_nonfinite=int((~known).sum()),
    )
