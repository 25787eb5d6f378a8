"""Noise-conditional networks: training images of different noise, and decoding without it."""

import numpy as np
import pytest
import torch

from srflow_export import ExportOptions, export_checkpoint
from srflow_export.unfolding import trainable_network
from srflow_sdk import Upscaler
from srflow_sdk.errors import ArgumentError
from srflow_training.checkpoints import save_checkpoint
from srflow_training.presets import load_settings
from tests.networks import random_srflow, tiny_config
from tests.training.model.test_model import images
from tests.training.runs import FLOW, assert_same_weights, trainer

NETWORK = {**FLOW, "noise_conditional": True}
NOISY = {"noise": 0.5, "noise_max": 4.0}


def test_the_network_sees_the_noise_and_without_it_computes_as_any_other():
    model = random_srflow(tiny_config(noise_conditional=True)).double()
    plain = random_srflow(tiny_config()).double()
    plain.load_state_dict(model.state_dict(), strict=False)
    hr, lr = images(model.config)
    none, zero = model.encode(hr, lr), model.encode(hr, lr, torch.zeros(2).double())
    for latents, likelihood in (zero, plain.encode(hr, lr)):
        torch.testing.assert_close(likelihood, none[1])
        torch.testing.assert_close(latents[1], none[0][1])
    one_noisy = model.encode(hr, lr, torch.tensor([0.0, 2.0]).double())[1]
    torch.testing.assert_close(one_noisy[0], none[1][0])
    assert (one_noisy[1] - none[1][1]).abs() > 1e-3
    torch.testing.assert_close(model.decode(lr, none[0]), hr, rtol=0, atol=1e-9)


def test_every_net_learns_from_the_noise():
    model = random_srflow(tiny_config(noise_conditional=True))
    hr, lr = images(model.config, dtype=torch.float32)
    model(hr, lr, torch.tensor([1.0, 3.0])).sum().backward()
    seen = [parameter for name, parameter in model.named_parameters() if name.endswith("on_noise")]
    assert len(seen) == 2 * 2 * 3  # injectors and couplings, K, L
    assert all(parameter.grad.abs().max() > 0 for parameter in seen)


def test_each_crop_has_its_own_noise(tmp_path, photos):
    run = trainer(tmp_path, photos, network=NETWORK, objective=NOISY, data={"batch": 64})
    batch = run.crops[0]
    assert batch.noise_share.shape == (64,)
    assert 0 <= float(batch.noise_share.min()) < 0.1 < 0.9 < float(batch.noise_share.max()) < 1
    assert torch.equal(batch.noise_share, run.crops[0].noise_share)
    seen, encode = {}, run.model.encode_conditioned

    def watched(hr, condition, noise):
        seen.update(hr=hr, noise=noise)
        return encode(hr, condition, noise)

    run.model.encode_conditioned = watched
    run.objective(*batch[:4], decodings=run.settings.objective.decodings)
    torch.testing.assert_close(seen["noise"], 3.5 * batch.noise_share)
    measured = (seen["hr"] - batch.hr).std(dim=(1, 2, 3)) * 255
    torch.testing.assert_close(measured, 0.5 + 3.5 * batch.noise_share, rtol=0.1, atol=0.02)


def test_it_starts_from_a_network_without_it_and_the_other_way_round(tmp_path, photos):
    start = {"start": str(tmp_path / "plain.safetensors")}
    plain = trainer(tmp_path / "plain", photos)
    save_checkpoint(start["start"], plain.model)
    tuned = trainer(tmp_path / "tuned", photos, network=NETWORK, objective=NOISY, schedule=start)
    assert_same_weights(plain.model, tuned.model)
    assert not any(bool(weight.detach().any()) for name, weight in tuned.model.named_parameters() if "on_noise" in name)
    assert tuned.step(tuned.crops[0])["loss"].isfinite()
    for weight in (weight for name, weight in tuned.model.named_parameters() if name.endswith("on_noise")):
        torch.nn.init.ones_(weight)
    save_checkpoint(start["start"], tuned.model)
    back = trainer(tmp_path / "back", photos, schedule=start)
    hr, lr = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 16, 16)
    assert torch.equal(back.model(hr, lr), tuned.model(hr, lr))


@pytest.mark.slow
def test_a_bundle_is_that_of_the_network_without_it(tmp_path):
    model = random_srflow(tiny_config(noise_conditional=True))
    save_checkpoint(tmp_path / "noise.safetensors", model)
    bundle = tmp_path / "noise.srflow"
    export_checkpoint(tmp_path / "noise.safetensors", bundle, ExportOptions(halo=4, inverter=False))
    lr = np.random.default_rng(0).random((8, 8, 3), dtype=np.float32)
    with Upscaler(bundle) as upscaler:
        picture = upscaler.upscale(lr, tau=0.0)
    expected = model.sample(torch.from_numpy(lr).permute(2, 0, 1)[None], tau=0.0)[0].permute(1, 2, 0).clamp(0, 1)
    np.testing.assert_allclose(picture, expected.numpy(), atol=1e-4)
    again = trainable_network(bundle)
    assert not any(bool(weight.detach().any()) for name, weight in again.named_parameters() if "on_noise" in name)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["network.noise_conditional=true"], "objective.noise_max=4"),
        (["network.noise_conditional=true", "objective.noise=2", "objective.noise_max=2"], "objective.noise_max=4"),
        (["objective.noise_max=1"], r"noise_max is 1, less than objective.noise, .*: set objective\.noise=0\.5"),
        (["objective.noise_max=0.4"], r"set objective\.noise=0\.2"),
    ],
)
def test_contradictions_are_refused_in_one_line(overrides, message):
    with pytest.raises(ArgumentError, match=message):
        load_settings("x4-small", overrides)
