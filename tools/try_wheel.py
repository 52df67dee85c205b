"""Build the wheel and the sdist, install each into clean environments, and use lipwright from there.

    python -m tools.try_wheel [--python PYTHON]... [--constraints constraints.txt] [--pip="--index-url URL"] [-o dist]
    python -m tools.try_wheel --extras serve webrtc grpc --python python3.13

Wheel and sdist are installed alone, and do what a user does first; then every extra of the wheel is installed into an
environment of its own (``--extras`` without a name: none of them). What lacks an extra must be told with the pip
command, and what has one must do what it is for. Prints the size of both files, how long each install took and how
large it is, and what failed; leaves with 1 if anything did. Needs the package ``build``, and pip's access to the
dependencies.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
RATE = 16_000
#: Seconds in which a server is up, on a busy machine too.
PATIENCE = 120.0
#: What a user does first, in an environment without any extra.
FIRST = (
    ("lipwright", "demo", "-o", "demo.mp4"),
    ("lipwright", "render", "speech.wav", "-o", "film.mp4"),
    ("lipwright", "render", "speech.wav", "-o", "frames/", "--frames", "3"),
    ("lipwright", "verify", "film.mp4"),
    ("lipwright", "info", "--verify"),
    ("lipwright", "doctor"),
    ("python", "-m", "lipwright", "--help"),
    ("python", "-c", "import lipwright, sys; lipwright.Avatar; sys.exit('torch' in sys.modules)"),
)
#: Commands that need an extra, by the extra: without it, they leave with the pip command and nothing else.
NEEDS = {
    "train": (
        ("lipwright", "create", "me.mp4", "-o", "me.avatar"),
        ("lipwright", "render", "speech.wav", "-o", "torch.mp4", "--runtime", "torch"),
        ("python", "-m", "lipwright.training", "pack.npz", "RUN"),
    ),
    "serve": (("lipwright", "serve"),),
}
#: What shows that an extra brings what it is for.
SHOWS = {
    "train": (
        ("python", "-m", "lipwright.training", "--help"),
        ("python", "-c", "import lipwright.export, lipwright.training.person, onnx"),
    ),
    "docs": (("mkdocs", "build", "--strict", "--config-file", str(ROOT / "mkdocs.yml"), "--site-dir", "site"),),
    "dev": (("pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT), str(ROOT / "tests/test_contract.py")),),
}
#: Extras with which the server runs.
SERVES = ("serve", "webrtc", "grpc", "all", "dev")


@dataclass(frozen=True)
class Installed:
    """A clean environment with lipwright in it."""

    environment: Path
    seconds: float
    """The install took, with every dependency."""

    def run(self, *command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
        """One of its programs, in ``folder``."""
        return subprocess.run(
            self._command(command), cwd=folder, env=_bare(folder), capture_output=True, text=True, check=False
        )

    def start(self, *command: str | Path, folder: Path) -> subprocess.Popen[str]:
        """The same without waiting for its end; what it says on stderr can be read."""
        return subprocess.Popen(
            self._command(command), cwd=folder, env=_bare(folder), stderr=subprocess.PIPE, text=True
        )

    def _command(self, command: Sequence[str | Path]) -> list[str]:
        return [str(self.environment / "bin" / command[0]), *map(str, command[1:])]

    @property
    def megabytes(self) -> float:
        """Of all that pip installed, pip itself left out."""
        packages = next(self.environment.glob("lib/python*/site-packages"))
        files = (path for path in packages.rglob("*") if path.is_file() and not path.is_symlink())
        return sum(path.stat().st_size for path in files if path.relative_to(packages).parts[0] != "pip") / 1e6


def _bare(folder: Path) -> dict[str, str]:
    """Nothing of the surroundings but what a program needs to find itself."""
    return {"HOME": str(folder), "PATH": os.defpath}


@dataclass(frozen=True)
class Ways:
    """How to install."""

    constraints: Path | None
    pip: Sequence[str]
    """Further options."""

    def install(self, python: str, package: Path, extra: str, environment: Path) -> Installed:
        """``package`` with an extra ("": none) and its dependencies in a new environment of ``python``.

        Raises:
            CalledProcessError: pip could not.
        """
        subprocess.run([python, "-m", "venv", environment], check=True)
        pins = [] if self.constraints is None else ["-c", str(self.constraints)]
        pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        what = f"{package}[{extra}]" if extra else str(package)
        began = time.perf_counter()
        subprocess.run([*pip, *self.pip, *pins, what], check=True)
        return Installed(environment, time.perf_counter() - began)


def build(out: Path) -> tuple[Path, Path]:
    """The wheel and the sdist of this checkout."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            [sys.executable, "-m", "build", "--outdir", scratch, ROOT], check=True, stdout=subprocess.DEVNULL
        )
        out.mkdir(parents=True, exist_ok=True)
        wheel, sdist = (next(Path(scratch).glob(name)) for name in ("*.whl", "*.tar.gz"))
        return wheel.replace(out / wheel.name), sdist.replace(out / sdist.name)


