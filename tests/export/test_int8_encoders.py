"""A second encoder in int8: beside float32 graphs, from a checkpoint or for a bundle that
exists."""

import shutil

import numpy as np
import pytest
import torch

from srflow_export.parity.gate import INT8_GRAPHS
from srflow_sdk import Bundle
from srflow_sdk.backends.openvino import OpenVinoBackend
from srflow_sdk.model.manifest import INT8_ENCODER, REQUIRED_FILES
from srflow_training import save_checkpoint
from tests.export.running import run, save_tiny
from tests.networks import random_srflow, tiny_config

QUICK = ("--halo", 16, "--no-inverter")


def export(checkpoint, target, *arguments):
    result = run(checkpoint, "-o", target, *QUICK, "--name", "tiny", *arguments)
    assert result.exit_code == 0, result.output
    return Bundle.open(target)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("int8") / "tiny.safetensors")


@pytest.fixture(scope="module")
def plain(checkpoint):
    return export(checkpoint, checkpoint.with_name("plain.srflow"))


@pytest.fixture(scope="module")
def both(checkpoint):
    return export(checkpoint, checkpoint.with_name("both.srflow"), "--also", "int8")


def int8_rows(bundle):
    return [row for row in bundle.manifest.parity if row["graph"] == INT8_GRAPHS]


@pytest.mark.slow
def test_a_checkpoints_bundle_has_the_same_graphs_and_another_encoder(plain, both):
    files = dict(both.manifest.files)
    assert files.pop(INT8_ENCODER)["bytes"] < files["encoder.onnx"]["bytes"]
    assert files == plain.manifest.files
    assert both.manifest.precision == "fp32"
    assert [
        row for row in both.manifest.parity if row["graph"] != INT8_GRAPHS
    ] == plain.manifest.parity


def test_the_gates_rows_of_the_other_encoder_are_recorded(both):
    rows = int8_rows(both)
    assert [row["photo"] for row in rows] == [
        name for name in ("edges", "face", "fur", "sky") for _ in range(4)
    ]
    assert {row["tau"] for row in rows} == {0, 0.5, 0.8, 1}
    assert all(38 <= row["psnr_db"] < 200 for row in rows)  # 200 would be the very picture


def test_a_bundle_that_exists_gets_the_encoder_and_keeps_everything_else_again_and_in_place(
    plain, tmp_path
):
    one = tmp_path / "one.srflow"
    other = tmp_path / "other.srflow"
    before = plain.manifest.to_json()
    result = run("--bundle", plain.path, "--also", "int8", "-o", one)
    assert result.exit_code == 0, result.output
    assert result.output.endswith(f"wrote {one}\n")
    made = Bundle.open(one)
    files = dict(made.manifest.files)
    assert files.pop(INT8_ENCODER)
    assert files == plain.manifest.files
    assert made.manifest.provenance == plain.manifest.provenance
    assert len(int8_rows(made)) == 16
    assert Bundle.open(plain.path).manifest.to_json() == before
    shutil.copytree(one, other)
    assert run("--bundle", other, "--also", "int8").exit_code == 0
    assert (other / "manifest.json").read_bytes() == (one / "manifest.json").read_bytes()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["one.srflow", "other.srflow"]


@pytest.mark.parametrize("how", [["--precision", "fp16"], ["--precision", "int8"]])
def test_only_float32_graphs_can_have_it(checkpoint, tmp_path, how):
    result = run(checkpoint, "-o", tmp_path / "m.srflow", "--also", "int8", *how)
    assert result.exit_code == 1
    assert result.output == (
        f"error: a second encoder in int8 goes with float32 graphs, not with {how[1]}: leave "
        "--also int8 out, or use --precision fp32\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def rough(tmp_path_factory):
    """A network whose trunk has a huge channel that nothing takes: int8 steps for the others are
    far apart."""
    model = random_srflow(tiny_config())
    nf = model.config.nf
    condition = model.config.feature_channels
    with torch.no_grad():
        model.encoder.conv_first.bias[0] += 1e4
        for block in model.encoder.blocks:
            for dense in block.dense:
                for conv in dense.convs:
                    conv.weight[:, 0] = 0
                dense.convs[-1].weight.mul_(20)
        for conv in (model.encoder.conv_trunk, *model.encoder.upconvs):
            conv.weight[:, 0] = 0
        for level in model.flow_levels():
            for step in level.steps:
                for net in (step.injector, step.coupling):
                    if net is not None:
                        net.conv1.weight[:, -condition::nf] = 0
    path = tmp_path_factory.mktemp("rough") / "rough.safetensors"
    save_checkpoint(path, model)
    return path


@pytest.mark.slow
def test_a_network_that_int8_is_too_coarse_for_is_refused(rough, tmp_path):
    result = run(rough, "-o", tmp_path / "m.srflow", *QUICK, "--precision", "int8")
    assert result.exit_code == 1
    *_, error = result.output.splitlines()
    assert error.startswith("error: int8 is too coarse for this network: encoder")
    assert "it goes wrong at level" in error
    assert "--precision bf16" in error
    assert [path.name for path in tmp_path.iterdir()] == ["m.gate"]


@pytest.mark.slow
def test_a_network_that_int8_is_too_coarse_for_gets_its_bundle_without(rough, tmp_path):
    result = run(rough, "-o", tmp_path / "m.srflow", *QUICK, "--also", "int8")
    assert result.exit_code == 1
    *lines, error = result.output.splitlines()
    assert error == "error: encoder.int8.onnx was asked for, and was left out"
    assert any("int8 is too coarse for this network: encoder" in line for line in lines)
    assert INT8_ENCODER not in Bundle.open(tmp_path / "m.srflow").manifest.files


@pytest.mark.slow
def test_a_trained_networks_encoder_is_near_float32_and_its_pictures_come_back_from_their_latents(
    tmp_path,
):
    """x4-small's: far more than the 43 dB that users are promised, to notice a loss."""
    pytest.importorskip("openvino")
    how = ("--also", "int8", "--gate", "full")
    result = run("--bundle", "x4-small", *how, "-o", tmp_path / "both.srflow")
    assert result.exit_code == 0, result.output
    rows = int8_rows(both := Bundle.open(tmp_path / "both.srflow"))
    assert len(rows) == 16
    assert min(row["psnr_db"] for row in rows) >= 50
    random = np.random.default_rng(2)
    hr, lr = random.random((1, 3, 64, 64), np.float32), random.random((1, 3, 16, 16), np.float32)
    with OpenVinoBackend(both, threads=1, graphs=(INT8_ENCODER, REQUIRED_FILES[1])) as backend:
        conditioning = backend.encode(lr)
        latents, _ = backend.invert(conditioning, hr)
        back = backend.sample(conditioning, latents, 1.0)
    assert 10 * np.log10(1 / np.mean((back - hr) ** 2)) > 45
