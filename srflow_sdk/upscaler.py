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
    """Super-resolution on one device. Close it, or use it as a context manager.

    bundle: "auto", which None is too, draws each picture with the embedded model that suits it, by
        :func:`~srflow_sdk.choose_model`: "x4-small" for clean pictures, "x4-photo" for noisy and compressed ones,
        loaded once a picture needs it. Files are judged by their kind, too, and so are PIL images that still know it.
        :attr:`bundle` then raises ArgumentError, and restore, transfer, best_of, log_likelihood and Encoding.invert
        take the one for clean pictures. One of these names, a bundle directory or an open
        :class:`~srflow_sdk.model.bundle.Bundle` is the only model.
    device: "cpu"; "cuda"; "tensorrt" (the bundle's engines, or ONNX Runtime's TensorRT); "rtx" or "webgpu" (plug-in
        providers of ONNX Runtime); "openvino"; or "auto": the first of engines, CUDA and other GPUs that really starts,
        otherwise the CPU. A GPU may have a number, such as "cuda:1"; without one it is the first.
    tile: side, in LR pixels, of the tiles computed at a time. "auto" fits them to the free memory, None takes the whole
        image at once, and a number (at least 16) is rounded up to what the network needs. Tiles affect memory and
        speed, and the picture only through the halo's truncation.
    threads: CPU threads, at most one per core; None leaves the choice to the runtime.
    precision: "bundle" computes as the bundle was exported. "bf16" and "int8" let the encoder compute in less, which is
        faster on some processors and makes the picture a little different. "fastest" is the fastest of these here whose
        pictures stay near enough to the exact ones: measured once for each machine and model, which takes some seconds.

    Thread-safe: any number of threads may share one. A process that is forked after this one wrote a file can upscale
    arrays, but not write files (DeviceError): fork before that, or start the process with "spawn". The same bundle,
    image, tau, seed and sample give the same picture in any call, whatever other samples are drawn with it; bit for bit
    if the tiles have the same size, which "auto" chooses by the free memory.

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
