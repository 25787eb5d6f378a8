"""The checks of the report of a GPU, as far as a CPU allows: torch's CPU and the CPU's ONNX Runtime in its place."""

from __future__ import annotations

import importlib.machinery
import json
import logging
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from benchmarks.bench.processes import ROOT
from benchmarks.gpu_report import checks, network, sdk_engine
from benchmarks.gpu_report.checks import CHECKS, Checks, Opened
from benchmarks.gpu_report.network import AbsentError, LackingError, Setting, picture
from benchmarks.gpu_report.order import TORCH, order
from benchmarks.gpu_report.rows import Row
from srflow_sdk._version import __version__
from srflow_sdk.errors import DeviceError
from srflow_sdk.model.engine_records import PluginLibrary
from tests.sdk.backends.engine_machine import EngineMachine
from tests.sdk.backends.fake_tensorrt import write_engine_bundle, write_plugin_library
from tests.sdk.tiny_bundle import write_tiny_bundle


def opened(setting: Setting | None = None, engine: Any = None) -> Opened:
    made = Opened(setting or Setting(TORCH, Path("none")), [])
    made._engine = engine
    return made


def answered(setting: Setting, names: list[str]) -> dict[str, list[Row]]:
    """Rows of these checks, by name, in one process as in a report."""
    process, found = Checks(variant(setting)), {}
    for name in names:
        answers = [answer for answer in process.answers(name) if answer]
        assert not any("absent" in answer for answer in answers), answers
        found[name] = [Row(**answer["row"]) for answer in answers]
    return found


def variant(setting: Setting) -> dict[str, Any]:
    return {"engine": setting.engine, "work": str(setting.folder), "quick": setting.quick, "size": setting.size}


def verdicts(found: dict[str, list[Row]]) -> set[str]:
    return {row.verdict for rows in found.values() for row in rows}


def test_a_picture_is_right_within_the_bound_of_fp16() -> None:
    expected = np.full((8, 8, 3), 0.5, np.float32)
    near, far = expected + 0.002, expected + 0.05  # 54 and 26 dB
    assert checks.judged("picture", opened(), near, expected).verdict == "fine"
    row = checks.judged("picture", opened(), far, expected)
    assert (row.value, row.verdict) == ("26.0 dB, at most 5.0e-02 apart", "wrong")
    far[0, 0] = np.nan
    row = checks.judged("picture", opened(), far, expected)
    assert (row.value, row.verdict) == ("3 values are not finite", "wrong")
    assert checks.judged("picture", opened(), near[:4], expected).verdict == "wrong"


def test_plugin_layers_are_counted_with_and_without_the_details_of_a_plan() -> None:
    detailed = [{"Name": "[FlowStepTail]", "LayerType": "PluginV3"}, {"Name": "FlowStepTail_conv", "LayerType": "conv"}]
    assert sdk_engine.plugins_in(json.dumps({"Layers": detailed})) == 1
    assert sdk_engine.plugins_in(json.dumps({"Layers": ["node_of_FlowStepTail_3", "UnsqueezeSplit", "conv"]})) == 2
    assert sdk_engine.plugins_in("{}") == 0


@pytest.mark.parametrize(
    ("layers", "library", "verdict"), [(3, "one", "fine"), (2, "one", "wrong"), (0, "one", "wrong"), (3, None, "wrong")]
)
def test_a_plan_needs_a_plugin_for_each_of_the_flows_nodes(layers, library, verdict, monkeypatch, tmp_path) -> None:
    nodes = [helper.make_node("FlowStepTail", ["x"], ["x"], domain="srflow") for _ in range(3)]
    nodes.append(helper.make_node("Relu", ["x"], ["x"]))
    onnx.save(helper.make_model(helper.make_graph(nodes, "sampler", [], [])), tmp_path / "sampler.onnx")
    (tmp_path / "sampler.plan").write_bytes(b"plan")
    information = json.dumps({"Layers": [{"Name": "a", "LayerType": "PluginV3"}] * layers + ["b"]})
    inspector = types.SimpleNamespace(get_engine_information=lambda form: information)
    plan = types.SimpleNamespace(create_engine_inspector=lambda: inspector)
    runtime = types.SimpleNamespace(deserialize_cuda_engine=lambda content: plan if content == b"plan" else None)
    module: Any = types.ModuleType("tensorrt")
    module.Logger = type("Logger", (), {"ERROR": 1, "__init__": lambda self, severity: None})
    module.Runtime, module.LayerInformationFormat = lambda logger: runtime, types.SimpleNamespace(JSON="json")
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    manifest = types.SimpleNamespace(engines=[types.SimpleNamespace(plugins=library, sampler="sampler.plan")])
    bundle = types.SimpleNamespace(path=tmp_path, file=lambda name: tmp_path / name, manifest=manifest)
    setting = Setting("tensorrt fp16", tmp_path)
    [row] = checks.plugins(opened(setting, types.SimpleNamespace(bundle=bundle)))
    found = str(layers) if layers and library else "0: python -m srflow_export.native tensorrt"
    assert (row.value, row.limit, row.verdict) == (found, "= 3", verdict)


