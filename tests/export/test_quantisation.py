"""Which parts of an encoder become integers, in what layout and ranges, and what that does to its
results."""

import copy
import math

import numpy as np
import pytest
import torch
from onnx import TensorProto, numpy_helper

from srflow_export import onnx_models
from srflow_export.graphs import EncoderGraph
from srflow_export.int8_layout import IntegerEncoderGraph
from srflow_export.quantisation import _choose_range, int8_encoder
from srflow_sdk.errors import ExportError
from tests.export.running import run_graph
from tests.networks import PLAIN, random_srflow, tiny_config


@pytest.fixture(scope="module")
def model():
    return random_srflow(tiny_config())


@pytest.fixture(scope="module")
def encoder(model):
    return int8_encoder(model)


@pytest.fixture(scope="module")
def weights(encoder):
    return {weight.name: numpy_helper.to_array(weight) for weight in encoder.graph.initializer}


@pytest.fixture(scope="module")
def produced(encoder):
    return {name: node for node in encoder.graph.node for name in node.output}


def parts(name, produced):
    """The tensors that one is concatenated from."""
    node = produced[name]
    return (
        [part for each in node.input for part in parts(each, produced)]
        if node.op_type == "Concat"
        else [name]
    )


def test_all_convolutions_but_the_first_take_integers_what_is_concatenated_with_one_step(
    encoder, produced, weights
):
    """Weights symmetric by channel."""
    first, *others = [node for node in encoder.graph.node if node.op_type == "Conv"]
    assert first.input[0] == "lr"
    assert not any(name in produced for name in first.input)
    assert len(others) > 30
    joined = 0
    for node in others:
        roundings = [produced[name] for name in parts(node.input[0], produced)]
        assert {each.op_type for each in (*roundings, produced[node.input[1]])} == {
            "DequantizeLinear"
        }
        joined += len(roundings) > 1
        assert len({float(weights[each.input[1]]) for each in roundings}) == 1
        integers, step, point = (weights[name] for name in produced[node.input[1]].input)
        assert integers.dtype == np.int8
        assert step.shape == (integers.shape[0],)
        assert not point.any()
    assert joined == 2 * 3 * 4  # blocks, dense blocks, convolutions after the first


def test_results_are_near_those_in_float32_and_named_as_theirs(model, encoder):
    exact = onnx_models.encoder_model(model)
    for one, other in (
        (encoder.graph.input, exact.graph.input),
        (encoder.graph.output, exact.graph.output),
    ):
        assert [value.SerializeToString() for value in one] == [
            value.SerializeToString() for value in other
        ]
        assert {value.type.tensor_type.elem_type for value in one} == {TensorProto.FLOAT}
    lr = np.random.default_rng(0).random((1, 3, 16, 24), dtype=np.float32)
    found, expected = (run_graph(proto, lr=lr) for proto in (encoder, exact))
    for value, reference in zip(found, expected, strict=True):
        assert 0 < np.abs(value - reference).max() < 0.1 * np.ptp(reference)


def test_features_that_are_not_finite_are_refused_in_one_line(model):
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.encoder.conv_first.bias[0] = math.inf
    with pytest.raises(ExportError, match="not finite on photographs, so int8 has no ranges"):
        int8_encoder(broken)


def _fourth_power(values, ends):
    low, high = ends
    step = (high - low) / 255
    zero = np.round(-low / step)
    rounded = (np.clip(np.round(values / step) + zero, 0, 255) - zero) * step
    return float(((rounded - values) ** 4).mean())


@pytest.mark.parametrize("outlier", [4.0, 40.0, 400.0])
def test_a_range_cuts_off_rare_values_only_as_far_as_that_lessens_the_error(outlier):
    values = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    values[0] = outlier
    ends = float(values.min()), float(values.max())
    found = _choose_range(values, ends)
    assert ends[0] <= found[0] < 0 < found[1] <= ends[1]
    others = [(share * ends[0], other * ends[1]) for share in (0.7, 1) for other in (0.4, 0.7, 1)]
    best = min(_fourth_power(values, each) for each in others)
    # of a histogram's bins, not of the values themselves
    assert _fourth_power(values, found) <= 1.05 * best


CROPS = [np.random.default_rng(seed).random((1, 3, 16, 16), dtype=np.float32) for seed in range(2)]


@pytest.mark.parametrize(
    "settings",
    [{}, {"variant": "published"}, {"variant": "paper"}, {"scale": 8, "levels": 4}, PLAIN],
    ids=["bounded", "published", "paper", "enlarged by 4", "plain"],
)
@torch.no_grad()
def test_both_layouts_give_the_same_conditioning(settings):
    model = random_srflow(tiny_config(**settings))
    lr = torch.rand(2, 3, 16, 24)
    expected = EncoderGraph(model).eval()(lr)
    found = IntegerEncoderGraph(model, CROPS).eval()(lr)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_network_itself_stays_as_it_is():
    model = random_srflow(tiny_config())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    IntegerEncoderGraph(model, CROPS)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@torch.no_grad()
def test_channels_of_u_are_balanced_for_the_rounding_that_they_share():
    model = random_srflow(tiny_config())
    graph = IntegerEncoderGraph(model, CROPS)
    for index, level in enumerate(graph.levels):
        u = [model.features(torch.from_numpy(lr)).levels[index].u() for lr in CROPS]
        before, after = (_spread(each) for each in (u, [value * level.shares for value in u]))
        assert after < 0.5 * before


def _spread(values):
    """By how many factors of e the sizes of channels differ, at the median."""
    sizes = torch.stack([value.abs().amax(dim=(0, 2, 3)) for value in values]).amax(dim=0).log()
    return float((sizes - sizes.median()).abs().median())


@torch.no_grad()
def test_a_channel_that_is_always_zero_does_no_harm():
    model = random_srflow(tiny_config())
    for conv in (model.encoder.upconvs[0], model.encoder.blocks[0].dense[0].convs[0]):
        conv.weight[0].zero_()
        conv.bias[0].zero_()
    assert all(
        torch.isfinite(value).all()
        for value in IntegerEncoderGraph(model, CROPS).state_dict().values()
    )
