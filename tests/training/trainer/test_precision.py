"""The precision of a run is the faster one: timed once for each processor and network, and kept in the run."""

import json
import subprocess

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from srflow_sdk.system.cache_folder import cache_folder
from srflow_training import _precision_choice
from srflow_training._objective_settings import Decodings
from srflow_training._precision_choice import StepTimes, choose_precision, time_steps
from srflow_training.checkpoints import load_with_notes
from srflow_training.cli import train
from srflow_training.processors import processor_name
from srflow_training.settings import dump_settings, load_settings
from srflow_training.trainer import Trainer
from tests.training.runs import ranks_command

CPU = torch.device("cpu")
TINY = ["network.nf=8", "network.growth=4", "network.blocks=2", "data.crop=16", "data.batch=2", "data.workers=0"]
TINY += ["data.narrowest=0", "schedule.iterations=2", "schedule.log_every=1", "hardware.accelerator=cpu"]


def tiny(*overrides, stage="encoder"):
    return load_settings("x4-general", [*TINY, *overrides], stage=stage)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photos" / "a.png")
    return tmp_path / "photos"


@pytest.fixture
def timings(monkeypatch):
    """Replaces the timing: the times that the next ones give, and the settings that were timed."""
    times, timed = [StepTimes(2.0, 1.0)], []
    monkeypatch.setattr(_precision_choice, "time_steps", lambda settings, device: timed.append(settings) or times[0])
    return times, timed


def run(photos, out, *arguments, overrides=()):
    config = [] if "--resume" in arguments else ["--config", "x4-general", "--stage", "encoder"]
    changes = [part for override in (*TINY, *overrides) for part in ("--set", override)] if config else []
    more = [part for override in overrides for part in ("--set", override)] if not config else []
    result = CliRunner().invoke(train, [*config, "--data", str(photos), "--out", str(out), *arguments, *changes, *more])
    assert result.exit_code == 0, result.output
    return result.output


def precision_in(out):
    in_config = yaml.safe_load((out / "config.yaml").read_text())["hardware"]["precision"]
    notes = load_with_notes(out / "model.safetensors")[1]
    assert yaml.safe_load(notes["settings"])["hardware"]["precision"] == in_config
    return in_config


@pytest.mark.parametrize(
    ("times", "precision"),
    [
        (StepTimes(1.0, 0.5), "bf16"),
        (StepTimes(1.0, 0.96), "fp32"),
        (StepTimes(1.0, 2.0), "fp32"),
        (StepTimes(1, None), "fp32"),
    ],
)
def test_bf16_must_be_clearly_faster(times, precision):
    assert times.precision == precision


@pytest.mark.parametrize("unshuffle", [1, 4])
@pytest.mark.parametrize("stage", ["encoder", "flow"])
def test_timing_leaves_random_numbers_and_threads_alone(stage, unshuffle):
    flow = ["network.stacked_blocks=[0,1]", "network.steps=1", "network.hidden=8"] if stage == "flow" else []
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    times = time_steps(tiny(*flow, f"network.unshuffle={unshuffle}", stage=stage), CPU)
    assert times.fp32 > 0
    assert times.bf16 > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_processor_without_bf16_trains_in_fp32(monkeypatch):
    original = _precision_choice._TimedStep.seconds

    def seconds(step, precision):
        if precision == "bf16":
            raise RuntimeError("not implemented for 'BFloat16'")
        return original(step, precision)

    monkeypatch.setattr(_precision_choice._TimedStep, "seconds", seconds)
    precision, note = choose_precision(tiny(), CPU)
    assert precision == "fp32"
    assert "bf16 not possible" in note


def test_the_choice_is_kept_for_this_processor_and_network(timings):
    times, timed = timings
    precision, note = choose_precision(tiny(), CPU)
    assert precision == "bf16"
    assert note == f"precision: bf16 (timed on a small crop, a step on {processor_name(CPU)}: fp32 2 s, bf16 1 s)"
    times[0] = StepTimes(1.0, 2.0)
    assert choose_precision(tiny("schedule.seed=3"), CPU)[0] == "bf16"
    assert "timed before" in choose_precision(tiny(), CPU)[1]
    assert len(timed) == 1
    assert choose_precision(tiny("network.nf=16"), CPU)[0] == "fp32"


