"""The checks of the report of a GPU, as far as a CPU allows: torch's CPU and the fakes of CUDA and TensorRT."""

from __future__ import annotations

import contextlib
import importlib.machinery
import json
import logging
import os
import subprocess
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from benchmarks.bench.processes import ROOT
from benchmarks.gpu_report import checks, engines, network, sdk_engine
from benchmarks.gpu_report.child import Checks
from benchmarks.gpu_report.engines import AbsentError, LackingError, Setting
from benchmarks.gpu_report.network import Case, Work, picture
from benchmarks.gpu_report.order import DRAWING, SDK, TORCH, order
from benchmarks.gpu_report.rows import NO_VERDICT, Row
from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.errors import DeviceError
from srflow_sdk.latents.random_field import window_noise
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import PluginLibrary
from srflow_sdk.system.local_files import file_sha256
from tests.benchmarks.test_gpu_report import smi
from tests.sdk.backends.engine_machine import EngineMachine
from tests.sdk.backends.fake_ptx import Kernel
from tests.sdk.backends.fake_tensorrt import write_engine_bundle
from tests.sdk.tiny_bundle import write_tiny_bundle

SIZE = 48
SQUARE = Setting(TORCH, Path("none"))


def test_a_picture_is_right_within_the_bound_of_its_precision() -> None:
    expected = np.full((2, 3, 8, 8), 0.5, np.float32)
    near, far = expected + 0.002, expected + 0.05  # 54 and 26 dB
    exact = Setting("torch fp32", Path("none"))
    assert checks._judged("picture", SQUARE, near, expected).verdict == "fine"
    assert checks._judged("picture", exact, near, expected).verdict == "wrong"
    one = expected.copy()
    one[1] = far[1]
    assert checks._judged("batch", SQUARE, one, expected).value == "26.0 dB, at most 5.0e-02 apart"
    one[0, 0, 0] = np.nan
    row = checks._judged("picture", SQUARE, one, expected)
    assert (row.value, row.verdict) == ("8 values are not finite", "wrong")
    assert checks._judged("picture", SQUARE, one[:, :, :4], expected).verdict == "wrong"
    assert checks._judged("picture", exact, expected, expected).value.startswith("100.0 dB")


def test_the_worst_tensor_of_a_level_is_named_and_nan_is_the_worst(tmp_path: Path) -> None:
    right = {f"level1_step{step}_injector_scale": np.ones((1, 4, 2, 2), np.float32) for step in range(3)}
    np.savez(tmp_path / "conditioning.npz", **right)
    Case(picture(8, 8), {1: np.zeros((1, 1, 1, 1))}, 0.0, picture(8, 8)).save(tmp_path / "square.npz")
    names = list(right)

    def row(*off: float) -> Row:
        found = {name: right[name] + by for name, by in zip(names, off, strict=False)}
        engine: Any = types.SimpleNamespace(encode=lambda lr: found, tensors=lambda encoded: encoded)
        [row] = checks.conditioning(Setting(TORCH, tmp_path, size=16), engine)
        return row

    assert row(0.001, 0.002, 0) == Row(
        "conditioning, level1 injector scale", TORCH, f"2.0e-03 of {names[1]}, the worst of 3", "≤ 1e-02", "fine"
    )
    assert row(0.02, 0, 0).verdict == "wrong"
    assert row(0.02, float("nan"), 0).value.startswith(f"nan of {names[1]}")
    assert row(0, 0).value.startswith(f"nan of {names[2]}"), "a tensor that is missing"


def test_plugin_layers_are_counted_with_and_without_the_details_of_a_plan() -> None:
    detailed = [{"Name": "[FlowStepTail]", "LayerType": "PluginV3"}, {"Name": "FlowStepTail_conv", "LayerType": "conv"}]
    assert sdk_engine.plugins_in(json.dumps({"Layers": detailed})) == 1
    assert sdk_engine.plugins_in(json.dumps({"Layers": ["node_of_FlowStepTail_3", "UnsqueezeSplit", "conv"]})) == 2
    assert sdk_engine.plugins_in("{}") == 0


