"""From what was seen and heard to what is used: scene cuts, the one face, the usable frames, and every problem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lipwright.contract import FPS, SAMPLES_PER_FRAME, FloatArray
from lipwright.face import MESH_POINTS, POSE_POINTS, head_pose, lip_gap, lip_points, moved, rect_box, smooth_rects
from lipwright.prepare.film import Seen
from lipwright.prepare.offset import UNKNOWN, UNRELATED, Offset, estimate_offset, high_passed
from lipwright.prepare.problems import SHORTEST, BoolArray, Kind, Problem, covered_by, stretches
from lipwright.prepare.sound import Sound

DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]

#: A cut: thumbnails differ by this many grey levels, and so many times more than around.
CUT_STEP = 3.0
CUT_RATIO = 4.0
#: A jump cut: the head moves by this share of its width from one frame to the next, so many times more than around.
HEAD_JUMP = 0.06
#: Degrees to the side, as the mesh measures them, from which half the mouth is hidden. The mesh says 36 of true 50.
PROFILE_YAW = 33.0
#: Face width in pixels below which there is too little to learn from.
SMALLEST_FACE = 160
#: Sharpness below which a face is soft whatever the film is like, and the share of the film's own that counts as blur.
SOFT = 0.17
BLUR_SHARE = 0.55
#: Share of burnt-out pixels, and median brightness, from which a face is over-exposed or too dark.
BURNT_SHARE = 0.12
DARKEST = 40.0
#: Share of the lips' usual redness (see `looks.Looks`) that speech does not fall below, and the least usual redness
#: that tells anything.
PALE_LIPS = 0.4
LEAST_REDNESS = 3.0
#: As red as this is what lies before a mouth, on average.
NO_LIPS = 1.0
_NEVER_RED = "maybe: the lips are hardly redder than the skin around them, so nobody can tell; it is used all the same"
#: A second face smaller than this share of the chosen one does not matter.
OTHER_FACE = 0.4
#: Heads whose shapes differ by less than this, in shares of their size, can be one person's: halves of a film by 0.002
#: to 0.017, different people by 0.037 to 0.080 (DECISIONS.md, "Does another scene show the same person?").
SAME_HEAD = 0.03
#: Meshes of which a head's shape is the median.
_MESHES = 50
#: Lips that move less than this (standard deviation of the gap over a second, shares of the face's height) are still.
STILL_LIPS = 0.0025
#: Fewest frames of voice over still lips that are somebody else's: words may hide behind closed teeth for a second.
OTHER_VOICE_FRAMES = 2 * FPS
#: Unusable frames in a row that the template may walk through; longer ones end its segment.
LONGEST_GAP = 10
#: Frames to both sides of a fault that are left out with it: it comes and goes over a few.
MARGIN = 2


@dataclass(frozen=True)
class Judged:
    """What is used of a film of N frames, and what is not."""

    landmarks: FloatArray
    """[N, 468, 3] of the chosen face; NaN in frames that are not used."""
    rects: IntArray
    """[N, 4]; four times -1 in frames that are not used."""
    segments: list[tuple[int, int]]
    """Stretches (first, stop) without a cut and without a long gap."""
    start_frame: int
    """Where the template begins: the first usable frame of the longest segment."""
    offset: Offset
    """How far lips and sound are apart."""
    move: int
    """Frames by which the sound is moved to mend that; positive: later."""
    face_width: float
    """Median width of the face in pixels; NaN without one."""
    problems: list[Problem] = field(default_factory=list)
    """By time."""

    @property
    def usable(self) -> BoolArray:
        """[N] frames that get a new mouth."""
        return np.asarray(self.rects[:, 0] >= 0)


@dataclass(frozen=True, slots=True)
class _Person:
    """The chosen face in every frame; NaN where it is not there."""

    landmarks: FloatArray
    """[N, 468, 3]."""
    looks: FloatArray
    """[N, 4]."""
    rows: npt.NDArray[np.int64]
    """[N] its sighting, or -1."""
    others: BoolArray
    """[N] frames with another face of some size."""


def judge(seen: Seen, sound: Sound | None, size: tuple[int, int], face: int | None = None) -> Judged:
    """Decide what is used.

    Args:
        seen: the walk over the film.
        sound: None when there is none.
        size: height and width of the pictures.
        face: which face to use, counted from the left of the picture from 1; None: the one that speaks. Scenes with
            fewer faces are left out: whoever is alone in one need not be the one that was meant.
    """
    frames = len(seen.thumbs)
    audible = sound if sound is not None and not sound.silent else None
    cuts = find_cuts(seen, frames)
    seen = _reunited(seen, cuts, frames)
    person = _choose_person(seen, cuts, audible, face, frames)
    problems = [
        Problem(Kind.CUT, cut, cut + 1, False, "the picture or the head jumps: a new scene begins") for cut in cuts
    ]
    problems += _picture_problems(person, face, size)
    usable = ~np.isnan(person.landmarks[:, 0, 0]) & ~_left_out(problems, frames)
    landmarks = np.where(usable[:, None, None], person.landmarks, np.nan).astype(np.float32)
    rects = smooth_rects(rect_box(landmarks), *size, cuts)
    offset = UNKNOWN if audible is None else estimate_offset(landmarks, audible.samples)
    # Less than a frame is what the estimate itself may be wrong by.
    move = round(offset.frames) if offset.sure and abs(offset.frames) >= 1 else 0
    problems += _sound_problems(sound, landmarks, move, frames) + _offset_problem(offset, move, frames)
    usable = rects[:, 0] >= 0
    if usable.sum() < SHORTEST * FPS:
        detail = f"{usable.sum() / FPS:.1f} s of it can be used, {SHORTEST:.0f} s are the least"
        problems.append(Problem(Kind.SHORT, 0, frames, False, detail))
    segments = _segments(usable, cuts)
    longest = max(segments, key=lambda s: (int(usable[s[0] : s[1]].sum()), -s[0]), default=(0, 0))
    return Judged(
        landmarks=np.where(usable[:, None, None], landmarks, np.nan).astype(np.float32),
        rects=rects,
        segments=segments,
        start_frame=longest[0],
        offset=offset,
        move=move,
        face_width=float(np.median(rects[usable, 2] - rects[usable, 0])) if usable.any() else float("nan"),
        problems=sorted(problems, key=lambda problem: (problem.start, problem.stop, problem.kind)),
    )


# --- scenes ---------------------------------------------------------------------------------------------------------
def find_cuts(seen: Seen, frames: int) -> list[int]:
    """Frames at which a new scene begins; a flash of light is none."""
    thumbs = seen.thumbs.astype(np.int16)
    steps = np.abs(np.diff(thumbs, axis=0)).mean((1, 2, 3))
    across = np.abs(thumbs[2:] - thumbs[:-2]).mean((1, 2, 3))
    return sorted({*_sudden(steps, across, CUT_STEP), *_head_jumps(seen, frames)})


def _sudden(steps: DoubleArray, across: DoubleArray, least: float) -> Iterator[int]:
    """Frames whose step from the one before is large, stands out of its neighbours, and is not taken back at once."""
    for k, step in enumerate(steps):
        around = np.concatenate([steps[max(0, k - 6) : k], steps[k + 1 : k + 7]])
        usual = float(np.percentile(around, 75)) if len(around) else 0.0
        # across[k] goes from the frame before the step to the one after it, across[k - 1] from one frame earlier.
        back = [across[j] < 0.5 * step for j in (k - 1, k) if 0 <= j < len(across)]
        if step > least and step > CUT_RATIO * usual and not any(back):
            yield k + 1


def _head_jumps(seen: Seen, frames: int) -> list[int]:
    """Frames at which the face seen most is suddenly elsewhere though the scene is the same: a part was cut out."""
    if not len(seen.slot):
        return []
    rows = np.flatnonzero(seen.slot == np.bincount(seen.slot).argmax())
    boxes = np.full((frames, 3), np.nan)
    boxes[seen.frame[rows]] = rect_box(seen.landmarks[rows])
    place = boxes[:, :2] / np.nanmedian(boxes[:, 2])
    steps = np.nan_to_num(np.linalg.norm(np.diff(place, axis=0), axis=1))
    across = np.nan_to_num(np.linalg.norm(place[2:] - place[:-2], axis=1), nan=np.inf)
    return list(_sudden(steps, across, HEAD_JUMP))


def _segments(usable: BoolArray, cuts: Sequence[int]) -> list[tuple[int, int]]:
    """Stretches without a cut that begin and end with a usable frame and hold no long gap; no mere blinks."""
    found = []
    for first, stop in pairwise([0, *cuts, len(usable)]):
        runs = stretches(usable[first:stop], join=LONGEST_GAP, least=LONGEST_GAP)
        found += [(first + a, first + b) for a, b in runs]
    return found


# --- the person -----------------------------------------------------------------------------------------------------
def _reunited(seen: Seen, cuts: Sequence[int], frames: int) -> Seen:
    """The same, where who is lost and found in another place of a scene has one number again.

    Two numbers are one face if they are never seen at the same time, the face has the same shape, and no third one
    comes into question.
    """
    slot = seen.slot.copy()
    for _, inside in _scenes(seen, cuts, frames):
        known: dict[int, npt.NDArray[np.int64]] = {}
        members = _members(seen, inside)
        for number in sorted(members, key=lambda number: int(members[number][0])):
            rows = members[number]
            alike = [other for other in known if _may_be_one(seen, rows, known[other])]
            owner = alike[0] if len(alike) == 1 else number
            known[owner] = np.sort(np.concatenate([known.get(owner, rows[:0]), rows]))
            slot[rows] = owner
    return replace(seen, slot=slot)


def _may_be_one(seen: Seen, rows: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> bool:
    """Whether the sightings of two faces can be of one."""
    if np.isin(seen.frame[rows], seen.frame[others]).any():
        return False
    mine, theirs = (_head_shape(seen.landmarks[each]) for each in (rows, others))
    return float(np.linalg.norm(moved(mine, mine, theirs) - theirs)) < SAME_HEAD


def _head_shape(landmarks: FloatArray) -> DoubleArray:
    """[P, 3] what the mouth does not move, the median of many meshes [m, 468, 3] turned alike; size 1."""
    still = landmarks[:: max(1, len(landmarks) // _MESHES), POSE_POINTS].astype(np.float64)
    middle = np.median([moved(mesh, mesh, still[0]) for mesh in still], axis=0)
    middle -= middle.mean(axis=0)
    return np.asarray(middle / np.linalg.norm(middle))


def _choose_person(seen: Seen, cuts: Sequence[int], sound: Sound | None, face: int | None, frames: int) -> _Person:
    """In every scene one face: the one asked for, where there is one, or the one that speaks, or the largest."""
    landmarks = np.full((frames, MESH_POINTS, 3), np.nan, np.float32)
    looks = np.full((frames, 4), np.nan, np.float32)
    rows, others = np.full(frames, -1), np.zeros(frames, bool)
    for scene, inside in _scenes(seen, cuts, frames):
        if face is None:
            slot = _speaking_slot(seen, inside, scene, sound)
        elif face <= len(lasting := _lasting(seen, inside)):
            slot = lasting[face - 1]
        else:
            continue
        mine = inside[seen.slot[inside] == slot]
        rows[seen.frame[mine]] = mine
        landmarks[seen.frame[mine]], looks[seen.frame[mine]] = seen.landmarks[mine], seen.looks[mine]
        size = np.median(_sizes(seen, mine))
        rest = inside[seen.slot[inside] != slot]
        others[seen.frame[rest[_sizes(seen, rest) > OTHER_FACE * size]]] = True
    return _Person(landmarks, looks, rows, others)


def most_faces(seen: Seen) -> int:
    """How many faces are seen at a time in the scene with most of them: what ``judge`` can be asked for."""
    frames = len(seen.thumbs)
    cuts = find_cuts(seen, frames)
    seen = _reunited(seen, cuts, frames)
    lasting = max((len(_lasting(seen, inside)) for _, inside in _scenes(seen, cuts, frames)), default=0)
    # Somebody who comes back in another place and is not known again is no second face.
    return min(lasting, int(np.bincount(seen.frame, minlength=1).max()))


def _scenes(seen: Seen, cuts: Sequence[int], frames: int) -> Iterator[tuple[tuple[int, int], npt.NDArray[np.int64]]]:
    """Scenes (first, stop) in which a face is seen, each with its sightings."""
    for first, stop in pairwise([0, *cuts, frames]):
        inside = np.flatnonzero((seen.frame >= first) & (seen.frame < stop))
        if len(inside):
            yield (first, stop), inside


def _sizes(seen: Seen, rows: npt.NDArray[np.int64]) -> DoubleArray:
    return rect_box(seen.landmarks[rows])[:, 2]


def _members(seen: Seen, inside: npt.NDArray[np.int64]) -> dict[int, npt.NDArray[np.int64]]:
    """The sightings ``inside`` by face."""
    return {slot: inside[seen.slot[inside] == slot] for slot in sorted(set(seen.slot[inside].tolist()))}


def _lasting(seen: Seen, inside: npt.NDArray[np.int64]) -> list[int]:
    """Faces from left to right; a glimpse of a passer-by must not change who is second."""
    members = _members(seen, inside)
    longest = max(map(len, members.values()))
    lasting = [slot for slot, rows in members.items() if len(rows) >= 0.2 * longest]
    return sorted(lasting, key=lambda slot: float(np.median(rect_box(seen.landmarks[members[slot]])[:, 0])))


def _speaking_slot(seen: Seen, inside: npt.NDArray[np.int64], scene: tuple[int, int], sound: Sound | None) -> int:
    """The face that speaks in a scene whose sightings are ``inside``, or the largest."""
    members = _members(seen, inside)
    weight = {slot: float(np.median(_sizes(seen, rows)) * len(rows)) for slot, rows in members.items()}
    rivals = [slot for slot in members if weight[slot] >= OTHER_FACE**2 * max(weight.values())]
    if sound is None or len(rivals) == 1:
        return max(rivals, key=lambda slot: weight[slot])
    heard = sound
    return max(rivals, key=lambda slot: _speaks(seen, members[slot], scene, heard))


def _speaks(seen: Seen, rows: npt.NDArray[np.int64], scene: tuple[int, int], sound: Sound) -> tuple[float, float]:
    """How well a face's lips go with the sound, and, where that says nothing, how much they move."""
    first, stop = scene
    landmarks = np.full((stop - first, MESH_POINTS, 3), np.nan, np.float32)
    landmarks[seen.frame[rows] - first] = seen.landmarks[rows]
    heard = sound.samples[first * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME]
    offset = estimate_offset(landmarks, heard)
    motion = float(np.nanstd(high_passed(lip_gap(landmarks)[:, None])))
    return (offset.r if offset.r > 0.2 else 0.0, motion)


