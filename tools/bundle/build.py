"""From this checkout to a folder and a file that need nothing installed."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.bundle.trim import Change, glibc, size, trim
from tools.bundle.unpack import PROGRAM

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
#: What a server needs of lipwright: everything but training.
EXTRAS = "serve,webrtc,grpc"
BUILDER = "pyinstaller>=6.11,<7"
#: Distributions in the environment that only make the bundle.
BUILDERS = ("pip", "setuptools", "pyinstaller", "pyinstaller-hooks-contrib", "altgraph")
#: PyInstaller's name for the folder of the libraries.
INSIDE = "_internal"
#: Modules that something in the wheels would like to have and that nothing here uses.
UNUSED = (
    *("tkinter", "sqlite3", "curses", "readline", "test", "ensurepip", "idlelib", "lib2to3", "pydoc_data"),
    *("pip", "setuptools", "torch", "onnx", "PIL", "matplotlib", "scipy", "IPython"),
    *("openvino_telemetry", "openvino.tools", "openvino.torch", "openvino.frontend.jax"),
    *("openvino.frontend.paddle", "openvino.frontend.pytorch", "openvino.frontend.tensorflow"),
)
LICENCES = ("LICEN[CS]E*", "NOTICE*", "COPYING*", "ThirdParty*")


@dataclass(frozen=True)
class Paths:
    """Where everything of a bundle lies."""

    out: Path

    @property
    def venv(self) -> Path:
        """The clean environment, which is also the installed package that a bundle is compared with."""
        return self.out / "venv"

    @property
    def wheels(self) -> Path:
        """What pip loaded."""
        return self.out / "wheels"

    @property
    def work(self) -> Path:
        """PyInstaller's own."""
        return self.out / "work"

    @property
    def folder(self) -> Path:
        """The bundle as a folder."""
        return self.out / PROGRAM

    @property
    def file(self) -> Path:
        """The bundle as one file."""
        return self.out / f"{PROGRAM}-{platform.system().lower()}-{platform.machine()}"

    @property
    def facts(self) -> Path:
        """What is known of the build, for later steps."""
        return self.out / "build.json"


@dataclass(frozen=True)
class Built:
    """What came of a build."""

    lipwright: str
    python: str
    openvino: bool
    """Inside beside onnxruntime."""
    glibc: str
    """The oldest C library that will do."""
    folder_bytes: int
    file_bytes: int
    wheel_bytes: int
    """Of the wheels that the usual way loads: no builder's."""
    installed_bytes: int
    """Of the same, installed."""
    install_seconds: float
    """pip took to install them from the disk."""
    trimmed: list[Change]

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Built:
        """What ``write`` wrote.

        Raises:
            SystemExit: nothing was built there.
        """
        if not path.is_file():
            raise SystemExit(f"there is no {path}: build a bundle first, with python -m tools.bundle")
        facts = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**facts, "trimmed": [Change(**change) for change in facts["trimmed"]]})


def build(paths: Paths, *, openvino: bool) -> Built:
    """Build folder and file anew; only the wheels that pip loaded before are kept."""
    seconds = install(paths)
    version = _run(paths.venv / "bin" / "python", "-c", "import lipwright; print(lipwright.__version__)").strip()
    wanted = [name for name in distributions(paths.venv) if name not in BUILDERS]
    installed = sum(size(path) for name in wanted for path in _files(paths.venv, name))
    freeze(paths)
    inside = paths.folder / INSIDE
    describe(paths.venv, inside)
    changes = trim(inside)
    if not openvino:
        changes += list(without_openvino(inside))
    for name in ("LICENSE", "NOTICE"):
        shutil.copy2(ROOT / name, paths.folder)
    pack(paths)
    wheels = [path for path in paths.wheels.glob("*.whl") if wheel_name(path) in wanted]
    built = Built(
        lipwright=version,
        python=platform.python_version(),
        openvino=openvino,
        glibc=".".join(map(str, glibc(paths.folder))),
        folder_bytes=size(paths.folder),
        file_bytes=size(paths.file),
        wheel_bytes=sum(map(size, wheels)),
        installed_bytes=installed,
        install_seconds=round(seconds, 1),
        trimmed=changes,
    )
    built.write(paths.facts)
    return built


