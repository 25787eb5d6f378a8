"""A run from photographs to a checkpoint: repeatable, resumable, and clear about what it cannot do."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from srflow_sdk.errors import ArgumentError, CheckpointError, DeviceError, SRFlowError
from srflow_training import SRFlow, load_checkpoint
from srflow_training.checkpoints import load_with_notes, reduction_of
from srflow_training.cli import train
from srflow_training.settings import RunSettings, dump_settings, load_settings, preset_names
from srflow_training.trainer import DivergedError, Trainer

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


def settings(network=FLOW, schedule=SCHEDULE, data=None, objective=None, hardware=None):
    return RunSettings.from_dict(
        {
            "network": network,
            "data": {"crop": 16, "batch": 2, "workers": 0, **(data or {})},
            "objective": objective or {},
            "schedule": {**SCHEDULE, **schedule},
            "hardware": {"accelerator": "cpu", "precision": "fp32", **(hardware or {})},
        }
    )


def trainer(out, photos, *, resume=False, val=None, **changes):
    return Trainer(settings(**changes), data=photos, out=out, val=val, resume=resume)


def assert_same_weights(first, second):
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor), name


def scalars(run):
    """{tag: {step: value}} of the run's TensorBoard files, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]} | {
        "images": events.Tags()["images"]
    }


def test_a_run_gives_a_checkpoint_that_loads_and_curves(tmp_path, photos):
    checkpoint = trainer(tmp_path, photos, val=photos, objective={"l1": 1.0}).run()
    model = load_checkpoint(checkpoint)
    assert isinstance(model, SRFlow)
    assert all(actnorm.initialized for actnorm in model.actnorms())
    curves = scalars(tmp_path)
    names = ["loss", "nll", "prior", "log_det", "l1", "gradient_norm", "learning_rate", "iterations_per_second"]
    for name in names:
        assert set(curves[f"training/{name}"]) == {2, 4, 6}, name
    for step, nll in curves["training/nll"].items():
        assert nll == pytest.approx(curves["training/prior"][step] + curves["training/log_det"][step], abs=1e-4)
        assert curves["training/loss"][step] == pytest.approx(nll + curves["training/l1"][step], abs=1e-4)
    for name in ("nll", "psnr_tau0", "ssim_tau0", "lr_psnr_tau0.8", "diversity_tau0.8"):
        assert set(curves[f"validation/{name}"]) == {2, 4, 6}, name
    assert sorted(curves["images"]) == ["training/crops", "validation/pictures"]


def test_training_lowers_the_loss(tmp_path, photos):
    losses = []
    schedule = {"iterations": 40, "log_every": 10, "learning_rate": 2e-3}
    trainer(tmp_path, photos, schedule=schedule).run(lambda figures: losses.append(figures["loss"]))
    assert losses[-1] < losses[0] - 0.3


def test_the_checkpoint_holds_the_moving_average_of_the_weights(tmp_path, photos):
    run = trainer(tmp_path, photos)
    history, original = [], run.step

    def step(batch):
        terms = original(batch)
        history.append(run.model.encoder.conv_first.weight.detach().clone())
        return terms

    run.step = step
    run.run()
    average = history[0]
    for count, weight in enumerate(history[1:], start=1):
        decay = min(0.999, (1 + count) / (10 + count))
        average = decay * average + (1 - decay) * weight
    saved = load_checkpoint(run.checkpoint).encoder.conv_first.weight
    torch.testing.assert_close(saved, average)
    assert not torch.equal(saved, history[-1])


def test_without_an_average_the_checkpoint_holds_the_weights_themselves(tmp_path, photos):
    run = trainer(tmp_path, photos, schedule={"ema": 0})
    run.run()
    assert_same_weights(run.model, load_checkpoint(run.checkpoint))


COMMAND = [sys.executable, "-c", "from srflow_training.cli import train; train()"]


