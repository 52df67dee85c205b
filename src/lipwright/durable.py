"""Names only for what is on the disk: after a power cut a file or folder is there as it should be, or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def take_name(part: Path, path: Path) -> None:
    """Rename a finished file to ``path`` when its bytes are on the disk; an older file there is replaced.

    Without that the system may write the name first, and a power cut leaves it on an empty file.

    Raises:
        OSError: the disk refuses.
    """
    sync_file(part)
    part.replace(path)
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) that appears when it is whole.

    Raises:
        OSError: the disk refuses.
    """
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    take_name(part, path)


def sync_tree(folder: Path) -> None:
    """Wait until all files of ``folder``, and their names in it, are on the disk.

    Raises:
        OSError: the disk refuses.
    """
    for here, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(here, name))
        sync_folder(Path(here))


def sync_file(path: Path) -> None:
    """Wait until the bytes of a file are on the disk.

    Raises:
        OSError: the disk refuses.
    """
    # Windows waits only for files that may be written; elsewhere a file that may only be read will do.
    with path.open("rb+" if os.name == "nt" else "rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can say so (Windows opens no folders)."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
