"""Work on pixels outside the network: colour profiles, transparency, size, consistency with the LR
image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
