"""Models to measure: a flow in both directions, as a bundle and as a checkpoint, and the methods to
compare."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from srflow_evaluation import models
from srflow_evaluation.bench import open_bench
from srflow_evaluation.cli import evaluate
from srflow_evaluation.models import from_cpu, open_subject
from srflow_evaluation.options import LevelTaus
from srflow_evaluation.pictures import Cut, picture_files, read_picture
from srflow_evaluation.sampling import random_samples, tau_sweep
from srflow_export.unfolding import trainable_network
from srflow_sdk import Bundle, Latents, Upscaler
from srflow_sdk.errors import ArgumentError, BundleError, NonFiniteError
from srflow_training import load_checkpoint, save_checkpoint
from srflow_training.checkpoints.keys import published_rrdb_name
from srflow_training.figures import smooth
from srflow_training.model import RRDB
from srflow_training.model.srflow import PartsWhenNeeded
from tests.networks import random_srflow, tiny_config
from tests.sdk.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="module")
def picture(photos):
    cut = Cut(scale=4, multiple=8)
    return read_picture(picture_files(photos, cut=cut)[0], cut, "bicubic")


@pytest.mark.parametrize("bundle", [True, False])
def test_decoding_inverts_inverting_and_sampling_decodes(picture, checkpoint, bundle):
    flow = open_subject(None if bundle else str(checkpoint)).flow(picture.lr)
    found = flow.invert(picture.hr)
    assert list(found.levels) == [1, 2, 3]
    assert {array.ndim for array in found.levels.values()} == {3}
    assert float((flow.decode(found) - picture.hr).abs().max()) < 1e-3
    sample = flow.sample(LevelTaus((0.8,)), 1)
    assert sample.shape == picture.hr.shape
    inside = sample.clamp(0, 1)
    again = flow.invert(inside)
    assert float((flow.decode(again) - inside).abs().max()) < 1e-3


def test_a_checkpoints_latents_and_nats_are_its_networks(picture, checkpoint):
    found = open_subject(str(checkpoint)).flow(picture.lr).invert(picture.hr)
    with torch.no_grad():
        latents, nats = load_checkpoint(checkpoint).encode(picture.hr, picture.lr)
    assert found.log_likelihood == pytest.approx(float(nats), rel=1e-6)
    for level, values in latents.items():
        assert np.allclose(found.levels[level], values[0].numpy(), atol=1e-5)


def test_samples_of_a_smoothed_checkpoint_are_smoothed(picture, checkpoint, tmp_path):
    save_checkpoint(
        tmp_path / "s.safetensors",
        load_checkpoint(checkpoint),
        notes={"smoothed": True},
    )
    plain, smoothed = (
        open_subject(str(path)).flow(picture.lr)
        for path in (checkpoint, tmp_path / "s.safetensors")
    )
    for tau, like in ((0.8, smooth), (0.0, lambda image: image)):
        expected = like(plain.sample(LevelTaus((tau,)), 1))
        torch.testing.assert_close(smoothed.sample(LevelTaus((tau,)), 1), expected)


def test_a_picture_whose_conditioning_does_not_fit_into_memory_is_the_same_to_the_bit(
    picture, checkpoint, monkeypatch
):
    subject = open_subject(str(checkpoint))
    tau = LevelTaus((0.8,))
    found = []
    for free in (1 << 40, 0):
        monkeypatch.setattr(models, "available_memory", lambda free=free: free)
        flow = subject.flow(picture.lr)
        assert all(
            isinstance(step, PartsWhenNeeded) == (free == 0)
            for parts in flow._condition.levels
            for step in parts
        )
        latents = flow.invert(picture.hr)
        found.append(
            (flow.sample(tau, 1), latents.levels, latents.log_likelihood, flow.decode(latents)),
        )
    kept, computed = found
    assert torch.equal(kept[0], computed[0])
    assert torch.equal(kept[3], computed[3])
    assert kept[2] == computed[2]
    for level, values in kept[1].items():
        np.testing.assert_array_equal(values, computed[1][level])


def test_a_bundle_without_an_inverter_only_samples(tmp_path, picture):
    subject = open_subject(str(write_tiny_bundle(tmp_path / "tiny.srflow")))
    with pytest.raises(BundleError, match=r"has no inverter\.onnx.*export its checkpoint again"):
        subject.both_ways()
    assert subject.sampler(picture.lr)(LevelTaus((0.8,)), 0).shape == picture.hr.shape


def test_latents_that_are_not_finite_are_an_error(picture, tmp_path):
    model = random_srflow(tiny_config())
    model.encoder.conv_first.bias.data[0] = float("nan")
    save_checkpoint(tmp_path / "broken.safetensors", model)
    flow = open_subject(str(tmp_path / "broken.safetensors")).flow(picture.lr)
    with pytest.raises(NonFiniteError):
        flow.invert(picture.hr)
    sound = open_subject(str(tmp_path / "broken.safetensors"))
    shapes = model.latent_shapes(*picture.lr.shape[2:])
    height, width = picture.hr.shape[2:]
    zeros = {level: np.zeros(shape, np.float32) for level, shape in shapes.items()}
    latents = Latents(zeros, height=height, width=width, model_sha256=sound.sha256)
    with pytest.raises(NonFiniteError):
        sound.flow(picture.lr).decode(latents)


def test_a_checkpoint_has_the_latents_and_pictures_of_its_bundle(picture, tmp_path):
    save_checkpoint(tmp_path / "embedded.safetensors", trainable_network(Bundle.embedded()))
    images = []
    found = []
    for model in (None, str(tmp_path / "embedded.safetensors")):
        flow = open_subject(model).both_ways()(picture.lr)
        found.append(flow.invert(picture.hr))
        images.append(flow.decode(found[-1].scaled(0.5)))
    assert torch.allclose(*images, atol=1e-3)
    assert (images[0] - picture.hr).abs().max() > 0.02
    bundled, loaded = found
    assert (bundled.height, bundled.width) == (loaded.height, loaded.width) == (64, 72)
    for level, latent in bundled.levels.items():
        assert np.allclose(loaded.levels[level], latent, atol=0.02)
    assert loaded.bits_per_dimension == pytest.approx(bundled.bits_per_dimension, abs=1e-3)


def enlarging(trunk_skip):
    """A network that enlarges by nearest neighbours, but only with this skip.

    Its trunk convolution is 0, so the image passes around the blocks with ESRGAN's skip, and
    through them with SRFlow's: there, two blocks of zeros, each of which makes values 1.2 times as
    large.
    """
    torch.manual_seed(0)
    model = RRDB(scale=4, nf=8, growth=4, blocks=2, trunk_skip=trunk_skip).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("blocks") or trunk_skip == "last_block":
                parameter.zero_()
        for layer in (model.conv_first, *model.upconvs, model.conv_hr, model.conv_last):
            for channel in range(3):
                layer.weight[channel, channel, 1, 1] = 1.0
        if trunk_skip == "last_block":
            model.conv_first.weight.div_(1.2**2)
    return model


@pytest.mark.parametrize("convention", ["default", "published"])
def test_a_bundle_is_its_sample_at_its_default_temperature(options, tmp_path, convention):
    path = write_tiny_bundle(tmp_path / "beside.srflow", default_tau=0.7)
    for reference, name in ((path, "beside"), (Path("x4-small"), "x4-small")):
        bench = open_bench(options(references=[reference], convention=convention))
        picture = read_picture(bench.pictures[1], bench.cut, "bicubic")
        with Upscaler(str(reference), device="cpu", tile=192) as upscaler:
            encoding = upscaler.encode(np.ascontiguousarray(picture.lr[0].permute(1, 2, 0).numpy()))
            drawn = torch.from_numpy(
                encoding.sample(tau=0.7 if name == "beside" else "auto", seed=0),
            )
        expected = drawn.permute(2, 0, 1)[None]
        if convention == "published":
            expected = (expected.clamp(0, 1) * 255).floor() / 255
        assert torch.equal(bench.references[name](picture), expected)
        assert f"{name} is a bundle" in str(bench.notes)


def test_a_bundle_of_another_scale_is_no_reference(options, tmp_path):
    path = write_tiny_bundle(tmp_path / "x2.srflow", scale=2)
    with pytest.raises(ArgumentError, match=r"x2\.srflow enlarges ×2, the model ×4"):
        open_bench(options(references=[path]))


def test_an_encoder_without_an_image_head_has_no_line_and_is_no_reference(options, tmp_path):
    """As in the checkpoints that `srflow-export --checkpoint-of` writes."""
    network = random_srflow(tiny_config())
    with torch.no_grad():
        for parameter in network.encoder.conv_last.parameters():
            parameter.zero_()
    path = tmp_path / "of_a_bundle.safetensors"
    save_checkpoint(path, network)
    chosen = {"taus": [LevelTaus((0.0,))], "samples": 2, "most": 1}
    table = tau_sweep(options(models=[str(path)], **chosen))
    assert [row[0] for row in table.rows] == ["bicubic", "τ 0"]
    with pytest.raises(
        ArgumentError,
        match=r"of_a_bundle\.safetensors has no image head .*: name the encoder",
    ):
        tau_sweep(options(out=tmp_path / "refused", references=[path], **chosen))
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize("skip", ["first_conv", "last_block"])
def test_the_skip_of_files_with_the_same_keys_is_that_with_which_they_enlarge(tmp_path, skip):
    model = enlarging(skip)
    torch.save(
        {published_rrdb_name(name): tensor for name, tensor in model.state_dict().items()},
        tmp_path / "file.pth",
    )
    loaded = load_checkpoint(tmp_path / "file.pth")
    assert loaded.trunk_skip == skip
    lr = torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        assert torch.equal(loaded(lr), model(lr))
        loaded.trunk_skip = "last_block" if skip == "first_conv" else "first_conv"
        assert (loaded(lr) - model(lr)).abs().max() > 0.05


GPU = torch.cuda.is_available()


@pytest.mark.skipif(GPU, reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_one_line(photos, checkpoint, tmp_path):
    arguments = f"samples -o {tmp_path}/out --model {checkpoint} --hr {photos} --device cuda"
    result = CliRunner().invoke(evaluate, arguments.split())
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
