"""The interface of backends: encode an LR image once, then sample from it, or invert HR images."""

from __future__ import annotations

import contextlib
import functools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import CancelledError, DeviceError, OutOfMemoryError, SRFlowError
from srflow_sdk.geometry.sizes import LatentLevel, LrProfile
from srflow_sdk.geometry.tiles import Window
from srflow_sdk.latents.random_field import window_noise
from srflow_sdk.pixels.conservative_smoothing import smooth
from srflow_sdk.pixels.in_memory import Floats
from srflow_sdk.system.hardware import ComputePrecision
from srflow_sdk.system.interrupts import NO_THREADS, PassingError, is_cancelled

if TYPE_CHECKING:
    from typing_extensions import Self

OUT_OF_MEMORY = re.compile(  # found in what a runtime says when memory runs out
    r"failed to allocate|can't alloc|bad_alloc|bad allocation|out ?of ?memory|"
    r"not enough (free )?memory|"
    r"insufficient memory|could not be allocated|AllocateRaw|ALLOC_FAILED",
    re.IGNORECASE,
)
_NO_THREADS = re.compile("pthread_create|Resource temporarily unavailable")
_PLACE = re.compile(r"Exception from \S+:\d+:")  # in a library's source
_T = TypeVar("_T")

Inverted = tuple[dict[int, Floats], Floats]
"""Latents by level, and a map of the log density."""


class Conditioning(ABC):
    """Everything that the sampler needs from an LR image, on the backend's device.

    Opaque: hand it to the backend.
    """

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes held on the device."""


@dataclass(frozen=True)
class Finish:
    """What a device may do to a core: keep its chroma within `bounds`, and round it to a dtype.

    Attributes:
        bounds: those of :class:`~srflow_sdk.drawing.low_resolution.ChromaBounds`, float32 4×h×w;
            None: it stays.
    """

    dtype: np.dtype[Any]
    bounds: Floats | None


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A sample to draw of a window of an image, with noise that is not drawn yet.

    Args:
        levels, scale: The model's.
        seed, sample: Of the random field.
        window: In LR pixels of the image.
        tau: The noise's standard deviation.
        maps: What the noise is multiplied by besides, float32 h×w for every level; empty for
            nothing.
        periods: LR rows and columns after which the noise repeats, as of window_noise.
        latents: What is decoded in place of noise: the whole picture's arrays, C×H×W, by level.
        core: The wanted part of the picture, in HR pixels of the window.
        smoothed: Smooth the picture, so that it has no specks.
        finish: How the picture will be finished; None: the values are wanted as they are.
    """

    levels: tuple[LatentLevel, ...]
    scale: int
    seed: int
    sample: int
    window: Window
    tau: float
    maps: Mapping[int, Floats] = field(default_factory=dict)
    periods: Sequence[int] | None = None
    latents: Mapping[int, Floats] | None = None
    core: Window
    smoothed: bool = False
    finish: Finish | None = None

    @property
    def shapes(self) -> dict[int, tuple[int, int, int]]:
        """Channels, height and width of the noise by level."""
        places = {one: self.window.scaled(self.scale, 1 << one.level) for one in self.levels}
        return {
            one.level: (one.channels, place.height, place.width) for one, place in places.items()
        }

    def noise(self) -> dict[int, Floats]:
        """The noise by level, float32 1×C×h×w, as :meth:`Backend.sample` takes it."""
        if self.latents is not None:
            parts = {}
            for level, array in self.latents.items():
                rows, columns = self.window.scaled(self.scale, 1 << level).slices
                parts[level] = array[None, :, rows, columns]
            return parts
        noise = window_noise(
            self.levels,
            scale=self.scale,
            seed=self.seed,
            sample=self.sample,
            periods=self.periods,
            **vars(self.window),
        )
        return {
            level: (array * self.maps[level] if self.maps else array)[None]
            for level, array in noise.items()
        }

    def cut_core(self, picture: Floats) -> Floats:
        """The core of a picture of the window, float32 3×sh×sw, as float32 h×w×3."""
        pixels = picture.transpose(1, 2, 0)
        if self.smoothed:
            return smooth(pixels, *self.core.slices)
        core: Floats = pixels[self.core.slices]
        return core


