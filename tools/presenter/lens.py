"""From light to the picture a camera gives: focus, glow, vignette, exposure, noise, tone curve, sharpening."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lipwright.contract import FloatArray, UInt8Array
from tools.presenter.arrays import f32
from tools.presenter.colour import encoded

#: Blur of the sharpest and of the least sharp places, standard deviation as a share of the picture's height.
_SOFT, _UNSHARP = 0.55 / 720, 2.4 / 720
_GLOW = 14 / 720
#: Linear light from here on is bent towards white.
_SHOULDER = 0.50


@dataclass(frozen=True)
class Look:
    """How the camera is set."""

    exposure: float = 0.76
    glow: float = 0.035
    """Share of bright light that is scattered in the lens."""
    vignette: float = 0.20
    """Loss of light in the corners."""
    noise: float = 0.0055
    """Of the sensor, standard deviation at mid grey in the finished picture, 0..1."""
    sharpening: float = 0.35
    contrast: float = 1.13
    warmth: float = 0.015


def _blur(picture: FloatArray, share: float) -> FloatArray:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), max(share * picture.shape[0], 0.3)), dtype=np.float32)


def focused(light: FloatArray) -> FloatArray:
    """[h, w, 4] -> [h, w, 3]: each pixel as sharp as its alpha says, and nothing sharper than the lens."""
    rgb, far = _blur(light[..., :3], _SOFT), _blur(light[..., 3:], 0.5 * _UNSHARP)
    return rgb + far[..., None] * (_blur(light[..., :3], _UNSHARP) - rgb)


def vignette(height: int, width: int, loss: float) -> FloatArray:
    """[h, w, 1] factor: 1 in the middle, 1 - ``loss`` in the corners."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    r2 = ((x - width / 2) ** 2 + (y - height / 2) ** 2) / (width**2 + height**2) * 4
    return np.asarray(1 - loss * r2[..., None], dtype=np.float32)


def toned(light: FloatArray, contrast: float) -> FloatArray:
    """Linear light -> 0..1 as cameras encode it: sRGB with a soft shoulder, and a little contrast about mid grey."""
    over = np.maximum(light - _SHOULDER, 0)
    room = 1 - _SHOULDER
    bent = np.where(light < _SHOULDER, light, _SHOULDER + room * (1 - np.exp(-over / room)))
    value = encoded(bent)
    return np.asarray((0.46 + (value - 0.46) * contrast).clip(0, 1), dtype=np.float32)


def develop(light: FloatArray, look: Look, exposure: float, rng: np.random.Generator) -> UInt8Array:
    """[h, w, 4] linear RGB and blur -> [h, w, 3] BGR uint8.

    Args:
        light: What ``Painter.paint`` gives.
        look: Settings of the camera.
        exposure: Factor of the automatic exposure in this frame, about 1.
        rng: Draws the sensor's noise; from clip and frame, so that a frame is always the same.
    """
    height, width = light.shape[:2]
    rgb = focused(light) * vignette(height, width, look.vignette)
    rgb *= look.exposure * exposure * f32([1 + look.warmth, 1, 1 - look.warmth])
    glow = _blur(np.minimum(rgb, 2), _GLOW) * f32([1.0, 0.92, 0.85])
    rgb += look.glow * (glow - rgb).clip(0)
    value = toned(rgb, look.contrast)
    grain = rng.standard_normal((height, width, 4)).astype(np.float32)
    grain = 0.8 * grain[..., 3:] + 0.5 * cv2.GaussianBlur(grain[..., :3], (0, 0), 0.9)
    # dark places show more of the sensor's noise, white ones none
    value += look.noise * grain * (1.25 - value)
    value += look.sharpening * (value - cv2.GaussianBlur(value, (0, 0), 1.1 * height / 720))
    return np.asarray(np.rint(value[..., ::-1].clip(0, 1) * 255), dtype=np.uint8)
