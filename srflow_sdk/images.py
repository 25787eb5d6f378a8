"""In-memory images: PIL and numpy in, float32 RGB for the network, and the same kind of image back out.

Channel values are what the image holds, with its own colour profile; nothing is converted to another colour space
except modes that the network cannot see (palette, CMYK, YCbCr, HSV), which become RGB.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk.errors import ImageError

InMemoryImage = Image.Image | NDArray[Any]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's own conversion to mode L
_DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))
_AS_THEY_ARE = ("RGB", "RGBA", "L", "LA")
_CONVERTED = {"RGBX": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "RGBa": "RGBA", "La": "LA", "PA": "RGBA"}
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_OTHER_COLOURS = ("CMYK", "YCbCr", "HSV")


@dataclass(frozen=True, kw_only=True)
class ImageKind:
    """What an image is apart from its colours' values: enough to give the same kind of image back, larger.

    pil_mode: mode of a PIL image; None for arrays. info: metadata that a PIL image keeps (colour profile, EXIF).
    dtype: uint8, uint16 or float32. gray: one luminance channel. flat: a gray array without a channel axis.
    alpha: H×W of the dtype, or None.
    """

    pil_mode: str | None
    dtype: np.dtype[Any]
    gray: bool
    flat: bool = False
    alpha: NDArray[Any] | None = None
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Colour channels, without alpha: 1 or 3."""
        return 1 if self.gray else 3

    def quantised(self, rgb: NDArray[np.float32]) -> NDArray[Any]:
        """Network output, float32 3×h×w, as pixels of this kind: h×w×channels, clipped, rounded to the dtype."""
        hwc = rgb.transpose(1, 2, 0)
        if self.gray:
            hwc = (hwc @ _LUMA)[..., None]
        return _from_unit(np.clip(hwc, 0.0, 1.0), self.dtype)

    def finished(self, pixels: NDArray[Any], scale: int) -> InMemoryImage:
        """The image of this kind from its upscaled colour pixels, H×W×channels: alpha upscaled and joined on."""
        if self.alpha is not None:
            pixels = np.concatenate([pixels, upscale_alpha(self.alpha, scale)[..., None]], axis=2)
        if self.pil_mode is None:
            return pixels[..., 0] if self.flat else pixels
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        image.info.update(self.info)
        return image


def to_network(image: InMemoryImage) -> tuple[NDArray[np.float32], ImageKind]:
    """Colours for the network, float32 H×W×3 in [0, 1], and the image's kind. The image is not changed.

    image: a PIL image (the current frame; palette, CMYK, YCbCr and HSV come back as RGB, bilevel as L, a transparent
    palette as RGBA, 16-bit gray as I;16), or an array H×W, H×W×1 (gray), H×W×2 (gray, alpha), H×W×3 (RGB) or H×W×4
    (RGB, alpha) of uint8, uint16 (full range) or float32 in [0, 1].

    Raises: ImageError for other types, modes, dtypes and shapes, NaN or infinite values, floats outside [0, 1], and
    PIL images whose file is damaged.
    """
    if isinstance(image, Image.Image):
        return _from_pil(image)
    if isinstance(image, np.ndarray):
        return _from_array(image)
    raise ImageError(f"an image is a PIL.Image, a numpy array or a path, not {type(image).__name__}")


def upscale_alpha(alpha: NDArray[Any], scale: int) -> NDArray[Any]:
    """Alpha, H×W, enlarged by bicubic interpolation in its own dtype; a constant stays exactly that constant."""
    height, width = alpha.shape
    if alpha.min() == alpha.max():
        return np.full((height * scale, width * scale), alpha[0, 0], alpha.dtype)
    plane = Image.fromarray(_to_unit(alpha)).resize((width * scale, height * scale), Image.Resampling.BICUBIC)
    return _from_unit(np.clip(np.asarray(plane), 0.0, 1.0), alpha.dtype)