class Backend(ABC):
    """Runs a bundle's two graphs on one device.

    Use it as a context manager, or activate and deactivate it. An active backend is thread-safe:
    calls share the loaded graphs and nothing else. Activating twice is an error; a deactivated
    backend can be activated again.
    """

    precision: ComputePrecision = "bundle"
    """The encoder's arithmetic; whoever makes the backend sets it."""

    trims_memory = False
    """True if it returns the memory of a run to the system, where that takes it back."""

    samples_at_once = False
    """True if two small samples, computed at once, take less time than one after the other."""

    gpu: int | None = None
    """The GPU whose memory it uses, by its number among those that CUDA shows.

    None: it uses main memory.
    """

    window_limits: LrProfile | None = None
    """Sizes of LR images that :meth:`encode` takes once it is active; None: any."""

    _scarce = False  # True: return the memory that a run took to the system once it ends
    _active = False

    @property
    def device(self) -> str:
        """The device's name for people and reports, such as "cpu" or "tensorrt"."""
        return type(self).__name__

    @property
    def fix(self) -> str:
        """The fix to suggest if the device does not work as it should."""
        return 'use device="cpu"'

    def activate(self) -> None:
        """Load the graphs.

        Raises:
            DeviceError: It is active already, or the device cannot be used.
            BundleError: A graph cannot be loaded.
        """
        if self._active:
            raise DeviceError(f"the {self.device} backend is already active; deactivate it first")
        self.activate_impl()
        self._active = True

    def deactivate(self) -> None:
        """Release the graphs and the device memory.

        Nothing happens if the backend is not active.
        """
        if self._active:
            self._active = False
            self.deactivate_impl()

    def __enter__(self) -> Self:
        self.activate()
        return self

    def __exit__(self, *_: object) -> None:
        self.deactivate()

    def encode(self, lr: Floats) -> Conditioning:
        """Compute everything that depends on the LR image alone.

        Args:
            lr: float32 B×3×h×w RGB in [0, 1]; h and w are multiples of the manifest's
                `size_multiple`.

        Raises:
            DeviceError: The backend is not active, or the device fails.
            OutOfMemoryError: Its memory ran out.
        """
        return self.encode_impl(lr)

    def sample(self, conditioning: Conditioning, noise: Mapping[int, Floats], tau: float) -> Floats:
        """Decode noise into images.

        Args:
            conditioning: From :meth:`encode` of this backend, of batch 1 or N.
            noise: Standard normal float32 N×C×H×W for every latent level of the manifest.
            tau: Its standard deviation.

        Returns:
            float32 N×3×sh×sw RGB, not clipped, possibly not finite.

        Raises:
            DeviceError, OutOfMemoryError: As in :meth:`encode`.
        """
        return self.sample_impl(conditioning, noise, tau)

    def begin(self, conditioning: Conditioning, drawing: Drawing) -> Callable[[], NDArray[Any]]:
        """Begin to draw noise and decode it.

        The function that is returned does the rest, or waits for it, once.

        Others may be begun before it is called: a device computes them while it hands back the
        first.

        Args:
            conditioning: From :meth:`encode` of this backend.
            drawing: A sample of its window.

        Returns:
            A function that gives the core of :meth:`sample`'s picture, float32 h×w×3; or, if the
            device finishes it, of the dtype that the drawing names, and NaN where values cannot be
            a picture's.

        Raises:
            SRFlowError: As :meth:`sample`; so does the function.
        """
        return functools.partial(self.draw_core, conditioning, drawing, drawing.noise)

    def draw_core(
        self, conditioning: Conditioning, drawing: Drawing, noise: Callable[[], dict[int, Floats]]
    ) -> Floats:
        """Decode the noise that a function gives; return the core, float32 h×w×3."""
        (picture,) = self.sample(conditioning, noise(), drawing.tau)
        return drawing.cut_core(picture)

    @property
    def can_invert(self) -> bool:
        """True if :meth:`invert` is there: the bundle has an inverter, and this device runs it."""
        return False

    def invert(self, conditioning: Conditioning, hr: Floats) -> Inverted:
        """Encode an HR image to its latents, and say how likely it is given its LR image.

        Args:
            conditioning: From :meth:`encode` of this backend.
            hr: float32 N×3×sh×sw RGB in [0, 1].

        Returns:
            The latents by level, float32 N×C×H×W, and a map of the log density in nats, float32
            N×1×h×w: what the HR pixels of each LR pixel contribute.

        Raises:
            DeviceError: As in :meth:`encode`, or :attr:`can_invert` is false.
        """
        if not self.can_invert:
            raise DeviceError(f"the {self.device} backend has no inverter")
        return self.invert_impl(conditioning, hr)

    def invert_impl(self, conditioning: Conditioning, hr: Floats) -> Inverted:
        """Do the work of :meth:`invert`."""
        raise NotImplementedError

    @abstractmethod
    def activate_impl(self) -> None:
        """Load the graphs."""

    @abstractmethod
    def deactivate_impl(self) -> None:
        """Release what :meth:`activate_impl` loaded."""

    @abstractmethod
    def encode_impl(self, lr: Floats) -> Conditioning:
        """Do the work of :meth:`encode`."""

    @abstractmethod
    def sample_impl(
        self, conditioning: Conditioning, noise: Mapping[int, Floats], tau: float
    ) -> Floats:
        """Do the work of :meth:`sample`."""


@contextlib.contextmanager
def runtime_errors(
    what: str, fix: str = "", kind: type[SRFlowError] = DeviceError
) -> Iterator[None]:
    """Turn a native runtime's errors in the block into the SDK's.

    They have no common base but Exception.
    """
    if is_cancelled():  # short runs would end before anybody looked
        raise CancelledError("cancelled by the caller")
    try:
        yield
    except Exception as error:
        if is_cancelled():
            raise CancelledError("cancelled by the caller") from error
        if isinstance(error, SRFlowError):
            raise
        reason = one_line(error)
        if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(reason):
            raise OutOfMemoryError(
                f"{what}: out of memory ({reason}); use smaller tiles, or close other programs"
            ) from error
        if _NO_THREADS.search(reason):
            raise PassingError(NO_THREADS) from error
        raise kind("; ".join(filter(None, (f"{what}: {reason}", fix)))) from error


def one_line(error: object) -> str:
    """An exception's text in one line, for the end of an error message."""
    text = _PLACE.sub(" ", str(error)).rpartition("Caught exception:")[2]
    return " ".join((text if text.strip() else str(error)).split())[:300]


def still_open(part: _T | None) -> _T:
    """A part of an active backend, as each call takes it.

    Raises: DeviceError if it was closed, perhaps meanwhile.
    """
    if part is None:
        raise DeviceError("the backend is not active: it was closed, or never entered")
    return part
