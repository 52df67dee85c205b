"""`prepare` on real recordings, and killed at any moment: minutes, so these run with -m slow."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lipwright.contract import FPS, SAMPLES_PER_FRAME, FloatArray
from lipwright.prepare import Kind, prepare
from lipwright.prepare.film import Pieces, walk
from lipwright.prepare.judge import Judged, judge
from lipwright.prepare.offset import Offset, estimate_offset
from lipwright.prepare.sound import Sound, listen
from media import write_film
from talking import face, openings, speech

pytestmark = pytest.mark.slow

FILMS = {
    "ls_demo1": (1920, 1080),
    "ls_demo2": (1920, 1080),
    "presenter_v0": (720, 1280),
    "presenter_v0_paired": (720, 1280),
}
#: Stretches of 10 s, as film and first frame: all of the real recordings, and seven of the presenter.
STRETCHES = [("ls_demo1", 0), ("ls_demo2", 0), ("ls_demo2", 250), *(("presenter_v0", 200 * k) for k in range(7))]


@dataclass(frozen=True)
class Film:
    judged: Judged
    sound: Sound


@pytest.fixture(scope="module")
def films(dev_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Film]:
    made = {}
    for name, size in FILMS.items():
        path = dev_data / "video" / f"{name}.mp4"
        seen = walk(path, Pieces(tmp_path_factory.mktemp(name), path), lambda done, total: None)
        sound = listen(path, len(seen.thumbs))
        made[name] = Film(judge(seen, sound, size), sound)
    return made


def estimate(marks: FloatArray, samples: FloatArray, late: int = 0) -> Offset:
    sound = Sound(samples, np.zeros(len(marks), bool), len(marks) / FPS)
    return estimate_offset(marks, sound.moved(late))


@pytest.mark.dev_data
def test_shifts_are_measured_within_a_frame_on_nine_of_ten(films: dict[str, Film]) -> None:
    good = []
    for name, first in STRETCHES:
        film, part = films[name], slice(first, first + 250)
        marks = film.judged.landmarks[part]
        samples = film.sound.samples[first * SAMPLES_PER_FRAME : (first + len(marks)) * SAMPLES_PER_FRAME]
        original = estimate(marks, samples)
        errors = [estimate(marks, samples, late).frames + late - original.frames for late in (-6, -3, 3, 6)]
        good.append(all(abs(error) <= 1 for error in errors))
        print(name, first, original, np.round(errors, 2), flush=True)  # noqa: T201  (shown with -s)
    assert sum(good) >= 9


@pytest.mark.dev_data
@pytest.mark.parametrize("name", ["presenter_v0", "presenter_v0_paired"])
def test_the_presenter_is_in_sync_within_half_a_frame(films: dict[str, Film], name: str) -> None:
    offset = films[name].judged.offset
    assert offset.sure and abs(offset.frames) <= 0.5


@pytest.mark.dev_data
@pytest.mark.parametrize("name", FILMS)
def test_good_films_are_used_and_not_complained_of(films: dict[str, Film], name: str) -> None:
    judged = films[name].judged
    assert judged.usable.all()
    assert judged.move == 0
    # The second recording has three jump cuts, at 7.9, 9.5 and 10.5 s.
    assert [p.start for p in judged.problems if p.kind is Kind.CUT] == ([197, 237, 262] if name == "ls_demo2" else [])
    assert {p.kind for p in judged.problems} <= {Kind.CUT, Kind.SHORT}


KILLED_LATER = (
    "import sys; from pathlib import Path; from lipwright.prepare import prepare; prepare(*map(Path, sys.argv[1:]))"
)


def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    pictures = (face(float(opening)) for opening in openings(speech(260)))
    film = write_film(tmp_path / "me.mp4", pictures, samples=speech(260)[:, None])
    straight = prepare(film, tmp_path / "straight.avatar").avatar.path
    out, patience = tmp_path / "killed" / "straight.avatar", 2.0
    out.parent.mkdir()
    lives = 0
    while not out.exists():
        life = subprocess.Popen([sys.executable, "-c", KILLED_LATER, str(film), str(out)])
        try:
            life.wait(patience)
        except subprocess.TimeoutExpired:
            life.send_signal(signal.SIGKILL)
            life.wait()
        lives, patience = lives + 1, patience * 1.1
    assert lives > 2
    files = {
        p.relative_to(straight): hashlib.sha256(p.read_bytes()).digest() for p in straight.rglob("*") if p.is_file()
    }
    assert files == {p.relative_to(out): hashlib.sha256(p.read_bytes()).digest() for p in out.rglob("*") if p.is_file()}
