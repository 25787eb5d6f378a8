"""A pipeline of Ray Data: upscale the photographs of a table, and write what became of them.

    pip install ".[ray]"
    python examples/ray_batch.py photos.csv made/    # photos.csv has the columns source and target

Paths must exist on every machine of the cluster. For a whole folder, or a bucket, with resuming and
a report, there is `srflow-upscale photos -o large --ray auto`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ray

from srflow_sdk import ImageError, Upscaler


class Upscale:
    """An actor: it opens the model once, then upscales the file that each row names."""

    def __init__(self) -> None:
        self._upscaler = Upscaler()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row, with its status, an error in one line, and how many seconds it took."""
        Path(row["target"]).parent.mkdir(parents=True, exist_ok=True)
        try:
            made = self._upscaler.upscale_file(row["source"], row["target"], tau=0.8)
        except ImageError as error:  # what concerns this file alone
            return {**row, "status": "failed", "error": str(error), "seconds": float("nan")}
        return {**row, "status": "done", "error": "", "seconds": made.seconds}


def main(table: str, out: str) -> None:
    """Upscale what the table names on one to eight actors, and write the table's rows with their
    results.
    """
    made = ray.data.read_csv(table).map(
        Upscale, concurrency=(1, 8), num_cpus=1
    )  # num_gpus=1 on machines with GPUs
    made.write_csv(out)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
