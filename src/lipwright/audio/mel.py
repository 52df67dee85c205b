"""Mel spectrogram of the family, whole or streamed, bit-identical either way.

The recipe is that of Wav2Lip / SyncTalk_2D (``librosa`` 0.11 with Slaney mel bands): pre-emphasis, power-free STFT
magnitude, mel, decibel, clip to -4..4. Every column is projected by a call of its own: the last bits of a matrix
product depend on its size, so a fixed size makes a column independent of how the samples arrived.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from lipwright.contract import (
    CENTRED,
    HOP_LENGTH,
    MEL_FMAX,
    MEL_FMIN,
    MEL_WINDOW,
    N_FFT,
    N_MELS,
    PREEMPHASIS,
    SAMPLE_RATE,
    Alignment,
    FloatArray,
    frame_count,
)

Float64Array = npt.NDArray[np.float64]

_HALF = N_FFT // 2


def hz_to_mel(hz: Float64Array) -> Float64Array:
    """Hz, float64 of any shape, on Slaney's scale: linear below 1 kHz, logarithmic above (Auditory Toolbox, 1998)."""
    linear = hz * 3 / 200
    log = 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4)
    return np.where(hz < 1000, linear, log)


def mel_to_hz(mel: Float64Array) -> Float64Array:
    """The way back: float64 of any shape to Hz."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)))


def band_edges() -> Float64Array:
    """[82] Hz, 55..7600, at equal steps of Slaney's scale: mel band b rises from edge b to b + 1 and falls to b + 2."""
    low, high = hz_to_mel(np.array([MEL_FMIN, MEL_FMAX]))
    return mel_to_hz(np.linspace(low, high, N_MELS + 2))


@cache
def mel_filters() -> Float64Array:
    """[80, 401] triangular filters of equal area, 55..7600 Hz."""
    edges = band_edges()
    bins = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    rising = (bins[None] - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins[None]) / np.diff(edges)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.ascontiguousarray(triangles * (2 / (edges[2:] - edges[:-2]))[:, None])


@cache
def _hann() -> Float64Array:
    """Periodic Hann window of 800 samples."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)


def _column(samples: Float64Array) -> FloatArray:
    """One mel column [80] in -4..4 from 800 pre-emphasised samples."""
    magnitude = np.abs(np.fft.rfft(samples * _hann()))
    decibel = 20 * np.log10(np.maximum(1e-5, mel_filters() @ magnitude)) - 20
    return np.clip(8 * (decibel + 100) / 100 - 4, -4, 4).astype(np.float32)


class MelColumns:
    """Streams 16 kHz mono samples into mel columns, from column ``first`` on (negative: before the sound starts)."""

    def __init__(self, first: int = 0) -> None:
        self._next = first
        # What lies before the sound is zeros, after pre-emphasis as before it.
        self._buffer = np.zeros(max(_HALF - first * HOP_LENGTH, 0), np.float64)
        self._origin = -len(self._buffer)
        self._previous = 0.0
        self.samples = 0

    def push(self, samples: FloatArray) -> FloatArray:
        """[k] samples, -1..1, to the [m, 80] columns that are now complete."""
        if not len(samples):
            return np.empty((0, N_MELS), np.float32)
        wide = samples.astype(np.float64)
        emphasised = wide - PREEMPHASIS * np.concatenate([[self._previous], wide[:-1]])
        self._previous = float(wide[-1])
        self.samples += len(wide)
        return self._take(emphasised)

    def finish(self, last: int) -> FloatArray:
        """The remaining columns [m, 80], -4..4, to column ``last`` inclusive, over zeros where the sound has ended."""
        missing = last * HOP_LENGTH + _HALF - (self._origin + len(self._buffer))
        return self._take(np.zeros(max(missing, 0)))

    def _take(self, emphasised: Float64Array) -> FloatArray:
        self._buffer = np.concatenate([self._buffer, emphasised])
        end = self._origin + len(self._buffer)
        ready = max((end - _HALF) // HOP_LENGTH + 1 - self._next, 0)
        starts = (self._next + np.arange(ready)) * HOP_LENGTH - _HALF - self._origin
        columns = [_column(self._buffer[s : s + N_FFT]) for s in starts]
        self._next += ready
        drop = min(max(self._next * HOP_LENGTH - _HALF - self._origin, 0), len(self._buffer))
        self._buffer = self._buffer[drop:]
        self._origin += drop
        return np.stack(columns) if columns else np.empty((0, N_MELS), np.float32)


def mel_spectrogram(samples: FloatArray) -> FloatArray:
    """16 kHz mono [n], -1..1, to mel [80, n // 200 + 1], -4..4; columns centred, zero padded."""
    stream = MelColumns()
    last = len(samples) // HOP_LENGTH
    columns = np.concatenate([stream.push(samples), stream.finish(last)])
    return np.ascontiguousarray(columns[: last + 1].T)


class MelStream:
    """Streams 16 kHz mono samples into the mel slices the audio encoder reads, one a video frame.

    The slices do not depend on how the samples were cut into chunks, not in a single bit.
    """

    def __init__(self, alignment: Alignment = CENTRED) -> None:
        self._alignment = alignment
        self._first = alignment.start(0)
        self._source = MelColumns(self._first)
        self._columns = np.empty((0, N_MELS), np.float32)
        self._frame = 0

    def push(self, samples: FloatArray) -> FloatArray:
        """[k] samples, -1..1, to the slices [m, 1, 80, 16] of the frames that became complete, in order."""
        self._columns = np.concatenate([self._columns, self._source.push(samples)])
        return self._slices(self._first + len(self._columns) - MEL_WINDOW, limit=None)

    def flush(self) -> FloatArray:
        """The slices [m, 1, 80, 16] of the remaining frames: ceil(samples / 640) in all; the last call."""
        frames = frame_count(self._source.samples)
        if not frames:
            return np.empty((0, 1, N_MELS, MEL_WINDOW), np.float32)
        if self._alignment.extend:
            last = self._alignment.start(frames - 1) + MEL_WINDOW - 1
        else:
            last = max(self._source.samples // HOP_LENGTH, MEL_WINDOW - 1)
        self._columns = np.concatenate([self._columns, self._source.finish(last)])
        return self._slices(last + 1 - MEL_WINDOW, limit=frames)

    def _slices(self, last_start: int, limit: int | None) -> FloatArray:
        """Slices from the next frame on while they start at ``last_start`` or before; with a limit, move them back."""
        found = []
        while limit is None or self._frame < limit:
            start = self._alignment.start(self._frame)
            if start > last_start:
                if limit is None:
                    break
                start = last_start
            offset = start - self._first
            found.append(self._columns[offset : offset + MEL_WINDOW].T)
            self._frame += 1
        self._forget()
        if not found:
            return np.empty((0, 1, N_MELS, MEL_WINDOW), np.float32)
        return np.ascontiguousarray(np.stack(found)[:, None])

    def _forget(self) -> None:
        """Drop columns no later slice can read (a slice moved back at the end reads up to 16 earlier ones)."""
        keep = self._alignment.start(self._frame) - MEL_WINDOW - self._first
        if keep > 0:
            keep = min(keep, max(len(self._columns) - MEL_WINDOW, 0))
            self._columns = self._columns[keep:]
            self._first += keep


def mel_slices(samples: FloatArray, alignment: Alignment = CENTRED) -> FloatArray:
    """16 kHz mono [n], -1..1, to the slices [ceil(n / 640), 1, 80, 16] that the audio encoder reads, all at once."""
    stream = MelStream(alignment)
    return np.concatenate([stream.push(samples), stream.flush()])
