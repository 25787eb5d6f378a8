"""The examples that change trained networks: average two, make one larger, give its nets cheaper
convolutions."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from srflow_training import RRDB, load_checkpoint, save_checkpoint
from srflow_training.checkpoints import load_with_notes
from srflow_training.model.layers import ConditionalNet
from tests.networks import PLAIN, random_srflow, tiny_config

SCRIPTS = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a script with these words, in a folder with networks and photographs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(SCRIPTS)
    networks = {
        "small": random_srflow(tiny_config()),
        "encoder": random_srflow(tiny_config()).encoder,
        "wider": random_srflow(tiny_config(hidden=12)),
        "plain": random_srflow(tiny_config(**PLAIN)),
        "cheap": random_srflow(tiny_config(**PLAIN, last_kernel=1)),
    }
    for name, network in networks.items():
        save_checkpoint(Path(f"{name}.safetensors"), network)
    for folder, side in (("photos", 136), ("icons", 100)):
        Path(folder).mkdir()
        pixels = torch.randint(
            256, (side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )
        Image.fromarray(pixels.numpy()).save(Path(folder) / "photo.png")

    def run(words):
        script, *arguments = words.split()
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(str(SCRIPTS / script), run_name="__main__")

    return run


def test_averaged_weights_lie_between_and_the_further_trainings_notes_stay(run):
    save_checkpoint(
        Path("other.safetensors"),
        random_srflow(tiny_config(), seed=1),
        notes={"removes_damage": True},
    )
    run("average.py small.safetensors other.safetensors mean.safetensors --share 0.25")
    made, notes = load_with_notes("mean.safetensors")
    assert notes["removes_damage"] is True
    first, second = (
        load_checkpoint(f"{name}.safetensors").state_dict() for name in ("small", "other")
    )
    for name, values in made.state_dict().items():
        mean = 0.75 * first[name] + 0.25 * second[name]
        torch.testing.assert_close(values, mean, check_dtype=False)


@torch.no_grad()
def test_latents_under_priors_twice_as_wide_are_half_as_large(run):
    model = random_srflow(tiny_config(split_clamp=None))
    save_checkpoint(Path("flow.safetensors"), model)
    run("average.py flow.safetensors flow.safetensors wide.safetensors --widen 2")
    hr = torch.rand(1, 3, 32, 32)
    lr = torch.rand(1, 3, 8, 8)
    latents, _ = model.encode(hr, lr)
    wide, _ = load_checkpoint("wide.safetensors").encode(hr, lr)
    torch.testing.assert_close(wide[2], latents[2] / 2)


@torch.no_grad()
def test_new_steps_do_nothing_yet(run):
    run("grow.py steps small.safetensors larger.safetensors 4")
    model = load_checkpoint("small.safetensors")
    larger = load_checkpoint("larger.safetensors")
    assert larger.config.steps == model.config.steps + 4
    hr = torch.rand(1, 3, 32, 32)
    lr = torch.rand(1, 3, 8, 8)
    latents, nats = model.encode(hr, lr)
    same_latents, same_nats = larger.encode(hr, lr)
    torch.testing.assert_close(same_latents, latents)
    torch.testing.assert_close(same_nats, nats)
    torch.testing.assert_close(larger.decode(lr, latents), model.decode(lr, latents))


@pytest.mark.parametrize("source", ["small", "encoder"])
def test_new_blocks_do_nothing_yet_but_can_be_trained_and_another_scale_keeps_the_trunk(
    run, source
):
    run(f"grow.py blocks {source}.safetensors larger.safetensors 2")
    run(f"grow.py scale {source}.safetensors rescaled.safetensors 16")
    model, larger, rescaled = (
        load_checkpoint(f"{name}.safetensors") for name in (source, "larger", "rescaled")
    )
    encoder = model if isinstance(model, RRDB) else model.encoder
    assert len(larger.blocks) == len(encoder.blocks) + 2
    lr = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(larger(lr), encoder(lr))
    torch.testing.assert_close(larger.features(lr).last, encoder.features(lr).last)
    larger(lr).square().sum().backward()
    assert larger.blocks[-1].dense[-1].convs[-1].weight.grad.abs().max() > 0
    assert rescaled(lr).shape == (1, 3, 128, 128)
    torch.testing.assert_close(rescaled.features(lr).last, encoder.features(lr).last)
    torch.testing.assert_close(rescaled.upconvs[3].weight, encoder.upconvs[1].weight)


@pytest.mark.parametrize("option", ["", "--leave-out"])
@torch.no_grad()
def test_what_1x1s_and_a_linear_map_can_compute_stays_the_same(run, option):
    model = random_srflow(tiny_config(**{**PLAIN, "steps": 2}))
    for net in model.modules():
        if isinstance(net, ConditionalNet):
            centre = net.conv3.weight[:, :, 1, 1].clone()
            net.conv3.weight.zero_()[:, :, 1, 1] = centre
    for net in model.flow_levels()[0].steps[0].nets() if option else ():
        net.conv3.weight.zero_()
    save_checkpoint(Path("flow.safetensors"), model)
    run(f"last_kernel.py flow.safetensors made.safetensors photos {option}")
    cheap = load_checkpoint("made.safetensors")
    assert (cheap.config.last_kernel, cheap.config.steps_at(1)) == (1, 1 if option else 2)
    hr = torch.rand(1, 3, 32, 32)
    lr = torch.rand(1, 3, 8, 8)
    latents, nats = model.encode(hr, lr)
    torch.testing.assert_close(cheap.encode(hr, lr)[1], nats, rtol=1e-3, atol=0.5)
    torch.testing.assert_close(
        cheap.decode(lr, latents), model.decode(lr, latents), rtol=0, atol=0.02
    )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            "average.py small.safetensors wider.safetensors made.safetensors",
            "are different networks",
        ),
        ("grow.py steps small.safetensors made.safetensors 3", "3 steps cannot be added"),
        ("grow.py steps small.safetensors small.safetensors 2", "is the network itself"),
        (
            "grow.py steps small.safetensors photos/photo.png/made.safetensors 2",
            "cannot be written: ",
        ),
        (
            "last_kernel.py encoder.safetensors made.safetensors photos",
            "has no flow with last convolutions of 3×3",
        ),
        (
            "last_kernel.py plain.safetensors made.safetensors icons",
            "holds no photograph of 128 pixels a side",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_words_and_changes_nothing(
    run, tmp_path, capsys, words, reason
):
    def contents():
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    before = contents()
    with pytest.raises(SystemExit) as stopped:
        run(words)
    assert stopped.value.code not in (0, None)
    assert reason in f"{stopped.value.code} {capsys.readouterr().err}"
    assert contents() == before
