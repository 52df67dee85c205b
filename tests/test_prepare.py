"""Films with every known fault, made here, and what `prepare` makes of them."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from avatars import tiny_encoder
from lipwright import cli
from lipwright.audio.decode import hear
from lipwright.avatar import Avatar, builtin_sound
from lipwright.contract import FEATURE_DIM, FPS, SAMPLE_RATE, FloatArray, UInt8Array
from lipwright.errors import AvatarError, LipwrightError, MediaError
from lipwright.face import LIPS
from lipwright.prepare import ADVICE, Kind, Prepared, Problem, Progress, forget_pieces, prepare, work_folder
from lipwright.prepare.film import Pieces, Seen, walk
from lipwright.prepare.judge import PALE_LIPS, Judged, judge, most_faces
from lipwright.prepare.offset import CONFIDENT, UNRELATED, estimate_offset
from lipwright.prepare.problems import clock, covered_by, stretches
from lipwright.prepare.report import verdict
from lipwright.prepare.sound import MUSIC_SHARE, Sound, listen, music_frames
from lipwright.prepare.template import encode, join
from lipwright.quality import psnr
from lipwright.video import VideoReader
from media import counter_picture, read_counter, write_film, write_sound
from talking import GREY, SIDE, at, face, openings, speech, turned, with_hand
from tools import film_score, film_thresholds
from tools.film_score import STRETCH_HEAD, Film, shift_errors, stretch_row

Change = Callable[[UInt8Array, float], UInt8Array]


# --- films ----------------------------------------------------------------------------------------------------------
def brighter(gain: float) -> Change:
    """The exposure goes to ``gain`` and back, at once at neither end."""

    def change(picture: UInt8Array, time: float) -> UInt8Array:
        here = 1 + (gain - 1) * min(1.0, 5 * time, 5 * (1 - time))
        return np.asarray(np.clip(picture.astype(np.float32) * here, 0, 255), np.uint8)

    return change


def blurred(picture: UInt8Array, time: float) -> UInt8Array:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 2.0), np.uint8)


def handed(picture: UInt8Array, time: float) -> UInt8Array:
    return with_hand(picture, 300 * max(0.0, 0.2 - time, time - 0.8))


def walked_out(picture: UInt8Array, time: float) -> UInt8Array:
    return at(picture, 900 * min(time, 1 - time), 0)


@dataclass(frozen=True)
class Scene:
    """A stretch of a film: how long, what happens in it, and what must be found in it, or None."""

    frames: int
    change: Change | None = None
    kind: Kind | None = None


SCENES = (
    Scene(60),
    Scene(40, walked_out, Kind.NO_FACE),
    Scene(30),
    Scene(30, handed, Kind.COVERED),
    Scene(30),
    Scene(20, blurred, Kind.BLUR),
    Scene(30),
    Scene(30, brighter(1.9), Kind.BURNT),
    Scene(30),
    Scene(30, brighter(0.15), Kind.DARK),
    Scene(30),
    Scene(16, lambda picture, time: turned(0.5, 60), Kind.PROFILE),
    Scene(30, lambda picture, time: at(picture, 40, -10, 0.95), Kind.CUT),
    Scene(24, lambda picture, time: at(picture, 120, 60, 0.5), Kind.SMALL),
)


def faulty_pictures(opening: FloatArray, scenes: Sequence[Scene] = SCENES) -> Iterator[UInt8Array]:
    starts = np.cumsum([0, *(scene.frames for scene in scenes)])
    for scene, start in zip(scenes, starts, strict=False):
        for k in range(scene.frames):
            picture = face(float(opening[start + k]))
            yield scene.change(picture, k / scene.frames) if scene.change else picture


def seen_in(folder: Path, pictures: Iterator[UInt8Array]) -> Seen:
    film = write_film(folder / "film.mp4", pictures)
    return walk(film, Pieces(folder / "work", film), lambda done, total: None)


def heard(samples: FloatArray) -> Sound:
    frames = len(samples) // 640
    return Sound(samples, np.zeros(frames, bool), frames / FPS)


def found(judged: Judged, kind: Kind) -> list[Problem]:
    return [problem for problem in judged.problems if problem.kind is kind]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """A film with one fault after the other."""
    frames = sum(scene.frames for scene in SCENES)
    samples = speech(frames)
    seen = seen_in(tmp_path_factory.mktemp("faulty"), faulty_pictures(openings(samples).astype(np.float32)))
    return judge(seen, heard(samples), (SIDE, SIDE))


# --- the picture's faults -------------------------------------------------------------------------------------------
def scene_of(kind: Kind) -> tuple[int, int]:
    index = next(k for k, scene in enumerate(SCENES) if scene.kind is kind)
    start = sum(scene.frames for scene in SCENES[:index])
    return start, start + SCENES[index].frames


@pytest.mark.parametrize(
    "kind", [Kind.NO_FACE, Kind.COVERED, Kind.BLUR, Kind.BURNT, Kind.DARK, Kind.PROFILE, Kind.SMALL]
)
def test_a_fault_is_found_where_it_is_and_left_out(faulty: Judged, kind: Kind) -> None:
    start, stop = scene_of(kind)
    problems = found(faulty, kind)
    assert problems, [p.sentence() for p in faulty.problems]
    assert all(start - 3 <= p.start < p.stop <= stop + 3 and p.left_out for p in problems)
    assert sum(p.stop - p.start for p in problems) >= 0.35 * (stop - start)
    middle = (start + stop) // 2
    assert not faulty.usable[middle - 2 : middle + 2].any()
    assert np.isnan(faulty.landmarks[middle]).all()


def test_a_mouth_that_is_covered_most_of_the_time_is_left_out_and_one_that_is_never_red_is_told(tmp_path: Path) -> None:
    samples = speech(50)
    seen = seen_in(tmp_path, (face(opening) for opening in openings(samples).tolist()))
    assert len(seen.looks) == 50 and not found(judge(seen, heard(samples), (SIDE, SIDE)), Kind.COVERED)
    hidden = seen.looks.copy()
    hidden[:30, 3] = 0
    (mostly,) = found(judge(replace(seen, looks=hidden), heard(samples), (SIDE, SIDE)), Kind.COVERED)
    assert mostly.left_out and mostly.start == 0 and 30 <= mostly.stop <= 33
    hidden[:, 3] = -1
    (always,) = found(judge(replace(seen, looks=hidden), heard(samples), (SIDE, SIDE)), Kind.COVERED)
    assert (always.start, always.stop, always.left_out) == (0, 50, False) and "nobody can tell" in always.sentence()


def test_what_is_not_at_fault_is_used(faulty: Judged) -> None:
    start = 0
    for scene in SCENES:
        if scene.kind in (None, Kind.CUT):
            assert faulty.usable[start + 4 : start + scene.frames - 4].all(), clock(start)
        start += scene.frames


def test_cuts_are_found_and_end_a_segment(faulty: Judged) -> None:
    profile, scene, small = (scene_of(kind)[0] for kind in (Kind.PROFILE, Kind.CUT, Kind.SMALL))
    assert [p.start for p in found(faulty, Kind.CUT)] == [profile, scene, small]
    assert not any(first < cut < stop for first, stop in faulty.segments for cut in (profile, scene, small))
    assert all(faulty.usable[[first, stop - 1]].all() for first, stop in faulty.segments)
    first, stop = faulty.segments[0]
    gone, back = scene_of(Kind.NO_FACE)
    assert first == 0 and gone < stop < (gone + back) / 2
    lengths = [faulty.usable[first:stop].sum() for first, stop in faulty.segments]
    assert faulty.start_frame == faulty.segments[int(np.argmax(lengths))][0]


def test_a_film_of_a_few_usable_seconds_is_too_short(faulty: Judged) -> None:
    (problem,) = found(faulty, Kind.SHORT)
    assert f"{faulty.usable.sum() / FPS:.1f} s" in problem.detail


# --- two faces ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def couple(tmp_path_factory: pytest.TempPathFactory) -> tuple[Seen, FloatArray]:
    """The left one speaks; the right one is larger and moves its lips to other words."""
    samples = speech(200)
    left, right = openings(samples), openings(speech(200, skip=6.1))
    pictures = (np.hstack([at(face(a), 20, 40, 0.9), face(b)]) for a, b in zip(left, right, strict=True))
    return seen_in(tmp_path_factory.mktemp("couple"), pictures), samples


@pytest.mark.parametrize("asked, side", [(None, 0), (1, 0), (2, 1)])
def test_the_speaking_face_is_chosen_or_the_one_asked_for(
    couple: tuple[Seen, FloatArray], asked: int | None, side: int
) -> None:
    seen, samples = couple
    judged = judge(seen, heard(samples), (SIDE, 2 * SIDE), asked)
    assert judged.usable.all()
    assert ((judged.rects[:, 0] > SIDE) == bool(side)).all()
    (problem,) = found(judged, Kind.SEVERAL_FACES)
    assert (problem.start, problem.stop) == (0, 200) and not problem.left_out


def elsewhere(seen: Seen, first: int, stop: int, again: int, aside: float, shape: float = 1.0) -> Seen:
    """The still face, unseen from ``first`` to ``stop``, then ``aside`` pixels off and called 1 until ``again``."""
    kept = np.r_[0:first, stop:again]
    later = kept >= stop
    marks = seen.landmarks[kept].copy()
    marks[later] *= np.array([shape, 1, 1], np.float32)
    marks[later, :, 0] += aside
    return replace(
        seen, frame=kept.astype(np.int32), slot=later.astype(np.int32), landmarks=marks, looks=seen.looks[kept]
    )


def test_who_is_lost_and_found_elsewhere_is_one_person(still: Seen) -> None:
    seen = elsewhere(still, 60, 80, 150, 0.6 * SIDE)
    judged = judge(seen, None, (SIDE, 2 * SIDE))
    assert judged.usable.sum() == 130 and not found(judged, Kind.SEVERAL_FACES)
    (gone,) = found(judged, Kind.NO_FACE)
    assert (gone.start, gone.stop) == (60, 80)
    assert most_faces(seen) == 1


def test_another_head_that_comes_after_the_first_is_another_person(still: Seen) -> None:
    judged = judge(elsewhere(still, 90, 100, 150, 0.6 * SIDE, shape=1.3), None, (SIDE, 2 * SIDE))
    assert judged.usable[:90].all() and not judged.usable[90:].any()


def test_who_was_seen_beside_somebody_is_not_that_one(couple: tuple[Seen, FloatArray]) -> None:
    seen, _ = couple
    assert most_faces(seen) == 2 and len(found(judge(seen, None, (SIDE, 2 * SIDE)), Kind.SEVERAL_FACES)) == 1


def test_a_mouth_below_the_picture_is_left_out(still: Seen) -> None:
    sunk = still.landmarks.copy()
    lips = sunk[0, list(LIPS), 1]
    sunk[100:, :, 1] += SIDE - lips.max() + 3
    judged = judge(replace(still, landmarks=sunk), None, (SIDE, SIDE))
    (problem,) = found(judged, Kind.OUTSIDE)
    assert problem.left_out and 98 <= problem.start <= 100 and problem.stop == 150
    assert judged.usable[:98].all() and not judged.usable[100:].any()


def test_the_other_voice_chooses_the_other_face(couple: tuple[Seen, FloatArray]) -> None:
    judged = judge(couple[0], heard(speech(200, skip=6.1)), (SIDE, 2 * SIDE))
    assert (judged.rects[:, 0] > SIDE).all()


def pair_then_one() -> Iterator[UInt8Array]:
    """Two faces for 20 frames, then another scene with one of them."""
    for k in range(20):
        yield np.hstack([at(face(k % 5 / 5), 20, 40, 0.9), face(0.5)])
    for k in range(20):
        yield np.hstack([at(face(k % 5 / 5), 60, 0), np.full((SIDE, SIDE, 3), 30, np.uint8)])


def test_a_scene_without_the_face_asked_for_is_left_out(tmp_path: Path) -> None:
    """Whoever is alone in it need not be the second from the left."""
    seen = seen_in(tmp_path, pair_then_one())
    assert most_faces(seen) == 2
    judged = judge(seen, None, (SIDE, 2 * SIDE), 2)
    assert judged.usable.tolist() == [True] * 20 + [False] * 20
    (problem,) = found(judged, Kind.NO_FACE)
    assert problem.sentence() == "0:00.8 - 0:01.6 no face: face 2 from the left is not seen"
    assert judge(seen, None, (SIDE, 2 * SIDE), 1).usable.all()


# --- lips and sound -------------------------------------------------------------------------------------------------
def left_landmarks(seen: Seen) -> FloatArray:
    left = seen.landmarks[:, :, 0].mean(1) < SIDE
    return np.asarray(seen.landmarks[left], np.float32)


@pytest.mark.parametrize("late", [-7, -3, 4, 8])
def test_a_shift_of_the_sound_is_measured(couple: tuple[Seen, FloatArray], late: int) -> None:
    seen, samples = couple
    marks = left_landmarks(seen)
    original = estimate_offset(marks, samples)
    moved = estimate_offset(marks, heard(samples).moved(late))
    assert original.sure and moved.sure
    assert moved.frames - original.frames == pytest.approx(-late, abs=0.5)


def test_the_sound_is_moved_to_the_lips(couple: tuple[Seen, FloatArray]) -> None:
    seen, samples = couple
    early = heard(heard(samples).moved(-6))
    judged = judge(seen, early, (SIDE, 2 * SIDE), 1)
    # These lips open with the sound and not before it, as people's do, so that they count as half a frame late.
    assert judged.move in (6, 7)
    assert abs(estimate_offset(judged.landmarks, early.moved(judged.move)).frames) <= 1
    (problem,) = found(judged, Kind.APART)
    assert "before the lips" in problem.detail


def test_sound_that_has_nothing_to_do_with_the_lips_is_left_alone(couple: tuple[Seen, FloatArray]) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 200 * 640).astype(np.float32)
    offset = estimate_offset(left_landmarks(couple[0]), noise)
    assert offset.confidence < CONFIDENT and not offset.sure


def test_a_sound_of_something_else_is_told(couple: tuple[Seen, FloatArray], monkeypatch: pytest.MonkeyPatch) -> None:
    seen, samples = couple
    other = hear(builtin_sound("mira"))[: len(samples)]
    noise = np.random.default_rng(1).normal(0, 0.1, len(samples)).astype(np.float32)
    for strange in (other, noise):
        judged = judge(seen, heard(strange), (SIDE, 2 * SIDE), 1)
        (problem,) = found(judged, Kind.UNRELATED)
        assert judged.move == 0 and not problem.left_out and "at no shift" in problem.detail
    own = judge(seen, heard(samples), (SIDE, 2 * SIDE), 1)
    assert not found(own, Kind.UNRELATED)
    films = {"own": Film(own, heard(samples)), "other": Film(own, heard(other))}
    # Turned by two, as long films are, these eight seconds have their pauses where they were.
    monkeypatch.setattr(film_score, "TURNED", 3.0)
    assert max(film_score.strangers("own", films)) < UNRELATED < own.offset.confidence
    cells = film_score.strangers_row("own", films).split(" | ")
    assert len(cells) == film_score.STRANGERS_HEAD.splitlines()[0].count(" | ") + 1


def test_too_few_frames_give_no_estimate(couple: tuple[Seen, FloatArray]) -> None:
    offset = estimate_offset(left_landmarks(couple[0])[:100], couple[1][:64_000])
    assert np.isnan(offset.frames) and not offset.sure


def test_shares_of_shifts_tell_real_people_from_the_presenter() -> None:
    errors = np.zeros((10, 4))
    errors[1, 3], errors[5] = 7.1, 1.01  # one shift of a real person, all four of a stretch of the presenter
    assert [line.split(": ")[1] for line in film_score.shares(errors)] == ["35 of 40", "11 of 12", "24 of 28"]


def test_the_score_has_a_row_for_each_stretch(couple: tuple[Seen, FloatArray]) -> None:
    seen, samples = couple
    film = Film(judge(seen, heard(samples), (SIDE, 2 * SIDE), 1), heard(samples))
    errors = shift_errors(film, 0)
    cells = stretch_row("couple", film, 0, errors).strip("| ").split(" | ")
    heads = STRETCH_HEAD.splitlines()[0].strip("| ").split(" | ")
    assert len(cells) == len(heads) and heads[-1] == "error at +6"
    assert cells[:3] == ["couple", "the presenter", "0"]
    assert float(cells[4]) == pytest.approx(estimate_offset(film.judged.landmarks, samples).confidence, abs=0.01)
    assert [float(cell) for cell in cells[5:]] == pytest.approx(errors.tolist(), abs=0.01)
    assert np.abs(errors).max() <= 1


# --- the sound's faults ---------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def still(couple: tuple[Seen, FloatArray]) -> Seen:
    """150 frames in which nothing moves."""
    seen = couple[0]
    rows = np.flatnonzero(seen.landmarks[:, :, 0].mean(1) < SIDE)
    return replace(
        seen,
        thumbs=np.repeat(seen.thumbs[:1], 150, axis=0),
        frame=np.arange(150, dtype=np.int32),
        slot=np.zeros(150, np.int32),
        landmarks=np.repeat(seen.landmarks[rows[:1]], 150, axis=0),
        looks=np.repeat(seen.looks[rows[:1]], 150, axis=0),
    )


def chords(seconds: float) -> FloatArray:
    """Three sustained tones with overtones, another chord every second."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    shift = 2 ** (np.array([0, 5, 7, 3])[time.astype(int) % 4] / 12)
    tones = [np.sin(2 * np.pi * np.cumsum(note * over * shift) / SAMPLE_RATE) / over
             for note in (220.0, 277.2, 329.6) for over in (1, 2, 3)]  # fmt: skip
    return np.asarray(0.02 * np.sum(tones, axis=0), np.float32)


