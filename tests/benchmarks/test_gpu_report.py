"""The report of a machine with a GPU, as far as a CPU allows: the CPU stands for the card, with all else as it is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import metadata
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench.machine import machine, processor
from benchmarks.bench.worker import ROOT
from benchmarks.gpu_report import card as card_module
from benchmarks.gpu_report.builds import Build, gpu_builds
from benchmarks.gpu_report.card import Card, NoGpuError, memory_of, parsed
from benchmarks.gpu_report.pictures import compared
from benchmarks.gpu_report.report import measure, text_of, wrong
from srflow_sdk import Bundle


def test_a_machine_without_a_gpu_gets_one_line_and_no_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_report", str(tmp_path / "report.md")]
    environment = {"PATH": str(tmp_path)}  # no nvidia-smi here, whatever this machine has
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "gpu-report: this machine has no NVIDIA GPU to report on: "
        "nvidia-smi, which comes with NVIDIA's driver, is not on the PATH"
    ]
    assert list(tmp_path.iterdir()) == []


def test_what_nvidia_smi_answers_is_read() -> None:
    assert parsed("NVIDIA H100 80GB HBM3, 550.54.15, 81559, 9.0\nother, 1, 2, 8.9\n") == Card(
        "NVIDIA H100 80GB HBM3", "550.54.15", 81559, 90
    )
    for answer in ("", "No devices were found\n", "NVIDIA X, 550, [N/A], 9.0"):
        with pytest.raises(NoGpuError, match="nvidia-smi answered"):
            parsed(answer)
    apps = "12, 300\n123, 512\n7, [N/A]\n"
    assert [memory_of(process, apps) for process in (12, 123, 7, 8)] == [300 << 20, 512 << 20, None, None]


def test_rtx_engines_are_built_only_for_cards_that_run_them() -> None:
    ada, hopper = (gpu_builds(capability, size=256) for capability in (89, 90))
    assert [build.label for build in ada if build not in hopper] == ["fp16 RTX engines"]
    assert ada[-1].options[:4] == ("--rtx", "fp16", "--sm", "89")
    assert {device for build in ada for device in build.devices} == {"cuda", "tensorrt", "rtx"}
    assert len({build.bundle for build in ada}) == len(ada)


@pytest.mark.parametrize(
    ("driver", "extras"), [("550.54.15", "gpu-cu12,tensorrt-cu12"), ("580.65", "gpu-cu13,tensorrt-cu13")]
)
def test_the_driver_decides_which_wheels_are_installed(driver, extras, tmp_path, monkeypatch, capsys) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\necho 'NVIDIA H100, {driver}, 81559, 9.0'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    card_module.main()
    assert capsys.readouterr().out.strip() == extras
    assert set(extras.split(",")) <= set(metadata("srflow-sdk").get_all("Provides-Extra") or ())


def test_graphs_without_engines_are_timed_at_a_size_that_tensorrt_takes_for_them() -> None:
    folder = Bundle.embedded().path.parent
    largest = Bundle.embedded().manifest.default_profile.max[0]
    graphs, engines = (Build("x4-small", options, ()) for options in ((), ("--trt", "fp16")))
    assert graphs.timed_size(folder, "tensorrt", 4096) == largest < 4096
    assert graphs.timed_size(folder, "tensorrt", 16) == 16
    assert graphs.timed_size(folder, "cuda", 4096) == engines.timed_size(Path("none"), "tensorrt", 4096) == 4096


def test_a_wrong_picture_stays_wrong_when_its_times_are_missing() -> None:
    row = {"build": "fp16", "device": "cuda", "size": 256, "runs_on": "cuda", "psnr": 12.5, "largest": 0.4}
    row |= {"not_finite": 0, "right": False, "missing": "it did not end within 600 s", "said": ["a warning"] * 2}
    about = {"card": asdict(Card("H100", "550.1", 81559, 90)), "machine": machine(), "builds": [], "kernels": ""}
    found = {**about, "pictures": [row, {"build": "fp32", "device": "cuda", "missing": "no library", "said": []}]}
    assert wrong(found) == ["fp16 on cuda: 12.5 dB to the CPU's picture, 0 not finite"]
    text = text_of(found)
    assert "| fp16 | cuda | cuda | 12.5 dB | 4.0e-01 | 0 | **no** |" in text
    assert text.count("fp16: a warning") == 1
    assert "- fp16 on cuda: not measured: it did not end within 600 s" in text


def test_a_picture_is_right_within_the_bound_of_its_precision() -> None:
    expected = np.full((8, 8, 3), 0.5, np.float32)
    near, far = expected + 0.002, expected + 0.05  # 54 and 26 dB
    assert compared(near, expected, exact=False)["right"]
    assert not compared(near, expected, exact=True)["right"]
    assert not compared(far, expected, exact=False)["right"]
    broken = expected.copy()
    broken[0, 0] = np.nan
    found = compared(broken, expected, exact=False)
    assert (found["not_finite"], found["right"]) == (3, False)
    assert compared(expected, expected, exact=True)["psnr"] == 100


@pytest.mark.slow
def test_the_report_has_every_build_and_device_and_says_what_is_missing(tmp_path: Path) -> None:
    card = Card(processor(), "none", 0, 0)
    builds = [
        Build("fp32", (), ("cpu", "cuda")),
        Build("fp16", ("--precision", "fp16"), ("cpu",)),
        Build("fp16 engines", ("--trt", "fp16"), ("tensorrt",)),
    ]
    lines: list[str] = []
    kept: list[str] = []
    text, faults = measure(card, builds, tmp_path, lines.append, quick=True, size=16, keep=kept.append)
    assert faults == []
    assert kept[-1] == text
    assert len(kept) == 7  # after each build, each picture and the kernels
    assert "| fp32 | cpu |" in kept[1]
    assert "| fp16 |" not in kept[1]
    assert re.search(r"^\| fp32 \| cpu \| cpu \| 100.0 dB \| 0.0e\+00 \| 0 \| yes \|$", text, re.MULTILINE)
    assert re.search(r"^\| fp16 \| cpu \| cpu \| [4-9]\d\.\d dB \|.*\| yes \|$", text, re.MULTILINE)
    assert re.search(
        r"^\| fp16 \| cpu \| 16×16 \| [\d.]+ s \| [\d.]+ ms \| [\d.]+ ms \| [\d.]+ ms \|", text, re.MULTILINE
    )
    assert re.search(r"^\| fp16 engines \| --trt fp16 \| .*(GPU|ensor).* \|$", text, re.MULTILINE)
    assert re.search(r"^- fp32 on cuda: not measured: \S", text, re.MULTILINE)
    assert "torch sees no CUDA GPU" in text or "All kernels agree" in text
    figures = json.loads(text.split("```json\n")[1].removesuffix("```\n"))
    assert [row["label"] for row in figures["builds"]] == ["fp32", "fp16", "fp16 engines"]
    assert figures["builds"][0]["peak_bytes"] > 50e6
    assert str(ROOT) not in text
    assert "building fp16 engines" in lines
