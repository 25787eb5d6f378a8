"""The operation of srflow-transfer: parts of pictures are put into others."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from srflow_apps.batch.operations import Files, Operation, Size, local
from srflow_sdk.drawing.file_upscaling import FileResult
from srflow_sdk.errors import ImageError
from srflow_sdk.files import READABLE, Provenance, WriteOptions
from srflow_sdk.files.provenance import TRANSFER
from srflow_sdk.flow.flow_options import TransferOptions
from srflow_sdk.flow.transferring import transfer_file, transferred_provenance
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.model.round_trips import check_inverts
from srflow_sdk.system.local_files import file_sha256

if TYPE_CHECKING:
    from srflow_apps.batch.jobs import Job
    from srflow_sdk.base_upscaler import BaseUpscaler


@dataclass(frozen=True, kw_only=True)
class Transferring(Operation):
    """Putting parts of other pictures into the inputs, as in :meth:`Upscaler.transfer_file`.

    options: without `progress` and `cancel`.
    source, mask, lr: files for all inputs, or folders with a picture for each, of the input's name in its own folder.
    """

    options: TransferOptions = field(default_factory=TransferOptions)
    source: Path
    mask: Path
    lr: Path | None = None

    name = TRANSFER

    @property
    def seed(self) -> int:
        return self.options.seed

    def tau_number(self, manifest: Manifest) -> float | None:
        return self.options.number(manifest)

    def check(self, bundle: Bundle) -> None:
        check_inverts(bundle)
        self.options.taus(bundle.manifest)

    def provenance(self, job: Job, manifest: Manifest, *, size: Size, number: int, source_sha256: str) -> Provenance:
        others = {what: None if path is None else (path, file_sha256(path)) for what, path in self._others(job).items()}
        return transferred_provenance(
            manifest, self.options, others, target=Path(), target_sha256=source_sha256, tile=None
        )

    def described(self, manifest: Manifest) -> dict[str, Any]:
        return {"operation": TRANSFER, "seed": self.seed, **json.loads(self.options.recorded(manifest, {}))}

    def on_file(self, upscaler: BaseUpscaler, files: Files) -> FileResult:
        others = self._others(files.job)
        return transfer_file(
            local(upscaler)._painter,
            files.source,
            cast("Path", others["source"]),
            cast("Path", others["mask"]),
            files.targets[0],
            lr=others["lr"],
            options=dataclasses.replace(self.options, progress=files.progress, cancel=files.cancel),
            writing=WriteOptions(**files.writing),
        )

    def timed(self, upscaler: BaseUpscaler, piece: NDArray[Any]) -> tuple[NDArray[Any], float, float]:
        begun = time.monotonic()
        everything = np.full(piece.shape[:2], 255, np.uint8)
        answer: NDArray[Any] = local(upscaler).transfer(piece, piece, everything, blend=self.options.blend)
        return answer, time.monotonic() - begun, 0.0

    def _others(self, job: Job) -> dict[str, Path | None]:
        """The files besides the target. Raises: ImageError if a folder does not have the one for this job."""
        places = {"source": self.source, "mask": self.mask, "lr": self.lr}
        return {what: None if place is None else _belonging(place, job) for what, place in places.items()}


def _belonging(place: Path, job: Job) -> Path:
    """The file itself, or the picture in a folder that has the job's name there, but for the ending."""
    if not place.is_dir():
        return place
    folder = place / job.name.parent
    found = [
        path for path in sorted(folder.glob("*")) if path.stem == job.name.stem and path.suffix.lower() in READABLE
    ]
    if len(found) != 1:
        why = f"it has {', '.join(path.name for path in found)}" if found else "it has none"
        raise ImageError(f"{folder} must have one picture called {job.name.stem}, as {job.source} is, but {why}")
    return found[0]
