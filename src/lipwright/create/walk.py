"""``create``: prepare, train, export and check in one go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lipwright.avatar import Avatar
from lipwright.avatar.storage import MANIFEST, check_target, clear_removed
from lipwright.create.agreement import Agreed, settle
from lipwright.create.fit import Trained, forget_training, require_torch, train_avatar, training_begun, training_folder
from lipwright.create.step import Step
from lipwright.credentials import Identity
from lipwright.prepare import prepare, sweep
from lipwright.video import VideoReader

if TYPE_CHECKING:
    from lipwright.models.generator import Width


@dataclass(frozen=True, slots=True)
class Created:
    """What came of a film."""

    trained: Trained
    """The avatar, and how good it is."""
    film_problems: list[str]
    """What was found in the film, in sentences."""


def create(
    video: Path,
    out: Path,
    *,
    audio: Path | None = None,
    face: int | None = None,
    minutes: float = 30,
    device: str = "cpu",
    base: Avatar | None = None,
    width: Width = "full",
    baselines: bool = False,
    replace: bool = False,
    agreed: Agreed | None = None,
    ask: Callable[[], Agreed] = lambda: Agreed(None),
    identity: Identity | None = None,
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
        minutes: as for ``train_avatar``.
        device: as for ``train_avatar``.
        base: as for ``train_avatar``; the film is heard by its encoder.
        width: as for ``train_avatar``.
        baselines: as for ``train_avatar``.
        replace: whether a finished avatar at ``out`` may be replaced.
        agreed: what was said about consent; None: what was said before this walk was stopped, else what ``ask`` gives.
        ask: asks for it; called at most once, before any progress.
        identity: who signs the consent; None: the user's own local key.
        progress: called now and then.

    Raises:
        MediaError: the film cannot be read or used.
        CredentialsError: there is nothing fit to sign the consent with.
        AvatarError: ``out`` is there already and finished, or made of another film; or what was made is not right.
        LipwrightError: as ``train_avatar``.
    """
    require_torch()
    video, out = Path(video), Path(out)
    sweep(out)
    clear_removed(training_folder(out))
    begun = _unfinished(out, video)
    if not begun:
        check_target(out, replace=replace)
        # Nobody should answer questions about a film that cannot even be opened.
        VideoReader(video).close()
    settle(training_folder(out), None if begun else video, agreed, ask)
    if not begun:
        forget_training(out)
        prepare(
            video,
            out,
            audio=audio,
            face=face,
            audio_encoder=base.encoder if base else None,
            replace=replace,
            progress=lambda p: progress(Step(p.step, p.done, p.total)),
        )
    trained = train_avatar(
        Avatar.open(out),
        minutes=minutes,
        device=device,
        base=base,
        width=width,
        baselines=baselines,
        identity=identity,
        progress=progress,
    )
    found = trained.avatar.manifest.figures.get("film_problems")
    return Created(trained, [str(problem) for problem in found] if isinstance(found, list) else [])


def _unfinished(out: Path, video: Path) -> bool:
    """Whether ``out`` was begun, of the same film, and has not been trained to the end."""
    if not (out / MANIFEST).is_file():
        return False
    avatar = Avatar.open(out)
    begun = avatar.manifest.models.generator is None or training_begun(out)
    return begun and avatar.manifest.source == video.name