def _from_pil(image: Image.Image) -> tuple[NDArray[np.float32], ImageKind]:
    if image.width < 1 or image.height < 1:
        raise ImageError(f"the image has no pixels ({image.width}×{image.height})")
    try:
        image.load()
        converted = _in_known_mode(image)
    except (OSError, SyntaxError) as error:
        raise ImageError(f"the image's pixels cannot be read: {error}; its file is damaged or incomplete") from error
    kept = ("exif",) if image.mode in _OTHER_COLOURS else ("exif", "icc_profile")
    info = {name: image.info[name] for name in kept if name in image.info}
    return _split(np.asarray(converted), pil_mode=converted.mode, info=info)


def _in_known_mode(image: Image.Image) -> Image.Image:
    mode, transparent = image.mode, "transparency" in image.info
    if mode in ("1", "L"):
        return image.convert("LA" if transparent else "L")
    if mode in ("P", "RGB"):
        return image.convert("RGBA" if transparent or _palette_is_transparent(image) else "RGB")
    if mode in _AS_THEY_ARE:
        return image
    if mode in _CONVERTED:
        return image.convert(_CONVERTED[mode])
    if mode in _SIXTEEN_BIT or mode == "I":
        # Older versions of Pillow open 16-bit gray files as 32-bit integers.
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError('the image has mode "I" and values outside 0 … 65535; convert it to "I;16" or an array')
        return Image.fromarray(values.astype(np.uint16))
    raise ImageError(f'images of mode "{mode}" are not supported; convert it first: image.convert("RGB")')


def _from_array(array: NDArray[Any]) -> tuple[NDArray[np.float32], ImageKind]:
    if array.dtype.newbyteorder("=") not in _DTYPES:
        raise ImageError(f"the array's dtype is {array.dtype}; it must be uint8, uint16 or float32 (in [0, 1])")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise ImageError(
            f"the array's shape is {array.shape}; it must be H×W, H×W×1, H×W×2, H×W×3 or H×W×4, one image at a time, "
            "channels last"
        )
    if array.size == 0:
        raise ImageError(f"the array has no pixels (shape {array.shape})")
    if array.dtype == np.float32:
        _check_floats(array)
    return _split(array, pil_mode=None, info={})


def _check_floats(array: NDArray[np.float32]) -> None:
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise ImageError("the array holds NaN or infinite values; replace them first, for example with np.nan_to_num")
    if low < 0 or high > 1:
        raise ImageError(
            f"the array's values run from {low:g} to {high:g}; float32 images are in [0, 1]: divide by the white "
            "level, or np.clip them"
        )


def _split(array: NDArray[Any], *, pil_mode: str | None, info: dict[str, Any]) -> tuple[NDArray[np.float32], ImageKind]:
    """Colour for the network, and everything else."""
    flat = array.ndim == 2
    hwc = array[..., None] if flat else array
    has_alpha = hwc.shape[2] in (2, 4)
    colour = hwc[..., :-1] if has_alpha else hwc
    kind = ImageKind(
        pil_mode=pil_mode,
        dtype=np.dtype(array.dtype.newbyteorder("=")),
        gray=colour.shape[2] == 1,
        flat=flat,
        alpha=hwc[..., -1].astype(array.dtype.newbyteorder("=")) if has_alpha else None,
        info=info,
    )
    return np.repeat(_to_unit(colour), 3 // colour.shape[2], axis=2), kind


def _to_unit(values: NDArray[Any]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = values.astype(np.float32)
    if values.dtype != np.float32:
        unit /= np.float32(np.iinfo(values.dtype).max)
    return unit


def _from_unit(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype == np.float32:
        return values.astype(np.float32)
    rounded: NDArray[Any] = np.rint(values * np.float32(np.iinfo(dtype).max)).astype(dtype)
    return rounded


def _palette_is_transparent(image: Image.Image) -> bool:
    return image.mode == "P" and image.palette is not None and image.palette.mode == "RGBA"
