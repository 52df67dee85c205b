"""Use a bundle on a machine that has nothing but a C library and zlib, and compare it with the installed package.

The machine is a folder with a copy of these two and the kernel's own file systems, in which the bundle lies read-only;
programs see nothing else of the disk (``unshare`` and ``chroot``; any user may, where the kernel allows user
namespaces). Where that cannot be had, the environment is empty and its PATH names no folder.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import av
import numpy as np

from tools.bundle.build import ROOT, Built, Paths
from tools.bundle.unpack import PROGRAM

#: Aims of a bundle.
UNPACKED_BYTES, HELP_SECONDS, FIRST_FRAME_SECONDS, SPEED_TOLERANCE = 350_000_000, 1.0, 4.0, 0.05
SPEECH = ROOT / "src" / "lipwright" / "data" / "demo.flac"
#: Where the bundle and the user's files lie on the bare machine.
_BUNDLE, _HOME = "/bundle", "/home"
_HELP_RUNS = 5
_PATIENCE = 600.0
#: Folders of the kernel that every machine has.
_KERNEL = ("proc", "dev", "sys")
#: glibc, and zlib, which PyInstaller's start program is linked to and no distribution does without.
_SYSTEM_LIBRARIES = ("libc", "libm", "libmvec", "libdl", "libpthread", "librt", "libutil", "libresolv", "libz")
_ENTER = """set -e
for name in proc dev sys; do "$MOUNT" --rbind "/$name" "$MACHINE/$name"; done
"$MOUNT" --bind "$INSIDE" "$MACHINE/bundle"
"$MOUNT" -o remount,bind,ro "$MACHINE/bundle"
exec "$ENV" -i HOME=/home PATH=/nowhere "$CHROOT" "$MACHINE" "$@"
"""


@dataclass(frozen=True)
class Ran:
    """A program that has ended."""

    code: int
    seconds: float
    """From start to exit."""
    cpu_seconds: float
    out: str
    err: str


@dataclass(frozen=True)
class Program:
    """One lipwright: how it is started, and where its user's files lie for it and for us."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    home: Path
    """The user's folder as we see it."""
    inner_home: str
    """The same as the program sees it."""

    def start(self, *arguments: str, **pipes: Any) -> subprocess.Popen[str]:
        """Start it; ``HOME/`` in an argument becomes the user's folder."""
        command = [*self.command, *(argument.replace("HOME/", f"{self.inner_home}/") for argument in arguments)]
        return subprocess.Popen(command, env=self.environment, cwd=self.home, text=True, **pipes)

    def run(self, *arguments: str) -> Ran:
        """Run it to its end."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            began = time.perf_counter()
            child = self.start(*arguments, stdout=out, stderr=err)
            _, status, used = os.wait4(child.pid, 0)
            seconds = time.perf_counter() - began
            child.returncode = os.waitstatus_to_exitcode(status)
            for said in (out, err):
                said.seek(0)
            return Ran(child.returncode, seconds, used.ru_utime + used.ru_stime, out.read(), err.read())

    def forget(self) -> None:
        """Make its user a new one."""
        shutil.rmtree(self.home)
        self.home.mkdir()
        shutil.copy2(SPEECH, self.home / "speech.flac")


def installed(paths: Paths, scratch: Path) -> Program:
    """The package as pip installed it."""
    home = scratch / "installed"
    home.mkdir()
    program = str(paths.venv / "bin" / PROGRAM)
    return Program("installed", (program,), {"HOME": str(home), "PATH": "/nowhere"}, home, str(home))


def bundled(name: str, program: Path, scratch: Path) -> tuple[Program, str]:
    """A bundle and what it runs on: ``bare machine``, or ``empty PATH`` where none can be had."""
    machine = scratch / name
    for folder in (*_KERNEL, "tmp", "bundle", "home"):
        (machine / folder).mkdir(parents=True)
    (machine / "tmp").chmod(0o1777)
    give_libraries(machine)
    home = machine / "home"
    tools = {tool: shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") for tool in ("mount", "env", "chroot")}
    unshare, shell = shutil.which("unshare"), shutil.which("sh")
    if unshare and shell and all(tools.values()):
        places = {"MACHINE": str(machine), "INSIDE": str(program.parent)}
        surroundings = places | {tool.upper(): str(path) for tool, path in tools.items()}
        user = () if os.getuid() == 0 else ("--user", "--map-root-user")
        command = (unshare, *user, "--mount", shell, "-c", _ENTER, "sh", f"{_BUNDLE}/{program.name}")
        found = Program(name, command, surroundings, home, _HOME)
        if found.run("--help").code == 0:
            return found, "bare machine"
    return Program(name, (str(program),), {"HOME": str(home), "PATH": "/nowhere"}, home, str(home)), "empty PATH"


def give_libraries(machine: Path) -> None:
    """Copy this machine's C library, its loader and zlib to the same places of another root."""
    with Path("/proc/self/maps").open(encoding="utf-8") as maps:
        libc = next(line.split()[-1] for line in maps if "/libc.so." in line or "/libc-2." in line)
    loader = next(path for path in Path("/").glob("lib*/ld-linux*.so.*") if platform.machine()[:3] in path.name[:20])
    near = Path(libc).parent
    for path in (loader, *(file for name in _SYSTEM_LIBRARIES for file in near.glob(f"{name}.so.*"))):
        target = machine / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target, follow_symlinks=True)


