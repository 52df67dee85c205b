"""The command itself, which the commands of this folder join, and what they share."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

if TYPE_CHECKING:
    from lipwright.avatar import Avatar

app = typer.Typer(
    name="lipwright",
    help="Speech in, a video of a person saying it out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def open_avatar(name: str | None) -> Avatar:
    """The avatar called ``name`` on the command line; None: the built-in presenter."""
    from lipwright.avatar import Avatar, builtin_avatar

    return Avatar.open(builtin_avatar() if name is None else name)


class _Speed(ProgressColumn):
    """Frames a second so far."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        return Text("" if task.speed is None else f"{task.speed:.1f} fps")


def progress_bar(*first: ProgressColumn) -> Progress:
    """Frames done, speed and time left on stderr after the ``first`` columns; nothing where nobody watches."""
    console = Console(stderr=True)
    columns = (*first, BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty())


def print_json(value: object) -> None:
    """A result for programs, on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
