"""Pictures drawn by a server: :class:`RemoteUpscaler` upscales without the model.

It speaks HTTP and needs no extra. docs/triton.md says how the server is set up.
"""

from __future__ import annotations

from srflow_sdk._lazy_names import lazy_names

TYPE_CHECKING = False  # see srflow_sdk/__init__.py

if TYPE_CHECKING:
    from srflow_apps.serving.remote_upscaler import RemoteUpscaler

__all__ = ["RemoteUpscaler"]

__getattr__, __dir__ = lazy_names(
    __name__, {"RemoteUpscaler": "srflow_apps.serving.remote_upscaler"}
)