# --- what is tried --------------------------------------------------------------------------------------------------
@dataclass
class Attempt:
    """What one form of the bundle did."""

    form: str
    machine: str
    bytes: int
    help_seconds: float = 0.0
    """The quickest of some."""
    help_cpu_seconds: float = 0.0
    first_frame_seconds: float = 0.0
    """A film of one frame, from the start to the exit, for a user who never ran it, with nothing of it in memory."""
    next_frame_seconds: float = 0.0
    """The same once more."""
    ready_seconds: float = 0.0
    """From the start of ``serve`` to the first 200 of /readyz."""
    same_pictures: dict[str, bool] = field(default_factory=dict)
    """Runtime -> every decoded value of the demo's film is the installed package's."""
    speed: dict[str, float] = field(default_factory=dict)
    """Runtime -> frames a second against the installed package's, 1 is the same."""
    frames_a_second: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    """What did not work, in sentences."""

    def misses(self) -> list[str]:
        """Aims that are missed."""
        aims = (
            (self.form != "folder" or self.bytes <= UNPACKED_BYTES, f"larger than {UNPACKED_BYTES / 1e6:.0f} MB"),
            (self.help_seconds <= HELP_SECONDS, f"help in more than {HELP_SECONDS:g} s"),
            (self.first_frame_seconds <= FIRST_FRAME_SECONDS, f"first frame after {FIRST_FRAME_SECONDS:g} s"),
            (all(self.same_pictures.values()), "other pictures"),
            (all(r >= 1 - SPEED_TOLERANCE for r in self.speed.values()), f"over {SPEED_TOLERANCE:.0%} slower"),
        )
        return [miss for kept, miss in aims if not kept]


