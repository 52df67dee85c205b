"""Do lips and sound of a film go together, and if not, by how much are they apart?

The opening of the lips is predicted from the sound by a linear read-out (ridge regression) fitted on the film itself,
once for every shift between the two; the shift with the best prediction of stretches that were not fitted wins. No
weights are needed, and any language and any voice will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lipwright.audio.mel import mel_spectrogram
from lipwright.contract import MEL_PER_FRAME, N_MELS, FloatArray
from lipwright.face import face_height, lip_gap

DoubleArray = npt.NDArray[np.float64]

#: Largest shift that can be found, frames.
MAX_OFFSET = 10
#: An estimate with at least this confidence may be used to move the sound: of ten stretches of 10 s seven reach it, and
#: none of these is wrong by a frame. One of the three of real people is among them.
CONFIDENT = 0.25
#: Below this confidence the sound may be of something else: of sixteen sounds that do not belong to the lips of four
#: films one reaches it (0.17), and all of these films' own do, the least with 0.16 (tools.film_score).
UNRELATED = 0.15
#: Fewest frames with a face for an estimate: 6 s.
MIN_FRAMES = 150
#: More frames than this add time and no certainty: 2 minutes.
MOST_FRAMES = 3000
#: Lips move before their sound is heard: what the read-out says, in frames, of `presenter_v0`, whose sync is exact. No
#: other film has confirmed it.
LEAD = -0.5
#: Shifts nearer to the best one than this are its own peak.
PEAK_WIDTH = 4

_BANDS = 10
#: Mel columns to both sides that a frame's sound is read from besides its own.
_BESIDE = MEL_PER_FRAME / 2
_SMOOTH_COLUMNS = 1.6
#: Slow changes of pose, smile and loudness say nothing: they are taken out above this many frames.
_SLOW_FRAMES = 12.0
_FOLDS = 5
#: Frames left out on both sides of what is predicted.
_FOLD_GAP = 12
_RIDGE = 10.0


@dataclass(frozen=True, slots=True)
class Offset:
    """How far lips and sound are apart."""

    frames: float
    """Positive: the lips are late, the sound comes too early. NaN: too little to tell."""
    r: float
    """Correlation of the lips' opening with what the sound predicts at that shift, -1..1."""
    confidence: float
    """``r`` less the best one of shifts that have nothing to do with it: below ``CONFIDENT`` it is a guess."""

    @property
    def sure(self) -> bool:
        """Whether the estimate may be acted on; False when there is none."""
        return self.confidence >= CONFIDENT

    @property
    def strange(self) -> bool:
        """Whether the sound may not belong to these lips at all; False when there is no estimate."""
        return self.confidence < UNRELATED


UNKNOWN = Offset(float("nan"), float("nan"), float("nan"))


def estimate_offset(landmarks: FloatArray, sound: FloatArray) -> Offset:
    """Estimate the shift between lips and sound, at most 10 frames either way.

    Args:
        landmarks: [N, 468, 3] of every frame; NaN where no mouth is seen.
        sound: [n] 16 kHz mono, -1..1, beginning with frame 0.
    """
    lips = mouth_opening(landmarks)
    known = np.flatnonzero(np.isfinite(lips).all(1))[:MOST_FRAMES]
    if len(known) < MIN_FRAMES:
        return UNKNOWN
    columns = _smooth_bands(sound)
    lags = np.arange(-MAX_OFFSET - 1, MAX_OFFSET + 2)
    rates = np.array([_agreement(columns, lips, known, int(lag)) for lag in lags])
    best = int(rates[1:-1].argmax()) + 1
    elsewhere = rates[np.abs(lags - lags[best]) > PEAK_WIDTH].max()
    frames = lags[best] + _vertex(*rates[best - 1 : best + 2]) - LEAD
    return Offset(float(frames), float(rates[best]), float(rates[best] - elsewhere))


