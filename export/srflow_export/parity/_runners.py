"""Everything that can decode, as Polygraphy runners with one signature, so that any two can be compared.

They take `lr` 1×3×h×w, `noise_level{ℓ}` N×C×H/2^ℓ×W/2^ℓ and `tau` [N], and give `sr` N×3×H×W and, if they can,
`level{ℓ}_decoded`, what the levels L … 2 decode to; all float32.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
import torch
from polygraphy.backend.base import BaseRunner
from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
from polygraphy.common import TensorMetadata
from polygraphy.logger import G_LOGGER

from srflow_export import onnx_models
from srflow_export.graphs import decoded_names, latent_levels, level_of, noise_names
from srflow_export.parity._rounding import rounded_as_on_gpus
from srflow_sdk.backends import Device, Precision, open_backend
from srflow_sdk.latents.random_field import LatentLevel
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import LrProfile
from srflow_sdk.model.manifest import INVERTER, REQUIRED_FILES
from srflow_training.model import SRFlow

Array = npt.NDArray[np.float32]

G_LOGGER.module_severity = G_LOGGER.WARNING  # it announces every run


Arithmetic = Literal["fp32", "fp64", "half weights", "fp16", "bf16"]
"""The arithmetic of the torch network, on the CPU: as a whole, with its weights rounded to half, or by autocast, which
rounds what graphs of that precision round."""


class TorchRunner(BaseRunner):  # type: ignore[misc]  # Polygraphy has no annotations
    """The torch network: in float32 the reference, otherwise what becomes of itself in another arithmetic."""

    def __init__(self, model: SRFlow, arithmetic: Arithmetic = "fp32") -> None:
        super().__init__(prefix=f"torch-{arithmetic}")
        self._model = model
        self._arithmetic = arithmetic

    def get_input_metadata_impl(self) -> TensorMetadata:
        """Names, types and shapes of the inputs."""
        return _metadata(latent_levels(self._model.config))

    def infer_impl(self, feed_dict: Mapping[str, Array]) -> OrderedDict[str, Array]:
        """Decode; inputs and outputs as in the module's docstring."""
        with computing_in(self._model, self._arithmetic) as (model, dtype):
            given = {name: torch.from_numpy(value).to(dtype) for name, value in feed_dict.items()}
            tau = given["tau"][:, None, None, None]
            latents = {level_of(name): tau * given[name] for name in noise_names(model.config)}
            decoded = model.decoded_levels(model.condition(given["lr"]), latents)
        outputs = OrderedDict((name, decoded[level_of(name)].numpy()) for name in decoded_names(model.config))
        outputs["sr"] = decoded[1].numpy()
        return outputs


@contextmanager
def computing_in(model: SRFlow, arithmetic: Arithmetic) -> Iterator[tuple[SRFlow, torch.dtype]]:
    """The network in an arithmetic, and the type of what it is given; without gradients."""
    with torch.no_grad():
        if arithmetic == "fp64":
            yield copy.deepcopy(model).double(), torch.float64
        elif arithmetic == "half weights":
            yield copy.deepcopy(model).half().float(), torch.float32
        elif arithmetic == "fp32":
            yield model, torch.float32
        else:
            with torch.autocast("cpu", dtype=torch.float16 if arithmetic == "fp16" else torch.bfloat16):
                yield model, torch.float32


class BackendRunner(BaseRunner):  # type: ignore[misc]  # Polygraphy has no annotations
    """A bundle on one of the SDK's devices, as an application runs it. It gives only `sr`."""

    def __init__(self, bundle: Bundle, device: Device, precision: Precision = "bundle") -> None:
        super().__init__(prefix=device)
        self._bundle = bundle
        self._device: Device = device
        self._precision: Precision = precision

    def activate_impl(self) -> None:
        """Load the graphs. Raises: DeviceError, BundleError."""
        self._backend = open_backend(self._bundle, device=self._device, precision=self._precision)

    def deactivate_impl(self) -> None:
        """Release the graphs."""
        self._backend.deactivate()

    def window_limits(self) -> LrProfile | None:
        """LR sizes that the device takes, known once it is active; None: any."""
        return self._backend.window_limits

    def get_input_metadata_impl(self) -> TensorMetadata:
        """Names, types and shapes of the inputs."""
        return _metadata(self._bundle.manifest.latent_levels)

    def infer_impl(self, feed_dict: Mapping[str, Array]) -> OrderedDict[str, Array]:
        """Decode, drawing samples one by one as the SDK does."""
        conditioning = self._backend.encode(feed_dict["lr"])
        noise = {level_of(name): value for name, value in feed_dict.items() if name.startswith("noise_level")}
        images = [
            self._backend.sample(conditioning, {level: part[i : i + 1] for level, part in noise.items()}, float(tau))
            for i, tau in enumerate(feed_dict["tau"])
        ]
        return OrderedDict(sr=np.concatenate(images))


def graphs_runner(bundle: Bundle, *, rounded: bool = False, names: tuple[str, str] = REQUIRED_FILES) -> BaseRunner:
    """A bundle's encoder and sampler graph on ONNX Runtime's CPU provider, with the levels' outputs.

    rounded: compute as GPUs do in half precision, see :mod:`srflow_export.parity._rounding`.
    """

    def load() -> onnx.ModelProto:
        encoder, sampler = (onnx.load(bundle.file(name)) for name in names)
        return onnx_models.joined(encoder, sampler)

    return _onnx_runner(load, "graphs", rounded=rounded)


def inverse_runner(bundle: Bundle, *, rounded: bool = False) -> BaseRunner:
    """A bundle's encoder and inverter as one graph: `lr`, `hr` → `latent_level{ℓ}`…, `log_density`."""
    return _onnx_runner(
        lambda: onnx_models.joined(onnx.load(bundle.file("encoder.onnx")), onnx.load(bundle.file(INVERTER))),
        "inverse",
        rounded=rounded,
    )


def fused_runner(bundle: Bundle, *, rounded: bool = False) -> BaseRunner:
    """The same for a bundle's fused.onnx."""
    return _onnx_runner(lambda: onnx.load(bundle.file("fused.onnx")), "fused", rounded=rounded)


def _onnx_runner(load: Callable[[], onnx.ModelProto], name: str, *, rounded: bool) -> BaseRunner:
    """The graph is loaded when the runner is activated, so that only one large graph at a time is in memory."""

    def content() -> bytes:
        proto = load()
        marked = onnx_models.with_decoded_levels(rounded_as_on_gpus(proto) if rounded else proto)
        return bytes(marked.SerializeToString())

    return OnnxrtRunner(SessionFromOnnx(content, providers=["CPUExecutionProvider"]), name=name)


def _metadata(levels: Iterable[LatentLevel]) -> TensorMetadata:
    metadata = TensorMetadata().add("lr", np.float32, (1, 3, None, None))
    for entry in levels:
        metadata.add(f"noise_level{entry.level}", np.float32, (None, entry.channels, None, None))
    return metadata.add("tau", np.float32, (None,))
