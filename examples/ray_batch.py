"""UpscaleFiles in a pipeline of Ray Data: upscale the photographs that a table names, and write what became of them.

    pip install ".[ray]"
    python examples/ray_batch.py photos.csv made/         photos.csv has the columns source and target

Paths must exist on every machine of the cluster, or be URLs (s3://bucket/photo.jpg). For a whole folder, with resuming
and a report, there is `srflow-upscale photos -o large --ray auto`.
"""

from __future__ import annotations

import sys

import ray

from srflow_sdk.ray import UpscaleFiles


def main(table: str, out: str) -> None:
    """Upscale what the table names, one file for each actor and call, and write the table's rows with their results."""
    made = ray.data.read_csv(table).map_batches(
        UpscaleFiles, fn_constructor_kwargs={"tau": 0.8}, batch_size=1, concurrency=(1, 8), num_cpus=1
    )  # num_gpus=1 on machines with GPUs
    made.write_csv(out)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
