"""The program of the single file: unpacks the folder behind it, once for each user, and becomes the lipwright there.

PyInstaller's own single file unpacks everything at every start. This one holds Python alone as such a file, so that a
later start costs a tenth of a second more than the folder. The folder is a zip archive behind the program; its comment
is the sha256 of what is in it.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PROGRAM = "lipwright"
_CHUNK = 1 << 20


def home() -> Path:
    """Where unpacked bundles are kept: in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "lipwright" / "bundle"


def unpacked(file: Path, folder: Path) -> Path:
    """The folder behind ``file``, in ``folder`` under the name of its content; unpacked if it is not there.

    Raises:
        OSError: it cannot be written.
        zipfile.BadZipFile: ``file`` is damaged.
    """
    with zipfile.ZipFile(file) as archive:
        target = folder / archive.comment.decode("ascii")
        if not target.is_dir():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = Path(tempfile.mkdtemp(prefix=".", dir=folder))
            try:
                unpack(archive, draft)
                draft.chmod(0o755)
                draft.rename(target)
            except OSError:
                if not target.is_dir():  # else another process was quicker
                    raise
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return target


def unpack(archive: zipfile.ZipFile, target: Path) -> None:
    """Every file with its mode, every link as one; the largest first, on all cores."""
    entries = sorted(archive.infolist(), key=lambda entry: -entry.file_size)
    for folder in {(target / entry.filename).parent for entry in entries}:
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as workers:
        for done in [workers.submit(_one, archive, entry, target / entry.filename) for entry in entries]:
            done.result()


def _one(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    mode = entry.external_attr >> 16
    if stat.S_ISLNK(mode):
        path.symlink_to(archive.read(entry).decode())
        return
    with archive.open(entry) as packed, path.open("wb") as file:
        shutil.copyfileobj(packed, file, _CHUNK)
    path.chmod(stat.S_IMODE(mode))


def environment() -> dict[str, str]:
    """That of the process without what PyInstaller's program added for itself."""
    own = {**os.environ, "PYINSTALLER_RESET_ENVIRONMENT": "1"}
    before = own.pop("LD_LIBRARY_PATH_ORIG", None)
    own.pop("LD_LIBRARY_PATH", None)
    return own if before is None else {**own, "LD_LIBRARY_PATH": before}


def main() -> None:
    """Unpack and become the program inside; one line and 1 if that cannot be done."""
    try:
        folder = home()
        program = unpacked(Path(sys.executable), folder) / PROGRAM
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:
        sys.exit(f"lipwright: cannot be unpacked ({error}): let XDG_CACHE_HOME name a folder with 500 MB free")
    os.execve(program, [str(program), *sys.argv[1:]], environment())


if __name__ == "__main__":
    main()
