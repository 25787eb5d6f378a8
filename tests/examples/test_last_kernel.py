"""The example that ends a flow's nets with 1×1 convolutions finds those that come nearest."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from srflow_training import load_checkpoint
from srflow_training.checkpoints import save_checkpoint
from srflow_training.model.layers import ConditionalNet
from tests.networks import PLAIN, random_srflow, tiny_config

SCRIPT = Path(__file__).parents[2] / "examples" / "last_kernel.py"


@pytest.fixture
def convert(tmp_path, monkeypatch):
    """Run the script on a network and a folder of photographs of this side; it writes cheap.safetensors."""

    def run(model, side=136, *options):
        (tmp_path / "photos").mkdir()
        pixels = torch.randint(256, (side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        Image.fromarray(pixels.numpy()).save(tmp_path / "photos" / "photo.png")
        save_checkpoint(tmp_path / "flow.safetensors", model)
        paths = [str(tmp_path / name) for name in ("flow.safetensors", "cheap.safetensors", "photos")]
        monkeypatch.setattr(sys, "argv", [SCRIPT.name, *paths, *options])
        monkeypatch.syspath_prepend(SCRIPT.parent)
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return load_checkpoint(paths[1])

    return run


@pytest.mark.parametrize("options", [(), ("--leave-out",)])
@torch.no_grad()
def test_what_1x1s_and_a_linear_map_can_compute_stays_the_same(convert, options):
    model = random_srflow(tiny_config(**{**PLAIN, "steps": 2}))
    for net in model.modules():
        if isinstance(net, ConditionalNet):
            centre = net.conv3.weight[:, :, 1, 1].clone()
            net.conv3.weight.zero_()[:, :, 1, 1] = centre
    first = model.flow_levels()[0].steps[0]
    for net in first.nets() if options else ():
        net.conv3.weight.zero_()
    cheap = convert(model, 136, *options)
    assert (cheap.config.last_kernel, cheap.config.steps_at(1)) == (1, 1 if options else 2)
    hr, lr = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 8, 8)
    latents, nats = model.encode(hr, lr)
    torch.testing.assert_close(cheap.encode(hr, lr)[1], nats, rtol=1e-3, atol=0.5)
    torch.testing.assert_close(cheap.decode(lr, latents), model.decode(lr, latents), rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("model", "side", "options", "reason"),
    [
        (random_srflow(tiny_config(**PLAIN)).encoder, 136, (), "has no flow with last convolutions of 3×3"),
        (random_srflow(tiny_config(**PLAIN, last_kernel=1)), 136, (), "has no flow with last convolutions of 3×3"),
        (random_srflow(tiny_config(**PLAIN)), 136, ("--leave-out",), "has one step at level 1"),
        (random_srflow(tiny_config(**PLAIN)), 100, (), "holds no photograph of 128 pixels a side"),
    ],
)
def test_what_cannot_be_converted_is_refused_in_words(convert, model, side, options, reason):
    with pytest.raises(SystemExit) as stopped:
        convert(model, side, *options)
    assert reason in str(stopped.value.code)