def mouth_opening(landmarks: FloatArray) -> DoubleArray:
    """[N, 468, 3] to [N, 2]: gap of the inner lips and height of the outer lips over face height, slow changes out."""
    outer = np.linalg.norm(landmarks[:, 0, :2].astype(np.float64) - landmarks[:, 17, :2], axis=1)
    return high_passed(np.stack([lip_gap(landmarks), outer / face_height(landmarks)], axis=1))


def high_passed(values: DoubleArray) -> DoubleArray:
    """[N, K] less its Gaussian mean over about a second, what moves as fast as speech; NaN is left out and stays."""
    reach = int(3 * _SLOW_FRAMES)
    weight = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _SLOW_FRAMES) ** 2)
    known = np.isfinite(values)

    def around(series: DoubleArray) -> DoubleArray:
        padded = np.pad(series, reach)
        return np.convolve(padded, weight, "valid")

    sums = np.stack([around(column) for column in np.where(known, values, 0).T], axis=1)
    counts = np.stack([around(column) for column in known.T.astype(np.float64)], axis=1)
    return np.asarray(values - sums / np.maximum(counts, 1e-9))


def _smooth_bands(sound: FloatArray) -> DoubleArray:
    """16 kHz mono to [10, columns]: mel in broad bands, smoothed over about a frame."""
    mel = mel_spectrogram(sound).astype(np.float64).reshape(_BANDS, N_MELS // _BANDS, -1).mean(1)
    offset = np.arange(-6, 7)
    weight = np.exp(-0.5 * (offset / _SMOOTH_COLUMNS) ** 2)
    weight /= weight.sum()
    return np.stack([np.convolve(np.pad(band, 6, mode="edge"), weight, "valid") for band in mel])


def _agreement(columns: DoubleArray, lips: DoubleArray, known: npt.NDArray[np.int64], lag: int) -> float:
    """Mean correlation of the lips' two measures with their prediction from the sound ``lag`` frames earlier."""
    heard = high_passed(_heard(columns, len(lips), lag))[known]
    seen = lips[known]
    predicted = _predict_held_out(heard, seen)
    return float(np.mean([_correlation(predicted[:, k], seen[:, k]) for k in range(seen.shape[1])]))


def _heard(columns: DoubleArray, frames: int, lag: int) -> DoubleArray:
    """[frames, 30]: the bands at the middle of frame i - lag, and half a frame before and after."""
    middle = MEL_PER_FRAME * (np.arange(frames) - lag + 0.5)
    places = np.arange(columns.shape[1])
    return np.stack(
        [np.interp(middle + beside, places, band) for beside in (-_BESIDE, 0.0, _BESIDE) for band in columns], axis=1
    )


def _predict_held_out(heard: DoubleArray, seen: DoubleArray) -> DoubleArray:
    """``seen`` [n, k] as ridge regressions from ``heard`` [n, m] predict each fifth from the other four."""
    predicted = np.zeros_like(seen)
    borders = np.linspace(0, len(seen), _FOLDS + 1).astype(int)
    for first, stop in pairwise(borders.tolist()):
        fit = np.ones(len(seen), bool)
        fit[max(0, first - _FOLD_GAP) : stop + _FOLD_GAP] = False
        centre, spread = heard[fit].mean(0), heard[fit].std(0) + 1e-6
        x, mean = (heard[fit] - centre) / spread, seen[fit].mean(0)
        penalty = _RIDGE * np.sqrt(len(x)) * np.eye(x.shape[1])
        weights = np.linalg.solve(x.T @ x + penalty, x.T @ (seen[fit] - mean))
        predicted[first:stop] = (heard[first:stop] - centre) / spread @ weights + mean
    return predicted


def _correlation(a: DoubleArray, b: DoubleArray) -> float:
    """Pearson's r; 0 when one of the two does not move."""
    if np.std(a) < 1e-12 or np.std(b) < 1e-12:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _vertex(before: float, best: float, after: float) -> float:
    """Where the parabola through three neighbours has its top, -0.5..0.5 from the middle one."""
    bend = before - 2 * best + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0
