"""Pixels outside the network: colour profiles, transparency, size, consistency."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
