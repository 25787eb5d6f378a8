"""Pictures drawn by a server: :class:`RemoteUpscaler` has :class:`~srflow_sdk.Upscaler`'s methods, without the model.

gRPC needs the extra: ``pip install "srflow-sdk[triton]"``. docs/triton.md says how the server is set up.
"""

from srflow_sdk.triton._remote_upscaler import RemoteUpscaler

__all__ = ["RemoteUpscaler"]
