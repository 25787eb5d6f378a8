"""Draws for the tabs of the page: a crop that follows their controls, the whole photo, a restored
one.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from srflow_apps.demo.live import LivePhoto
from srflow_apps.demo.sessions import Session
from srflow_sdk._checks import real, whole
from srflow_sdk.drawing.options import DrawOptions
from srflow_sdk.errors import ArgumentError, CancelledError, ImageError
from srflow_sdk.files import WriteOptions, open_image
from srflow_sdk.model.model_choice import BY_PICTURE, ModelChoice
from srflow_sdk.system import libvips
from srflow_sdk.upscaler import Upscaler

SAMPLES = 8
FORMATS = ("png", "jpg", "webp", "tif")

_MAX_SEED = 2**32 - 1  # which a number field of a page holds exactly
_MAX_SIDE = 512  # of the crop's enlargement: it is encoded at once
_FARTHEST = 1 << 31  # pixels from the photo's corner
_OVERVIEW_SIDE = 448
_THUMBNAIL_SIDE = 176
_PREVIEW_SIDE = 2048

Message = Mapping[str, Any]
"""A page's message, decoded from JSON. What its controls cannot say is an ArgumentError."""


def read_options(message: Message) -> DrawOptions:
    """Temperature, seed and sample of the tab "Enlarge"."""
    return DrawOptions(
        tau="auto" if message.get("auto") is True else real("the temperature", message.get("tau")),
        seed=whole("the seed", message.get("seed"), least=0, most=_MAX_SEED),
        sample=whole("the sample", message.get("sample"), least=0, most=SAMPLES - 1),
    )


def read_crop(message: Message) -> tuple[int, tuple[int, int] | None]:
    """The side of the crop's enlargement in pixels, and its left and top in the photo; None: the
    middle.
    """
    side = whole("the crop's side", message.get("side"), least=1, most=_MAX_SIDE)
    place = message.get("left"), message.get("top")
    if place == (None, None):
        return side, None
    left, top = (whole("the crop's place", one, least=-_FARTHEST, most=_FARTHEST) for one in place)
    return side, (left, top)


def read_choice(message: Message, name: str, choices: tuple[str, ...]) -> Any:
    """One of a control's choices."""
    value = message.get(name)
    if value not in choices:
        raise ArgumentError(f"{name} is one of {', '.join(choices)}; load the page again")
    return value


