"""Between the colours one names (sRGB) and light (linear)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lipwright.contract import FloatArray


def linear(srgb: npt.ArrayLike) -> FloatArray:
    """SRGB 0..1 -> linear light 0..1 (IEC 61966-2-1)."""
    c = np.asarray(srgb, np.float32)
    return np.asarray(np.where(c < 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4), dtype=np.float32)


def encoded(light: FloatArray) -> FloatArray:
    """Linear light 0..1 -> sRGB 0..1."""
    x = np.clip(light, 0, 1)
    return np.asarray(np.where(x < 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055), dtype=np.float32)
