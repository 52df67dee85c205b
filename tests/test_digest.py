"""What tells one file from another."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lipwright.digest import sampled

_MIB = 1 << 20


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_copy_under_another_name_and_of_another_day_is_the_same_file(tmp_path: Path) -> None:
    film = written(tmp_path / "film.mp4", os.urandom(3 * _MIB))
    copy = shutil.copy(film, tmp_path / "copy.mp4")
    os.utime(copy, (1, 1))
    assert sampled(copy) == sampled(film)


@pytest.mark.parametrize("length", [0, 1, 1000, _MIB, _MIB + 1, 16 * _MIB])
def test_every_byte_of_sixteen_mebibytes_counts(length: int, tmp_path: Path) -> None:
    content = bytearray(length)
    kept = {sampled(written(tmp_path / "film.mp4", content))}
    for place in {0, length // 3, length - 1} & set(range(length)):
        changed = bytearray(content)
        changed[place] ^= 1
        kept.add(sampled(written(tmp_path / "film.mp4", changed)))
    kept.add(sampled(written(tmp_path / "film.mp4", content + b"\0")))
    assert len(kept) == 2 + len({0, length // 3, length - 1} & set(range(length)))


def test_a_long_file_is_known_by_its_ends_and_its_middle(tmp_path: Path) -> None:
    content = bytearray(40 * _MIB)
    first = sampled(written(tmp_path / "film.mp4", content))
    for place in (0, len(content) - 1, 8 * (len(content) - _MIB) // 15):
        changed = bytearray(content)
        changed[place] ^= 1
        assert sampled(written(tmp_path / "film.mp4", changed)) != first
