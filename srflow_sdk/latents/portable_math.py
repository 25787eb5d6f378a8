"""Functions that give the same bits on every machine; numpy's own logarithm differs between processors.

Only +, -, ×, ÷ and frexp occur, each rounded separately, in IEEE-754 double:
:mod:`srflow_sdk.latents.random_field` documents them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LN2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476
_LOG_SERIES = tuple(1.0 / (2 * k + 1) for k in range(11, -1, -1))


def natural_log(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """The natural logarithm of positive numbers, by scheme 1's series."""
    m, e = np.frexp(p)
    small = m < _SQRT_HALF
    m = np.where(small, m + m, m)
    exponent = (e - small).astype(np.float64)
    s = (m - 1.0) / (m + 1.0)
    return exponent * _LN2 + (s + s) * polynomial(_LOG_SERIES, s * s)


def polynomial(coefficients: tuple[float, ...], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Horner's rule, highest power first."""
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value *= x
        value += coefficient
    return value
