"""--reference: networks of the ESRGAN family, as their files are."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from srflow_evaluation.bench import open_bench
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.pictures import read_picture
from srflow_evaluation.tau_sweep import tau_sweep
from srflow_sdk import Upscaler
from srflow_sdk.errors import ArgumentError, CheckpointError
from srflow_training import load_checkpoint, save_checkpoint
from srflow_training.checkpoints.keys import esrgan_name, old_esrgan_name, published_rrdb_name
from srflow_training.data import read_photo, to_image
from srflow_training.model import RRDB
from srflow_training.resampling import reduce_bicubic, round_to_8_bit
from tests.networks import random_srflow, tiny_config
from tests.sdk.tiny_bundle import write_tiny_bundle

LAYOUTS = {
    "RRDB_ESRGAN_x4": published_rrdb_name,  # ESRGAN's release
    "ESRGAN_old_arch": old_esrgan_name(2, 4),
    "ESRGAN_basicsr": esrgan_name,
}


def enlarging(trunk_skip):
    """A network that enlarges by nearest neighbours, but only with this skip.

    Its trunk convolution is 0, so the image passes around the blocks with ESRGAN's skip, and through them with
    SRFlow's: there, two blocks of zeros, each of which makes values 1.2 times as large.
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


def save(path, model, name_of, *, wrapped=False):
    state = {name_of(name): tensor for name, tensor in model.state_dict().items()}
    torch.save({"params_ema": state} if wrapped else state, path)


def psnr(image, hr):
    """Without the border of 4 pixels, written out again."""
    levels = (image.clamp(0, 1) * 255).round()[..., 4:-4, 4:-4].double()
    return float(-10 * torch.log10(((levels - (hr * 255).round()[..., 4:-4, 4:-4]) / 255).square().mean()))


def test_files_of_all_layouts_are_run_as_their_networks_are(options, photos, tmp_path):
    model = enlarging("first_conv")
    paths = []
    for name, name_of in LAYOUTS.items():
        paths.append(tmp_path / f"{name}.pth")
        save(paths[-1], model, name_of, wrapped=name == "ESRGAN_basicsr")
    tau_sweep(options(references=paths, taus=[LevelTaus((0.0,))], samples=2))
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = {(row["picture"], row["method"]): float(row["psnr"]) for row in csv.DictReader(file)}
    for name in "abc":
        photo = to_image(read_photo(photos / f"{name}.png"))
        hr = photo[..., : photo.shape[2] // 8 * 8, : photo.shape[3] // 8 * 8]
        lr = round_to_8_bit(reduce_bicubic(hr, 4))
        nearest = lr.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
        with torch.no_grad():
            assert torch.allclose(model(lr), nearest, atol=1e-6)
        for layout in LAYOUTS:
            assert rows[name, layout] == pytest.approx(psnr(nearest, hr), abs=1e-3)


@pytest.mark.parametrize("convention", ["default", "published"])
def test_a_bundle_is_its_sample_at_its_default_temperature(options, tmp_path, convention):
    path = write_tiny_bundle(tmp_path / "beside.srflow", default_tau=0.7)
    for reference, name in ((path, "beside"), (Path("x4-small"), "x4-small")):
        bench = open_bench(options(references=[reference], convention=convention))
        picture = read_picture(bench.pictures[1], bench.cut, "bicubic")
        with Upscaler(str(reference), device="cpu", tile=192) as upscaler:
            encoding = upscaler.encode(np.ascontiguousarray(picture.lr[0].permute(1, 2, 0).numpy()))
            drawn = torch.from_numpy(encoding.sample(tau=0.7 if name == "beside" else "auto", seed=0))
        expected = drawn.permute(2, 0, 1)[None]
        if convention == "published":
            expected = (expected.clamp(0, 1) * 255).floor() / 255
        assert torch.equal(bench.references[name](picture), expected)
        assert f"{name} is a bundle" in str(bench.notes)


def test_a_bundle_of_another_scale_is_no_reference(options, tmp_path):
    path = write_tiny_bundle(tmp_path / "x2.srflow", scale=2)
    with pytest.raises(ArgumentError, match=r"x2\.srflow enlarges ×2, the model ×4"):
        open_bench(options(references=[path]))


def test_a_model_that_is_not_there_is_named_with_what_there_is(options):
    with pytest.raises(
        CheckpointError, match=r"^--model x4-smal: no such file: name .* or an embedded model: x4-small"
    ):
        tau_sweep(options(models=["x4-smal"]))


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
    with pytest.raises(ArgumentError, match=r"of_a_bundle\.safetensors has no image head .*: name the encoder"):
        tau_sweep(options(out=tmp_path / "refused", references=[path], **chosen))
    assert not (tmp_path / "refused").exists()
    with pytest.raises(ArgumentError, match="auto is a bundle's: export the checkpoint"):
        tau_sweep(options(models=[str(path)], taus=[LevelTaus(())]))
    with pytest.raises(ArgumentError, match=r"the network has \d levels"):
        tau_sweep(options(models=[str(path)], taus=[LevelTaus((0.1,) * 9)]))


@pytest.mark.parametrize("skip", ["first_conv", "last_block"])
def test_the_skip_of_files_with_the_same_keys_is_that_with_which_they_enlarge(tmp_path, skip):
    model = enlarging(skip)
    save(tmp_path / "file.pth", model, published_rrdb_name)
    loaded = load_checkpoint(tmp_path / "file.pth")
    assert loaded.trunk_skip == skip
    lr = torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        assert torch.equal(loaded(lr), model(lr))
        loaded.trunk_skip = "last_block" if skip == "first_conv" else "first_conv"
        assert (loaded(lr) - model(lr)).abs().max() > 0.05
