"""Upscale a folder on a Ray cluster: workers that hold the model share the files out among them.

    pip install ray
    python examples/ray_batch.py photos/ -o large/                      starts Ray on this machine
    python examples/ray_batch.py photos/ -o large/ --address auto       uses the cluster that this machine belongs to

Subfolders are kept. Every machine needs srflow-sdk, and the two folders under the same path. A file whose worker dies
is given to it again when it is back. The same command with --resume leaves alone what is done.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from srflow_sdk import Bundle, Upscaler
from srflow_sdk._batch.planning import Job, Naming, check_targets, find_inputs, plan_outputs
from srflow_sdk._batch.running import JobResult, Settings, Summary, run_jobs
from srflow_sdk.errors import SRFlowError

RETRIES = 2  # of a file whose worker died


class Worker:
    """An Upscaler in a process of its own, somewhere in the cluster."""

    def __init__(self, model: Path | None, *, device: Any, threads: int) -> None:
        self._upscaler = Upscaler(model, device=device, threads=threads)

    def upscale(self, job: Job, settings: Settings) -> JobResult:
        """What fails with one file is part of the result; what would fail with all is raised."""
        return run_jobs([job], self._upscaler, settings=settings).results[0]


def start_workers(worker: type, *arguments: Any, count: int, cpus: int, gpus: float = 0, **options: Any) -> list[Any]:
    """Ray actors of a class, which are started again when they die, and their calls repeated."""
    actor = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=-1, max_task_retries=RETRIES)(worker)
    return [actor.remote(*arguments, **options) for _ in range(count)]


def share_out(jobs: Sequence[Job], workers: Sequence[Any], settings: Settings) -> Iterator[JobResult]:
    """Give each worker a file whenever it is free; results in the order in which they are done."""
    waiting, running = deque(jobs), {}

    def occupy(worker: Any) -> None:
        if waiting:
            job = waiting.popleft()
            running[worker.upscale.remote(job, settings)] = (worker, job)

    for worker in workers:
        occupy(worker)
    while running:
        (done,), _ = ray.wait(list(running))
        worker, job = running.pop(done)
        occupy(worker)
        try:
            yield ray.get(done)
        except RayTaskError as error:
            raise error.cause from None
        except RayActorError as error:
            reason = str(error).strip().splitlines()[-1]
            yield JobResult(job=job, status="failed", error=f"{job.source}: its worker died, repeatedly: {reason}")


def plan(options: argparse.Namespace, bundle: Bundle) -> list[Job]:
    """The files and their outputs, by absolute paths: workers have directories of their own."""
    tau = bundle.manifest.default_tau if options.tau is None else options.tau
    naming = Naming(samples=options.samples, seed=options.seed, tau=tau, model=bundle.manifest.name)
    photos, out = options.photos.resolve(), options.output.resolve()
    files = find_inputs([photos], out=out, recursive=True)
    jobs = plan_outputs(files, out, naming=naming, directory=True, inputs=[photos])
    check_targets(jobs)
    return jobs


def run(options: argparse.Namespace) -> Summary:
    """Plan, connect, share the files out, and say what became of each."""
    bundle = Bundle.embedded() if options.model is None else Bundle.open(options.model)
    jobs = plan(options, bundle)
    settings = Settings(tau=options.tau, seed=options.seed, resume=options.resume)
    os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"  # the first worker's complaint ends the batch, once is enough
    ray.init(address=options.address, log_to_driver=False)
    kind, each = ("GPU", options.gpus) if options.gpus else ("CPU", options.cpus)
    fitting = int(ray.cluster_resources().get(kind, 0) // each)
    if not fitting:
        raise SystemExit(f"error: the cluster has no {each:g} {kind}s for a worker")
    workers = start_workers(
        Worker,
        bundle.path.resolve(),
        count=min(fitting, len(jobs)),
        cpus=options.cpus,
        gpus=options.gpus,
        device="cuda" if options.gpus else "cpu",
        threads=options.cpus,
    )
    results = []
    for result in share_out(jobs, workers, settings):
        results.append(result)
        print(f"{len(results)}/{len(jobs)} {result.status}: {result.error or result.job.source}", flush=True)
    return Summary(results=tuple(results), jobs=len(jobs), interrupted=False)


def main() -> None:
    """The exit status is 0 if every file is there, 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder; its subfolders too")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    parser.add_argument("--address", help="of a cluster; auto: of this machine's  [default: a new one here]")
    parser.add_argument("--model", type=Path, help="bundle  [default: the embedded one]")
    parser.add_argument("--cpus", type=int, default=2, help="of a worker  [default: 2]")
    parser.add_argument("--gpus", type=float, default=0, help="of a worker  [default: 0, on the CPU]")
    parser.add_argument("--tau", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="leave alone what is done with these settings")
    try:
        summary = run(parser.parse_args())
    except SRFlowError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command with --resume goes on")
    print(summary)
    sys.exit(1 if summary.count("failed") else 0)


if __name__ == "__main__":
    main()
