"""`make bench`: each part with tiny networks and sizes, its tables, and where they stand in the
pages."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from benchmarks.bench import side_by_side
from benchmarks.bench.parts import PAGES, find_parts, read_results, texts
from benchmarks.bench.processes import ROOT

Bench = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    work = tmp_path_factory.mktemp("bench")

    def run(part: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        options = ["--work", str(work), "--threads", "1", "--quick", "--only", part, *arguments]
        command = [sys.executable, "-m", "benchmarks.bench", *options]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        figures = read_results(work / "performance-quick.json")
        assert texts(figures)[part] in done.stdout
        done.found = figures[part]["result"]  # type: ignore[attr-defined]
        return done

    return run


@pytest.mark.slow
def test_startup_is_measured_and_printed(bench: Bench) -> None:
    seconds = bench("startup").found["seconds"]
    assert seconds["first picture, 64×64"][0] > seconds["import srflow_sdk"][0] > 0


@pytest.mark.slow
def test_growth_has_times_of_every_way_that_is_there(bench: Bench) -> None:
    done = bench("growth")
    assert set(done.found["sizes"]) | set(done.found["missing"]) == {
        "ONNX Runtime",
        "OpenVINO",
        "OpenVINO bf16",
    }
    assert [point["x"] for point in done.found["sizes"]["ONNX Runtime"]] == [256, 1024, 4096]
    for row in ("pictures, ONNX Runtime", "inverting", "restoring"):
        assert re.search(
            rf"^\| {row} \|.* s .*\| [\d.]+ to [\d.]+ GB \|$", done.stdout, re.MULTILINE
        )


@pytest.mark.slow
def test_side_by_side_measures_each_way_or_says_why_not(bench: Bench) -> None:
    done = bench("side-by-side")
    rows = done.found["rows"]
    assert set(rows) == {side_by_side.AUTHORS, *side_by_side.OURS}
    for label in (side_by_side.AUTHORS, "ours, ONNX Runtime"):
        assert rows[label]["points"]["16×16, 1 sample"]["seconds"][0] > 0
    for label, row in rows.items():
        assert "missing" not in row or f"- {label}: not measured: {row['missing']}" in done.stdout


@pytest.mark.slow
def test_competitors_are_compared_on_the_photographs_of_a_folder(bench: Bench) -> None:
    rows = bench("competitors", "--photos", str(ROOT / "examples" / "photos")).found["rows"]
    ours = rows["x4-small, τ = 0, ONNX Runtime, 1 thread"]
    assert ours["psnr"] > rows["bicubic (MATLAB's)"]["psnr"]
    assert all("missing" in row or row["psnr"] > 10 for row in rows.values())


def test_the_pages_tables_are_those_that_the_figures_make() -> None:
    written = texts(read_results(ROOT / "docs" / "performance.json"))
    found = [find_parts(page.read_text(encoding="utf-8")) for page in PAGES]
    assert {name: text for parts in found for name, text in parts.items()} == written
    assert sum(map(len, found)) == len(written), "a table stands on two pages"
