"""`prepare` on real recordings, and killed at any moment: minutes, so these run with -m slow."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lipwright.prepare import Kind, prepare
from media import write_film
from talking import face, openings, speech
from tools.film_score import (
    FILMS,
    IN_SYNC,
    LEAST_IOU,
    LEAST_STRETCHES,
    MOST_ERROR,
    MOST_OFFSET,
    STRETCHES,
    Film,
    against_truth,
    see,
    shift_errors,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def films(dev_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Film]:
    return {
        name: see(dev_data / "video" / f"{name}.mp4", size, tmp_path_factory.mktemp(name))
        for name, size in FILMS.items()
    }


@pytest.mark.dev_data
def test_shifts_are_measured_within_a_frame_on_nine_of_ten(films: dict[str, Film]) -> None:
    errors = np.stack([shift_errors(films[name], first) for name, first in STRETCHES])
    assert (np.abs(errors) <= 1).all(axis=1).sum() >= LEAST_STRETCHES, errors


@pytest.mark.dev_data
@pytest.mark.parametrize("name", IN_SYNC)
def test_faces_and_rects_are_where_they_truly_are(films: dict[str, Film], dev_data: Path, name: str) -> None:
    truth = np.load(dev_data / "video" / f"{name}_truth.npz")["landmarks68"]
    error, iou = against_truth(films[name].judged, truth)
    assert error <= MOST_ERROR and iou.mean() >= LEAST_IOU


@pytest.mark.dev_data
@pytest.mark.parametrize("name", IN_SYNC)
def test_the_presenter_is_in_sync_within_half_a_frame(films: dict[str, Film], name: str) -> None:
    offset = films[name].judged.offset
    assert offset.sure and abs(offset.frames) <= MOST_OFFSET


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
