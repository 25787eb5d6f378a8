"""Times in turn, child processes and their peaks of memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.bench.processes import ROOT, MissingError, Worker, remove_paths
from benchmarks.bench.timing import LONG_S, Times, call_in_turn


def test_calls_are_made_in_turn_after_a_warm_up_and_long_ones_once() -> None:
    made: list[str] = []

    def call(name: str, seconds: float) -> float:
        made.append(name)
        return seconds

    times = call_in_turn(
        {
            "a": lambda: call("a", 1.0),
            "b": lambda: call("b", 2.0),
            "long": lambda: call("long", LONG_S + 1),
        },
        runs=2,
    )
    assert made == ["a", "b", "long", "a", "b", "a", "b"]
    assert times == {"a": Times((1.0, 1.0)), "b": Times((2.0, 2.0)), "long": Times((LONG_S + 1,))}


EMBEDDED = {"way": "ours", "file": None, "threads": 1, "device": "cpu", "precision": "bundle"}


@pytest.mark.slow
def test_a_worker_s_peak_is_that_of_its_run_not_of_this_process() -> None:
    # resident here; a child that starts now must not count it
    large = bytearray(b"x" * (600 << 20))
    with Worker(EMBEDDED) as worker:
        few, many = (worker.run(size=side)["peak_bytes"] for side in (16, 128))
        assert worker.loaded["runs_on"] == "cpu"
        assert worker.loaded["disk_bytes"] > 1e6
    assert len(large) > many > few > 20e6
    assert many - few > 50e6


def test_what_a_machine_lacks_is_a_clause_without_its_paths() -> None:
    missing = {**EMBEDDED, "file": str(ROOT / "none" / "x4.srflow")}
    with (
        pytest.raises(MissingError, match=r"^none/x4\.srflow: there is no such bundle"),
        Worker(missing),
    ):
        pass
    assert remove_paths(f"see {ROOT}{os.sep}docs") == "see docs"


def test_a_worker_that_takes_too_long_is_ended_with_its_children() -> None:
    with Worker(EMBEDDED) as worker:
        with pytest.raises(MissingError, match="did not end within 0 s"):
            worker.run(size=64, limit_s=0.001)
        with pytest.raises(ProcessLookupError):
            os.killpg(worker.process_id, 0)
        with pytest.raises(MissingError, match="killed"):
            worker.run(size=16)


def test_what_a_job_has_said_before_its_process_dies_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dying.py").write_text(
        "import os\n"
        "from benchmarks.bench.processes import serve\n"
        "class Dying:\n"
        "    disk_bytes, runs_on = 0, 'here'\n"
        "    def __init__(self, variant): ...\n"
        "    def prepare(self, job):\n"
        "        return self.work\n"
        "    def work(self):\n"
        "        yield {'row': 1}\n"
        "        os._exit(7)\n"
        "serve(Dying, lambda _: None)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Worker({}, module="dying") as worker:
        answers = worker.ask(check="x")
        assert next(answers) == {"row": 1}
        with pytest.raises(MissingError, match="ended with status 7"):
            next(answers)
