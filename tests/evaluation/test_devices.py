"""Where networks compute: pictures and figures are on the CPU whatever it is."""

import pytest
import torch
from click.testing import CliRunner

from srflow_evaluation.cli import evaluate
from srflow_evaluation.devices import from_cpu
from srflow_evaluation.random_samples import random_samples

GPU = torch.cuda.is_available()


@pytest.mark.skipif(GPU, reason="this machine has a GPU")
@pytest.mark.parametrize("arguments", [["samples", "-o", "out"], ["report", "-o", "out"], ["damaged", "-o", "out"]])
def test_a_gpu_that_is_not_there_is_one_line(arguments, photos, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = ["--model", str(checkpoint), "--hr", str(photos), "--device", "cuda"]
    result = CliRunner().invoke(evaluate, [*arguments, *named])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "finds no such GPU here: leave it out" in result.output
    assert not (tmp_path / "out").exists()


def test_a_network_elsewhere_takes_and_gives_the_cpus_tensors():
    network = torch.nn.Conv2d(3, 4, 1, device="meta")
    taken = []
    network.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0].device.type))
    with pytest.raises(NotImplementedError):  # a meta tensor has no values to bring back
        from_cpu(network)(torch.zeros(1, 3, 2, 2))
    assert taken == ["meta"]


@pytest.mark.skipif(not GPU, reason="needs a GPU")
def test_figures_on_a_gpu_are_nearly_those_of_the_cpu(options, lpips, tmp_path):
    random_samples(options(out=tmp_path / "cpu", samples=2))
    random_samples(options(out=tmp_path / "gpu", samples=2, device="cuda"))
    tables = [(tmp_path / name / "results.csv").read_text().splitlines() for name in ("cpu", "gpu")]
    for one, other in zip(*tables, strict=True):
        for a, b in zip(one.split(","), other.split(","), strict=True):
            try:
                assert float(b) == pytest.approx(float(a), rel=1e-2, abs=1e-3)
            except ValueError:
                assert a == b
