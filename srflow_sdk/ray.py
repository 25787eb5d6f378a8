"""Upscaling on the machines of a Ray cluster: `pip install "srflow-sdk[ray]"`.

    from srflow_sdk import upscale_folder

    upscale_folder("s3://bucket/photos", "s3://bucket/large", ray="auto", resume=True)

does a whole folder; a :class:`Cluster` says how the cluster is used.
"""

from __future__ import annotations

from srflow_sdk._lazy_names import lazy_names

TYPE_CHECKING = False  # see srflow_sdk/__init__.py

if TYPE_CHECKING:
    from srflow_apps.batch.ray import Cluster

__all__ = ["Cluster"]

__getattr__, __dir__ = lazy_names(__name__, {"Cluster": "srflow_apps.batch.ray"})
