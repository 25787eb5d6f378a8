"""What TensorRT-RTX's builder makes of the full-size network: few kernels, in few passes over
memory. No GPU needed."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest

from tests.native.builders_list import build_plugins, count_bytes, export, list_kernels, rtx_links


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The network's graphs with two steps in each of three levels, and TensorRT-RTX."""
    folder = rtx_links(tmp_path_factory.mktemp("builders_list"))
    export(folder, steps=2)
    return folder


def test_a_coupling_is_four_kernels_with_plugins(folder):
    if shutil.which("c++") is None:
        pytest.skip("c++ is not installed: apt-get install g++")
    kernels = list_kernels(folder, folder / "sampler.onnx", build_plugins(folder))
    kinds, names = (Counter(getattr(each, of) for each in kernels) for of in ("kind", "name"))
    assert kinds["correlation"] == 3 * 6 + 1, "of six steps and one split"
    assert kinds["custom_layer"] == 6
    assert kinds["kgen"] == 6, (
        "the first latents, two unsqueezes, what the next level reads of them, and the split"
    )
    assert names["AddRelu"] == 0, "a convolution takes the conditioning in"
    assert names["Tran"] == 2, "of unsqueezes: no head and no h_A is transposed"
    assert len(kernels) == 31
    assert count_bytes(kernels) <= 0.78e9


def test_steps_add_no_kernels_to_an_encoder(folder):
    kernels = list_kernels(folder, folder / "encoder.onnx")
    assert len(kernels) <= 99
    assert count_bytes(kernels) <= 2.95e9