def write_speech(path: Path) -> None:
    """Two seconds of a square hum, enough to be a sound."""
    with wave.open(str(path), "wb") as writer:
        writer.setparams((1, 2, RATE, 0, "NONE", ""))
        writer.writeframes((b"\x00\x20" * 60 + b"\x00\xe0" * 60) * (2 * RATE // 120))


def faults(installed: Installed, extra: str, folder: Path) -> Iterator[str]:
    """What does not work in an environment with ``extra`` ("": none), in sentences."""
    write_speech(folder / "speech.wav")
    for use in SHOWS.get(extra, ()) if extra else FIRST:
        done = installed.run(*use, folder=folder)
        if done.returncode:
            yield f"{' '.join(use)}: {done.returncode}: {(done.stdout + done.stderr).strip()[-300:]}"
    if extra == "":
        yield from untold(installed, folder)
    if extra in SERVES:
        yield from server_faults(installed, extra, folder)


def untold(installed: Installed, folder: Path) -> Iterator[str]:
    """Commands that lack an extra and do not say so in one line."""
    for extra, commands in NEEDS.items():
        for command in commands:
            done = installed.run(*command, folder=folder)
            told = done.stderr.count("\n") == 1 and f"pip install 'lipwright[{extra}]'" in done.stderr
            if done.returncode != 1 or not told:
                yield f"{' '.join(command)} without the extra {extra}: {done.stderr.strip()[-300:]}"


def server_faults(installed: Installed, extra: str, folder: Path) -> Iterator[str]:
    """Whether the server comes up with all the doors of ``extra``, and tells what the others need."""
    has_grpc, has_webrtc = (extra in (name, "all", "dev") for name in ("grpc", "webrtc"))
    if not has_grpc:
        done = installed.run("lipwright", "serve", "--port", "0", "--grpc-port", "0", folder=folder)
        if done.returncode != 1 or "pip install 'lipwright[grpc]'" not in done.stderr:
            yield f"lipwright serve --grpc-port 0 with {extra} alone: {done.stderr.strip()[-300:]}"
    doors = ["--grpc-port", "0"] if has_grpc else []
    said = said_until_up(installed.start("lipwright", "serve", "--port", "0", *doors, folder=folder))
    if not any("http://" in line for line in said):
        yield f"lipwright serve with {extra} does not come up: {''.join(said)[-300:]}"
    if any("pip install 'lipwright[webrtc]'" in line for line in said) == has_webrtc:
        yield f"lipwright serve with {extra} says the wrong thing about WebRTC: {''.join(said)[-300:]}"


def said_until_up(server: subprocess.Popen[str]) -> list[str]:
    """Lines of a server on stderr up to its address; it is stopped then, or when it does not come up."""
    said: list[str] = []
    assert server.stderr is not None
    end = time.monotonic() + PATIENCE
    for line in server.stderr:
        said.append(line)
        if "http://" in line or time.monotonic() > end:
            break
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        server.kill()
        said.append("it had to be killed")
    server.stderr.close()
    return said


def all_extras() -> list[str]:
    """The extras of pyproject.toml, in its order."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["optional-dependencies"])


def works(ways: Ways, python: str, package: Path, extra: str) -> bool:
    """Install and use; print what came of it."""
    with tempfile.TemporaryDirectory() as scratch:
        use = Path(scratch, "use")
        use.mkdir()
        name = f"{package.suffix}{f' [{extra}]' if extra else ''}"
        try:
            installed = ways.install(python, package, extra, Path(scratch, "env"))
        except subprocess.CalledProcessError as error:
            print(f"  {name}: cannot be installed: {error}", flush=True)
            return False
        found = list(faults(installed, extra, use))
        version = installed.run("python", "--version", folder=use).stdout.strip()
        print(f"  {name}, {version}: {installed.seconds:.0f} s, {installed.megabytes:.0f} MB", flush=True)
        print("\n".join(f"    failed: {fault}" for fault in found) or "    works", flush=True)
        return not found


def main() -> int:
    """Build, install, use; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", help="interpreter to try; repeat it (default: this one)")
    parser.add_argument("--constraints", type=Path, help="exact versions for pip")
    parser.add_argument("--pip", default="", help="further options for pip, as one word")
    parser.add_argument("--extras", nargs="*", default=all_extras(), help="extras to try (default: all)")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "dist", help="folder of wheel and sdist")
    options = parser.parse_args()
    ways = Ways(options.constraints, shlex.split(options.pip))
    wheel, sdist = build(options.out)
    for package in (wheel, sdist):
        print(f"{package.name}: {package.stat().st_size / 1e6:.1f} MB", flush=True)
    done = [
        works(ways, python, package, extra)
        for python in options.python or [sys.executable]
        for package, extra in [(wheel, ""), (sdist, ""), *((wheel, extra) for extra in options.extras)]
    ]
    return int(not all(done))


if __name__ == "__main__":
    sys.exit(main())