def test_clipping_is_found_in_the_recording_itself(tmp_path: Path, still: Seen) -> None:
    samples = speech(150)
    samples[: 3 * SAMPLE_RATE] *= 20
    path = write_sound(tmp_path / "loud.wav", np.clip(samples, -1, 1)[:, None], SAMPLE_RATE)
    problems = found(judge(still, listen(path, 150), (SIDE, SIDE)), Kind.CLIPPED)
    assert problems and problems[-1].stop <= 3 * FPS + 1
    assert sum(p.stop - p.start for p in problems) > FPS


def test_music_is_told_from_speech_noise_and_silence() -> None:
    samples = speech(250)
    assert not music_frames(samples).any()
    noise = np.random.default_rng(2).normal(0, 0.01, len(samples)).astype(np.float32)
    assert not music_frames(samples + noise).any()
    assert not music_frames(np.zeros(16_000, np.float32)).any()
    behind = samples.copy()
    behind[5 * SAMPLE_RATE :] += chords(5)
    music = music_frames(behind)
    assert not music[: 2 * FPS].any()
    assert music[6 * FPS :].mean() > 0.7


def test_how_far_the_thresholds_lie_is_measured_on_a_film(tmp_path: Path) -> None:
    sound = speech(150)
    film = write_film(tmp_path / "me.mp4", (face(float(o)) for o in openings(sound)), samples=sound[:, None])
    bare, hidden = film_thresholds.redness(film)
    assert len(bare) == len(hidden) == 150 // film_thresholds.EVERY
    assert hidden.max() < PALE_LIPS * np.median(bare) < bare.min()
    clean, behind = film_thresholds.most_tonal(sound), list(film_thresholds.with_music(sound, 15.0))
    assert clean < MUSIC_SHARE < min(behind), (clean, behind)


