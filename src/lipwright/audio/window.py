"""The window: 16 features around a frame, as the generator hears them."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lipwright.contract import AUDIO_SHAPE, FEATURE_DIM, WINDOW_FUTURE, WINDOW_PAST, FloatArray, lookahead_ms

Padding = Literal["edge", "zeros"]


class FeatureWindow:
    """Streams features into windows: window i holds features i - 8 .. i + 7.

    ``padding`` says what stands beyond the two ends of the sound: the first or last feature repeated (``edge``) or
    ``zeros``. With ``future`` below 7 only that many future features are awaited and the last of them stands for the
    rest, which shortens the look-ahead of a live session.
    """

    def __init__(self, padding: Padding = "edge", future: int = WINDOW_FUTURE) -> None:
        lookahead_ms(future)  # refuses a look-ahead outside 0..7
        self._padding = padding
        self._future = future
        self._features = np.empty((0, FEATURE_DIM), np.float32)
        self._first = 0
        self._frame = 0

    def push(self, features: FloatArray) -> FloatArray:
        """float32 [k, 512] to the windows float32 [m, 32, 16, 16] that became complete, in order."""
        self._features = np.concatenate([self._features, features.astype(np.float32, copy=False)])
        known = self._first + len(self._features)
        return self._windows(known - self._future, known)

    def flush(self) -> FloatArray:
        """The windows float32 [m, 32, 16, 16] of the frames still waiting for features that will not come."""
        known = self._first + len(self._features)
        return self._windows(known, known)

    def _windows(self, stop: int, known: int) -> FloatArray:
        windows = [self._window(i, known) for i in range(self._frame, stop)]
        self._frame = max(self._frame, stop)
        self._forget()
        return np.stack(windows) if windows else np.empty((0, *AUDIO_SHAPE), np.float32)

    def _window(self, frame: int, known: int) -> FloatArray:
        positions = np.minimum(np.arange(frame - WINDOW_PAST, frame + WINDOW_FUTURE + 1), frame + self._future)
        window = self._features[np.clip(positions, 0, known - 1) - self._first]
        if self._padding == "zeros":
            window[(positions < 0) | (positions >= known)] = 0
        return np.asarray(window.reshape(AUDIO_SHAPE))

    def _forget(self) -> None:
        # The last feature stays whatever happens: it may have to be repeated.
        drop = min(self._frame - WINDOW_PAST - self._first, len(self._features) - 1)
        if drop > 0:
            self._features = self._features[drop:]
            self._first += drop


def feature_windows(features: FloatArray, padding: Padding = "edge") -> FloatArray:
    """All features of a sound, float32 [n, 512], to its windows, float32 [n, 32, 16, 16], at once."""
    window = FeatureWindow(padding)
    return np.concatenate([window.push(features), window.flush()])
