"""The report of a machine with a GPU: its rows, their order and the exit status; its checks are in
another file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bench.processes import ROOT, MissingError
from benchmarks.gpu_report import __main__ as command
from benchmarks.gpu_report.report import (
    CPU,
    EMBEDDED,
    NVCC,
    SDK,
    TORCH,
    Report,
    Row,
    Runner,
    exit_status,
    judge_aims,
)
from srflow_sdk.system.hardware import Gpu

FINE, WRONG, NO_VERDICT, SLOW = range(4)  # as --help has it
RIGHT = Row("square, 64×64", TORCH, "70.0 dB", "≥ 38 dB", "fine")
H100 = Gpu(name="NVIDIA H100", compute_capability="9.0", cuda="12.4")


def timed(engine: str, milliseconds: float, *, further: float = 1.0) -> list[Row]:
    figures = {"one picture, warm": milliseconds, "a further sample, warm": further}
    return [Row(check, engine, f"{figure} ms", figure=figure) for check, figure in figures.items()]


@pytest.mark.parametrize(
    ("cuda", "found"), [("12.4", "gpu-cu12,tensorrt-cu12"), ("13.0", "gpu-cu13,tensorrt-cu13")]
)
def test_the_driver_decides_which_wheels_are_installed(cuda, found, monkeypatch, capsys) -> None:
    monkeypatch.setattr(command, "find_gpu", lambda: replace(H100, cuda=cuda))
    command.extras()
    assert capsys.readouterr().out.strip() == found
    assert set(found.split(",")) <= set(metadata("srflow-sdk").get_all("Provides-Extra") or ())
    monkeypatch.setattr(command, "find_gpu", lambda: None)
    with pytest.raises(SystemExit, match=r"^gpu-report: no NVIDIA GPU: "):
        command.extras()


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([RIGHT, *timed(TORCH, 14.9)], FINE),
        ([RIGHT, *timed(TORCH, 15.1)], SLOW),
        # the best engine is judged
        ([RIGHT, *timed(TORCH, 15.1), *timed("tensorrt fp16", 12.0)], FINE),
        ([RIGHT, *timed(TORCH, 14.9, further=3.2)], SLOW),
        (
            [
                RIGHT,
                *timed(TORCH, 15.1),
                Row("square, 64×64", "cuda fp16", "12.0 dB", "≥ 38 dB", "wrong"),
            ],
            WRONG,
        ),
        ([RIGHT, *timed(EMBEDDED, 2.0)], NO_VERDICT),  # another network
        (
            [
                RIGHT,
                *timed(TORCH, 14.9),
                Row("pictures", TORCH, "it did not end", verdict="no verdict"),
            ],
            NO_VERDICT,
        ),
        ([], NO_VERDICT),
    ],
)
def test_the_exit_status_says_wrong_before_slow_and_slow_before_fine(
    rows: list[Row], status: int
) -> None:
    assert exit_status([*rows, *judge_aims(rows)]) == status


class Children:
    """Processes that answer each check with a row, or as `found` says: with all that it lists, in
    turn."""

    def __init__(self, answers: Mapping[tuple[str, str], Any]) -> None:
        # type: ignore[var-annotated]
        self.found = answers
        self.started = []
        self.asked = []

    def __call__(self, variant: Mapping[str, Any]) -> Children:
        self.engine = variant["engine"]
        self.started.append(self.engine)
        return self

    def ask(self, *, limit_s: float, check: str) -> Iterator[dict[str, Any]]:
        self.asked.append((self.engine, check))
        for answer in self.found.get(
            (self.engine, check), [{"row": vars(Row(check, self.engine, "", "", "fine"))}]
        ):
            found = answer() if callable(answer) else answer
            if isinstance(found, BaseException):
                raise found
            yield found

    def __exit__(self, *_: Any) -> None: ...


def report(tmp_path: Path, children: Children, *, budget: float = 60) -> list[Row]:
    report = Report(tmp_path / "report.md", "A card.")
    Runner(report, {}, budget, lambda _: None, start=children).run()
    return report.rows


def test_the_rows_of_a_process_that_dies_are_kept_and_the_next_check_gets_another(
    tmp_path: Path,
) -> None:
    picture, _ = timed(TORCH, 12.0)
    crash = MissingError("its process ended with status -11")
    children = Children({(TORCH, "pictures"): [{"row": vars(picture)}, crash]})
    rows = report(tmp_path, children)
    found = rows.index(picture)
    assert rows[found + 1] == Row("pictures", TORCH, str(crash), verdict="wrong")
    assert rows[found + 2] == Row("times", TORCH, "", verdict="fine")
    assert children.started[:5] == [EMBEDDED, CPU, NVCC, TORCH, TORCH]
    assert str(picture) in (tmp_path / "report.md").read_text().splitlines()


def test_without_its_reference_nothing_is_compared(tmp_path: Path) -> None:
    children = Children(
        {
            (CPU, "reference"): [
                MissingError("its process was killed, most likely for want of memory")
            ]
        }
    )
    rows = report(tmp_path, children)
    assert children.asked[-1] == (CPU, "reference")
    assert {row.verdict for row in rows if row.engine != EMBEDDED} == {"not run"}


def test_what_was_finished_is_in_the_file_of_a_run_that_was_stopped(
    tmp_path, monkeypatch, capsys
) -> None:
    children = Children({(TORCH, "loading"): [KeyboardInterrupt()]})
    monkeypatch.setattr(command, "find_gpu", lambda: H100)
    monkeypatch.setattr(command, "gpu_free_memory", lambda: 80 << 30)
    monkeypatch.setattr(command, "Runner", lambda *arguments: Runner(*arguments, start=children))
    target = tmp_path / "report.md"
    assert command.main([str(target), "--work", str(tmp_path)]) == NO_VERDICT
    lines = target.read_text().splitlines()
    assert lines[2] == "NVIDIA H100, 80 GiB free, a driver for CUDA 12.4, compute capability 9.0."
    assert lines[-1] == "| kernels | nvcc |  |  | fine |"
    assert "stopped" in capsys.readouterr().err
    children.found = {}
    assert command.main([str(target), "--work", str(tmp_path), "--quick"]) == FINE  # no aims
    assert target.read_text().splitlines()[-1].startswith("Verdict: fine. Checks: ")
    assert command.main([str(target), "--work", str(tmp_path)]) == NO_VERDICT
    assert (
        "| aim: one picture |  |  | ≤ 15 ms | not run: no engine was timed |" in target.read_text()
    )
    assert command.main([str(tmp_path), "--work", str(tmp_path)]) == NO_VERDICT
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("gpu-report: the file cannot be written: [Errno 21] Is a directory")


def start(tmp_path: Path, **environment: str) -> subprocess.Popen[str]:
    """The command on a machine without a GPU."""
    arguments = [
        sys.executable,
        "-m",
        "benchmarks.gpu_report",
        str(tmp_path / "report.md"),
        "--work",
        str(tmp_path),
    ]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment}
    arguments += ["--quick", "--size", "32"]
    return subprocess.Popen(arguments, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_machine_without_a_gpu_gets_the_reference_and_what_each_engine_lacks(
    tmp_path: Path,
) -> None:
    report = start(tmp_path)
    report.communicate(timeout=300)
    assert report.returncode == NO_VERDICT
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert lines[2] == "No NVIDIA GPU."
    assert "| reference | cpu fp32 | float32 pictures of 3 sizes |  |  |" in lines
    assert [line.split(" | ")[1] for line in lines if "not run: " in line] == [
        EMBEDDED,
        NVCC,
        TORCH,
        *SDK,
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_told_to_end_ends_its_processes_and_has_no_verdict(
    number: int, tmp_path: Path
) -> None:
    # torch is what the child waits for: it says who it is
    (tmp_path / "torch.py").write_text(
        f"import os, time\nopen({str(tmp_path / 'pid')!r}, "
        f"'w').write(f'{{os.getpid()}}\\n')\ntime.sleep(60)\n"
    )
    report = start(tmp_path, PYTHONPATH=str(tmp_path))
    try:
        pid = wait_for(tmp_path / "pid")
        report.send_signal(number)
        _, said = report.communicate(timeout=30)
        assert report.returncode == NO_VERDICT
        assert said.splitlines()[-1] == "stopped; the file has what was found so far"
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    finally:
        report.kill()


def wait_for(file: Path) -> int:
    """The number in a file, once it is there."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if file.is_file() and file.read_text(encoding="utf-8").endswith("\n"):
            return int(file.read_text(encoding="utf-8"))
        time.sleep(0.05)
    raise AssertionError(f"{file} is not there")