def test_music_behind_the_voice_is_told_with_its_time(couple: tuple[Seen, FloatArray]) -> None:
    """Held tones from 3 s to the end of 8, which nothing but the pauses gives away: they are 12 dB below the voice."""
    seen, samples = couple
    behind = samples.copy()
    behind[3 * SAMPLE_RATE :] += chords(5)
    (problem,) = found(judge(seen, heard(behind), (SIDE, 2 * SIDE), 1), Kind.MUSIC)
    # Four seconds are judged together: one of them may be clean.
    assert 2 * FPS <= problem.start <= 4 * FPS and problem.stop == 8 * FPS
    assert not problem.left_out
    assert "0:08.0 music: tones go on where the voice pauses" in problem.sentence()
    assert not found(judge(seen, heard(samples), (SIDE, 2 * SIDE), 1), Kind.MUSIC)


def test_a_voice_over_still_lips_is_somebody_elses(still: Seen, couple: tuple[Seen, FloatArray]) -> None:
    (problem,) = found(judge(still, heard(speech(150, skip=1)), (SIDE, SIDE)), Kind.OTHER_VOICE)
    assert problem.stop - problem.start > 2 * FPS
    assert not found(judge(couple[0], heard(couple[1]), (SIDE, 2 * SIDE), 1), Kind.OTHER_VOICE)


