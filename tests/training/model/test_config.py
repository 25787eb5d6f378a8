"""Shapes and switches that follow from a configuration."""

import dataclasses

import pytest

from srflow_sdk.errors import ArgumentError
from srflow_training.model import SRFlowConfig

PLAIN = {"encoder": "plain", "condition": (8, 8, 8), "stacked_blocks": ()}

# (variant, scale) -> {level: (channels, exponent of LR)}, the tables of the network's description
LATENTS = {
    ("paper", 4): {1: (6, 1), 2: (12, 0), 3: (48, -1)},
    ("bounded", 4): {1: (6, 1), 2: (12, 0), 3: (48, -1)},
    ("published", 4): {1: (6, 1), 3: (96, -1)},
    ("paper", 8): {1: (6, 2), 2: (12, 1), 3: (24, 0), 4: (96, -1)},
    ("published", 8): {1: (6, 2), 2: (12, 1), 4: (192, -1)},
    ("published", 16): {1: (6, 3), 2: (12, 2), 4: (192, 0)},
    ("paper", 16): {1: (6, 3), 2: (12, 2), 3: (24, 1), 4: (48, 0), 5: (192, -1)},
}


@pytest.mark.parametrize(("variant", "scale"), LATENTS)
def test_latents_are_those_of_the_network_description(variant, scale):
    shapes = SRFlowConfig.of_variant(variant, scale=scale).level_shapes
    latents = {s.level: (s.latent_channels, s.lr_exponent) for s in shapes if s.latent_channels}
    assert latents == LATENTS[variant, scale]


@pytest.mark.parametrize(
    ("scale", "blocks", "expected"),
    [
        (4, 23, (1, 8, 15, 22)),
        (8, 23, (1, 3, 5, 7)),
        (8, 8, (1, 3, 5, 7)),
        (4, 4, (0, 1, 2, 3)),
        (16, 8, (1, 3, 5, 7)),
    ],
)
def test_stacked_blocks_follow_from_scale_and_depth(scale, blocks, expected):
    assert (
        SRFlowConfig.of_variant("published", scale=scale, blocks=blocks).stacked_blocks == expected
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"scale": 3}, "scale is 3: Input should be 2, 4, 8 or 16"),
        ({"steps": 0}, "steps is 0: Input should be greater than or equal to 1"),
        ({"stacked_blocks": (30,)}, "0 … 22"),
        ({"split_levels": (3,)}, "L − 1"),
        ({"kernel": 3}, "unknown field 'kernel'"),
        ({"net_middle_kernel": 5}, "net_middle_kernel is 5: Input should be 1 or 3"),
        ({"scale_map": "softplus"}, "Input should be 'exp', 'sigmoid' or 'tanh'"),
        ({"clamp": 0.0}, "positive"),
        ({"clamp": [0.5, 0.6]}, "clamp has 2 values"),
        ({"clamp": True}, "clamp is True: Input should be a valid number"),
        ({"steps": "4"}, "steps is '4': Input should be a valid integer"),
        ({"level_feature": 1}, "level_feature is 1: Input should be a valid boolean"),
        ({"stacked_blocks": 4}, "stacked_blocks is 4: Input should be a valid tuple"),
        ({"split_levels": [1.0]}, r"split_levels is \[1.0\]: Input should be a valid integer"),
        ({"condition": (8, 8)}, "condition has 2 values; 3 levels need as many"),
        ({"hidden": (8, 0, 8)}, r"hidden is \[8, 0, 8\]; each must be at least 1"),
        (
            {"injector_hidden": 0},
            "injector_hidden is 0: Input should be greater than or equal to 1",
        ),
        ({"condition_kernel": 1}, "condition_kernel is 1, which needs a condition"),
        ({"level_feature": False, "stacked_blocks": ()}, "the flow has no condition"),
        ({"stacked_blocks": (1, 1)}, "it names a block twice"),
        (
            {**PLAIN, "condition": ()},
            r"a plain encoder needs a condition, e.g. condition: \[64, 64, 64\]",
        ),
        (
            {**PLAIN, "growth": 4},
            "growth belongs to rrdb encoders: leave it out with encoder: plain",
        ),
        ({"encoder": "dense"}, "encoder is 'dense': Input should be 'rrdb' or 'plain'"),
        ({"residual": True}, "residual needs encoder: plain, and image_base: nearest or none"),
        (
            {**PLAIN, "residual": True, "image_base": "bicubic"},
            "residual needs encoder: plain, and image_base: ",
        ),
    ],
)
def test_bad_values_are_named(overrides, message):
    with pytest.raises(ArgumentError, match=message):
        SRFlowConfig.of_variant("bounded", **overrides)
    if "kernel" not in overrides:
        with pytest.raises(ArgumentError, match=message):
            SRFlowConfig.from_dict(overrides)


def test_lists_of_json_become_tuples():
    config = SRFlowConfig(stacked_blocks=[0, 2], clamp=[0.5, 0.6, 0.7])
    assert (config.stacked_blocks, config.clamp) == ((0, 2), (0.5, 0.6, 0.7))
    assert [config.clamp_at(level) for level in (1, 2, 3)] == [0.5, 0.6, 0.7]
    assert {config: 1}[dataclasses.replace(config)] == 1
