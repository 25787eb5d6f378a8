"""The precision of a run is the faster one, timed at its start, and kept in the run."""

import pytest
import torch
import yaml
from click.testing import CliRunner

from srflow_training import hardware
from srflow_training.checkpoints import load_with_notes
from srflow_training.cli import train
from srflow_training.hardware import StepTimes, time_steps
from srflow_training.presets import load_settings
from srflow_training.trainer import Trainer

CPU = torch.device("cpu")
TINY = [
    "network.nf=8",
    "network.growth=4",
    "network.blocks=2",
    "data.crop=16",
    "data.batch=2",
    "data.workers=0",
]
TINY += ["schedule.iterations=2", "schedule.log_every=1", "hardware.accelerator=cpu"]
FLOW = ["network.stacked_blocks=[0,1]", "network.steps=1", "network.hidden=8"]


def tiny(*overrides, stage="encoder"):
    return load_settings("x4-general", [*TINY, *overrides], stage=stage)


@pytest.fixture
def timings(monkeypatch):
    """Replaces the timing: the times that the next ones give, and the settings that were timed."""
    times = [StepTimes(2.0, 1.0)]
    timed = []
    monkeypatch.setattr(
        hardware,
        "time_steps",
        lambda settings, device: timed.append(settings) or times[0],
    )
    return times, timed


def run(photos, out, *arguments, overrides=()):
    config = [] if "--resume" in arguments else ["--config", "x4-general", "--stage", "encoder"]
    changes = [
        part for override in (*(TINY if config else ()), *overrides) for part in ("--set", override)
    ]
    result = CliRunner().invoke(
        train, [*config, "--data", str(photos), "--out", str(out), *arguments, *changes]
    )
    assert result.exit_code == 0, result.output
    return result.output


def precision_in(out):
    in_config = yaml.safe_load((out / "config.yaml").read_text())["hardware"]["precision"]
    notes = load_with_notes(out / "model.safetensors")[1]
    assert yaml.safe_load(notes["settings"])["hardware"]["precision"] == in_config
    return in_config


def test_bf16_must_be_clearly_faster():
    assert StepTimes(1.0, 0.5).precision == "bf16"
    assert {StepTimes(1.0, bf16).precision for bf16 in (0.96, 2.0, None)} == {"fp32"}


@pytest.mark.parametrize("stage", ["encoder", "flow"])
def test_timing_leaves_random_numbers_and_threads_alone(stage):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    threads = torch.get_num_threads()
    times = time_steps(tiny(*(FLOW if stage == "flow" else ()), stage=stage), CPU)
    assert times.fp32 > 0
    assert times.bf16 > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_processor_without_bf16_trains_in_fp32(monkeypatch):
    original = hardware._TimedStep.seconds

    def seconds(step, precision):
        if precision == "bf16":
            raise RuntimeError("not implemented for 'BFloat16'")
        return original(step, precision)

    monkeypatch.setattr(hardware._TimedStep, "seconds", seconds)
    times = time_steps(tiny(), CPU)
    assert times.precision == "fp32"
    assert "bf16 not possible" in str(times)


def test_a_run_holds_its_precision_and_keeps_it_when_resumed(tmp_path, photos, timings):
    out = tmp_path / "run"
    assert "precision: bf16 (timed on a small crop: fp32 2 s, bf16 1 s)" in run(photos, out)
    assert precision_in(out) == "bf16"
    timings[0][0] = StepTimes(1.0, 2.0)
    run(photos, out, "--resume", overrides=["schedule.iterations=3"])
    assert precision_in(out) == "bf16"
    output = run(
        photos,
        out,
        "--resume",
        overrides=["schedule.iterations=4", "hardware.precision=auto"],
    )
    assert "precision: bf16 (as in the run so far)" in output
    assert "precision:" not in run(photos, out, "--resume", overrides=["hardware.precision=fp32"])
    assert precision_in(out) == "fp32"
    assert len(timings[1]) == 1


def test_the_loss_is_computed_in_the_precision_that_was_chosen(tmp_path, photos, timings):
    for times, dtype in (
        (StepTimes(2.0, 1.0), torch.bfloat16),
        (StepTimes(1.0, 2.0), torch.float32),
    ):
        timings[0][0] = times
        trainer = Trainer(tiny(), data=photos, out=tmp_path / str(dtype), val=None, resume=False)
        seen = []
        trainer.model.conv_first.register_forward_hook(
            lambda *arguments, seen=seen: seen.append(arguments[2].dtype)
        )
        trainer.step(trainer.crops[0])
        assert seen == [dtype]
