"""A run that stops, in whatever way, goes on as if it never had."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tensorboard.summary.writer import event_file_writer

from srflow_sdk.errors import ArgumentError, CheckpointError
from srflow_training import lpips, lpips_weights
from srflow_training.trainer import DivergedError
from tests.forked import context
from tests.training.lpips_files import SMALL, small_shapes, write_weights
from tests.training.runs import scalars, trainer

COMMAND = [sys.executable, "-c", "from srflow_training.cli import train; train()"]


EVERYTHING = {
    "schedule": {"iterations": 8, "log_every": 1, "freeze_encoder": 0.5},
    "objective": {"l1": 1.0, "l1_every": 2, "perceptual": 1.0, "perceptual_loss": "lpips_vgg"},
    "data": {"crop": 32, "workers": 2},
}


def trained_with_everything(
    out: Path,
    photos: Path,
    cache: Path,
    *,
    killed_at: int,
    resume: bool = False,
) -> None:
    """Run in a process of its own; SIGKILL ends it in this iteration, before its state is saved."""
    os.environ["SRFLOW_CACHE_DIR"] = str(cache)
    for module in (lpips, lpips_weights):
        module.convolution_shapes = small_shapes
    lpips_weights.HEADS["vgg"] = SMALL
    write_weights(cache, "vgg")

    def kill(figures: dict[str, float]) -> None:
        if figures["iteration"] == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer(out, photos, resume=resume, **EVERYTHING).run(kill)


def digest(weights: dict[str, torch.Tensor]) -> str:
    return hashlib.sha256(
        b"".join(weights[name].numpy().tobytes() for name in sorted(weights))
    ).hexdigest()


def test_a_run_killed_and_resumed_gives_the_weights_of_one_never_killed(tmp_path, photos):
    for name, killed_at, resume, status in (
        ("whole", 0, False, 0),
        ("killed", 5, False, -9),
        ("killed", 0, True, 0),
    ):
        how = {"killed_at": killed_at, "resume": resume}
        process = context.Process(
            target=trained_with_everything, args=(tmp_path / name, photos, tmp_path), kwargs=how
        )
        process.start()
        process.join()
        assert process.exitcode == status
        assert (tmp_path / name / "states" / "iteration-00000008.pt").exists() == (status == 0)
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    states = [
        torch.load(tmp_path / name / "states" / "iteration-00000008.pt")
        for name in ("whole", "killed")
    ]
    assert len({digest(safetensors.torch.load(content)) for content in files}) == 1
    assert len({digest(state["model"]) for state in states}) == 1


def test_curves_of_a_resumed_run_do_not_run_twice(tmp_path, photos, monkeypatch):
    # Of files of one second, the one numbered 10 would be read before the one numbered 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))

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


def test_what_a_killed_run_had_half_written_is_removed(tmp_path, photos):
    trainer(tmp_path, photos).run()
    for name in ("states/.iteration-00000004.pt.0123abcd.part", ".model.safetensors.0123abcd.part"):
        (tmp_path / name).write_bytes(b"half")
    trainer(tmp_path, photos, resume=True)
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 0), (signal.SIGTERM, 2)])
def test_an_interrupted_run_saves_the_step_it_has_done(tmp_path, photos, number, workers):
    def press(figures):
        if figures["iteration"] == 4:
            os.kill(os.getpid(), number)

    # A shell starts background jobs with Ctrl-C ignored, and that is inherited.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer(tmp_path, photos, schedule={"save_every": 100}, data={"workers": workers}).run(
                press
            )
    finally:
        signal.signal(signal.SIGINT, before)
    resumed = trainer(
        tmp_path,
        photos,
        resume=True,
        schedule={"save_every": 100},
        data={"workers": workers},
    )
    assert resumed.iteration == 4


@pytest.mark.slow
def test_a_job_in_the_background_saves_its_step_when_it_is_told_to_end(tmp_path, photos):
    """A script starts one with Ctrl-C ignored. Slurm and systemd tell the processes that load
    photographs too."""
    # writes config.yaml
    trainer(tmp_path / "one", photos, schedule={"iterations": 5000, "save_every": 5000})
    arguments = (
        f"--data {photos} --out {tmp_path}/two --config {tmp_path}/one/config.yaml "
        "--set=schedule.log_every=1 --set=data.workers=2"
    )
    command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *COMMAND, *arguments.split()]
    with (tmp_path / "log").open("wb") as log:
        run = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 120
        while "it/s" not in (tmp_path / "log").read_text():
            assert run.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(run.pid, signal.SIGTERM)
        assert run.wait(60) == 128 + signal.SIGTERM
    assert "stopped; continue with --resume" in (tmp_path / "log").read_text()
    assert len(list((tmp_path / "two" / "states").iterdir())) == 1


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


def test_a_damaged_state_says_what_to_delete(tmp_path, photos):
    trainer(tmp_path, photos).run()
    newest = tmp_path / "states" / "iteration-00000006.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"00000006\.pt.*delete it"):
        trainer(tmp_path, photos, resume=True)
    newest.unlink()
    assert trainer(tmp_path, photos, resume=True).iteration == 3


def test_a_run_is_not_overwritten_nor_resumed_with_other_settings(tmp_path, photos):
    with pytest.raises(ArgumentError, match="no saved state"):
        trainer(tmp_path, photos, resume=True)
    trainer(tmp_path, photos).run()
    with pytest.raises(ArgumentError, match="has done 6 already"):
        trainer(tmp_path, photos, resume=True, schedule={"iterations": 4})
    with pytest.raises(ArgumentError, match="--resume"):
        trainer(tmp_path, photos)
    with pytest.raises(ArgumentError, match=r"another schedule\.clip_norm \(5\.0, not 1\.0\)"):
        trainer(tmp_path, photos, resume=True, schedule={"clip_norm": 1.0})
