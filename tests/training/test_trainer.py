"""A run from photographs to a checkpoint: repeatable, resumable, and clear about what it cannot do."""

import csv

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from srflow_sdk.errors import ArgumentError, CheckpointError, ImageError
from srflow_training import SRFlow, load_checkpoint
from srflow_training.cli import train
from srflow_training.data import CropSettings, PhotoCrops
from srflow_training.resampling import reduce_bicubic, round_to_8_bit
from srflow_training.settings import RunSettings, load_settings, preset_names
from srflow_training.trainer import DivergedError, Trainer
from srflow_training.validation import Validation

TINY = {"nf": 8, "growth": 4, "blocks": 2}
FLOW = {"kind": "srflow", "variant": "bounded", **TINY, "stacked_blocks": [0, 1], "steps": 1, "hidden": 8}
SCHEDULE = {"iterations": 6, "save_every": 3, "log_every": 2, "validate_every": 2}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for index, (height, width) in enumerate([(90, 120), (100, 80), (64, 64)]):
        coarse = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        (folder / str(index)).mkdir()
        Image.fromarray(coarse).resize((width, height)).save(folder / str(index) / f"{index}.png")
    return folder


def settings(network=FLOW, schedule=SCHEDULE, data=None):
    data = {"crop": 16, "batch": 2, **(data or {})}
    return RunSettings.from_dict({"network": network, "data": data, "schedule": schedule})


def trainer(out, photos, *, resume=False, **changes):
    return Trainer(settings(**changes), data=photos, out=out, val=photos, resume=resume)


def test_a_run_gives_a_checkpoint_that_loads_and_a_log(tmp_path, photos):
    run = trainer(tmp_path, photos)
    checkpoint = run.run()
    model = load_checkpoint(checkpoint)
    assert isinstance(model, SRFlow)
    assert all(actnorm.initialized for actnorm in model.actnorms())
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [row["iteration"] for row in rows] == ["2", "4", "6"]
    assert float(rows[-1]["val_psnr_bicubic"]) > 0
    assert rows[-1]["val_nonfinite"] == "0"


def test_training_lowers_the_loss(tmp_path, photos):
    losses = []
    schedule = {"iterations": 40, "log_every": 10, "learning_rate": 2e-3}
    trainer(tmp_path, photos, schedule=schedule).run(lambda figures: losses.append(figures["loss"]))
    assert losses[-1] < losses[0] - 0.3


def test_an_interrupted_and_resumed_run_gives_the_same_weights(tmp_path, photos):
    whole = trainer(tmp_path / "whole", photos)
    whole.run()

    class KilledError(Exception):
        pass

    def kill(figures):
        if figures["iteration"] == 4:
            raise KilledError

    with pytest.raises(KilledError):
        trainer(tmp_path / "killed", photos).run(kill)
    resumed = trainer(tmp_path / "killed", photos, resume=True)
    assert resumed.iteration == 3  # the last state saved before the kill
    resumed.run()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name


def test_a_frozen_encoder_stays_and_then_trains(tmp_path, photos):
    run = trainer(tmp_path, photos, schedule={**SCHEDULE, "iterations": 4, "freeze_encoder": 0.5})
    start = run.model.encoder.conv_first.weight.detach().clone()
    seen = []
    original = run._step

    def step():
        loss = original()
        seen.append(torch.equal(run.model.encoder.conv_first.weight, start))
        return loss

    run._step = step
    run.run()
    assert seen == [True, True, False, False]


def test_an_encoder_is_pretrained_and_handed_on(tmp_path, photos):
    rrdb = {"kind": "rrdb", "scale": 4, **TINY}
    checkpoint = trainer(tmp_path / "rrdb", photos, network=rrdb, schedule={**SCHEDULE, "noise": 0.0}).run()
    run = trainer(tmp_path / "flow", photos, schedule={**SCHEDULE, "encoder": str(checkpoint)})
    assert torch.equal(run.model.encoder.conv_first.weight, load_checkpoint(checkpoint).conv_first.weight)


def test_steps_that_are_not_finite_are_skipped_and_many_stop_the_run(tmp_path, photos, monkeypatch):
    run = trainer(tmp_path, photos, schedule={**SCHEDULE, "iterations": 100})
    before = {name: tensor.clone() for name, tensor in run.model.named_parameters()}
    monkeypatch.setattr(
        "srflow_training.trainer.loss_of",
        lambda model, hr, lr: sum(p.sum() for p in model.parameters()) * float("nan"),
    )
    monkeypatch.setattr(run.model, "initialize_actnorms", lambda hr, lr: None)
    with pytest.raises(DivergedError, match="learning_rate"):
        run.run()
    for name, tensor in run.model.named_parameters():
        assert torch.equal(tensor, before[name]), name


