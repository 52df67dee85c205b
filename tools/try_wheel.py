"""Build the wheel and the sdist, install each into clean environments, and use lipwright from there.

    python -m tools.try_wheel [--python PYTHON]... [--constraints constraints.txt] [-o dist]

Prints the size of both, how long each install took and how large it is, and what failed; leaves with 1 if anything
did. Needs the package ``build``, and pip's access to the dependencies.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
RATE = 16_000
#: A command that needs an extra, by the extra; without it the pip command must be told.
NEEDS_EXTRA = {
    "train": ["render", "speech.wav", "-o", "torch.mp4", "--runtime", "torch"],
    "serve": ["serve"],
}


@dataclass(frozen=True)
class Installed:
    """A clean environment with lipwright in it."""

    environment: Path
    seconds: float
    """The install took, with every dependency."""

    def run(self, *command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
        """One of its programs, in ``folder``, with nothing of the surroundings but what it needs to find itself."""
        program = self.environment / "bin" / command[0]
        home = {"HOME": str(folder), "PATH": os.defpath}
        return subprocess.run(
            [program, *command[1:]], cwd=folder, env=home, capture_output=True, text=True, check=False
        )

    @property
    def megabytes(self) -> float:
        """Of all that pip installed, pip itself left out."""
        packages = next(self.environment.glob("lib/python*/site-packages"))
        files = (path for path in packages.rglob("*") if path.is_file() and not path.is_symlink())
        return sum(path.stat().st_size for path in files if path.relative_to(packages).parts[0] != "pip") / 1e6


def build(out: Path) -> list[Path]:
    """The wheel and the sdist of this checkout."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", out, ROOT], check=True, stdout=subprocess.DEVNULL)
    return [*out.glob("*.whl"), *out.glob("*.tar.gz")]


def install(python: str, package: Path, environment: Path, constraints: Path | None) -> Installed:
    """``package`` and its dependencies in a new environment of ``python``."""
    subprocess.run([python, "-m", "venv", environment], check=True)
    pins = [] if constraints is None else ["-c", str(constraints)]
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    began = time.perf_counter()
    subprocess.run([*pip, *pins, str(package)], check=True)
    return Installed(environment, time.perf_counter() - began)


def write_speech(path: Path) -> None:
    """Half a second of a square hum, enough to be a sound."""
    with wave.open(str(path), "wb") as writer:
        writer.setparams((1, 2, RATE, 0, "NONE", ""))
        writer.writeframes(b"\x00\x10" * 60 + (b"\x00\x20" * 60 + b"\x00\xe0" * 60) * (RATE // 240))


def faults(installed: Installed, folder: Path) -> Iterator[str]:
    """What does not work, in sentences."""
    write_speech(folder / "speech.wav")
    uses = (
        ("lipwright", "render", "speech.wav", "-o", "film.mp4"),
        ("lipwright", "verify", "film.mp4"),
        ("lipwright", "info", "--verify"),
        ("lipwright", "doctor"),
        ("python", "-c", "import lipwright, sys; lipwright.Avatar; sys.exit('torch' in sys.modules)"),
    )
    for use in uses:
        done = installed.run(*use, folder=folder)
        if done.returncode:
            yield f"{' '.join(use)}: {done.returncode}: {(done.stdout + done.stderr).strip()[-300:]}"
    for extra, command in NEEDS_EXTRA.items():
        done = installed.run("lipwright", *command, folder=folder)
        if done.returncode != 1 or f"pip install 'lipwright[{extra}]'" not in done.stderr:
            yield f"lipwright {' '.join(command)} without the extra {extra}: {done.stderr.strip()[-300:]}"


def main() -> int:
    """Build, install, use; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", help="interpreter to try; repeat it (default: this one)")
    parser.add_argument("--constraints", type=Path, help="exact versions for pip")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "dist", help="folder of wheel and sdist")
    options = parser.parse_args()
    failed = False
    for package in build(options.out):
        print(f"{package.name}: {package.stat().st_size / 1e6:.1f} MB", flush=True)
        for python in options.python or [sys.executable]:
            with tempfile.TemporaryDirectory() as scratch:
                use = Path(scratch, "use")
                use.mkdir()
                installed = install(python, package, Path(scratch, "env"), options.constraints)
                found = list(faults(installed, use))
                version = installed.run("python", "--version", folder=use).stdout.strip()
                print(f"  {version}: installed in {installed.seconds:.0f} s, {installed.megabytes:.0f} MB", flush=True)
                print("\n".join(f"    failed: {fault}" for fault in found) or "    works", flush=True)
                failed = failed or bool(found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
