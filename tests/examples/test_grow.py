"""The example that makes a trained network larger leaves what it computes as it was."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from srflow_training import RRDB, load_checkpoint
from srflow_training.checkpoints import save_checkpoint
from tests.networks import random_srflow, tiny_config

SCRIPT = Path(__file__).parents[2] / "examples" / "grow.py"


@pytest.fixture
def grow(tmp_path, monkeypatch):
    """Run the script on small.safetensors; it writes larger.safetensors."""
    save_checkpoint(tmp_path / "small.safetensors", random_srflow(tiny_config()))
    save_checkpoint(tmp_path / "encoder.safetensors", random_srflow(tiny_config()).encoder)

    def run(part, count, source="small"):
        paths = [str(tmp_path / f"{name}.safetensors") for name in (source, "larger")]
        monkeypatch.setattr(sys, "argv", [SCRIPT.name, part, *paths, count])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return [load_checkpoint(path) for path in paths]

    return run


@torch.no_grad()
def test_new_steps_do_nothing_yet(grow, capsys):
    model, larger = grow("steps", "4")
    assert larger.config.steps == model.config.steps + 4
    assert capsys.readouterr().out.endswith(f"larger.safetensors: {model.config.steps + 4} steps per level\n")
    hr, lr = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 8, 8)
    latents, nats = model.encode(hr, lr)
    same_latents, same_nats = larger.encode(hr, lr)
    torch.testing.assert_close(same_latents, latents)
    torch.testing.assert_close(same_nats, nats)
    torch.testing.assert_close(larger.decode(lr, latents), model.decode(lr, latents))


@pytest.mark.parametrize("source", ["small", "encoder"])
def test_new_blocks_do_nothing_yet_but_can_be_trained(grow, source):
    model, larger = grow("blocks", "2", source)
    encoder = model if isinstance(model, RRDB) else model.encoder
    assert isinstance(larger, RRDB)
    assert len(larger.blocks) == len(encoder.blocks) + 2
    lr = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(larger(lr), encoder(lr))
    torch.testing.assert_close(larger.features(lr).last, encoder.features(lr).last)
    larger(lr).square().sum().backward()
    assert larger.blocks[-1].dense[-1].convs[-1].weight.grad.abs().max() > 0


@pytest.mark.parametrize("source", ["small", "encoder"])
def test_an_encoder_for_another_scale_keeps_the_trunk(grow, source):
    model, rescaled = grow("scale", "16", source)
    encoder = model if isinstance(model, RRDB) else model.encoder
    lr = torch.rand(1, 3, 8, 8)
    assert rescaled(lr).shape == (1, 3, 128, 128)
    torch.testing.assert_close(rescaled.features(lr).last, encoder.features(lr).last)
    torch.testing.assert_close(rescaled.upconvs[3].weight, encoder.upconvs[1].weight)


@pytest.mark.parametrize(
    ("part", "count", "source", "reason"),
    [
        ("steps", "3", "small", "3 steps cannot be added"),
        ("steps", "0", "small", "0 steps cannot be added"),
        ("blocks", "0", "small", "0 blocks cannot be added"),
        ("blocks", "two", "small", "invalid int value: 'two'"),
        ("scale", "5", "small", "scale is 5; encoders are for ×2, ×4, ×8 or ×16"),
        ("scale", "0", "small", "scale is 0; encoders are for"),
        ("scale", "4", "small", "scale is 4 already"),
        ("steps", "2", "encoder", "is an LR encoder, which has no flow"),
        ("steps", "2", "missing", "missing.safetensors"),
    ],
)
def test_what_cannot_be_added_is_refused_in_words(grow, tmp_path, capsys, part, count, source, reason):
    with pytest.raises(SystemExit) as stopped:
        grow(part, count, source)
    assert stopped.value.code not in (0, None)
    assert reason in f"{stopped.value.code} {capsys.readouterr().err}"
    assert not (tmp_path / "larger.safetensors").exists()


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("small.safetensors", "is the network itself"),
        ("photo.jpg", "ends in .safetensors"),
        ("photo.jpg/larger.safetensors", "cannot be written: "),
    ],
)
def test_nothing_else_is_overwritten(monkeypatch, tmp_path, capsys, target, reason):
    save_checkpoint(tmp_path / "small.safetensors", random_srflow(tiny_config()))
    (tmp_path / "photo.jpg").write_bytes(b"a photo")
    before = (tmp_path / "small.safetensors").read_bytes()
    paths = [str(tmp_path / "small.safetensors"), str(tmp_path / target)]
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, "steps", *paths, "2"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert reason in f"{stopped.value.code} {capsys.readouterr().err}"
    assert (tmp_path / "small.safetensors").read_bytes() == before
    assert (tmp_path / "photo.jpg").read_bytes() == b"a photo"