def test_the_lr_of_a_crop_is_the_bicubic_reduction_of_the_photograph(photos):
    """Of the photograph: its surroundings count at the crop's border."""
    crops = PhotoCrops(photos, CropSettings(crop=16, batch=1, scale=4))
    hr, lr = crops.batch(0)
    for photo in crops.photos:
        whole = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255
        for flipped in (whole, whole.flip(2), whole.flip(3), whole.flip(2, 3)):
            for turned in (flipped, flipped.transpose(2, 3)):
                windows = turned.unfold(2, 16, 1).unfold(3, 16, 1)
                places = (windows - hr[0, :, None, None]).abs().amax(dim=(0, 1, 4, 5)).lt(1e-6).nonzero()
                for top, left in places.tolist():
                    around = turned[..., top - 16 : top + 32, left - 16 : left + 32]
                    expected = round_to_8_bit(reduce_bicubic(around, 4))[..., 4:-4, 4:-4]
                    assert float((expected - lr).abs().max()) < 1.01 / 255 * 0.01
                    return
    pytest.fail("the crop is in no photograph")


def test_the_most_detailed_of_several_candidates_is_chosen(photos):
    def detail(choose_of):
        hr, _ = PhotoCrops(photos, CropSettings(crop=16, batch=32, scale=4, choose_of=choose_of)).batch(0)
        return float(hr.diff(dim=2).abs().mean() + hr.diff(dim=3).abs().mean())

    assert detail(6) > detail(1)


def test_the_flow_sees_dequantisation_noise_and_the_encoders_pretraining_none(tmp_path, photos):
    clean = PhotoCrops(photos, settings().crops).batch(3)[0]
    noise = trainer(tmp_path / "a", photos)._batch(3)[0] - clean
    assert float(noise.std()) * 255 == pytest.approx(4 / 3**0.5, rel=0.1)
    still = trainer(tmp_path / "b", photos, schedule={**SCHEDULE, "noise": 0})
    assert torch.equal(still._batch(3)[0], clean)


def test_gradients_are_clipped(tmp_path, photos):
    run = trainer(tmp_path, photos, schedule={**SCHEDULE, "iterations": 1, "clip_norm": 1e-3})
    run.run()
    norm = torch.stack([p.grad.norm() for p in run.model.parameters() if p.grad is not None]).norm()
    assert float(norm) <= 1.01e-3


def test_an_encoder_of_another_shape_is_refused(tmp_path, photos):
    rrdb = {"kind": "rrdb", "scale": 4, **TINY, "nf": 12}
    checkpoint = trainer(tmp_path / "rrdb", photos, network=rrdb, schedule={**SCHEDULE, "noise": 0}).run()
    with pytest.raises(CheckpointError, match="this run needs"):
        trainer(tmp_path / "flow", photos, schedule={**SCHEDULE, "encoder": str(checkpoint)})


def test_weights_that_are_not_finite_do_not_replace_the_last_good_state(tmp_path, photos):
    run = trainer(tmp_path, photos)
    run.run()
    good = (tmp_path / "state.pt").read_bytes()
    run.model.encoder.conv_first.bias.data.fill_(float("nan"))
    with pytest.raises(DivergedError, match="last good state"):
        run._save_state()
    assert (tmp_path / "state.pt").read_bytes() == good
    longer = {**SCHEDULE, "iterations": 8, "learning_rate": 1e-4}
    assert trainer(tmp_path, photos, resume=True, schedule=longer).iteration == 6


def test_there_must_be_a_state_to_resume_from(tmp_path, photos):
    with pytest.raises(ArgumentError, match="no saved state"):
        trainer(tmp_path, photos, resume=True)


def test_validation_photographs_must_be_large_enough(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "small.png")
    with pytest.raises(ImageError, match="64 px"):
        Validation(tmp_path, scale=4)


def test_a_run_is_not_overwritten_nor_resumed_with_other_settings(tmp_path, photos):
    trainer(tmp_path, photos).run()
    with pytest.raises(ArgumentError, match="--resume"):
        trainer(tmp_path, photos)
    with pytest.raises(ArgumentError, match="other settings"):
        trainer(tmp_path, photos, resume=True, schedule={**SCHEDULE, "clip_norm": 1.0})


