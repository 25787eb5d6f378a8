"""What the tab "Enlarge" does: a crop that follows its controls, eight samples, and the whole photo as a file."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from srflow_sdk._demo import pictures, work
from srflow_sdk._demo.controls import Controls
from srflow_sdk._demo.live import LivePhoto
from srflow_sdk._demo.sessions import Session, Sessions
from srflow_sdk._demo.templates import CANCELLED, progress
from srflow_sdk.errors import ArgumentError, CancelledError
from srflow_sdk.upscaler import Upscaler

SAMPLES = 8
RENDER = "enlarge"
_OVERVIEW_SIDE = 448
_THUMBNAIL_SIDE = 128
_SETTLED_S = 0.3  # eight samples are drawn once nothing changed for this long


class Enlarging:
    """The tab's functions, each for the session of the page that calls it."""

    def __init__(self, upscaler: Upscaler, sessions: Sessions, *, max_pixels: int) -> None:
        self._upscaler = upscaler
        self._sessions = sessions
        self._max_pixels = max_pixels

    def open(self, session: Session, uploaded: str | None, *values: Any) -> tuple[str, str, str]:
        """Take an uploaded photo and show its middle: values of viewer, overview and strip."""
        session.stop()
        with session.lock:
            session.path = session.photo = session.drawn = None
            session.sample = 0
            if uploaded is None:
                return "", "", ""
            path = session.take(uploaded)
            photo = LivePhoto(self._upscaler, path, max_pixels=self._max_pixels)
            session.path, session.photo = path, photo
            side = self._lr_side(Controls.of(*values))
            session.place = ((photo.width - side) // 2, (photo.height - side) // 2)
            viewer, overview, strip = self.move(session, *values)
            whole = {"image": pictures.data_url(photo.overview(most=_OVERVIEW_SIDE)), **json.loads(overview)}
            return viewer, json.dumps(whole), strip

    def draw(self, session: Session, *values: Any) -> str:
        """Draw the crop again, after the temperature, the seed or the sample changed: the viewer's value."""
        session.strip.set()
        with session.lock:
            if session.path is None:
                return ""
            controls, before = Controls.of(*values), session.drawn
            viewer = self._drawn(session, controls)
            if before is None or before.side != controls.side:
                session.drawn = None  # the page has yet to hear of the new crop
            return json.dumps(viewer)

    def slide(self, session: Session, tau: Any, auto: Any, *values: Any) -> tuple[str, bool]:
        """Draw with the slider's temperature: the viewer's value, and what "auto" becomes, which is off."""
        return self.draw(session, tau, False, *values), False

    def choose(self, session: Session, data: dict[str, Any], *values: Any) -> tuple[str, str]:
        """Show another of the eight samples: values of viewer and strip."""
        sample = data.get("sample")
        if not isinstance(sample, int) or not 0 <= sample < SAMPLES:
            raise ArgumentError(f"there is no sample {sample!r}; choose one of 0 to {SAMPLES - 1}")
        with session.lock:
            session.sample = sample
            return self.draw(session, *values), json.dumps({"chosen": sample})

    def place(self, session: Session, data: dict[str, Any], *values: Any) -> tuple[str, str, str]:
        """Move the crop: values of viewer, overview and strip."""
        left, top = data.get("left"), data.get("top")
        if not isinstance(left, int) or not isinstance(top, int):
            raise ArgumentError("the place of the crop is not two numbers; load the page again")
        with session.lock:
            session.place = (left, top)
            return self.move(session, *values)

    def move(self, session: Session, *values: Any) -> tuple[str, str, str]:
        """Show another crop: values of viewer, overview and strip."""
        session.strip.set()
        with session.lock:
            if session.path is None:
                return "", "", ""
            viewer, overview = self._moved(session, Controls.of(*values))
            return json.dumps(viewer), json.dumps(overview), json.dumps({"images": None, "chosen": session.sample})

    def eight(self, session: Session, *values: Any) -> tuple[str, str | None, str] | None:
        """Draw eight samples once the page rests: values of viewer, overview and strip.

        None if something changed meanwhile. The overview's is None unless the crop is drawn again, too: with controls
        that were changed while the photo was opened.
        """
        session.strip.set()
        cancel = session.strip = threading.Event()
        if session.path is None or cancel.wait(_SETTLED_S):
            return None
        controls = Controls.of(*values)
        try:
            with session.lock:
                viewer, overview = ({}, None) if session.drawn == controls else self._moved(session, controls)
                photo = self._shown(session, controls)
                if overview is not None:
                    session.drawn = None  # until the page gets it
                drawn = photo.samples(SAMPLES, tau=controls.tau, seed=controls.seed, cancel=cancel)
                session.drawn = controls
                chosen = session.sample
        except CancelledError:
            return None
        spread = drawn.std.mean(axis=2)
        brightest = float(np.quantile(spread, 0.995))
        viewer |= {
            "spread": pictures.data_url(pictures.heat(spread, brightest=brightest)),
            "scale": f"Black: the samples agree. Light yellow: they deviate by {255 * brightest:.1f} of 255, or more.",
        }
        images = [pictures.data_url(pictures.middle(picture, _THUMBNAIL_SIDE)) for picture in drawn.pictures]
        placed = None if overview is None else json.dumps(overview)
        return json.dumps(viewer), placed, json.dumps({"images": images, "chosen": chosen})

    def render(self, session: Session, format: str, *values: Any) -> Iterator[tuple[str, str | None]]:
        """Write the whole photo, as srflow-upscale does: HTML of how far it is, and at the end the file."""
        with session.lock:
            source, sample = session.path, session.sample
        if source is None:
            raise ArgumentError("there is no photo yet; choose one first")
        controls = Controls.of(*values)
        scale = self._upscaler.scale
        target = session.new_file(f"{source.stem}_x{scale}.{format}")

        def write(told: Any, cancel: threading.Event) -> Path:
            self._upscaler.upscale_file(
                source,
                target,
                tau=controls.tau,
                seed=controls.seed,
                sample=sample,
                max_pixels=self._max_pixels,
                progress=told,
                cancel=cancel,
            )
            return target

        yield from reported(work.run(session, RENDER, write), f"{target.name} is ready")

    def _moved(self, session: Session, controls: Controls) -> tuple[dict[str, Any], dict[str, Any]]:
        """The crop where it is now: what viewer and overview show of it."""
        drawn = self._drawn(session, controls)
        photo = self._photo(session)
        crop = photo.crop
        names = {"before": "photo, bicubic", "spread": "deviation of 8 samples"}
        before = pictures.data_url(photo.bicubic())
        viewer = {**drawn, "before": before, "spread": None, "names": {**drawn["names"], **names}}
        overview = {
            "width": photo.width,
            "height": photo.height,
            "left": crop.left,
            "top": crop.top,
            "across": min(crop.width, photo.width),
            "down": min(crop.height, photo.height),
        }
        return viewer, overview

    def _drawn(self, session: Session, controls: Controls) -> dict[str, Any]:
        session.drawn = controls
        photo = self._shown(session, controls)
        after = photo.draw(tau=controls.tau, seed=controls.seed, sample=session.sample)
        tau = controls.tau if controls.tau == "auto" else f"{controls.tau:g}"
        name = f"τ {tau}, seed {controls.seed}, sample {session.sample}"
        return {"after": pictures.data_url(after), "names": {"after": name}, "note": ""}

    def _shown(self, session: Session, controls: Controls) -> LivePhoto:
        photo = self._photo(session)
        left, top = session.place
        photo.show(left=left, top=top, side=self._lr_side(controls))
        session.place = (photo.crop.left, photo.crop.top)
        self._sessions.release_excess(session)
        return photo

    def _photo(self, session: Session) -> LivePhoto:
        if session.photo is None:
            raise ArgumentError("the photo is gone, because the page rested for long; choose it again")
        return session.photo

    def _lr_side(self, controls: Controls) -> int:
        return max(1, controls.side // self._upscaler.scale)


def reported(steps: Iterator[Any], done: str) -> Iterator[tuple[str, str | None]]:
    """What a page shows of :func:`work.run` that returns a file: HTML of how far it is, and at the end the file.

    None stays the file if the work is cancelled.
    """
    try:
        for step in steps:
            if isinstance(step, work.Step):
                left = "" if step.left_s is None else f", about {step.left_s:.0f} s left"
                yield progress(step.fraction, f"{100 * step.fraction:.0f} %{left}"), None
            else:
                yield progress(1.0, done), str(step)
    except CancelledError:
        yield CANCELLED, None
