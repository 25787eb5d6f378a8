"""What is done to every input of a batch: enlarging, restoring, or putting parts of another
picture into it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from srflow_apps.batch.storage import read_locally
from srflow_sdk.drawing.file_upscaling import INTERVAL_SAMPLES, FileResult, interval_fields
from srflow_sdk.drawing.low_resolution import LowResolution
from srflow_sdk.drawing.options import DrawOptions, make_request
from srflow_sdk.engine import Engine
from srflow_sdk.errors import ImageError
from srflow_sdk.files import Provenance, WriteOptions, open_image, read_image
from srflow_sdk.files.provenance import RESTORE, TRANSFER, UPSCALE
from srflow_sdk.flow.options import RestoreOptions, TransferOptions
from srflow_sdk.flow.restoring import restore_file
from srflow_sdk.flow.transferring import transfer_file
from srflow_sdk.geometry.sizes import OutputSize
from srflow_sdk.geometry.tiles import Window
from srflow_sdk.model.bundle import Bundle, check_inverts
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.model.model_choice import ModelChoice, bundles_for
from srflow_sdk.pixels.in_memory import luma, to_unit
from srflow_sdk.system.local_files import file_sha256

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from srflow_sdk.drawing.options import WatchKeywords


class Operation:
    """An operation on every input of a batch. name: the verb, as provenance has it.

    interval: a coverage; outputs are then a picture and the bounds of its interval.
    """

    options: Any
    name: ClassVar[str]
    interval: float | None = None

    @property
    def sample(self) -> int:
        """Number of the first output."""
        return getattr(self.options, "sample", 0)

    @property
    def scale(self) -> float | OutputSize | None:
        """How large the outputs were asked to be."""
        return getattr(self.options, "scale", None)

    @property
    def raw(self) -> bool:
        """True if files are of values in their own units: TIFF, and no pictures by which a model
        could be chosen.
        """
        return getattr(self.options, "value_range", None) is not None

    def select_bundles(self, bundles: Sequence[Bundle]) -> list[Bundle]:
        """Those of the models that inputs may need, that for clean ones first. Raises:
        ArgumentError, BundleError if one cannot do it to any picture.
        """
        raise NotImplementedError

    def name_fields(self, manifest: Manifest) -> dict[str, Any]:
        """What names of outputs may tell of the options: None for what is not one number for all
        pictures.

        suffix: the end of names that nobody chose.
        """
        raise NotImplementedError

    def output_size(self, size: tuple[int, int], manifest: Manifest) -> tuple[int, int]:
        """Size of the outputs of an input. Raises: ArgumentError, ImageError if the model cannot
        make them.
        """
        return size

    def from_recipe(self, recipe: Provenance) -> Operation:
        """The operation by which a picture was made. Raises: ArgumentError if nothing can be made
        with it.
        """
        raise NotImplementedError

    def provenance_fields(
        self, manifest: Manifest, size: tuple[int, int], number: int
    ) -> dict[str, Any]:
        """The fields of sample `number`'s provenance that the options decide. Raises: ImageError,
        OSError.
        """
        raise NotImplementedError

    def describe(self, manifest: Manifest) -> dict[str, Any]:
        """The settings, as JSON values, for a report."""
        raise NotImplementedError

    def make_files(
        self,
        engine: Engine,
        choice: ModelChoice,
        source: Path,
        targets: Sequence[Path],
        writing: WriteOptions,
        **watched: Unpack[WatchKeywords],
    ) -> FileResult:
        """Make local targets of a local source, as :meth:`Upscaler.upscale_file` does.

        choice: what draws the source.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Upscaling(Operation):
    """Enlarging, as in :meth:`Upscaler.upscale_file`. options: without `progress` and `cancel`.

    tau_map: a picture, by whose brightness, the mask, the temperature of every input is multiplied.
    """

    options: DrawOptions = field(default_factory=DrawOptions)
    interval: float | None = None
    tau_map: Path | None = None
    mask: NDArray[np.float32] | None = None

    name = UPSCALE

    def select_bundles(self, bundles: Sequence[Bundle]) -> list[Bundle]:
        selected = bundles_for(bundles, self.scale)[: 1 if self.raw else None]
        if self.interval is not None:
            for bundle in selected:
                self.options.band(bundle.manifest, n=INTERVAL_SAMPLES, coverage=self.interval)
        return selected

    def name_fields(self, manifest: Manifest) -> dict[str, Any]:
        scale = self.options.scale
        tau = self.options.tau
        number = self.options.named_scale(manifest)
        if not isinstance(scale, OutputSize):
            end = f"x{number:g}"
        elif scale.max_side is not None:
            end = f"max{scale.max_side}"
        else:
            end = f"{scale.width or ''}x{scale.height or ''}"
        end += "" if tau is None or isinstance(tau, (str, np.ndarray)) else f"_tau{tau:g}"
        seed = self.options.seed
        recorded = self.options.recorded_tau(manifest)[0]
        return {"seed": seed, "tau": recorded, "scale": number, "suffix": end}

    def output_size(self, size: tuple[int, int], manifest: Manifest) -> tuple[int, int]:
        width, height = size
        if self.mask is not None and self.mask.shape != (height, width):
            rows, columns = self.mask.shape
            raise ImageError(
                f"it has {width}×{height} pixels, and --tau-map {columns}×{rows}; make the map as "
                "large"
            )
        _, height, width = self.options.output_of(manifest, height=height, width=width)
        return width, height

    def from_recipe(self, recipe: Provenance) -> Upscaling:
        return Upscaling(options=DrawOptions.from_provenance(recipe))

    def provenance_fields(
        self, manifest: Manifest, size: tuple[int, int], number: int
    ) -> dict[str, Any]:
        scale, _, _ = self.options.output_of(manifest, height=size[1], width=size[0])
        sample = number if self.interval is None else self.sample
        fields = self.options.provenance_fields(manifest, sample=sample, scale=scale)
        if self.interval is None:
            return fields
        return {**fields, **interval_fields(manifest, self.interval, number - self.sample)}

    def describe(self, manifest: Manifest) -> dict[str, Any]:
        own = {"interval": self.interval, "tau_map": self.tau_map and str(self.tau_map)}
        return {**self.options.described(manifest), **own}

    def make_files(
        self,
        engine: Engine,
        choice: ModelChoice,
        source: Path,
        targets: Sequence[Path],
        writing: WriteOptions,
        **watched: Unpack[WatchKeywords],
    ) -> FileResult:
        draw = dataclasses.replace(self.options, **watched)
        if self.mask is not None:
            manifest = engine.bundles[choice.name].manifest
            tau = self._masked_tau(source, manifest, writing.max_pixels)
            draw = dataclasses.replace(draw, tau=tau)
        return engine.upscale_file(choice, source, targets, draw, writing, interval=self.interval)

    def _masked_tau(self, source: Path, manifest: Manifest, max_pixels: int) -> NDArray[np.float32]:
        """The temperature at each of a photo's pixels, H×W: what was asked for, times the mask."""
        assert self.mask is not None  # for the type checker: only called with one
        with open_image(source, max_pixels=max_pixels) as reader:
            self.output_size((reader.width, reader.height), manifest)
            lr = LowResolution.of(
                reader.read_rows(reader.height), reader.kind, multiple=1, reach=manifest.halo
            )
        request = make_request(self.options, manifest, height=lr.height, width=lr.width)
        temperature = request.temperature.for_rows(lr, 0, lr.height)
        whole = Window(top=0, left=0, height=lr.height, width=lr.width)
        masked: NDArray[np.float32] = self.mask * temperature.within(whole)
        return masked


