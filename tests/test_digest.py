"""What tells one file from another."""

from __future__ import annotations

import os
import shutil
from hashlib import sha256
from pathlib import Path
from unittest import mock

from lipwright import digest


def test_a_copy_under_another_name_and_of_another_day_is_the_same_file(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(os.urandom(3 << 20))
    copy = Path(shutil.copy(film, tmp_path / "copy.mp4"))
    os.utime(copy, (1, 1))
    assert digest.known_sha256(copy) == digest.known_sha256(film) == sha256(film.read_bytes()).hexdigest()


def test_a_file_is_read_again_only_when_it_has_changed(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(bytes(1000))
    with mock.patch.object(digest, "sha256", wraps=digest.sha256) as read:
        first = [digest.known_sha256(film) for _ in range(3)]
        assert read.call_count == 1 and len(set(first)) == 1
        film.write_bytes(bytes(999) + b"1")  # as long as before
        os.utime(film, (1, 1))
        assert digest.known_sha256(film) not in first and read.call_count == 2
