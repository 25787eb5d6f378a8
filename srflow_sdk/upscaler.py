"""The SDK's entry point: :class:`Upscaler` enlarges images, with as many different answers as you ask for."""

from __future__ import annotations

import os

from srflow_sdk.backends import Device, Precision, open_backend
from srflow_sdk.base_upscaler import BaseUpscaler
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.drawing.tiles import TileSize, check_tile
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files import PathLike
from srflow_sdk.flow.flow_uses import FlowUses
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.model_choice import bundles_of


class Upscaler(BaseUpscaler, FlowUses):
    """Super-resolution on one device. Close it, or use it as a context manager. Thread-safe.

    bundle: "auto", which None is too: for each picture the embedded model that suits it, by
        :func:`~srflow_sdk.choose_model`; restore, transfer, best_of, log_likelihood and Encoding.invert take the one
        for clean pictures. Or the only model: an embedded one's name, a bundle's directory, or an open Bundle.
    device: "cpu", "cuda", "tensorrt" (engines, or ONNX Runtime's TensorRT), "rtx", "webgpu", "openvino"; "cuda:1" is
        the second GPU. "auto" is the first of engines, CUDA and other GPUs that really starts, otherwise the CPU.
    tile: side of the tiles in LR pixels, at least 16. "auto" fits them to the free memory, None takes the whole image.
        The picture depends on it only through the halo's truncation.
    threads: CPU threads, at most one per core; None leaves the choice to the runtime.
    precision: "bundle" computes as exported. "bf16" and "int8" let the encoder compute in less, which changes pictures
        a little. "fastest" is the fastest of them here, measured once for each machine and model, within seconds.

    The same bundle, image, tau, seed and sample give the same picture, bit for bit if the tiles have the same size. A
    process that is forked after this one wrote a file cannot write files (DeviceError): start it with "spawn".

    Raises: BundleError, DeviceError, ArgumentError.
    """

    def __init__(
        self,
        bundle: PathLike | Bundle | None = None,
        *,
        device: Device = "auto",
        tile: TileSize = "auto",
        threads: int | None = None,
        precision: Precision = "bundle",
    ) -> None:
        check_tile(tile)
        if not (bundle is None or isinstance(bundle, (str, os.PathLike, Bundle))) or bundle == "":
            raise ArgumentError(
                f'bundle is {bundle!r}; it must be "auto", the path of a bundle, an embedded model\'s name or a Bundle'
            )

        def opened(one: Bundle) -> Painter:
            return Painter(one, open_backend(one, device=device, threads=threads, precision=precision), tile)

        super().__init__([bundle] if isinstance(bundle, Bundle) else bundles_of(bundle), opened, tile)