# --- the clean environment ------------------------------------------------------------------------------------------
def install(paths: Paths) -> float:
    """Make the environment of exactly what ``constraints.txt`` says, and give the seconds that installing took."""
    shutil.rmtree(paths.venv, ignore_errors=True)
    paths.wheels.mkdir(parents=True, exist_ok=True)
    for stale in paths.wheels.glob("lipwright-*.whl"):
        stale.unlink()
    _run(sys.executable, "-m", "venv", paths.venv)
    pip: list[str | Path] = [paths.venv / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    wanted = [f"{ROOT}[{EXTRAS}]", BUILDER]
    pins: list[str | Path] = ["-c", ROOT / "constraints.txt", "--find-links", paths.wheels]
    _run(*pip, "wheel", "-q", "-w", paths.wheels, *pins, *wanted)
    began = time.perf_counter()
    local: list[str | Path] = ["--no-index", "--find-links", paths.wheels, "-c", ROOT / "constraints.txt"]
    _run(*pip, "install", "-q", *local, f"lipwright[{EXTRAS}]", BUILDER)
    return time.perf_counter() - began


def site_packages(venv: Path) -> Path:
    """Where an environment keeps its packages."""
    return next(venv.glob("lib/python*/site-packages"))


def distributions(venv: Path) -> list[str]:
    """Names of all that is installed in an environment, as ``normal`` writes them."""
    return sorted(normal(path.name.partition("-")[0]) for path in site_packages(venv).glob("*.dist-info"))


def normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return name.lower().replace("_", "-").replace(".", "-")


def wheel_name(path: Path) -> str:
    """The distribution in a wheel, by its file name."""
    return normal(path.name.partition("-")[0])


def _files(venv: Path, name: str) -> Iterator[Path]:
    """The files that a distribution says are its own."""
    packages = site_packages(venv)
    record = next(p for p in packages.glob("*.dist-info/RECORD") if normal(p.parent.name.partition("-")[0]) == name)
    for line in record.read_text(encoding="utf-8").splitlines():
        path = packages / line.rsplit(",", 2)[0].strip('"')
        if path.is_file():
            yield path


def _run(*command: str | Path) -> str:
    """Run a program with nothing of the developer's own Python around it; its stdout."""
    foreign = ("PYTHON", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    done = subprocess.run(command, env=surroundings, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{Path(command[0]).name} {command[1]} ... failed with code {done.returncode}")
    return done.stdout


# --- the folder -----------------------------------------------------------------------------------------------------
def freeze(paths: Paths) -> None:
    """The folder, as PyInstaller makes it."""
    shutil.rmtree(paths.work, ignore_errors=True)
    lists = {
        "--collect-data": ["lipwright"],
        "--collect-submodules": ["lipwright"],
        # it finds its library by a path
        "--collect-binaries": ["c2pa"],
        "--hidden-import": ["google._upb._message"],
        "--exclude-module": UNUSED,
        "--additional-hooks-dir": [str(HERE / "hooks")],
    }
    _pyinstaller(paths, ["--onedir"], PROGRAM, paths.out, HERE / "entry.py", lists)


def _pyinstaller(
    paths: Paths, forms: Sequence[str], name: str, out: Path, entry: Path, lists: Mapping[str, Sequence[str]]
) -> None:
    options = [option for flag, values in lists.items() for value in values for option in (flag, value)]
    places: list[str | Path] = ["--distpath", out, "--workpath", paths.work, "--specpath", paths.work]
    own = ["--noconfirm", "--clean", "--log-level", "ERROR", "--console", "--name", name]
    _run(paths.venv / "bin" / "python", "-m", "PyInstaller", *own, *forms, *places, *options, entry)


def describe(venv: Path, inside: Path) -> None:
    """Give the folder what each distribution says of itself, its version and requirements, and every licence."""
    packages = site_packages(venv)
    for info in packages.glob("*.dist-info"):
        if normal(info.name.partition("-")[0]) not in BUILDERS:
            shutil.copytree(info, inside / info.name, dirs_exist_ok=True)
    for package in (path for path in inside.iterdir() if (packages / path.name).is_dir()):
        for pattern in LICENCES:
            for text in (packages / package.name).rglob(pattern):
                target = inside / text.relative_to(packages)
                if text.is_file():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(text, target)
    licence = Path(os.__file__).parent / "LICENSE.txt"
    if licence.is_file():
        shutil.copy2(licence, inside / "LICENSE-Python.txt")


def without_openvino(inside: Path) -> Iterator[Change]:
    """Take OpenVINO out of a folder, and out of what ``doctor`` finds that lipwright asks for."""
    for path in sorted(inside.glob("openvino*")):
        yield Change(path.name, "left out at the wish of who builds", size(path))
        shutil.rmtree(path)
    for path in inside.glob("lipwright-*.dist-info/METADATA"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        asked = (line for line in lines if not line.startswith("Requires-Dist: openvino"))
        path.write_text("".join(asked), encoding="utf-8")


# --- the file -------------------------------------------------------------------------------------------------------
def pack(paths: Paths) -> None:
    """The single file: a program that holds Python alone, and behind it the folder."""
    unused = [*UNUSED, "asyncio", "ssl", "multiprocessing", "unittest", "xml"]
    made = paths.work / "made"
    forms = ["--onefile", "--strip"]  # Python's own libraries alone; those of wheels do not all survive it
    _pyinstaller(paths, forms, paths.file.name, made, HERE / "unpack.py", {"--exclude-module": unused})
    part = paths.file.with_name(f"{paths.file.name}.part")
    shutil.copy2(made / paths.file.name, part)
    append(paths.folder, part)
    part.replace(paths.file)


def append(folder: Path, program: Path) -> None:
    """Put every file and link of ``folder`` behind ``program``, as a zip archive named by the sha256 of them all."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(program, "a") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or path.is_file():
                name = path.relative_to(folder).as_posix()
                content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
                entry = zipfile.ZipInfo(name)
                # The outer program finds its own end by a mark, which the inner one has too and must not show; deflate
                # leaves as it is what it cannot make smaller.
                entry.compress_type = zipfile.ZIP_LZMA if name == PROGRAM else zipfile.ZIP_DEFLATED
                mode = path.lstat().st_mode
                entry.external_attr = (mode if stat.S_ISLNK(mode) else stat.S_IFREG | stat.S_IMODE(mode)) << 16
                archive.writestr(entry, content)
                digest.update(f"{name}\0{mode:o}\0{len(content)}\0".encode() + content)
        archive.comment = digest.hexdigest().encode()