def killed_once_saved(command, states, iteration):
    """Start the command, kill it with SIGKILL as soon as a state of this iteration or later is there."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not any(int(file.stem[10:]) >= iteration for file in states.glob("iteration-*.pt")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_run_killed_and_resumed_gives_the_weights_of_one_never_killed(tmp_path, photos):
    changes = {
        "schedule": {"iterations": 30, "save_every": 2, "freeze_encoder": 0.5, "keep": 2},
        "objective": {"l1": 1.0, "l1_every": 3},
        "data": {"late_crop": 32, "batch": 4, "workers": 1},
    }
    whole = trainer(tmp_path / "whole", photos, **changes)
    whole.run()
    config = tmp_path / "whole" / "config.yaml"
    out = tmp_path / "killed"
    command = [*COMMAND, "--config", str(config), "--data", str(photos), "--out", str(out)]
    killed_once_saved(command, out / "states", 5)
    resumed = trainer(out, photos, resume=True, **changes)
    assert 5 <= resumed.iteration < 30
    resumed.run()
    assert_same_weights(whole.model, resumed.model)
    assert_same_weights(load_checkpoint(whole.checkpoint), load_checkpoint(resumed.checkpoint))
    assert len(list((out / "states").iterdir())) == 2  # the newest, and nothing half written


def test_curves_of_a_resumed_run_do_not_run_twice(tmp_path, photos):
    class KilledError(Exception):
        pass

    def kill(figures):
        if figures["iteration"] == 4:
            raise KilledError

    with pytest.raises(KilledError):
        trainer(tmp_path, photos).run(kill)
    resumed = trainer(tmp_path, photos, resume=True)
    assert resumed.iteration == 3  # the last state saved before the kill
    resumed.run()
    assert list(scalars(tmp_path)["training/loss"]) == [2, 4, 6]


def test_a_finished_run_that_is_resumed_keeps_its_curves(tmp_path, photos):
    for resume in (False, True):
        trainer(tmp_path, photos, val=photos, resume=resume, schedule={"save_every": 2}).run()
    curves = scalars(tmp_path)
    assert list(curves["training/loss"]) == list(curves["validation/nll"]) == [2, 4, 6]


def test_validation_need_not_coincide_with_logging(tmp_path, photos):
    trainer(tmp_path, photos, val=photos, schedule={"log_every": 4, "validate_every": 3}).run()
    curves = scalars(tmp_path)
    assert list(curves["validation/nll"]) == [3, 6]
    assert list(curves["training/loss"]) == [3, 4, 6]


def test_what_a_killed_run_had_half_written_is_removed(tmp_path, photos):
    trainer(tmp_path, photos).run()
    for name in ("states/.iteration-00000004.pt.0123abcd.part", ".model.safetensors.0123abcd.part"):
        (tmp_path / name).write_bytes(b"half")
    trainer(tmp_path, photos, resume=True)
    assert not list(tmp_path.rglob(".*"))


def test_a_run_cannot_be_resumed_to_end_before_where_it_is(tmp_path, photos):
    trainer(tmp_path, photos).run()
    with pytest.raises(ArgumentError, match="has done 6 already"):
        trainer(tmp_path, photos, resume=True, schedule={"iterations": 4})


def test_an_interrupted_run_saves_the_step_it_has_done(tmp_path, photos):
    def press(figures):
        if figures["iteration"] == 4:
            os.kill(os.getpid(), signal.SIGINT)

    # A shell starts background jobs with Ctrl-C ignored, and that is inherited.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer(tmp_path, photos, schedule={"save_every": 100}).run(press)
    finally:
        signal.signal(signal.SIGINT, before)
    resumed = trainer(tmp_path, photos, resume=True, schedule={"save_every": 100})
    assert resumed.iteration == 4


def test_a_frozen_encoder_stays_and_then_trains(tmp_path, photos):
    run = trainer(tmp_path, photos, schedule={"iterations": 4, "freeze_encoder": 0.5})
    start = run.model.encoder.conv_first.weight.detach().clone()
    seen, original = [], run.step

    def step(batch):
        terms = original(batch)
        seen.append(torch.equal(run.model.encoder.conv_first.weight, start))
        return terms

    run.step = step
    run.run()
    assert seen == [True, True, False, False]


def test_an_encoder_is_pretrained_and_handed_on(tmp_path, photos):
    rrdb = {"kind": "rrdb", "scale": 4, **TINY}
    checkpoint = trainer(tmp_path / "rrdb", photos, network=rrdb, objective={"noise": 0.0}).run()
    run = trainer(tmp_path / "flow", photos, schedule={"encoder": str(checkpoint)})
    run._write_checkpoint(run.checkpoint)
    assert str(tmp_path) not in str(load_with_notes(run.checkpoint)[1])
    assert torch.equal(run.model.encoder.conv_first.weight, load_checkpoint(checkpoint).conv_first.weight)


def test_a_whole_network_is_fine_tuned_and_its_actnorms_stay(tmp_path, photos):
    checkpoint = trainer(tmp_path / "first", photos).run()
    run = trainer(tmp_path / "second", photos, schedule={"start": str(checkpoint), "learning_rate": 1e-9})
    assert_same_weights(load_checkpoint(checkpoint), run.model)
    run.run()
    torch.testing.assert_close(
        load_checkpoint(checkpoint).actnorms()[0].bias, run.model.actnorms()[0].bias, rtol=0, atol=1e-6
    )


def test_the_l1_term_pulls_the_decoding_at_tau_0_to_the_image(tmp_path, photos):
    def error(run):
        batch = run.crops[0]
        with torch.no_grad():
            return float((run.model.sample(batch.lr, tau=0.0) - batch.hr).abs().mean())

    runs = [
        trainer(tmp_path / str(l1), photos, schedule={"iterations": 40, "learning_rate": 2e-3}, objective={"l1": l1})
        for l1 in (0.0, 30.0)
    ]
    for run in runs:
        run.run()
    assert error(runs[1]) < 0.9 * error(runs[0])


def test_steps_that_are_not_finite_are_skipped_counted_and_many_stop_the_run(tmp_path, photos, monkeypatch, caplog):
    run = trainer(tmp_path, photos, schedule={"iterations": 100})
    original = run.objective

    def broken_at(*iterations):
        def objective(hr, lr, noise, **options):
            terms = original(hr, lr, noise, **options)
            factor = float("nan") if run.iteration in iterations else 1.0
            return {**terms, "loss": terms["loss"] * factor}

        return objective

    monkeypatch.setattr(run, "objective", broken_at(2))
    monkeypatch.setattr(
        run.fabric, "clip_gradients", lambda *a, **k: torch.nn.utils.clip_grad_norm_(run.model.parameters(), 5.0)
    )
    batches = [run.crops[index] for index in range(4)]
    for batch in batches[:2]:
        run.step(batch)
    before = {name: tensor.clone() for name, tensor in run.model.named_parameters()}
    run.step(batches[2])
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.named_parameters())
    assert (run.skipped, run.iteration) == (1, 3)
    run._save()
    assert run.states.load()["skipped"] == (1, 1)
    assert "step skipped" in caplog.text
    run.step(batches[3])
    assert (run.skipped, run.skipped_in_a_row) == (1, 0)
    monkeypatch.setattr(run, "objective", broken_at(*range(100)))
    for _ in range(19):
        run.step(batches[0])
    with pytest.raises(DivergedError, match=r"again at a lower rate: srflow-train .*learning_rate=0\.000125"):
        run.step(batches[0])


def test_gradients_are_clipped(tmp_path, photos):
    run = trainer(tmp_path, photos, schedule={"iterations": 1, "clip_norm": 1e-3})
    run.run()
    norm = torch.stack([p.grad.norm() for p in run.model.parameters() if p.grad is not None]).norm()
    assert float(norm) <= 1.01e-3


def test_the_checkpoint_says_which_reduction_it_is_for(tmp_path, photos):
    run = trainer(tmp_path, photos, val=photos, data={"reduction": "bilinear"})
    assert run.validation.reduction == "bilinear"
    run._write_checkpoint(run.checkpoint)
    assert reduction_of(load_with_notes(run.checkpoint)[1]) == "bilinear"
    assert reduction_of({}) == "bicubic"  # published files have no notes


def test_clipping_can_be_switched_off(tmp_path, photos):
    figures = []
    run = trainer(tmp_path, photos, schedule={"iterations": 1, "clip_norm": 0}, objective={"l1": 1e4})
    run.run(figures.append)
    norm = torch.stack([p.grad.norm() for p in run.model.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(figures[0]["gradient_norm"], rel=1e-5)
    assert float(norm) > 100


def test_an_unshuffled_encoder_is_pretrained_handed_on_and_fits_no_other_trunk(tmp_path, photos):
    network = {**FLOW, "unshuffle": 4}
    rrdb = {"kind": "rrdb", "scale": 4, **TINY, "unshuffle": 4}
    first = trainer(tmp_path / "rrdb", photos, val=photos, network=rrdb, objective={"noise": 0.0})
    assert all(size % 16 == 0 for crop in first.validation.crops for size in crop.shape[2:])
    checkpoint = first.run()
    assert load_checkpoint(checkpoint).unshuffle == 4
    start = {"encoder": str(checkpoint)}
    run = trainer(tmp_path / "flow", photos, val=photos, network=network, schedule=start, objective={"l1": 1.0})
    assert_same_weights(run.model.encoder, load_checkpoint(checkpoint))
    assert load_checkpoint(run.run()).config.unshuffle == 4
    with pytest.raises(CheckpointError, match=r"--set network\.unshuffle=4$"):
        trainer(tmp_path / "other", photos, schedule=start)
    plain = trainer(tmp_path / "plain", photos, network={**rrdb, "unshuffle": 1}).run()
    with pytest.raises(CheckpointError, match=r"--set network\.unshuffle=1$"):
        trainer(tmp_path / "other", photos, network=network, schedule={"encoder": str(plain)})


def test_an_encoder_of_another_shape_is_refused(tmp_path, photos):
    rrdb = {"kind": "rrdb", "scale": 4, **TINY, "nf": 12}
    checkpoint = trainer(tmp_path / "rrdb", photos, network=rrdb).run()
    with pytest.raises(CheckpointError, match=r"--set network\.nf=12$"):
        trainer(tmp_path / "flow", photos, schedule={"encoder": str(checkpoint)})
    with pytest.raises(CheckpointError, match="another kind of network"):
        trainer(tmp_path / "flow", photos, schedule={"start": str(checkpoint)})


def test_weights_that_are_not_finite_do_not_replace_the_last_good_state(tmp_path, photos):
    run = trainer(tmp_path, photos)
    run.run()
    good = {file: file.read_bytes() for file in (tmp_path / "states").iterdir()}
    run.model.encoder.conv_first.bias.data.fill_(float("nan"))
    with pytest.raises(DivergedError, match="iteration 6, the last healthy state"):
        run._save()
    assert {file: file.read_bytes() for file in (tmp_path / "states").iterdir()} == good
    longer = {"iterations": 8, "learning_rate": 1e-4}
    assert trainer(tmp_path, photos, resume=True, schedule=longer).iteration == 6


def test_there_must_be_a_state_to_resume_from(tmp_path, photos):
    with pytest.raises(ArgumentError, match="no saved state"):
        trainer(tmp_path, photos, resume=True)


def test_a_damaged_state_says_what_to_delete(tmp_path, photos):
    trainer(tmp_path, photos).run()
    newest = tmp_path / "states" / "iteration-00000006.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"00000006\.pt.*delete it"):
        trainer(tmp_path, photos, resume=True)
    newest.unlink()
    assert trainer(tmp_path, photos, resume=True).iteration == 3


def test_a_run_is_not_overwritten_nor_resumed_with_other_settings(tmp_path, photos):
    trainer(tmp_path, photos).run()
    with pytest.raises(ArgumentError, match="--resume"):
        trainer(tmp_path, photos)
    with pytest.raises(ArgumentError, match=r"another schedule\.clip_norm \(5\.0, not 1\.0\)"):
        trainer(tmp_path, photos, resume=True, schedule={"clip_norm": 1.0})


def test_seeds_give_different_runs_and_0_is_one_of_them(tmp_path, photos):
    runs = [trainer(tmp_path / str(i), photos, schedule={"seed": seed}) for i, seed in enumerate((0, 0, 1))]
    for run in runs:
        run.run()
    assert_same_weights(runs[0].model, runs[1].model)
    assert not torch.equal(runs[0].model.encoder.conv_first.weight, runs[2].model.encoder.conv_first.weight)


def test_bfloat16_leaves_the_flows_state_in_float32(tmp_path, photos):
    exact, rounded = (trainer(tmp_path / p, photos, hardware={"precision": p}) for p in ("fp32", "bf16"))
    for run in (exact, rounded):
        run.run()
    batch = exact.crops[0]
    with torch.no_grad(), rounded.fabric.autocast():
        latents, nats = rounded.model.encode(batch.hr, batch.lr)
        again = rounded.model.decode(batch.lr, latents)
    assert nats.dtype == again.dtype == torch.float32
    torch.testing.assert_close(again, batch.hr, rtol=0, atol=1e-3)  # bfloat16 would lose 1e-2
    with torch.no_grad():
        difference = exact.model.encode(batch.hr, batch.lr)[1] - nats
    assert float(difference.abs().max()) / batch.hr[0].numel() < 0.05


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_trains_in_bfloat16(tmp_path, photos, preset):
    small = ["network.nf=8", "network.growth=4", "network.blocks=2", "data.crop=32", "data.batch=1", "data.workers=0"]
    if not preset.startswith("rrdb"):
        small += ["network.stacked_blocks=[0,1]", "network.steps=1", "network.hidden=8"]
    chosen = load_settings(preset, [*small, "hardware.accelerator=cpu", "hardware.precision=bf16"])
    run = Trainer(chosen, data=photos, out=tmp_path, val=None, resume=False)
    assert run.step(run.crops[0])["loss"].isfinite()
    assert run.skipped == 0


def test_bfloat16_rounds_neither_images_nor_noise(tmp_path, photos):
    run = trainer(tmp_path, photos, hardware={"precision": "bf16"})
    seen = []
    run.objective.module.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    batch = run.crops[0]
    run.step(batch)
    for given, arrived in zip((batch.hr, batch.lr, batch.noise), seen, strict=True):
        assert torch.equal(arrived, given)


RUN_RANKS = str(Path(__file__).parent / "run_ranks.py")


def test_an_interrupt_stops_two_processes_after_the_same_step(tmp_path, photos):
    endless = settings(schedule={"iterations": 10**6, "save_every": 10**6}, hardware={"devices": 2})
    (tmp_path / "two.yaml").write_text(dump_settings(endless))
    command = [sys.executable, RUN_RANKS, str(tmp_path / "two.yaml"), str(photos), str(tmp_path / "two")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as run:
        run.stdout.readline()  # a step was reported: both are under way
        os.killpg(run.pid, signal.SIGINT)
        errors = run.communicate(timeout=120)[1].decode()
    assert run.returncode != 0
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert len(list((tmp_path / "two" / "states").iterdir())) == 1
    assert not list((tmp_path / "two").glob("rank-*.pt"))


def test_two_processes_train_as_one_does(tmp_path, photos):
    """Two gloo processes: actnorms see the whole batch, as one process's do; the weights are the same on both."""
    changes = {"data": {"batch": 4}, "schedule": {"iterations": 4, "freeze_encoder": 0.5, "log_every": 1}}
    alone = trainer(tmp_path / "alone", photos, **changes)
    figures = []
    trainer(tmp_path / "whole", photos, **changes).run(figures.append)
    batch = alone.crops[0]
    alone.model.initialize_actnorms(batch.hr + batch.noise * (4 / 3**0.5 / 255), batch.lr)
    whole = alone.model.state_dict()
    text = (tmp_path / "alone" / "config.yaml").read_text().replace("devices: 1", "devices: 2")
    (tmp_path / "two.yaml").write_text(text)
    subprocess.run(
        [sys.executable, RUN_RANKS, str(tmp_path / "two.yaml"), str(photos), str(tmp_path / "two")],
        check=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    first, second = (torch.load(tmp_path / "two" / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1))
    for when in ("initialised", "trained"):
        for name, tensor in first[when].items():
            assert torch.equal(second[when][name], tensor), (when, name)
    torch.testing.assert_close(first["initialised"], whole, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(figures, first["figures"], strict=True):
        for name in ("loss", "gradient_norm"):  # of the whole batch, although each has seen a half
            assert theirs[name] == pytest.approx(mine[name], rel=0.02), (name, mine["iteration"])
    assert not torch.equal(first["trained"]["encoder.conv_first.weight"], whole["encoder.conv_first.weight"])


def test_more_processes_than_the_batch_can_be_shared_by_are_refused():
    with pytest.raises(ArgumentError, match="3 devices"):
        settings(hardware={"devices": 3})


def test_processes_that_the_settings_do_not_know_of_are_refused(tmp_path, photos, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DeviceError, match="2 processes were started for 1 nodes of 1 devices"):
        trainer(tmp_path, photos)


def test_without_a_compiler_compile_says_so_in_one_line(tmp_path, photos, monkeypatch):
    def no_compiler(*arguments, **options):
        raise RuntimeError("no C++ compiler found\nand a long story")

    monkeypatch.setattr(torch, "compile", lambda module: torch.nn.Module())
    run = trainer(tmp_path, photos, hardware={"compile": True})
    monkeypatch.setattr(run, "objective", no_compiler)
    with pytest.raises(DeviceError, match=r"no C\+\+ compiler found: install"):
        run.step(run.crops[0])


def test_hardware_that_is_not_there_is_refused_in_one_line(tmp_path, photos):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SRFlowError, match="hardware"):
        trainer(tmp_path, photos, hardware={"accelerator": "cuda"})


def test_the_cache_may_change_when_a_run_is_resumed(tmp_path, photos):
    trainer(tmp_path / "run", photos).run()
    resumed = trainer(tmp_path / "run", photos, resume=True, data={"cache": str(tmp_path / "kept")})
    assert resumed.notes == [f"decoded photographs: 0 MB in {tmp_path / 'kept'}"]
    assert trainer(tmp_path / "run", photos, resume=True, data={"cache": "off"}).notes == []


def test_the_command_trains_resumes_and_fails_in_one_line(tmp_path, photos):
    out = ["--data", str(photos), "--out", str(tmp_path / "run")]
    overrides = ["network.nf=8", "network.growth=4", "network.blocks=2", "network.stacked_blocks=[0,1]"]
    overrides += ["network.steps=1", "network.hidden=8", "data.crop=16", "data.batch=2", "schedule.iterations=2"]
    overrides += ["schedule.log_every=1", "data.workers=0", "data.narrowest=0", "hardware.accelerator=cpu"]
    arguments = ["--config", "x4-small", *out, *(part for override in overrides for part in ("--set", override))]
    result = CliRunner().invoke(train, arguments)
    assert result.exit_code == 0, result.output
    assert "srflow-export --ckpt" in result.output
    assert result.output.count("decoded photographs: 0 MB in ") == 1
    again = CliRunner().invoke(train, arguments)
    assert again.exit_code == 1
    assert again.output.startswith("error: ")
    assert "--resume" in again.output
    assert CliRunner().invoke(train, [*out, "--resume"]).exit_code == 0  # the run's own configuration
    wrong = CliRunner().invoke(train, ["--config", "x5", "--data", str(photos), "--out", str(tmp_path / "other")])
    assert wrong.exit_code == 1
    assert "x4-small" in wrong.output
    assert not (tmp_path / "other").exists()
    assert CliRunner().invoke(train, ["--data", str(photos), "--out", str(tmp_path / "other")]).exit_code == 1
