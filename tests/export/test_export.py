"""Checkpoint → bundle: equal to the checkpoint, dynamic, nothing dead, nothing half written."""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from srflow_export import onnx_models, quantisation
from srflow_export.exporter import ExportOptions, export_checkpoint
from srflow_sdk import Bundle, Upscaler
from srflow_sdk.errors import CheckpointError, ExportError
from srflow_training import RRDB, load_checkpoint, save_checkpoint
from tests.export.running import run, run_graph, save_tiny
from tests.networks import GOLDEN, random_srflow, tiny_config

NOTES = {
    "iterations": 1,
    "reduction": "bilinear",
    "removes_damage": True,
    "default_tau": 0.5,
    "auto_tau": True,
    "smoothed": True,
}
UNMEASURED = ExportOptions(halo=16)  # measuring takes longer than all the rest of an export


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def checkpoint(folder):
    save_checkpoint(folder / "tiny.safetensors", random_srflow(tiny_config()), notes=NOTES)
    return folder / "tiny.safetensors"


@pytest.fixture(scope="module")
def least(folder):
    """A checkpoint that is quick to export."""
    shape = {"levels": 2, "split_levels": (1,), "steps": 1, "last_kernel": 1}
    return save_tiny(folder / "least.safetensors", **shape)


@pytest.fixture(scope="module")
def least_bundle(folder, least):
    """Its bundle; tests copy it."""
    export_checkpoint(least, folder / "least.srflow", UNMEASURED)
    return folder / "least.srflow"


@pytest.fixture(scope="module")
def bundle(folder, checkpoint):
    options = ExportOptions(fused=True, licence="CC0-1.0", training_data="noise")
    export_checkpoint(checkpoint, folder / "tiny.srflow", options)
    return Bundle.open(folder / "tiny.srflow")


@pytest.mark.slow
def test_the_fused_graph_of_a_published_checkpoint_gives_the_published_image(golden_bundle):
    golden = np.load(GOLDEN / "srflow_x4_small.npz")
    tau = np.float32(golden["tau"]).reshape(1)
    noise = {
        f"noise_level{level}": (golden[f"latent_level{level}"] / tau).astype(np.float32)
        for level in (1, 3)
    }
    fused = onnx.load(golden_bundle / "fused.onnx")
    for expected, value in ((golden["sr"], tau), (golden["sr_tau0"], np.zeros(1, np.float32))):
        (sr,) = run_graph(fused, lr=golden["lr"].astype(np.float32), tau=value, **noise)
        assert np.abs(sr - expected).max() < 1e-3 * np.ptp(expected)


@pytest.mark.parametrize(
    ("lr_batch", "batch", "taus"), [(1, 1, 1), (1, 3, 1), (1, 3, 3), (3, 3, 1), (3, 3, 3)]
)
@pytest.mark.parametrize("size", [(2, 2), (6, 10)])
@torch.no_grad()
def test_sizes_and_batches_are_dynamic_and_a_single_lr_serves_all(
    bundle, checkpoint, size, lr_batch, batch, taus
):
    model = load_checkpoint(checkpoint)
    generator = torch.Generator().manual_seed(0)
    lr = torch.rand((lr_batch, 3, *size), generator=generator)
    latents = {
        level: torch.randn((batch, *shape), generator=generator)
        for level, shape in model.latent_shapes(*size).items()
    }
    tau = torch.linspace(0.2, 0.8, taus)
    expected = model.decode(
        lr, {level: tau[:, None, None, None] * z for level, z in latents.items()}
    ).numpy()
    noise = {f"noise_level{level}": z.numpy() for level, z in latents.items()}
    (fused,) = run_graph(
        onnx.load(bundle.file("fused.onnx")), lr=lr.numpy(), tau=tau.numpy(), **noise
    )
    assert fused.shape == (batch, 3, 4 * size[0], 4 * size[1])
    np.testing.assert_allclose(fused, expected, atol=1e-4)
    encoder, sampler = (onnx.load(bundle.file(name)) for name in ("encoder.onnx", "sampler.onnx"))
    names = [output.name for output in encoder.graph.output]
    conditioning = dict(zip(names, run_graph(encoder, lr=lr.numpy()), strict=True))
    (split,) = run_graph(sampler, tau=tau.numpy(), **noise, **conditioning)
    np.testing.assert_allclose(split, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["encoder.onnx", "sampler.onnx", "fused.onnx"])
def test_nothing_in_a_graph_is_dead(bundle, name):
    graph = onnx.load(bundle.file(name)).graph
    needed = {output.name for output in graph.output}
    for node in reversed(graph.node):
        assert set(node.output) & needed, f"{node.name} is not used"
        needed |= set(node.input)
    assert {weight.name for weight in graph.initializer} <= needed
    assert {value.name for value in graph.input} <= needed


def test_the_manifest_says_what_was_proved_and_where_the_weights_come_from(bundle):
    manifest = bundle.manifest
    assert [(row["graph"], row["photo"], row["tau"]) for row in manifest.parity] == [
        (graph, photo, tau)
        for graph in ("encoder+sampler", "fused")
        for photo in ("edges", "face", "fur", "sky")
        for tau in (0.0, 0.5, 0.8, 1.0)
    ]
    assert all(
        row["psnr_db"] >= 90 and row["nonfinite"] == 0 and not row["diverged"]
        for row in manifest.parity
    )
    assert all(list(row["levels_db"]) == ["3", "2", "1"] for row in manifest.parity)
    assert manifest.provenance["licence"] == "CC0-1.0"
    assert manifest.provenance["training_data"] == "noise"
    assert manifest.provenance["training"] == NOTES
    assert manifest.reduction == "bilinear"
    assert manifest.removes_damage
    assert (manifest.default_tau, manifest.auto_tau, manifest.smoothed) == (0.5, True, True)
    assert manifest.variant == "bounded"
    assert manifest.provenance["halo"]["measured"]["halo"] == manifest.halo > 0