# --- problems -------------------------------------------------------------------------------------------------------
def _picture_problems(person: _Person, face: int | None, size: tuple[int, int]) -> list[Problem]:
    frames = len(person.rows)
    there = person.rows >= 0
    missing = "nobody is seen" if face in (None, 1) else f"face {face} from the left is not seen"
    problems = [Problem(Kind.NO_FACE, a, b, True, missing) for a, b in stretches(~there, join=2)]
    for a, b in stretches(person.others, join=FPS, least=3):
        where = "the one whose lips go with the sound, or the one asked for, is used"
        problems.append(Problem(Kind.SEVERAL_FACES, a, b, False, where))
    sharp, burnt, bright, red = person.looks.T
    sharpness, redness = float(np.nanmedian(sharp)) if there.any() else 0.0, _usual_redness(red)
    yaw = np.array([head_pose(points).yaw if ok else 0.0 for points, ok in zip(person.landmarks, there, strict=True)])
    with np.errstate(invalid="ignore"):  # NaN, where there is no face, is no fault
        faults: list[tuple[Kind, BoolArray, str]] = [
            (Kind.PROFILE, np.abs(yaw) > PROFILE_YAW, "the head is turned too far to the side"),
            (Kind.COVERED, (red < PALE_LIPS * redness) & (redness > 0), "something is before the mouth"),
            (Kind.OUTSIDE, _mouth_outside(person.landmarks, size), "the lips lie beyond its edge"),
            (Kind.BLUR, (sharp < BLUR_SHARE * sharpness) | (sharp < SOFT), "the face is not sharp"),
            (Kind.BURNT, burnt > BURNT_SHARE, "parts of the face are plain white"),
            (Kind.DARK, bright < DARKEST, "the face is hardly lit"),
            (Kind.SMALL, rect_box(person.landmarks)[:, 2] < SMALLEST_FACE, f"less than {SMALLEST_FACE} pixels wide"),
        ]
    if there.any() and not redness:
        problems.append(Problem(Kind.COVERED, 0, frames, False, _NEVER_RED))
    # A side view is pale, narrow and soft for one reason: it is told once.
    profile = covered_by([(max(0, a - MARGIN), b + MARGIN) for a, b in stretches(faults[0][1])], frames)
    for kind, mask, detail in faults:
        problems += _fault(kind, mask & ((kind is Kind.PROFILE) | ~profile), detail, int(there.sum()), frames)
    return problems


