"""The fixtures of content transfer in memory, for its command."""

from tests.sdk.flow.conftest import flow, flow_bundle, pictures

__all__ = ["flow", "flow_bundle", "pictures"]
