"""Packages on the disk: paths that stay inside, hashes, and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lipwright.avatar.manifest import check_relative
from lipwright.digest import sha256
from lipwright.durable import sync_folder, sync_tree
from lipwright.errors import AvatarError

MANIFEST = "avatar.json"
SUFFIX = ".avatar"

#: What one file of a package is made from: a file to copy, or an array for a ``.npy``.
Content = Path | npt.NDArray[np.generic]


def named(path: Path) -> Path:
    """``path``, whole where it ends in no name of its own (``.``): what lies beside an avatar is called after it."""
    return path if path.name not in ("", "..") else path.resolve()


def inside(folder: Path, name: str) -> Path:
    """``folder / name``.

    Raises:
        AvatarError: the path leaves the folder (absolute, ``..``, or a symbolic link that leads out).
    """
    try:
        check_relative(name)
    except ValueError as error:
        raise AvatarError(f"{folder}: {error}") from error
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise AvatarError(f"{folder}: {name} is a link that leaves the package; put the file itself there")
    return path


def existing(folder: Path, name: str) -> Path:
    """Like ``inside``, for a file that must be there."""
    path = inside(folder, name)
    if not path.is_file():
        raise AvatarError(f"{folder}: {name} is missing")
    return path


def load_array(path: Path) -> npt.NDArray[np.generic]:
    """Read a ``.npy`` without ever unpickling.

    Raises:
        AvatarError: unreadable, damaged, or made of Python objects.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise AvatarError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, MemoryError) as error:  # numpy's own words advise to load pickles: nobody should
        raise AvatarError(f"{path} is no plain .npy array of numbers, or is damaged: make it anew") from error
    if not isinstance(array, np.ndarray):
        raise AvatarError(f"{path} is not a .npy file (an .npz archive?)")
    return array


@contextmanager
def new_folder(out: Path, *, replace: bool) -> Iterator[Path]:
    """A temporary folder beside ``out`` that gets its name when the block ends well and vanishes when it does not.

    Raises:
        AvatarError: ``out`` exists (and is not an avatar to be replaced), or the disk refuses.
    """
    check_target(out, replace=replace)
    try:
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise AvatarError(f"cannot write into {out.parent}: {error.strerror}") from error
    try:
        yield draft
        draft.chmod(0o755)
        sync_tree(draft)
        _take_name(draft, out)
    except OSError as error:
        raise AvatarError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def removed_name(folder: Path) -> Path:
    """What ``folder`` is called while it is removed: a hidden name, as half of a folder would be taken for a whole."""
    return folder.with_name(f".{folder.name}.done")


def clear_removed(folder: Path) -> None:
    """Remove what is left of a removal of ``folder`` that was stopped."""
    shutil.rmtree(removed_name(folder), ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove ``folder``, if it is there, and what is left of an earlier removal.

    Raises:
        AvatarError: the disk refuses to give it another name.
    """
    clear_removed(folder)
    if folder.exists():
        try:
            folder.rename(removed_name(folder))
        except OSError as error:
            raise AvatarError(f"{folder} cannot be removed: {error.strerror or error}") from error
        clear_removed(folder)


def check_target(out: Path, *, replace: bool) -> None:
    """Raise AvatarError unless a package may be written to ``out``: a free ``NAME.avatar``, or one to be replaced."""
    if not out.exists():
        if out.suffix != SUFFIX:
            raise AvatarError(f"{out.name}: the folder of an avatar is called NAME{SUFFIX}")
    elif not (out / MANIFEST).is_file():
        raise AvatarError(f"{out} exists and is not an avatar: choose another name")
    elif not replace:
        raise AvatarError(f"{out} exists already: choose another name, or replace it with --force")


def _take_name(draft: Path, out: Path) -> None:
    """Rename ``draft`` to ``out``; an older ``out`` comes back if that fails."""
    if not out.exists():
        draft.rename(out)
        sync_folder(out.parent)
        return
    old = draft.with_name(f"{draft.name}.old")
    out.rename(old)
    try:
        draft.rename(out)
    except BaseException:
        old.rename(out)
        raise
    sync_folder(out.parent)
    shutil.rmtree(old)


def fill(folder: Path, contents: Mapping[str, Content], own: Path) -> dict[str, str]:
    """Write ``contents`` into ``folder`` and return the sha256 of each file by its name.

    Files that lie in ``own`` (the package being rewritten) are linked instead of copied: templates are large.
    """
    for name, content in contents.items():
        target = inside(folder, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            _bring(content, target, link=content.is_relative_to(own))
        else:
            np.save(target, content, allow_pickle=False)
    return {name: sha256(folder / name) for name in sorted(contents)}


def _bring(source: Path, target: Path, *, link: bool) -> None:
    if not source.is_file():
        raise AvatarError(f"{source} is missing")
    if link:
        try:
            os.link(source, target)
        except OSError:  # a file system without hard links: a copy does as well
            shutil.copyfile(source, target)
    else:
        shutil.copyfile(source, target)