def attempt(paths: Paths, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Try both forms of the bundle in ``paths``.

    Args:
        paths: of a finished build.
        rounds: films of each runtime whose speeds are compared; the quickest counts.
        say: told what is done.
    """
    built = Built.read(paths.facts)
    runtimes = ("openvino", "onnxruntime") if built.openvino else ("onnxruntime",)
    found = []
    with tempfile.TemporaryDirectory(prefix="lipwright-bundle-", dir=paths.out) as place:
        scratch = Path(place)
        usual = installed(paths, scratch)
        forms = {"folder": paths.folder / PROGRAM, "file": paths.file}
        for form, program in forms.items():
            alone = scratch / f"{form}-alone"
            if form == "file":  # the folder it lies in is all that the machine gets
                alone.mkdir()
                os.link(program, alone / program.name)
                program = alone / program.name
            bundle, machine = bundled(form, program, scratch)
            one = Attempt(form, machine, built.folder_bytes if form == "folder" else built.file_bytes)
            say(f"{form}: help and first frames")
            _time_starts(one, bundle, program)
            say(f"{form}: every command")
            one.failed += faults(bundle)
            one.ready_seconds, broken = served(bundle)
            one.failed += broken
            if form == "folder":  # the file is the same folder, once it is unpacked
                for runtime in runtimes:
                    say(f"{form}: the demo beside the installed package's, {runtime}")
                    _compare(one, bundle, usual, runtime, rounds)
            found.append(one)
        say("installed: serve")
        usual.forget()
        ready, _ = served(usual)
    attempts = [asdict(one) | {"misses": one.misses()} for one in found]
    return {"build": asdict(built), "installed_ready_seconds": ready, "attempts": attempts}


def _time_starts(one: Attempt, bundle: Program, program: Path) -> None:
    bundle.forget()
    frame = ("render", "HOME/speech.flac", "--frames", "1", "--force", "-o")
    drop_from_memory(program.parent)
    first = bundle.run(*frame, "HOME/first.mp4")
    again = bundle.run(*frame, "HOME/again.mp4")
    for ran, name in ((first, "first.mp4"), (again, "again.mp4")):
        if ran.code or len(list(pictures(bundle.home / name))) != 1:
            one.failed.append(f"a film of one frame: {ran.code}: {ran.err.strip()[-300:]}")
    helps = [bundle.run("--help") for _ in range(_HELP_RUNS)]
    one.first_frame_seconds, one.next_frame_seconds = first.seconds, again.seconds
    one.help_seconds, one.help_cpu_seconds = (min(getattr(h, a) for h in helps) for a in ("seconds", "cpu_seconds"))


def drop_from_memory(folder: Path) -> None:
    """Ask the system to forget what it keeps of these files, so that they come from the disk again."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def faults(bundle: Program) -> Iterator[str]:
    """What does not work, in sentences: every command that a bundle is for, and those that must say no."""
    uses: tuple[tuple[int, str, tuple[str, ...]], ...] = (
        (0, "presenter", ("info", "--verify")),
        (0, "openvino", ("doctor",)),
        (0, "25 frames", ("render", "HOME/speech.flac", "-o", "HOME/film.mp4", "--frames", "25")),
        (0, "valid", ("verify", "HOME/film.mp4")),
        (0, "output", ("render", "HOME/speech.flac", "-o", "HOME/pictures/", "--frames", "2", "--json")),
        (0, "report", ("check", "--frames", "8", "--runtime", "onnxruntime/f32", "-o", "HOME/check")),
        (1, "pip install", ("render", "HOME/speech.flac", "-o", "HOME/no.mp4", "--runtime", "torch")),
        (2, "No such option", ("render", "--nothing")),
    )
    for code, words, use in uses:
        ran = bundle.run(*use)
        if ran.code != code or words not in ran.out + ran.err:
            yield f"{' '.join(use)}: {ran.code}: {(ran.out + ran.err).strip()[-400:]}"
    film = bundle.home / "film.mp4"
    if film.is_file():
        content = bytearray(film.read_bytes())
        content[len(content) // 2] ^= 1
        film.write_bytes(content)
        if bundle.run("verify", "HOME/film.mp4").code != 1:
            yield "verify accepts a film of which one bit was changed"


def served(bundle: Program) -> tuple[float, list[str]]:
    """Let it serve: seconds until it is ready, and what does not work."""
    began = time.perf_counter()
    with (bundle.home / "serve.txt").open("w+", encoding="utf-8") as log:
        child = bundle.start("serve", "--port", "0", "--grpc-port", "0", "--sessions", "1", stderr=log)
        try:
            address = _address(child, bundle.home / "serve.txt")
            while _ask(f"{address}/readyz")[0] != 200:
                time.sleep(0.02)
            ready = time.perf_counter() - began
            return ready, list(_faults_of_server(address, bundle.home))
        except (TimeoutError, OSError) as error:
            said = (bundle.home / "serve.txt").read_text(encoding="utf-8").strip()[-400:]
            return 0.0, [f"serve: {error}: {said}"]
        finally:
            child.terminate()
            child.wait(_PATIENCE)


def _address(child: subprocess.Popen[str], log: Path) -> str:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and child.poll() is None:
        said = log.read_text(encoding="utf-8")
        if "http://" in said and said.endswith("\n"):
            return "http://" + said.partition("http://")[2].split()[0]
        time.sleep(0.02)
    raise TimeoutError("no address was printed")


def _ask(address: str, body: bytes | None = None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body), timeout=_PATIENCE) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def _faults_of_server(address: str, home: Path) -> Iterator[str]:
    code, page = _ask(address)
    if code != 200 or b"<html" not in page.lower():
        yield f"the page: {code}"
    code, film = _ask(f"{address}/v1/avatars/presenter/render", short_sound(home))
    (home / "served.mp4").write_bytes(film)
    if code != 200 or len(list(pictures(home / "served.mp4"))) != 25:
        yield f"a film by HTTP: {code}: {film[:300]!r}"


def short_sound(home: Path) -> bytes:
    """A second of the demo's sound, as WAV."""
    with av.open(str(home / "speech.flac")) as source:
        resampler = av.AudioResampler("s16", "mono", 16_000)
        pieces = [piece.to_ndarray() for frame in source.decode(audio=0) for piece in resampler.resample(frame)]
    path = home / "second.wav"
    with wave.open(str(path), "wb") as writer:
        writer.setparams((1, 2, 16_000, 0, "NONE", ""))
        writer.writeframes(np.concatenate(pieces, axis=1)[0, :16_000].astype("<i2").tobytes())
    return path.read_bytes()


# --- beside the installed package -----------------------------------------------------------------------------------
def _compare(one: Attempt, bundle: Program, usual: Program, runtime: str, rounds: int) -> None:
    speeds: dict[str, list[float]] = {bundle.name: [], usual.name: []}
    for _ in range(rounds):
        for program in (usual, bundle):
            ran = program.run("demo", "-o", "HOME/demo.mp4", "--force", "--json", "--runtime", runtime)
            if ran.code:
                one.failed.append(f"demo of {program.name}: {ran.code}: {ran.err.strip()[-300:]}")
                return
            speeds[program.name].append(json.loads(ran.out)["frames_a_second"])
    one.same_pictures[runtime] = same_film(bundle.home / "demo.mp4", usual.home / "demo.mp4")
    one.frames_a_second[runtime] = max(speeds[bundle.name])
    one.speed[runtime] = round(max(speeds[bundle.name]) / max(speeds[usual.name]), 3)


def same_film(one: Path, other: Path) -> bool:
    """Whether two films decode to the same pictures, bit for bit, and are of equal length."""
    pairs = zip_longest(pictures(one), pictures(other))
    return all(a is not None and b is not None and np.array_equal(a, b) for a, b in pairs)


def pictures(film: Path) -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Every picture of a film as it was decoded, [height * 3 / 2, width] uint8 Y, U, V; none if it cannot be read."""
    if film.is_file():
        with av.open(str(film)) as source:
            for frame in source.decode(video=0):
                yield frame.to_ndarray(format="yuv420p").astype(np.uint8, copy=False)
