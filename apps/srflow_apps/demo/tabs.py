"""The tabs of the page, and their controls: a crop that follows them, the whole photo, restoring, transferring."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from srflow_apps.demo import page_pictures
from srflow_apps.demo.live import LivePhoto
from srflow_apps.demo.sessions import Session, Sessions, Work, delete_file
from srflow_sdk._checks import real, whole
from srflow_sdk.drawing.options import DrawOptions
from srflow_sdk.errors import ArgumentError, CancelledError
from srflow_sdk.model.model_choice import BY_PICTURE, choose_model
from srflow_sdk.upscaler import Upscaler

MAX_SEED = 2**32 - 1  # which a number field of a page holds exactly
MAX_SIDE = 512  # of the crop's enlargement: it is encoded at once
SAMPLES = 8
FORMATS = ("png", "jpg", "webp", "tif")

_FARTHEST = 1 << 31  # pixels from the photo's corner

Said = Mapping[str, Any]
"""A page's message, decoded from JSON."""


def seed_of(said: Said) -> int:
    """The page's seed. Raises: ArgumentError if it is none."""
    return whole("the seed", said.get("seed"), least=0, most=MAX_SEED)


def tau_of(said: Said) -> float:
    """The page's temperature; the SDK checks its range. Raises: ArgumentError if it is no number."""
    return real("the temperature", said.get("tau"))


def format_of(said: Said) -> str:
    """The ending of the file that the page wants. Raises: ArgumentError if it is none of :data:`FORMATS`."""
    return choice_of(said, "format", FORMATS)