def test_another_processor_or_torch_is_timed_again(timings, monkeypatch):
    choose_precision(tiny(), CPU)
    monkeypatch.setattr(_precision_choice, "processor_name", lambda device: "another")
    choose_precision(tiny(), CPU)
    monkeypatch.setattr(torch, "__version__", "9.9")
    choose_precision(tiny(), CPU)
    assert len(timings[1]) == 3


def test_the_images_that_the_loss_decodes_are_timed_too(timings):
    flow = ["network.stacked_blocks=[0,1]", "network.steps=1", "network.hidden=8", "objective.l1=1"]
    kinds = [[], ["objective.l1=0"], ["objective.perceptual=1"], ["objective.perceptual=2"]]
    for kind in kinds:
        choose_precision(tiny(*flow, *kind, stage="flow"), CPU)
    assert [settings.objective.perceptual for settings in timings[1]] == [0, 0, 1]
    assert _precision_choice._TimedStep(timings[1][0], CPU).decodings == Decodings(mean=True)
    assert _precision_choice._TimedStep(timings[1][1], CPU).decodings == Decodings()
    assert _precision_choice._TimedStep(timings[1][2], CPU).decodings == Decodings(mean=True, sample=True)


@pytest.mark.parametrize("damage", ["", "{}", "[]", json.dumps({"fp32": "x", "bf16": 1})])
def test_a_damaged_file_is_timed_again(timings, damage):
    choose_precision(tiny(), CPU)
    [file] = cache_folder("precision").iterdir()
    file.write_text(damage)
    assert choose_precision(tiny(), CPU)[0] == "bf16"
    assert len(timings[1]) == 2


def test_a_run_holds_its_precision_and_keeps_it_when_resumed(tmp_path, photos, timings):
    out = tmp_path / "run"
    assert "precision: bf16" in run(photos, out)
    assert precision_in(out) == "bf16"
    timings[0][0] = StepTimes(1.0, 2.0)
    for file in cache_folder("precision").iterdir():
        file.unlink()
    run(photos, out, "--resume", overrides=["schedule.iterations=3"])
    assert precision_in(out) == "bf16"
    output = run(photos, out, "--resume", overrides=["schedule.iterations=4", "hardware.precision=auto"])
    assert "precision: bf16 (as in the run so far)" in output
    assert precision_in(out) == "bf16"
    run(photos, out, "--resume", overrides=["schedule.iterations=5", "hardware.precision=fp32"])
    assert precision_in(out) == "fp32"
    assert len(timings[1]) == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precision_that_is_named_is_taken_without_timing(tmp_path, photos, timings, precision):
    output = run(photos, tmp_path / "run", overrides=[f"hardware.precision={precision}"])
    assert precision_in(tmp_path / "run") == precision
    assert "precision:" not in output
    assert not timings[1]


@pytest.mark.parametrize(
    ("times", "dtype"), [(StepTimes(2.0, 1.0), torch.bfloat16), (StepTimes(1.0, 2.0), torch.float32)]
)
def test_the_loss_is_computed_in_the_precision_that_was_chosen(tmp_path, photos, timings, times, dtype):
    timings[0][0] = times
    trainer = Trainer(tiny(), data=photos, out=tmp_path / "run", val=None, resume=False)
    seen = []
    trainer.model.conv_first.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    trainer.step(trainer.crops[0])
    assert seen == [dtype]


@pytest.mark.slow
def test_all_processes_compute_in_the_first_ones_precision(tmp_path, photos, timings):
    two = tiny("hardware.devices=2", "hardware.threads=1")
    choose_precision(two, CPU)  # kept in the cache, which the first process reads
    (tmp_path / "two.yaml").write_text(dump_settings(two))
    command = ranks_command(tmp_path, photos)
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    states = [torch.load(tmp_path / "two" / f"rank-{rank}.pt") for rank in (0, 1)]
    assert precision_in(tmp_path / "two") == "bf16"
    assert [state["precision"] for state in states] == ["bf16", "bf16"]
