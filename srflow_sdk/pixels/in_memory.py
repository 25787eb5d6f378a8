"""In-memory images, arrays and tensors: split into pixels and kind, and wrapped again.

Channel values stay as the image holds them, in its own colour profile; only modes that arrays do
not have (palette, CMYK, YCbCr, HSV) become RGB.
"""

from __future__ import annotations

import contextlib
import io
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from srflow_sdk._checks import one_of
from srflow_sdk.errors import ImageError

FLOAT32 = np.dtype(np.float32)
Floats = NDArray[np.float32]
Pixels = NDArray[Any]
"""Of uint8, uint16 or float32, H×W×C as a rule."""


class Tensor(Protocol):
    """An array of another library in memory, such as a torch.Tensor.

    It is whatever numpy.from_dlpack reads.
    """

    def __dlpack__(self, *, stream: None = ...) -> Any: ...

    def __dlpack_device__(self) -> tuple[Any, int]: ...

    # which tells tensors from numpy's arrays, whose dtypes are checked
    def __hash__(self) -> int: ...


InMemoryImage = Image.Image | Pixels
TensorT = TypeVar("TensorT", bound=Tensor)
StackT = TypeVar("StackT", bound="Pixels | Tensor")
Layout = Literal["hwc", "chw"]
"""Where the channels of arrays and tensors are: last, or first."""