@pytest.mark.parametrize("sound", [None, heard(np.zeros(150 * 640, np.float32))])
def test_a_film_without_sound_is_told(still: Seen, sound: Sound | None) -> None:
    judged = judge(still, sound, (SIDE, SIDE))
    assert judged.usable.all()
    assert found(judged, Kind.NO_SOUND)[0].stop == 150


def test_sound_that_ends_early_is_told(tmp_path: Path, still: Seen) -> None:
    path = write_sound(tmp_path / "short.wav", speech(100)[:, None], SAMPLE_RATE)
    (problem,) = found(judge(still, listen(path, 150), (SIDE, SIDE)), Kind.NO_SOUND)
    assert (problem.start, problem.stop) == (100, 150)
    assert "no speech" not in verdict(judge(still, listen(path, 150), (SIDE, SIDE)))
    assert "no speech" in verdict(judge(still, None, (SIDE, SIDE)))


# --- the whole walk -------------------------------------------------------------------------------------------------
def sha_of(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def talking_pictures(frames: int, per_second: float = FPS) -> Iterator[UInt8Array]:
    opening = openings(speech(round(frames * FPS / per_second) + 1))
    for k in range(frames):
        yield at(face(float(opening[int(k * FPS / per_second)])), 6 * np.sin(k / 9), 0)


@dataclass(frozen=True)
class Made:
    film: Path
    encoder: Path
    prepared: Prepared
    steps: list[Progress]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """3.8 s at 30 fps, stored on its side, with sound, as an avatar."""
    folder = tmp_path_factory.mktemp("made")
    samples = speech(95)[:, None]
    film = write_film(folder / "me & you.mp4", talking_pictures(114, 30), 30, rotation=90, samples=samples)
    encoder = tiny_encoder(folder / "encoder.onnx")
    steps: list[Progress] = []
    prepared = prepare(film, folder / "me.avatar", audio_encoder=encoder, progress=steps.append)
    return Made(film, encoder, prepared, steps)


def test_the_avatar_is_whole_but_for_its_generator(made: Made) -> None:
    avatar = Avatar.open(made.prepared.avatar.path)
    assert avatar.verify() == []
    assert [s.split(":")[0] for s in avatar.missing()] == ["no generator"]
    assert avatar.frame_count == 95
    assert avatar.landmarks is not None and avatar.landmarks.shape == (95, 468, 3)
    assert (avatar.rects[:, 0] >= 0).all()
    assert avatar.features is not None and avatar.features.shape == (95, FEATURE_DIM)
    assert [(s.start, s.stop) for s in avatar.manifest.segments] == [(0, 95)]
    assert avatar.manifest.consent is None
    assert avatar.manifest.figures["usable_seconds"] == 3.8
    assert not work_folder(avatar.path).exists()


def test_the_template_shows_the_film_by_time_and_upright(made: Made) -> None:
    with VideoReader(made.film) as source, VideoReader(made.prepared.avatar.template) as template:
        assert (template.width, template.height) == (SIDE, SIDE)
        assert template.fps == Fraction(FPS)
        pairs = list(zip(source, template, strict=True))
    assert len(pairs) == 95
    assert min(psnr(copy, original) for original, copy in pairs) > 40


def test_the_sound_goes_with_the_template(made: Made) -> None:
    sound = listen(made.prepared.avatar.path / "sound.flac", 95)
    assert sound.seconds == 3.8
    original = listen(made.film, 95)
    assert np.abs(sound.samples - original.samples).max() <= 2**-15


def test_the_report_is_a_page_with_pictures(made: Made) -> None:
    page = made.prepared.report.read_text(encoding="utf-8")
    assert "me &amp; you.mp4" in page and "too short" in page
    assert made.prepared.verdict in page
    assert "data:image/jpeg;base64," in page
    sheet = cv2.imread(str(made.prepared.avatar.path / "contact_sheet.jpg"))
    assert sheet is not None and sheet.shape[1] == 4 * 320
    # Green frames: every picture of this film is used.
    assert np.abs(sheet[27, 160].astype(int) - (90, 170, 60)).max() < 40


#: A film with faults of picture and sound, and the frames in which they are.
FAULTS = (
    Scene(60),
    Scene(30, walked_out, Kind.NO_FACE),
    Scene(40),
    Scene(25, handed, Kind.COVERED),
    Scene(35),
    Scene(40, lambda picture, time: at(picture, 40, -10, 0.95), Kind.CUT),
)
GONE, HIDDEN, LOUD, NEW_SCENE, END = (60, 90), (130, 155), (95, 125), 190, 230
SHEET_COLOURS = {"green": (90, 170, 60), "orange": (30, 150, 235), "red": (60, 60, 220), "paper": (255, 255, 255)}


def test_a_track_that_is_declared_and_empty_is_no_sound(made: Made, tmp_path: Path) -> None:
    film = tmp_path / "mute.mkv"
    with av.open(film, "w") as container:
        container.add_stream("pcm_s16le", rate=SAMPLE_RATE)
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        stream.width = stream.height = SIDE
        for _ in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(face(0.2), format="bgr24")))
        container.mux(stream.encode(None))
    prepared = prepare(film, tmp_path / "me.avatar", audio_encoder=made.encoder)
    assert [p.stop for p in prepared.problems if p.kind is Kind.NO_SOUND] == [30]
    with pytest.raises(MediaError, match="holds no sound"):
        prepare(film, tmp_path / "you.avatar", audio=film, audio_encoder=made.encoder)