class Tabs:
    """The tabs' functions, each for the session of the page that calls it."""

    def __init__(self, upscaler: Upscaler, *, max_pixels: int) -> None:
        self._upscaler = upscaler
        self._engine = upscaler.engine
        self._max_pixels = max_pixels

    def take(self, session: Session, tab: str, path: Path) -> dict[str, Any]:
        """Use a picture from now on; of the tab "Enlarge", tell its size, and show it reduced.
        Raises: ImageError.
        """
        session.put(tab, path)
        try:
            if tab == "restore":
                with open_image(path, max_pixels=self._max_pixels):
                    return {}
            session.suits = self._engine.choose(path, max_pixels=self._max_pixels)
            photo = session.photo = self._open_photo(session.suits, path)
            image = encode_as_url(reduce_picture(path, most=_OVERVIEW_SIDE)[0])
            return {"image": image, "width": photo.width, "height": photo.height}
        except BaseException:
            session.put(tab, None)
            raise

    def show(self, session: Session, message: Message) -> dict[str, Any]:
        """Draw the crop as the controls say: the sample, its name and place, the photo there, and
        what draws it.

        The photo is left out if the page says that it shows this place of it already.
        """
        options = read_options(message)
        photo = self._show_crop(session, message)
        after = photo.draw(options)
        crop = photo.crop
        manifest = self._engine.bundles[photo.model].manifest
        shown = {
            "after": encode_as_url(after),
            "name": _describe(options),
            "place": {
                "left": crop.left,
                "top": crop.top,
                "across": crop.width,
                "down": crop.height,
            },
            "model": photo.model,
            "scale": manifest.scale,
            "tau": manifest.default_tau,
            "why": self._choose(session, message).why,
        }
        if message.get("shows") != shown["place"]:
            shown["before"] = encode_as_url(photo.enlarge_bicubic())
        return shown

    def samples(
        self, session: Session, message: Message, cancel: threading.Event
    ) -> dict[str, Any] | None:
        """Draw eight samples of the crop: the part where they differ most; their spread in colours,
        and its scale.

        That is the width of calibrated intervals at the model's default temperature, the deviation
        at others. None if `cancel` is set meanwhile.
        """
        options = dataclasses.replace(read_options(message), sample=0, cancel=cancel)
        try:
            photo = self._show_crop(session, message, cancel=cancel)
            drawn, std = photo.samples(SAMPLES, options)
        except CancelledError:
            return None
        spread = std.mean(axis=2)
        top, left = find_busiest(spread, _THUMBNAIL_SIDE)
        manifest = self._engine.bundles[photo.model].manifest
        words = "the samples agree. Light yellow: they deviate by"
        if manifest.intervals is not None and options.tau == DrawOptions().tau_for(manifest):
            spread = np.minimum(2 * manifest.intervals.band(SAMPLES, 0.9)(std), 1).mean(axis=2)
            words = (
                "the model is sure. Light yellow: 90 % of such photographs' values lie within "
                "intervals as wide as"
            )
        brightest = float(np.quantile(spread, 0.995))
        parts = [
            picture[top : top + _THUMBNAIL_SIDE, left : left + _THUMBNAIL_SIDE] for picture in drawn
        ]
        return {
            "images": [encode_as_url(part) for part in parts],
            "spread": encode_as_url(colour_deviation(spread, brightest=brightest)),
            "scale": f"Black: {words} {255 * brightest:.1f} of 255, or more.",
        }

    def begin(self, session: Session, tab: str, message: Message, turn: ThreadPoolExecutor) -> None:
        """Begin the work that writes a tab's file and returns what the viewer shows of it. turn: as
        of a Job.
        """
        source = _find_picture(session, tab)
        make: Callable[..., Any]
        if tab == "enlarge":
            options = read_options(message)
            choice = self._choose(session, message)
            ending = f"x{self._engine.bundles[choice.name].manifest.scale}"
            names = ("the whole photo", _describe(options))
            make = functools.partial(self._enlarge, choice, options)
        else:
            ending = "restored"
            names = ("noisy", "restored")
            over = read_choice(message, "over", ("auto", "spatial", "local"))
            make = functools.partial(
                self._upscaler.restore_file, max_pixels=self._max_pixels, over=over
            )
        format = read_choice(message, "format", FORMATS)
        target = session.new_file(f"{source.stem}_{ending}.{format}")

        def write(progress: Callable[[int, int], None], cancel: threading.Event) -> dict[str, Any]:
            make(source, target, progress=progress, cancel=cancel)
            return _compare(source, target, names)

        session.begin(tab, target, write, turn=turn)

    def _enlarge(
        self, choice: ModelChoice, options: DrawOptions, source: Path, target: Path, **watched: Any
    ) -> None:
        draw = dataclasses.replace(options, **watched)
        writing = WriteOptions(max_pixels=self._max_pixels)
        self._engine.upscale_file(choice, source, [target], draw, writing)

    def _open_photo(self, choice: ModelChoice, path: Path) -> LivePhoto:
        painter, _ = self._engine.open_painters(choice)
        return LivePhoto(painter, path, max_pixels=self._max_pixels)

    def _show_crop(
        self, session: Session, message: Message, *, cancel: threading.Event | None = None
    ) -> LivePhoto:
        """The photo, with the crop that the page asks for encoded by the model that it asks for."""
        path = _find_picture(session, "enlarge")
        choice = self._choose(session, message)
        side, place = read_crop(message)
        photo = session.photo
        if photo is None or photo.model != choice.name:
            photo = session.photo = self._open_photo(choice, path)
        photo.show(
            side=max(1, side // self._engine.bundles[choice.name].manifest.scale),
            place=place,
            cancel=cancel,
        )
        return photo

    def _choose(self, session: Session, message: Message) -> ModelChoice:
        """The model that the page asks for."""
        name = read_choice(
            {"model": BY_PICTURE, **message}, "model", (BY_PICTURE, *self._engine.bundles)
        )
        suits = session.suits
        return (
            suits
            if suits and name in (BY_PICTURE, suits.name)
            else ModelChoice(name=str(name), why="")
        )


def encode_as_url(picture: NDArray[np.uint8]) -> str:
    """An H×W×C picture as a PNG within a URL: nothing is written to disk. Compressed lightly: 5 ms
    for 256×256.
    """
    file = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).save(
        file, "PNG", compress_level=1
    )
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def colour_deviation(deviation: NDArray[np.float32], *, brightest: float) -> NDArray[np.uint8]:
    """A deviation, H×W in [0, 1], as colours: black is 0, light yellow is `brightest` and above."""
    shades = np.rint(np.clip(deviation / max(brightest, 1e-9), 0, 1) * 255).astype(np.uint8)
    return np.asarray(
        ImageOps.colorize(Image.fromarray(shades), black="#000004", mid="#bb3754", white="#fcffa4")
    )


def find_busiest(values: NDArray[np.float32], side: int) -> tuple[int, int]:
    """Top and left of the square of this side around the block, half as wide, whose mean of
    `values`, H×W, is largest; it is cut to what is there.
    """
    step = side // 2
    means = np.asarray(Image.fromarray(values).reduce(step))
    places = zip(np.unravel_index(means.argmax(), means.shape), values.shape, strict=True)
    top, left = (
        max(min(int(block) * step - step // 2, whole - side), 0) for block, whole in places
    )
    return top, left


def reduce_picture(path: Path, *, most: int) -> tuple[NDArray[np.uint8], int]:
    """A picture file in 8-bit sRGB, H×W×C, reduced to `most` pixels of its longer side; and the
    file's own width.

    Its size has been checked, or it is the model's, and as many times as large as what was. Raises:
    ImageError.
    """
    try:
        with open_image(path, max_pixels=sys.maxsize) as reader:
            return reader.reduced(most), reader.width
    except libvips.pyvips().Error as error:
        raise ImageError(
            f"{path} cannot be used: {libvips.reason(error)}; try another file"
        ) from error


def _describe(options: DrawOptions) -> str:
    """Of the picture that they draw, in words."""
    tau = options.tau if options.tau == "auto" else f"{options.tau:g}"
    return f"τ {tau}, seed {options.seed}, sample {options.sample}"


def _find_picture(session: Session, tab: str) -> Path:
    """The picture that the page sent for a tab. Raises: ArgumentError if it did not."""
    if tab not in session.pictures:
        raise ArgumentError("there is no photo yet; choose one first")
    return session.pictures[tab]


def _compare(before: Path, after: Path, names: tuple[str, str]) -> dict[str, Any]:
    """Two files as the viewer shows them, and the width of the second."""
    old, _ = reduce_picture(before, most=_PREVIEW_SIDE)
    new, width = reduce_picture(after, most=_PREVIEW_SIDE)
    note = (
        f"Shown reduced to {_PREVIEW_SIDE} pixels; the file is whole."
        if width > new.shape[1]
        else ""
    )
    shown = {
        "before": encode_as_url(old),
        "after": encode_as_url(new),
        "note": note,
        "width": width,
    }
    return {**shown, "names": dict(zip(("before", "after"), names, strict=True))}
