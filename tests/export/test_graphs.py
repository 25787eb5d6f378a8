"""The hoisted, folded graphs are the network's reverse pass, for every variant and scale."""

import pytest
import torch

from srflow_export.graphs import (
    EncoderGraph,
    SamplerGraph,
    conditioning_bytes_per_pixel,
    noise_names,
)
from tests.networks import PLAIN, PLAIN_X2, random_srflow, tiny_config

CASES = [
    *(
        (variant, {"scale": scale})
        for variant in ("paper", "published", "bounded")
        for scale in (4, 8, 16)
    ),
    ("published", {"scale_map": "exp", "affine_order": "scale_first"}),
    ("bounded", {"transition_steps": 0, "steps": 1}),
    ("bounded", {"levels": 2, "split_levels": ()}),
    ("bounded", {"clamp": (0.2, 0.4, 0.6)}),
    ("bounded", {"level_feature": False, "scale": 8}),
    ("bounded", {"feature_resize": "bilinear"}),
    ("bounded", {"scale": 2}),
    ("bounded", PLAIN),
    ("bounded", {**PLAIN_X2, "last_kernel": 1}),
    ("paper", {**PLAIN, "condition_kernel": 3, "stacked_blocks": (1,)}),
    ("published", {"condition": (8, 12, 16)}),
]


@pytest.mark.parametrize(("variant", "overrides"), CASES)
@torch.no_grad()
def test_encoder_and_sampler_decode_as_the_network_does(variant, overrides):
    """In float64: rounding errors grow over the steps, above all in `published`."""
    model = random_srflow(tiny_config(variant, **overrides)).double()
    multiple = model.config.size_multiple
    lr = torch.rand(1, 3, 2 * multiple, 3 * multiple, dtype=torch.float64)
    noise = {
        level: torch.randn(2, *shape, dtype=torch.float64)
        for level, shape in model.latent_shapes(*lr.shape[2:]).items()
    }
    tau = 0.5
    conditioning = EncoderGraph(model, torch.float64).eval()(lr)
    assert len(noise) == len(noise_names(model.config))
    *_, sr = SamplerGraph(model, torch.float64).eval()(
        *conditioning, *noise.values(), torch.tensor([tau], dtype=torch.float64)
    )
    expected = model.decode(lr, {level: tau * z for level, z in noise.items()})
    spread = float(expected.max() - expected.min())
    assert float((sr - expected).abs().max()) < 1e-9 * max(spread, 1)


@torch.no_grad()
def test_conditioning_bytes_are_counted_per_lr_pixel():
    model = random_srflow(tiny_config("published", scale=8))
    lr = torch.rand(1, 3, 4, 8)
    total = sum(4 * tensor.numel() for tensor in EncoderGraph(model)(lr))
    assert conditioning_bytes_per_pixel(model.config) == total / (4 * 8)
