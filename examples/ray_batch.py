"""Upscale a folder on a Ray cluster: each task runs upscale_folder on one part of the folder's files.

    pip install ray
    python examples/ray_batch.py photos/ -o large/                      starts Ray on this machine
    python examples/ray_batch.py photos/ -o large/ --address auto       uses the cluster that this machine belongs to

Subfolders are kept. Every machine needs srflow-sdk, and both folders under the same path. There are many more parts
than machines, so that fast machines do more of them. If a machine dies, its part goes to another one, which skips what
is done. The same command with --resume skips what an earlier run did.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from srflow_sdk import FolderResult, Upscaler, upscale_folder

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError:
    sys.exit("error: ray is not installed; install it: pip install ray")

RETRIES = 2  # for a part whose machine died
PARTS_PER_WORKER = 4


def upscale_part(part: int, parts: int, options: argparse.Namespace, *, resume: bool) -> FolderResult:
    """Upscale one part of the folder. Raises: SRFlowError for a failure that would repeat with every part."""
    device = "cuda" if options.gpus else "cpu"
    with Upscaler(options.model, device=device, threads=options.cpus) as upscaler:
        return upscale_folder(
            options.photos,
            options.output,
            upscaler=upscaler,
            recursive=True,
            resume=resume,
            shard=(part, parts),
            samples=options.samples,
            tau=options.tau,
            seed=options.seed,
        )


def share_out(task: Any, parts: int, options: argparse.Namespace, *, resume: bool) -> Iterator[FolderResult]:
    """The results of all parts, as they finish. Raises: RayError if a part's machines die again and again."""
    running = {task.remote(part, parts, options, resume=resume): (part, 0) for part in range(1, parts + 1)}
    while running:
        (done,), _ = ray.wait(list(running))
        part, retries = running.pop(done)
        try:
            yield ray.get(done)
        except RayTaskError:
            raise
        except RayError:  # the machine or the worker died
            if retries == RETRIES:
                raise
            running[task.remote(part, parts, options, resume=True)] = (part, retries + 1)


def run(options: argparse.Namespace) -> Counter[str]:
    """Connect, distribute the parts, print what happened to each file, and count."""
    options.photos, options.output = options.photos.resolve(), options.output.resolve()
    options.model = None if options.model is None else options.model.resolve()
    os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"  # the first part's error ends the batch; do not print it twice
    ray.init(address=options.address, log_to_driver=False)
    kind, each = ("GPU", options.gpus) if options.gpus else ("CPU", options.cpus)
    parts = PARTS_PER_WORKER * int(ray.cluster_resources().get(kind, 0) // each)
    if not parts:
        sys.exit(f"error: the cluster does not have {each:g} {kind}s for a worker; give a smaller --{kind.lower()}s")
    task = ray.remote(num_cpus=options.cpus, num_gpus=options.gpus, max_retries=0)(upscale_part)
    statuses: dict[Path, str] = {}
    for number, result in enumerate(share_out(task, parts, options, resume=options.resume), start=1):
        for file in result.files:
            if file.source not in statuses:  # every part says what is wrong with the folder itself
                print(f"part {number}/{parts} {file.status}: {file.error or file.source}", flush=True)
            statuses[file.source] = file.status
    return Counter(statuses.values())


def main() -> None:
    """Run the command. The exit status is 0 if every file exists, 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder with photos, including subfolders")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--address", help="address of a cluster; auto: this machine's  [default: a new one here]")
    parser.add_argument("--model", type=Path, help="bundle  [default: the embedded model]")
    parser.add_argument("--cpus", type=int, default=2, help="CPUs of a worker  [default: 2]")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of a worker  [default: 0, on the CPU]")
    parser.add_argument("--tau", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="skip what was already made with these settings")
    try:
        counted = run(parser.parse_args())
    except RayTaskError as error:
        sys.exit(f"error: {error.cause}")
    except RayError as error:
        sys.exit(f"error: {str(error).strip().splitlines()[-1]}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command with --resume goes on")
    print(", ".join(f"{counted[status]} {status}" for status in ("done", "skipped", "failed")))
    sys.exit(1 if counted["failed"] else 0)


if __name__ == "__main__":
    main()
