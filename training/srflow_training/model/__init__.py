"""The SRFlow network: LR encoder, flow, and the configuration of both."""

from srflow_training.model.config import SRFlowConfig
from srflow_training.model.encoder import RRDB, Encoder
from srflow_training.model.plain import PlainEncoder
from srflow_training.model.srflow import SRFlow, build_encoder

__all__ = ["RRDB", "Encoder", "PlainEncoder", "SRFlow", "SRFlowConfig", "build_encoder"]
