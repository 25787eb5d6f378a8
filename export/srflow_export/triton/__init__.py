"""Model repositories for NVIDIA Triton Inference Server, made from bundles."""

from srflow_export.triton.repository import write_repository

__all__ = ["write_repository"]
