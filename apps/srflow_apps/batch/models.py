"""The models of a batch, and which of them draws each input."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from srflow_apps.batch.results import FolderFile
from srflow_sdk.files import MAX_PIXELS
from srflow_sdk.files.passed_images import AnyImage
from srflow_sdk.geometry.sizes import OutputSize
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.model.model_choice import (
    NO_DAMAGE,
    STAYS_SOFT,
    ModelChoice,
    choose_model,
    look_at,
    name_damage,
)
from srflow_sdk.upscaler import Upscaler


@dataclass(kw_only=True)
class Models:
    """The models of a batch: one for all files, or for each file the one that suits it, which is
    looked at once.

    upscaler: has them open; set before jobs are done. say: gets a line about each file that is
    drawn. named: whether someone named the model, and hears where a picture does not need it.
    Thread-safe.
    """

    bundles: Sequence[Bundle]
    scale: float | OutputSize | None = None
    max_pixels: int = MAX_PIXELS
    upscaler: Upscaler | None = None
    say: Callable[[str], None] = lambda _: None
    named: bool = False
    choices: dict[Path, ModelChoice] = field(default_factory=dict)

    def choose(
        self, source: Path, local: AnyImage, *, cancel: threading.Event | None = None
    ) -> ModelChoice:
        """The choice for a file, with no reason if there was none. local: where it can be read, or
        a frame.
        """
        if source not in self.choices:
            self.choices[source] = choose_model(
                local,
                scale=self.scale,
                among=self.bundles,
                max_pixels=self.max_pixels,
                cancel=cancel,
            )
        return self.choices[source]

    def tell_choice(
        self,
        file: FolderFile,
        manifest: Manifest,
        local: AnyImage,
        *,
        cancel: threading.Event | None = None,
    ) -> None:
        """Say what draws a file, and why; or that the model that someone named removes damage which
        is not there.
        """
        if file.why is not None:
            self.say(file.drawn_by)
        elif self.named and manifest.removes_damage:
            seen = name_damage(look_at(local, max_pixels=self.max_pixels, cancel=cancel))
            if not seen:
                self.say(
                    f"{file.source}: {NO_DAMAGE}: without --model, a model for clean pictures "
                    "keeps more detail"
                )
            elif seen.endswith(STAYS_SOFT):
                self.say(f"{file.source}: {seen}")


def digest(models: Sequence[Manifest]) -> str:
    """One sha256 for all of these models; of one, its own."""
    digests = [manifest.digest for manifest in models]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )
