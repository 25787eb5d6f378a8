"""Draws for the tabs of the page: a crop that follows their controls, the whole photo, restoring, transferring."""

from __future__ import annotations

import dataclasses
import tempfile
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from srflow_apps.demo import page_pictures
from srflow_apps.demo.live import LivePhoto
from srflow_apps.demo.page_pictures import data_url, preview, size_of
from srflow_apps.demo.sessions import Session, Work
from srflow_sdk._checks import real, whole
from srflow_sdk.drawing.options import DrawOptions
from srflow_sdk.errors import ArgumentError, CancelledError
from srflow_sdk.model.model_choice import BY_PICTURE, ModelChoice, choose_model
from srflow_sdk.upscaler import Upscaler

SAMPLES = 8
FORMATS = ("png", "jpg", "webp", "tif")

_MAX_SEED = 2**32 - 1  # which a number field of a page holds exactly
_MAX_SIDE = 512  # of the crop's enlargement: it is encoded at once
_FARTHEST = 1 << 31  # pixels from the photo's corner
_OVERVIEW_SIDE = 448
_THUMBNAIL_SIDE = 176
_PREVIEW_SIDE = 1024

Said = Mapping[str, Any]
"""A page's message, decoded from JSON. What its controls cannot say is an ArgumentError."""


def draw_options(said: Said) -> DrawOptions:
    """Temperature, seed and sample of the tab "Enlarge"."""
    return DrawOptions(
        tau="auto" if said.get("auto") is True else real("the temperature", said.get("tau")),
        seed=_seed(said),
        sample=whole("the sample", said.get("sample"), least=0, most=SAMPLES - 1),
    )


def crop_of(said: Said) -> tuple[int, list[int] | None]:
    """The side of the crop's enlargement in pixels, and its left and top in the photo; None: the most detailed."""
    side = whole("the crop's side", said.get("side"), least=1, most=_MAX_SIDE)
    place = [said.get("left"), said.get("top")]
    if place == [None, None]:
        return side, None
    return side, [whole("the crop's place", one, least=-_FARTHEST, most=_FARTHEST) for one in place]


def choice_of(said: Said, name: str, choices: tuple[str, ...]) -> Any:
    """One of a control's choices."""
    value = said.get(name)
    if value not in choices:
        raise ArgumentError(f"{name} is one of {', '.join(choices)}; load the page again")
    return value


