"""What was said about the consent of the person filmed: asked once, before the long work, and kept until it is signed.

The avatar it will be signed with does not exist yet when it is asked. So the answer waits beside it, among the pieces
of the training, where a walk that was stopped finds it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lipwright.avatar import Consent
from lipwright.digest import known_sha256
from lipwright.errors import AvatarError
from lipwright.prepare.film import write_atomically

_ANSWER = "consent.json"


@dataclass(frozen=True, slots=True)
class Agreed:
    """An answer to "who is shown, who agreed, when, to what?"."""

    record: Consent | None
    """None: there is no consent to be recorded, and films of the avatar carry a visible mark."""


def settle(folder: Path, film: Path, said: Agreed | None, ask: Callable[[], Agreed]) -> None:
    """Let an answer about consent lie in ``folder``: the one of now, else the kept one, else the one ``ask`` gets.

    Args:
        folder: made if it is not there.
        film: the film that it is about: a kept answer about another one is not taken.
        said: the answer of now; None: nothing was said.
        ask: gives an answer where there is none yet; may take as long as a person thinks.

    Raises:
        AvatarError: the kept answer is damaged, or the disk refuses.
    """
    now = known_sha256(film)
    answer = said or kept_answer(folder, now) or ask()
    record = None if answer.record is None else answer.record.model_dump(mode="json", exclude={"seal"})
    text = json.dumps({"film": now, "consent": record})

    def write(part: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")

    write_atomically(folder / _ANSWER, write)


def kept_answer(folder: Path, film: str) -> Agreed | None:
    """The answer that lies in ``folder``; None where there is none, or only one about another film.

    Args:
        folder: need not be there.
        film: sha256 of the film that it must be about.

    Raises:
        AvatarError: it is damaged.
    """
    path = folder / _ANSWER
    if not path.is_file():
        return None
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["film"] != film:
            return None
        return Agreed(None if kept["consent"] is None else Consent.model_validate(kept["consent"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AvatarError(f"{path} is damaged ({error}): remove it, and say the consent again") from error
