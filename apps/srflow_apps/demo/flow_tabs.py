"""The tabs "Restore" and "Transfer": a picture without noise, and part of one picture put into another."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from srflow_apps.demo import page_pictures
from srflow_apps.demo.controls import Said, choice_of, format_of, seed_of, tau_of
from srflow_apps.demo.sessions import Session, Work, delete_file
from srflow_sdk.errors import ArgumentError
from srflow_sdk.upscaler import Upscaler

_PREVIEW_SIDE = 1024


class FlowTabs:
    """The tabs' functions, each for the session of the page that calls it."""

    def __init__(self, upscaler: Upscaler, *, max_pixels: int) -> None:
        self._upscaler = upscaler
        self._max_pixels = max_pixels

    def check(self, path: Path) -> None:
        """Refuse a picture that cannot be used. Raises: ImageError."""
        page_pictures.size_of(path, max_pixels=self._max_pixels)

    def restore(self, session: Session, said: Said) -> tuple[Path, Work]:
        """The file of a restored picture, and the work that writes it and returns what the viewer shows."""
        source = session.picture("restore")
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
            photo, other = session.picture("photo"), session.picture("other")
            if photo is None or other is None:
                return {}
            with self._fitting(session, photo, other) as content:
                shown = {"photo": photo, "other": content}
                return {
                    n: page_pictures.data_url(page_pictures.preview(p, most=_PREVIEW_SIDE)[0]) for n, p in shown.items()
                }

    def transfer(self, session: Session, said: Said) -> tuple[Path, Work]:
        """The file of a transfer of what the mask selects, and the work that writes it and returns the viewer's."""
        photo, other, mask = (session.picture(name) for name in ("photo", "other", "mask"))
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
    """Two files as the viewer shows them."""
    old, reduced = page_pictures.preview(before, most=2 * _PREVIEW_SIDE)
    new, _ = page_pictures.preview(after, most=2 * _PREVIEW_SIDE)
    note = f"Shown reduced to {2 * _PREVIEW_SIDE} pixels; the file is whole." if reduced else ""
    shown = {"before": page_pictures.data_url(old), "after": page_pictures.data_url(new), "note": note}
    return {**shown, "names": dict(zip(("before", "after"), names, strict=True))}