@pytest.mark.parametrize(("layers", "verdict"), [(3, "fine"), (2, "wrong"), (0, "wrong")])
def test_a_plan_needs_a_plugin_for_each_of_the_flows_nodes(layers, verdict, monkeypatch, tmp_path) -> None:
    nodes = [helper.make_node("FlowStepTail", ["x"], ["x"], domain="srflow") for _ in range(3)]
    nodes.append(helper.make_node("Relu", ["x"], ["x"]))
    onnx.save(helper.make_model(helper.make_graph(nodes, "sampler", [], [])), tmp_path / "sampler.onnx")
    (tmp_path / "sampler.plan").write_bytes(b"plan")
    information = json.dumps({"Layers": [{"Name": "a", "LayerType": "PluginV3"}] * layers + ["b"]})
    inspector = types.SimpleNamespace(get_engine_information=lambda form: information)
    plan = types.SimpleNamespace(create_engine_inspector=lambda: inspector)
    runtime = types.SimpleNamespace(deserialize_cuda_engine=lambda content: plan if content == b"plan" else None)
    library: Any = types.ModuleType("tensorrt")
    library.Logger = type("Logger", (), {"ERROR": 1, "__init__": lambda self, severity: None})
    library.Runtime, library.LayerInformationFormat = lambda logger: runtime, types.SimpleNamespace(JSON="json")
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    record = types.SimpleNamespace(plugins="a library", sampler="sampler.plan")
    engine = object.__new__(sdk_engine.SdkEngine)
    engine.bundle = types.SimpleNamespace(  # type: ignore[assignment]
        path=tmp_path, file=lambda name: tmp_path / name, manifest=types.SimpleNamespace(engines=[record])
    )
    [row] = checks.plugins(Setting("tensorrt fp16", tmp_path), engine)
    assert (row.value, row.limit, row.verdict) == (str(layers), "= 3", verdict)


def test_what_a_check_raises_is_a_row_and_what_is_missing_is_not_wrong(monkeypatch, tmp_path) -> None:
    def raising(error: Exception, check: str = "picture") -> list[dict[str, Any]]:
        def failing(*_: Any) -> Iterator[Row]:
            yield Row("first", TORCH, "1")
            raise error

        monkeypatch.setitem(checks.CHECKS, check, failing)
        first, *others = Checks(variant(Setting(TORCH, tmp_path))).answers(check)
        assert first["row"]["check"] == "first"
        return others

    [answer] = raising(ValueError("of\nno use"))
    assert (answer["row"]["value"], answer["row"]["verdict"]) == ("ValueError: of no use", "wrong")
    full = type("OutOfMemoryError", (RuntimeError,), {})
    [answer] = raising(full("32 GB"))
    assert answer["row"]["verdict"] == "not run"
    assert raising(AbsentError("no nvcc")) == [{"absent": "no nvcc"}]
    assert raising(ModuleNotFoundError("No module named 'PIL'")) == [{"absent": "No module named 'PIL'"}]
    missing = DeviceError("engines need cuda-bindings")
    missing.__cause__ = ModuleNotFoundError("No module named 'cuda'")
    assert raising(missing) == [{"absent": "engines need cuda-bindings"}]
    answer, lacking = raising(RuntimeError("can't allocate memory"), "largest reference")
    assert answer["row"]["verdict"] == "not run"
    assert lacking == {"absent": "largest reference failed"}


def test_rows_come_as_they_are_known_and_each_warning_is_one(monkeypatch, tmp_path) -> None:
    log = logging.getLogger("srflow_sdk.backends")

    def check(*_: Any) -> Iterator[Row]:
        log.warning("continuing without CUDA graphs")
        yield Row("first", TORCH, "1")
        with engines.Warnings() as own:
            log.warning("of that check alone")
        assert own.said == ["of that check alone"]
        log.warning("continuing without CUDA graphs")
        log.warning("the processor draws latents in %s", ROOT / "x")
        reached.append("the end")

    reached: list[str] = []
    monkeypatch.setitem(checks.CHECKS, "picture", check)
    process = Checks(variant(Setting(TORCH, tmp_path)))
    answers = process.answers("picture")
    assert next(answers)["row"] == vars(Row("warning", TORCH, "continuing without CUDA graphs"))
    assert next(answers)["row"]["check"] == "first"
    assert reached == []
    rest = [answer["row"]["value"] for answer in answers if answer]
    assert rest == ["the processor draws latents in x"]
    assert [answer["row"]["check"] for answer in process.answers("picture") if answer] == ["first"], "each once"


