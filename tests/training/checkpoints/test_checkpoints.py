"""Files of every layout, what is detected from them, and files that must be refused."""

import json
import os
import pickle
import zipfile

import pytest
import safetensors.torch
import torch

from srflow_sdk.errors import CheckpointError
from srflow_training import RRDB, SRFlow, SRFlowConfig, load_checkpoint, save_checkpoint
from srflow_training.checkpoints import detect_srflow, load_encoder, load_with_notes
from srflow_training.checkpoints.keys import (
    esrgan_name,
    old_esrgan_name,
    published_rrdb_name,
    to_published,
)
from tests.networks import random_srflow, tiny_config

PRESETS = {
    "×4 general": {"scale": 4, "blocks": 23},
    "×8 general": {"scale": 8, "blocks": 23, "nf": 8, "growth": 4},
    "×16, five levels": {"scale": 16, "blocks": 8, "levels": 5},
    "tiny": {"scale": 4, "blocks": 4, "nf": 8, "growth": 4, "steps": 2, "hidden": 8},
}


@pytest.fixture
def published(tmp_path):
    """Saves a state dict as a .pth and gives its path."""

    def save(state, name="model.pth"):
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return save


@pytest.mark.parametrize("variant", ["paper", "published", "bounded"])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_detected_from_keys_and_shapes(preset, variant):
    config = SRFlowConfig.of_variant(variant, **PRESETS[preset])
    with torch.device("meta"):  # shapes alone: a full-size network takes no memory
        state = to_published(SRFlow(config).state_dict(), config)
    assert detect_srflow(state) == config


@pytest.mark.parametrize("variant", ["paper", "published", "bounded"])
def test_a_published_layout_file_gives_the_same_network(published, variant):
    model = random_srflow(tiny_config(variant))
    unused = {"flowUpsamplerNet.f.0.weight": torch.zeros(4, 4)}
    path = published({**to_published(model.state_dict(), model.config), **unused})
    loaded, notes = load_with_notes(path, stacked_blocks=model.config.stacked_blocks)
    assert (loaded.config, notes) == (model.config, {})
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


@pytest.mark.parametrize("wrapper", ["params", "params_ema", "state_dict"])
def test_wrapped_and_prefixed_files_load(published, wrapper):
    model = random_srflow(tiny_config("published"))
    state = {
        f"module.{name}": tensor.half()
        for name, tensor in to_published(model.state_dict(), model.config).items()
    }
    loaded = load_checkpoint(published({wrapper: state}))
    assert torch.equal(
        loaded.encoder.conv_first.weight, model.encoder.conv_first.weight.half().float()
    )


def test_stacked_blocks_can_be_named_where_the_rule_is_wrong(published):
    model = random_srflow(tiny_config("published", blocks=6, stacked_blocks=(0, 1, 2, 3)))
    path = published(to_published(model.state_dict(), model.config))
    assert load_checkpoint(path).config.stacked_blocks == (2, 3, 4, 5)
    assert load_checkpoint(path, stacked_blocks=(0, 1, 2, 3)).config.stacked_blocks == (0, 1, 2, 3)
    with pytest.raises(CheckpointError, match="--blocks"):
        load_checkpoint(path, stacked_blocks=(0, 1, 2))


@pytest.mark.parametrize("scale", [4, 8])
@pytest.mark.parametrize("layout", ["published", "esrgan", "old esrgan"])
def test_encoder_only_files_load_in_three_layouts(published, layout, scale):
    torch.manual_seed(0)
    skip = "last_block" if layout == "published" else "first_conv"
    encoder = RRDB(scale=scale, nf=8, growth=4, blocks=3, trunk_skip=skip)
    name_of = {
        "published": published_rrdb_name,
        "esrgan": esrgan_name,
        "old esrgan": old_esrgan_name(3, scale),
    }[layout]
    path = published({name_of(name): tensor for name, tensor in encoder.state_dict().items()})
    loaded = load_checkpoint(path)
    assert isinstance(loaded, RRDB)
    lr = torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        assert torch.equal(loaded(lr), encoder(lr))


def test_layout_names_are_those_of_the_files_in_use():
    name = "blocks.3.dense.0.convs.1.weight"
    assert published_rrdb_name(name) == "RRDB_trunk.3.RDB1.conv2.weight"
    assert esrgan_name(name) == "body.3.rdb1.conv2.weight"
    old = old_esrgan_name(23, 4)
    assert old(name) == "model.1.sub.3.RDB1.conv2.0.weight"
    others = ("conv_first", "conv_trunk", "upconvs.0", "upconvs.1", "conv_hr", "conv_last")
    assert [old(f"{name}.bias") for name in others] == [
        f"model.{position}.bias" for position in ("0", "1.sub.23", "3", "6", "8", "10")
    ]


