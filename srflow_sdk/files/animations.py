"""Animations in files, GIF, WebP and PNG: read, and written as the same kind, by Pillow.

All frames of a GIF that is written have one palette, of the source's colours, without dithering:
with palettes of their own, or with dots that mix colours, places that stand still would flicker.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.GifImagePlugin import GifImageFile
from PIL.PngImagePlugin import PngImageFile, PngInfo
from PIL.WebPImagePlugin import WebPImageFile

from srflow_sdk.errors import ImageError
from srflow_sdk.files.formats import WriteOptions
from srflow_sdk.files.provenance import Provenance, add_provenance
from srflow_sdk.pixels.in_memory import PILLOW_ERRORS
from srflow_sdk.system.local_files import open_regular, replacing, writing_errors

_READERS: dict[bytes, Any] = {
    b"GIF8": GifImageFile,
    b"RIFF": WebPImageFile,
    b"\x89PNG": PngImageFile,
}
_HIDDEN = 255  # the place of what is transparent in a GIF's palette; the colours are before it
_SEEN = 50_000  # pixels that a palette is chosen for


@dataclass(frozen=True)
class Animation:
    """An animation in a file. kind, info: as Pillow has them. count: of its frames."""

    path: Path
    kind: str
    width: int
    height: int
    count: int
    info: Mapping[Any, Any]

    @classmethod
    def in_file(cls, path: Path) -> Animation | None:
        """The animation in a file; None if that holds one picture, or cannot be read."""
        with contextlib.suppress(*PILLOW_ERRORS), _open_by_pillow(path) as picture:
            if (count := getattr(picture, "n_frames", 1)) > 1:
                return cls(path, str(picture.format), *picture.size, count, picture.info)
        return None

    @property
    def ending(self) -> str:
        """The ending of names of such files."""
        return f".{self.kind.lower()}"

    def frames(self) -> Iterator[tuple[NDArray[np.uint8], float]]:
        """Each frame, H×W×4, and for how many milliseconds it is shown. Raises: ImageError."""
        try:
            with _open_by_pillow(self.path) as picture:
                for number in range(self.count):
                    picture.seek(number)
                    yield np.asarray(picture.convert("RGBA")), picture.info.get("duration", 0)
        except PILLOW_ERRORS as error:
            why = f"the animation is damaged ({error}); copy or download it again"
            raise ImageError(f"{self.path}: {why}") from error

    def write(
        self,
        target: Path,
        frames: Sequence[Image.Image],
        *,
        made: Provenance,
        options: WriteOptions,
    ) -> None:
        """Write other frames, RGBA, as this animation is.

        Whole or not at all. Raises: ImageError.
        """
        packet = add_provenance(None, made)
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", packet.decode())
        has_still = self.info.get("default_image", False)  # it is shown where animations are not
        if self.kind == "GIF":
            frames = self._in_palette(frames)
        with (
            writing_errors(target),
            replacing(target) as descriptor,
            os.fdopen(os.dup(descriptor), "wb") as file,
        ):
            frames[0].save(
                file,
                self.kind,
                save_all=True,
                append_images=frames[1:],
                duration=[shown_ms for _, shown_ms in self.frames()][has_still:],
                loop=self.info.get("loop"),  # None in a GIF that is shown once
                default_image=has_still,
                icc_profile=self.info.get("icc_profile"),
                quality=options.quality or 95,
                lossless=options.lossless,
                comment=packet,  # of a GIF
                xmp=packet,  # of a WebP
                pnginfo=text,
            )

    def _in_palette(self, frames: Sequence[Image.Image]) -> list[Image.Image]:
        """The frames as those of a GIF; what is more than half transparent is so whole."""
        step = 1 + self.width * self.height * self.count // _SEEN
        colours = np.concatenate([rgba[rgba[..., 3] > 0][::step, :3] for rgba, _ in self.frames()])
        palette = Image.fromarray(colours[None]).quantize(_HIDDEN, kmeans=1)
        reduced = []
        for frame in frames:
            one = frame.convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
            one.paste(_HIDDEN, mask=Image.fromarray(np.asarray(frame)[..., 3] < 128))
            one.info["transparency"] = _HIDDEN
            reduced.append(one)
        return reduced


@contextlib.contextmanager
def _open_by_pillow(path: Path) -> Iterator[Image.Image]:
    """A file by Pillow, without its limit of pixels.

    Raises: PILLOW_ERRORS, for other kinds, too.
    """
    with open_regular(path) as file:
        reader = _READERS[file.read(4)]
        file.seek(0)
        yield reader(file, str(path))
