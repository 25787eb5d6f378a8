"""The checks of the report of a GPU, as far as a CPU allows: torch's CPU and the CPU's ONNX Runtime
in its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.bench.processes import MissingError
from benchmarks.gpu_report import checks, sdk_engine
from benchmarks.gpu_report.checks import CHECKS, Checks
from benchmarks.gpu_report.report import TORCH, Row, order_checks
from srflow_sdk.errors import DeviceError


def process(engine: str = TORCH, folder: Path = Path("none")) -> Checks:
    """The process of an engine."""
    return Checks({"engine": engine, "work": str(folder), "quick": True, "size": 32})


def answer(engine: str, folder: Path, names: list[str]) -> dict[str, list[Row]]:
    """Rows of these checks, by name, in one process as in a report."""
    of = process(engine, folder)
    found = {}
    for name in names:
        answers = [answer for answer in of.ask(name) if answer]
        assert not any("absent" in answer for answer in answers), answers
        found[name] = [Row(**answer["row"]) for answer in answers]
    return found


def verdicts(rows: list[Row]) -> list[str]:
    return [row.verdict for row in rows]


def test_a_picture_is_right_within_the_bound_of_fp16() -> None:
    expected = np.full((8, 8, 3), 0.5, np.float32)
    # 54 and 26 dB
    near = expected + 0.002
    far = expected + 0.05
    found = [checks.judge("picture", process(), drawn, expected) for drawn in (near, far, near[:4])]
    assert verdicts(found) == ["fine", "wrong", "wrong"]
    assert found[1].value == "26.0 dB"


def test_what_a_check_raises_is_a_row_and_what_is_missing_is_not_wrong(monkeypatch) -> None:
    def raising(
        error: Exception, check: str = "pictures"
    ) -> list[tuple[str, ...] | dict[str, Any]]:
        def failing(_: Checks) -> Iterator[Row]:
            yield Row("first", TORCH, "1")
            raise error

        monkeypatch.setitem(CHECKS, check, failing)
        first, *others = process().ask(check)
        assert first["row"]["check"] == "first"
        return [
            (each["row"]["value"], each["row"]["verdict"]) if "row" in each else each
            for each in others
        ]

    assert raising(ValueError("of\nno use")) == [("ValueError: of no use", "wrong")]
    full = type("OutOfMemoryError", (RuntimeError,), {})("32 GB")
    assert raising(full) == [("OutOfMemoryError: 32 GB", "not run")]
    assert raising(MissingError("no torch")) == [{"absent": "no torch"}]
    missing = DeviceError("engines need cuda-bindings")
    missing.__cause__ = ModuleNotFoundError("No module named 'cuda'")
    assert raising(missing) == [{"absent": "engines need cuda-bindings"}]
    row, lacking = raising(RuntimeError("no memory"), "reference")
    assert (row, lacking) == (
        ("RuntimeError: no memory", "not run"),
        {"absent": "reference failed"},
    )


@pytest.fixture(scope="module")
def cpu_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network, and what is expected of it."""
    folder = tmp_path_factory.mktemp("gpu") / "work"
    answer("cpu fp32", folder, ["reference"])
    return folder


@pytest.fixture
def cpu_as_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's CPU in the place of a GPU."""
    import torch

    from benchmarks.gpu_report import torch_engine

    monkeypatch.setattr(torch_engine, "gpu", lambda: torch.device("cpu"))


@pytest.mark.slow
def test_all_checks_of_torch_run_and_are_right(
    cpu_work: Path, cpu_as_gpu: None, monkeypatch
) -> None:
    from benchmarks.gpu_report.torch_engine import TorchEngine

    found = answer(TORCH, cpu_work, [check for engine, check in order_checks() if engine == TORCH])
    assert verdicts(found["pictures"]) == ["fine"] * 3
    assert [(row.value, row.verdict) for row in found["repeats"]] == [
        ("0 of 3 differ", "fine"),
        ("0 of 16 differ", "fine"),
    ]
    assert {"encoder", "sampler"} <= {row.check.partition(",")[0] for row in found["times"]}
    assert not any(row.figure for row in found["times"]), "stages are not judged"
    draw = TorchEngine.draw
    monkeypatch.setattr(TorchEngine, "draw", lambda self, pixels: draw(self, 1 - pixels))
    found = answer(TORCH, cpu_work, ["pictures", "repeats"])
    assert verdicts(found["pictures"]) == ["wrong"] * 3
    assert verdicts(found["repeats"]) == ["fine"] * 2


@pytest.mark.slow
def test_one_export_serves_the_engines_and_onnx_runtime_draws_its_pictures(
    cpu_work: Path, monkeypatch
) -> None:
    """The CPU in the place of CUDA."""
    monkeypatch.setattr(sdk_engine, "check_present", lambda kind: None)
    found = answer("cpu fp16", cpu_work, ["loading", "pictures", "times", "repeats"])
    building, opening = found["loading"]
    assert (building.check, building.verdict, opening.verdict) == ("building", "", "fine")
    assert building.value.endswith(" s for the export and its engines")
    assert verdicts(found["pictures"]) == verdicts(found["repeats"]) == ["fine"] * 3
    assert {row.check for row in found["times"] if row.figure} == {
        "one picture, warm",
        "a further sample, warm",
    }
