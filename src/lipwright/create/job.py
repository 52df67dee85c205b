"""What an avatar is being made from, kept beside it: a walk that is called again must know whether it goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lipwright.errors import AvatarError
from lipwright.prepare.film import mark, write_atomically

_NOTE = "job.json"


@dataclass(frozen=True, slots=True)
class Job:
    """A film, and what was said of it."""

    film: str
    """What tells it from other films."""
    audio: str | None
    """The same of the sound used instead of its own."""
    face: int | None
    """As for ``prepare``."""

    @classmethod
    def of(cls, film: Path, audio: Path | None, face: int | None) -> Job:
        """The job that a call names; the files must be there."""
        return cls(mark(film), None if audio is None else mark(audio), face)

    def keep(self, folder: Path) -> None:
        """Write it into ``folder``, which is made if it is not there.

        Raises:
            AvatarError: the disk refuses.
        """
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / _NOTE, lambda part: part.write_text(json.dumps(asdict(self)), encoding="utf-8"))


def kept_job(folder: Path) -> Job | None:
    """The job that lies in ``folder``; None where there is none.

    Raises:
        AvatarError: it is damaged.
    """
    path = folder / _NOTE
    if not path.is_file():
        return None
    try:
        return Job(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise AvatarError(f"{path} is damaged ({error}): remove it, and call again") from error
