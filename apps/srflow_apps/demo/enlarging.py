"""The tab "Enlarge": a crop that follows its controls, eight samples, and the whole photo as a file."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from srflow_apps.demo import page_pictures
from srflow_apps.demo.controls import SAMPLES, Controls, Said, format_of
from srflow_apps.demo.live import LivePhoto
from srflow_apps.demo.sessions import Session, Sessions, Work
from srflow_sdk.drawing.tiles import Window
from srflow_sdk.errors import ArgumentError, CancelledError
from srflow_sdk.upscaler import Upscaler

_OVERVIEW_SIDE = 448
_THUMBNAIL_SIDE = 128


class Enlarging:
    """The tab's functions, each for the session of the page that calls it."""

    def __init__(self, upscaler: Upscaler, sessions: Sessions, *, max_pixels: int) -> None:
        self._upscaler = upscaler
        self._sessions = sessions
        self._max_pixels = max_pixels

    def open(self, session: Session, path: Path) -> dict[str, Any]:
        """Show a photo from now on: its size, and itself reduced. Raises: ImageError."""
        with session.lock:
            session.photo = None
            photo = LivePhoto(self._upscaler, path, max_pixels=self._max_pixels)
            small = page_pictures.data_url(page_pictures.preview(path, most=_OVERVIEW_SIDE)[0])
            session.photo = photo
            return {"image": small, "width": photo.width, "height": photo.height}

    def show(self, session: Session, said: Said) -> dict[str, Any]:
        """Draw the crop as the controls say: the sample, its name, its place, and the photo there.

        The photo is left out if the page says that it shows this place of it already.
        """
        controls = Controls.of(said)
        with session.lock:
            photo = self._shown(session, controls)
            after = photo.draw(tau=controls.tau, seed=controls.seed, sample=controls.sample)
            tau = controls.tau if controls.tau == "auto" else f"{controls.tau:g}"
            place = _place(photo.crop, photo)
            shown = {
                "after": page_pictures.data_url(after),
                "name": f"τ {tau}, seed {controls.seed}, sample {controls.sample}",
                "place": place,
            }
            if said.get("shows") != place:
                shown["before"] = page_pictures.data_url(photo.bicubic())
            return shown

    def samples(self, session: Session, said: Said, cancel: threading.Event) -> dict[str, Any] | None:
        """Draw eight samples of the crop: their middles, and their deviation in colours with its scale in words.

        None if `cancel` is set meanwhile.
        """
        controls = Controls.of(said)
        try:
            with session.lock:
                photo = self._shown(session, controls, cancel=cancel)
                drawn, std = photo.samples(SAMPLES, tau=controls.tau, seed=controls.seed, cancel=cancel)
        except CancelledError:
            return None
        spread = std.mean(axis=2)
        brightest = float(np.quantile(spread, 0.995))
        return {
            "images": [page_pictures.data_url(page_pictures.middle(picture, _THUMBNAIL_SIDE)) for picture in drawn],
            "spread": page_pictures.data_url(page_pictures.heat(spread, brightest=brightest)),
            "scale": f"Black: the samples agree. Light yellow: they deviate by {255 * brightest:.1f} of 255, or more.",
        }

    def render(self, session: Session, said: Said) -> tuple[Path, Work]:
        """The file of the whole photo, and the work that writes it, as srflow-upscale does."""
        source = session.picture("enlarge")
        if source is None:
            raise ArgumentError("there is no photo yet; choose one first")
        controls = Controls.of(said)
        target = session.new_file(f"{source.stem}_x{self._upscaler.scale}.{format_of(said)}")

        def write(told: Any, cancel: threading.Event) -> None:
            self._upscaler.upscale_file(
                source,
                target,
                tau=controls.tau,
                seed=controls.seed,
                sample=controls.sample,
                max_pixels=self._max_pixels,
                progress=told,
                cancel=cancel,
            )

        return target, write

    def _shown(self, session: Session, controls: Controls, *, cancel: threading.Event | None = None) -> LivePhoto:
        photo = session.photo
        if photo is None:
            raise ArgumentError("there is no photo yet; choose one first")
        side = max(1, controls.side // self._upscaler.scale)
        left, top = controls.place or ((photo.width - side) // 2, (photo.height - side) // 2)
        photo.show(left=left, top=top, side=side, cancel=cancel)
        self._sessions.release_excess(session)
        return photo


def _place(crop: Window, photo: LivePhoto) -> dict[str, int]:
    across, down = min(crop.width, photo.width), min(crop.height, photo.height)
    return {"left": crop.left, "top": crop.top, "across": across, "down": down}
