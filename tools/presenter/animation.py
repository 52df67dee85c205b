"""How a person moves: lips by the mouth-shape table, everything else as people do while they speak and listen.

The mouth depends on the phones alone, so that its truth is known and a network can learn it. Head, eyes, lids and brows
are drifts and events of random times; they never repeat.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lipwright.contract import FPS, FloatArray
from tools.presenter.arrays import f32
from tools.presenter.figure import TONGUE_UP, Figure
from tools.presenter.mesh import smoothstep
from tools.presenter.motion import Motion
from tools.presenter.noise import drift
from tools.speech import articulation
from tools.speech.phones import CHANNELS, Phone

#: Channels of these beginnings belong to the mouth: a paired film replaces them and nothing else.
_MOUTH = ("jaw", "mouth", TONGUE_UP)
#: Vowels that carry stress when they are long (seconds).
_STRESSED = frozenset({"aa", "ao", "ae", "ow", "uw", "eh", "iy"})
_STRESS_SECONDS = 0.09
#: Seconds a lid needs to close, stays closed, and needs to open.
_CLOSING, _CLOSED, _OPENING = 0.09, 0.03, 0.19
#: Mean and shortest time between blinks, seconds.
_BLINK_MEAN, _BLINK_MIN = 3.4, 0.9
#: Pitch of the eyes that look into the camera while the head is straight, radians.
_TO_CAMERA = 0.02
#: Gaze (radians) that takes the model's lids all the way.
_LID_RANGE = 0.40
#: Upper lids hang this much, and closed ones press together this much (strength of the blink).
_DROOP, _LID_PRESS = 0.03, 0.04


def mouth(figure: Figure, phones: Sequence[Phone], frames: int) -> FloatArray:
    """[frames, channels] weights of jaw, lips and tongue, on top of the face's own expression."""
    rest = figure.vector(dict(figure.person.rest))
    neutral = float(figure.lip_gap(rest))
    sealed = articulation.sealed(articulation.tracks(phones, frames), neutral)
    weights = np.repeat(rest[None], frames, axis=0)
    lopsided = figure.person.lopsided / 2
    for track, name in zip(sealed.T, CHANNELS, strict=True):
        for channel, gain in _sides(name, lopsided):
            weights[:, figure.channels.index(channel)] += gain * track
    return weights


def _sides(name: str, lopsided: float) -> list[tuple[str, float]]:
    """Channels of the head that a channel of the table drives, and how strongly."""
    if not name[0].isupper():
        return [(name, 1.0)]
    return [(f"mouth{name}_L", 1 + lopsided), (f"mouth{name}_R", 1 - lopsided)]


def stress(phones: Sequence[Phone], frames: int) -> FloatArray:
    """[frames] 0..1: how much a syllable is stressed, smooth."""
    found = np.zeros(frames, np.float32)
    for p in phones:
        if p.symbol in _STRESSED and p.end - p.start > _STRESS_SECONDS:
            found[int(p.start * FPS) : int(p.end * FPS) + 1] = 1
    return _smooth(found, 2.5)


def speaking(phones: Sequence[Phone], frames: int) -> FloatArray:
    """[frames] 0 listening .. 1 speaking, over about a second."""
    return _smooth(1 - articulation.rest(phones, frames).astype(np.float32), 14)


def _smooth(values: FloatArray, sigma: float) -> FloatArray:
    radius = int(3 * sigma) + 1
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.convolve(np.pad(values, radius, mode="edge"), kernel / kernel.sum(), "valid").astype(np.float32)


def head(rng: np.random.Generator, active: FloatArray, accent: FloatArray) -> FloatArray:
    """[N, 3] rotation vectors: pitch (down), yaw (left), roll; slow drifts, livelier while speaking, nods on stress."""
    n, lively = len(active), 0.35 + 0.65 * active
    slow = np.stack([drift(rng, n, 0.02, 0.14) for _ in range(3)], axis=1) * f32([0.020, 0.034, 0.016])
    quick = np.stack([drift(rng, n, 0.15, 0.75) for _ in range(3)], axis=1) * f32([0.014, 0.018, 0.010])
    turn = slow * (0.5 + 0.5 * active)[:, None] + quick * lively[:, None]
    nods = accent * (0.7 + 0.5 * drift(rng, n, 0.05, 0.4))
    turn[:, 0] += 0.026 * nods * active + 0.015
    return np.asarray(turn, dtype=np.float32)


def breathing(rng: np.random.Generator, frames: int) -> FloatArray:
    """[frames] 0..1: breaths of about four seconds, none like the other; in is quicker than out."""
    rate = 0.25 * (1 + 0.16 * drift(rng, frames, 0.01, 0.1))
    phase = (np.cumsum(rate) / FPS + rng.random()) % 1
    inward = 0.42
    height = np.where(phase < inward, phase / inward, (1 - phase) / (1 - inward))
    return np.asarray(smoothstep(0, 1, height) * (0.8 + 0.15 * drift(rng, frames, 0.02, 0.15)).clip(0.4, 1.1))


