"""The sha256 of files, which names what an avatar, a film and a measurement were made from."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """The same, read once for as long as the process runs and the file keeps its length and its time."""
    stat = path.stat()
    return _once(path.resolve(), stat.st_size, stat.st_mtime_ns)


@cache
def _once(path: Path, _length: int, _time: int) -> str:
    return sha256(path)
