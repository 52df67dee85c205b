"""The documents' own commands: every shell line of a page, and whether the program that it calls would take it."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import typer

from lipwright import cli
from lipwright.cli.app import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Those and the pages beside them that tell what to call.
PAGES_WITH_COMMANDS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "MODELS.md"]
#: Languages of blocks that a shell reads; "" is also that of drawings.
SHELL = ("bash", "sh", "console", "")
#: A block runs as it stands in tests/test_readme.py if this stands before it.
RUNS = "<!-- test -->"
#: Words that stand for what the reader has.
STANDS_FOR = {"PORT": "8701", "PID": "1", "MINUTES": "1"}

_PROGRAM = re.compile(
    r"(?:[A-Z_]+=\S+ +)*(?:taskset -c \S+ +)?"
    r"(?:(?:lipwright|\./lipwright|python3?|make|pip|pytest|git|curl|export|apt|docker|systemctl|your-program) )"
)
_FENCED = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^ *```$", re.MULTILINE | re.DOTALL)
#: What typer says of wrong usage, whichever click it was built on.
_WRONG_USAGE: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class ShellLine:
    """One call of a program on a page."""

    page: str
    words: tuple[str, ...]
    """The program first; what is set or pinned before it is left out."""
    inline: bool = False
    """Named in a sentence: what must follow may be left out."""
    runs: bool = False
    """In a block that runs as a test."""

    @property
    def action(self) -> str:
        """What is called, without what it is called with: ``lipwright render``, ``tools.seam``, ``make demo``."""
        program, *rest = self.words
        if program.startswith("python") and rest[:1] == ["-m"]:
            return rest[1]
        if program.startswith("python"):
            return rest[0].removesuffix(".py").replace("/", ".")
        first = next((word for word in rest if not word.startswith("-")), "")
        return f"{Path(program).name} {first}".strip() if program in ("lipwright", "./lipwright", "make") else program

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def lines_of(page: Path) -> Iterator[ShellLine]:
    """Every shell line of a page: of its blocks, fenced or indented, and code in its sentences."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for block in _FENCED.finditer(text):
        if block["language"] in SHELL:
            runs = text[: block.start()].rstrip().endswith(RUNS)
            for line in block["code"].splitlines():
                # A block without a language may be a drawing; in one of a shell nothing but commands may stand.
                if _PROGRAM.match(line.strip()) or (block["language"] and line.strip() and not line.startswith("#")):
                    yield from _calls(page.name, line, runs=runs)
    prose = _FENCED.sub("", text)
    for line in re.findall(r"^ {4}(\S.*)$", prose, re.MULTILINE):
        if _PROGRAM.match(line):
            yield from _calls(page.name, line)
    for code in _INLINE.findall(prose):
        if _PROGRAM.match(code):
            yield from _calls(page.name, code, inline=True)


def _calls(page: str, line: str, *, inline: bool = False, runs: bool = False) -> Iterator[ShellLine]:
    for part in re.split(r" && | \| ", line.strip().removeprefix("$ ")):
        words = shlex.split(part, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words[:2] == ["taskset", "-c"]:
            words = words[3:]
        if words[-1:] == ["&"]:
            words.pop()
        if words:
            yield ShellLine(page, tuple(words), inline, runs)


# --- would it be taken? ---------------------------------------------------------------------------------------------


def fault(line: ShellLine) -> str | None:
    """Why the program would refuse this line; None: it would not. Nothing is run."""
    program, *rest = line.words
    judges: dict[str, Callable[[Sequence[str], bool], str | None]] = {
        "lipwright": _lipwright,
        "./lipwright": _lipwright,
        "python": _python,
        "python3": _python,
        "make": _make,
        "pip": _pip,
        "pytest": _pytest,
    }
    found = judges[program](rest, line.inline) if program in judges else None
    return None if found is None else f"{line}: {found}"


def _lipwright(words: Sequence[str], inline: bool) -> str | None:
    assert cli.main is not None  # importing the command has registered its parts
    group: Any = typer.main.get_command(app)
    plain = [STANDS_FOR.get(word.strip("[]"), word.strip("[]")) for word in words]
    name = next((word for word in plain if not word.startswith("-")), None)
    if name is None:
        return None if set(plain) <= {"--help", "-h"} else f"lipwright has no {plain[0]}"
    if name not in group.commands:
        return f"there is no command {name}"
    try:
        group.commands[name].make_context(name, plain[plain.index(name) + 1 :])
    except _WRONG_USAGE as error:
        cut_short = type(error).__name__ in ("MissingParameter", "BadOptionUsage")
        return None if inline and cut_short else str(error.format_message())
    return None


class _TakenError(Exception):
    """The parser took the line."""


def _python(words: Sequence[str], inline: bool) -> str | None:
    if words[0] not in ("-m", "-c") and words[0].endswith(".py"):
        words = ["-m", words[0].removesuffix(".py").replace("/", "."), *words[1:]]
    if words[0] != "-m":
        return None
    module, *arguments = (STANDS_FOR.get(word, word) for word in words[1:])
    if not module.startswith(("tools.", "lipwright.")):
        return None if importlib.util.find_spec(module) else f"there is no module {module}"
    return _argparse(module, [word.strip("[]") for word in arguments], inline)


def _argparse(module: str, arguments: Sequence[str], inline: bool) -> str | None:
    """What the parser in the module's ``main`` says."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None:
        return f"there is no module {module}"
    is_package = spec.submodule_search_locations is not None
    loaded = importlib.import_module(f"{module}.__main__" if is_package else module)
    if "parse_args" not in Path(str(loaded.__file__)).read_text(encoding="utf-8"):
        return f"{module} takes no arguments" if arguments else None
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser: argparse.ArgumentParser, *args: Any) -> NoReturn:
        parse(parser, *args)
        raise _TakenError

    def refuse(_parser: argparse.ArgumentParser, message: str) -> NoReturn:
        raise ValueError(message)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        patched.setattr(argparse.ArgumentParser, "error", refuse)
        patched.setattr(sys, "argv", [module, *arguments])
        try:
            loaded.main()
        except _TakenError:
            return None
        except ValueError as error:
            return None if inline and "required" in str(error) else str(error)
    raise AssertionError(f"{module}.main() has no parser")


def _make(words: Sequence[str], _inline: bool) -> str | None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = [word for word in words if not word.startswith("-") and "=" not in word]
    return next((f"there is no target {word}" for word in named if word not in targets), None)


def _pip(words: Sequence[str], _inline: bool) -> str | None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extras in re.findall(r"(?:lipwright|\.)\[([\w,]+)\]", " ".join(words)):
        unknown = set(extras.split(",")) - set(project["optional-dependencies"])
        if unknown:
            return f"there is no extra {sorted(unknown)}"
    return None


def _pytest(words: Sequence[str], _inline: bool) -> str | None:
    files = [word.partition("::")[0] for word in words if word.startswith("tests/")]
    return next((f"there is no {file}" for file in files if not (ROOT / file).exists()), None)
