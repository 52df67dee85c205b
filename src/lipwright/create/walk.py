"""``create``: prepare, train, export and check in one go."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lipwright.avatar import Avatar, ModelRecord
from lipwright.avatar.storage import MANIFEST, check_target, clear_removed, named
from lipwright.contract import CENTRED, Alignment
from lipwright.create.agreement import Agreed, settle
from lipwright.create.encoder import as_onnx
from lipwright.create.fit import (
    Trained,
    forget_training,
    has_learnt,
    planned_minutes,
    train_avatar,
    training_begun,
    training_folder,
    usable_device,
)
from lipwright.create.job import Job, kept_job
from lipwright.create.step import Step
from lipwright.credentials import Identity
from lipwright.errors import AvatarError, LipwrightError
from lipwright.prepare import FILM_SHA256, REPORT, check_encoder, prepare, sweep
from lipwright.prepare.sound import check_sound
from lipwright.training.collect import check_base, film_of
from lipwright.video import VideoReader

if TYPE_CHECKING:
    from lipwright.models.generator import Width


@dataclass(frozen=True, slots=True)
class FilmFindings:
    """What was found in a film, known before anything is learnt from it."""

    verdict: str
    """Whether it is enough, in a sentence or two."""
    problems: tuple[str, ...]
    """In sentences, by time."""
    report: Path
    """The page that shows it."""
    planned: float | None = None
    """Minutes that a training was planned for which goes on now; None: one begins."""


@dataclass(frozen=True, slots=True)
class Created:
    """What came of a film."""

    trained: Trained
    """The avatar, and how good it is."""
    film: FilmFindings
    """What was found in the film."""


def create(
    video: Path,
    out: Path,
    *,
    audio: Path | None = None,
    face: int | None = None,
    audio_encoder: Path | None = None,
    alignment: Alignment = CENTRED,
    minutes: float = 30,
    device: str = "cpu",
    base: Avatar | None = None,
    width: Width | None = None,
    baselines: bool = False,
    replace: bool = False,
    agreed: Agreed | None = None,
    ask: Callable[[], Agreed] = lambda: Agreed(None),
    identity: Identity | None = None,
    on_film: Callable[[FilmFindings], None] = lambda _: None,
    progress: Callable[[Step], None] = lambda _: None,
) -> Created:
    """Make a speaking avatar of a film. Called again after it was stopped, it goes on where it was.

    What is known about the consent of the person filmed is settled before anything that takes long, kept, and signed
    with the finished avatar.

    Args:
        video: the film.
        out: ``NAME.avatar``.
        audio: as for ``prepare``.
        face: as for ``prepare``.
        audio_encoder: as for ``as_onnx``; None: that of ``base``, else the presenter's.
        alignment: as for ``as_onnx``.
        minutes: as for ``train_avatar``.
        device: as for ``train_avatar``.
        base: as for ``train_avatar``; the film is heard by its encoder.
        width: as for ``train_avatar``.
        baselines: as for ``train_avatar``.
        replace: whether a finished avatar at ``out`` may be replaced, or one that has learnt from another film.
        agreed: what was said about consent; None: what was said before this walk was stopped, else what ``ask`` gives.
        ask: asks for it; called at most once, before any progress.
        identity: who signs the consent; None: the user's own local key.
        on_film: told what was found in the film, before the long part begins; also when the walk goes on.
        progress: called now and then.

    Raises:
        MediaError: the film cannot be read or used.
        CredentialsError: there is nothing fit to sign the consent with.
        AvatarError: ``out`` is there already and finished, or has learnt from something else than it is called with
            now; or what was made is not right.
        LipwrightError: as ``train_avatar``.
    """
    device = usable_device(device)
    video, out = Path(video), named(Path(out))
    # Nobody should answer questions about a film that cannot even be opened.
    VideoReader(video).close()
    if audio is not None:
        check_sound(audio)
    if audio_encoder is not None and base is not None:
        raise LipwrightError("a base hears with its own audio encoder: leave --audio-encoder or --base away")
    if base is not None:
        check_base(base)
    sweep(out)
    clear_removed(training_folder(out))
    if audio_encoder is not None:
        check_encoder(audio_encoder)
    job = Job.of(video, audio, face, audio_encoder, alignment)
    begun = _goes_on(out, job, base)
    if not begun:
        replace = _may_replace(out, job, base, replace)
        check_target(out, replace=replace)
    settle(training_folder(out), video, agreed, ask)
    if not begun:
        forget_training(out)
        job.keep(training_folder(out))
        with _encoder(audio_encoder, alignment, base) as (encoder, hears, record):
            made = prepare(
                video,
                out,
                audio=audio,
                face=face,
                audio_encoder=encoder,
                alignment=hears,
                encoder_record=record,
                replace=replace,
                progress=lambda p: progress(Step(p.step, p.done, p.total)),
            )
        # Only now: until it is there, another avatar may lie at `out`, which must not be gone on with.
        dataclasses.replace(job, made=film_of(made.avatar)).keep(training_folder(out))
    avatar = Avatar.open(out)
    on_film(film_findings(avatar))
    trained = train_avatar(
        avatar,
        minutes=minutes,
        device=device,
        base=base,
        width=width,
        baselines=baselines,
        identity=identity,
        progress=progress,
    )
    return Created(trained, film_findings(trained.avatar))


@contextmanager
def _encoder(
    given: Path | None, alignment: Alignment, base: Avatar | None
) -> Iterator[tuple[Path | None, Alignment, ModelRecord | None]]:
    """The ONNX file that the film is heard by, its alignment, and where it comes from; None: the presenter's."""
    with tempfile.TemporaryDirectory() as folder:
        if given is not None:
            yield as_onnx(given, alignment, Path(folder)), alignment, None
        elif base is not None:
            record = base.manifest.models.audio_encoder
            yield base.encoder, base.manifest.encoder.alignment.to_contract(), record
        else:
            yield None, CENTRED, None


