"""Shapes and switches that follow from a configuration."""

import dataclasses

import pytest

from srflow_sdk.errors import ArgumentError
from srflow_training.model import SRFlowConfig

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


@pytest.mark.parametrize("scale", [4, 8, 16])
@pytest.mark.parametrize("variant", ["paper", "published", "bounded"])
def test_latents_have_as_many_values_as_the_image(variant, scale):
    config = SRFlowConfig.of_variant(variant, scale=scale)
    values = sum(s.latent_channels * 4.0**s.lr_exponent for s in config.level_shapes)
    assert values == 3 * scale**2
    assert config.size_multiple == (1 if (variant, scale) == ("published", 16) else 2)
    assert config.variant == variant


@pytest.mark.parametrize(
    ("scale", "blocks", "expected"),
    [(4, 23, (1, 8, 15, 22)), (8, 23, (1, 3, 5, 7)), (8, 8, (1, 3, 5, 7)), (4, 4, (0, 1, 2, 3)), (16, 8, (1, 3, 5, 7))],
)
def test_stacked_blocks_follow_from_scale_and_depth(scale, blocks, expected):
    assert SRFlowConfig.of_variant("published", scale=scale, blocks=blocks).stacked_blocks == expected


def test_published_conditions_on_320_channels():
    assert SRFlowConfig.of_variant("published").feature_channels == 320
    assert SRFlowConfig.of_variant("paper").feature_channels == 320


def test_variants_mix():
    config = SRFlowConfig.of_variant("published", scale_map="exp")
    assert config.variant == "mixed"
    assert SRFlowConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"scale": 3}, "×2, ×4, ×8 or ×16"),
        ({"steps": 0}, "steps is 0"),
        ({"stacked_blocks": (30,)}, "0 … 22"),
        ({"split_levels": (3,)}, "L − 1"),
        ({"kernel": 3}, "unknown field 'kernel'"),
        ({"net_middle_kernel": 5}, "1 or 3"),
        ({"last_kernel": 2}, "last_kernel is 2; it must be 1 or 3"),
        ({"unshuffle": 3}, "unshuffle is 3; it must be 1, 2 or 4"),
        ({"unshuffle": "2"}, "unshuffle is '2'; a valid integer"),
        ({"scale_map": "softplus"}, "exp, sigmoid, tanh"),
        ({"clamp": 0.0}, "positive"),
        ({"clamp": [0.5, 0.6]}, "clamp has 2 values"),
        ({"clamp": "tight"}, "clamp is 'tight'"),
        ({"clamp": True}, "clamp is True; a valid number"),
        ({"steps": True}, "steps is True; a valid integer"),
        ({"steps": "4"}, "steps is '4'; a valid integer"),
        ({"transition_steps": -1}, "transition_steps is -1; it must be at least 0"),
        ({"level_feature": 1}, "level_feature is 1; a valid boolean"),
        ({"stacked_blocks": 4}, "stacked_blocks is 4; a list of numbers"),
        ({"split_levels": [1.0]}, r"split_levels is \[1.0\]; a valid integer"),
    ],
)
def test_bad_values_are_named(overrides, message):
    with pytest.raises(ArgumentError, match=message):
        SRFlowConfig.of_variant("bounded", **overrides)
    if "kernel" not in overrides:
        with pytest.raises(ArgumentError, match=message):
            SRFlowConfig.from_dict(overrides)


@pytest.mark.parametrize(("scale", "levels", "unshuffle"), [(4, 3, 2), (4, 3, 4), (4, 4, 2), (8, 3, 2), (16, 5, 4)])
def test_an_unshuffled_encoder_moves_its_trunk_and_not_the_levels(scale, levels, unshuffle):
    shapes = {"scale": scale, "levels": levels, "split_levels": ()}
    plain, config = (SRFlowConfig.of_variant("bounded", **shapes, unshuffle=factor) for factor in (1, unshuffle))
    assert config.size_multiple % unshuffle == config.size_multiple % plain.size_multiple == 0
    assert config.size_multiple == max(unshuffle, plain.size_multiple)
    for shape, before in zip(config.level_shapes, plain.level_shapes, strict=True):
        assert shape.lr_exponent == before.lr_exponent == before.trunk_exponent
        assert 2.0**shape.trunk_exponent == unshuffle * 2.0**shape.lr_exponent


def test_networks_without_an_unshuffled_encoder_are_described_as_before():
    assert "unshuffle" not in SRFlowConfig.of_variant("bounded").to_dict()
    config = SRFlowConfig.of_variant("bounded", unshuffle=2)
    assert config.to_dict()["unshuffle"] == 2
    assert SRFlowConfig.from_dict(config.to_dict()) == config


def test_lists_of_json_become_tuples():
    config = SRFlowConfig(stacked_blocks=[0, 2], clamp=[0.5, 0.6, 0.7])
    assert (config.stacked_blocks, config.clamp) == ((0, 2), (0.5, 0.6, 0.7))
    assert {config: 1}[dataclasses.replace(config)] == 1