def test_each_check_has_a_memory_peak_of_its_own(monkeypatch, tmp_path) -> None:
    import torch

    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: calls.append("reset"))
    monkeypatch.setitem(checks.CHECKS, "picture", lambda *_: calls.append("check") or [])
    process = Checks(variant(Setting(TORCH, tmp_path)))
    for _ in range(2):
        list(process.answers("picture"))
    assert calls == ["reset", "check"] * 2


@pytest.mark.parametrize("kind", ["tensorrt", "cuda-bindings"])
def test_an_engine_needs_cuda_bindings(kind: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))
    sys.modules["tensorrt"].__spec__ = importlib.machinery.ModuleSpec("tensorrt", None)
    engines.check_present(kind)
    monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))  # another package of that name
    monkeypatch.delitem(sys.modules, "cuda.bindings", raising=False)
    with pytest.raises(AbsentError, match=r"^cuda-bindings is not installed$"):
        engines.check_present(kind)


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
    setting = Setting("cuda fp16", tmp_path)
    setting.work.checkpoint.write_bytes(b"")
    with pytest.raises(kind, match=said):
        sdk_engine.exported(setting)


@pytest.mark.parametrize("stale", ["", "version", "library", "no library"])
def test_engines_of_another_tensorrt_or_library_are_built_again(
    stale: str, machine: EngineMachine, tmp_path, monkeypatch
) -> None:
    library = tmp_path / "libsrflow_trt.so"
    library.write_bytes(b"plugins")
    record = PluginLibrary(sha256=file_sha256(library), version="1", tensorrt_major=10)
    monkeypatch.setenv("SRFLOW_TENSORRT_PLUGINS", "" if stale == "no library" else str(library))
    if stale == "library":
        library.write_bytes(b"others")
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
    setting = Setting("tensorrt fp16", tmp_path)
    setting.work.checkpoint.write_bytes(b"")
    sdk_engine.exported(setting)
    assert made == (["--ckpt"] if stale else [])


def drawn_without_an_engine(folder: Path) -> list[Row]:
    setting = Setting(DRAWING, folder, size=32)
    square = picture(16, 16)
    noise = {level: np.zeros((1, channels, 64 >> level, 64 >> level)) for level, channels in ((1, 6), (2, 11))}
    Case(square, noise, 0.8, np.zeros((1, 3, 64, 64))).save(folder / "square.npz")
    return answered(setting, ["drawing kernels"])["drawing kernels"]


