"""The variant `paper` of the network, written from the publication's text in plain tensors, by the
weights' names.

Nothing of `srflow_training.model` is used. An RRDB encoder, whose five equally spaced blocks, the
last included, are resized bilinearly to each level; steps of actnorm, invertible 1×1, affine
injector and conditional affine coupling with the scale exp(s); convolutions 3×3, 3×3 and
zero-initialised 3×3 in every conditional net; a split after every level but the last.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

BLOCKS = 5


class PaperNetwork:
    """weights: a state dict. scale: HR size / LR size. Levels, blocks and steps are counted in the
    weights."""

    def __init__(self, weights, *, scale):
        self.weights = weights
        self.scale = scale
        self.levels = 1 + max(
            int(name.split(".")[1]) for name in weights if name.startswith("levels.")
        )

    def log_likelihood(self, hr, lr):
        """log p(hr | lr) in nats, [N], by the change of variables."""
        h = hr
        nats = torch.zeros(len(hr), dtype=hr.dtype)
        for level, u in enumerate(self._conditions(lr)):
            h = F.pixel_unshuffle(h, 2)
            for name, conditional in self._steps(level):
                h, log_det = self._encoded(name, h, u, conditional)
                nats = nats + log_det
            if level < self.levels - 1:
                h, leaving = h.chunk(2, dim=1)
                mean, logs = self._zeros(f"levels.{level}.split.conv", h).chunk(2, dim=1)
                nats = nats - logs.sum(dim=(1, 2, 3)) + _normal((leaving - mean) / logs.exp())
        return nats + _normal(h)

    def decode(self, lr, latents):
        """The image of latents {level from 1: tensor}."""
        h = latents[self.levels]
        for level, u in reversed(list(enumerate(self._conditions(lr)))):
            if level < self.levels - 1:
                mean, logs = self._zeros(f"levels.{level}.split.conv", h).chunk(2, dim=1)
                h = torch.cat([h, mean + logs.exp() * latents[level + 1]], dim=1)
            for name, conditional in reversed(self._steps(level)):
                h = self._decoded(name, h, u, conditional)
            h = F.pixel_shuffle(h, 2)
        return h

    def _conditions(self, lr):
        """u of each level: the blocks' outputs at that level's size."""
        blocks = self._blocks(lr)
        gap = (len(blocks) - 1) // (BLOCKS - 1)
        chosen = [blocks[-1 - gap * number] for number in reversed(range(BLOCKS))]
        sizes = [
            [self.scale * side >> level + 1 for side in lr.shape[2:]]
            for level in range(self.levels)
        ]
        return [
            torch.cat([F.interpolate(block, size=size, mode="bilinear") for block in chosen], dim=1)
            for size in sizes
        ]

    def _blocks(self, lr):
        """The output of every RRDB block."""
        x = self._conv("encoder.conv_first", lr)
        found = []
        while f"encoder.blocks.{len(found)}.dense.0.convs.0.weight" in self.weights:
            y = x
            for dense in range(3):
                name = f"encoder.blocks.{len(found)}.dense.{dense}.convs"
                features = [y]
                for number in range(4):
                    features.append(
                        F.leaky_relu(
                            self._conv(f"{name}.{number}", torch.cat(features, dim=1)), 0.2
                        )
                    )
                y = y + 0.2 * self._conv(f"{name}.4", torch.cat(features, dim=1))
            x = x + 0.2 * y
            found.append(x)
        return found

    def _steps(self, level):
        """Names of a level's steps in encoding order, and whether each is conditional."""
        names = []
        for kind in ("transitions", "steps"):
            while f"levels.{level}.{kind}.{len(names)}.mix.weight" in self.weights:
                names.append((f"levels.{level}.{kind}.{len(names)}", kind == "steps"))
            if kind == "transitions":
                transitions = names
                names = []
        return [*transitions, *names]

    def _encoded(self, name, h, u, conditional):
        bias, logs = self._actnorm(name)
        matrix = self.weights[f"{name}.mix.weight"]
        pixels = h.shape[2] * h.shape[3]
        h = torch.einsum("ij,njyx->niyx", matrix, (h + bias) * logs.exp())
        log_det = pixels * (logs.sum() + torch.linalg.slogdet(matrix).logabsdet)
        if conditional:
            shift, s = self._net(f"{name}.injector", u)
            h = h * s.exp() + shift
            log_det = log_det + s.sum(dim=(1, 2, 3))
            kept, changed = h.chunk(2, dim=1)
            shift, s = self._net(f"{name}.coupling", torch.cat([kept, u], dim=1))
            h = torch.cat([kept, changed * s.exp() + shift], dim=1)
            log_det = log_det + s.sum(dim=(1, 2, 3))
        return h, log_det

    def _decoded(self, name, h, u, conditional):
        if conditional:
            kept, changed = h.chunk(2, dim=1)
            shift, s = self._net(f"{name}.coupling", torch.cat([kept, u], dim=1))
            h = torch.cat([kept, (changed - shift) / s.exp()], dim=1)
            shift, s = self._net(f"{name}.injector", u)
            h = (h - shift) / s.exp()
        bias, logs = self._actnorm(name)
        return (
            torch.einsum("ij,njyx->niyx", self.weights[f"{name}.mix.weight"].inverse(), h)
            / logs.exp()
            - bias
        )

    def _actnorm(self, name):
        return self.weights[f"{name}.actnorm.bias"], self.weights[f"{name}.actnorm.logs"]

    def _net(self, name, x):
        """Shift and s."""
        x = F.relu(self._conv(f"{name}.conv1", x))
        x = F.relu(self._conv(f"{name}.conv2", x))
        return self._zeros(f"{name}.conv3", x).chunk(2, dim=1)

    def _conv(self, name, x):
        weight = self.weights[f"{name}.weight"]
        assert weight.shape[2:] == (3, 3)
        return F.conv2d(x, weight, self.weights[f"{name}.bias"], padding=1)

    def _zeros(self, name, x):
        return self._conv(name, x) * torch.exp(3 * self.weights[f"{name}.logs"])


def _normal(z):
    return -0.5 * (z.square() + math.log(2 * math.pi)).sum(dim=(1, 2, 3))
