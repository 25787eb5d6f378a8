"""The SDK's entry point: :class:`Upscaler` enlarges images, with as many different answers as you ask for."""

from __future__ import annotations

from collections.abc import Iterable

from srflow_sdk.backends import Device, Precision, open_backend
from srflow_sdk.base_upscaler import BaseUpscaler
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.drawing.tiles import TileSize, check_tile
from srflow_sdk.files import PathLike
from srflow_sdk.flow.flow_uses import FlowUses
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.model_choice import bundles_of


class Upscaler(BaseUpscaler, FlowUses):
    """Super-resolution on one device. Close it, or use it as a context manager. Thread-safe.

    The same bundle, image, tau, seed and sample give the same picture, bit for bit if the tiles have the same size. A
    process that is forked after this one wrote a file cannot write files (DeviceError): start it with "spawn".

    Args:
        bundle: "auto", which None is too: the embedded model that suits each picture and `scale`, by
            :func:`~srflow_sdk.choose_model`; restore, transfer, log_likelihood and Encoding.invert take x4-small. Or
            the only model: its name, directory or Bundle. Or several Bundles to choose from, the default first.
        device: "cpu", "cuda", "tensorrt" (engines, or ONNX Runtime's TensorRT), "rtx", "webgpu", "openvino"; "cuda:1"
            is the second GPU. "auto" is the first of engines, CUDA and other GPUs that really starts, else the CPU.
        tile: side of the tiles in LR pixels, at least 16. "auto" fits them to the free memory, None takes the whole
            image. The picture depends on it only through the halo's truncation. If memory runs out, tiles get smaller.
        threads: CPU threads, at most one per core; None leaves the choice to the runtime.
        precision: "bundle" computes as exported. "bf16" and "int8" let the encoder compute in less, which changes
            pictures a little. "fastest" is the fastest of them here, measured once for each machine and model.

    Raises:
        BundleError, DeviceError, ArgumentError.

    Example:
        with Upscaler() as upscaler:
            upscaler.upscale("photo.jpg", tau=0.8, seed=1).save("large.png")
    """

    def __init__(
        self,
        bundle: PathLike | Bundle | Iterable[Bundle] | None = None,
        *,
        device: Device = "auto",
        tile: TileSize = "auto",
        threads: int | None = None,
        precision: Precision = "bundle",
    ) -> None:
        check_tile(tile)

        def opened(one: Bundle) -> Painter:
            if one is not bundle:
                one._verify()
            return Painter(one, open_backend(one, device=device, threads=threads, precision=precision), tile)

        super().__init__(bundles_of(bundle), opened, tile)