@pytest.fixture(scope="module")
def mended(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A film with faults, and sound that is cut off at full scale for a second, as an avatar."""
    folder = tmp_path_factory.mktemp("mended")
    samples = speech(END)
    pictures = faulty_pictures(openings(samples).astype(np.float32), FAULTS)
    samples[640 * LOUD[0] : 640 * LOUD[1]] *= 20
    # Matroska, for sound that no codec changes.
    film = write_film(folder / "faulty.mkv", pictures, samples=np.clip(samples, -1, 1)[:, None])
    return prepare(film, folder / "me.avatar", audio_encoder=made.encoder)


def test_a_film_with_faults_becomes_an_avatar_without_them(mended: Prepared) -> None:
    avatar = Avatar.open(mended.avatar.path)
    assert avatar.verify() == [] and len(avatar.rects) == END
    left_out = covered_by([(p.start, p.stop) for p in mended.problems if p.left_out], END)
    assert left_out[70:80].all() and left_out[140:146].all() and left_out.sum() < 70
    assert (avatar.rects[left_out] == -1).all() and (avatar.rects[~left_out] >= 0).all()
    assert avatar.landmarks is not None and np.isnan(avatar.landmarks[left_out]).all()
    assert avatar.segments and not any(first < NEW_SCENE < stop for first, stop in avatar.segments)
    assert not any(first <= gone < stop for first, stop in avatar.segments for gone in (75, 143))
    assert (NEW_SCENE, END) in avatar.segments


def test_every_fault_stands_in_report_and_manifest_with_its_time(mended: Prepared) -> None:
    times = {kind: [(p.start, p.stop) for p in mended.problems if p.kind is kind] for kind in Kind}
    for kind, (first, stop) in ((Kind.NO_FACE, GONE), (Kind.COVERED, HIDDEN), (Kind.CLIPPED, LOUD)):
        assert times[kind], kind
        assert all(first - 3 <= start < end <= stop + 3 for start, end in times[kind]), (kind, times[kind])
    assert times[Kind.CUT] == [(NEW_SCENE, NEW_SCENE + 1)] and times[Kind.SHORT] == [(0, END)]
    page = mended.report.read_text(encoding="utf-8")
    for problem in mended.problems:
        assert f"<tr><td>{problem.when}</td><td>{problem.kind}</td><td>{problem.detail}</td>" in page
        assert ADVICE[problem.kind] in page
    assert f"<tr><td>0:07.6</td><td>{Kind.CUT}</td>" in page
    assert mended.avatar.manifest.figures["film_problems"] == [problem.sentence() for problem in mended.problems]


def tile_colours(sheet: Path) -> list[str]:
    """What the border of every picture on a contact sheet says, row by row."""
    picture = cv2.imread(str(sheet))
    assert picture is not None
    edges = picture[27::266, 160::320].reshape(-1, 1, 3).astype(int)
    nearest = np.abs(edges - np.array(list(SHEET_COLOURS.values()))).max(2).argmin(1)
    return [list(SHEET_COLOURS)[k] for k in nearest]


def test_the_contact_sheet_shows_what_is_left_out_in_red_and_what_is_used_all_the_same_in_orange(
    mended: Prepared,
) -> None:
    colours = tile_colours(mended.avatar.path / "contact_sheet.jpg")
    assert colours.count("red") == sum(problem.left_out for problem in mended.problems) >= 2
    assert colours.count("orange") == 1, "the new scene; nothing can be seen of sound that is cut off"
    assert colours.index("red") < colours.index("orange")
    assert colours.count("green") >= 7


@pytest.mark.parametrize("last", [1, 2, 3])
def test_pieces_join_to_a_film_of_exactly_25_a_second(tmp_path: Path, last: int) -> None:
    """Odd sizes stay odd, and a last piece too short to have its own decoding delay changes nothing."""
    pictures = [counter_picture(k, 131, 97) for k in range(50 + last)]
    encode(pictures[:50], tmp_path / "0.mp4")
    encode(pictures[50:], tmp_path / "1.mp4")
    join([tmp_path / "0.mp4", tmp_path / "1.mp4"], tmp_path / "film.mp4")
    with VideoReader(tmp_path / "film.mp4") as film:
        assert (film.width, film.height, film.frames) == (131, 97, 50 + last)
        assert film.fps == Fraction(FPS)
        assert [read_counter(picture) for picture in film] == list(range(50 + last))


KILLED = """
import os, signal, sys
from pathlib import Path
from lipwright.prepare import prepare
left = [int(sys.argv[1])]
def dying(method):
    def renamed(self, target):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(self, target)
    return renamed
Path.replace, Path.rename = dying(Path.replace), dying(Path.rename)
prepare(Path(sys.argv[2]), Path(sys.argv[3]), audio_encoder=Path(sys.argv[4]))
"""


def test_killed_again_and_again_it_ends_with_the_same_bytes(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "me.avatar"
    command = [sys.executable, "-c", KILLED, "2", str(made.film), str(out), str(made.encoder)]
    codes = []
    while not out.exists():
        codes.append(subprocess.run(command, capture_output=True, timeout=300).returncode)
        # Two renames a life are enough for every step but the last: the fifth life ends before its avatar is placed.
        command[3] = "2" if len(codes) < 4 else "4" if len(codes) == 4 else "6"
        if len(codes) == 5:
            assert [path.name for path in tmp_path.iterdir()] == [".me.prepare.done"]
        assert len(codes) < 8
    assert len(codes) == 6 and set(codes[:-1]) == {-signal.SIGKILL}
    assert sha_of(out) == sha_of(made.prepared.avatar.path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["me.avatar"]


@pytest.fixture(scope="module")
def short(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """1.2 s without sound."""
    folder = tmp_path_factory.mktemp("short")
    film = write_film(folder / "short.mp4", talking_pictures(30))
    return Made(film, made.encoder, prepare(film, folder / "me.avatar", audio_encoder=made.encoder), [])


def leave_rubbish(out: Path) -> None:
    """As a removal of the pieces leaves it that was stopped: what says whose they are may be gone first."""
    (left := out.parent / ".me.prepare.done").mkdir()
    (left / "piece-00000.mp4").touch()


def leave_pieces(out: Path, film: Path) -> None:
    """As a walk leaves them that was to replace an avatar and was stopped."""
    walk(film, Pieces(work_folder(out), film), lambda done, total: None)


@pytest.mark.parametrize("left", ["rubbish", "pieces", "both"])
def test_what_a_stopped_walk_left_beside_a_whole_avatar_goes(short: Made, tmp_path: Path, left: str) -> None:
    out = tmp_path / "me.avatar"
    shutil.copytree(short.prepared.avatar.path, out)
    if left != "pieces":
        leave_rubbish(out)
    if left != "rubbish":
        leave_pieces(out, short.film)
    with pytest.raises(AvatarError, match="--force"):
        prepare(short.film, out, audio_encoder=short.encoder)
    # The pieces are half of a new avatar, to go on with; nothing can be made of the rubbish.
    kept = [] if left == "rubbish" else ["me.prepare"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["me.avatar", *kept]
    steps: list[Progress] = []
    prepare(short.film, out, audio_encoder=short.encoder, replace=True, progress=steps.append)
    assert (steps[0].done > 0) == bool(kept)
    assert sha_of(out) == sha_of(short.prepared.avatar.path)
    assert [path.name for path in tmp_path.iterdir()] == ["me.avatar"]


def test_only_pieces_are_forgotten(short: Made, tmp_path: Path) -> None:
    out = tmp_path / "me.avatar"
    forget_pieces(out)
    leave_pieces(out, short.film)
    forget_pieces(out)
    assert list(tmp_path.iterdir()) == []
    (mine := work_folder(out)).mkdir()
    forget_pieces(out)
    assert mine.is_dir()


def test_the_pieces_of_another_film_are_not_taken(tmp_path: Path) -> None:
    first, other = (
        write_film(tmp_path / f"{grey}.mp4", (np.full((64, 64, 3), grey, np.uint8) for _ in range(60)))
        for grey in (30, 90)
    )
    walk(first, pieces := Pieces(tmp_path / "work", first), lambda done, total: None)
    assert pieces.done() == 2
    assert Pieces(tmp_path / "work", first).done() == 2
    assert Pieces(tmp_path / "work", other).done() == 0


def test_a_folder_of_somebody_else_is_not_touched(made: Made, tmp_path: Path) -> None:
    mine = work_folder(tmp_path / "me.avatar")
    mine.mkdir()
    (mine / "diary.txt").write_text("dear diary")
    with pytest.raises(AvatarError, match="move it away"):
        prepare(made.film, tmp_path / "me.avatar")
    assert (mine / "diary.txt").read_text() == "dear diary"


def test_progress_counts_up(made: Made) -> None:
    looks = [step.done for step in made.steps if step.step == "looking at every picture"]
    assert looks == [0, 50, 95]
    assert made.steps[0].total == 95


def test_a_film_without_a_face_says_where_the_report_is(tmp_path: Path) -> None:
    film = write_film(tmp_path / "wall.mp4", (np.full((240, 320, 3), GREY, np.uint8) for _ in range(30)))
    with pytest.raises(MediaError, match="no face was seen") as caught:
        prepare(film, tmp_path / "wall.avatar")
    report = work_folder(tmp_path / "wall.avatar") / "report.html"
    assert str(report) in str(caught.value)
    assert "nobody is seen" in report.read_text(encoding="utf-8")
    assert not (tmp_path / "wall.avatar").exists()


def test_an_avatar_is_replaced_only_when_asked(made: Made) -> None:
    out = made.prepared.avatar.path
    with pytest.raises(AvatarError, match="--force"):
        prepare(made.film, out, audio_encoder=made.encoder)
    before = sha_of(out)
    prepare(made.film, out, audio_encoder=made.encoder, replace=True)
    assert sha_of(out) == before


@pytest.mark.parametrize("face", [0, 5])
def test_a_face_that_is_never_followed_is_refused(tmp_path: Path, face: int) -> None:
    with pytest.raises(LipwrightError, match=f"from 1, from the left, up to 4: there is no face {face}"):
        prepare(tmp_path / "x.mp4", tmp_path / "x.avatar", face=face)


def test_a_face_that_the_film_never_shows_is_told_before_it_listens(short: Made, tmp_path: Path) -> None:
    out = tmp_path / "me.avatar"
    steps: list[Progress] = []
    with pytest.raises(
        LipwrightError, match="there is no face 2, at most one face at a time: call again with --face 1"
    ):
        prepare(short.film, out, face=2, audio_encoder=short.encoder, progress=steps.append)
    assert {step.step for step in steps} == {"looking at every picture"}
    assert not out.exists()
    again: list[Progress] = []
    prepare(short.film, out, face=1, audio_encoder=short.encoder, progress=again.append)
    assert again[0].done > 0, "what was seen is not looked at twice"


def test_the_command_says_what_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lipwright.prepare.builtin_avatar", lambda: tmp_path / "no presenter")
    film = write_film(tmp_path / "silent.mp4", talking_pictures(30))
    with pytest.raises(SystemExit) as left:
        cli.main(["prepare", str(film), "-o", str(tmp_path / "s.avatar"), "--json"])
    assert left.value.code == 0
    facts = json.loads(capsys.readouterr().out)
    assert [sentence.split(" ", 3)[3].split(":")[0] for sentence in facts["problems"]] == ["no sound", "too short"]
    assert Path(facts["report"]).is_file()
    avatar = Avatar.open(facts["output"])
    assert avatar.features is None and any("audio encoder" in sentence for sentence in avatar.missing())


# --- small things ---------------------------------------------------------------------------------------------------
def test_clock() -> None:
    assert [clock(frame) for frame in (0, 13, 1500, 1537)] == ["0:00.0", "0:00.5", "1:00.0", "1:01.4"]


def test_stretches_join_and_drop() -> None:
    mask = np.array([1, 1, 0, 1, 0, 0, 0, 1], bool)
    assert stretches(mask) == [(0, 2), (3, 4), (7, 8)]
    assert stretches(mask, join=1) == [(0, 4), (7, 8)]
    assert stretches(mask, join=1, least=2) == [(0, 4)]
    assert stretches(np.zeros(3, bool)) == []
