"""What a program waits for: the import, a command's help, and the first picture."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from typing import Any

from benchmarks.bench.parts import Settings, table
from benchmarks.bench.processes import ROOT
from benchmarks.bench.timing import Times, call_in_turn, measure_seconds

_PICTURE = (
    "from PIL import Image; from srflow_sdk import Upscaler; "
    "Upscaler(device='cpu').upscale(Image.new('RGB', (64, 64)))"
)
SCRIPTS = {
    "Python itself": "pass",
    "import srflow_sdk": "import srflow_sdk",
    "srflow-upscale --help": "import sys; sys.argv[1:] = ['--help']; "
    "from srflow_apps.commands.cli import upscale; upscale()",
    "first picture, 64×64": _PICTURE,
}


def run(settings: Settings) -> dict[str, Any]:
    """Seconds of whole processes, in turn."""
    # With bytecode, as pip installs it: the first run, which does not count, writes it where there
    # is none.
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    environment |= {"PYTHONPYCACHEPREFIX": str(settings.work / "bytecode")}
    calls = {
        name: partial(measure_seconds, partial(_process, script, environment))
        for name, script in SCRIPTS.items()
    }
    runs = 1 if settings.quick else 9
    return {
        "seconds": {name: times.seconds for name, times in call_in_turn(calls, runs=runs).items()}
    }


def _process(script: str, environment: dict[str, str]) -> None:
    subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )


def subtract_python(result: dict[str, Any], name: str) -> float:
    """Seconds of a process beyond those of one that does nothing, as medians."""
    own, nothing = (Times(tuple(result["seconds"][each])) for each in (name, "Python itself"))
    return own.median - nothing.median


def tables(result: dict[str, Any]) -> str:
    """A row for each script."""
    rows = [
        [
            name,
            str(Times(tuple(seconds))),
            "" if name == "Python itself" else f"{subtract_python(result, name):.3f} s",
        ]
        for name, seconds in result["seconds"].items()
    ]
    return table(["A new process, embedded model", "whole", "beyond Python itself"], rows)
