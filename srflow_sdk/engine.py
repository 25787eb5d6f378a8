"""The open models behind an Upscaler: :class:`Engine`, which is internal."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.drawing.file_upscaling import FileResult, upscale_file
from srflow_sdk.drawing.options import DrawOptions, part_progress
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.encoding import EncodedPicture
from srflow_sdk.files import MAX_PIXELS, WriteOptions
from srflow_sdk.files.passed_images import AnyImage, as_path_or_picture, load_image
from srflow_sdk.geometry.sizes import OutputSize
from srflow_sdk.geometry.tiles import TileSize
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.model_choice import ModelChoice, bundles_for, choose_model
from srflow_sdk.pixels.in_memory import Layout, unpacked
from srflow_sdk.pixels.value_range import RangeKeyword, enlarge_in_range
from srflow_sdk.system.interrupts import memory_errors_typed


class Engine:
    """Holds the models of an Upscaler open, chooses the one that suits a picture, and draws by it.

    Upscaler, RemoteUpscaler, batches, clips and srflow-demo share it. It is internal: any version
    may change it. Thread-safe.

    Args:
        bundles: The models, the default first, which alone is opened at once.
        open_painter: Opens a model. RemoteUpscaler opens it on its server.
        tile: As for :class:`Upscaler`.

    Attributes:
        painter: The only model's, or the default's, which also does what a flow does besides
            upscaling.
        bundles: The models by name.
        tile: As it was given.
    """

    def __init__(
        self, bundles: Sequence[Bundle], open_painter: Callable[[Bundle], Painter], tile: TileSize
    ) -> None:
        self.painter = open_painter(bundles[0])  # first: it says that none of this can be pickled
        self.bundles = {bundle.manifest.name: bundle for bundle in bundles}
        self.tile = tile
        self._make_painter = open_painter
        self._opening = threading.Lock()
        self._painters = {bundles[0].manifest.name: self.painter}

    def close(self) -> None:
        """Release the models and the device memory. Closing twice is harmless."""
        with self._opening:
            for painter in self._painters.values():
                painter.close()

    def choose(
        self,
        picture: AnyImage | None,
        scale: float | OutputSize | None = None,
        *,
        max_pixels: int = MAX_PIXELS,
        cancel: threading.Event | None = None,
    ) -> ModelChoice:
        """Choose the model that suits a picture; None is a clean one."""
        bundles = self.bundles.values()
        if picture is None:
            return ModelChoice(name=bundles_for(bundles, scale)[0].manifest.name, why="")
        return choose_model(
            picture, scale=scale, among=bundles, max_pixels=max_pixels, cancel=cancel
        )

    def open_painters(self, choice: ModelChoice) -> tuple[Painter, Painter | None]:
        """Open the painter of a choice, and the one that cleans the picture before."""
        bundle = self.bundles[choice.name]
        cleaner = None
        if choice.cleaner is not None:
            cleaner = self.bundles.get(choice.cleaner, bundle.cleaner)
        return self.open_painter(bundle), None if cleaner is None else self.open_painter(cleaner)

    def open_suited(
        self, picture: AnyImage | None, draw: DrawOptions, max_pixels: int = MAX_PIXELS
    ) -> tuple[Painter, Painter | None]:
        """Open the painters of the model that suits a picture; None is a clean one."""
        return self.open_painters(
            self.choose(picture, draw.scale, max_pixels=max_pixels, cancel=draw.cancel)
        )

    def open_painter(self, bundle: Bundle) -> Painter:
        """Open a model, or take it as it is open. Raises: DeviceError once this was closed."""
        self.painter.check_open()
        name = bundle.manifest.name
        if name in self._painters:  # no thread waits for the other model
            return self._painters[name]
        with self._opening:
            self.painter.check_open()
            if name not in self._painters:
                self._painters[name] = self._make_painter(bundle)
            return self._painters[name]

    def encode(
        self,
        image: AnyImage,
        *,
        layout: Layout = "hwc",
        draw: DrawOptions = DrawOptions(),  # noqa: B008, frozen
        memory_budget: int | None = 0,
        copied: bool = False,
        painter: Painter | None = None,
    ) -> EncodedPicture:
        """Encode an image.

        Args:
            image, layout: As for :meth:`Upscaler.upscale`.
            draw: Its scale chooses the model, and it also watches.
            memory_budget: As for :meth:`Upscaler.encode`.
            copied: Whether the caller's array may change before the tiles are encoded.
            painter: Of the model that draws; None takes the model that suits the image.
        """
        with (
            memory_errors_typed("for the image; use upscale_file, or a smaller image"),
            as_path_or_picture(image) as source,
        ):
            pixels, kind = load_image(source, layout=layout)
            cleaner = None
            if painter is None:
                painter, cleaner = self.open_suited(source if kind.pil_mode else pixels, draw)
            return EncodedPicture(
                pixels.copy() if copied and kind.pil_mode is None else pixels,
                kind,
                painter,
                cleaner=cleaner,
                memory_budget=memory_budget,
                progress=draw.progress,
                cancel=draw.cancel,
            )

    def upscale_file(
        self,
        choice: ModelChoice | None,
        source: Path,
        targets: Sequence[Path],
        draw: DrawOptions,
        writing: WriteOptions,
        *,
        interval: float | None = None,
    ) -> FileResult:
        """Do :meth:`Upscaler.upscale_file` with what was chosen for the file; None: choose now."""
        if choice is not None:
            open_chosen = functools.partial(self.open_painters, choice)
        else:
            seen = None if draw.value_range is not None else source
            open_chosen = functools.partial(self.open_suited, seen, draw, writing.max_pixels)
        return upscale_file(
            open_chosen,
            source,
            targets,
            draw,
            writing,
            interval=interval,
            in_range=self.enlarge_values,
        )

    def enlarge_values(
        self, values: NDArray[Any], draw: DrawOptions, nodata: float | None = None
    ) -> NDArray[Any]:
        """Enlarge values, H×W×C, in the options' range, by the model for clean pictures."""

        def enlarge(unit: NDArray[np.float32], number: int, count: int) -> Any:
            painter, _ = self.open_suited(None, draw)
            picture = EncodedPicture(*unpacked(unit), painter, memory_budget=0)
            progress = part_progress(number, count, draw.progress)
            return picture.draw_images(replace(draw, value_range=None, progress=progress))[0]

        with memory_errors_typed("for the values, which are held whole; cut them into parts"):
            return enlarge_in_range(
                values, cast(RangeKeyword, draw.value_range), enlarge, nodata=nodata
            )
