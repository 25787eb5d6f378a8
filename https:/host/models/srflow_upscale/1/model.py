"""Loaded by Triton's python backend; srflow-sdk, in the server's Python environment, does the work."""

try:
    from srflow_apps.serving.triton_model import TritonPythonModel
except ImportError as error:
    raise ImportError(
        f"srflow_upscale needs srflow-sdk in the server's Python environment ({error}): pip install 'srflow-sdk>=0.1.0'"
    ) from error

__all__ = ["TritonPythonModel"]
