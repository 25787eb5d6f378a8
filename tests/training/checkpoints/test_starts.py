"""Weights that trainings begin with, where the repository has some, are networks that draw better
than bicubic."""

from pathlib import Path

import pytest
import torch

from srflow_training import Encoder, load_checkpoint
from srflow_training.data import read_photo, to_image
from srflow_training.figures import psnr
from srflow_training.resampling import enlarge_bicubic, reduce_bicubic, round_to_8_bit

ROOT = Path(__file__).parents[3]
STARTS = sorted((ROOT / "training" / "starts").glob("*.safetensors"))


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.stem)
@torch.no_grad()
def test_a_start_is_named_and_draws(start):
    assert start.name in (start.parent / "README.md").read_text("utf-8")
    model = load_checkpoint(start)
    scale = model.scale if isinstance(model, Encoder) else model.config.scale
    photo = next(
        path
        for path in sorted((ROOT / "examples" / "photos").iterdir())
        if path.suffix in (".jpg", ".png")
    )
    hr = to_image(read_photo(photo))[..., :128, :128]
    lr = round_to_8_bit(reduce_bicubic(hr, scale))
    drawn = model(lr) if isinstance(model, Encoder) else model.sample(lr, tau=0.0)
    assert (
        psnr(drawn.clamp(0, 1), hr, border=scale)
        > psnr(enlarge_bicubic(lr, scale), hr, border=scale) + 0.3
    )