# ITU-R BT.601, as Pillow's own conversion to mode L
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16), FLOAT32, np.dtype(np.float64))
# DLPack's device types of plain memory, and of memory pinned for CUDA and ROCm
_IN_MEMORY = (1, 3, 11)
_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
PILLOW_ERRORS = (
    ArithmeticError,
    AssertionError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
"""Errors that Pillow and its plugins raise for damaged files, and for closed ones."""

_OTHER_COLOURS = ("CMYK", "YCbCr", "HSV")


@dataclass(frozen=True, kw_only=True)
class ImageKind:
    """Everything about an image except its pixels: enough to return a larger one.

    Attributes:
        channels: 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha).
        dtype: uint8, uint16 or float32.
        icc_profile: the colours' profile; None means sRGB.
        pil_mode: mode of a PIL image; None for arrays.
        flat: whether it is a gray array without a channel axis.
        double: whether it is an array of float64, which is computed as float32.
        layout: where the channels of an array are.
        tensor_of: makes an array a tensor of the image's library; None for arrays, and where that
            library has no from_dlpack.
        info: metadata that a PIL image keeps (colour profile, EXIF).
    """

    channels: int
    dtype: np.dtype[Any]
    icc_profile: bytes | None = None
    pil_mode: str | None = None
    flat: bool = False
    double: bool = False
    layout: Layout = "hwc"
    tensor_of: Callable[[Pixels], Any] | None = None
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def has_alpha(self) -> bool:
        return self.channels in (2, 4)

    @property
    def colours(self) -> int:
        """Channels without alpha: 1 or 3."""
        return 1 if self.channels <= 2 else 3

    def wrapped(self, pixels: Pixels) -> InMemoryImage:
        """Turn pixels of this kind, H×W×channels, into the image that a caller gets."""
        if self.pil_mode is None:
            pixels = pixels.astype(np.float64) if self.double else pixels
            return self.arranged(pixels[..., 0] if self.flat else pixels)
        image = Image.fromarray(pixels[..., 0] if self.channels == 1 else pixels)
        image.info.update(self.info)
        return image

    def arranged(self, array: Pixels) -> Pixels:
        """An array, H×W or H×W×C, in the layout of the image and as a tensor if that is one."""
        if self.layout == "chw" and array.ndim == 3:
            array = np.ascontiguousarray(np.moveaxis(array, -1, 0))
        return array if self.tensor_of is None else self.tensor_of(array)


def unpacked(
    image: InMemoryImage | Tensor, *, layout: Layout = "hwc", raw: bool = False
) -> tuple[Pixels, ImageKind]:
    """Its pixels, H×W×channels, and its kind.

    raw: take any dtype and number of channels. Raises: ImageError.
    """
    one_of("layout", layout, Layout)
    if isinstance(image, Image.Image):
        return _from_pil(image)
    if isinstance(image, np.ndarray):
        return _from_array(image, layout=layout, raw=raw)
    if is_tensor(image):
        pixels, kind = _from_array(array_of(image), layout=layout, what="tensor", raw=raw)
        return pixels, replace(kind, tensor_of=tensor_maker(image))
    raise ImageError(
        f"an image must be a PIL.Image, an array, a tensor or a path, not {type(image).__name__}"
    )


def is_tensor(image: object) -> TypeGuard[Tensor]:
    """True if it is an array of another library.

    They are told by DLPack's methods, so that none is imported.
    """
    return not isinstance(image, np.ndarray) and all(
        hasattr(type(image), name) for name in ("__dlpack__", "__dlpack_device__")
    )


def array_of(tensor: Tensor) -> Pixels:
    """A tensor's values, which are not copied. Raises: ImageError if numpy cannot read them."""
    try:
        device, _ = tensor.__dlpack_device__()
        if device in _IN_MEMORY:
            return np.from_dlpack(tensor)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        # each library, and each version, has its own
        what = f"the tensor of dtype {getattr(tensor, 'dtype', 'unknown')}"
        plain = "uint8, uint16, float32 or float64"
        raise ImageError(
            f"{what} cannot be read: {error}; it must be a plain one of {plain} in the machine's "
            "memory"
        ) from error
    where = getattr(tensor, "device", f"DLPack type {int(device)}")
    fix = "copy it to the machine's memory first: tensor.cpu()"
    raise ImageError(f"the tensor is on a GPU or another device ({where}); {fix}")


def tensor_maker(tensor: Tensor) -> Callable[[Pixels], Any] | None:
    """Find what makes an array a tensor of a library: the array API's from_dlpack, or torch's."""
    for kind in type(tensor).__mro__:
        library = sys.modules.get(kind.__module__.partition(".")[0])
        if hasattr(tensor, "__array_namespace__"):
            library = tensor.__array_namespace__()
        if callable(maker := getattr(library, "from_dlpack", None)):
            return maker  # type: ignore[no-any-return]
    return None


def luma(rgb: Floats) -> Floats:
    """RGB in the last axis, H×W×3, to gray, H×W×1."""
    return np.asarray((rgb @ LUMA)[..., None], np.float32)


def gray_if_all_are(pixels: Pixels, *originals: Pixels) -> Pixels:
    """H×W×C as they are; gray if they are RGB and so is every original whose channels are equal."""
    if pixels.shape[2] < 3 or not all((one[..., :3] == one[..., :1]).all() for one in originals):
        return pixels
    return from_unit(luma(to_unit(pixels)), pixels.dtype).repeat(3, axis=2)


def to_unit(values: Pixels) -> Floats:
    """Pixels of any of the dtypes as float32 in [0, 1]."""
    unit: Floats = values.astype(np.float32)
    if values.dtype != np.float32:
        unit /= np.float32(np.iinfo(values.dtype).max)
    return unit


def from_unit(values: Floats, dtype: np.dtype[Any]) -> Pixels:
    """Values clipped to [0, 1] and rounded to the dtype's full range."""
    clipped = np.clip(values, np.float32(0), np.float32(1))
    if dtype == np.float32:
        return clipped
    clipped *= np.float32(np.iinfo(dtype).max)
    return np.rint(clipped, out=clipped).astype(dtype)


def _from_pil(image: Image.Image) -> tuple[Pixels, ImageKind]:
    try:
        # Phones' photographs are MPO: a preview comes second.
        if getattr(image, "is_animated", False) and image.format != "MPO":
            frames = getattr(image, "n_frames", 2)
            raise ImageError(
                f"the image holds {frames} frames or pages; pass a copy of the one you want: "
                "image.copy()"
            )
        if image.width < 1 or image.height < 1:
            raise ImageError(f"the image has no pixels ({image.width}×{image.height})")
        image.load()
        converted = _in_known_mode(image)
    except PILLOW_ERRORS as error:
        raise ImageError(
            f"the image's pixels cannot be read: {error}; its file is damaged or incomplete"
        ) from error
    kept = ("exif",) if image.mode in _OTHER_COLOURS else ("exif", "icc_profile")
    info = {name: image.info[name] for name in kept if name in image.info}
    pixels = np.atleast_3d(np.asarray(converted))
    return pixels, ImageKind(
        channels=pixels.shape[2],
        dtype=pixels.dtype,
        icc_profile=info.get("icc_profile"),
        pil_mode=converted.mode,
        info=info,
    )


def _in_known_mode(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode in ("1", "L", "LA", "La"):
        return image.convert("LA" if image.has_transparency_data else "L")
    if mode in ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "YCbCr", "HSV"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    if mode == "CMYK":
        return _cmyk_to_srgb(image)
    if mode in _SIXTEEN_BIT:  # older versions of Pillow open 16-bit gray files as 32-bit integers
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(
                'the image has mode "I" and values outside 0 … 65535; convert it to "I;16" or an '
                "array"
            )
        return Image.fromarray(values.astype(np.uint16))
    raise ImageError(
        f'images of mode "{mode}" are not supported; convert the image first: image.convert("RGB")'
    )


def _from_array(
    array: Pixels, *, layout: Layout, what: str = "array", raw: bool = False
) -> tuple[Pixels, ImageKind]:
    if not raw and array.dtype.newbyteorder("=") not in _DTYPES:
        raise ImageError(
            f"the {what}'s dtype is {array.dtype}; it must be uint8, uint16, float32 or float64 "
            "(floats in [0, 1])"
        )
    shape = array.shape
    if layout == "chw" and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    if array.ndim not in (2, 3) or (
        array.ndim == 3 and not raw and array.shape[2] not in (1, 2, 3, 4)
    ):
        raise ImageError(
            f"the {what}'s shape is {shape}; it must be H×W, or H×W×C with 1 to 4 channels, "
            'one image at a time, channels last for layout="hwc", first for "chw"; '
            f'this is "{layout}"'
        )
    if array.size == 0:
        raise ImageError(f"the {what} has no pixels (shape {shape})")
    if array.dtype.kind == "f" and not raw:
        _check_floats(array, what=what)  # before rounding: 1.00000001 is outside, too
    double = not raw and array.dtype.newbyteorder("=") == np.float64
    native = np.asarray(array).astype(
        np.float32 if double else array.dtype.newbyteorder("="), copy=False
    )
    flat = native.ndim == 2
    hwc = np.atleast_3d(native)
    return hwc, ImageKind(
        channels=hwc.shape[2], dtype=hwc.dtype, flat=flat, double=double, layout=layout
    )


def _check_floats(array: Pixels, *, what: str) -> None:
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise ImageError(
            f"the {what} holds NaN or infinite values; replace them first, for example with "
            "nan_to_num"
        )
    if low < 0 or high > 1:
        raise ImageError(
            f"the {what}'s values run from {low:g} to {high:g}; images of floats are in [0, 1]: "
            "divide by the white level, or clip them"
        )


def _cmyk_to_srgb(image: Image.Image) -> Image.Image:
    """Convert through the image's own profile if usable, otherwise by Pillow's formula."""
    if profile := image.info.get("icc_profile"):
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):
            inks = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(
                image, inks, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            if converted is not None:
                return converted
    return image.convert("RGB")
