"""Types of :class:`AsyncUpscaler` and :class:`AsyncEncoding`: those of Upscaler and Encoding, to be awaited."""

import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Generic, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import Self, Unpack

from srflow_sdk.aio.calls import Calls
from srflow_sdk.backends import ComputePrecision, Device, Precision
from srflow_sdk.drawing.file_upscaling import FileResult
from srflow_sdk.drawing.requests import DrawKeywords, EncodeKeywords, Progress
from srflow_sdk.drawing.tiles import TileSize
from srflow_sdk.encoding import Encoding, ImageT
from srflow_sdk.files import PathLike
from srflow_sdk.files.passed_images import EncodedImage
from srflow_sdk.flow.flow_options import RestoreKeywords, TransferKeywords
from srflow_sdk.flow.transferring import AnyImage
from srflow_sdk.latents.picture_latents import Latents
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.pixels.in_memory import Layout, StackT, Tensor, TensorT
from srflow_sdk.upscaler import Upscaler

class AsyncUpscaler:
    def __init__(
        self,
        bundle: PathLike | Bundle | Iterable[Bundle] | None = ...,
        *,
        device: Device = ...,
        tile: TileSize = ...,
        threads: int | None = ...,
        precision: Precision = ...,
        at_once: int = ...,
    ) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    async def aclose(self) -> None: ...
    @property
    def _opened(self) -> Upscaler: ...
    @property
    def bundle(self) -> Bundle: ...
    @property
    def scale(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> ComputePrecision: ...
    @overload
    async def upscale(self, image: ImageT, *, layout: Layout = ..., **options: Unpack[DrawKeywords]) -> ImageT: ...
    @overload
    async def upscale(
        self, image: EncodedImage, *, layout: Layout = ..., **options: Unpack[DrawKeywords]
    ) -> Image.Image: ...
    @overload
    async def upscale(self, image: TensorT, *, layout: Layout = ..., **options: Unpack[DrawKeywords]) -> TensorT: ...
    @overload
    async def upscale_many(
        self, images: Sequence[ImageT], *, layout: Layout = ..., **options: Unpack[DrawKeywords]
    ) -> list[ImageT]: ...
    @overload
    async def upscale_many(
        self, images: StackT, *, layout: Layout = ..., **options: Unpack[DrawKeywords]
    ) -> StackT: ...
    @overload
    async def upscale_many(
        self, images: Sequence[object], *, layout: Layout = ..., **options: Unpack[DrawKeywords]
    ) -> list[Any]: ...
    async def upscale_file(
        self,
        source: PathLike,
        targets: PathLike | Sequence[PathLike],
        *,
        report: bool = ...,
        max_pixels: int = ...,
        quality: int | None = ...,
        lossless: bool = ...,
        interval: float | None = ...,
        **options: Unpack[DrawKeywords],
    ) -> FileResult: ...
    @overload
    async def best_of(
        self,
        image: ImageT,
        score: Callable[[ImageT], float],
        n: int,
        *,
        layout: Layout = ...,
        **options: Unpack[DrawKeywords],
    ) -> ImageT: ...
    @overload
    async def best_of(
        self,
        image: EncodedImage,
        score: Callable[[Image.Image], float],
        n: int,
        *,
        layout: Layout = ...,
        **options: Unpack[DrawKeywords],
    ) -> Image.Image: ...
    @overload
    async def best_of(
        self,
        image: TensorT,
        score: Callable[[TensorT], float],
        n: int,
        *,
        layout: Layout = ...,
        **options: Unpack[DrawKeywords],
    ) -> TensorT: ...
    @overload
    async def restore(self, image: ImageT, *, layout: Layout = ..., **options: Unpack[RestoreKeywords]) -> ImageT: ...
    @overload
    async def restore(
        self, image: EncodedImage, *, layout: Layout = ..., **options: Unpack[RestoreKeywords]
    ) -> Image.Image: ...
    @overload
    async def restore(self, image: TensorT, *, layout: Layout = ..., **options: Unpack[RestoreKeywords]) -> TensorT: ...
    async def restore_file(
        self,
        source: PathLike,
        target: PathLike,
        *,
        report: bool = ...,
        max_pixels: int = ...,
        quality: int | None = ...,
        lossless: bool = ...,
        **options: Unpack[RestoreKeywords],
    ) -> FileResult: ...
    @overload
    async def transfer(
        self,
        target: ImageT,
        source: AnyImage,
        mask: AnyImage | NDArray[np.bool_],
        lr: AnyImage | None = ...,
        **options: Unpack[TransferKeywords],
    ) -> ImageT: ...
    @overload
    async def transfer(
        self,
        target: EncodedImage,
        source: AnyImage,
        mask: AnyImage | NDArray[np.bool_],
        lr: AnyImage | None = ...,
        **options: Unpack[TransferKeywords],
    ) -> Image.Image: ...
    @overload
    async def transfer(
        self,
        target: TensorT,
        source: AnyImage,
        mask: AnyImage | NDArray[np.bool_],
        lr: AnyImage | None = ...,
        **options: Unpack[TransferKeywords],
    ) -> TensorT: ...
    async def transfer_file(
        self,
        target: PathLike,
        source: PathLike,
        mask: PathLike,
        output: PathLike,
        *,
        lr: PathLike | None = ...,
        max_pixels: int = ...,
        quality: int | None = ...,
        lossless: bool = ...,
        **options: Unpack[TransferKeywords],
    ) -> FileResult: ...
    async def log_likelihood(
        self,
        hr: AnyImage,
        lr: AnyImage | None = ...,
        *,
        dequantise: bool = ...,
        progress: Progress | None = ...,
        cancel: threading.Event | None = ...,
    ) -> float: ...
    @overload
    async def encode(self, image: ImageT, **options: Unpack[EncodeKeywords]) -> AsyncEncoding[ImageT]: ...
    @overload
    async def encode(self, image: EncodedImage, **options: Unpack[EncodeKeywords]) -> AsyncEncoding[Image.Image]: ...
    @overload
    async def encode(self, image: Tensor, **options: Unpack[EncodeKeywords]) -> AsyncEncoding[Any]: ...

class AsyncEncoding(Generic[ImageT]):
    def __init__(self, encoding: Encoding[ImageT], calls: Calls) -> None: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def tiles(self) -> int: ...
    @property
    def kept_tiles(self) -> int: ...
    async def sample(self, **options: Unpack[DrawKeywords]) -> ImageT: ...
    async def samples(self, n: int, **options: Unpack[DrawKeywords]) -> list[ImageT]: ...
    async def mean(self, n: int, **options: Unpack[DrawKeywords]) -> ImageT: ...
    async def std(self, n: int, **options: Unpack[DrawKeywords]) -> NDArray[np.float32]: ...
    async def interval(
        self, n: int, coverage: float = ..., **options: Unpack[DrawKeywords]
    ) -> tuple[ImageT, ImageT]: ...
    async def invert(
        self,
        hr: AnyImage,
        *,
        dequantise: bool = ...,
        progress: Progress | None = ...,
        cancel: threading.Event | None = ...,
    ) -> Latents: ...
    async def decode(
        self,
        latents: Latents,
        *,
        consistent: bool = ...,
        progress: Progress | None = ...,
        cancel: threading.Event | None = ...,
    ) -> ImageT: ...