def test_own_files_keep_config_notes_and_initialisation(tmp_path):
    model = random_srflow(tiny_config("bounded", clamp=0.5))
    save_checkpoint(tmp_path / "m.safetensors", model, notes={"data": "photographs"})
    loaded, notes = load_with_notes(tmp_path / "m.safetensors")
    assert loaded.config == model.config
    assert all(actnorm.initialized for actnorm in loaded.actnorms())
    assert notes == {"data": "photographs"}
    encoder = load_encoder(tmp_path / "m.safetensors")
    assert torch.equal(encoder.conv_last.weight, model.encoder.conv_last.weight)


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.parametrize("how", ["torch.save", "pickle"])
def test_nothing_in_a_hostile_file_is_executed(tmp_path, how):
    path = tmp_path / "evil.pth"
    target = tmp_path / "executed"
    if how == "torch.save":
        torch.save({"RRDB.conv_first.weight": Hostile(target)}, path)
    else:
        path.write_bytes(pickle.dumps(Hostile(target)))
    with pytest.raises(CheckpointError, match="executed"):
        load_checkpoint(path)
    assert not target.exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02X\x05\x00",
        b"\x80\x7fN.",
        b"\x80\x02cco\x11llections\nOrderedDict\n.",
        b"\x80\x02J\x00.",
    ],
    ids=["cut off", "another protocol", "a name with a control character", "half a number"],
)
def test_odd_pickles_are_refused_in_one_line_and_torch_prints_nothing(tmp_path, recwarn, pickled):
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as archive:
        for name, content in (
            ("m/data.pkl", pickled),
            ("m/version", b"3\n"),
            ("m/byteorder", b"little"),
        ):
            archive.writestr(name, content)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "m.pth")
    assert str(caught.value).isprintable()
    assert not recwarn.list


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 10, 0.999])
def test_truncated_files_are_refused(tmp_path, suffix, keep):
    path = tmp_path / f"model{suffix}"
    model = random_srflow(tiny_config("published"))
    if suffix == ".pth":
        torch.save(to_published(model.state_dict(), model.config), path)
    else:
        save_checkpoint(path, model)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with pytest.raises(CheckpointError, match="model"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.zeros(3)}, "expected an SRFlow checkpoint"),
        ({"epoch": 3}, "only tensors"),
        ([torch.zeros(3)], "holds a list"),
        (
            {"conv_first.weight": torch.zeros(8, 12, 3, 3), "conv_body.weight": torch.zeros(8)},
            "12 input channels",
        ),
        ({}, "none"),
    ],
)
def test_other_architectures_are_refused_with_what_was_expected(published, state, message):
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(published(state))


def test_a_missing_tensor_file_or_name_is_told(published, tmp_path):
    model = random_srflow(tiny_config("published"))
    state = to_published(model.state_dict(), model.config)
    del state["flowUpsamplerNet.layers.4.invconv.weight"]
    with pytest.raises(CheckpointError, match="invconv"):
        load_checkpoint(published(state))
    for path, message in (
        ("nowhere.pth", "no such file"),
        (tmp_path, "is a folder: name a file in it"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(path)


FIRST = "RRDB.conv_first.weight"
LAYERS = "flowUpsamplerNet.layers."
NO_NETWORKS = {  # a tensor's name, what takes its place, and what is said of it
    "wrong shape": (f"{LAYERS}4.actnorm.bias", lambda t: t[:, :5], r"\[1, 5, 1, 1\]"),
    "no inverse": (f"{LAYERS}4.invconv.weight", torch.zeros_like, "no inverse"),
    "sparse": (FIRST, lambda t: t.to_sparse(), "not an ordinary floating-point tensor"),
    "integers": (FIRST, lambda t: t.int(), "not an ordinary floating-point tensor"),
    "no channels": (FIRST, lambda t: t[:0], None),
    "a single number": (f"{LAYERS}3.affine.fAffine.4.weight", lambda t: torch.tensor(1.0), None),
    "thousands of blocks": ("RRDB.RRDB_trunk.9999.RDB1.conv1.weight", torch.zeros, None),
    "another encoder": ("RRDB.attention.weight", torch.zeros, "belongs to another network"),
    "a number of 5000 digits": (f"{LAYERS}{'9' * 5000}.affine.x", torch.zeros, None),
    "another layer": (f"{LAYERS}40.weird.weight", torch.zeros, None),
}


@pytest.mark.parametrize(("name", "tensor_of", "message"), NO_NETWORKS.values(), ids=NO_NETWORKS)
def test_tensors_that_no_network_holds_are_refused_at_once(published, name, tensor_of, message):
    model = random_srflow(tiny_config("published"))
    state = to_published(model.state_dict(), model.config)
    state[name] = tensor_of(state.get(name, (4, 4)))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(published(state))


@pytest.mark.parametrize(
    "change",
    [
        {"levels": 10**9},
        {"hidden": 1.5},
        {"nf": -1},
        {"kind": 3},
    ],
)
def test_own_files_with_an_absurd_network_are_refused_at_once(tmp_path, change):
    model = random_srflow(tiny_config())
    network = {"kind": "srflow", **model.config.to_dict(), **change}
    metadata = {"format": "srflow-sdk", "network": json.dumps(network)}
    safetensors.torch.save_file(model.state_dict(), tmp_path / "m.safetensors", metadata)
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "m.safetensors")


@pytest.mark.parametrize("legacy", [True, False])
def test_a_file_with_more_than_tensors_is_refused_without_advice_to_execute_it(tmp_path, legacy):
    torch.save(
        {"where": os.getcwd}, tmp_path / "whole.pth", _use_new_zipfile_serialization=not legacy
    )
    with pytest.raises(
        CheckpointError, match=r"more than tensors \(\w+\.getcwd\);.*state_dict$"
    ) as error:
        load_checkpoint(tmp_path / "whole.pth")
    assert "weights_only" not in str(error.value)