def _usual_redness(red: npt.NDArray[np.floating]) -> float:
    """How red lips are that nothing hides, from the redness in every frame; 0 where they never are."""
    if not np.isfinite(red).any():
        return 0.0
    middle, reddest = np.nanpercentile(red, [50, 90])
    if middle > LEAST_REDNESS:
        return float(middle)
    # Do most frames show no lips at all, and others do? Lips that are pale now and then lie in between.
    hidden = red[red < PALE_LIPS * reddest]
    apart = reddest > 2 * LEAST_REDNESS and len(hidden) > 0 and np.median(hidden) < NO_LIPS
    return float(reddest) if apart else 0.0


def _mouth_outside(landmarks: FloatArray, size: tuple[int, int]) -> BoolArray:
    """[N] frames whose lips are not wholly in the picture: the mesh goes on beyond its edge."""
    points, (height, width) = lip_points(landmarks), size
    return np.asarray(((points < 0) | (points > (width, height))).any(axis=(1, 2)))


def _fault(kind: Kind, mask: BoolArray, detail: str, there: int, frames: int) -> list[Problem]:
    """Stretches of a fault. One that most of the film has is how the film is: it is told, and the frames are used."""
    runs = stretches(mask, join=5, least=2)
    throughout = kind not in (Kind.PROFILE, Kind.COVERED, Kind.OUTSIDE) and mask.sum() > 0.5 * there
    if throughout:
        return [
            Problem(kind, a, b, False, f"{detail}; it is used all the same, as most of the film is so") for a, b in runs
        ]
    return [Problem(kind, max(0, a - MARGIN), min(frames, b + MARGIN), True, detail) for a, b in runs]


