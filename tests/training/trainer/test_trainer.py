"""A run from photographs to a checkpoint: repeatable, and clear about what it cannot do."""

import pytest
import torch
from click.testing import CliRunner

from srflow_sdk.errors import CheckpointError
from srflow_training import SRFlow, load_checkpoint
from srflow_training.checkpoints import (
    ENCODER_NOTE,
    default_tau_of,
    load_with_notes,
    read_lr_reduction,
    save_checkpoint,
)
from srflow_training.cli import train
from srflow_training.model.layers import ZerosConv
from srflow_training.trainer import DivergedError, start_from_files
from tests.training.runs import FLOW, PLAIN, TINY, assert_same_weights, scalars, trainer


def weights_after_each_step(run):
    """Train to the end; the encoder's first weights on the way."""
    history = []
    original = run.step

    def step(batch):
        terms = original(batch)
        history.append(run.model.encoder.conv_first.weight.detach().clone())
        return terms

    run.step = step
    run.run()
    return history


def test_a_run_gives_a_checkpoint_that_loads_and_curves(tmp_path, photos):
    checkpoint = trainer(tmp_path, photos, val=photos, objective={"l1": 1.0}).run()
    model = load_checkpoint(checkpoint)
    assert isinstance(model, SRFlow)
    assert all(actnorm.initialized for actnorm in model.actnorms())
    curves = scalars(tmp_path)
    names = [
        "loss",
        "nll",
        "prior",
        "log_det",
        "l1",
        "gradient_norm",
        "learning_rate",
        "iterations_per_second",
    ]
    for name in names:
        assert set(curves[f"training/{name}"]) == {2, 4, 6}, name
    for step, nll in curves["training/nll"].items():
        assert nll == pytest.approx(
            curves["training/prior"][step] + curves["training/log_det"][step], abs=1e-4
        )
        assert curves["training/loss"][step] == pytest.approx(
            nll + curves["training/l1"][step], abs=1e-4
        )
    for name in ("nll", "psnr_tau0", "ssim_tau0", "lr_psnr_tau0.8", "sample_difference_tau0.8"):
        assert set(curves[f"validation/{name}"]) == {2, 4, 6}, name
    assert sorted(curves["images"]) == ["training/crops", "validation/pictures"]


def test_training_lowers_the_loss(tmp_path, photos):
    losses = []
    schedule = {"iterations": 20, "log_every": 5, "learning_rate": 2e-3}
    trainer(tmp_path, photos, schedule=schedule).run(lambda figures: losses.append(figures["loss"]))
    assert losses[-1] < losses[0] - 0.3


def test_the_checkpoint_holds_the_moving_average_of_the_weights(tmp_path, photos):
    run = trainer(tmp_path, photos)
    history = weights_after_each_step(run)
    average = history[0]
    for count, weight in enumerate(history[1:], start=1):
        decay = min(0.999, (1 + count) / (10 + count))
        average = decay * average + (1 - decay) * weight
    saved = load_checkpoint(run.checkpoint).encoder.conv_first.weight
    torch.testing.assert_close(saved, average)
    assert not torch.equal(saved, history[-1])


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_an_encoder_is_given_noise_only_if_its_objective_adds_it(tmp_path, photos, noise):
    run = trainer(tmp_path, photos, network=PLAIN, objective={"noise": noise})
    assert run.crops[0].noise.numel() == (run.crops[0].hr.numel() if noise else 0)
    quiet = trainer(tmp_path / "quiet", photos, network=PLAIN)
    loss, other = (float(each.step(each.crops[0])["loss"]) for each in (run, quiet))
    assert loss != other if noise else loss == other


def test_weights_and_their_average_are_laid_out_alike(tmp_path, photos):
    run = trainer(tmp_path, photos, network=PLAIN)
    layouts = [
        [parameter.stride() for parameter in model.parameters()]
        for model in (run.model, run.average.module)
    ]
    assert layouts[0] == layouts[1]


def test_a_frozen_encoder_stays_and_then_trains(tmp_path, photos):
    run = trainer(tmp_path, photos, schedule={"iterations": 4, "freeze_encoder": 0.5})
    start = run.model.encoder.conv_first.weight.detach().clone()
    weights = weights_after_each_step(run)
    assert [torch.equal(weight, start) for weight in weights] == [True, True, False, False]


