"""The pages' commands in their order, as they stand but for times and numbers that would take hours."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from media import write_film
from pages import ROOT, ShellLine, lines_of
from talking import speech
from test_create import pictures
from test_readme import furnish, write_avatar
from test_vectors import PAGE as VECTORS

#: Frames of a film that is just long enough to be learnt from.
FRAMES = 300


def commands(page: str, *actions: str) -> list[ShellLine]:
    """The shell lines of a page outside of its sentences that call one of these."""
    found = [line for line in lines_of(ROOT / "docs" / page) if not line.inline and line.action in actions]
    assert {line.action for line in found} == set(actions), "the page has changed: so must its test"
    return found


def run(line: ShellLine, folder: Path, instead: Mapping[str, str] | None = None) -> str:
    """One command in ``folder``, with some of its words changed; what it says on stdout."""
    done = subprocess.run(argv(line, instead or {}), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


#: As a checkout is used, from any folder.
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}


def argv(line: ShellLine, instead: Mapping[str, str]) -> list[str]:
    program, *words = (instead.get(word, word) for word in line.words)
    return [sys.executable, *(["-m", "lipwright"] if program == "lipwright" else []), *words]


def test_the_page_of_vectors(tmp_path: Path) -> None:
    """The example on the page stands where the reader's own program would."""
    write, check = commands("vectors.md", "lipwright vectors", "lipwright check")
    furnish(tmp_path, "NAME.avatar")
    run(write, tmp_path, {"10": "2"})
    (code,) = re.findall(r"```python\n(.*?)```", VECTORS.read_text(encoding="utf-8"), re.DOTALL)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert "All 2 limits are kept" in run(check, tmp_path)


def test_the_sheet_of_the_demo(tmp_path: Path) -> None:
    (line,) = commands("presenter.md", "tools.sheet")
    (tmp_path / "out").mkdir()
    (tmp_path / "docs").mkdir()
    write_film(tmp_path / "out" / "demo.mp4", pictures(24), 25)
    box = line.words[line.words.index("--box") + 1]
    run(line, tmp_path, {"tools/sheet.py": str(ROOT / "tools" / "sheet.py"), box: "40,40,360,360"})
    assert (tmp_path / "docs" / "demo_sheet.jpg").read_bytes().startswith(b"\xff\xd8")


@pytest.mark.slow
def test_the_commands_of_the_page_of_performance(tmp_path: Path) -> None:
    """The whole table, of half a second of film, by the runtimes that the page names."""
    bench = next(line for line in commands("performance.md", "lipwright bench") if "--runtime" in line.words)
    run(bench, tmp_path, {"30": "0.5"})
    assert "| end to end |" in (tmp_path / "bench" / "bench.md").read_text(encoding="utf-8")
    furnish(tmp_path, "NAME.avatar")
    (check,) = (line for line in commands("performance.md", "lipwright check"))
    run(check, tmp_path)
    assert (tmp_path / "check" / "check.html").is_file()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "me.mp4"
    return write_film(path, pictures(FRAMES), 25, samples=speech(FRAMES)[:, None])


@pytest.mark.slow
def test_the_page_of_create(film: Path, tmp_path: Path) -> None:
    """Two minutes of training for each hour of the page."""
    minutes = {"60": "2", "30": "2", "me.mp4": str(film)}
    actions = ("lipwright create", "lipwright prepare", "lipwright train", "lipwright.training", "tools.seam")
    folders = {"lipwright create": tmp_path / "whole"}
    steps = tmp_path / "steps"
    for folder in (*folders.values(), steps):
        folder.mkdir()
    for line in commands("create.md", *actions):
        said = run(line, folders.get(line.action, steps), minutes)
        assert line.action != "tools.seam" or "soft" in said
    assert all((folder / "me.avatar" / "avatar.json").is_file() for folder in (tmp_path / "whole", steps))


@pytest.mark.slow
def test_the_page_of_serving(tmp_path: Path) -> None:
    """Every server of the page comes up and says where."""
    for name in ("anna", "ben"):
        write_avatar(tmp_path / f"{name}.avatar")
    for line in commands("serving.md", "lipwright serve"):
        if "0.0.0.0" not in line.words:  # that one needs a certificate of the reader's own name
            said = list(said_by(line, tmp_path))
            assert any("http://127.0.0.1" in text for text in said), f"{line}\n{''.join(said)}"


def said_by(line: ShellLine, folder: Path) -> Iterator[str]:
    """What a server says until it says where it is; it is stopped then."""
    words = argv(ShellLine(line.page, (*line.words, "--port", "0")), {"8701": "0"})
    with subprocess.Popen(words, cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        for text in server.stderr:
            yield text
            if "://" in text:
                break
        server.send_signal(signal.SIGTERM)
