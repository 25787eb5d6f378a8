"""The report of a machine with a GPU: its rows, their order and the exit status; its checks are in the next file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bench.processes import ROOT, MissingError
from benchmarks.gpu_report import __main__ as command
from benchmarks.gpu_report import card as card_module
from benchmarks.gpu_report.card import Card, NoGpuError, parsed
from benchmarks.gpu_report.checks import CHECKS
from benchmarks.gpu_report.order import CPU, SDK, TORCH, Runner, order
from benchmarks.gpu_report.rows import FINE, NO_VERDICT, SLOW, WRONG, Report, Row, aims, exit_status, summary

RIGHT = Row("square, 64×64", TORCH, "70.0 dB", "≥ 38 dB", "fine")


def timed(engine: str, milliseconds: float, *, further: float = 1.0) -> list[Row]:
    how = "CUDA graph, CUDA events"
    return [
        Row(f"one picture, {how}", engine, f"{milliseconds} ms", figure=milliseconds),
        Row(f"a further sample, {how}", engine, f"{further} ms", figure=further),
    ]


def test_a_machine_without_a_gpu_gets_one_line_and_no_file(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "benchmarks.gpu_report", str(tmp_path / "report.md")]
    environment = {"PATH": str(tmp_path)}  # no nvidia-smi here, whatever this machine has
    done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == NO_VERDICT
    assert done.stderr.splitlines() == [
        "gpu-report: this machine has no NVIDIA GPU to report on: "
        "nvidia-smi, which comes with NVIDIA's driver, is not on the PATH"
    ]
    assert list(tmp_path.iterdir()) == []


def test_what_nvidia_smi_answers_is_read() -> None:
    assert parsed("NVIDIA H100 80GB HBM3, 550.54.15, 81559, 9.0\nother, 1, 2, 8.9\n") == Card(
        "NVIDIA H100 80GB HBM3", "550.54.15", 81559, 90
    )
    assert parsed("NVIDIA GB10, 580.95, [N/A], 12.1") == Card("NVIDIA GB10", "580.95", 0, 121)  # it has the host's
    for answer in ("", "No devices were found\n", "NVIDIA X, 550, 81559"):
        with pytest.raises(NoGpuError, match="nvidia-smi answered"):
            parsed(answer)


@pytest.mark.parametrize(("visible", "named"), [("", "--id=0"), ("2,1", "--id=2"), ("GPU-abc", "--id=GPU-abc")])
def test_the_card_is_cudas_first(visible: str, named: str, tmp_path, monkeypatch) -> None:
    smi(tmp_path, "a card, 580.1, 81559, 9.0, $*")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert card_module.answer("name").strip().endswith(f"nounits {named}")


@pytest.mark.parametrize(
    ("driver", "extras"), [("550.54.15", "gpu-cu12,tensorrt-cu12"), ("580.65", "gpu-cu13,tensorrt-cu13")]
)
def test_the_driver_decides_which_wheels_are_installed(driver, extras, tmp_path, monkeypatch, capsys) -> None:
    smi(tmp_path, f"NVIDIA H100, {driver}, 81559, 9.0")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    card_module.main()
    assert capsys.readouterr().out.strip() == extras
    assert set(extras.split(",")) <= set(metadata("srflow-sdk").get_all("Provides-Extra") or ())


def smi(folder: Path, answer: str) -> None:
    """An nvidia-smi that answers everything with this."""
    file = folder / "nvidia-smi"
    file.write_text(f'#!/bin/sh\necho "{answer}"\n')
    file.chmod(0o755)


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([RIGHT, *timed(TORCH, 14.9)], FINE),
        ([RIGHT, *timed(TORCH, 15.1)], SLOW),
        ([RIGHT, *timed(TORCH, 15.1), *timed("tensorrt fp16", 12.0)], FINE),  # the best engine is judged
        ([RIGHT, *timed(TORCH, 14.9, further=3.2)], SLOW),
        ([RIGHT, *timed(TORCH, 15.1), Row("square, 64×64", "cuda fp16", "12.0 dB", "≥ 38 dB", "wrong")], WRONG),
        ([RIGHT], NO_VERDICT),
        ([RIGHT, *timed(TORCH, 14.9), Row("pictures", TORCH, "it did not end", verdict="no verdict")], NO_VERDICT),
        ([], NO_VERDICT),
    ],
)
def test_the_exit_status_says_wrong_before_slow_and_slow_before_fine(rows: list[Row], status: int) -> None:
    assert exit_status([*rows, *aims(rows)]) == status


def test_the_aims_are_judged_by_the_fastest_engine() -> None:
    picture, further = aims([*timed(TORCH, 20.0, further=2.0), *timed("tensorrt fp16", 12.3, further=4.0)])
    assert str(picture) == (
        "| aim: one picture | tensorrt fp16 | reached: 12.3 ms, CUDA graph, CUDA events | ≤ 15 ms | fine |"
    )
    assert (further.engine, further.verdict) == (TORCH, "fine")
    assert str(aims([])[0]) == "| aim: one picture |  |  | ≤ 15 ms | not run: no engine was timed |"
    line = summary([RIGHT, picture, further])
    assert line.startswith("Verdict: fine. one picture reached: 12.3 ms, CUDA graph, CUDA events; a further sample")


def test_every_check_is_known_and_what_the_verdict_needs_comes_first() -> None:
    jobs = list(order())
    assert {check for _, check in jobs} == CHECKS.keys()
    assert len(set(jobs)) == len(jobs)
    assert jobs[0] == (CPU, "reference")
    last = max(jobs.index((engine, "times")) for engine in (TORCH, *SDK))
    assert last < jobs.index((TORCH, "repeats"))
    assert {engine for engine, _ in jobs} == {CPU, TORCH, *SDK}


class Children:
    """Processes that answer each check with a row, or as `found` says: with all that it lists, in turn."""

    def __init__(self, answers: Mapping[tuple[str, str], Any]) -> None:
        self.found, self.started, self.asked = answers, [], []  # type: ignore[var-annotated]

    def __call__(self, variant: Mapping[str, Any]) -> Children:
        self.engine = variant["engine"]
        self.started.append(self.engine)
        return self

    def answers(self, *, limit_s: float, check: str) -> Iterator[dict[str, Any]]:
        self.asked.append((self.engine, check))
        for answer in self.found.get((self.engine, check), [{"row": vars(Row(check, self.engine, "", "", "fine"))}]):
            found = answer() if callable(answer) else answer
            if isinstance(found, BaseException):
                raise found
            yield found

    def __exit__(self, *_: Any) -> None: ...


def reported(tmp_path: Path, children: Children, *, budget: float = 60) -> list[Row]:
    report = Report(tmp_path / "report.md", "A card.")
    Runner(report, {}, budget, lambda _: None, start=children).run()
    return report.rows


def test_an_engine_that_is_not_there_is_one_row_that_names_its_checks(tmp_path: Path) -> None:
    why = "tensorrt is not installed"
    children = Children({("tensorrt fp16", "loading"): [{"absent": why}]})
    rows = [row for row in reported(tmp_path, children) if row.engine == "tensorrt fp16"]
    assert len(rows) == 1
    assert str(rows[0]).startswith("| loading, pictures, times, repeats, plugins, memory runs out | ")
    assert str(rows[0]).endswith("| tensorrt fp16 |  |  | not run: tensorrt is not installed |")
    assert children.started.count("tensorrt fp16") == 1


def test_a_process_that_dies_is_a_wrong_row_and_the_next_check_gets_another(tmp_path: Path) -> None:
    children = Children({(TORCH, "kernels"): [MissingError("its process ended with status -11")]})
    rows = reported(tmp_path, children)
    assert Row("kernels", TORCH, "its process ended with status -11", verdict="wrong") in rows
    assert Row("loading", TORCH, "", verdict="fine") in rows
    assert children.started[:3] == [CPU, TORCH, TORCH]


def test_the_rows_of_a_check_that_crashes_later_are_kept_and_judged(tmp_path: Path) -> None:
    picture, _ = timed("tensorrt fp16", 12.0)
    crash = MissingError("its process ended with status -11")
    children = Children({("tensorrt fp16", "times"): [{"row": vars(picture)}, crash]})
    rows = reported(tmp_path, children)
    found = rows.index(picture)
    assert rows[found + 1] == Row("times", "tensorrt fp16", str(crash), verdict="wrong")
    assert aims(rows)[0].figure == 12.0
    assert str(picture) in (tmp_path / "report.md").read_text().splitlines()


def test_without_its_reference_nothing_is_compared(tmp_path: Path) -> None:
    killed = MissingError("its process was killed, most likely for want of memory")
    children = Children({(CPU, "reference"): [killed]})
    rows = reported(tmp_path, children)
    assert children.asked == [(CPU, "reference")]
    assert {row.verdict for row in rows} == {"not run"}
    assert exit_status(rows) == NO_VERDICT


def test_what_does_not_fit_the_budget_is_said(tmp_path: Path) -> None:
    def too_long() -> MissingError:
        time.sleep(0.3)
        return MissingError("it did not end within 0 s")

    children = Children({(TORCH, "pictures"): [too_long]})
    rows = reported(tmp_path, children, budget=0.25)
    hung = Row("pictures", TORCH, "it did not end within 0 s", verdict="no verdict")
    assert rows[3] == hung
    assert {row.value for row in rows[4:]} == {"the budget of 0 s was used up"}
    assert sum(len(row.check.split(", ")) for row in rows) == len(list(order()))
    assert str(hung).endswith("| it did not end within 0 s |  | **no verdict** |")


def test_exports_and_engines_are_built_outside_of_the_budget(tmp_path: Path) -> None:
    def building() -> dict[str, Any]:
        time.sleep(0.3)
        return {"row": vars(Row("loading", TORCH, "export 300 s", verdict="fine"))}

    rows = reported(tmp_path, Children({(TORCH, "loading"): [building]}), budget=0.25)
    assert {row.verdict for row in rows} == {"fine"}


def test_what_was_finished_is_in_the_file_of_a_run_that_was_stopped(tmp_path, monkeypatch, capsys) -> None:
    children = Children({(TORCH, "loading"): [KeyboardInterrupt()]})
    monkeypatch.setattr(command, "card_or_exit", lambda: Card("NVIDIA H100", "580.1", 81559, 90))
    monkeypatch.setattr(command, "Runner", lambda *arguments: Runner(*arguments, start=children))
    target = tmp_path / "report.md"
    assert command.main([str(target), "--work", str(tmp_path)]) == NO_VERDICT
    lines = target.read_text().splitlines()
    assert lines[:3] == ["# GPU report", "", "NVIDIA H100, 80 GiB, driver 580.1, compute capability 9.0."]
    assert lines[-1] == "| kernels | torch fp16 |  |  | fine |"
    assert "stopped" in capsys.readouterr().err
    children.found = {}
    assert command.main([str(target), "--work", str(tmp_path), "--quick"]) == FINE  # no aims
    assert target.read_text().splitlines()[-1].startswith("Verdict: fine. Checks: ")
    assert command.main([str(target), "--work", str(tmp_path)]) == NO_VERDICT
    assert "| aim: one picture |  |  | ≤ 15 ms | not run: no engine was timed |" in target.read_text()


def test_a_file_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(command, "card_or_exit", lambda: Card("NVIDIA H100", "580.1", 81559, 90))
    assert command.main([str(tmp_path), "--work", str(tmp_path)]) == NO_VERDICT
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("gpu-report: the file cannot be written: [Errno 21] Is a directory")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_told_to_end_ends_its_processes_and_has_no_verdict(number: int, tmp_path: Path) -> None:
    smi(tmp_path, "NVIDIA H100, 580.1, 81559, 9.0")
    # torch is what the child waits for: it says who it is
    (tmp_path / "torch.py").write_text(
        f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}}\\n')\ntime.sleep(60)\n"
    )
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(tmp_path)}
    arguments = [sys.executable, "-m", "benchmarks.gpu_report", str(tmp_path / "report.md"), "--work", str(tmp_path)]
    report = subprocess.Popen(arguments, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        pid = waited_for(tmp_path / "pid")
        report.send_signal(number)
        _, said = report.communicate(timeout=30)
        assert (report.returncode, said.splitlines()[-1]) == (
            NO_VERDICT,
            "stopped; the file has what was found so far",
        )
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    finally:
        report.kill()


def waited_for(file: Path) -> int:
    """The number in a file, once it is there."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if file.is_file() and file.read_text().endswith("\n"):
            return int(file.read_text())
        time.sleep(0.05)
    raise AssertionError(f"{file} is not there")


def test_a_row_stays_one_line() -> None:
    assert str(Row("a|b", "torch", "two\nlines")) == "| a/b | torch | two lines |  |  |"
    assert json.loads(json.dumps(vars(RIGHT))) == vars(RIGHT)  # as it comes from the process
