from tests.frame.conftest import built, wheel

__all__ = ["built", "wheel"]
