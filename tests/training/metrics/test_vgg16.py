"""The VGG16 feature distance, with small random convolutions in files laid out as the real ones."""

import sys

import h5py
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from srflow_sdk.errors import ArgumentError, CheckpointError, MissingExtraError
from srflow_training import figures, lpips, lpips_weights
from srflow_training.lpips import VGG16Features
from srflow_training.resampling import round_to_8_bit

SMALL = (6, 8, 8, 10, 10)
RELUS = (3, 8, 15, 22, 29)  # relu1_2 … relu5_3 in torchvision's vgg16.features


def small_shapes(backbone="vgg", real=lpips_weights.convolution_shapes):
    if backbone != "vgg":
        return real(backbone)
    widths = [width for width, depth in zip(SMALL, (2, 2, 3, 3, 3), strict=True) for _ in range(depth)]
    return [(out, inputs, 3, 3) for out, inputs in zip(widths, (3, *widths), strict=False)]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(lpips, "convolution_shapes", small_shapes)


def small_network():
    """torchvision's vgg16.features, in narrow."""
    torch.manual_seed(0)
    layers = []
    for index, (out, inputs, *_) in enumerate(small_shapes()):
        if index in (2, 4, 7, 10):
            layers.append(nn.MaxPool2d(2))
        layers += [nn.Conv2d(inputs, out, 3, padding=1), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-2].weight)
        nn.init.normal_(layers[-2].bias, std=0.1)
    return nn.Sequential(*layers).requires_grad_(False)


def distance(features, a, b):
    return figures.vgg16_distance(features, a, b)


def write_pth(path, network):
    state = {f"features.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({**state, "classifier.0.weight": torch.zeros(2, 2)}, path)


@pytest.fixture(scope="module")
def network():
    return small_network()


@pytest.fixture(scope="module")
def h5_file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("h5") / "hed.weights.h5"
    write_h5(path, network)
    return path


@pytest.fixture(scope="module")
def pth_file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("pth") / "vgg16.pth"
    write_pth(path, network)
    return path


def write_h5(path, network, *, rename=lambda name: name):
    """As Keras writes HED: kernels 3×3×in×out, each with the layer's name, and the edge detector's own layers."""
    convolutions = iter(layer for layer in network if isinstance(layer, nn.Conv2d))
    with h5py.File(path, "w") as file:
        for block, depth in enumerate((2, 2, 3, 3, 3), start=1):
            for number in range(depth):
                layer = next(convolutions)
                group = file.create_group(f"block{block}/layers/conv2d" + (f"_{number}" if number else "") + "/vars")
                group.attrs["name"] = rename(f"block{block}_conv{number + 1}")
                group["0"] = layer.weight.permute(2, 3, 1, 0).numpy()
                group["1"] = layer.bias.numpy()
        file["dsn1/vars/0"] = torch.zeros(1, 1, SMALL[0], 1).numpy()


def features_of(network, x):
    features = []
    for index, layer in enumerate(network):
        x = layer(x)
        if index in RELUS:
            features.append(x)
    return features


def photo(side=64):
    coarse = round_to_8_bit(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2)))
    return F.interpolate(coarse, size=(side, side), mode="nearest")


def test_hed_tensors_convolutions_get_bgr_in_255ths_less_caffes_mean(network, h5_file):
    image = photo()
    mean_bgr = torch.tensor([104.00699, 116.66877, 122.67892])[None, :, None, None]
    expected = features_of(network, 255 * image.flip(1) - mean_bgr)
    for ours, theirs in zip(VGG16Features.open(h5_file)(image), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_torchvisions_convolutions_get_rgb_by_imagenets_mean_and_deviation(network, pth_file):
    image = photo()
    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    normalised = (image - torch.tensor(mean)[None, :, None, None]) / torch.tensor(std)[None, :, None, None]
    for ours, theirs in zip(VGG16Features.open(pth_file)(image), features_of(network, normalised), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_distance_is_the_mean_over_layers_of_squared_distances_of_unit_vectors(network, pth_file):
    a, b = photo(32), photo(32).flip(2)
    features = VGG16Features.open(pth_file)
    units = [[x / (x.norm(dim=1, keepdim=True) + 1e-10) for x in features(image)] for image in (a, b)]
    layers = [float((x - y).norm(dim=1).square().mean()) for x, y in zip(*units, strict=True)]
    expected = sum(layers) / len(layers)
    assert distance(features, a, b) == pytest.approx(expected, abs=1e-5)


def test_images_must_fit_each_other_and_be_large_enough(pth_file):
    features = VGG16Features.open(pth_file)
    with pytest.raises(ArgumentError, match="of the same shape"):
        distance(features, photo(64), photo(32))
    with pytest.raises(ArgumentError, match="at least 16×16"):
        distance(features, photo(8), photo(8))


def test_files_that_hold_something_else_are_refused_in_one_line(tmp_path, network, h5_file, pth_file, monkeypatch):
    (tmp_path / "cut.h5").write_bytes(h5_file.read_bytes()[:3000])
    (tmp_path / "text.h5").write_text("no weights")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["layers/dense/vars/0"] = torch.zeros(2, 2).numpy()
    write_h5(tmp_path / "vgg19.h5", network, rename=lambda name: name.replace("block5", "block6"))
    torch.save({"features.0.weight": torch.zeros(6, 3, 3, 3)}, tmp_path / "short.pth")
    for name in ("absent.h5", "cut.h5", "text.h5", "other.h5", "vgg19.h5", "short.pth", "."):
        with pytest.raises(CheckpointError, match=str(tmp_path / name)) as error:
            VGG16Features.open(tmp_path / name)
        assert "\n" not in str(error.value)
    monkeypatch.setattr(lpips, "convolution_shapes", lpips_weights.convolution_shapes)
    for file in (h5_file, pth_file):
        with pytest.raises(CheckpointError, match="VGG16's is"):
            VGG16Features.open(file)


def test_without_h5py_the_error_names_the_command_and_a_pth_still_opens(h5_file, pth_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"h5py is not installed.*pip install"):
        VGG16Features.open(h5_file)
    VGG16Features.open(pth_file)
