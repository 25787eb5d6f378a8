"""Each graph is exported once per process: torch.onnx takes seconds for it, and most tests export the same networks."""

import copy
import functools
import hashlib
import inspect
import pickle

import pytest

from srflow_export import onnx_models


def weights_sha256(model):
    """Of every tensor with its name, shape and type."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def once(export):
    """The export of a model, which keeps its answers; callers get copies. Equal networks have equal graphs:

    test_two_exports_of_a_checkpoint_write_the_same_bytes.
    """
    kept = {}
    signature = inspect.signature(export)

    @functools.wraps(export)
    def exported(model, *arguments, **options):
        given = signature.bind(model, *arguments, **options)
        given.apply_defaults()
        rest = pickle.dumps([(name, value) for name, value in given.arguments.items() if name != "model"])
        key = type(model), repr(model.config), weights_sha256(model), rest
        if key not in kept:
            kept[key] = export(model, *arguments, **options)
        return copy.deepcopy(kept[key])

    return exported


@pytest.fixture(autouse=True, scope="package")
def _graphs_are_exported_once():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("encoder_model", "integer_encoder_model", "sampler_model", "inverter_model"):
            patch.setattr(onnx_models, name, once(getattr(onnx_models, name)))
        yield
