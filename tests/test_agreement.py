"""`create` asks about consent once, before anything that takes long; who is at no terminal says it by options."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from avatars import Parts, make_avatar
from command import Command
from lipwright.avatar import Avatar, Consent, consent_standing
from lipwright.avatar.storage import remove_folder
from lipwright.create import Agreed, training_folder
from lipwright.create import create as create_avatar
from lipwright.create.agreement import kept_answer, settle
from lipwright.create.fit import _signed, training_begun
from lipwright.digest import known_sha256
from lipwright.errors import AvatarError, MediaError
from lipwright.prepare import FILM_SHA256
from media import write_film

ADA = Agreed(Consent(shown="Ada Example", agreed_by="Ada Example", agreed_on=date(2026, 1, 31), purpose="lectures"))
EVE = Agreed(Consent(shown="Eve", agreed_by="her guardian", agreed_on=date(2025, 2, 3), purpose="our news"))


@dataclass
class Person:
    """Who is asked, and how often that was."""

    answer: Agreed = ADA
    asked: int = field(default=0, init=False)

    def __call__(self) -> Agreed:
        self.asked += 1
        return self.answer


@pytest.fixture
def wall(tmp_path: Path) -> Path:
    """A film of nothing: it can be opened, and no avatar can be made of it."""
    return write_film(tmp_path / "wall.mp4", (np.full((64, 64, 3), 90, np.uint8) for _ in range(10)))


def kept(folder: Path, film: Path) -> Agreed | None:
    return kept_answer(folder, known_sha256(film))


# --- the kept answer --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("answer", [ADA, Agreed(None)])
def test_who_was_asked_is_not_asked_again(tmp_path: Path, wall: Path, answer: Agreed) -> None:
    folder, person = tmp_path / "me.training", Person(answer)
    settle(folder, wall, None, person)
    settle(folder, wall, None, person)
    settle(folder, wall, None, person)
    assert person.asked == 1
    assert kept(folder, wall) == answer


def test_what_is_said_now_counts_and_is_kept(tmp_path: Path, wall: Path) -> None:
    folder, person = tmp_path / "me.training", Person()
    settle(folder, wall, EVE, person)
    settle(folder, wall, None, person)
    assert kept(folder, wall) == EVE and person.asked == 0
    settle(folder, wall, Agreed(None), person)
    assert kept(folder, wall) == Agreed(None)


def test_another_film_is_asked_about_anew(tmp_path: Path, wall: Path) -> None:
    folder = tmp_path / "me.training"
    settle(folder, wall, EVE, Person())
    other = write_film(tmp_path / "other.mp4", 3)
    settle(folder, other, None, person := Person())
    assert person.asked == 1 and kept(folder, other) == ADA and kept(folder, wall) is None


@pytest.mark.parametrize("scribble", ["{", "{}", '{"film": "SHA", "consent": {"shown": "Ada"}}', "[]"])
def test_a_damaged_answer_is_named_and_not_guessed(tmp_path: Path, wall: Path, scribble: str) -> None:
    (tmp_path / "consent.json").write_text(scribble.replace("SHA", known_sha256(wall)))
    with pytest.raises(AvatarError, match=r"consent\.json is damaged"):
        settle(tmp_path, wall, None, Person())


# --- the signature ----------------------------------------------------------------------------------------------------
def filmed(folder: Path, film: Path, name: str = "me") -> Avatar:
    """An avatar as it is made of ``film``."""
    avatar = make_avatar(folder, Parts(frames=8), name=name, consent=None)
    return avatar.save(manifest=avatar.manifest.changed(figures={FILM_SHA256: known_sha256(film)}))


def test_the_answer_is_signed_with_the_finished_avatar(tmp_path: Path, wall: Path) -> None:
    avatar = filmed(tmp_path, wall)
    folder = training_folder(avatar.path)
    assert consent_standing(_signed(avatar, None).manifest).state == "none"
    settle(folder, wall, ADA, Person())
    assert not training_begun(avatar.path)
    assert consent_standing(_signed(avatar, None).manifest).state == "signed"
    unsigned = filmed(tmp_path, wall, "other")
    settle(training_folder(unsigned.path), wall, Agreed(None), Person())
    assert consent_standing(_signed(unsigned, None).manifest).state == "none"


def test_an_answer_about_another_film_is_not_signed(tmp_path: Path, wall: Path) -> None:
    other = write_film(tmp_path / "other.mp4", (np.full((64, 64, 3), 20, np.uint8) for _ in range(10)))
    avatar = filmed(tmp_path, other)
    settle(training_folder(avatar.path), wall, ADA, Person())
    assert consent_standing(_signed(avatar, None).manifest).state == "none"


def test_the_pieces_of_a_finished_training_go_at_once(tmp_path: Path) -> None:
    folder = training_folder(tmp_path / "me.avatar")
    (folder / "run").mkdir(parents=True)
    assert training_begun(tmp_path / "me.avatar")
    remove_folder(folder)
    assert list(tmp_path.iterdir()) == []


# --- the terminal -----------------------------------------------------------------------------------------------------
@dataclass
class Spoken:
    """A command at a terminal of its own, and what was seen there."""

    code: int
    seen: str


def at_a_terminal(command: list[str], answers: dict[str, str], patience: float = 300) -> Spoken:
    """Run a command on a pseudo terminal and type the answer when its question has appeared."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True)
    os.close(theirs)
    seen, waiting, limit = "", dict(answers), time.monotonic() + patience
    try:
        while time.monotonic() < limit:
            readable, _, _ = select.select([ours], [], [], 0.2)
            try:
                part = os.read(ours, 4096).decode(errors="replace") if readable else ""
            except OSError:  # the other end is closed: the command has ended
                break
            if readable and not part:
                break
            seen += part
            for question in [q for q in waiting if q in seen]:
                os.write(ours, f"{waiting.pop(question)}\n".encode())
        return Spoken(process.wait(10), seen)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def create(film: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "lipwright", "create", str(film), "-o", str(film.with_suffix(".avatar")), *options]


