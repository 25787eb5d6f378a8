"""The interface of every backend: encode an LR image once, then sample from the result, or invert HR images with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.backends._declared import check_sr
from srflow_sdk.drawing.tiles import Window
from srflow_sdk.errors import DeviceError
from srflow_sdk.latents.random_field import LatentLevel, window_noise
from srflow_sdk.model.engine_records import LrProfile
from srflow_sdk.system.device_names import ComputePrecision

if TYPE_CHECKING:
    from typing_extensions import Self

_T = TypeVar("_T")


class Conditioning(ABC):
    """Everything that the sampler needs from an LR image, on the backend's device. Opaque: hand it to the backend."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes held on the device."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A sample to draw of a window of an image, with noise that is not drawn yet.

    levels, scale: the model's.
    seed, sample: of the random field.
    window: in LR pixels of the image.
    margins: rows below the window and columns to its right that were encoded with it, in LR pixels, with no noise.
    tau: the noise's standard deviation.
    maps: what the noise is multiplied by besides, float32 h×w for every level; empty for nothing.
    core: the wanted part of the picture, in HR pixels of the window.
    rounded: 8-bit levels will do, from devices that make them: what becomes of values in [0, 1] in an 8-bit image.
    """

    levels: tuple[LatentLevel, ...]
    scale: int
    seed: int
    sample: int
    window: Window
    margins: tuple[int, int] = (0, 0)
    tau: float
    maps: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)
    core: Window
    rounded: bool = False

    @property
    def encoded(self) -> Window:
        """The window with its margins."""
        (bottom, right), window = self.margins, self.window
        return Window(top=window.top, left=window.left, height=window.height + bottom, width=window.width + right)

    def noise(self) -> dict[int, NDArray[np.float32]]:
        """The noise by level, float32 1×C×h×w, as :meth:`Backend.sample` takes it."""
        noise = window_noise(self.levels, scale=self.scale, seed=self.seed, sample=self.sample, **vars(self.window))
        if self.maps:
            noise = {level: array * self.maps[level] for level, array in noise.items()}
        return with_margins(noise, self.margins, self.scale)


def with_margins(
    latents: Mapping[int, NDArray[np.float32]], margins: tuple[int, int], scale: int
) -> dict[int, NDArray[np.float32]]:
    """Latents by level, C×h×w, as a batch of one, with zeros for rows below and columns to the right, in LR pixels."""
    if not any(margins):
        return {level: array[None] for level, array in latents.items()}
    added = {level: [(0, side * scale >> level) for side in margins] for level in latents}
    return {level: np.pad(array, ((0, 0), *added[level]))[None] for level, array in latents.items()}


class Backend(ABC):
    """Runs a bundle's two graphs on one device. Use it as a context manager, or activate and deactivate it.

    An active backend is thread-safe: calls share the loaded graphs and nothing else. Activating twice is an error;
    a deactivated backend can be activated again.
    """

    precision: ComputePrecision = "bundle"
    """The encoder's arithmetic; whoever makes the backend sets it."""

    trims_memory = False
    """True if it returns the memory of a run to the system, where that takes it back."""

    _scarce = False
    """True: return the memory that a run took to the system once it ends. Backends that keep none need not look."""

    def __init__(self) -> None:
        self._active = False

    @property
    def device(self) -> str:
        """The device's name for people and reports, such as "cpu" or "cuda"."""
        return type(self).__name__

    @property
    def gpu(self) -> int | None:
        """The GPU whose memory it uses, by its number among those that CUDA shows; None: it uses main memory."""
        return None

    @property
    def window_limits(self) -> LrProfile | None:
        """Sizes of LR images that :meth:`encode` takes once it is active; None: any."""
        return None

    def activate(self) -> None:
        """Load the graphs. Raises: DeviceError if already active or the device cannot be used, BundleError."""
        if self._active:
            raise DeviceError(f"the {self.device} backend is already active; deactivate it first")
        self.activate_impl()
        self._active = True

    def deactivate(self) -> None:
        """Release the graphs and the device memory; nothing happens if the backend is not active."""
        if self._active:
            self._active = False
            self.deactivate_impl()

    def __enter__(self) -> Self:
        self.activate()
        return self

    def __exit__(self, *_: object) -> None:
        self.deactivate()

    def encode(self, lr: NDArray[np.float32]) -> Conditioning:
        """Compute everything that depends on the LR image alone.

        lr: float32 B×3×h×w RGB in [0, 1]; h and w are multiples of the manifest's `size_multiple`.
        Raises: DeviceError if the backend is not active or the device fails, OutOfMemoryError if its memory ran out,
        BundleError if the graph returns other shapes than the manifest promises.
        """
        self._require_active()
        return self.encode_impl(lr)

    def sample(
        self, conditioning: Conditioning, noise: Mapping[int, NDArray[np.float32]], tau: float
    ) -> NDArray[np.float32]:
        """Decode noise into images: float32 N×3×sh×sw RGB, not clipped, possibly not finite.

        conditioning: from :meth:`encode` of this backend, of batch 1 or N.
        noise: standard normal float32 N×C×H×W for every latent level of the manifest.
        tau: its standard deviation.
        Raises: DeviceError as in :meth:`encode`, BundleError if the graph returns another shape or type.
        """
        self._require_active()
        sr = self.sample_impl(conditioning, noise, tau)
        level, drawn = next(iter(noise.items()))
        batch, _, height, width = drawn.shape
        check_sr(sr, (batch, 3, height << level, width << level))
        return sr

    def draw(self, conditioning: Conditioning, drawing: Drawing) -> NDArray[Any]:
        """Draw noise and decode it: the core of :meth:`sample`'s picture, float32 3×h×w, or rounded, uint8 h×w×3.

        Devices that can draw the noise by themselves do, with the same bits, and those that can round do that where
        `drawing` says so and all values are finite and within ±65504.
        Raises: as :meth:`sample`.
        """
        self._require_active()
        if self.can_draw:
            return self.draw_impl(conditioning, drawing)
        rows, columns = drawing.core.slices
        core: NDArray[np.float32] = self.sample(conditioning, drawing.noise(), drawing.tau)[0, :, rows, columns]
        return core

    @property
    def can_draw(self) -> bool:
        """True if the device draws the noise by itself."""
        return False

    def draw_impl(self, conditioning: Conditioning, drawing: Drawing) -> NDArray[Any]:
        """Do the work of :meth:`draw` on the device."""
        raise NotImplementedError

    @property
    def can_invert(self) -> bool:
        """True if :meth:`invert` is there: the bundle has an inverter, and this device runs it."""
        return False

    def invert(
        self, conditioning: Conditioning, hr: NDArray[np.float32]
    ) -> tuple[dict[int, NDArray[np.float32]], NDArray[np.float32]]:
        """Encode an HR image to its latents by level, float32 N×C×H×W, and its log density, float32 N×1×h×w, in nats.

        conditioning: from :meth:`encode` of this backend.
        hr: float32 N×3×sh×sw RGB in [0, 1].
        The density is that of the image given its LR image; the map says what the HR pixels of each LR pixel
        contribute.
        Raises: DeviceError as in :meth:`encode`, or if :attr:`can_invert` is false; BundleError if the graph returns
        other shapes or types.
        """
        self._require_active()
        if not self.can_invert:
            raise DeviceError(f"the {self.device} backend has no inverter")
        return self.invert_impl(conditioning, hr)

    def invert_impl(
        self, conditioning: Conditioning, hr: NDArray[np.float32]
    ) -> tuple[dict[int, NDArray[np.float32]], NDArray[np.float32]]:
        """Do the work of :meth:`invert`."""
        raise NotImplementedError

    def _require_active(self) -> None:
        if not self._active:
            raise DeviceError(f"the {self.device} backend is not active: it was closed, or never entered")

    @abstractmethod
    def activate_impl(self) -> None:
        """Load the graphs."""

    @abstractmethod
    def deactivate_impl(self) -> None:
        """Release what :meth:`activate_impl` loaded."""

    @abstractmethod
    def encode_impl(self, lr: NDArray[np.float32]) -> Conditioning:
        """Do the work of :meth:`encode`."""

    @abstractmethod
    def sample_impl(
        self, conditioning: Conditioning, noise: Mapping[int, NDArray[np.float32]], tau: float
    ) -> NDArray[np.float32]:
        """Do the work of :meth:`sample`."""


def still_open(part: _T | None) -> _T:
    """A part of an active backend. Raises: DeviceError if another thread closed the backend in the middle of a call."""
    if part is None:
        raise DeviceError("the backend was closed while it was in use; close it when no thread needs it any more")
    return part


def own(conditioning: Conditioning, kind: type[_T]) -> _T:
    """Conditioning as the backend made it. Raises: DeviceError for that of another backend."""
    if not isinstance(conditioning, kind):
        raise DeviceError(f"conditioning of type {type(conditioning).__name__} belongs to another backend")
    return conditioning