def blinks(rng: np.random.Generator, frames: int) -> FloatArray:
    """[frames] 0 open .. 1 closed."""
    t = (np.arange(frames) + 0.5) / FPS
    closed, at = np.zeros(frames, np.float32), float(rng.uniform(0.6, 2.5))
    while at < frames / FPS:
        depth = float(rng.uniform(0.94, 1.0))
        shut = smoothstep(at, at + _CLOSING, t)
        opens = smoothstep(at + _CLOSING + _CLOSED, at + _CLOSING + _CLOSED + _OPENING, t)
        closed = np.maximum(closed, depth * shut * (1 - opens))
        again = 0.4 if rng.random() < 0.08 else _BLINK_MIN + float(rng.gamma(1.6, (_BLINK_MEAN - _BLINK_MIN) / 1.6))
        at += again
    return closed.astype(np.float32)


def gaze(rng: np.random.Generator, active: FloatArray, turn: FloatArray) -> FloatArray:
    """[N, 2] yaw and pitch of the eyes in the head: they hold the camera, and while speaking glance aside."""
    n = len(active)
    target = np.zeros((n, 2), np.float32)
    at = 0
    while at < n:
        aside = rng.random() < 0.16 * active[at]
        spread = (0.085, 0.045) if aside else (0.010, 0.007)
        length = round(FPS * float(rng.uniform(0.35, 0.9) if aside else 0.3 + rng.gamma(1.5, 0.5)))
        target[at : at + length] = rng.normal(0, spread)
        at += length
    # a saccade lasts a frame or two
    target[1:] = 0.75 * target[1:] + 0.25 * target[:-1]
    tremor = np.stack([drift(rng, n, 0.2, 1.5) for _ in range(2)], axis=1) * np.float32(0.0025)
    still = np.stack([-turn[:, 1], -turn[:, 0]], axis=1) * 0.92
    return np.asarray(target + tremor + still + f32([0, _TO_CAMERA]), dtype=np.float32)


def lids_and_brows(
    rng: np.random.Generator, figure: Figure, accent: FloatArray, eyes: FloatArray
) -> dict[str, FloatArray]:
    """[N] of each channel that is not the mouth's: lids follow the gaze and blink, brows follow stress."""
    n = len(accent)
    closed = blinks(rng, n)
    lift = (0.16 * accent * (0.6 + 0.6 * drift(rng, n, 0.05, 0.3)) + 0.035 * drift(rng, n, 0.03, 0.25)).clip(0, 0.5)
    lower = (0.05 * drift(rng, n, 0.03, 0.2)).clip(0, 0.2)
    down, up = (eyes[:, 1] / _LID_RANGE).clip(0, 1), (-eyes[:, 1] / _LID_RANGE).clip(0, 1)
    channels: dict[str, FloatArray] = {}
    for side, towards in (("L", 1), ("R", -1)):
        aside = towards * eyes[:, 0] / _LID_RANGE
        channels |= {
            f"eyeBlink_{side}": _DROOP + (figure.closing(side) + _LID_PRESS - _DROOP) * closed,
            f"eyeLookDown_{side}": down * (1 - closed),
            f"eyeLookUp_{side}": up * (1 - closed),
            f"eyeLookOut_{side}": aside.clip(0, 1),
            f"eyeLookIn_{side}": (-aside).clip(0, 1),
            f"browInnerUp_{side}": lift * (1.0 if side == "L" else 0.9),
            f"browOuterUp_{side}": 0.7 * lift * (0.85 if side == "L" else 1.0),
            f"browDown_{side}": lower + 0.05 * closed,
        }
    return channels


def perform(figure: Figure, phones: Sequence[Phone], frames: int, seed: int) -> Motion:
    """All motion of a clip; the same for the same seed."""
    rng = np.random.default_rng((seed, 3))
    accent, active = stress(phones, frames), speaking(phones, frames)
    turn = head(rng, active, accent)
    eyes = gaze(rng, active, turn)
    weights = mouth(figure, phones, frames)
    for name, values in lids_and_brows(rng, figure, accent, eyes).items():
        weights[:, figure.channels.index(name)] += values
    breath = breathing(rng, frames)
    sway = np.stack([drift(rng, frames, 0.02, 0.2) for _ in range(3)], axis=1) * f32([0.30, 0.06, 0.28])
    sway[:, 1] += 0.10 * breath
    exposure = 1 + 0.010 * drift(rng, frames, 0.02, 0.2)
    return Motion(weights, eyes, turn, sway.astype(np.float32), breath.astype(np.float32), exposure.astype(np.float32))


def redubbed(figure: Figure, motion: Motion, phones: Sequence[Phone], frames: int) -> Motion:
    """The first ``frames`` of a motion with the mouth of other phones."""
    lips = np.array([c.startswith(_MOUTH) for c in figure.channels])
    weights = np.where(lips, mouth(figure, phones, frames), motion.weights[:frames])
    return Motion(**{**motion.tracks(slice(frames)), "weights": weights.astype(np.float32)})