def test_what_a_check_raises_is_a_row_and_what_is_missing_is_not_wrong(monkeypatch, tmp_path) -> None:
    def raising(error: Exception, check: str = "pictures") -> list[dict[str, Any]]:
        def failing(_: Opened) -> Iterator[Row]:
            yield Row("first", TORCH, "1")
            raise error

        monkeypatch.setitem(CHECKS, check, failing)
        first, *others = Checks(variant(Setting(TORCH, tmp_path))).answers(check)
        assert first["row"]["check"] == "first"
        return others

    [answer] = raising(ValueError("of\nno use"))
    assert (answer["row"]["value"], answer["row"]["verdict"]) == ("ValueError: of no use", "wrong")
    [answer] = raising(type("OutOfMemoryError", (RuntimeError,), {})("32 GB"))
    assert answer["row"]["verdict"] == "not run"
    [answer] = raising(LackingError("no nvcc"))
    assert (answer["row"]["value"], answer["row"]["verdict"]) == ("no nvcc", "not run")
    assert raising(AbsentError("no torch")) == [{"absent": "no torch"}]
    missing = DeviceError("engines need cuda-bindings")
    missing.__cause__ = ModuleNotFoundError("No module named 'cuda'")
    assert raising(missing) == [{"absent": "engines need cuda-bindings"}]
    answer, lacking = raising(RuntimeError("can't allocate memory"), "reference")
    assert answer["row"]["verdict"] == "not run"
    assert lacking == {"absent": "reference failed"}


def test_rows_come_as_they_are_known_and_each_warning_is_one(monkeypatch, tmp_path) -> None:
    log = logging.getLogger("srflow_sdk.backends")
    monkeypatch.setattr(logging.getLogger("srflow_sdk"), "handlers", [])

    def check(_: Opened) -> Iterator[Row]:
        log.warning("continuing without CUDA graphs")
        yield Row("first", TORCH, "1")
        log.warning("continuing without CUDA graphs")
        log.warning("the processor draws latents in %s", ROOT / "x")
        reached.append("the end")

    reached: list[str] = []
    monkeypatch.setitem(CHECKS, "pictures", check)
    process = Checks(variant(Setting(TORCH, tmp_path)))
    answers = process.answers("pictures")
    assert next(answers)["row"] == vars(Row("warning", TORCH, "continuing without CUDA graphs"))
    assert next(answers)["row"]["check"] == "first"
    assert reached == []
    assert [answer["row"]["value"] for answer in answers if answer] == ["the processor draws latents in x"]
    assert [answer["row"]["check"] for answer in process.answers("pictures") if answer] == ["first"], "each once"


def test_an_engine_needs_cuda_bindings(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))
    sys.modules["tensorrt"].__spec__ = importlib.machinery.ModuleSpec("tensorrt", None)
    monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))  # another package of that name
    monkeypatch.delitem(sys.modules, "cuda.bindings", raising=False)
    with pytest.raises(AbsentError, match=r"^cuda-bindings is not installed$"):
        sdk_engine.check_present("tensorrt")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Error: onnx is not installed, but it is needed here", AbsentError),
        ("ModuleNotFoundError: No module named 'click'", AbsentError),
        ("Error: the graphs differ", RuntimeError),
    ],
)
def test_an_export_that_lacks_a_package_is_not_wrong(said: str, kind: type[Exception], monkeypatch, tmp_path) -> None:
    done = types.SimpleNamespace(returncode=1, stderr=f"a line\n{said}\n")
    monkeypatch.setattr(sdk_engine.subprocess, "run", lambda *_, **__: done)
    monkeypatch.setattr(sdk_engine, "network", lambda setting: None)
    with pytest.raises(kind, match=said):
        sdk_engine.exported(Setting("cuda fp16", tmp_path))


@pytest.mark.parametrize("stale", ["", "version", "library", "no library"])
def test_engines_of_another_tensorrt_or_library_are_built_again(
    stale: str, machine: EngineMachine, tmp_path, monkeypatch
) -> None:
    library = write_plugin_library(tmp_path / "libsrflow_trt.so")
    record = PluginLibrary(version=__version__, tensorrt_major=10, abi=1)
    monkeypatch.setenv("SRFLOW_TENSORRT_PLUGINS", "" if stale == "no library" else str(library))
    if stale == "library":
        write_plugin_library(library, abi=2)
    if stale == "version":
        machine.library.__version__ = "10.0"
    tiny, target = write_tiny_bundle(tmp_path / "tiny.srflow"), tmp_path / "gpu.srflow"
    write_engine_bundle(tiny, target, plugins=record)
    made: list[str] = []

    def export(*options: str) -> None:
        made.append(options[0])
        if options[0] == "--ckpt":
            assert not target.exists()
            write_engine_bundle(tiny, target)

    monkeypatch.setattr(sdk_engine, "_export", export)
    monkeypatch.setattr(sdk_engine, "network", lambda setting: None)
    sdk_engine.exported(Setting("tensorrt fp16", tmp_path))
    assert made == (["--ckpt"] if stale else [])


