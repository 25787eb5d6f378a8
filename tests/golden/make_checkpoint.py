"""Write the golden checkpoint described by a shapes file: `make_checkpoint.py srflow_x4_small.json out.pth`.

Every tensor is drawn with numpy, keyed by its name, so that the checkpoint does not have to be stored.
"""

import json
import sys
import zlib

import numpy as np


def golden_state_dict(spec: dict) -> dict[str, np.ndarray]:
    """spec: {"seed", "G", "A", "shapes": {name: shape}} -> {name: float32 array} in the published key layout."""
    state = {}
    for name, shape in spec["shapes"].items():
        rng = np.random.default_rng([spec["seed"], zlib.crc32(name.encode())])
        draw = rng.standard_normal(shape)
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        if name.endswith("invconv.weight"):
            channels = shape[0]
            rotation = np.eye(channels)
            for _ in range(4):  # a product of Householder reflections: orthogonal without LAPACK
                axis = rng.standard_normal(channels)
                axis /= np.sqrt((axis * axis).sum())
                rotation = rotation - 2 * np.outer(axis, axis @ rotation)
            value = rotation + 0.02 * draw
        elif name.startswith("RRDB.RRDB_trunk") and name.endswith(".weight"):
            value = draw * spec["G"] / np.sqrt(fan_in)
        elif name.endswith((".affine.fAffine.4.weight", ".affine.fFeatures.4.weight", "conv.weight")):
            value = draw * spec["A"] / np.sqrt(fan_in)
        elif name.endswith(".weight"):
            value = draw / np.sqrt(fan_in)
        elif ".fAffine." in name or ".fFeatures." in name:
            value = 0.05 * draw
        elif name.endswith("actnorm.logs"):
            value = 0.2 + 0.05 * draw
        else:
            value = 0.05 * draw
        state[name] = value.astype(np.float32)
    return state


if __name__ == "__main__":
    import torch

    with open(sys.argv[1]) as file:
        spec = json.load(file)
    torch.save({name: torch.from_numpy(value) for name, value in golden_state_dict(spec).items()}, sys.argv[2])
