"""LPIPS against its definition, computed in NumPy with random weights."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from srflow_sdk.errors import CheckpointError
from srflow_training import figures
from srflow_training.lpips import LPIPS, AlexNetFeatures, VGG16Features
from srflow_training.lpips_weights import weights_file
from tests.training import lpips_files
from tests.training.lpips_files import SMALL, small_shapes

# as LPIPS is published
SHIFT = np.array([-0.030, -0.088, -0.188])
SCALE = np.array([0.458, 0.448, 0.450])
ALEXNET = [(11, 4, 2), (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1)]  # kernel, stride, padding
SHAPES = {
    "alex": [(6, 3, 11, 11), (8, 6, 5, 5), (7, 8, 3, 3), (9, 7, 3, 3), (5, 9, 3, 3)],
    "vgg": small_shapes(),
}
CHANNELS = {"alex": (6, 8, 7, 9, 5), "vgg": SMALL}


@pytest.fixture(params=["alex", "vgg"])
def case(request):
    """The network, and its convolutions and heads in float64."""
    rng = np.random.default_rng(0)
    convolutions = [
        (
            rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:])),
            0.1 * rng.standard_normal(shape[0]),
        )
        for shape in SHAPES[request.param]
    ]
    heads = [rng.random(channels) for channels in CHANNELS[request.param]]
    as_tensors = [
        (torch.from_numpy(weight).float(), torch.from_numpy(bias).float())
        for weight, bias in convolutions
    ]
    features = (AlexNetFeatures if request.param == "alex" else VGG16Features)(as_tensors)
    network = LPIPS(features, [torch.from_numpy(head).float() for head in heads])
    return request.param, network, convolutions, heads


def convolved(x, weight, bias, stride, padding):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    size = weight.shape[2]
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[
        :, ::stride, ::stride
    ]
    return np.maximum(np.einsum("cyxij,ocij->oyx", windows, weight) + bias[:, None, None], 0)


def pooled(x, size):
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::2, ::2].max(
        axis=(3, 4)
    )


def layers_of(backbone, image, convolutions):
    """The five ReLU outputs of an image 3×H×W in [0, 1]."""
    x = (2 * image - 1 - SHIFT[:, None, None]) / SCALE[:, None, None]
    found = []
    if backbone == "alex":
        for number, ((weight, bias), (_, stride, padding)) in enumerate(
            zip(convolutions, ALEXNET, strict=True)
        ):
            x = convolved(pooled(x, 3) if number in (1, 2) else x, weight, bias, stride, padding)
            found.append(x)
        return found
    rest = iter(convolutions)
    for block, depth in enumerate((2, 2, 3, 3, 3)):
        x = pooled(x, 2) if block else x
        for _ in range(depth):
            x = convolved(x, *next(rest), 1, 1)
        found.append(x)
    return found


def distances(backbone, image, reference, convolutions, heads):
    """LPIPS's sum over channels at each position of each layer."""
    found = []
    pairs = zip(
        *(layers_of(backbone, x, convolutions) for x in (image, reference)), heads, strict=True
    )
    for one, other, head in pairs:
        one, other = (x / (np.sqrt((x**2).sum(axis=0)) + 1e-10) for x in (one, other))
        found.append((head[:, None, None] * (one - other) ** 2).sum(axis=0))
    return found


def pair(height=64, width=73):
    rng = np.random.default_rng(1)
    return [np.round(rng.random((3, height, width)) * 255) / 255 for _ in range(2)]


def tensor(image):
    return torch.from_numpy(image).float()[None]


def test_the_distance_is_what_its_definition_gives(case):
    backbone, network, convolutions, heads = case
    image, reference = pair()
    expected = sum(
        layer.mean() for layer in distances(backbone, image, reference, convolutions, heads)
    )
    assert figures.lpips(network, tensor(image), tensor(reference)) == pytest.approx(
        expected, rel=1e-4
    )
    both = network(
        torch.cat([tensor(image), tensor(reference)]), torch.cat([tensor(reference)] * 2)
    )
    assert both.tolist() == [pytest.approx(expected, rel=1e-4), 0.0]


def test_the_map_is_the_sum_of_the_enlarged_layers(case):
    backbone, network, convolutions, heads = case
    image, reference = pair()
    layers = distances(backbone, image, reference, convolutions, heads)
    enlarged = [
        F.interpolate(torch.from_numpy(layer)[None, None], size=(64, 73), mode="bilinear")
        for layer in layers
    ]
    found = figures.lpips_map(network, tensor(image), tensor(reference))
    torch.testing.assert_close(found.double(), sum(enlarged), rtol=1e-4, atol=1e-6)


def test_what_is_not_finite_counts_as_black_and_what_is_outside_is_clipped(case):
    _, network, *_ = case
    image, reference = (tensor(x) for x in pair())
    black = image.clone()
    broken = image.clone()
    black[..., :8, :8], broken[..., :8, :8] = 0, float("nan")
    broken[..., 8:16, :8], black[..., 8:16, :8] = 7, 1
    assert figures.lpips(network, broken, reference) == figures.lpips(network, black, reference) > 0


def test_weights_in_the_cache_are_opened(tmp_path, monkeypatch):
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path))
    assert LPIPS.for_measuring() is None
    lpips_files.write_weights(tmp_path, "alex")
    weights = lpips_files.random_weights("alex")
    network = LPIPS.for_measuring()
    for number, convolution in enumerate(network.features.convolutions):
        np.testing.assert_array_equal(convolution.weight, weights[f"{number}.weight"])
        np.testing.assert_array_equal(convolution.bias, weights[f"{number}.bias"])
        head = network.get_buffer(f"head{number}").flatten()
        np.testing.assert_array_equal(head, weights[f"head{number}"])


@pytest.mark.parametrize("content", ["other tensors", b"", b"no safetensors"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, monkeypatch, content):
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path))
    lpips_files.write_weights(tmp_path, "alex")
    if isinstance(content, bytes):
        weights_file("alex").write_bytes(content)
    else:
        weights_file("alex").rename(tmp_path / "lpips" / "vgg.safetensors")
    backbone = "alex" if isinstance(content, bytes) else "vgg"
    with pytest.raises(CheckpointError) as error:
        LPIPS.open(backbone)
    assert str(error.value) == (
        f"{weights_file(backbone)} does not hold LPIPS's weights; this writes it anew: python -m "
        "srflow_training.lpips_weights"
    )