def test_the_first_step_moves_the_encoder_and_the_flow_by_one_rate_as_adam_does(tmp_path, photos):
    run = trainer(
        tmp_path, photos, schedule={"learning_rate": 1e-3, "warmup": 0, "freeze_encoder": 0}
    )
    for module in run.model.modules():
        if isinstance(module, ZerosConv):  # at zero, nothing behind it has a gradient
            module.weight.data.normal_(std=0.1)
    assert isinstance(run.optimiser, torch.optim.Adam)
    before = {name: weight.detach().clone() for name, weight in run.model.named_parameters()}
    run.step(run.crops[0])
    for part in ("encoder.", "levels."):
        moved = torch.cat(
            [
                (weight.detach() - before[name]).abs()[weight.grad.abs() > 1e-4]
                for name, weight in run.model.named_parameters()
                if name.startswith(part) and "actnorm" not in name and weight.grad is not None
            ]
        )
        assert len(moved) > 100
        torch.testing.assert_close(moved, torch.full_like(moved, 1e-3), rtol=1e-3, atol=0)


def test_an_encoder_is_pretrained_and_handed_on(tmp_path, photos):
    rrdb = {"kind": "rrdb", "scale": 4, **TINY}
    checkpoint = trainer(tmp_path / "rrdb", photos, network=rrdb, objective={"noise": 0.0}).run()
    run = trainer(tmp_path / "flow", photos, schedule={"encoder": str(checkpoint)})
    run._write_checkpoint(run.checkpoint)
    assert str(tmp_path) not in str(load_with_notes(run.checkpoint)[1])
    assert torch.equal(
        run.model.encoder.conv_first.weight, load_checkpoint(checkpoint).conv_first.weight
    )
    assert load_with_notes(checkpoint)[1][ENCODER_NOTE] == ""
    save_checkpoint(tmp_path / "bare.safetensors", run.model)
    for start, noted in {
        run.checkpoint: checkpoint.name,
        tmp_path / "bare.safetensors": None,
    }.items():
        assert start_from_files(run.model, start=str(start), encoder="").get(ENCODER_NOTE) == noted


def test_a_whole_network_is_fine_tuned_and_its_actnorms_and_default_tau_stay(tmp_path, photos):
    checkpoint = trainer(tmp_path / "first", photos).run()
    save_checkpoint(
        checkpoint, load_checkpoint(checkpoint), notes={"default_tau": 0.9, "auto_tau": True}
    )
    schedule = {"start": str(checkpoint), "learning_rate": 1e-9, "iterations": 3}
    trainer(tmp_path / "second", photos, schedule=schedule).run()
    run = trainer(tmp_path / "second", photos, schedule={**schedule, "iterations": 4}, resume=True)
    run.run()
    assert default_tau_of(load_with_notes(run.checkpoint)[1]) == (0.9, True)
    assert [default_tau_of({"default_tau": tau}) for tau in (None, "0.9", 7)] == [(None, False)] * 3
    torch.testing.assert_close(
        load_checkpoint(checkpoint).actnorms()[0].bias,
        run.model.actnorms()[0].bias,
        rtol=0,
        atol=1e-6,
    )


def test_steps_that_are_not_finite_are_skipped_counted_and_many_stop_the_run(
    tmp_path,
    photos,
    monkeypatch,
    caplog,
):
    run = trainer(tmp_path, photos, schedule={"iterations": 100})
    original = run.objective

    def broken_at(*iterations):
        def objective(*batch, **options):
            terms = original(*batch, **options)
            factor = float("nan") if run.iteration in iterations else 1.0
            return {**terms, "loss": terms["loss"] * factor}

        return objective

    monkeypatch.setattr(run, "objective", broken_at(2))
    monkeypatch.setattr(
        run.fabric,
        "clip_gradients",
        lambda *a, **k: torch.nn.utils.clip_grad_norm_(run.model.parameters(), 5.0),
    )
    batches = [run.crops[index] for index in range(4)]
    for batch in batches[:2]:
        run.step(batch)
    before = {name: tensor.clone() for name, tensor in run.model.named_parameters()}
    run.step(batches[2])
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.named_parameters())
    assert (run.skipped, run.iteration) == (1, 3)
    assert "step skipped" in caplog.text
    run.step(batches[3])
    assert (run.skipped, run.skipped_in_a_row) == (1, 0)
    monkeypatch.setattr(run, "objective", broken_at(*range(100)))
    for _ in range(19):
        run.step(batches[0])
    with pytest.raises(
        DivergedError, match=r"again at a lower rate: srflow-train .*learning_rate=0\.000125"
    ):
        run.step(batches[0])


