"""Operations of a batch on each of its files. Workers get them, so they can be pickled."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from srflow_sdk.drawing.file_upscaling import INTERVAL_SAMPLES, FileResult, interval_fields
from srflow_sdk.drawing.options import DrawOptions, OutputSize
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files import Provenance, WriteOptions
from srflow_sdk.files.provenance import RESTORE, TRANSFER, UPSCALE
from srflow_sdk.flow.options import RestoreOptions, TransferOptions
from srflow_sdk.flow.transferring import transfer_file
from srflow_sdk.model.bundle import Bundle, check_inverts
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.model.model_choice import needed
from srflow_sdk.system.local_files import file_sha256

if TYPE_CHECKING:
    from srflow_sdk.upscaler import Upscaler


Size = tuple[int, int]
"""Width and height in pixels."""


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
        """True if files are of values in their own units: TIFF, and no pictures by which a model could be chosen."""
        return getattr(self.options, "value_range", None) is not None

    def needed(self, bundles: Sequence[Bundle]) -> list[Bundle]:
        """Those of the models that inputs may need, that for clean ones first. Raises: as :meth:`check`."""
        found = needed(bundles, self.scale)[: 1 if self.raw else None]
        for bundle in found:
            self.check(bundle)
        return found

    def check(self, bundle: Bundle) -> None:
        """Raises: ArgumentError, BundleError if this model cannot do it to any picture."""

    def named(self, manifest: Manifest) -> dict[str, Any]:
        """What names of outputs may tell of the options: None for what is not one number for all pictures.

        suffix: the end of names that nobody chose.
        """
        raise NotImplementedError

    def output_size(self, size: Size, manifest: Manifest) -> Size:
        """Size of the outputs of an input. Raises: ArgumentError, ImageError if the model cannot make them."""
        return size

    def recorded(self, recipe: Provenance) -> Operation:
        """The operation by which a picture was made. Raises: ArgumentError if nothing can be made with it."""
        raise NotImplementedError

    def fields_of(self, manifest: Manifest, size: Size, number: int) -> dict[str, Any]:
        """The fields of sample `number`'s provenance that the options decide. Raises: ImageError, OSError."""
        raise NotImplementedError

    def described(self, manifest: Manifest) -> dict[str, Any]:
        """The settings, as JSON values, for a report."""
        raise NotImplementedError

    def on_file(self, upscaler: Upscaler, source: Path, targets: Sequence[Path], **how: Any) -> FileResult:
        """Make local targets of a local source, as :meth:`Upscaler.upscale_file` does with these keywords."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Upscaling(Operation):
    """Enlarging, as in :meth:`Upscaler.upscale_file`. options: without `progress` and `cancel`."""

    options: DrawOptions = field(default_factory=DrawOptions)
    interval: float | None = None

    name = UPSCALE

    def __post_init__(self) -> None:
        if isinstance(self.options.tau, np.ndarray):
            raise ArgumentError("tau is a map, which fits one image only; give a number, or use upscale_file")

    def check(self, bundle: Bundle) -> None:
        if self.interval is not None:
            self.options.band(bundle.manifest, n=INTERVAL_SAMPLES, coverage=self.interval)

    def named(self, manifest: Manifest) -> dict[str, Any]:
        scale, tau, number = self.options.scale, self.options.tau, self.options.named_scale(manifest)
        if not isinstance(scale, OutputSize):
            end = f"x{number:g}"
        elif scale.max_side is not None:
            end = f"max{scale.max_side}"
        else:
            end = f"{scale.width or ''}x{scale.height or ''}"
        end += "" if tau is None or isinstance(tau, (str, np.ndarray)) else f"_tau{tau:g}"
        seed, recorded = self.options.seed, self.options.recorded_tau(manifest)[0]
        return {"seed": seed, "tau": recorded, "scale": number, "suffix": end}

    def output_size(self, size: Size, manifest: Manifest) -> Size:
        width, height = size
        _, height, width = self.options.output_of(manifest, height=height, width=width)
        return width, height

    def recorded(self, recipe: Provenance) -> Upscaling:
        return Upscaling(options=DrawOptions.from_provenance(recipe))

    def fields_of(self, manifest: Manifest, size: Size, number: int) -> dict[str, Any]:
        scale, _, _ = self.options.output_of(manifest, height=size[1], width=size[0])
        sample = number if self.interval is None else self.sample
        fields = self.options.provenance_fields(manifest, sample=sample, scale=scale)
        return {**fields, **interval_fields(manifest, self.interval, number - self.sample)}

    def described(self, manifest: Manifest) -> dict[str, Any]:
        return {**self.options.described(manifest), "interval": self.interval}

    def on_file(self, upscaler: Upscaler, source: Path, targets: Sequence[Path], **how: Any) -> FileResult:
        return upscaler.upscale_file(source, targets, interval=self.interval, **{**vars(self.options), **how})


@dataclass(frozen=True, kw_only=True)
class Restoring(Operation):
    """Restoring, as in :meth:`Upscaler.restore_file`. options: without `progress` and `cancel`."""

    options: RestoreOptions = field(default_factory=RestoreOptions)

    name = RESTORE

    def named(self, manifest: Manifest) -> dict[str, Any]:
        return {"tau": self.options.number, "suffix": "restored"}

    def check(self, bundle: Bundle) -> None:
        check_inverts(bundle)

    def recorded(self, recipe: Provenance) -> Restoring:
        return Restoring(options=RestoreOptions.from_record(recipe.settings or ""))

    def fields_of(self, manifest: Manifest, size: Size, number: int) -> dict[str, Any]:
        return self.options.provenance_fields()

    def described(self, manifest: Manifest) -> dict[str, Any]:
        return {"operation": RESTORE, **json.loads(self.options.recorded())}

    def on_file(self, upscaler: Upscaler, source: Path, targets: Sequence[Path], **how: Any) -> FileResult:
        return upscaler.restore_file(source, targets[0], **{**vars(self.options), **how})


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

    def named(self, manifest: Manifest) -> dict[str, Any]:
        return {"seed": self.options.seed, "tau": self.options.number(manifest), "suffix": "transferred"}

    def check(self, bundle: Bundle) -> None:
        check_inverts(bundle)
        self.options.taus(bundle.manifest)

    def fields_of(self, manifest: Manifest, size: Size, number: int) -> dict[str, Any]:
        paths = {"source": self.source, "mask": self.mask, "lr": self.lr}
        others = {what: None if path is None else (path, file_sha256(path)) for what, path in paths.items()}
        return self.options.provenance_fields(manifest, others)

    def described(self, manifest: Manifest) -> dict[str, Any]:
        settings = json.loads(self.options.provenance_fields(manifest, {})["settings"])
        return {"operation": TRANSFER, "seed": self.options.seed, **settings}

    def on_file(self, upscaler: Upscaler, source: Path, targets: Sequence[Path], **how: Any) -> FileResult:
        options = dataclasses.replace(self.options, progress=how.pop("progress"), cancel=how.pop("cancel"))
        made: Any = {"output": targets[0], "options": options, "writing": WriteOptions(**how)}
        return transfer_file(upscaler._painter, source, self.source, self.mask, lr=self.lr, **made)
