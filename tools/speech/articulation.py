"""From phones with times to what the mouth does: co-articulated tracks at 25 frames a second.

The model is dominance blending (Cohen & Massaro 1993, "Modeling coarticulation in synthetic visual speech"): every
shape pulls the channels to its target with a strength that fades with the distance in time; strong shapes (closed lips)
hardly let their neighbours in, weak ones (h) take the shape of what comes next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lipwright.contract import FPS

from .phones import CHANNELS, CLASSES, CLOSED, REST, Phone, target_matrix

Float64Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]
Int8Array = npt.NDArray[np.int8]

#: Seconds by which the mouth is ahead of the sound.
LEAD = 0.02
#: The blend runs at FPS * OVERSAMPLING, is smoothed there, and every fourth value is kept.
OVERSAMPLING = 4
#: The kept value of a frame, counted in the finer steps: (2 + 0.5) / 100 s = 25 ms into the 40 ms of the frame.
KEPT = OVERSAMPLING // 2
SMOOTHING_SIGMA = 2.0
"""Standard deviation of the smoothing, in finer steps (20 ms)."""
_SMOOTHING_RADIUS = 6
#: A pause at least this long is rest; a shorter one is only a breath between words.
REST_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Dominance:
    """How strongly a class pulls: on lips and tongue, on the jaw, and how far in time."""

    lips: float = 1.0
    jaw: float = 1.3
    reach: float = 0.055
    """Seconds."""


DOMINANCE = {
    "sil": Dominance(1, 1, 0.05),
    "pbm": Dominance(6, 1.6, 0.035),
    "fv": Dominance(6, 1.6, 0.04),
    "w": Dominance(3, 1, 0.07),
    "uw": Dominance(2.5, 1, 0.08),
    "sh": Dominance(3, 1.6, 0.06),
    "sz": Dominance(1.6, 2.2, 0.045),
    "r": Dominance(1.6, 0.8, 0.06),
    "l": Dominance(0.6, 0.7, 0.04),
    "tdn": Dominance(0.6, 1.0, 0.04),
    "th": Dominance(0.7, 0.9, 0.04),
    "kg": Dominance(0.4, 0.6, 0.04),
    "hh": Dominance(0.15, 0.2, 0.04),
    "y": Dominance(1, 1, 0.05),
    "bv": Dominance(3, 1.2, 0.04),
    "ue": Dominance(2.5, 1, 0.08),
}
_DEFAULT_DOMINANCE = Dominance()

# Linear measures of the mean ICT head (its expression deltas at the lip landmarks, in cm for a channel at 1).
# The lip gap is exactly linear in the channels; width and protrusion are linearised at a quarter of the range.
#                       jaw    close  funnel  pucker lowDn   upUp  stretch smile  rollL  rollU  press  shrugL tongue
_GAP_CM = np.array([2.892, -3.721, 1.083, -0.129, 0.583, 0.699, -0.036, -0.019, -0.246, 0.158, -0.218, -0.639, 0.0])
_WIDTH_CM = np.array([-0.57, 0.283, -0.683, -0.928, -0.006, 0.036, 1.318, 1.413, 0.067, 0.318, -0.024, 0.139, 0.0])
_PROTRUSION_CM = np.array([0, 0, 0.601, 0.745, 0, 0, -0.222, -0.350, -0.199, -0.318, 0.047, 0, 0.0])
#: Lip gap with all channels at 0: the presenter's head closes its lips at rest (the mean head of the model: 0.081).
NEUTRAL_GAP_CM = 0.0
NEUTRAL_WIDTH_CM = 5.070
#: At full closure the seal presses the lips this far into each other.
SEAL_CM = 0.05

_JAW, _CLOSE, _FUNNEL, _LOWER, _UPPER = (
    CHANNELS.index(c) for c in ("jawOpen", "mouthClose", "mouthFunnel", "LowerDown", "UpperUp")
)
_TONGUE = CHANNELS.index("tongueUp")
TRACKS = (*CHANNELS, "clo")


@dataclass(frozen=True, slots=True)
class Events:
    """The shapes of an utterance laid out in time, one row each."""

    classes: Int8Array
    """[e] index into CLASSES."""
    start: Float64Array
    """[e] seconds."""
    end: Float64Array
    """[e] seconds."""


def events(phones: Sequence[Phone]) -> Events:
    """Every shape of every phone with its own part of the phone's time."""
    classes: list[int] = []
    times: list[tuple[float, float]] = []
    for phone in phones:
        at = phone.start
        for k, shape in enumerate(phone.shapes):
            last = k == len(phone.shapes) - 1
            until = phone.end if last else at + shape.share * (phone.end - phone.start)
            classes.append(CLASSES.index(shape.name))
            times.append((at, until))
            at = until
    start, end = np.array(times, dtype=np.float64).reshape(-1, 2).T
    return Events(np.array(classes, dtype=np.int8), start, end)


