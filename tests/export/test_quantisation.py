"""Which parts of an encoder become integers, and what that does to its results."""

import copy
import math

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper

from srflow_export import onnx_models
from srflow_export.quantisation import int8_encoder
from srflow_sdk.errors import ExportError
from tests.networks import random_srflow, tiny_config


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
    return [part for each in node.input for part in parts(each, produced)] if node.op_type == "Concat" else [name]


def test_all_convolutions_but_the_first_take_integers(encoder, produced):
    first, *others = [node for node in encoder.graph.node if node.op_type == "Conv"]
    assert first.input[0] == "lr"
    assert not any(name in produced for name in first.input)
    assert len(others) > 30
    for node in others:
        taken = [*parts(node.input[0], produced), node.input[1]]
        assert {produced[name].op_type for name in taken} == {"DequantizeLinear"}


def test_what_is_concatenated_for_a_convolution_is_rounded_with_one_step(encoder, produced, weights):
    joined = 0
    for node in encoder.graph.node:
        if node.op_type == "Conv" and node.input[0] != "lr":
            roundings = [produced[name] for name in parts(node.input[0], produced)]
            for index in (1, 2):
                assert len({float(weights[each.input[index]]) for each in roundings}) == 1
            joined += len(roundings) > 1
    assert joined == 2 * 3 * 4  # blocks, dense blocks, convolutions after the first


def test_weights_are_symmetric_by_channel_and_activations_have_a_zero_point(encoder, produced, weights):
    points = []
    for node in encoder.graph.node:
        if node.op_type == "Conv" and node.input[0] != "lr":
            for activation in parts(node.input[0], produced):
                _, step, point = produced[activation].input
                assert weights[point].dtype == np.uint8
                assert weights[step].size == 1
                points.append(int(weights[point]))
            integers, step, point = (weights[name] for name in produced[node.input[1]].input)
            assert integers.dtype == np.int8
            assert np.abs(integers).max() == 127
            assert step.shape == (integers.shape[0],)
            assert not point.any()
    assert any(points)


def test_results_of_convolutions_are_not_rounded(encoder):
    first = next(node for node in encoder.graph.node if node.op_type == "Conv")
    of_convolutions = {node.output[0] for node in encoder.graph.node if node.op_type == "Conv"}
    rounded = {node.input[0] for node in encoder.graph.node if node.op_type == "QuantizeLinear"}
    assert of_convolutions & rounded == {first.output[0]}  # which the next convolution takes as it is


def test_sums_and_conditioning_take_tensors_that_are_not_rounded(encoder, produced):
    for node in encoder.graph.node:
        of_a_block = node.op_type == "Concat" and all(
            taker.op_type in ("Conv", "Concat") for taker in encoder.graph.node if node.output[0] in taker.input
        )
        if not of_a_block and node.op_type not in ("Conv", "DequantizeLinear"):
            assert all(produced[name].op_type != "DequantizeLinear" for name in node.input if name in produced)
    assert all(produced[value.name].op_type != "DequantizeLinear" for value in encoder.graph.output)


def test_results_are_near_those_in_float32_and_named_as_theirs(model, encoder):
    exact = onnx_models.encoder_model(model)
    for one, other in (
        (encoder.graph.input, exact.graph.input),
        (encoder.graph.output, exact.graph.output),
    ):
        assert [value.SerializeToString() for value in one] == [value.SerializeToString() for value in other]
        assert {value.type.tensor_type.elem_type for value in one} == {TensorProto.FLOAT}
    lr = np.random.default_rng(0).random((1, 3, 16, 24), dtype=np.float32)
    found, expected = (
        onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"lr": lr}) for proto in (encoder, exact)
    )
    for value, reference in zip(found, expected, strict=True):
        assert 0 < np.abs(value - reference).max() < 0.1 * np.ptp(reference)


@pytest.mark.slow
def test_channels_of_unlike_size_are_as_exact_as_others(model, encoder):
    unlike = copy.deepcopy(model)
    with torch.no_grad():  # a thousand times smaller, and taken as if they were larger: the network stays what it is
        for block in unlike.encoder.blocks:
            for dense in block.dense:
                dense.convs[0].weight.mul_(1e-3)
                dense.convs[0].bias.mul_(1e-3)
                grown = slice(dense.convs[0].in_channels, dense.convs[1].in_channels)
                for conv in dense.convs[1:]:
                    conv.weight[:, grown].mul_(1e3)
    assert decibels(unlike, int8_encoder(unlike)) > decibels(model, encoder) - 3


def decibels(model, integers):
    """By how much the conditioning in float32 is larger than the error of that in int8."""
    lr = np.random.default_rng(0).random((1, 3, 16, 24), dtype=np.float32)
    found, exact = (
        onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"lr": lr})
        for proto in (integers, onnx_models.encoder_model(model))
    )
    shares = [np.square(one - other).mean() / other.var() for one, other in zip(found, exact, strict=True)]
    return -10 * np.log10(np.mean(shares))


def test_features_that_are_not_finite_are_refused_in_one_line(model):
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.encoder.conv_first.bias[0] = math.inf
    with pytest.raises(ExportError, match="not finite on photographs, so int8 has no ranges"):
        int8_encoder(broken)


def test_quantising_twice_gives_the_same_bytes(model, encoder):
    assert int8_encoder(model).SerializeToString() == encoder.SerializeToString()


def test_the_graph_is_valid_and_nothing_lies_outside(encoder):
    onnx.checker.check_model(encoder, full_check=True)
    assert not any(weight.HasField("data_location") for weight in encoder.graph.initializer)
