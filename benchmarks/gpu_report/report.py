"""The report: everything that was found, as one Markdown text with its figures as JSON at the end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.bench.machine import machine, one_line
from benchmarks.bench.networks import prepared
from benchmarks.bench.page import dumped, table
from benchmarks.bench.timing import Times
from benchmarks.bench.worker import ROOT, MissingError
from benchmarks.gpu_report import pictures
from benchmarks.gpu_report.builds import Build, built
from benchmarks.gpu_report.card import Card

TARGET_MS, FURTHER_TARGET_MS = 15, 3  # of 256×256 LR in fp16 on an H100
_KERNELS_LIMIT_S = 900


def gathered(
    card: Card,
    builds: Sequence[Build],
    work: Path,
    say: Callable[[str], None],
    *,
    quick: bool,
    size: int,
    keep: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Export, build, compare and time everything. `builds` starts with float32 graphs, which the CPU runs too.

    keep: receives what has been found so far, whenever that is more.
    """
    networks = prepared(work, ["x4"], say, tiny=quick, exports=False)
    folder = work / f"gpu-{networks.folder.name}"
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"card": asdict(card), "machine": machine(), "builds": [], "pictures": [], "kernels": ""}
    correct_size, runs = min(64, size), 1 if quick else 10  # engines pad what is smaller than they take
    expected = None
    for build in builds:
        say(f"building {build.label}")
        found["builds"].append(built(build, networks.folder / "x4.pth", folder))
        keep(found)
        if "missing" in found["builds"][-1]:
            continue
        if expected is None:
            expected = pictures.reference(folder, build.bundle, correct_size)
        for device in build.devices:
            say(f"{build.label} on {device}")
            sizes = {"correct_size": correct_size, "size": build.timed_size(folder, device, size), "runs": runs}
            found["pictures"].append(pictures.measured(build, device, folder, expected, **sizes))
            keep(found)
    say("kernels: benchmarks/gpu.py")
    found["kernels"] = _kernels(size)
    keep(found)
    return found


def _kernels(size: int) -> str:
    """What gpu.py prints, or why it cannot run."""
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--size", str(size), "--skip-ort"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_KERNELS_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"It did not end within {_KERNELS_LIMIT_S} s."
    return done.stdout + (done.stderr[-4000:] if done.returncode else "")


def wrong(found: dict[str, Any]) -> list[str]:
    """A line for each picture that is not what it must be."""
    return [
        f"{row['build']} on {row['device']}: {row['psnr']:.1f} dB to the CPU's picture, {row['not_finite']} not finite"
        for row in found["pictures"]
        if not row.get("right", True)
    ]


def text_of(found: dict[str, Any]) -> str:
    """The file."""
    card, rows = found["card"], found["pictures"]
    gibibytes = f"{card['memory'] / 1024:.0f} GiB"
    about = f"{card['name']}, {gibibytes}, driver {card['driver']}, compute capability {card['compute_capability']}"
    parts = ["# GPU report", f"{about}.", one_line(found["machine"])]
    parts += ["## Builds", _builds(found["builds"])]
    drawn = [row for row in rows if "right" in row]
    parts += ["## Pictures beside the CPU's, from float32 graphs", _correctness(drawn)]
    parts += ["## Times of ×4", _times([row for row in rows if "missing" not in row])]
    parts += [f"Aimed at on an H100, 256×256 in fp16: ≤ {TARGET_MS} ms, and ≤ {FURTHER_TARGET_MS} ms a further sample."]
    lacking = [row for row in rows if "missing" in row]
    parts += [f"- {row['build']} on {row['device']}: not measured: {row['missing']}" for row in lacking]
    parts += ["## What was said meanwhile", _said([*found["builds"], *rows])]
    parts += ["## Kernels", f"```\n{found['kernels'].strip()}\n```", "## Figures", f"```json\n{dumped(found)}```"]
    return "\n\n".join(parts).replace("\n\n- ", "\n- ") + "\n"


def _builds(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        size = row["missing"] if "missing" in row else f"{row['disk_bytes'] / 1e6:.1f} MB"
        options = " ".join(row["options"]) or "(none)"
        lines.append([row["label"], options, f"{row['seconds']:.1f} s", f"{row['peak_bytes'] / 1e9:.2f} GB", size])
    return table(["bundle", "options of srflow-export", "time", "peak memory", "on disk"], lines)


def _said(rows: list[dict[str, Any]]) -> str:
    """Warnings, and whatever else stood on standard error."""
    lines = [f"{row.get('build') or row['label']}: {line}" for row in rows for line in dict.fromkeys(row["said"])]
    return f"```\n{chr(10).join(lines)}\n```" if lines else "Nothing."


def _correctness(rows: list[dict[str, Any]]) -> str:
    head = ["bundle", "device", "runs on", "PSNR", "largest difference", "not finite", "right"]
    return table(
        head,
        [
            [
                row["build"],
                row["device"],
                row["runs_on"],
                f"{row['psnr']:.1f} dB",
                f"{row['largest']:.1e}",
                str(row["not_finite"]),
                "yes" if row["right"] else "**no**",
            ]
            for row in rows
        ],
    )


def _times(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        first, further, many = (Times(tuple(row[name])).median for name in ("first", "further", "many"))
        rate = pictures.MANY * (4 * row["size"]) ** 2 / many / 1e6
        memory = "–" if row["gpu_bytes"] is None else f"{row['gpu_bytes'] / 1e9:.2f} GB"
        times = [f"{1e3 * seconds:.1f} ms" for seconds in (first, further, many)]
        size = f"{row['size']}×{row['size']}"
        lines.append([row["build"], row["device"], size, f"{row['load_seconds']:.1f} s", *times, f"{rate:.1f}", memory])
    head = ["bundle", "device", "LR", "loading", "one sample", "another τ", f"{pictures.MANY} samples"]
    return table([*head, "megapixels a second", "GPU memory"], lines)


def measure(
    card: Card,
    builds: Sequence[Build],
    work: Path,
    say: Callable[[str], None],
    *,
    quick: bool,
    size: int,
    keep: Callable[[str], None] = lambda _: None,
) -> tuple[str, list[str]]:
    """The file's text, and what is wrong. keep: receives the text so far. Raises: MissingError if nothing was drawn."""
    found = gathered(card, builds, work, say, quick=quick, size=size, keep=lambda so_far: keep(text_of(so_far)))
    if not found["pictures"]:
        raise MissingError(f"srflow-export made no bundle: {found['builds'][0].get('missing', 'see above')}")
    return text_of(found), wrong(found)
