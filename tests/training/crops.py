"""Crops of photographs that tests make, and what to compare them with."""

import numpy as np
import torch
from PIL import Image

from srflow_training.data import Crops, Photos
from srflow_training.settings import DataSettings

SCALE = 4


def texture(height, width, seed=0):
    """A photograph with detail of all sizes, and no two places alike."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(
        rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    )
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int64)
    return (smooth + rng.integers(-20, 21, smooth.shape)).clip(0, 255).astype(np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def three_photographs(folder):
    for index, (height, width) in enumerate([(90, 120), (101, 83), (64, 64)]):
        save(folder / str(index) / f"{index}.png", texture(height, width, index))
    return folder


def crops_of(
    folder,
    *,
    scale=SCALE,
    seed=0,
    iterations=100,
    noise=True,
    rank=0,
    ranks=1,
    reports=None,
    cache="off",
    **data,
):
    settings = DataSettings(**{"crop": 16, "batch": 4, "cache": cache, **data})
    report = [].append if reports is None else reports.append
    photos = Photos(folder, settings, scale, report)
    given = {"seed": seed, "iterations": iterations, "noise": noise, "rank": rank, "ranks": ranks}
    return Crops(photos, settings, scale=scale, **given)


def as_image(pixels):
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255


def places(pixels, crop):
    """(top, left) of every place of a photograph where it equals a crop."""
    wanted = (crop.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    height, width, _ = wanted.shape
    starts = np.argwhere((pixels == wanted[0, 0]).all(axis=-1)).tolist()
    return [
        (top, left)
        for top, left in starts
        if np.array_equal(pixels[top : top + height, left : left + width], wanted)
    ]


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first[:3], second[:3], strict=True))
