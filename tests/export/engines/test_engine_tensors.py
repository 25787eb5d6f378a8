"""An engine's tensors, read and compared. No engine loads without a GPU: this one speaks as engines do."""

from types import SimpleNamespace

from srflow_export.engines._inspection import tensor_types, type_name

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


def test_the_types_of_an_engines_tensors_are_read():
    assert tensor_types(CudaEngine()) == (INPUTS, OUTPUTS)


def test_types_have_numpys_names():
    names = ("FLOAT", "HALF", "BF16", "INT32", "E8M0")
    assert [type_name(SimpleNamespace(name=name)) for name in names] == [
        "float32",
        "float16",
        "bfloat16",
        "int32",
        "e8m0",
    ]
