"""A server's model and its limits, as parameters of the model's config that its clients read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from srflow_sdk._checks import one_of, whole
from srflow_sdk.errors import ArgumentError
from srflow_sdk.geometry.tiles import TileSize, check_tile
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.plain_text import short
from srflow_sdk.system.hardware import ComputePrecision, Device, split_device

MODEL_PARAMETER = "model"  # holds :func:`described` as JSON
VERSION_PARAMETER = "sdk_version"
BUNDLE = "model.srflow"  # inside a version's folder
_TOLD = (
    "name",
    "variant",
    "scale",
    "size_multiple",
    "halo",
    "latent_scheme",
    "latent_levels",
    "default_tau",
    "auto_tau",
    "reduction",
    "removes_damage",
    "smoothed",
    "precision",
    "conditioning_bytes_per_pixel",
)


@dataclass(frozen=True, kw_only=True)
class ServingOptions:
    """How a server draws, and what it refuses.

    Each field is a parameter of the model's config, a text.

    Attributes:
        device: as for :class:`~srflow_sdk.Upscaler`; on an instance of KIND_CPU, "auto" is the CPU.
        precision: as for :class:`~srflow_sdk.Upscaler`, but by name: replicas must give the same
            pictures.
        tile: as for :class:`~srflow_sdk.Upscaler`: "auto", "none" or a number of LR pixels.
        sessions: how many tiles are computed at a time; 0: two.
        threads: CPU threads; 0: one per core.
        in_flight: how many requests are worked on at a time; more wait in the server's own queue,
            by its policy.
        max_pixels: largest image, height × width of the input.
        max_tile_pixels: largest `tile`, height × width; it is computed in one piece.
        max_samples: most samples of a request.
        max_answer_bytes: largest answer, samples × height × width × 3. Shared memory holds up to
            in_flight; gRPC cannot send 2 GiB.

    Raises: ArgumentError for values that cannot be.
    """

    device: Device = "auto"
    precision: ComputePrecision = "bundle"
    tile: TileSize = "auto"
    sessions: int = 0
    threads: int = 0
    in_flight: int = 8
    max_pixels: int = 1 << 22
    max_tile_pixels: int = 1 << 14
    max_samples: int = 16
    max_answer_bytes: int = 1 << 28

    def __post_init__(self) -> None:
        split_device(self.device)
        one_of("precision", self.precision, ComputePrecision)
        check_tile(self.tile)
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in ("sessions", "threads") else 1
            if field.type == "int":
                whole(field.name, value, least=least)

    @classmethod
    def of_parameters(cls, parameters: Mapping[str, str]) -> ServingOptions:
        """Read the config's parameters; those of other names are others'. Raises: ArgumentError."""
        values: dict[str, Any] = {}
        for field in fields(cls):
            if (text := parameters.get(field.name)) is None:
                continue
            if field.name in ("device", "precision"):
                values[field.name] = text
            elif field.name == "tile" and text in ("auto", "none"):
                values["tile"] = None if text == "none" else "auto"
            else:
                try:
                    values[field.name] = int(text)
                except ValueError as error:
                    raise ArgumentError(
                        f"{field.name} is {short(text)}; it must be a whole number"
                    ) from error
        return cls(**values)

    def parameters(self) -> dict[str, str]:
        """The config's parameters, which :meth:`of_parameters` reads."""
        values = asdict(self)
        return {name: "none" if value is None else str(value) for name, value in values.items()}


def described(bundle: Bundle) -> str:
    """Write what of the manifest a client needs to cut pictures into tiles, as JSON."""
    fields_of_manifest = asdict(bundle.manifest)
    content = {
        **{name: fields_of_manifest[name] for name in _TOLD},
        "model_sha256": bundle.model_sha256,
    }
    if bundle.manifest.intervals is not None:
        content["intervals"] = fields_of_manifest["intervals"]
    return json.dumps(content, separators=(",", ":"))