def test_the_checkpoint_says_how_its_lr_images_were_made(tmp_path, photos):
    run = trainer(
        tmp_path,
        photos,
        val=photos,
        data={"reduction": "bilinear", "degradation": "photo"},
    )
    assert run.validation.reduction == "bilinear"
    run._write_checkpoint(run.checkpoint)
    notes = load_with_notes(run.checkpoint)[1]
    assert (read_lr_reduction(notes), notes["removes_damage"]) == ("bilinear", True)
    assert read_lr_reduction({}) == "bicubic"  # published files have no notes


def test_an_encoder_of_another_shape_is_refused(tmp_path, photos):
    rrdb = {"kind": "rrdb", "scale": 4, **TINY, "nf": 12}
    checkpoint = trainer(tmp_path / "rrdb", photos, network=rrdb).run()
    with pytest.raises(CheckpointError, match=r"--set network\.nf=12$"):
        trainer(tmp_path / "flow", photos, schedule={"encoder": str(checkpoint)})
    with pytest.raises(CheckpointError, match="another kind of network"):
        trainer(tmp_path / "flow", photos, schedule={"start": str(checkpoint)})


def test_the_command_trains_resumes_and_fails_in_one_line(tmp_path, photos):
    out = ["--data", str(photos), "--out", str(tmp_path / "run")]
    overrides = (
        "network.nf=8 network.blocks=2 network.steps=1 network.hidden=8 data.crop=16 data.batch=2 "
        "data.workers=0 data.narrowest=0 schedule.iterations=2 schedule.log_every=1 "
        "hardware.accelerator=cpu"
    )
    arguments = ["--config", "x4-small", *out]
    for override in overrides.split():
        arguments += ["--set", override]
    result = CliRunner().invoke(train, arguments)
    assert result.exit_code == 0, result.output
    assert "srflow-export --ckpt" in result.output
    assert result.output.count("warning: the network starts from nothing") == 1
    assert result.output.count("decoded photographs are kept in ") == 1
    again = CliRunner().invoke(train, arguments)
    assert again.exit_code == 1
    assert again.output.splitlines()[-1].startswith("error: ")
    assert "--resume" in again.output
    resumed = CliRunner().invoke(train, [*out, "--resume"])  # with the run's own configuration
    assert (resumed.exit_code, resumed.output.count("warning")) == (0, 0)


def test_a_residual_flow_refuses_an_encoder_whose_image_has_another_base(tmp_path, photos):
    network = {
        **FLOW,
        **PLAIN,
        "kind": "srflow",
        "encoder": "plain",
        "stacked_blocks": [],
        "condition": [8, 8, 8],
    }
    del network["growth"]
    encoder = trainer(tmp_path / "encoder", photos, network=PLAIN).run()
    begun = {
        "network": {**network, "image_base": "nearest", "residual": True},
        "schedule": {"encoder": str(encoder)},
    }
    with pytest.raises(
        CheckpointError,
        match=r"has the base 'bicubic', and a residual flow needs .* 'nearest': train",
    ):
        trainer(tmp_path / "flow", photos, **begun)
    trainer(tmp_path / "flow", photos, **{**begun, "network": {**network, "image_base": "nearest"}})


def test_a_flow_goes_on_with_a_deeper_encoder(tmp_path, photos):
    flow = trainer(tmp_path / "first", photos).run()
    deeper = {"kind": "rrdb", "scale": 4, **TINY, "blocks": 3}
    encoder = trainer(tmp_path / "rrdb", photos, network=deeper).run()
    start = {"start": str(flow), "encoder": str(encoder)}
    run = trainer(
        tmp_path / "second",
        photos,
        network={**FLOW, "blocks": 3, "stacked_blocks": [0, 2]},
        schedule=start,
    )
    assert_same_weights(run.model.encoder, load_checkpoint(encoder))
    assert_same_weights(run.model.levels, load_checkpoint(flow).levels)
    network = {**FLOW, "blocks": 3, "stacked_blocks": [2]}
    with pytest.raises(CheckpointError, match=r"--set network\.stacked_blocks=\[0,1\]$"):
        trainer(tmp_path / "third", photos, network=network, schedule=start)
