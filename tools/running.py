"""How long commands begin, go on and end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lipwright.digest import sha256
from lipwright.durable import write_text
from lipwright.errors import LipwrightError

#: What the work in a folder was asked for.
ASKED = "asked.json"


def claim(folder: Path, asked: Mapping[str, object]) -> None:
    """Make the folder belong to what was asked for.

    Raises:
        LipwrightError: it belongs to something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, text = folder / ASKED, json.dumps(asked, indent=1)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise LipwrightError(f"{folder} was begun with other files or arguments ({path}): choose another folder")
    write_text(path, text)


def digest_of(path: Path) -> str:
    """sha256 of a file that was named on the command line.

    Raises:
        LipwrightError: it cannot be read.
    """
    try:
        return sha256(path)
    except OSError as error:
        raise LipwrightError(f"{path} cannot be read: {error.strerror or error}") from error


@contextmanager
def in_a_sentence() -> Iterator[None]:
    """Errors that the user can mend, and Ctrl-C, end the command with one line instead of a traceback.

    Raises:
        SystemExit: with that line.
    """
    try:
        yield
    except LipwrightError as error:
        raise SystemExit(f"error: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit("stopped; call it again to go on") from None
