"""Tests with a real Triton Inference Server, from a wheel of PyPI."""
