from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import onnx
import pytest
import torch

from tests.native import models
from tests.native.conftest import ROOT


@pytest.fixture
def native_ops(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("native_ops")


def test_the_ops_are_timed_at_the_published_network_s_levels(
    native_ops: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(native_ops.Setting, "pair", lambda *_: (2.0, 1.0))
    setting = native_ops.Setting(Path("none"), 1, 1)
    native_ops.ops(setting, size=4, samples=1, bandwidth=1.0)
    rows = [" ".join(line[:34].split()) for line in capsys.readouterr().out.splitlines()[1:]]
    levels = {row.partition("level ")[2] for row in rows if row.startswith("tail")}
    assert levels == {"1, 12×8²", "2, 24×4²", "3, 96×2²"}
    assert [row for row in rows if row.startswith("unsqueeze")] == ["unsqueeze and split, 12×8²"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_an_op_s_bytes_are_those_of_its_tensors(
    native_ops: ModuleType, ort_library: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    tail, split = models.tail_inputs(dtype=dtype), models.split_inputs(dtype=dtype)
    step = dict(tail)
    for name in ("injector_scale", "injector_shift"):
        step[name] = tail[name][:, : tail["h"].shape[1]]
    out = torch.empty(3, 5 + 4, 6, 10)
    setting = native_ops.Setting(ort_library, 1, 1)
    for op, proto, inputs, tensors in (
        ("FlowStepTail", models.tail_model(tail, "exp", "scale_first", clamp=0.0), tail, [*step.values(), tail["h"]]),
        ("UnsqueezeSplit", models.split_model(split, bound=None), split, [*split.values(), out]),
    ):
        onnx.save(proto, tmp_path / "op.onnx")
        feed = {name: tensor.numpy() for name, tensor in inputs.items()}
        found = native_ops.profiled(setting, str(tmp_path / "op.onnx"), feed)
        assert {name: moved for name, (_, moved) in found.items()} == {op: sum(tensor.nbytes for tensor in tensors)}


@pytest.mark.parametrize(("size", "fix"), [(63, 62), (1, 2), (-4, 2)])
def test_a_size_that_no_sampler_takes_is_one_line(
    native_ops: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    size: int,
    fix: int,
) -> None:
    monkeypatch.setattr(sys, "argv", ["native_ops.py", "--library", "none.so", f"--size={size}"])
    with pytest.raises(SystemExit) as ended:
        native_ops.main()
    assert ended.value.code == f"native_ops.py: --size {size} is not a multiple of 2; try --size {fix}"
    assert capsys.readouterr() == ("", "")
