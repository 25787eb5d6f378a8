"""Pictures that are no photographs: what each is, and that it is the same each time."""

import pytest
import torch

from srflow_evaluation.diagnose import odd_inputs
from srflow_training.resampling import enlarge_bicubic, reduce_bicubic, round_to_8_bit

INPUTS = odd_inputs(4, "bicubic")


@pytest.fixture(scope="module")
def hr():
    return round_to_8_bit(enlarge_bicubic(torch.rand(1, 3, 18, 20, generator=torch.Generator().manual_seed(0)), 4))


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_is_an_8_bit_picture_of_the_photographs_size_and_the_same_each_time(hr, name):
    before = hr.clone()
    image = INPUTS[name](hr, "a")
    assert image.shape == hr.shape
    assert image.dtype == torch.float32
    assert torch.equal(round_to_8_bit(image), image)
    assert torch.equal(INPUTS[name](hr, "a"), image)
    assert not torch.equal(image, hr)
    assert torch.equal(hr, before)


@pytest.mark.parametrize("name", ["with training's noise", "shuffled pixels", "text", "line art"])
def test_another_photograph_gets_another_one(hr, name):
    assert not torch.equal(INPUTS[name](hr, "a"), INPUTS[name](hr, "b"))


def test_inputs_are_what_they_are_called(hr):
    made = {name: make(hr, "a") for name, make in INPUTS.items()}
    assert torch.equal(made["upside down"][..., 0, :], hr[..., -1, :])
    assert torch.equal(made["blurred"], round_to_8_bit(enlarge_bicubic(reduce_bicubic(hr, 4), 4)))
    assert made["constant"].flatten(2).std(dim=2).max() < 1e-6
    assert made["constant"].mean() == pytest.approx(float(hr.mean()), abs=2e-3)
    pixels = [sorted(map(tuple, image[0].flatten(1).T.tolist())) for image in (hr, made["shuffled pixels"])]
    assert pixels[0] == pixels[1]
    noise = (made["with training's noise"] - hr)[(hr > 0.1) & (hr < 0.9)] * 255
    assert float(noise.std()) == pytest.approx((16 / 3 + 1 / 12) ** 0.5, rel=0.05)
    for name in ("text", "line art"):
        white = (made[name] == 1).double().mean()
        assert 0.4 < white < 0.98
        assert made[name].min() < 0.2
