"""The SRFlow network: LR encoder, flow, and the configuration of both."""

from srflow_training.model.config import SRFlowConfig
from srflow_training.model.encoder import RRDB
from srflow_training.model.srflow import SRFlow

__all__ = ["RRDB", "SRFlow", "SRFlowConfig"]
