"""Where and how a run computes changes nothing but rounding."""

import os
import signal
import subprocess

import pytest
import torch

from srflow_sdk.errors import DeviceError
from srflow_training.settings import dump_settings
from tests.training.runs import ranks_command, run_two, settings, trainer


def test_bfloat16_leaves_the_flows_state_in_float32(tmp_path, photos):
    exact, rounded = (
        trainer(tmp_path / p, photos, hardware={"precision": p}) for p in ("fp32", "bf16")
    )
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


def test_bfloat16_rounds_neither_images_nor_noise(tmp_path, photos):
    run = trainer(tmp_path, photos, hardware={"precision": "bf16"})
    seen = []
    run.objective.module.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    batch = run.crops[0]
    run.step(batch)
    for given, arrived in zip((batch.hr, batch.lr, batch.noise), seen, strict=True):
        assert torch.equal(arrived, given)


@pytest.mark.slow
def test_an_interrupt_stops_two_processes_after_the_same_step(tmp_path, photos):
    endless = settings(schedule={"iterations": 10**6, "save_every": 10**6}, hardware={"devices": 2})
    (tmp_path / "two.yaml").write_text(dump_settings(endless))
    command = ranks_command(tmp_path, photos)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as run:
        run.stdout.readline()  # a step was reported: both are under way
        os.killpg(run.pid, signal.SIGINT)
        errors = run.communicate(timeout=120)[1].decode()
    assert run.returncode != 0
    assert errors.rstrip().endswith("KeyboardInterrupt: 2")
    assert len(list((tmp_path / "two" / "states").iterdir())) == 1
    assert not list((tmp_path / "two").glob("rank-*.pt"))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_processes_train_as_one_does(tmp_path, photos, precision):
    """Two gloo processes: actnorms see the whole batch, as one process's do.

    The weights are the same on both.
    """
    changes = {
        "data": {"batch": 4, "cache": str(tmp_path / "decoded")},
        "schedule": {"iterations": 4, "freeze_encoder": 0.5, "log_every": 1},
        "hardware": {"precision": precision},
    }
    alone = trainer(tmp_path / "alone", photos, **changes)
    figures = []
    trainer(tmp_path / "whole", photos, **changes).run(figures.append)
    batch = alone.crops[0]
    alone.model.initialize_actnorms(batch.hr + batch.noise * (4 / 3**0.5 / 255), batch.lr)
    whole = alone.model.state_dict()
    text = (tmp_path / "alone" / "config.yaml").read_text().replace("devices: 1", "devices: 2")
    (tmp_path / "two.yaml").write_text(text)
    first, second = run_two(tmp_path, photos)
    assert first["precision"] == second["precision"] == precision
    for when in ("initialised", "trained"):
        for name, tensor in first[when].items():
            assert torch.equal(second[when][name], tensor), (when, name)
    torch.testing.assert_close(first["initialised"], whole, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(figures, first["figures"], strict=True):
        for name in ("loss", "gradient_norm"):  # of the whole batch, although each has seen a half
            assert theirs[name] == pytest.approx(mine[name], rel=0.02), (name, mine["iteration"])
    assert not torch.equal(
        first["trained"]["encoder.conv_first.weight"], whole["encoder.conv_first.weight"]
    )


def test_processes_that_the_settings_do_not_know_of_are_refused(tmp_path, photos, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DeviceError, match="2 processes were started for 1 nodes of 1 devices"):
        trainer(tmp_path, photos)
