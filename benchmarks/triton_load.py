"""Load on a real Triton Inference Server, beside a bare loop of the SDK.

python benchmarks/triton_load.py [--model BUNDLE] [--seconds 120] [--clients 16]

Every answer is compared with the local one. Needs `make tritonserver` and tritonclient; on CPUs
only.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from srflow_export.triton import write_repository
from srflow_sdk import Bundle, Upscaler
from tests.tritonserver.environment import UnavailableError, server_environment
from tests.tritonserver.load import Load, Question, questions, served
from tests.tritonserver.server import running_server


def format_load(what: str, load: Load) -> str:
    """Throughput and latency of a load."""
    percentiles = statistics.quantiles(load.seconds, n=100, method="inclusive")
    latencies = ", ".join(
        f"p{percent} {percentiles[percent - 1]:.2f} s" for percent in (50, 90, 99)
    )
    count = len(load.seconds)
    return (
        f"{what}: {count} pictures in {load.duration:.0f} s, {count / load.duration:.2f} a "
        f"second; {latencies}"
    )


def run_bare(upscaler: Upscaler, asked: Sequence[Question], *, seconds: float) -> Load:
    """The same pictures in a loop of the SDK in this process, one after another."""
    load = Load()
    start = time.perf_counter()
    for question in itertools.cycle(asked):
        before = time.perf_counter()
        upscaler.upscale(question.image, seed=question.seed)
        load.seconds.append(time.perf_counter() - before)
        if time.perf_counter() - start > seconds:
            break
    load.duration = time.perf_counter() - start
    return load


def main() -> None:
    """Run both and print them; exits with status 1 if an answer was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=16)
    arguments = parser.parse_args()
    try:
        environment = server_environment()
    except UnavailableError as error:
        sys.exit(f"error: {error}")
    bundle = Bundle.embedded() if arguments.model is None else Bundle.open(arguments.model)
    flags = [
        "--model-config-name=cpu",
        "--model-control-mode=explicit",
        "--load-model=srflow_upscale",
    ]
    with tempfile.TemporaryDirectory() as folder, Upscaler(bundle, device="cpu") as upscaler:
        asked = questions(upscaler)
        print(
            format_load(
                "bare Upscaler, one after another",
                run_bare(upscaler, asked, seconds=arguments.seconds / 4),
            )
        )
        write_repository(bundle.path, Path(folder) / "models")
        with running_server(environment, Path(folder) / "models", Path(folder), *flags) as server:
            load = served(server, asked, seconds=arguments.seconds, clients=arguments.clients)
    print(format_load(f"Triton, {arguments.clients} clients", load))
    grown = (
        f"{min(load.memory) / 2**20:.0f} to {max(load.memory) / 2**20:.0f} MiB, "
        f"{load.growth():+.1%} after warm-up"
    )
    print(f"memory of the server and its models: {grown}")
    print(f"wrong answers and errors: {len(load.wrong)} {load.wrong[:3] if load.wrong else ''}")
    sys.exit(bool(load.wrong))


if __name__ == "__main__":
    main()