def test_crops_follow_from_seed_and_iteration_alone(photos):
    make = lambda seed: PhotoCrops(photos, CropSettings(crop=16, batch=3, scale=4, seed=seed))  # noqa: E731
    first, again, other = make(0), make(0), make(1)
    again.batch(3)  # having drawn before must not matter
    assert torch.equal(first.batch(7)[0], again.batch(7)[0])
    assert not torch.equal(first.batch(7)[0], first.batch(8)[0])
    assert not torch.equal(first.batch(7)[0], other.batch(7)[0])
    hr, lr = first.batch(0)
    assert hr.shape == (3, 3, 16, 16)
    assert lr.shape == (3, 3, 4, 4)


def test_unreadable_and_small_files_are_skipped_and_an_empty_folder_is_an_error(tmp_path, caplog):
    crops = CropSettings(crop=16, batch=1, scale=4)
    with pytest.raises(ImageError, match="no images"):
        PhotoCrops(tmp_path, crops)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    Image.new("RGB", (20, 20)).save(tmp_path / "small.png")
    with pytest.raises(ImageError, match="no photograph is at least 48"):
        PhotoCrops(tmp_path, crops)
    Image.new("RGB", (60, 60)).save(tmp_path / "good.png")
    assert len(PhotoCrops(tmp_path, crops).photos) == 1
    assert "broken.png" in caplog.text
    assert "small.png" in caplog.text


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid_and_builds(name):
    load_settings(name).build()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["schedule.iteration=3"], "schedule.iteration"),
        (["data.batch=many"], "data.batch"),
        (["network.kind=gan"], "network.kind"),
        (["data.crop=20"], "multiples of 8"),
        (["schedule.learning_rate=-1"], "learning_rate"),
        (["schedule.learning_rate=.nan"], "learning_rate"),
        (["schedule.iterations=2.5"], "a whole number"),
        (["schedule.betas=[1,2,3]"], "betas"),
        (["schedule.encoder=3"], "schedule.encoder"),
        (["schedule.seed=-1"], "seed"),
        (["data.batch=0"], "data.batch"),
        (["data.scale=8"], "network.scale"),
        (["network.nf=abc"], "nf is 'abc'"),
        (["network.nf=8.5"], "nf is 8.5"),
        (["iterations=3"], "section.field=value"),
        (["network.scale=5"], "×4, ×8 or ×16"),
    ],
)
def test_wrong_settings_name_the_field(overrides, message):
    with pytest.raises(ArgumentError, match=message):
        load_settings("x4-small", tuple(overrides)).build()


def test_a_learning_rate_may_be_written_without_a_point():
    assert load_settings("x4-small", ("schedule.learning_rate=1e-3",)).schedule.learning_rate == 1e-3


@pytest.mark.parametrize("content", [b"schedule: 3", b"network: [1]", b"\xff\xfe\x00", b"- 1", b"a: ["])
def test_files_that_are_no_settings_are_refused(tmp_path, content):
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(ArgumentError):
        load_settings(str(tmp_path / "run.yaml"))


def test_the_command_trains_resumes_and_fails_in_one_line(tmp_path, photos):
    arguments = ["--config", "x4-small", "--data", str(photos), "--out", str(tmp_path / "run")]
    overrides = ["network.nf=8", "network.growth=4", "network.blocks=2", "network.stacked_blocks=[0,1]"]
    overrides += ["network.steps=1", "network.hidden=8", "data.crop=16", "data.batch=2", "schedule.iterations=2"]
    overrides += ["schedule.log_every=1"]
    arguments += [part for override in overrides for part in ("--set", override)]
    result = CliRunner().invoke(train, arguments)
    assert result.exit_code == 0, result.output
    assert "srflow-export --ckpt" in result.output
    again = CliRunner().invoke(train, arguments)
    assert again.exit_code == 1
    assert again.output.startswith("error: ")
    assert "--resume" in again.output
    assert CliRunner().invoke(train, [*arguments, "--resume"]).exit_code == 0
    wrong = CliRunner().invoke(train, ["--config", "x5", "--data", str(photos), "--out", str(tmp_path / "other")])
    assert wrong.exit_code == 1
    assert "x4-small" in wrong.output
    assert not (tmp_path / "other").exists()