def _left_out(problems: Sequence[Problem], frames: int) -> BoolArray:
    return covered_by([(p.start, p.stop) for p in problems if p.left_out], frames)


def _sound_problems(sound: Sound | None, landmarks: FloatArray, move: int, frames: int) -> list[Problem]:
    if sound is None or sound.silent:
        return [Problem(Kind.NO_SOUND, 0, frames, False, "without speech the avatar cannot be trained")]
    problems = []
    end = min(frames, int(sound.seconds * FPS))
    if frames - end > FPS // 2:
        problems.append(Problem(Kind.NO_SOUND, end, frames, False, "the sound ends before the film"))
    for a, b in stretches(sound.clipped, join=FPS):
        problems.append(Problem(Kind.CLIPPED, a, b, False, "the recording was too loud"))
    for a, b in stretches(sound.music(), join=FPS):
        problems.append(Problem(Kind.MUSIC, a, b, False, "tones go on where the voice pauses"))
    others = sound.voice() & _still(landmarks, move)
    for a, b in stretches(others, join=FPS // 5, least=OTHER_VOICE_FRAMES):
        problems.append(Problem(Kind.OTHER_VOICE, a, b, False, "somebody is heard while these lips are still"))
    return problems


def _still(landmarks: FloatArray, move: int) -> BoolArray:
    """[N] frames around which the lips do not move for a second, on the clock of the sound as it was recorded."""
    gaps = np.roll(lip_gap(landmarks), -move)
    span = np.pad(gaps, FPS // 2, constant_values=np.nan)
    views = np.lib.stride_tricks.sliding_window_view(span, FPS // 2 * 2 + 1)
    known = np.isfinite(views).sum(1) > FPS // 2
    still = np.zeros(len(gaps), bool)
    still[known] = np.nanstd(views[known], axis=1) < STILL_LIPS
    return still


def _offset_problem(offset: Offset, move: int, frames: int) -> list[Problem]:
    if offset.strange:
        detail = (
            f"at no shift do they go together (confidence {offset.confidence:.2f}; below {UNRELATED} is as by chance)"
        )
        return [Problem(Kind.UNRELATED, 0, frames, False, detail)]
    if not move:
        return []
    early = "before" if move > 0 else "after"
    detail = (
        f"the sound comes {abs(offset.frames) * 1000 / FPS:.0f} ms {early} the lips; it was moved by {abs(move)} frames"
    )
    return [Problem(Kind.APART, 0, frames, False, detail)]