def frames_of(phones: Sequence[Phone]) -> int:
    """Video frames that the phones last: ceil(end * 25)."""
    return int(np.ceil(phones[-1].end * FPS - 1e-9))


def _smoothstep(a: float, b: float, x: Float64Array) -> Float64Array:
    t = np.clip((x - a) / (b - a), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def _smooth(tracks: Float64Array) -> Float64Array:
    """Gaussian along time, ends repeated."""
    steps = np.arange(-_SMOOTHING_RADIUS, _SMOOTHING_RADIUS + 1)
    kernel = np.exp(-0.5 * (steps / SMOOTHING_SIGMA) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(tracks, ((_SMOOTHING_RADIUS, _SMOOTHING_RADIUS), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel, "valid") for column in padded.T], axis=1)


def _blend(e: Events, t: Float64Array) -> Float64Array:
    """[t, 13] dominance-weighted mean of the targets at times ``t``."""
    dominance = [DOMINANCE.get(c, _DEFAULT_DOMINANCE) for c in CLASSES]
    lips = np.array([d.lips for d in dominance])[e.classes]
    jaw = np.array([d.jaw for d in dominance])[e.classes]
    reach = np.array([d.reach for d in dominance])[e.classes]
    middle, half = (e.start + e.end) / 2, (e.end - e.start) / 2
    distance = np.maximum(np.abs(t[:, None] - middle) - 0.55 * half, 0) / (reach + 0.35 * half)
    pull = np.exp(-(distance**1.6))
    targets = target_matrix()[e.classes]
    blended = (pull * lips) @ targets / ((pull @ lips)[:, None] + 1e-6)
    blended[:, _JAW] = (pull * jaw) @ targets[:, _JAW] / (pull @ jaw + 1e-6)
    return np.asarray(blended)


def _closure(e: Events, t: Float64Array) -> Float64Array:
    """[t] 0..1: lips sealed. The seal opens 35 ms early and late, so that 25 fps keep one closed frame of a short m."""
    closed = np.isin(e.classes, [CLASSES.index(c) for c in CLOSED])
    if not closed.any():
        return np.zeros(len(t))
    inside = np.minimum(t[:, None] - e.start[closed], e.end[closed] - t[:, None])
    return np.asarray(_smoothstep(-0.035, 0.012, inside).max(axis=1))


def tracks(phones: Sequence[Phone], frames: int | None = None) -> FloatArray:
    """The mouth of an utterance.

    Returns:
        [frames, 14] float32: the 13 CHANNELS before any sealing of the lips, 0..1, then ``clo``, 0 free .. 1 sealed.
    """
    n = frames_of(phones) if frames is None else frames
    t = (np.arange(n * OVERSAMPLING) + 0.5) / (FPS * OVERSAMPLING) + LEAD
    e = events(phones)
    both = np.concatenate([_smooth(_blend(e, t)), _closure(e, t)[:, None]], axis=1)
    return both[KEPT::OVERSAMPLING][:n].astype(np.float32)


def frame_times(frames: int, lead: float = LEAD) -> Float64Array:
    """[frames] seconds of sound that the mouth of each frame belongs to; ``lead=0``: the sound of the frame itself."""
    return np.asarray((np.arange(frames) * OVERSAMPLING + KEPT + 0.5) / (FPS * OVERSAMPLING) + lead)


def classes(phones: Sequence[Phone], frames: int | None = None, lead: float = LEAD) -> Int8Array:
    """[frames] int8 index into CLASSES at the time of each frame; rest beyond the last phone."""
    e = events(phones)
    t = frame_times(frames_of(phones) if frames is None else frames, lead)
    at = np.clip(np.searchsorted(e.start, t, side="right") - 1, 0, len(e.start) - 1)
    inside = (t < e.end[at]) & (t >= e.start[0])
    return np.where(inside, e.classes[at], CLASSES.index(REST)).astype(np.int8)


def rest(phones: Sequence[Phone], frames: int | None = None, lead: float = LEAD) -> npt.NDArray[np.bool_]:
    """[frames] bool: nobody speaks, for at least REST_SECONDS (pauses next to each other count as one)."""
    t = frame_times(frames_of(phones) if frames is None else frames, lead)
    flags = np.zeros(len(t), dtype=bool)
    start = None
    for phone in [*phones, None]:
        silent = phone is not None and all(s.name == REST for s in phone.shapes)
        if silent and start is None and phone is not None:
            start = phone.start
        elif not silent and start is not None:
            end = phone.start if phone is not None else np.inf
            if end - start >= REST_SECONDS:
                flags |= (t >= start) & (t < end)
            start = None
    return flags


def sealed(track: FloatArray, neutral_gap: float = NEUTRAL_GAP_CM) -> FloatArray:
    """The channels as a face shows them: [n, 14] tracks -> [n, 13] with the lips sealed where ``clo`` says so.

    Closure takes away funnel and lip retraction, and ``mouthClose`` grows until the lips press SEAL_CM into each other;
    elsewhere lips may touch but not overlap. ``neutral_gap`` (cm) is the head's lip gap with all channels at 0.
    """
    channels, clo = track[:, :13].astype(np.float64), track[:, 13].astype(np.float64)
    clo = np.where(clo > 0.02, clo, 0.0)
    channels[:, _FUNNEL] *= 1 - 0.8 * clo
    channels[:, [_LOWER, _UPPER]] *= (1 - clo)[:, None]
    gap = channels @ _GAP_CM + neutral_gap
    seal = np.where(clo > 0, clo * np.maximum(0, gap + SEAL_CM) / 3.82, np.minimum(gap, 0) / 3.82)
    channels[:, _CLOSE] += seal
    return channels.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Measures:
    """Continuous measures of the mouth, one value a frame; cm are those of the mean ICT head."""

    gap: FloatArray
    """[n] opening between the inner lips, cm; 0 or less is closed."""
    width: FloatArray
    """[n] distance of the mouth corners, cm."""
    rounding: FloatArray
    """[n] how far the lips stand out, cm."""
    teeth: FloatArray
    """[n] 0..1: lips drawn back from the teeth."""
    tongue: FloatArray
    """[n] 0..1: tip of the tongue raised."""

    def stack(self) -> FloatArray:
        """[n, 5] in the order of the fields."""
        return np.stack([self.gap, self.width, self.rounding, self.teeth, self.tongue], axis=1)


def measures(track: FloatArray, neutral_gap: float = NEUTRAL_GAP_CM) -> Measures:
    """Measures of [n, 14] tracks, after sealing."""
    channels = sealed(track, neutral_gap)
    return Measures(
        gap=(channels @ _GAP_CM + neutral_gap).astype(np.float32),
        width=(channels @ _WIDTH_CM + NEUTRAL_WIDTH_CM).astype(np.float32),
        rounding=(channels @ _PROTRUSION_CM).astype(np.float32),
        teeth=np.clip((channels[:, _LOWER] + channels[:, _UPPER]) / 0.5, 0, 1).astype(np.float32),
        tongue=channels[:, _TONGUE].astype(np.float32),
    )
