"""Each graph is exported once in a run: tracing takes seconds, and most tests export the same networks."""

import functools
import hashlib
import inspect
import pickle

import onnx
import pytest

from srflow_export import exporter, onnx_models, quantisation
from tests.kept import kept


def weights_sha256(model):
    """Of every tensor with its name, shape and type."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def once(export):
    """The export of a model, kept for all processes of a run. Equal networks have equal graphs:

    test_two_exports_of_a_checkpoint_write_the_same_bytes.
    """
    signature = inspect.signature(export)

    @functools.wraps(export)
    def exported(model, *arguments, **options):
        given = signature.bind(model, *arguments, **options)
        given.apply_defaults()
        rest = [(name, value) for name, value in given.arguments.items() if name != "model"]
        key = export.__name__, type(model), repr(model.config), weights_sha256(model), rest
        graph = kept(pickle.dumps(key), lambda: export(model, *arguments, **options).SerializeToString())
        return onnx.ModelProto.FromString(graph)

    return exported


@pytest.fixture(autouse=True, scope="package")
def _graphs_are_exported_once():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("encoder_model", "integer_encoder_model", "sampler_model", "inverter_model"):
            patch.setattr(onnx_models, name, once(getattr(onnx_models, name)))
        patch.setattr(exporter, "int8_encoder", once(quantisation.int8_encoder))
        yield
