"""What this package calls its arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lipwright.contract import FloatArray

Reals = npt.NDArray[np.floating[Any]]
"""float32 or float64."""
IntArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]


def f32(values: npt.ArrayLike) -> FloatArray:
    """Anything as float32."""
    return np.asarray(values, dtype=np.float32)
