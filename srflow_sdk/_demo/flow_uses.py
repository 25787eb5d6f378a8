"""What the tabs "Restore" and "Transfer" do: a picture without noise, and part of one picture put into another."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from srflow_sdk._demo import pictures, work
from srflow_sdk._demo.controls import seed_of
from srflow_sdk._demo.enlarging import reported
from srflow_sdk._demo.sessions import Session
from srflow_sdk.errors import ArgumentError
from srflow_sdk.upscaler import Upscaler

RESTORE, TRANSFER = "restore", "transfer"
_PREVIEW_SIDE = 1024


class FlowUses:
    """The tabs' functions, each for the session of the page that calls it."""

    def __init__(self, upscaler: Upscaler, *, max_pixels: int) -> None:
        self._upscaler = upscaler
        self._max_pixels = max_pixels

    def restore(
        self, session: Session, uploaded: str | None, over: str, choose: bool, tau: float, format: str
    ) -> Iterator[tuple[str, str | None, str]]:
        """Restore a picture: HTML of how far it is, the file at the end, and the viewer's value."""
        if uploaded is None:
            raise ArgumentError("there is no picture yet; choose one first")
        source = self._taken(session, uploaded)
        target = session.new_file(f"{source.stem}_restored.{format}")

        def write(told: Any, cancel: threading.Event) -> Path:
            self._upscaler.restore_file(
                source,
                target,
                over=over,  # type: ignore[arg-type]  # checked there
                tau=float(tau) if choose else None,
                max_pixels=self._max_pixels,
                progress=told,
                cancel=cancel,
            )
            return target

        for words, file in reported(work.run(session, RESTORE, write), f"{target.name} is ready"):
            yield words, file, "" if file is None else self._compared(source, target, "noisy", "restored")

    def show_pictures(self, session: Session, photo: str | None, other: str | None) -> str:
        """Show both pictures of a transfer to draw the mask on, the other as large as the photo: the mask's value."""
        if photo is None or other is None:
            return ""
        into = self._taken(session, photo)
        content = self._fitting(session, into, self._taken(session, other))
        shown = {"photo": into, "other": content}
        return json.dumps({n: pictures.data_url(pictures.preview(p, most=_PREVIEW_SIDE)[0]) for n, p in shown.items()})

    def transfer(
        self, session: Session, photo: str | None, other: str | None, mask: str, blend: str, seed: Any, format: str
    ) -> Iterator[tuple[str, str | None, str]]:
        """Transfer what the mask selects: HTML of how far it is, the file at the end, and the viewer's value."""
        if photo is None or other is None:
            raise ArgumentError("a transfer needs a photo and another picture; choose both first")
        drawn = pictures.mask_from(mask) if mask else None
        if drawn is None:
            raise ArgumentError("the mask is empty; paint over what the other picture is to give")
        number = seed_of(seed)
        into = self._taken(session, photo)
        content = self._fitting(session, into, self._taken(session, other))
        selection = session.new_file("mask.png")
        drawn.resize(pictures.size_of(into, max_pixels=self._max_pixels)).save(selection)
        target = session.new_file(f"{into.stem}_transferred.{format}")

        def write(told: Any, cancel: threading.Event) -> Path:
            self._upscaler.transfer_file(
                into,
                content,
                selection,
                target,
                blend=blend,  # type: ignore[arg-type]  # checked there
                seed=number,
                max_pixels=self._max_pixels,
                progress=told,
                cancel=cancel,
            )
            return target

        for words, file in reported(work.run(session, TRANSFER, write), f"{target.name} is ready"):
            yield words, file, "" if file is None else self._compared(into, target, "photo", "with the content")

    def _taken(self, session: Session, uploaded: str) -> Path:
        """A copy of an upload among the session's files. Raises: ImageError if it cannot be read."""
        path = session.take(uploaded)
        pictures.size_of(path, max_pixels=self._max_pixels)
        return path

    def _fitting(self, session: Session, photo: Path, other: Path) -> Path:
        """The other picture, its middle brought to the photo's size if it has another."""
        width, height = pictures.size_of(photo, max_pixels=self._max_pixels)
        if pictures.size_of(other, max_pixels=self._max_pixels) == (width, height):
            return other
        target = session.new_file(f"{other.stem}_fitted.png")
        pictures.fitted(other, target, width=width, height=height)
        return target

    def _compared(self, before: Path, after: Path, *names: str) -> str:
        old, reduced = pictures.preview(before, most=2 * _PREVIEW_SIDE)
        new, _ = pictures.preview(after, most=2 * _PREVIEW_SIDE)
        note = f"Shown reduced to {2 * _PREVIEW_SIDE} pixels; the file is whole." if reduced else ""
        value = {"before": pictures.data_url(old), "after": pictures.data_url(new), "note": note}
        return json.dumps({**value, "names": dict(zip(("before", "after"), names, strict=True))})
