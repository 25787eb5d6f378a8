"""The machine with engines, of the SDK's backends, for the report of a GPU."""

from tests.sdk.backends.conftest import machine

__all__ = ["machine"]