QUESTIONS = {
    "Who is shown in the film: ": "Ada Example",
    "Who agreed [Ada Example]: ": "",
    "To what (lectures, our news, ...): ": "lectures",
    f"On which day [{date.today()}]: ": "2026-01-31",
}


def test_it_is_asked_on_a_terminal_before_the_work_and_once(wall: Path) -> None:
    odd = {f"On which day [{date.today()}]: ": "tomorrow", "write the day as 2026-01-31": "2026-01-31"}
    first = at_a_terminal(create(wall), QUESTIONS | odd)
    assert first.code == 1 and "no face was seen" in first.seen
    assert first.seen.index("On which day") < first.seen.index("no face was seen")
    assert kept(wall.with_suffix(".training"), wall) == ADA
    again = at_a_terminal(create(wall), {})
    assert again.code == 1 and "no face was seen" in again.seen
    assert "Who" not in again.seen


def test_an_empty_answer_means_there_is_none(wall: Path) -> None:
    spoken = at_a_terminal(create(wall), {"Who is shown in the film: ": ""})
    assert spoken.code == 1 and "Who agreed" not in spoken.seen
    assert re.search(r"films then carry a\s+visible mark", spoken.seen)
    assert kept(wall.with_suffix(".training"), wall) == Agreed(None)


def test_a_film_that_cannot_be_opened_is_told_before_any_question(tmp_path: Path) -> None:
    (tmp_path / "torn.mp4").write_bytes(b"not a film")
    person = Person()
    with pytest.raises(MediaError, match="cannot be opened"):
        create_avatar(tmp_path / "torn.mp4", tmp_path / "torn.avatar", ask=person)
    assert person.asked == 0 and not (tmp_path / "torn.training").exists()


# --- without a terminal -----------------------------------------------------------------------------------------------
OPTIONS = ("--consent-shown", "Ada Example", "--consent-by", "Ada Example", "--consent-for", "lectures")


@pytest.fixture
def run(lipwright: Command, wall: Path) -> Callable[..., int]:
    def create_with(*options: str) -> int:
        return lipwright("create", wall, "-o", wall.with_suffix(".avatar"), *options).code

    return create_with


def test_scripts_say_it_by_options(run: Callable[..., int], wall: Path) -> None:
    assert run(*OPTIONS, "--consent-on", "2026-01-31") == 1
    assert kept(wall.with_suffix(".training"), wall) == ADA
    assert run("--no-consent") == 1
    assert kept(wall.with_suffix(".training"), wall) == Agreed(None)


def test_scripts_that_say_nothing_are_not_asked(run: Callable[..., int], wall: Path) -> None:
    assert run() == 1
    assert kept(wall.with_suffix(".training"), wall) == Agreed(None)


@pytest.mark.parametrize(
    "options", [OPTIONS[:4], ("--consent-on", "2026-01-31"), (*OPTIONS, "--no-consent"), ("--sign-key", "key.pem")]
)
def test_half_of_a_consent_is_wrong_usage(run: Callable[..., int], wall: Path, options: tuple[str, ...]) -> None:
    assert run(*options) == 2
    assert not wall.with_suffix(".training").exists()


def test_the_answer_is_kept_as_it_was_said(tmp_path: Path, wall: Path) -> None:
    settle(tmp_path / "me.training", wall, ADA, Person())
    kept = json.loads((tmp_path / "me.training" / "consent.json").read_text(encoding="utf-8"))
    assert kept["consent"] == {
        "shown": "Ada Example",
        "agreed_by": "Ada Example",
        "agreed_on": "2026-01-31",
        "purpose": "lectures",
        "proof": None,
    }
