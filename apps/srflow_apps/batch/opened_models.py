"""Which model draws a file: one for all of them, or for each picture the one that suits it."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from srflow_apps.batch.storage import reading
from srflow_sdk.base_upscaler import BaseUpscaler
from srflow_sdk.drawing.output_size import OutputSize
from srflow_sdk.errors import ImageError
from srflow_sdk.files import MAX_PIXELS
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.model.model_choice import ModelChoice, choose_model


def digest(models: Sequence[Manifest]) -> str:
    """One sha256 for all of these models; of one, its own."""
    digests = [manifest.digest for manifest in models]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


class Choices:
    """Which of these models draws a file: the only one, or the one that suits it. Looks at each file once. Thread-safe.

    bundles: one, or those of :meth:`Operation.needed`. scale: of the outputs, as that operation has it.
    """

    def __init__(
        self, bundles: Iterable[Bundle], scale: float | OutputSize | None = None, *, max_pixels: int = MAX_PIXELS
    ) -> None:
        self.bundles = {bundle.manifest.name: bundle for bundle in bundles}
        self._scale = scale
        self._max_pixels = max_pixels
        self._made: dict[Path, ModelChoice] = {}

    def of(self, source: Path, local: Path | None = None, *, cancel: threading.Event | None = None) -> ModelChoice:
        """The choice for a file; its reason is empty if there was none.

        local: where the file can be read; None fetches it. Raises: as :func:`~srflow_sdk.choose_model`.
        """
        if len(self.bundles) == 1:
            return ModelChoice(name=next(iter(self.bundles)), why="")
        if source not in self._made:
            choose = partial(choose_model, scale=self._scale, among=self.bundles.values(), cancel=cancel)
            with reading(source) if local is None else contextlib.nullcontext(local) as place:
                self._made[source] = choose(place, max_pixels=self._max_pixels)
        return self._made[source]

    def name(self, source: Path) -> str:
        """The model's name for a file; of several, the first for one that cannot be read, which fails later."""
        with contextlib.suppress(ImageError, OSError):
            return self.of(source).name
        return next(iter(self.bundles))


class Models:
    """The opened models of a batch: one for all files, or for each file the one that suits it. Thread-safe.

    choices: which of them draws which file. upscaler: has them. say: called with a line about each file that is drawn:
    its model, and why it was chosen.
    """

    def __init__(
        self, choices: Choices, upscaler: BaseUpscaler, *, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._choices = choices
        self.upscaler = upscaler
        self._say = say

    def suiting(self, source: Path, *, cancel: threading.Event | None = None) -> BaseUpscaler:
        """The Upscaler for a file. cancel: ends the call.

        Raises: ImageError if the file cannot be read; CancelledError; what :class:`Upscaler` raises.
        """
        return self.upscaler._only(self._choices.of(source, cancel=cancel).name)

    def drawing(
        self, source: Path, local: Path, *, cancel: threading.Event | None = None
    ) -> tuple[BaseUpscaler, str | None]:
        """The Upscaler for a file that is about to be drawn, and why it has this model; None if all have the same.

        local: where the file is read. Raises: as :meth:`suiting`.
        """
        choice = self._choices.of(source, local, cancel=cancel)
        if choice.why:
            self._say(explained(source, choice.name, choice.why))
        return self.upscaler._only(choice.name), choice.why or None


def explained(source: Path, name: str, why: str) -> str:
    """The line that says which model draws a file, and why."""
    return f"{source}: {name} ({why})"
