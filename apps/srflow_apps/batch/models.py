"""Which model draws a file: one for all of them, or for each picture the embedded one that suits it."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from srflow_apps.batch.storage import reading
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.model_choice import CLEAN, PHOTO, ModelChoice, choose_model

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from srflow_sdk.model.manifest import Manifest

BY_PICTURE = "auto"
"""The name under which a user asks for the model that suits each picture."""


def refuse_auto(model: str | None, command: str) -> None:
    """Raises: ArgumentError for "auto", where a command needs one model."""
    if model == BY_PICTURE:
        raise ArgumentError(f"--model auto is for srflow-upscale; {command} needs one model: name it")


def candidates() -> list[Bundle]:
    """The embedded models of which one suits a picture. Raises: BundleError if this installation lacks one."""
    return [Bundle.embedded(name) for name in (CLEAN, PHOTO)]


def has_candidates() -> bool:
    """Whether this installation has all of them."""
    return {CLEAN, PHOTO} <= set(Bundle.embedded_names())


def digest(models: Sequence[Manifest]) -> str:
    """One sha256 for all of these models; of one, its own."""
    digests = [manifest.digest for manifest in models]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


class Choices:
    """Which embedded model suits which file: every file is looked at once. Thread-safe."""

    def __init__(self, *, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._made: dict[Path, ModelChoice] = {}

    def made(self, source: Path) -> ModelChoice | None:
        """The choice for a file that was looked at before."""
        return self._made.get(source)

    def of(self, source: Path, local: Path, *, cancel: threading.Event | None = None) -> ModelChoice:
        """The choice for a file, which can be read at `local`. Raises: as :func:`~srflow_sdk.choose_model`."""
        choice = self._made.get(source) or choose_model(local, max_pixels=self._max_pixels, cancel=cancel)
        self._made[source] = choice
        return choice

    def name(self, source: Path) -> str:
        """The model's name for a file, wherever it is; x4-small for one that cannot be read, which fails later."""
        with contextlib.suppress(ImageError, OSError), reading(source) as local:
            return self.of(source, local).name
        return CLEAN


class ModelsByPicture:
    """Opens for each picture the embedded model that suits it, once for all pictures.

    A context manager, which closes them. bundles: the models. opened: makes an Upscaler. say: told about choices, with
    the file and why, as :meth:`explain` is called. first: the model to open at once, so that what is wrong with this
    machine is an error here. Thread-safe.
    """

    def __init__(
        self,
        bundles: Sequence[Bundle],
        opened: Callable[[Bundle], BaseUpscaler],
        *,
        choices: Choices,
        say: Callable[[str], None] = lambda _: None,
        first: str = CLEAN,
    ) -> None:
        self.choices = choices
        self._bundles = {bundle.manifest.name: bundle for bundle in bundles}
        self._opened, self._say = opened, say
        self._stack = contextlib.ExitStack()
        self._lock = threading.Lock()
        self._upscalers: dict[str, BaseUpscaler] = {}
        self.upscaler = self._open(first)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def for_picture(self, source: Path, local: Path, *, cancel: threading.Event | None = None) -> BaseUpscaler:
        """The Upscaler for a file, which can be read at `local`. cancel: ends the call, as of :func:`choose_model`.

        Raises: ImageError if it cannot be read; CancelledError; what :class:`BaseUpscaler` raises.
        """
        choice = self.choices.of(source, local, cancel=cancel)
        with self._lock:
            return self._open(choice.name)

    def explain(self, source: Path) -> None:
        """Say which model :meth:`for_picture` gave for a file, and why."""
        choice = self.choices.made(source)
        if choice is not None:
            self._say(explained(source, choice.name, choice.why))

    def _open(self, name: str) -> BaseUpscaler:
        if name not in self._upscalers:
            self._upscalers[name] = self._stack.enter_context(self._opened(self._bundles[name]))
        return self._upscalers[name]


def explained(source: Path, name: str, why: str) -> str:
    """The line that says which model draws a file, and why."""
    return f"{source}: {name} ({why})"


Models = BaseUpscaler | ModelsByPicture


def any_of(models: Models) -> BaseUpscaler:
    """An Upscaler that stands for all of them: of the same scale and device."""
    return models.upscaler if isinstance(models, ModelsByPicture) else models


def suiting(models: Models, source: Path, *, cancel: threading.Event | None = None) -> Upscaler:
    """The Upscaler that suits this file. Raises: as :meth:`ModelsByPicture.for_picture`."""
    if not isinstance(models, ModelsByPicture):
        return models
    with contextlib.nullcontext(source) if models.choices.made(source) else reading(source) as local:
        return models.for_picture(source, local, cancel=cancel)


def drawing(models: Models, source: Path, local: Path, *, cancel: threading.Event | None = None) -> BaseUpscaler:
    """The same for a file that is about to be drawn and is read at `local`: the user is told which, and why."""
    if not isinstance(models, ModelsByPicture):
        return models
    upscaler = models.for_picture(source, local, cancel=cancel)
    models.explain(source)
    return upscaler


def reason(models: Models, source: Path) -> str | None:
    """Why this file got its model; None if all have the same."""
    choice = models.choices.made(source) if isinstance(models, ModelsByPicture) else None
    return None if choice is None else choice.why
