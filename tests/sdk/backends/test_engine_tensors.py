"""An engine's tensors, read and compared. No engine loads without a GPU: this one speaks as engines do."""

from types import SimpleNamespace

import pytest

from srflow_sdk.backends._engine_tensors import type_name
from srflow_sdk.backends.tensorrt_engines.execution import Engine
from srflow_sdk.errors import BundleError

TENSORS = {"lr": ("INPUT", "FLOAT"), "level1_coupling": ("OUTPUT", "HALF"), "level2_coupling": ("OUTPUT", "BF16")}
INPUTS = {"lr": "float32"}
OUTPUTS = {"level1_coupling": "float16", "level2_coupling": "bfloat16"}


class CudaEngine:
    """The part of ICudaEngine that is asked."""

    num_io_tensors = len(TENSORS)

    def get_tensor_name(self, index):
        return list(TENSORS)[index]

    def get_tensor_mode(self, name):
        return SimpleNamespace(name=TENSORS[name][0])

    def get_tensor_dtype(self, name):
        return SimpleNamespace(name=TENSORS[name][1])


def check(inputs, outputs):
    engine = Engine(None, CudaEngine(), log=None, kernels=None, own_graphs=False)
    engine.check(inputs=inputs, outputs=outputs, where="engines/a.engine")


def test_an_engine_as_expected_passes():
    check(INPUTS, OUTPUTS)


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ({"lr": "float16"}, OUTPUTS, "input lr is float32, not float16"),
        ({**INPUTS, "tau": "float32"}, OUTPUTS, "input tau is missing"),
        ({}, OUTPUTS, "it has an unknown input lr"),
        (INPUTS, {**OUTPUTS, "level1_coupling": "float32"}, "output level1_coupling is float16, not float32"),
        (INPUTS, {"level1_coupling": "float16"}, "it has an unknown output level2_coupling"),
        (OUTPUTS, INPUTS, "input level1_coupling is missing; .*output lr is missing"),
    ],
)
def test_each_difference_is_named_with_the_file_and_the_fix(inputs, outputs, words):
    with pytest.raises(BundleError, match=f"^engines/a.engine is not .*{words}.*srflow-export$"):
        check(inputs, outputs)


def test_types_have_numpys_names():
    names = ("FLOAT", "HALF", "BF16", "INT32", "E8M0")
    assert [type_name(SimpleNamespace(name=name)) for name in names] == [
        "float32",
        "float16",
        "bfloat16",
        "int32",
        "e8m0",
    ]