@pytest.mark.parametrize(("said", "verdict"), [("memory ran out with tiles of 48 pixels", "fine"), ("", "wrong")])
def test_a_tile_that_does_not_fit_is_split(said: str, verdict: str, monkeypatch) -> None:
    left: list[int] = []

    class NearlyFull:
        def __init__(self, free: int) -> None:
            left.append(free)

        def __enter__(self) -> None:
            of.said.extend([said] * bool(said))

        def __exit__(self, *_: object) -> None: ...

    bundle = types.SimpleNamespace(manifest=types.SimpleNamespace(conditioning_bytes_per_pixel=100))
    of = opened(Setting("cuda fp16", Path("none"), size=32), types.SimpleNamespace(bundle=bundle, draw=np.copy))
    monkeypatch.setattr(sdk_engine, "nearly_full", NearlyFull)
    split, drawn = checks.memory_runs_out(of)
    assert (split.value, split.verdict) == (said or "no tile was split", verdict)
    assert drawn.verdict == "fine"
    assert left == [100 * 32**2 * 3 // 5]


@pytest.fixture(scope="module")
def cpu_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network, and what is expected of it."""
    folder = tmp_path_factory.mktemp("gpu") / "work"
    found = answered(Setting("cpu fp32", folder, quick=True, size=32), ["reference"])
    assert found["reference"][0].value == "float32 pictures of 3 sizes"
    return folder


@pytest.fixture
def cpu_as_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's CPU in the place of a GPU, without nvcc."""
    import torch

    from benchmarks.gpu_report import torch_engine

    def no_kernels(_: Path) -> None:
        raise LackingError("nvcc is not on the PATH")

    def milliseconds(_: Any, call: Callable[[], object], rounds: int) -> float:
        began = time.perf_counter()
        for _ in range(rounds):
            call()
        return 1e3 * (time.perf_counter() - began) / rounds

    monkeypatch.setattr(torch_engine, "gpu", lambda: torch.device("cpu"))
    monkeypatch.setattr(torch_engine, "kernels", no_kernels)
    monkeypatch.setattr(torch_engine.TorchEngine, "milliseconds", milliseconds)


@pytest.mark.slow
def test_all_checks_of_torch_run_and_are_right(cpu_work: Path, cpu_as_gpu: None) -> None:
    setting = Setting(TORCH, cpu_work, quick=True, size=32)
    found = answered(setting, [check for engine, check in order() if engine == TORCH])
    assert "wrong" not in verdicts(found)
    assert [row.verdict for row in found["pictures"]] == ["fine"] * 3
    assert [row.value for row in found["repeats"]] == ["0 of 3 differ", "0 of 16 differ"]
    names = {row.check.partition(",")[0] for row in found["times"]}
    assert {"encoder", "sampler"} <= names
    assert not any(row.figure for row in found["times"]), "stages are not judged"
    assert str(found["kernels"][0]) == "| kernels | torch fp16 |  |  | not run: nvcc is not on the PATH |"


@pytest.mark.slow
def test_an_engine_that_draws_something_else_is_wrong(cpu_work: Path, cpu_as_gpu: None, monkeypatch) -> None:
    from benchmarks.gpu_report.torch_engine import TorchEngine

    draw = TorchEngine.draw
    monkeypatch.setattr(TorchEngine, "draw", lambda self, pixels: draw(self, 1 - pixels))
    found = answered(Setting(TORCH, cpu_work, quick=True, size=32), ["pictures", "repeats"])
    assert {row.verdict for row in found["pictures"]} == {"wrong"}
    assert {row.verdict for row in found["repeats"]} == {"fine"}


@pytest.mark.slow
def test_one_export_serves_the_engines_and_onnx_runtime_draws_its_pictures(cpu_work: Path, monkeypatch) -> None:
    """The CPU in the place of CUDA."""
    monkeypatch.setitem(sdk_engine._NEEDED, "cpu", {})
    setting = Setting("cpu fp16", cpu_work, quick=True, size=32)
    found = answered(setting, ["loading", "pictures", "times", "repeats", "plugins"])
    assert "wrong" not in verdicts(found)
    building, opening = found["loading"]
    assert (building.check, building.verdict, opening.verdict) == ("building", "", "fine")
    assert building.value.endswith(" s for the export and its engines")
    assert [row.verdict for row in found["pictures"]] == ["fine"] * 3
    assert {row.check for row in found["times"] if row.figure} == {"one picture, warm", "a further sample, warm"}


def test_latents_are_those_of_the_sdk_and_pictures_the_networks(tmp_path: Path) -> None:
    from srflow_sdk.latents.random_field import standard_normal

    setting = Setting(TORCH, tmp_path, quick=True, size=32)
    model = network.network(setting)
    drawn = network.latents(model, 4, 6)
    level, noise = next(iter(drawn.items()))
    named = {"channels": noise.shape[1], "top": 0, "left": 0, "height": noise.shape[2], "width": noise.shape[3]}
    assert np.array_equal(noise[0], standard_normal(network.SEED, 0, level, **named))
    assert picture(4, 6).shape == (4, 6, 3)
    again = network.network(setting).state_dict()
    assert all((value == again[name]).all() for name, value in model.state_dict().items())