def test_the_kernels_that_draw_and_round_are_checked_without_tensorrt(
    machine: EngineMachine, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    rows = drawn_without_an_engine(tmp_path)
    count = 6 * 64**2 + 11 * 32**2
    assert [str(row) for row in rows] == [
        f"| latents that the SDK's kernels draw | cuda-bindings | 0 of {count} are not numpy's | 0 | fine |",
        f"| levels that they round | cuda-bindings | 0 of {3 * 128**2} are not numpy's | 0 | fine |",
    ]
    assert machine.gpu.started[-3:] == ["srflow_draw_latents"] * 2 + ["srflow_quantise"]
    assert (machine.gpu.used, machine.gpu.modules, machine.gpu.streams) == (0, {}, {})


def test_one_wrong_bit_of_a_large_picture_is_seen(machine: EngineMachine, tmp_path, monkeypatch) -> None:
    """The check at the start of the SDK looks at a few numbers."""
    run = Kernel.run

    def spoiled(self: Kernel, grid: Any, threads: int, arguments: Any, view: Any) -> None:
        run(self, grid, threads, arguments, view)
        if grid[0] > 2:
            view(arguments[-1], 1)[0] ^= 1

    monkeypatch.setattr(Kernel, "run", spoiled)
    assert [(row.value.partition(" of")[0], row.verdict) for row in drawn_without_an_engine(tmp_path)] == [
        ("2", "wrong"),
        ("1", "wrong"),
    ]


def test_a_picture_that_is_drawn_otherwise_than_sampled_is_wrong(tmp_path) -> None:
    rng = np.random.default_rng(1)
    Case(picture(8, 8), {1: np.zeros((1, 6, 16, 16))}, 0.8, np.zeros((1, 3, 32, 32))).save(tmp_path / "square.npz")
    sr = rng.random((1, 3, 32, 32), np.float32)
    levels = sdk_engine.quantised(sr)[0]
    plain, rounding = (types.SimpleNamespace(rounded=rounded, noise=dict) for rounded in (False, True))

    def verdicts(values: np.ndarray, rounded: np.ndarray) -> list[str]:
        backend = types.SimpleNamespace(draw=lambda _, drawing: rounded if drawing.rounded else values)
        engine = types.SimpleNamespace(
            backend=backend,
            encode=lambda lr: None,
            sample=lambda *_: sr,
            drawing=lambda size, rounded=True: rounding if rounded else plain,
        )
        return [row.verdict for row in checks.drawn(Setting("tensorrt fp16", tmp_path), engine)]

    off = levels.copy()
    off[3, 4, 1] ^= 1
    assert verdicts(sr[0], levels) == ["fine"] * 3
    assert verdicts(sr[0], sr[0]) == ["fine"] * 3, "of a backend that does not round"
    assert verdicts(sr[0], off) == ["fine", "wrong", "wrong"]
    assert verdicts(np.nextafter(sr[0], 2), levels) == ["wrong", "fine", "fine"]


def answered(setting: Setting, names: list[str]) -> dict[str, list[Row]]:
    """Rows of these checks, by name, in one process as in a report."""
    process = Checks(variant(setting))
    found = {}
    for name in names:
        answers = [answer for answer in process.answers(name) if answer]
        assert not any("absent" in answer for answer in answers), answers
        found[name] = [Row(**answer["row"]) for answer in answers]
    return found


def variant(setting: Setting) -> dict[str, Any]:
    return {"engine": setting.engine, "work": str(setting.folder), "quick": setting.quick, "size": setting.size}


def planned(engine: str) -> list[str]:
    return [check for each, check in order() if each == engine]


def faults(found: Mapping[str, list[Row]]) -> list[str]:
    return [str(row) for rows in found.values() for row in rows if row.verdict == "wrong"]


@pytest.fixture(scope="module")
def cpu_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network, and what is expected of it."""
    folder = tmp_path_factory.mktemp("gpu") / "work"
    found = answered(Setting("cpu fp32", folder, quick=True, size=16), planned("cpu fp32"))
    assert "multiply-adds for an LR pixel" in found["reference"][0].value
    return folder


@pytest.fixture
def cpu_as_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's CPU in the place of a GPU, without nvcc."""
    import torch

    from benchmarks.gpu_report import kernel_checks, torch_engine, training

    def no_kernels(_: Setting) -> None:
        raise LackingError("nvcc is not on the PATH")

    for module in (torch_engine, kernel_checks, training):
        monkeypatch.setattr(module, "gpu", lambda: torch.device("cpu"))
    for module in (torch_engine, kernel_checks):
        monkeypatch.setattr(module, "kernels", no_kernels)
    monkeypatch.setattr(network, "MANY", 2)
    monkeypatch.setattr(checks, "MANY", 2)


@pytest.mark.slow
def test_all_checks_of_torch_run_and_are_right(cpu_work: Path, cpu_as_gpu: None) -> None:
    setting = Setting(TORCH, cpu_work, quick=True, size=16)
    found = answered(setting, planned(TORCH))
    assert faults(found) == []
    assert len(found["conditioning"]) == 9
    assert [row.value for row in found["repeats"]] == ["0 of 3 differ"]
    names = {row.check.partition(",")[0] for row in found["times"]}
    assert names == {
        *("latents", "copies", "encoder", "sampler", "quantisation"),
        *("one picture", "a further sample", "GPU memory"),
    }
    assert all("of the peak" in row.value for row in found["times"] if row.check.startswith(("encoder", "sampler")))
    assert not any(row.figure for row in found["times"]), "pictures without their latents are not judged"
    assert str(found["flow ops"][0]) == "| flow ops | torch fp16 |  |  | not run: nvcc is not on the PATH |"
    assert [row.verdict for name in ("training fp32", "training bf16") for row in found[name]] == ["fine"] * 3


def test_each_kernel_is_timed_beside_torchs_operators_on_the_networks_shapes(tmp_path, monkeypatch) -> None:
    import torch

    from benchmarks.gpu_report import kernel_checks
    from srflow_export import flow_ops

    def split(h: torch.Tensor, *rest: torch.Tensor, bound: float | None) -> torch.Tensor:
        return flow_ops.decoded_split(torch.pixel_shuffle(h, 2), *rest, bound=bound)

    own = types.SimpleNamespace(device=torch.device("cpu"), flow_step_tail=flow_ops.decoded_tail, unsqueeze_split=split)
    monkeypatch.setattr(kernel_checks, "kernels", lambda setting: own)
    monkeypatch.setattr(kernel_checks, "BEYOND_CACHES", 1 << 16)
    setting = Setting(TORCH, tmp_path, quick=True, size=16)
    setting.work.keep_peaks({"bytes": 1e12})
    found = answered(setting, ["kernel times"])
    assert faults(found) == []
    names = [row.check for row in found["kernel times"] if row.check.endswith("fp16")]
    assert names[0] == "FlowStepTail, 12 channels, 32×32, fp16"
    assert [name.partition(",")[0] for name in names] == ["FlowStepTail", "UnsqueezeSplit", *["FlowStepTail"] * 2]
    assert all("× torch's speed" in row.value and "of a copy's" in row.value for row in found["kernel times"])


@pytest.mark.slow
def test_an_engine_that_draws_something_else_is_wrong(cpu_work: Path, cpu_as_gpu: None, monkeypatch) -> None:
    import torch

    from benchmarks.gpu_report.torch_engine import TorchEngine

    def inverted(self: TorchEngine, lr: np.ndarray) -> Any:
        with torch.inference_mode():
            return self.encoder(1 - torch.from_numpy(lr))

    monkeypatch.setattr(TorchEngine, "encode", inverted)
    setting = Setting("torch fp32", cpu_work, quick=True, size=16)
    found = answered(setting, ["loading", "picture", "conditioning", "sizes", "tau 0", "repeats", "largest"])
    assert {row.verdict for row in found["picture"] + found["sizes"] + found["largest"]} == {"wrong"}
    assert {row.verdict for row in found["conditioning"]} == {"wrong"}
    assert [row.verdict for row in found["tau 0"]] == ["wrong", "fine"]
    assert [row.verdict for row in found["repeats"]] == ["fine"]


def write_work(folder: Path, bundle: Bundle) -> None:
    """What the reference process would write, of a bundle instead of a network."""
    work = Work(folder, SIZE)
    sizes = {**work.sizes(), "largest": (SIZE, SIZE, 0.8), "batch": (work.smallest, work.smallest, 0.8)}
    manifest = bundle.manifest
    with OnnxRuntimeBackend(bundle, device="cpu", threads=1) as backend:
        for name, (height, width, tau) in sizes.items():
            place = {"scale": manifest.scale, "seed": 7, "height": height, "width": width}
            fields = [
                window_noise(manifest.latent_levels, sample=sample, **place) for sample in range(1 + (name == "batch"))
            ]
            noise = {level: np.stack([field[level] for field in fields]) for level in fields[0]}
            lr = picture(height, width)
            encoded = backend.encode(lr)
            Case(lr, noise, tau, backend.sample(encoded, noise, tau)).save(folder / f"{name}.npz")
            if name == "square":
                np.savez(folder / "conditioning.npz", **{key: each.numpy() for key, each in encoded.values.items()})
    (folder / "counts.json").write_text('{"encoder": 1e6, "sampler": 1e5}')
    work.keep_peaks({"fp16": 1e15, "bytes": 1e12})


@pytest.mark.slow
def test_all_checks_of_engines_run_on_the_fake_gpu_and_are_right(machine: EngineMachine, tmp_path, monkeypatch) -> None:
    bundle = write_engine_bundle(write_tiny_bundle(tmp_path / "tiny.srflow"), tmp_path / "gpu.srflow")
    write_work(tmp_path, bundle)
    monkeypatch.setenv("PATH", str(tmp_path))
    smi(tmp_path, "4096")

    @contextlib.contextmanager
    def nearly_full(left: int) -> Iterator[None]:
        whole, machine.gpu.nbytes = machine.gpu.nbytes, machine.gpu.used + 40 * left  # activations are most of it
        yield
        machine.gpu.nbytes = whole

    monkeypatch.setattr(sdk_engine, "nearly_full", nearly_full)
    setting = Setting("tensorrt fp16", tmp_path, quick=True, size=SIZE)
    found = answered(setting, planned("tensorrt fp16"))
    assert faults(found) == []
    assert found["loading"][0].value.startswith("exported before, opening")
    assert [row.verdict for row in found["sizes"]] == ["fine"] * 4
    conditioned = found["conditioning"]
    assert conditioned
    assert {row.verdict for row in conditioned} == {"fine"}
    assert [row.value for row in found["threads"]] == ["0 of 16 differ"]
    assert [row.value for row in found["drawn"]] == ["0 of 4 differ", "0 of 4 differ", "0 of 16 differ"]
    assert str(found["plugins"][0]).endswith(
        "not run: the engines were built without the plugin library: python -m srflow_export.native tensorrt |"
    )
    split, drawn = found["memory runs out"]
    assert split.value == "memory ran out with tiles of 48 pixels; continuing with 24"
    assert drawn.verdict == "fine"
    times = {row.check: row for row in found["times"]}
    assert {"latents, by the processor, cold", "quantisation, by the processor, cold", "drawn, cold"} <= times.keys()
    assert times["one picture, warm, host's clock"].figure
    assert "sampler, without CUDA graphs, host's clock" in times
    assert times["GPU memory"].value == "4.29 GB (nvidia-smi's, of all programs figure)"


@pytest.mark.slow
def test_with_torch_and_numpy_alone_the_report_says_what_is_missing(tmp_path: Path) -> None:
    """As on a machine without a package registry; this torch sees no GPU."""
    site, packages = tmp_path / "site", Path(sysconfig.get_path("purelib"))
    site.mkdir()
    needed = ("torch", "torchgen", "functorch", "numpy", "numpy.libs", "sympy", "mpmath", "networkx", "filelock")
    for name in (*needed, "typing_extensions.py", "jinja2", "markupsafe", "fsspec"):
        if (packages / name).exists():
            (site / name).symlink_to(packages / name)
    smi(tmp_path, "NVIDIA H100, 580.1, 81559, 9.0")
    # Without site-packages, in the children too.
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {os.path.realpath(sys.executable)} -S "$@"\n')
    (tmp_path / "python").chmod(0o755)
    program = (
        f"import sys; sys.executable = {str(tmp_path / 'python')!r}\n"
        "from benchmarks.gpu_report.__main__ import main\n"
        f"sys.exit(main([{str(tmp_path / 'report.md')!r}, '--quick', '--size', '32', '--work', {str(tmp_path)!r}]))"
    )
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(site)}
    done = subprocess.run(
        [tmp_path / "python", "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    text = (tmp_path / "report.md").read_text()
    assert done.returncode == NO_VERDICT, text + done.stderr
    assert "**" not in text
    assert "| reference | cpu fp32 | 0.1 M multiply-adds for an LR pixel" in text
    assert "not run: tensorrt is not installed |" in text
    assert "not run: onnxruntime-gpu is not installed |" in text
    assert "| drawing kernels | cuda-bindings |  |  | not run: cuda-bindings is not installed |" in text
    assert "not run: torch sees no CUDA GPU" in text
    assert "Verdict: no verdict." in text
    assert {engine for engine in SDK if f"| {engine} |" in text} == set(SDK)


@pytest.mark.slow
def test_one_export_serves_the_engines_and_onnx_runtime_draws_its_pictures(cpu_work: Path, monkeypatch) -> None:
    """The CPU in the place of CUDA."""
    monkeypatch.setattr(checks, "check_present", lambda kind: None)
    setting = Setting("cpu fp16", cpu_work, quick=True, size=16)
    found = answered(setting, ["loading", "picture", "times", "conditioning", "tau 0", "repeats", "largest"])
    assert faults(found) == []
    assert found["loading"][0].value.startswith("export ")
    assert len(found["conditioning"]) == 9
    assert sdk_engine.exported(setting)[1] == 0, "it is there"
