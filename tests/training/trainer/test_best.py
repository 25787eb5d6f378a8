"""The checkpoint of the best validation is kept, by a metric that the settings name."""

import pytest

from srflow_training.checkpoints import load_with_notes
from srflow_training.states import Best
from tests.training.runs import trainer


def best_of(metric, values, kind="srflow"):
    best = Best(metric, kind=kind, validates=True)
    return [best.improves({f"validation/{metric}": value}) for value in values]


def test_each_metric_has_its_direction():
    assert best_of("gmsd_tau0.8", [0.3, 0.2, 0.25, float("nan"), 0.1]) == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert best_of("psnr", [20, 25, 24, 25], kind="rrdb") == [True, True, False, False]
    assert not Best("", kind="srflow", validates=False).improves({"validation/nll": 1.0})


@pytest.mark.parametrize("resumed", [False, True])
def test_the_best_checkpoint_stays_when_later_ones_are_worse(
    tmp_path,
    photos,
    monkeypatch,
    resumed,
):
    gmsd = {2: 0.3, 4: 0.1, 6: 0.2}

    def run_to(iterations, *, resume=False):
        schedule = {"best": "gmsd_tau0.8", "iterations": iterations}
        run = trainer(tmp_path, photos, val=photos / "2", resume=resume, schedule=schedule)
        figures = run.validation.figures
        monkeypatch.setattr(
            run.validation,
            "figures",
            lambda model: figures(model) | {"validation/gmsd_tau0.8": gmsd[run.iteration]},
        )
        run.run()
        return run

    if resumed:
        run_to(4)
    run = run_to(6, resume=resumed)
    assert load_with_notes(tmp_path / "best.safetensors")[1]["iterations"] == 4
    assert load_with_notes(run.checkpoint)[1]["iterations"] == 6