def sha256_of_graphs(checkpoint):
    model = load_checkpoint(checkpoint)
    encoder = onnx_models.encoder_model(model)
    sampler = onnx_models.sampler_model(model, flow_nodes=True)
    protos = [
        encoder,
        sampler,
        onnx_models.join(encoder, sampler),
        quantisation.int8_encoder(model),
    ]
    return [hashlib.sha256(onnx_models.serialise(proto, {})).hexdigest() for proto in protos]


@pytest.mark.slow
def test_two_exports_of_a_checkpoint_write_the_same_bytes(least):
    """Engine caches and model hashes depend on it. Python's hash seed, another in each process,
    orders sets."""
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    code = (
        "import sys; from tests.export.test_export import sha256_of_graphs; "
        "print(*sha256_of_graphs(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, least]
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONHASHSEED": seed}
    other = subprocess.run(
        command, env=environment, cwd=root, check=True, capture_output=True, text=True
    ).stdout
    assert other.split() == sha256_of_graphs(least)
    assert len(set(other.split())) == 4


def test_weights_stored_in_half_make_half_the_file_and_nearly_the_same_picture(
    folder, checkpoint, bundle
):
    shape = {"hidden": 32, "nf": 16, "levels": 2, "split_levels": (1,), "steps": 1}
    wide = save_tiny(folder / "wide.safetensors", **shape)
    for weights in ("fp32", "fp16"):
        options = ExportOptions(halo=16, weights=weights, inverter=False)
        export_checkpoint(wide, folder / f"{weights}.srflow", options)
    full, half = (
        sum(
            (folder / f"{weights}.srflow" / name).stat().st_size
            for name in ("encoder.onnx", "sampler.onnx")
        )
        for weights in ("fp32", "fp16")
    )
    assert half < 0.7 * full
    image = np.random.default_rng(0).random((12, 12, 3), dtype=np.float32)
    pictures = []
    for weights in ("fp32", "fp16"):
        with Upscaler(folder / f"{weights}.srflow", device="cpu") as upscaler:
            pictures.append(upscaler.upscale(image, tau=0.8))
    assert 0 < np.abs(pictures[0] - pictures[1]).max() < 5e-3


def compare_again(output):
    """Run the command that an export printed, by the real Polygraphy."""
    line = next(line for line in output.splitlines() if "polygraphy run " in line)
    program, *arguments = shlex.split(line[line.index("polygraphy run ") :])
    command = [Path(sys.executable).with_name(program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_polygraphy_takes_up_the_inputs_that_are_kept(folder, least):
    kept = folder / "two words"
    how = ("--halo", 16, "--no-inverter", "--keep-inputs", kept)
    result = run(least, *how, "-o", folder / "n.srflow")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in kept.iterdir()) == [
        "graph.onnx",
        "inputs.json",
        "outputs.json",
    ]
    done = compare_again(result.output)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Passed: 4/4 iterations" in done.stdout


def test_a_graph_that_differs_is_refused_and_the_older_bundle_stays(
    folder, least, least_bundle, monkeypatch
):
    target = shutil.copytree(least_bundle, folder / "kept.srflow")
    before = Bundle.open(target).model_sha256
    original = onnx_models.sampler_model

    def broken(model, precision, **options):
        proto = original(model, precision, **options)
        weight = next(w for w in proto.graph.initializer if list(w.dims) == [12, 12, 1, 1])
        values = onnx.numpy_helper.to_array(weight) * 1.01
        weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), weight.name))
        return proto

    monkeypatch.setattr(onnx_models, "sampler_model", broken)
    result = run("--ckpt", least, "-o", target, "--halo", 16)
    assert result.exit_code == 1
    assert "dB against the checkpoint's network, but 90 dB are needed" in result.output
    assert Bundle.open(target).model_sha256 == before
    done = compare_again(result.output)
    assert (done.returncode, "Passed: 0/4 iterations" in done.stdout) == (1, True), done.stdout
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_an_encoder_alone_is_refused(folder):
    save_checkpoint(folder / "rrdb.safetensors", RRDB(scale=4, nf=8, growth=4, blocks=2))
    with pytest.raises(ExportError, match="holds only an LR encoder"):
        export_checkpoint(folder / "rrdb.safetensors", folder / "rrdb.srflow", UNMEASURED)
    assert not (folder / "rrdb.srflow").exists()


def test_a_checkpoint_is_not_replaced_by_its_bundle_and_a_broken_one_is_refused(folder, checkpoint):
    (folder / "broken.pth").write_bytes(b"not a checkpoint")
    same = run("--ckpt", checkpoint, "-o", checkpoint)
    assert same.exit_code == 1
    assert "replace its checkpoint" in same.output
    assert checkpoint.is_file()
    with pytest.raises(CheckpointError):
        export_checkpoint(folder / "broken.pth", folder / "broken.srflow", UNMEASURED)