def read_mask(path: Path) -> NDArray[np.float32]:
    """The brightness of a picture, H×W in [0, 1]. Raises: ImageError."""
    with read_locally(path) as local:
        pixels = to_unit(read_image(local).pixels)
    return pixels[..., 0] if pixels.shape[2] < 3 else luma(pixels[..., :3])[..., 0]


@dataclass(frozen=True, kw_only=True)
class Restoring(Operation):
    """Restoring, as in :meth:`Upscaler.restore_file`. options: without `progress` and `cancel`."""

    options: RestoreOptions = field(default_factory=RestoreOptions)

    name = RESTORE

    def name_fields(self, manifest: Manifest) -> dict[str, Any]:
        return {"tau": self.options.number, "suffix": "restored"}

    def select_bundles(self, bundles: Sequence[Bundle]) -> list[Bundle]:
        check_inverts(bundles[0])
        return [bundles[0]]

    def from_recipe(self, recipe: Provenance) -> Restoring:
        return Restoring(options=RestoreOptions.from_record(recipe.settings or ""))

    def provenance_fields(
        self, manifest: Manifest, size: tuple[int, int], number: int
    ) -> dict[str, Any]:
        return self.options.provenance_fields()

    def describe(self, manifest: Manifest) -> dict[str, Any]:
        return {"operation": RESTORE, **json.loads(self.options.recorded())}

    def make_files(
        self,
        engine: Engine,
        choice: ModelChoice,
        source: Path,
        targets: Sequence[Path],
        writing: WriteOptions,
        **watched: Unpack[WatchKeywords],
    ) -> FileResult:
        options = dataclasses.replace(self.options, **watched)
        return restore_file(source, targets[0], engine.painter, options, writing)


@dataclass(frozen=True, kw_only=True)
class Transferring(Operation):
    """Putting parts of another picture into the inputs, as in :meth:`Upscaler.transfer_file`.

    source, mask, lr: files, for all inputs.
    """

    options: TransferOptions = field(default_factory=TransferOptions)
    source: Path
    mask: Path
    lr: Path | None = None

    name = TRANSFER

    def name_fields(self, manifest: Manifest) -> dict[str, Any]:
        return {
            "seed": self.options.seed,
            "tau": self.options.number(manifest),
            "suffix": "transferred",
        }

    def select_bundles(self, bundles: Sequence[Bundle]) -> list[Bundle]:
        check_inverts(bundles[0])
        self.options.taus(bundles[0].manifest)
        return [bundles[0]]

    def provenance_fields(
        self, manifest: Manifest, size: tuple[int, int], number: int
    ) -> dict[str, Any]:
        paths = {"source": self.source, "mask": self.mask, "lr": self.lr}
        others = {
            what: None if path is None else (path, file_sha256(path))
            for what, path in paths.items()
        }
        return self.options.provenance_fields(manifest, others)

    def describe(self, manifest: Manifest) -> dict[str, Any]:
        settings = json.loads(self.options.provenance_fields(manifest, {})["settings"])
        return {"operation": TRANSFER, "seed": self.options.seed, **settings}

    def make_files(
        self,
        engine: Engine,
        choice: ModelChoice,
        source: Path,
        targets: Sequence[Path],
        writing: WriteOptions,
        **watched: Unpack[WatchKeywords],
    ) -> FileResult:
        return transfer_file(
            engine.painter,
            source,
            self.source,
            self.mask,
            targets[0],
            lr=self.lr,
            options=dataclasses.replace(self.options, **watched),
            writing=writing,
        )