class Tabs:
    """The tabs' functions, each for the session of the page that calls it."""

    def __init__(self, upscaler: Upscaler, *, max_pixels: int) -> None:
        self._upscaler, self._bundles, self._max_pixels = upscaler, upscaler._bundles, max_pixels

    def take(self, session: Session, name: str, path: Path) -> dict[str, Any]:
        """Use a picture from now on; of the tab "Enlarge", tell its size, and show it reduced. Raises: ImageError."""
        session.put(name, path)
        try:
            if name == "enlarge":
                session.suits = choose_model(path, among=self._bundles.values(), max_pixels=self._max_pixels)
                photo = session.photo = self._opened(session.suits, path)
                image = data_url(preview(path, most=_OVERVIEW_SIDE)[0])
                return {"image": image, "width": photo.width, "height": photo.height}
            if name != "mask":
                size_of(path, max_pixels=self._max_pixels)
        except BaseException:
            session.put(name, None)
            raise
        return {}

    def show(self, session: Session, said: Said) -> dict[str, Any]:
        """Draw the crop as the controls say: the sample, its name and place, the photo there, and what draws it.

        The photo is left out if the page says that it shows this place of it already.
        """
        options = draw_options(said)
        photo = self._shown(session, said)
        after, crop, manifest = photo.draw(options), photo.crop, self._bundles[photo.model].manifest
        across, down = min(crop.width, photo.width), min(crop.height, photo.height)
        shown = {
            "after": data_url(after),
            "name": _name(options),
            "place": {"left": crop.left, "top": crop.top, "across": across, "down": down},
            "model": photo.model,
            "scale": manifest.scale,
            "tau": manifest.default_tau,
            "why": session.suits.why if session.suits and session.suits.name == photo.model else "",
        }
        if said.get("shows") != shown["place"]:
            shown["before"] = data_url(photo.bicubic())
        return shown

    def samples(self, session: Session, said: Said, cancel: threading.Event) -> dict[str, Any] | None:
        """Draw eight samples of the crop: the part where they differ most; their spread in colours, and its scale.

        That is the width of calibrated intervals at the model's default temperature, the deviation at others. None if
        `cancel` is set meanwhile.
        """
        options = dataclasses.replace(draw_options(said), sample=0, cancel=cancel)
        try:
            photo = self._shown(session, said, cancel=cancel)
            drawn, std = photo.samples(SAMPLES, options)
        except CancelledError:
            return None
        spread = std.mean(axis=2)
        top, left = page_pictures.busiest(spread, _THUMBNAIL_SIDE, _THUMBNAIL_SIDE)
        manifest = self._bundles[photo.model].manifest
        words = "the samples agree. Light yellow: they deviate by"
        if manifest.intervals is not None and options.tau == DrawOptions().tau_for(manifest):
            spread = np.minimum(2 * manifest.intervals.band(SAMPLES, 0.9)(std), 1).mean(axis=2)
            words = "the model is sure. Light yellow: 90 % of such photographs' values lie within intervals as wide as"
        brightest = float(np.quantile(spread, 0.995))
        parts = [picture[top : top + _THUMBNAIL_SIDE, left : left + _THUMBNAIL_SIDE] for picture in drawn]
        return {
            "images": [data_url(part) for part in parts],
            "spread": data_url(page_pictures.heat(spread, brightest=brightest)),
            "scale": f"Black: {words} {255 * brightest:.1f} of 255, or more.",
        }

    def begin(self, session: Session, tab: str, said: Said) -> tuple[Path, Work]:
        """The file that a tab makes, and the work that writes it and returns what the viewer shows of it."""
        parts = {"enlarge": self._enlarge, "restore": self._restore, "transfer": self._transfer}[tab](session, said)
        source, ending, names, make = parts
        target = session.new_file(f"{source.stem}_{ending}.{choice_of(said, 'format', FORMATS)}")

        def write(told: Callable[[int, int], None], cancel: threading.Event) -> dict[str, Any]:
            make(target, progress=told, cancel=cancel, max_pixels=self._max_pixels)
            return _compared(source, target, names)

        return target, write

    def show_pictures(self, session: Session) -> dict[str, str]:
        """Both pictures of a transfer to draw the mask on, the other in the photo's size. Nothing if one is absent."""
        if not {"photo", "other"} <= {*session.pictures}:
            return {}
        photo, other = session.pictures["photo"], session.pictures["other"]
        self._fitting_size(photo, other)
        small, _ = preview(photo, most=_PREVIEW_SIDE)
        content, _ = preview(other, most=small.shape[1], height=small.shape[0], size="both", crop="centre")
        return {"photo": data_url(small), "other": data_url(content)}

    def _enlarge(self, session: Session, said: Said) -> tuple[Path, str, tuple[str, str], Callable[..., Any]]:
        (source,) = _sent(session, "enlarge", words="there is no photo yet; choose one first")
        options, upscaler = draw_options(said), self._upscaler._only(self._named(session, said))
        how: dict[str, Any] = {"tau": options.tau, "seed": options.seed, "sample": options.sample}
        names = "the whole photo", _name(options)
        return source, f"x{upscaler.scale}", names, partial(upscaler.upscale_file, source, **how)

    def _restore(self, session: Session, said: Said) -> tuple[Path, str, tuple[str, str], Callable[..., Any]]:
        (source,) = _sent(session, "restore", words="there is no picture yet; choose one first")
        over = choice_of(said, "over", ("auto", "spatial", "local"))
        tau = real("the temperature", said.get("tau")) if said.get("choose") is True else None
        return (
            source,
            "restored",
            ("noisy", "restored"),
            partial(self._upscaler.restore_file, source, over=over, tau=tau),
        )

    def _transfer(self, session: Session, said: Said) -> tuple[Path, str, tuple[str, str], Callable[..., Any]]:
        words = "a transfer needs a photo and another picture; choose both first"
        photo, other = _sent(session, "photo", "other", words=words)
        mask = page_pictures.mask_from(session.pictures["mask"]) if "mask" in session.pictures else None
        if mask is None:
            raise ArgumentError("the mask is empty; paint over what the other picture is to give")
        seed, blend = _seed(said), choice_of(said, "blend", ("gradient", "none"))

        def make(target: Path, **how: Any) -> None:
            size, content = self._fitting_size(photo, other), other
            with tempfile.TemporaryDirectory(dir=session.folder) as folder:
                selection = Path(folder, "mask.png")
                mask.resize(size).save(selection)
                if size != size_of(other, max_pixels=self._max_pixels):
                    content = Path(folder, "other.png")
                    page_pictures.fitted(other, content, *size)
                self._upscaler.transfer_file(photo, content, selection, target, seed=seed, blend=blend, **how)

        return photo, "transferred", ("photo", "with the content"), make

    def _opened(self, choice: ModelChoice, path: Path) -> LivePhoto:
        return LivePhoto(self._upscaler._only(choice), path, max_pixels=self._max_pixels)

    def _shown(self, session: Session, said: Said, *, cancel: threading.Event | None = None) -> LivePhoto:
        """The photo, with the crop that the page asks for encoded by the model that it asks for."""
        (path,) = _sent(session, "enlarge", words="there is no photo yet; choose one first")
        photo, choice, (side, place) = session.photo, self._named(session, said), crop_of(said)
        if photo is None or photo.model != choice.name:
            photo = session.photo = self._opened(choice, path)
        side = max(1, side // self._bundles[choice.name].manifest.scale)
        left, top = place or photo.most_detailed(side)
        photo.show(left=left, top=top, side=side, cancel=cancel)
        return photo

    def _named(self, session: Session, said: Said) -> ModelChoice:
        """The model that the page asks for."""
        name = choice_of({"model": BY_PICTURE, **said}, "model", (BY_PICTURE, *self._bundles))
        suits = session.suits
        return suits if suits and name in (BY_PICTURE, suits.name) else ModelChoice(name=str(name), why="")

    def _fitting_size(self, photo: Path, other: Path) -> tuple[int, int]:
        """The photo's size, to which the other picture's middle is brought. Raises: ArgumentError if it is too far."""
        width, height = size_of(photo, max_pixels=self._max_pixels)
        has = size_of(other, max_pixels=self._max_pixels)
        if (
            has[0] * has[1] * max(width / has[0], height / has[1]) ** 2 > self._max_pixels
        ):  # before its middle is cut out
            raise ArgumentError(
                f"{other.name} ({has[0]}×{has[1]}) has too different a shape from {photo.name} ({width}×{height}); "
                "crop it to about the same shape first"
            )
        return width, height


def _seed(said: Said) -> int:
    return whole("the seed", said.get("seed"), least=0, most=_MAX_SEED)


def _name(options: DrawOptions) -> str:
    """Of the picture that they draw, in words."""
    tau = options.tau if options.tau == "auto" else f"{options.tau:g}"
    return f"τ {tau}, seed {options.seed}, sample {options.sample}"


def _sent(session: Session, *names: str, words: str) -> list[Path]:
    """The pictures of these names. Raises: ArgumentError with these words if the page did not send them all."""
    if not {*names} <= {*session.pictures}:
        raise ArgumentError(words)
    return [session.pictures[name] for name in names]


def _compared(before: Path, after: Path, names: tuple[str, str]) -> dict[str, Any]:
    """Two files as the viewer shows them, and the width of the second."""
    old, _ = preview(before, most=2 * _PREVIEW_SIDE)
    new, width = preview(after, most=2 * _PREVIEW_SIDE)
    note = f"Shown reduced to {2 * _PREVIEW_SIDE} pixels; the file is whole." if width > new.shape[1] else ""
    shown = {"before": data_url(old), "after": data_url(new), "note": note, "width": width}
    return {**shown, "names": dict(zip(("before", "after"), names, strict=True))}
