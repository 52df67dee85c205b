"""How these commands end when something is in their way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lipwright.errors import LipwrightError


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
