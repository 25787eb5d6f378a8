"""An engine's inspector is read. No engine loads without a GPU: these speak as engines do."""

import json
from types import SimpleNamespace

from srflow_export.engines._inspection import inspect_engine, layer_types
from tests.export.engines.test_engine_tensors import INPUTS, OUTPUTS, CudaEngine


class Engine(CudaEngine):
    """With layers, of which its inspector tells."""

    num_layers = 4

    def __init__(self, layers):
        self.layers = layers
        self.context = SimpleNamespace(shapes={})
        self.context.set_input_shape = self.context.shapes.__setitem__

    def get_tensor_profile_shape(self, name, profile):
        assert profile == 0
        return (1, 3, 16, 16), (1, 3, 88, 88), (1, 3, 168, 168)

    def create_execution_context(self):
        return self.context

    def create_engine_inspector(self):
        def information(form):
            assert form == "json"
            # As the real one: without a context there are no shapes, and so no types.
            return json.dumps({"Layers": self.layers if inspector.execution_context is self.context else []})

        inspector = SimpleNamespace(execution_context=None, get_engine_information=information)
        return inspector


def test_the_inspector_is_asked_with_the_best_shapes_set():
    engine = Engine(layers=[{"LayerType": "CaskConvolution", "Weights": {"Type": "Half"}, "Outputs": []}])
    report = inspect_engine(SimpleNamespace(LayerInformationFormat=SimpleNamespace(JSON="json")), engine)
    assert engine.context.shapes == {"lr": (1, 3, 88, 88)}
    assert (report.inputs, report.outputs, report.layers) == (INPUTS, OUTPUTS, 4)
    assert report.convolutions == {"float16": 1}


def layer(kind, type_before, type_after, *, key="Format/Datatype", **more):
    return {"LayerType": kind, "Inputs": [{"Name": "a", key: type_before}], "Outputs": [{key: type_after}], **more}


def test_types_are_read_as_tensorrt_10_writes_them():
    half, whole = "Row major linear FP16 format", "Channel major FP32 format where channel % 4 == 0"
    information = json.dumps(
        {
            "Layers": [
                layer("Reformat", whole, half),
                layer("CaskConvolution", half, half, Weights={"Type": "Half", "Count": 9}),
                layer("CaskConvolution", half, whole, ParameterType="Convolution"),
                layer("kgen", "Float", "Float"),
                layer("PointWiseV2", "N/A due to dynamic shapes", "N/A due to dynamic shapes"),
                layer("NoOp", whole, whole),
            ],
            "Bindings": ["lr"],
        }
    )
    assert layer_types(information) == ({"float16": 2}, {"float16": 1, "float32": 2, "unknown": 1})


def test_types_are_read_as_tensorrt_11_writes_them():
    entry = {"Name": "a", "DataType": "BFloat16", "Format": "Row major linear format (kLINEAR)"}
    information = {"Layers": [{"LayerType": "conv", "Inputs": [entry], "Outputs": [entry]}], "I/O Tensors": []}
    assert layer_types(json.dumps(information)) == ({"bfloat16": 1}, {"bfloat16": 1})


def test_layers_that_are_names_alone_count_nothing():
    assert layer_types(json.dumps({"Layers": ["conv1 + relu", "conv2"]})) == ({}, {})
    assert layer_types("{}") == ({}, {})
