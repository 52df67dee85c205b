"""``create``: prepare, train, export and check in one go."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lipwright.avatar import Avatar
from lipwright.avatar.storage import MANIFEST, check_target
from lipwright.create.fit import Trained, require_torch, train_avatar, training_folder
from lipwright.create.step import Step
from lipwright.errors import AvatarError
from lipwright.prepare import prepare

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
    progress: Callable[[Step], None] = lambda _: None,
) -> Created:
    """Make a speaking avatar of a film. Called again after it was stopped, it goes on where it was.

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
        progress: called now and then.

    Raises:
        MediaError: the film cannot be read or used.
        AvatarError: ``out`` is there already and finished, or made of another film; or what was made is not right.
        LipwrightError: as ``train_avatar``.
    """
    require_torch()
    video, out = Path(video), Path(out)
    if not _unfinished(out, video):
        check_target(out, replace=replace)
        shutil.rmtree(training_folder(out), ignore_errors=True)
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
        progress=progress,
    )
    progress(Step("checking every file", 0, None))
    wrong = trained.avatar.verify()
    if wrong:
        raise AvatarError(f"{out} is not right: {wrong[0]} (and {len(wrong) - 1} more): make it again with --force")
    found = trained.avatar.manifest.figures.get("film_problems")
    return Created(trained, [str(problem) for problem in found] if isinstance(found, list) else [])


def _unfinished(out: Path, video: Path) -> bool:
    """Whether ``out`` was begun, of the same film, and has not been trained to the end."""
    if not (out / MANIFEST).is_file():
        return False
    avatar = Avatar.open(out)
    begun = avatar.manifest.models.generator is None or training_folder(out).exists()
    return begun and avatar.manifest.source == video.name
