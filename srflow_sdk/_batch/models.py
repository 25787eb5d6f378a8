"""Which model draws a file: one for all of them, or for each picture the embedded one that suits it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from srflow_sdk._batch.storage import reading
from srflow_sdk.bundle import Bundle
from srflow_sdk.model_choice import CLEAN, PHOTO, ModelChoice, choose_model
from srflow_sdk.upscaler import Upscaler

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from srflow_sdk._batch.storage import Storage

BY_PICTURE = "auto"
"""The name under which a user asks for the model that suits each picture."""


def candidates() -> list[Bundle]:
    """The embedded models of which one suits a picture. Raises: BundleError if this installation lacks one."""
    return [Bundle.embedded(name) for name in (CLEAN, PHOTO)]


class ModelsByPicture:
    """Opens for each picture the embedded model that :func:`~srflow_sdk.choose_model` names, once for all pictures.

    A context manager, which closes them. opened: makes an Upscaler. say: told about choices, with the file and why, as
    :meth:`explain` is called. The one for clean pictures is opened at once; `upscaler` is that. Thread-safe.
    """

    def __init__(
        self, opened: Callable[[Bundle], Upscaler], *, max_pixels: int, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._opened, self._max_pixels, self._say = opened, max_pixels, say
        self._stack = contextlib.ExitStack()
        self._lock = threading.Lock()
        self._chosen: dict[Path, ModelChoice] = {}
        self._upscalers: dict[str, Upscaler] = {}
        self.upscaler = self._open(CLEAN)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def chosen(self, source: Path) -> bool:
        """Whether a file was looked at before."""
        return source in self._chosen

    def for_picture(self, source: Path, local: Path, *, cancel: threading.Event | None = None) -> Upscaler:
        """The Upscaler for a file, which can be read at `local`. cancel: ends the call, as of :func:`choose_model`.

        Raises: ImageError if it cannot be read; CancelledError; what :class:`Upscaler` raises.
        """
        choice = self._chosen.get(source) or choose_model(local, max_pixels=self._max_pixels, cancel=cancel)
        with self._lock:
            self._chosen[source] = choice
            return self._open(choice.name)

    def explain(self, source: Path) -> None:
        """Say which model :meth:`for_picture` gave for a file, and why."""
        choice = self._chosen[source]
        self._say(f"{source}: {choice.name} ({choice.why})")

    def _open(self, name: str) -> Upscaler:
        if name not in self._upscalers:
            self._upscalers[name] = self._stack.enter_context(self._opened(Bundle.embedded(name)))
        return self._upscalers[name]


Models = Upscaler | ModelsByPicture


def any_of(models: Models) -> Upscaler:
    """An Upscaler that stands for all of them: of the same scale and device."""
    return models.upscaler if isinstance(models, ModelsByPicture) else models


def suiting(models: Models, source: Path, storage: Storage, *, cancel: threading.Event | None = None) -> Upscaler:
    """The Upscaler that suits this file. Raises: as :meth:`ModelsByPicture.for_picture`."""
    if not isinstance(models, ModelsByPicture):
        return models
    with contextlib.nullcontext(source) if models.chosen(source) else reading(storage, source) as local:
        return models.for_picture(source, local, cancel=cancel)


def drawing(models: Models, source: Path, local: Path, *, cancel: threading.Event | None = None) -> Upscaler:
    """The same for a file that is about to be drawn and is read at `local`: the user is told which, and why."""
    if not isinstance(models, ModelsByPicture):
        return models
    upscaler = models.for_picture(source, local, cancel=cancel)
    models.explain(source)
    return upscaler
