"""From a person's own video to an avatar that lacks only its generator, and a report that says how good the film is.

``prepare`` is the whole walk: look at every picture, choose the face and what is usable, compare lips and sound, and
write the package. It can be killed at any moment and goes on when it is called again.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lipwright.audio.mel import mel_slices
from lipwright.avatar import (
    ENCODER,
    FEATURES,
    LANDMARKS,
    RECTS,
    TEMPLATE,
    Avatar,
    Manifest,
    ModelRecord,
    Models,
    Segment,
    Sizes,
    builtin_avatar,
)
from lipwright.avatar.importers import AVE_LICENCE, UNKNOWN
from lipwright.avatar.storage import Content, check_target, clear_removed, named, remove_folder, removed_name
from lipwright.contract import AVE, CENTRED, FEATURE, FPS, Alignment, FloatArray
from lipwright.digest import known_sha256
from lipwright.durable import sync_folder
from lipwright.errors import AvatarError, LipwrightError, MediaError
from lipwright.prepare.film import MAX_FACES, Pieces, is_work_folder, walk, write_atomically
from lipwright.prepare.judge import Judged, judge, most_faces
from lipwright.prepare.problems import ADVICE, Kind, Problem
from lipwright.prepare.report import FilmFacts, verdict, write_report
from lipwright.prepare.sound import Sound, check_sound, has_sound, listen, write_flac
from lipwright.prepare.template import join
from lipwright.runtimes import open_runtime
from lipwright.video import VideoReader

__all__ = [
    "ADVICE",
    "FILM_SHA256",
    "REPORT",
    "SHEET",
    "SOUND",
    "Kind",
    "Prepared",
    "Problem",
    "Progress",
    "check_encoder",
    "forget_pieces",
    "prepare",
    "sweep",
    "work_folder",
]

logger = logging.getLogger(__name__)

#: What the package holds besides the parts that every avatar has.
REPORT = "report.html"
#: The figure in the manifest that tells a film from others.
FILM_SHA256 = "film_sha256"
SHEET = "contact_sheet.jpg"
#: The template's own speech, 16 kHz mono, 640 samples a frame, moved to where the lips are: for training.
SOUND = "sound.flac"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step has come."""

    step: str
    """What is done, in a few words."""
    done: int
    """Frames."""
    total: int | None
    """Frames in all; None: the film does not say."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What came of it."""

    avatar: Avatar
    """It has no generator yet."""
    problems: list[Problem]
    """Everything that was found, by time."""
    verdict: str
    """The report in a sentence or two."""

    @property
    def report(self) -> Path:
        """The page that shows it all."""
        return self.avatar.path / REPORT


@dataclass(frozen=True, slots=True)
class _Encoder:
    """The audio encoder whose features are written, and what the manifest says of it."""

    file: Path
    record: ModelRecord
    alignment: Alignment


def work_folder(out: Path) -> Path:
    """Where the pieces of an avatar ``out`` lie until it is whole."""
    return out.with_suffix(".prepare")


def sweep(out: Path) -> None:
    """Clear up after a walk to ``out`` that was stopped at its very end.

    If its avatar had not got its place yet, its pieces get theirs back, for the next walk to go on with.
    """
    work = work_folder(out)
    left = removed_name(work)
    if (left / out.name).is_dir() and not work.exists():
        left.rename(work)
    clear_removed(work)


def forget_pieces(out: Path) -> None:
    """Remove the pieces of ``out`` that a stopped walk has left: it is finished otherwise. Other files stay.

    Raises:
        AvatarError: the disk refuses.
    """
    work = work_folder(out)
    if is_work_folder(work):
        remove_folder(work)


