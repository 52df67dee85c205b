"""What can be wrong with a film, where it is, and what it means for the avatar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from lipwright.contract import FPS

BoolArray = npt.NDArray[np.bool_]

#: Seconds with a usable face below which training has too little to learn from.
SHORTEST = 20.0
#: Seconds below which nothing makes an avatar better than more of the same film.
LITTLE = 90.0


class Kind(StrEnum):
    """A kind of problem. Names are stable: they stand in the manifest."""

    NO_FACE = "no face"
    SEVERAL_FACES = "several faces"
    PROFILE = "profile"
    COVERED = "mouth covered"
    OUTSIDE = "mouth outside the picture"
    CUT = "scene cut"
    BLUR = "blur"
    BURNT = "over-exposed"
    DARK = "too dark"
    SMALL = "face too small"
    NO_SOUND = "no sound"
    MUSIC = "music"
    OTHER_VOICE = "second voice"
    CLIPPED = "sound clipped"
    APART = "lips and sound apart"
    UNRELATED = "lips and sound do not match"
    SHORT = "too short"


#: What to do about each kind the next time, for somebody who never filmed anything.
ADVICE = {
    Kind.NO_FACE: "Stay in the picture, facing the camera, from the first second to the last.",
    Kind.SEVERAL_FACES: "Be alone in the picture; posters and mirrors count too. Or choose the face with --face.",
    Kind.PROFILE: "Look into the camera. Small turns of the head are fine, a side view is not.",
    Kind.COVERED: "Keep hands, cups, hair and microphones away from the mouth.",
    Kind.OUTSIDE: "Keep the whole head in the picture, chin included, from the first second to the last.",
    Kind.CUT: "Film in one go, without cutting. The avatar uses one uncut stretch at a time.",
    Kind.BLUR: "Fix the camera on a stand, set the focus on the eyes, move slowly, and turn on more light.",
    Kind.BURNT: "Take away light from the face or lower the exposure until the skin shows no white patches.",
    Kind.DARK: "Put a lamp or a window in front of you, not behind you.",
    Kind.SMALL: "Go nearer or film in a higher resolution: the face should be 320 pixels wide or more.",
    Kind.NO_SOUND: "Film with a microphone, or give the recording with --audio.",
    Kind.MUSIC: "Film in a quiet room: no music, no television, no humming machine.",
    Kind.OTHER_VOICE: "Nobody else should speak while you film, not even off camera.",
    Kind.CLIPPED: "Turn the microphone down, or move away from it.",
    Kind.APART: "Record sound and picture with the same device, or give the sound with --audio.",
    Kind.UNRELATED: "Check that the sound belongs to this film and begins with it. If it does: a quieter room, the "
    "microphone nearer, the face straight to the camera.",
    Kind.SHORT: "Film two to five minutes of speech; 20 seconds are the least.",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One stretch of the film with one thing wrong."""

    kind: Kind
    start: int
    """First frame, at 25 a second."""
    stop: int
    """One after the last frame."""
    left_out: bool
    """Whether these frames are shown as they are, without a new mouth, and not learnt from."""
    detail: str = ""
    """What was found and done, in a sentence without its full stop."""

    @property
    def when(self) -> str:
        """The stretch as a reader of minutes and seconds sees it; a cut has only one moment."""
        first = clock(self.start)
        return first if self.kind is Kind.CUT else f"{first} - {clock(self.stop)}"

    def sentence(self) -> str:
        """All of it on one line."""
        what = f"{self.when} {self.kind}"
        return f"{what}: {self.detail}" if self.detail else what


def clock(frame: int) -> str:
    """Frame as minutes:seconds.tenths."""
    minutes, tenths = divmod(frame * 10 // FPS, 600)
    return f"{minutes}:{tenths // 10:02d}.{tenths % 10}"


def stretches(mask: BoolArray, join: int = 0, least: int = 1) -> list[tuple[int, int]]:
    """Runs of True as (first, stop).

    Args:
        mask: [N].
        join: runs with at most so many frames between them are one.
        least: shorter runs, after joining, are left out.
    """
    runs: list[tuple[int, int]] = []
    for first, stop in _runs(mask):
        if runs and first - runs[-1][1] <= join:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((first, stop))
    return [(first, stop) for first, stop in runs if stop - first >= least]


def covered_by(runs: Sequence[tuple[int, int]], frames: int) -> BoolArray:
    """[frames] True inside any of the runs (first, stop)."""
    mask = np.zeros(frames, bool)
    for first, stop in runs:
        mask[first:stop] = True
    return mask


def _runs(mask: BoolArray) -> Iterator[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return ((int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True))
