"""What an avatar is being made from, kept beside it: a walk that is called again must know whether it goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from lipwright.contract import Alignment
from lipwright.digest import known_sha256
from lipwright.errors import AvatarError
from lipwright.prepare.film import write_atomically

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
    encoder: str | None
    """The same of the audio encoder used instead of the presenter's, and its alignment."""
    made: str = field(default="", compare=False)
    """What tells the prepared avatar that came of it (`training.collect.film_of`); empty until there is one."""

    @classmethod
    def of(cls, film: Path, audio: Path | None, face: int | None, encoder: Path | None, alignment: Alignment) -> Job:
        """The job that a call names; the files must be there."""
        heard = None if encoder is None else f"{known_sha256(encoder)} {alignment.name}"
        return cls(known_sha256(film), None if audio is None else known_sha256(audio), face, heard)

    def other_than(self, kept: Job) -> list[str]:
        """What differs from another job; the film where all of it is the same, for it has become another avatar."""
        said = [each.name for each in fields(self) if each.compare]
        return [name for name in said if getattr(self, name) != getattr(kept, name)] or ["film"]

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