def prepare(
    video: Path,
    out: Path,
    *,
    audio: Path | None = None,
    face: int | None = None,
    audio_encoder: Path | None = None,
    alignment: Alignment = CENTRED,
    encoder_record: ModelRecord | None = None,
    replace: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Prepared:
    """Make an avatar without a generator of a film of somebody speaking.

    Called again after it was stopped, it goes on where it was, and its result is the same to the byte.

    Args:
        video: any film PyAV opens, of any rate, size and orientation.
        out: ``NAME.avatar``; beside it ``NAME.prepare`` holds the pieces until all is done.
        audio: sound to use instead of the film's own; it begins with the film.
        face: which face to use where there are several, counted from the left from 1; None: the one that speaks. Scenes
            with fewer faces are left out.
        audio_encoder: ONNX of the encoder for the features; None: the built-in presenter's, if it is there.
        alignment: which mel columns ``audio_encoder`` was trained to hear.
        encoder_record: where ``audio_encoder`` comes from; None: nobody knows.
        replace: whether an avatar at ``out`` may be replaced.
        progress: called now and then.

    Raises:
        MediaError: the film or its sound cannot be read, or no frame of it can be used; the report says why.
        AvatarError: ``out`` is there already, or the disk refuses.
        LipwrightError: the film never shows so many faces.
    """
    video, out = Path(video), named(Path(out))
    if face is not None and not 1 <= face <= MAX_FACES:
        raise LipwrightError(f"faces are counted from 1, from the left, up to {MAX_FACES}: there is no face {face}")
    sweep(out)
    check_target(out, replace=replace)
    with VideoReader(video) as film:
        rate = float(film.fps)
    heard = audio or (video if has_sound(video) else None)
    if heard is not None:
        check_sound(heard)
    encoder = _find_encoder(audio_encoder, alignment, encoder_record)
    work = work_folder(out)
    pieces = Pieces(work, video)
    seen = walk(video, pieces, lambda done, total: progress(Progress("looking at every picture", done, total)))
    if face is not None:
        _check_face(video, face, most_faces(seen))
    frames = len(seen.thumbs)
    template = work / TEMPLATE
    write_atomically(template, lambda part: join([pieces.film(k) for k in range(pieces.done())], part))
    progress(Progress("listening", 0, frames))
    sound = None if heard is None else listen(heard, frames)
    with VideoReader(template) as film:
        width, height = film.width, film.height
    judged = judge(seen, sound, (height, width), face)
    facts = FilmFacts(video.name, width, height, rate, frames)
    write_report(work / REPORT, work / SHEET, facts, judged, template)
    if not judged.usable.any():
        raise MediaError(f"{video}: {verdict(judged)} The report is {work / REPORT}")
    contents = _contents(work, template, judged, sound)
    if encoder is not None:
        contents |= _heard(encoder, sound, judged.move, progress)
    Avatar.create(work / out.name, _manifest(video, out, facts, judged, encoder), contents, replace=True)
    return Prepared(_place(work, out), judged.problems, verdict(judged))


def _check_face(video: Path, face: int, most: int) -> None:
    """Raise LipwrightError if a film that shows somebody never shows so many faces; the report tells of nobody."""
    if 0 < most < face:
        seen, choice = (f"{most} faces", f"--face 1 to {most}") if most > 1 else ("one face", "--face 1")
        raise LipwrightError(
            f"{video}: there is no face {face}, at most {seen} at a time: call again with {choice}, or without --face "
            "for the one that speaks; nothing is looked at twice"
        )


def check_encoder(file: Path) -> None:
    """Raise AvatarError unless an audio encoder that was asked for is there."""
    if not file.is_file():
        raise AvatarError(f"{file}: there is no such audio encoder; check the name, or leave --audio-encoder away")


def _find_encoder(file: Path | None, alignment: Alignment, known: ModelRecord | None) -> _Encoder | None:
    """The encoder that was asked for, else the presenter's, else none.

    Raises:
        AvatarError: the one asked for is not there.
    """
    if file is not None:
        check_encoder(file)
        licence = AVE_LICENCE if alignment == AVE else UNKNOWN
        stranger = ModelRecord(file=ENCODER, licence=licence, origin=file.name)
        return _Encoder(file, (known or stranger).model_copy(update={"file": ENCODER}), alignment)
    if not builtin_avatar().is_dir():
        return None
    presenter = Avatar.open(builtin_avatar())
    record = presenter.manifest.models.audio_encoder
    if presenter.encoder is None or record is None:
        return None
    alignment = presenter.manifest.encoder.alignment.to_contract()
    return _Encoder(presenter.encoder, record.model_copy(update={"file": ENCODER}), alignment)


def _contents(work: Path, template: Path, judged: Judged, sound: Sound | None) -> dict[str, Content]:
    contents: dict[str, Content] = {
        TEMPLATE: template,
        RECTS: judged.rects,
        LANDMARKS: judged.landmarks,
        REPORT: work / REPORT,
        SHEET: work / SHEET,
    }
    if sound is not None:
        write_flac(work / SOUND, sound.moved(judged.move))
        contents[SOUND] = work / SOUND
    return contents


def _heard(
    encoder: _Encoder, sound: Sound | None, move: int, progress: Callable[[Progress], None]
) -> dict[str, Content]:
    """The encoder itself, and what it says of the sound; of silence nothing, for nobody can learn from it."""
    if sound is None or sound.silent:
        return {ENCODER: encoder.file}
    return {ENCODER: encoder.file, FEATURES: encode_sound(encoder.file, encoder.alignment, sound.moved(move), progress)}


def encode_sound(
    encoder: Path,
    alignment: Alignment,
    samples: FloatArray,
    progress: Callable[[Progress], None] = lambda _: None,
) -> FloatArray:
    """16 kHz mono [640 N] to features [N, 512], bit for bit as a renderer would hear it."""
    network = open_runtime(encoder, "encoder", precision="f32", threads=1)
    slices = mel_slices(samples, alignment)
    features = np.zeros((len(slices), FEATURE.shape[1]), np.float32)
    for i, mel in enumerate(slices):
        features[i] = network.run(mel[np.newaxis])[0]
        if i % FPS == 0:
            progress(Progress("listening", i, len(slices)))
    return features


def _manifest(video: Path, out: Path, facts: FilmFacts, judged: Judged, encoder: _Encoder | None) -> Manifest:
    offset = judged.offset
    figures = {
        FILM_SHA256: known_sha256(video),
        "film_seconds": facts.frames / FPS,
        "usable_seconds": int(judged.usable.sum()) / FPS,
        "face_width": judged.face_width,
        "lip_sound_offset": None if np.isnan(offset.frames) else round(offset.frames, 2),
        "lip_sound_confidence": None if np.isnan(offset.confidence) else round(offset.confidence, 3),
        "sound_moved_frames": judged.move,
        "film_verdict": verdict(judged),
        "film_problems": [problem.sentence() for problem in judged.problems],
    }
    return Manifest.new(
        out.stem,
        Sizes(width=facts.width, height=facts.height, frames=facts.frames),
        alignment=CENTRED if encoder is None else encoder.alignment,
        models=Models(audio_encoder=None if encoder is None else encoder.record),
        segments=[Segment(start=first, stop=stop) for first, stop in judged.segments],
        start_frame=judged.start_frame,
        source=facts.name,
        figures=figures,
    )


def _place(work: Path, out: Path) -> Avatar:
    """Move the finished package from the work folder to its place, and remove that folder with an older one there.

    The work folder gets its hidden name first: wherever this is stopped, either the package is still in it and the next
    walk goes on (``sweep``), or the package has its place and only rubbish is left.
    """
    gone = removed_name(work)
    work.rename(gone)
    if out.exists():
        shutil.rmtree(old := gone / "replaced", ignore_errors=True)
        out.rename(old)
    (gone / out.name).rename(out)
    sync_folder(out.parent)
    clear_removed(work)
    return Avatar.open(out)