def film_findings(avatar: Avatar) -> FilmFindings:
    """What ``prepare`` wrote down about the film of an avatar."""
    figures = avatar.manifest.figures
    problems = figures.get("film_problems")
    return FilmFindings(
        verdict=str(figures.get("film_verdict", "")),
        problems=tuple(map(str, problems)) if isinstance(problems, list) else (),
        report=avatar.path / REPORT,
        planned=planned_minutes(avatar.path),
    )


def _goes_on(out: Path, job: Job, base: Avatar | None) -> bool:
    """Whether ``out`` was begun from just this, by the base's ear if there is one, and not trained to the end."""
    if not _unfinished(out) or not _hears_as(out, base):
        return False
    kept = kept_job(training_folder(out))
    if kept is not None:
        return kept == job and kept.made == film_of(Avatar.open(out))
    # `lipwright prepare` made it, which keeps the film alone of a job.
    same = Avatar.open(out).manifest.figures.get(FILM_SHA256) == job.film
    return same and not (job.audio or job.face or job.encoder)


def _hears_as(out: Path, base: Avatar | None) -> bool:
    """Whether the avatar at ``out`` hears by the base's audio encoder; without a base it may hear by any."""
    return base is None or Avatar.open(out).manifest.encoder.sha256 == base.manifest.encoder.sha256


def _unfinished(out: Path) -> bool:
    """Whether an avatar is there that has not been trained to the end."""
    if not (out / MANIFEST).is_file():
        return False
    return Avatar.open(out).manifest.models.generator is None or training_begun(out)


def _may_replace(out: Path, job: Job, base: Avatar | None, replace: bool) -> bool:
    """Whether what is at ``out`` may go: also what was begun from something else, while nothing was learnt from it.

    That is how somebody comes back who was told to film longer, or to give the sound.

    Raises:
        AvatarError: it has learnt something, and nobody said that this may be lost.
    """
    kept = kept_job(training_folder(out)) if _unfinished(out) else None
    if kept is None or replace:
        return replace
    if has_learnt(out):
        other = job.other_than(kept) if _hears_as(out, base) else ["the base's audio encoder"]
        raise AvatarError(
            f"{out} has begun to learn from something else (other: {', '.join(other)}): --force begins "
            "anew and loses that, or give the avatar another name"
        )
    return True