def choice_of(said: Said, name: str, choices: tuple[str, ...]) -> str:
    """One of a control's choices. Raises: ArgumentError if it is none of them."""
    value = said.get(name)
    if value not in choices:
        raise ArgumentError(f"{name} is one of {', '.join(choices)}; load the page again")
    return str(value)


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Those of the tab "Enlarge".

    side: of the crop's enlargement, in pixels. place: left and top of the crop in the photo; None: the most
    detailed. model: its name, or "auto".
    """

    tau: float | Literal["auto"]
    seed: int
    side: int
    sample: int
    place: tuple[int, int] | None
    model: str

    @classmethod
    def of(cls, said: Said) -> Controls:
        """Check what the page sent. Raises: ArgumentError."""
        place = said.get("left"), said.get("top")
        return cls(
            tau="auto" if said.get("auto") is True else tau_of(said),
            seed=seed_of(said),
            side=whole("the crop's side", said.get("side"), least=1, most=MAX_SIDE),
            sample=whole("the sample", said.get("sample"), least=0, most=SAMPLES - 1),
            place=None if place == (None, None) else (_coordinate(place[0]), _coordinate(place[1])),
            model=str(said.get("model", BY_PICTURE)),
        )

    @property
    def name(self) -> str:
        """Of the picture that they draw, in words."""
        tau = self.tau if self.tau == "auto" else f"{self.tau:g}"
        return f"τ {tau}, seed {self.seed}, sample {self.sample}"


def _coordinate(value: object) -> int:
    return whole("the crop's place", value, least=-_FARTHEST, most=_FARTHEST)


_OVERVIEW_SIDE = 448
_THUMBNAIL_SIDE = 176
_PREVIEW_SIDE = 1024


class Tabs:
    """The tabs' functions, each for the session of the page that calls it."""

    def __init__(self, upscaler: Upscaler, sessions: Sessions, *, max_pixels: int) -> None:
        self._upscaler = upscaler
        self._sessions = sessions
        self._max_pixels = max_pixels

    def open(self, session: Session, path: Path) -> dict[str, Any]:
        """Show a photo from now on: its size, and itself reduced. Raises: ImageError."""
        with session.lock:
            suits = choose_model(path, among=self._upscaler._bundles.values(), max_pixels=self._max_pixels)
            photo = LivePhoto(self._upscaler._only(suits.name), path, max_pixels=self._max_pixels)
            small = page_pictures.data_url(page_pictures.preview(path, most=_OVERVIEW_SIDE)[0])
            session.photo, session.suits = photo, suits
            self._sessions.shows(session)
            return {"image": small, "width": photo.width, "height": photo.height}

    def show(self, session: Session, said: Said) -> dict[str, Any]:
        """Draw the crop as the controls say: the sample, its name, its place, and the photo there.

        The photo is left out if the page says that it shows this place of it already.
        """
        controls = Controls.of(said)
        with session.lock:
            photo = self._shown(session, controls)
            after = photo.draw(tau=controls.tau, seed=controls.seed, sample=controls.sample)
            crop = photo.crop
            across, down = min(crop.width, photo.width), min(crop.height, photo.height)
            place = {"left": crop.left, "top": crop.top, "across": across, "down": down}
            shown = {
                "after": page_pictures.data_url(after),
                "name": controls.name,
                "place": place,
                **self._model_of(session, photo.model),
            }
            if said.get("shows") != place:
                shown["before"] = page_pictures.data_url(photo.bicubic())
            return shown

    def samples(self, session: Session, said: Said, cancel: threading.Event) -> dict[str, Any] | None:
        """Draw eight samples of the crop: the part where they differ most; their spread in colours, and its scale.

        That is the width of calibrated intervals at the model's default temperature, the deviation at others. None if
        `cancel` is set meanwhile.
        """
        controls = Controls.of(said)
        try:
            with session.lock:
                photo = self._shown(session, controls, cancel=cancel)
                drawn, std = photo.samples(SAMPLES, tau=controls.tau, seed=controls.seed, cancel=cancel)
        except CancelledError:
            return None
        spread = std.mean(axis=2)
        top, left = page_pictures.busiest(spread, _THUMBNAIL_SIDE, _THUMBNAIL_SIDE)
        manifest = self._upscaler._bundles[photo.model].manifest
        words = "the samples agree. Light yellow: they deviate by"
        if manifest.intervals is not None and controls.tau == DrawOptions().tau_for(manifest):
            spread = np.minimum(2 * manifest.intervals.band(SAMPLES, 0.9)(std), 1).mean(axis=2)
            words = "the model is sure. Light yellow: 90 % of such photographs' values lie within intervals as wide as"
        brightest = float(np.quantile(spread, 0.995))
        parts = [picture[top : top + _THUMBNAIL_SIDE, left : left + _THUMBNAIL_SIDE] for picture in drawn]
        return {
            "images": [page_pictures.data_url(part) for part in parts],
            "spread": page_pictures.data_url(page_pictures.heat(spread, brightest=brightest)),
            "scale": f"Black: {words} {255 * brightest:.1f} of 255, or more.",
        }

    def render(self, session: Session, said: Said) -> tuple[Path, Work]:
        """The file of the whole photo, and the work that writes it as srflow-upscale does and returns the viewer's."""
        source = session.pictures.get("enlarge")
        if source is None:
            raise ArgumentError("there is no photo yet; choose one first")
        controls = Controls.of(said)
        upscaler = self._upscaler._only(self._named(session, controls))
        target = session.new_file(f"{source.stem}_x{upscaler.scale}.{format_of(said)}")

        def write(told: Any, cancel: threading.Event) -> dict[str, Any]:
            upscaler.upscale_file(
                source,
                target,
                tau=controls.tau,
                seed=controls.seed,
                sample=controls.sample,
                max_pixels=self._max_pixels,
                progress=told,
                cancel=cancel,
            )
            return _compared(source, target, "the whole photo", controls.name)

        return target, write

    def _shown(self, session: Session, controls: Controls, *, cancel: threading.Event | None = None) -> LivePhoto:
        if (path := session.pictures.get("enlarge")) is None or session.suits is None:
            raise ArgumentError("there is no photo yet; choose one first")
        photo, name = session.photo, self._named(session, controls)
        if photo is None or photo.model != name:
            photo = session.photo = LivePhoto(self._upscaler._only(name), path, max_pixels=self._max_pixels)
        self._sessions.shows(session)
        side = max(1, controls.side // self._upscaler._bundles[name].manifest.scale)
        left, top = controls.place or photo.most_detailed(side)
        photo.show(left=left, top=top, side=side, cancel=cancel)
        return photo

    def _named(self, session: Session, controls: Controls) -> str:
        """The model that the page asks for. Raises: ArgumentError if it has no such model."""
        assert session.suits is not None  # for the type checker: a page with a photo has it
        name = session.suits.name if controls.model == BY_PICTURE else controls.model
        if name not in self._upscaler._bundles:
            raise ArgumentError(
                f"model is one of {BY_PICTURE}, {', '.join(self._upscaler._bundles)}; load the page again"
            )
        return name

    def _model_of(self, session: Session, name: str) -> dict[str, Any]:
        """Tell of the model that draws: its name, scale and temperature, and why it suits the photo, if it does."""
        why = session.suits.why if session.suits is not None and session.suits.name == name else ""
        manifest = self._upscaler._bundles[name].manifest
        return {"model": name, "scale": manifest.scale, "why": why, "tau": manifest.default_tau}

    def check(self, path: Path) -> None:
        """Refuse a picture that cannot be used. Raises: ImageError."""
        page_pictures.size_of(path, max_pixels=self._max_pixels)

    def restore(self, session: Session, said: Said) -> tuple[Path, Work]:
        """The file of a restored picture, and the work that writes it and returns what the viewer shows."""
        source = session.pictures.get("restore")
        if source is None:
            raise ArgumentError("there is no picture yet; choose one first")
        over: Any = choice_of(said, "over", ("auto", "spatial", "local"))
        tau = tau_of(said) if said.get("choose") is True else None
        target = session.new_file(f"{source.stem}_restored.{format_of(said)}")

        def write(told: Any, cancel: threading.Event) -> dict[str, Any]:
            self._upscaler.restore_file(
                source, target, over=over, tau=tau, max_pixels=self._max_pixels, progress=told, cancel=cancel
            )
            return _compared(source, target, "noisy", "restored")

        return target, write

    def show_pictures(self, session: Session) -> dict[str, str]:
        """Both pictures of a transfer to draw the mask on, the other in the photo's size. Nothing if one is absent."""
        with session.lock:
            photo, other = session.pictures.get("photo"), session.pictures.get("other")
            if photo is None or other is None:
                return {}
            with self._fitting(session, photo, other) as content:
                shown = {"photo": photo, "other": content}
                return {
                    n: page_pictures.data_url(page_pictures.preview(p, most=_PREVIEW_SIDE)[0]) for n, p in shown.items()
                }

    def transfer(self, session: Session, said: Said) -> tuple[Path, Work]:
        """The file of a transfer of what the mask selects, and the work that writes it and returns the viewer's."""
        photo, other, mask = (session.pictures.get(name) for name in ("photo", "other", "mask"))
        if photo is None or other is None:
            raise ArgumentError("a transfer needs a photo and another picture; choose both first")
        drawn = None if mask is None else page_pictures.mask_from(mask)
        if drawn is None:
            raise ArgumentError("the mask is empty; paint over what the other picture is to give")
        seed, blend = seed_of(said), choice_of(said, "blend", ("gradient", "none"))
        target = session.new_file(f"{photo.stem}_transferred.{format_of(said)}")

        def write(told: Any, cancel: threading.Event) -> dict[str, Any]:
            with self._fitting(session, photo, other) as content, _new_file(session, "mask.png") as selection:
                drawn.resize(page_pictures.size_of(photo, max_pixels=self._max_pixels)).save(selection)
                self._upscaler.transfer_file(
                    photo,
                    content,
                    selection,
                    target,
                    blend=blend,  # type: ignore[arg-type]  # checked above
                    seed=seed,
                    max_pixels=self._max_pixels,
                    progress=told,
                    cancel=cancel,
                )
            return _compared(photo, target, "photo", "with the content")

        return target, write

    @contextlib.contextmanager
    def _fitting(self, session: Session, photo: Path, other: Path) -> Iterator[Path]:
        """The other picture, or for a while a file with its middle brought to the photo's size if it has another."""
        width, height = page_pictures.size_of(photo, max_pixels=self._max_pixels)
        has = page_pictures.size_of(other, max_pixels=self._max_pixels)
        if has == (width, height):
            yield other
            return
        enlarged = max(width / has[0], height / has[1])
        if has[0] * has[1] * enlarged**2 > self._max_pixels:  # before its middle is cut out
            raise ArgumentError(
                f"{other.name} ({has[0]}×{has[1]}) has too different a shape from {photo.name} ({width}×{height}); "
                "crop it to about the same shape first"
            )
        with _new_file(session, f"{other.stem}_fitted.png") as target:
            page_pictures.fitted(other, target, width=width, height=height)
            yield target


@contextlib.contextmanager
def _new_file(session: Session, name: str) -> Iterator[Path]:
    """A file's path for a while; then it is deleted."""
    path = session.new_file(name)
    try:
        yield path
    finally:
        delete_file(path)


def _compared(before: Path, after: Path, *names: str) -> dict[str, Any]:
    """Two files as the viewer shows them, and the width of the second."""
    old, _ = page_pictures.preview(before, most=2 * _PREVIEW_SIDE)
    new, width = page_pictures.preview(after, most=2 * _PREVIEW_SIDE)
    note = f"Shown reduced to {2 * _PREVIEW_SIDE} pixels; the file is whole." if width > new.shape[1] else ""
    shown = {"before": page_pictures.data_url(old), "after": page_pictures.data_url(new), "note": note, "width": width}
    return {**shown, "names": dict(zip(("before", "after"), names, strict=True))}
