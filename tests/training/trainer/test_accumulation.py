"""A batch that is computed in parts gives the update of the whole batch."""

import pytest
import torch

from srflow_training.data import Batch
from srflow_training.settings import dump_settings
from tests.training.runs import run_two, settings, trainer

ALL = {"l1": 2.0, "perceptual": 3.0, "lr_consistency": 4.0}
DATA = {"crop": 32, "batch": 6}


def exact(out, photos, *, accumulate=1):
    """A run in float64, except for the loss itself, which Fabric returns in float32."""
    run = trainer(
        out,
        photos,
        data=DATA,
        objective=ALL,
        schedule={"accumulate": accumulate, "ema": 0},
    )
    run.model.double()
    return run


def step(run, iteration):
    batch = run.crops[iteration]
    return run.step(Batch(*(part.double() for part in batch[:4]), ()))


@pytest.mark.parametrize("parts", [4, 100])
def test_parts_give_the_update_of_the_whole_batch(tmp_path, photos, parts):
    """In parts of equal and unequal size, and in more than there are crops."""
    whole = exact(tmp_path / "whole", photos)
    split = exact(tmp_path / "split", photos, accumulate=parts)
    sizes = []
    split.objective.module.register_forward_pre_hook(lambda _, part: sizes.append(len(part[0])))
    for iteration in range(2):
        terms = step(split, iteration)
        expected = step(whole, iteration)
        assert set(terms) == set(expected)
        for name, term in expected.items():
            torch.testing.assert_close(terms[name], term, rtol=1e-6, atol=1e-7)
    for mine, theirs in zip(split.model.parameters(), whole.model.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-5, atol=1e-8)
    assert sizes[: len(sizes) // 2] == {4: [2, 2, 1, 1]}.get(parts, [1] * 6)
    for mine, theirs in zip(split.model.actnorms(), whole.model.actnorms(), strict=True):
        torch.testing.assert_close(mine.bias, theirs.bias, rtol=1e-6, atol=1e-9)


def test_one_part_that_is_not_finite_skips_the_whole_update(tmp_path, photos):
    run = trainer(tmp_path, photos, data=DATA, schedule={"accumulate": 3})
    run.step(run.crops[0])
    before = [parameter.clone() for parameter in run.model.parameters()]
    batch = run.crops[1]
    batch.lr[0, 0, 0, 0] = float("nan")  # in the first part
    run.step(batch)
    assert run.skipped == 1
    assert all(torch.equal(p, q) for p, q in zip(run.model.parameters(), before, strict=True))


@pytest.mark.slow
def test_two_processes_in_parts_train_as_one_does_at_once(tmp_path, photos):
    figures = []
    common = {"data": {"crop": 32, "batch": 8}, "objective": ALL}
    schedule = {"iterations": 3, "log_every": 1, "freeze_encoder": 0.5}
    run = trainer(tmp_path / "one", photos, schedule=schedule, **common)
    start = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    run.run(figures.append)
    two = settings(schedule={**schedule, "accumulate": 2}, hardware={"devices": 2}, **common)
    (tmp_path / "two.yaml").write_text(dump_settings(two))
    first, second = run_two(tmp_path, photos)
    for name, tensor in first["trained"].items():
        assert torch.equal(second["trained"][name], tensor), name
    for mine, theirs in zip(figures, first["figures"], strict=True):
        for name in ("loss", "nll", "l1", "perceptual", "lr_consistency", "gradient_norm"):
            assert theirs[name] == pytest.approx(mine[name], rel=1e-3), (name, mine["iteration"])
    name = "encoder.conv_first.weight"
    assert not torch.equal(first["trained"][name], start[name])
