"""The fixtures of content transfer in memory, for its command."""

from tests.sdk.conftest import flow, flow_bundle
from tests.sdk.flow.conftest import pictures

__all__ = ["flow", "flow_bundle", "pictures"]
