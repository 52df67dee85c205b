"""What a bundle leaves out of the wheels it is made of, what it shares between them, and why.

All paths are relative to the folder in which PyInstaller keeps the libraries (``_internal``).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Pattern -> why nobody misses it.
LEFT_OUT = {
    "onnxruntime/capi/libonnxruntime.so*": "for programs in C; the Python module has all of it in itself",
    "onnxruntime/quantization": "makes models smaller",
    "onnxruntime/tools": "converts models",
    "onnxruntime/transformers": "converts language models",
    "numpy/_core/_*_tests*.so": "numpy's own tests",
    "numpy/*/tests": "the same",
    "c2pa/libs/*.rlib": "for programs in Rust",
    "c2pa/libs/*.d": "notes of the compiler",
    "libmvec.so*": "part of glibc, which every machine has in its own version",
}

#: Libraries of OpenCV's wheel that PyAV's wheel brings too; OpenCV is given PyAV's.
SHARED = ("libavcodec", "libavformat", "libavutil", "libswscale", "libswresample")
SHARED_FROM, SHARED_BY = "av.libs", "opencv_python_headless.libs"

#: Symbol files and debug information of these are dropped; the loader does not read them.
STRIPPED = (
    *("av/**/*.so", "cryptography/**/*.so", "numpy/**/*.so", "pylibsrtp/*.so"),
    *("libpython*.so*", "python3*/lib-dynload/*.so"),
)


@dataclass(frozen=True)
class Hollow:
    """A library that others are linked to and that lipwright never enters: replaced by one that does nothing."""

    pattern: str
    why: str
    answer: str
    """The C statement of each of its functions."""


HOLLOW = (
    Hollow(f"{SHARED_BY}/libaom*.so*", "reads and writes AVIF pictures; every call fails", "return -1;"),
    Hollow(f"{SHARED_FROM}/libx265*.so*", "writes HEVC; FFmpeg itself reads it. There is no such encoder", "return 0;"),
    Hollow(f"{SHARED_FROM}/libSvtAv1Enc*.so*", "writes AV1; dav1d reads it. Every call fails", "return -1;"),
)


@dataclass(frozen=True)
class Change:
    """What one rule did."""

    what: str
    why: str
    saved: int
    """Bytes."""


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links count nothing."""
    files = path.rglob("*") if path.is_dir() else iter([path])
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())


def leave_out(inside: Path) -> Iterator[Change]:
    """Remove what ``LEFT_OUT`` names; a rule that finds nothing saves nothing."""
    for pattern, why in LEFT_OUT.items():
        found = sorted(inside.glob(pattern))
        yield Change(pattern, why, sum(map(size, found)))
        for path in found:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def share(inside: Path) -> Iterator[Change]:
    """Let OpenCV use PyAV's FFmpeg where both are of one major version, whose interface does not change."""
    for name in SHARED:
        ours, theirs = (sorted((inside / folder).glob(f"{name}-*.so.*")) for folder in (SHARED_FROM, SHARED_BY))
        if len(ours) == len(theirs) == 1 and major(ours[0]) == major(theirs[0]):
            saved = size(theirs[0])
            theirs[0].unlink()
            theirs[0].symlink_to(Path("..", SHARED_FROM, ours[0].name))
            yield Change(theirs[0].name, f"PyAV's {ours[0].name} in its place", saved)


def major(library: Path) -> str:
    """The first number after ``.so.``."""
    return library.name.partition(".so.")[2].partition(".")[0]


def hollow(inside: Path) -> Iterator[Change]:
    """Replace what ``HOLLOW`` names."""
    for rule in HOLLOW:
        for library in sorted(inside.glob(rule.pattern)):
            if not library.is_symlink():
                before = size(library)
                _replace(library, hollow_source(_needed(library, inside), rule.answer))
                yield Change(library.name, rule.why, before - size(library))


def hollow_source(functions: list[str], answer: str) -> str:
    """C of a library whose functions all do the same."""
    bodies = [f"long {name}(void) {{ {answer} }}" for name in functions]
    return "\n".join([*bodies, ""])


def _needed(library: Path, inside: Path) -> list[str]:
    """Functions of ``library`` that others, of its own wheel, ask for."""
    offered = set(symbols(library, "--defined-only"))
    near = [*library.parent.glob("*.so*"), *inside.glob("cv2/*.so")]
    users = [path for path in near if path != library and not path.is_symlink()]
    asked = {name for user in users if library.name in needed_by(user) for name in symbols(user, "--undefined-only")}
    return sorted(offered & asked)


def needed_by(user: Path) -> list[str]:
    """File names of the libraries that ``user`` is linked to."""
    return re.findall(r"\(NEEDED\).*\[(\S+)\]", _tool("readelf", "--dynamic", user))


def symbols(library: Path, which: str) -> list[str]:
    """Names in the dynamic symbol table, without their versions; ``which`` is an option of nm."""
    lines = _tool("nm", "--dynamic", which, library).splitlines()
    return [line.split()[-1].partition("@")[0] for line in lines if line.strip()]


def _replace(library: Path, source: str) -> None:
    code = library.with_name(f"{library.name}.c")
    code.write_text(source, encoding="utf-8")
    options = ["-shared", "-fPIC", "-Os", "-s", f"-Wl,-soname,{library.name}"]
    try:
        _tool("gcc", *options, "-o", f"{library}.part", code)
    finally:
        code.unlink()
    Path(f"{library}.part").replace(library)


def strip(inside: Path) -> Iterator[Change]:
    """Drop the symbols that only a debugger reads."""
    for pattern in STRIPPED:
        found = [path for path in sorted(inside.glob(pattern)) if path.is_file() and not path.is_symlink()]
        before = sum(map(size, found))
        if found:
            _tool("strip", "--strip-unneeded", *found)
        yield Change(pattern, "symbols that only a debugger reads", before - sum(map(size, found)))


def orphans(inside: Path) -> Iterator[Change]:
    """Remove what nothing needs any more: dangling links, and libraries that only the replaced ones used."""
    while True:
        lost = [path for path in sorted(inside.rglob("*")) if path.is_symlink() and not path.exists()]
        lost += _unused(inside)
        if not lost:
            return
        for path in lost:
            saved = 0 if path.is_symlink() else size(path)
            path.unlink()
            if saved:
                yield Change(path.name, "only libraries that were replaced needed it", saved)


def _unused(inside: Path) -> list[Path]:
    libraries = [path for path in sorted((inside / SHARED_BY).glob("*.so*")) if not path.is_symlink()]
    programs = [*libraries, *inside.glob("cv2/*.so")]
    asked = {name for path in programs for name in needed_by(path)}
    return [path for path in libraries if path.name not in asked]


def glibc(folder: Path) -> tuple[int, ...]:
    """The version of the C library that the files of ``folder`` ask for."""
    asked = {
        tuple(map(int, version.split(b".")))
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path.open("rb").read(4) == b"\x7fELF"
        for version in re.findall(rb"\0GLIBC_(\d+\.\d+)(?=\0)", path.read_bytes())
    }
    return max(asked, default=(0,))


def _tool(name: str, *arguments: str | Path) -> str:
    """What a program of binutils or gcc prints.

    Raises:
        SystemExit: it is not there, or fails.
    """
    program = shutil.which(name)
    if program is None:
        raise SystemExit(f"{name} is missing: install gcc and binutils")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def trim(inside: Path) -> list[Change]:
    """Everything above, in its order."""
    steps = (leave_out, share, hollow, strip, orphans)
    return [change for step in steps for change in step(inside) if change.saved]
