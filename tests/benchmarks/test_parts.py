"""Each part of `make bench`, with tiny networks and sizes."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from benchmarks.bench import aims, convolution, growth, limit, side_by_side
from benchmarks.bench.__main__ import asked
from benchmarks.bench.make_network import export_direct
from benchmarks.bench.page import read_results
from benchmarks.bench.parts import texts
from benchmarks.bench.settings import Allowance, Settings
from benchmarks.bench.worker import ROOT
from benchmarks.published_network import inverse_matrices, sample
from tests.networks import random_srflow, tiny_config

Bench = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    work = tmp_path_factory.mktemp("bench")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "benchmarks.bench", "--work", str(work), "--threads", "1", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        figures = work / "performance-quick.json"
        done.figures = read_results(figures)  # type: ignore[attr-defined]
        return done

    return run


@pytest.mark.slow
def test_startup_is_measured_and_printed(bench: Bench) -> None:
    done = bench("--quick", "--only", "startup")
    assert done.returncode == 0, done.stderr
    seconds = done.figures["startup"]["result"]["seconds"]
    assert seconds["first picture, 64×64"][0] > seconds["import srflow_sdk"][0] > 0
    assert texts(done.figures)["startup"] in done.stdout
    assert re.search(r"\| srflow-upscale --help, whole process \| ≤ 0.07 s \| [\d.]+ s \|", done.stdout)


@pytest.mark.slow
def test_growth_has_lines_for_every_way_that_is_there(bench: Bench) -> None:
    done = bench("--quick", "--only", "growth")
    assert done.returncode == 0, done.stderr
    found = done.figures["growth"]["result"]
    assert set(found["sizes"]) | set(found["missing"]) == {"ONNX Runtime", "OpenVINO", "OpenVINO bf16"}
    assert [point["x"] for point in found["sizes"]["ONNX Runtime"]][:3] == [256, 1024, 4096]
    assert found["check"]["x"] == 128 * 128
    assert found["check"]["way"] in found["sizes"]
    for row in ("pictures, ONNX Runtime", "samples of one picture", "inverting", "restoring"):
        assert re.search(rf"^\| {row} \|.* s a (megapixel|sample) \| [\d.-]+ \| \d+% \|", done.stdout, re.MULTILINE)
    assert "A line was checked: 0.016 megapixels" in done.stdout


def test_without_time_parts_skip_what_they_name_and_the_page_says_so(bench: Bench) -> None:
    done = bench("--quick", "--only", "growth", "--minutes", "1e-9")
    assert done.returncode == 0, done.stderr
    skipped = done.figures["growth"]["skipped"]
    assert (skipped[0], skipped[-1]) == ("pictures, ONNX Runtime", "the check of a line, 128 pixels a side")
    assert f"Skipped, because the time was up: {'; '.join(skipped)}." in done.stdout
    nothing = {"size": 64, "rates": {}, "missing": {}, "networks": {}, "profiles": {}}
    assert "a second |" in limit.tables(nothing)
    assert "  skipped, because the time is up: samples of one picture" in done.stderr


def test_what_is_made_once_takes_none_of_the_time() -> None:
    settings = Settings(allowance=Allowance(until=time.monotonic() + 3600), say=lambda _: None)
    until = settings.allowance.until
    with settings.not_counted():
        began = time.monotonic()
        while time.monotonic() == began:
            pass
    assert settings.allowance.until - until == pytest.approx(settings.allowance.not_counted, abs=1e-6)
    assert settings.allowance.not_counted > 0
    assert not settings.skips("a")
    settings.allowance.until = time.monotonic()
    assert settings.skips("b")
    assert settings.allowance.skipped == ["b"]


@pytest.mark.slow
def test_side_by_side_measures_each_way_or_says_why_not(bench: Bench) -> None:
    done = bench("--quick", "--only", "side-by-side", "limit")
    assert done.returncode == 0, done.stderr
    rows = done.figures["side-by-side"]["result"]["x4"]["rows"]
    assert set(rows) == {side_by_side.AUTHORS, side_by_side.COMPILED, side_by_side.DIRECT, *side_by_side.OURS}
    for label in (side_by_side.AUTHORS, side_by_side.COMPILED, side_by_side.DIRECT, "ours, ONNX Runtime"):
        assert rows[label]["points"]["16×16, 1 sample"]["seconds"][0] > 0
    for label, row in rows.items():
        assert "missing" not in row or f"- {label}: not measured: {row['missing']}" in done.stdout
    assert done.figures["limit"]["result"]["rates"]["ONNX Runtime, fp32"] > 1e9
    assert limit.share(done.figures["limit"]["result"], "embedded model", "encoder", "ONNX Runtime, fp32") > 0.01


@pytest.mark.slow
def test_competitors_are_compared_on_the_photographs_of_a_folder(bench: Bench) -> None:
    done = bench("--quick", "--only", "competitors", "--photos", str(ROOT / "examples" / "photos"))
    assert done.returncode == 0, done.stderr
    rows = done.figures["competitors"]["result"]["rows"]
    ours = rows["x4-small, τ = 0, ONNX Runtime, 1 thread"]
    assert ours["psnr"] > rows["bicubic (MATLAB's)"]["psnr"]
    assert all("missing" in row or row["psnr"] > 10 for row in rows.values())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--quick", "--write"], "leave out --quick to write docs/performance.md"),
        (["--networks", "x8-faces", "--write"], "leave out --write"),
        (["--threads", "1000"], "--threads 1000: this machine has"),
        (["--only", "nonsense"], "invalid choice: 'nonsense'"),
        (["--photos", "none"], "--photos none: there is no such folder"),
        (["--megapixels", "1000"], "--megapixels 1000: name a number from 0.3 to 100"),
        (["--minutes", "0"], "--minutes 0: name a number above 0"),
    ],
)
def test_an_option_that_makes_no_sense_is_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        asked(arguments)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_the_direct_export_computes_what_the_authors_network_computes(tmp_path: Path) -> None:
    import onnxruntime

    model = random_srflow(tiny_config("published"))
    export_direct(model, tmp_path / "direct.onnx")
    latents = {level: 0.3 * torch.randn(1, *shape) for level, shape in model.latent_shapes(12, 20).items()}
    lr = torch.rand(1, 3, 12, 20)  # not the size of the export
    expected = sample(model, lr, latents)
    session = onnxruntime.InferenceSession(tmp_path / "direct.onnx", providers=["CPUExecutionProvider"])
    feed = {"lr": lr.numpy()} | {f"latents{level}": value.numpy() for level, value in latents.items()}
    np.testing.assert_allclose(session.run(None, feed)[0], expected, atol=1e-4)
    assert torch.equal(sample(model, lr, latents, matrices=inverse_matrices(model)), expected)


@pytest.mark.parametrize("int8", [False, True])
def test_the_convolution_of_the_limit_has_the_multiply_adds_that_are_counted(tmp_path: Path, int8: bool) -> None:
    convolution.write(tmp_path / "c.onnx", int8=int8)
    proto = onnx.load(tmp_path / "c.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert [node.op_type for node in proto.graph.node].count("Conv") == 4
    rate, times = convolution.rate(convolution.on_onnxruntime(tmp_path / "c.onnx", 1), runs=2)
    assert rate * min(times.seconds) == pytest.approx(4 * 9 * 128 * 128 * 96 * 96)


def test_an_aim_is_reached_missed_or_not_measured() -> None:
    measured = {"seconds": {"Python itself": [0.02, 0.02, 0.02], "import srflow_sdk": [0.03, 0.04, 0.03]}}
    measured["seconds"] |= {"srflow-upscale --help": [0.09], "first picture, 64×64": [0.7]}
    lines = aims.tables({"startup": measured}).splitlines()
    assert "| import srflow_sdk, beyond Python itself | ≤ 0.015 s | 0.01 s | yes |  |" in lines
    assert "| srflow-upscale --help, whole process | ≤ 0.07 s | 0.09 s | **no** |  |" in lines
    assert "| full-size ×4, 64×64, eight samples | ≥ 14× the authors' speed | not measured |  | not measured |" in lines
    points = [{"name": f"64×64, {what}", "size": 64} for what in ("1 sample", "8 samples")]
    rows = {
        label: {"points": {point["name"]: {"seconds": [value]} for point in points}}
        for label, value in ((side_by_side.AUTHORS, 15.0), ("ours, OpenVINO", 3.0), ("ours, OpenVINO int8", 1.0))
    }
    found = aims.tables({"side-by-side": {"x4": {"points": points, "rows": rows}}})
    assert "| ≥ 14× the authors' speed | 15× the authors' speed (OpenVINO int8) | yes | not measured |" in found


@pytest.mark.parametrize(("took", "verdict"), [(10.5, "yes"), (14.0, "unsure")])
def test_a_line_that_misses_its_check_decides_nothing(
    monkeypatch: pytest.MonkeyPatch, took: float, verdict: str
) -> None:
    monkeypatch.setattr(growth, "seconds_of_photo", lambda result, name: (60.0, False))
    check = {"way": "ONNX Runtime", "predicted": 10.0, "seconds": [took]}
    assert _photo_row(check).endswith(f"from the line) | {verdict} | not measured |")
    for other in (None, {**check, "way": "OpenVINO"}):
        assert _photo_row(other).endswith("from a line that was not checked) | unsure | not measured |")


def _photo_row(check: dict[str, object] | None) -> str:
    rows = aims.tables({"growth": {"cores": 2, "check": check}}).splitlines()
    (line,) = (row for row in rows if "12-mega" in row)
    return line


def test_a_time_below_what_runs_vary_by_is_no_number() -> None:
    times = {"Python itself": [0.02], "import srflow_sdk": [0.019], "srflow-upscale --help": [0.05]}
    found = aims.tables({"startup": {"seconds": {**times, "first picture, 64×64": [0.5]}}})
    assert "| import srflow_sdk, beyond Python itself | ≤ 0.015 s | less than runs vary by | yes |  |" in found


def test_beside_an_aim_stands_what_convolutions_alone_would_take() -> None:
    """0.25 s for the encoder at the fastest rate, 0.5 s for each sample at float32's; the authors' 8 s."""
    network = {"multiply_adds": {"encoder": 500, "sampler": 500}}
    limit_found = {
        "size": 64,
        "rates": {"ONNX Runtime, fp32": 1000, "OpenVINO, int8": 2000},
        "networks": {"embedded model": {**network, "seconds": {}}, "full-size ×4": network},
    }
    authors = {"points": {f"64×64, {what}": {"seconds": [8.0]} for what in ("1 sample", "8 samples")}}
    found = aims.tables(
        {"limit": limit_found, "side-by-side": {"x4": {"points": [], "rows": {side_by_side.AUTHORS: authors}}}}
    )
    one, eight, tile, *_ = found.splitlines()[2:]
    assert one.endswith(f"| {8 / 0.75:.3g}× the authors' speed |")
    assert eight.endswith(f"| {8 / 4.25:.3g}× the authors' speed |")
    assert tile.endswith("| 0.75 s |")
