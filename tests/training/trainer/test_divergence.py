"""After a divergence the run goes back to its last healthy state, and the printed command works."""

import shlex

import pytest
import torch
from click.testing import CliRunner

from srflow_training import load_checkpoint
from srflow_training.checkpoints import load_with_notes
from srflow_training.cli import train
from srflow_training.states import Health, States
from srflow_training.trainer import DivergedError
from tests.training.runs import trainer

OVERRIDES = [
    *(
        "network.nf=8",
        "network.blocks=2",
        "network.steps=1",
        "network.hidden=8",
        "data.crop=16",
        "data.batch=2",
    ),
    *("data.workers=0", "data.narrowest=0", "objective.l1=0"),
    *(
        "hardware.accelerator=cpu",
        "schedule.iterations=120",
        "schedule.log_every=5",
        "schedule.save_every=5",
    ),
]


def finite(path):
    return all(
        bool(tensor.isfinite().all()) for tensor in load_checkpoint(path).state_dict().values()
    )


def run_command(arguments):
    return CliRunner().invoke(train, arguments)


@pytest.mark.slow
def test_the_advice_after_a_divergence_works_as_printed(tmp_path, photos):
    out = tmp_path / "a run"
    overrides = [
        part
        for override in [*OVERRIDES, "schedule.learning_rate=1"]
        for part in ("--set", override)
    ]
    val = ["--val", str(photos)]
    diverged = run_command(
        ["--config", "x4-small", "--data", str(photos), *val, "--out", str(out), *overrides]
    )
    assert diverged.exit_code == 1, diverged.output
    advice = diverged.output.strip().splitlines()[-1]
    assert advice.startswith("error: ")
    command = shlex.split(advice[advice.index("srflow-train") :])
    assert command[-1] == "schedule.learning_rate=0.00025"
    resumed = run_command(command[1:])
    assert resumed.exit_code == 0, resumed.output
    assert "step skipped" not in resumed.output
    assert finite(out / "model.safetensors")


def test_a_run_that_ends_collapsed_saves_nothing_after_its_last_healthy_state(
    tmp_path,
    photos,
    monkeypatch,
    caplog,
):
    run = trainer(tmp_path, photos, schedule={"save_every": 2})
    monkeypatch.setattr(run.health, "judge", lambda: run.iteration < 4)
    with pytest.raises(
        DivergedError,
        match=r"collapsed at iteration 6: continue from iteration 2, the last healthy",
    ):
        run.run()
    assert [file.name for file in run.states.files()] == ["iteration-00000002.pt"]
    assert load_with_notes(run.checkpoint)[1]["iterations"] == 2
    assert caplog.text.count("the run may be diverging, so its state is not saved") == 2


def test_the_newest_states_are_kept(tmp_path):
    states = States(tmp_path, keep=2)
    assert states.newest() is None
    for iteration in (1, 2, 3):
        states.save(iteration, {"iteration": iteration})
    assert [file.name for file in states.files()] == [
        "iteration-00000002.pt",
        "iteration-00000003.pt",
    ]
    assert states.load_newest()["iteration"] == states.newest() == 3


def health_of(*losses, norm=1.0):
    health = Health(tolerance=1.0)
    for loss in losses:
        health.add_step(torch.tensor(float(loss)), torch.tensor(norm))
    return health


def test_a_loss_that_rises_beyond_half_of_what_was_learned_is_a_collapse():
    health = health_of(2.0, *[-2.0] * 10)
    assert health.judge()
    for loss, expected in [(-1.5, True), (1e5, False), (float("nan"), False), (-2.0, True)]:
        for _ in range(10):
            health.add_step(torch.tensor(loss), torch.tensor(1.0))
        assert health.judge() == expected, loss
    restored = Health(tolerance=1.0)
    restored.load(health.state())
    for _ in range(10):
        restored.add_step(torch.tensor(2.0), torch.tensor(1.0))
    assert not restored.judge()


def test_a_run_that_diverges_from_the_start_has_no_healthy_state():
    assert not health_of(2.0, *[1e4] * 9).judge()
    assert not health_of(2.0, *[1.9] * 9, norm=float("nan")).judge()


@pytest.mark.parametrize(
    "collapsed",
    [
        {"validation/nll": 30.0, "validation/psnr_tau0": 28.0},
        {"validation/nll": float("nan"), "validation/psnr_tau0": 28.0},
        {"validation/nll": -2.0, "validation/psnr_tau0": 11.0},
        {"validation/psnr": 11.0},
    ],
)
def test_a_validation_that_collapsed_is_a_collapse(collapsed):
    health = health_of(*[-2.0] * 10)
    health.add_validation({"validation/nll": -2.0, "validation/psnr_tau0": 28.0})
    assert health.judge()
    health.add_validation(collapsed)
    assert not health.judge()
    health.add_validation({"validation/nll": -2.1, "validation/psnr_tau0": 28.1})
    assert health.judge()
