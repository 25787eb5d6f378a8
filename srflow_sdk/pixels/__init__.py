"""Pixels outside the network: colour profiles, transparency, size, consistency."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[Any]
"""Of uint8, uint16 or float32, H×W×C as a rule."""
