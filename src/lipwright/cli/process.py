"""The process of a command: signals, log, and the words of an error."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from lipwright.errors import LipwrightError

logger = logging.getLogger("lipwright.cli")


class Stop:
    """Ctrl-C and SIGTERM leave by an exception, so that writers remove what is half done.

    An exception that comes at any moment may get lost: in a callback out of C, or in an import that makes another
    error of it. So the signal is remembered, and asked for where frames are counted and where errors end.
    """

    def __init__(self) -> None:
        self._number: int | None = None

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handle the signals for as long as the command runs."""
        self._number = None
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self._handle) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def leave_if_asked(self) -> None:
        """Leave with 128 + the signal's number, if there was one."""
        if self._number is not None:
            sys.exit(128 + self._number)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._number is None:  # a second one must not disturb the removal of what is half done
            self._number = number
            say("stopped; what can go on is kept, the rest is removed")
            self.leave_if_asked()


stop = Stop()


def in_words(error: Exception) -> str:
    """What the user reads of an error."""
    if isinstance(error, LipwrightError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("lipwright"):
        return f"{error.name.partition('.')[0]} is not installed: pip install --force-reinstall lipwright"
    if isinstance(error, OSError) and error.strerror:  # the disk or the system refuses; who asked knows no more
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    remedy = "" if logger.isEnabledFor(logging.DEBUG) else "; run again with --debug to see where"
    return f"unexpected {type(error).__name__}: {error}{remedy}"


def say(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    typer.echo(f"lipwright: {' '.join(message.split())}", err=True)


class _Stderr(logging.Handler):
    """Log lines on the stderr of the moment, which a progress bar may have wrapped."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(self.format(record), err=True)


@contextmanager
def log_on_stderr() -> Iterator[None]:
    """Warnings of the project, or more if a flag asks for it, for as long as the command runs."""
    log = logging.getLogger("lipwright")
    handler = _Stderr()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    before = log.level
    log.setLevel(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def set_verbose(wanted: bool) -> None:
    """The flag ``--verbose``."""
    if wanted:
        logging.getLogger("lipwright").setLevel(logging.INFO)


def set_debug(wanted: bool) -> None:
    """The flag ``--debug``."""
    if wanted:
        logging.getLogger("lipwright").setLevel(logging.DEBUG)
