"""tools/bundle: trimming on real libraries, the single file, the bare machine, the tables; and the whole, slowly."""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from packaging.requirements import Requirement

from tools.bundle import trim, unpack
from tools.bundle.__main__ import markdown, summary, tell_deploy_times, try_it
from tools.bundle.attempt import Attempt, bundled, same_film
from tools.bundle.build import EXTRAS, ROOT, Built, Paths, append, build, normal, without_openvino
from tools.bundle.deploy import Way, table, ways

Compile = Callable[..., Path]


@pytest.fixture
def compile_c(tmp_path: Path) -> Compile:
    """Compiles C into ``path``, with further options for gcc."""

    def compile_to(path: Path, code: str, *options: str | Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        source = tmp_path / "source.c"
        source.write_text(code, encoding="utf-8")
        subprocess.run(["gcc", "-g", "-o", path, source, *options], check=True)
        return path

    return compile_to


def library(compile_c: Compile, path: Path, code: str, *linked: Path) -> Path:
    search = "-Wl,-rpath,$ORIGIN"
    return compile_c(path, code, "-shared", "-fPIC", f"-Wl,-soname,{path.name}", search, *linked)


# --- trimming -------------------------------------------------------------------------------------------------------
def test_rules_remove_files_and_folders_and_tell_what_they_saved(tmp_path: Path) -> None:
    for name in ("c2pa/libs/libc2pa_c.rlib", "c2pa/libs/libc2pa_c.so", "onnxruntime/tools/a/b.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(10))
    saved = {change.what: change.saved for change in trim.leave_out(tmp_path) if change.saved}
    assert saved == {"c2pa/libs/*.rlib": 10, "onnxruntime/tools": 10}
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["libc2pa_c.so"]


@pytest.mark.parametrize(("theirs", "shared"), [("62.27.100", True), ("61.19.100", False)])
def test_opencv_is_given_pyavs_ffmpeg_of_the_same_major_version_alone(
    tmp_path: Path, theirs: str, shared: bool
) -> None:
    ours = tmp_path / trim.SHARED_FROM / "libavcodec-aaaa.so.62.28.102"
    other = tmp_path / trim.SHARED_BY / f"libavcodec-bbbb.so.{theirs}"
    for path in (ours, other):
        path.parent.mkdir()
        path.write_bytes(path.name.encode())
    assert [change.saved for change in trim.share(tmp_path)] == [len(other.name)] * shared
    assert other.read_bytes() == (ours if shared else other).name.encode()
    assert not other.is_symlink() or not other.readlink().is_absolute(), "a bundle is moved as a whole"


def test_a_hollow_library_loads_and_answers_no(tmp_path: Path, compile_c: Compile) -> None:
    home = tmp_path / "inside" / trim.SHARED_FROM
    padding = "static const char weight[200000] = {1}; const char *x265_weight(void) { return weight; }"
    full = library(compile_c, home / "libx265-cc.so.216", f"long x265_api_get_216(void) {{ return 7; }} {padding}")
    code = "long x265_api_get_216(void); long ask(void) { return x265_api_get_216(); }"
    user = library(compile_c, home / "libavcodec-aa.so.62", code, full)
    (change,) = trim.hollow(tmp_path / "inside")
    assert change.what == full.name and change.saved > 150_000
    assert ctypes.CDLL(str(user)).ask() == 0
    assert sorted(path.name for path in home.iterdir()) == sorted([full.name, user.name])


def test_what_only_replaced_libraries_needed_goes_too(tmp_path: Path, compile_c: Compile) -> None:
    home = tmp_path / trim.SHARED_BY
    needed = library(compile_c, home / "libpng-1.so", "long png(void) { return 1; }")
    deepest = library(compile_c, home / "libquadmath.so", "long quad(void) { return 1; }")
    library(compile_c, home / "libgfortran.so", "long quad(void); long f(void) { return quad(); }", deepest)
    code = "long png(void); long all(void) { return png(); }"
    compile_c(tmp_path / "cv2" / "cv2.so", code, "-shared", "-fPIC", needed)
    (tmp_path / "libgone.so").symlink_to("nowhere.so")
    assert {change.what for change in trim.orphans(tmp_path)} == {"libgfortran.so", "libquadmath.so"}
    assert [path.name for path in home.iterdir()] == ["libpng-1.so"]
    assert not (tmp_path / "libgone.so").is_symlink()


def test_symbols_for_debuggers_go_and_the_library_still_works(tmp_path: Path, compile_c: Compile) -> None:
    extension = library(compile_c, tmp_path / "av" / "video" / "frame.so", "long answer(void) { return 42; }")
    before = extension.stat().st_size
    saved = sum(change.saved for change in trim.strip(tmp_path))
    assert saved == before - extension.stat().st_size > 0
    assert ctypes.CDLL(str(extension)).answer() == 42


def test_the_c_library_that_is_asked_for_is_at_most_this_machines(tmp_path: Path, compile_c: Compile) -> None:
    compile_c(tmp_path / "program", '#include <stdlib.h>\nint main(void) { return getenv("A") != 0; }')
    (tmp_path / "text").write_bytes(b"\0GLIBC_9.99\0")
    kind, ours = os.confstr("CS_GNU_LIBC_VERSION").split()  # type: ignore[union-attr]
    assert kind == "glibc"
    assert (2, 0) <= trim.glibc(tmp_path) <= tuple(map(int, ours.split(".")))


def test_a_missing_compiler_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="readelf is missing: install gcc and binutils"):
        trim.needed_by(tmp_path)


def test_openvino_comes_out_without_a_trace(tmp_path: Path) -> None:
    for name in ("openvino/__init__.py", "openvino-2026.4.1.dist-info/METADATA", "onnxruntime/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"12345")
    asked = tmp_path / "lipwright-0.1.0.dist-info" / "METADATA"
    asked.parent.mkdir()
    asked.write_text(
        "Requires-Dist: openvino>=2025.0; platform_machine == 'x86_64'\nRequires-Dist: onnxruntime>=1.20\n"
    )
    assert sum(change.saved for change in without_openvino(tmp_path)) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lipwright-0.1.0.dist-info", "onnxruntime"]
    assert asked.read_text() == "Requires-Dist: onnxruntime>=1.20\n", "doctor would miss it"


# --- the single file ------------------------------------------------------------------------------------------------
@pytest.fixture
def single(tmp_path: Path) -> Path:
    """A file with a folder behind it."""
    folder = tmp_path / "folder"
    (folder / "inside").mkdir(parents=True)
    (folder / unpack.PROGRAM).write_bytes(b"#!/bin/sh\necho started $1\n")
    (folder / unpack.PROGRAM).chmod(0o755)
    (folder / "inside" / "data").write_bytes(np.random.default_rng(1).bytes(3_000_000))
    (folder / "inside" / "link").symlink_to("data")
    file = tmp_path / "single"
    file.write_bytes(b"\x7fELF a program that comes first")
    append(folder, file)
    return file


def test_the_single_file_unpacks_to_what_was_packed(single: Path, tmp_path: Path) -> None:
    home = tmp_path / "cache"
    target = unpack.unpacked(single, home)
    assert (target / "inside" / "data").read_bytes() == (tmp_path / "folder" / "inside" / "data").read_bytes()
    assert (target / "inside" / "link").readlink() == Path("data")
    done = subprocess.run([target / unpack.PROGRAM, "well"], capture_output=True, text=True, check=True)
    assert done.stdout == "started well\n"
    before = target.stat().st_mtime_ns
    assert unpack.unpacked(single, home) == target and target.stat().st_mtime_ns == before
    assert [path.name for path in home.iterdir()] == [target.name]


def test_other_content_has_another_name(single: Path, tmp_path: Path) -> None:
    (tmp_path / "folder" / "inside" / "data").write_bytes(b"new")
    other = tmp_path / "other"
    other.write_bytes(b"program")
    append(tmp_path / "folder", other)
    names = {unpack.unpacked(file, tmp_path / "cache").name for file in (single, other)}
    assert len(names) == 2


def test_the_marks_of_the_program_inside_are_not_seen_from_outside(tmp_path: Path) -> None:
    mark = b"MEI\014\013\012\013\016"
    program = tmp_path / "folder" / unpack.PROGRAM
    program.parent.mkdir()
    program.write_bytes(np.random.default_rng(2).bytes(100_000) + mark)
    file = tmp_path / "file"
    file.write_bytes(b"program")
    append(program.parent, file)
    assert mark not in file.read_bytes()
    assert (unpack.unpacked(file, tmp_path / "cache") / unpack.PROGRAM).read_bytes() == program.read_bytes()


def test_a_damaged_single_file_leaves_nothing_half_unpacked(single: Path, tmp_path: Path) -> None:
    content = bytearray(single.read_bytes())
    content[len(content) // 2] ^= 255
    single.write_bytes(content)
    with pytest.raises((zipfile.BadZipFile, zipfile.zlib.error)):  # type: ignore[attr-defined]
        unpack.unpacked(single, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_clear_line(
    single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    monkeypatch.setattr(sys, "executable", str(single))
    with pytest.raises(SystemExit, match=r"lipwright: cannot be unpacked .* let XDG_CACHE_HOME name a folder"):
        unpack.main()


def test_the_program_inside_gets_the_environment_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/tmp/_MEI1:/usr/lib/mine")
    monkeypatch.setenv("LD_LIBRARY_PATH_ORIG", "/usr/lib/mine")
    assert unpack.environment()["LD_LIBRARY_PATH"] == "/usr/lib/mine"
    monkeypatch.delenv("LD_LIBRARY_PATH_ORIG")
    found = unpack.environment()
    assert "LD_LIBRARY_PATH" not in found and found["PYINSTALLER_RESET_ENVIRONMENT"] == "1"


# --- the program inside ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--help"], 0, "Speech in"),
        (["-m", "lipwright.bench.worker"], 1, "IndexError"),  # begun as a module: it misses its own arguments
        (["-m", "os"], 2, "No such option"),
    ],
)
def test_the_program_inside_is_the_command_or_a_module_of_it(arguments: list[str], code: int, words: str) -> None:
    entry = ROOT / "tools" / "bundle" / "entry.py"
    done = subprocess.run([sys.executable, entry, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, words in done.stdout + done.stderr) == (code, True), done.stderr


def test_what_a_bundle_is_for_loads_without_torch() -> None:
    rooms = (
        "cli",
        "check",
        "bench.worker",
        "doctor",
        "prepare",
        "credentials",
        "serve.http",
        "serve.grpc",
        "serve.webrtc",
    )
    code = "import sys; sys.modules['torch'] = None\n" + "\n".join(f"import lipwright.{room}" for room in rooms)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- the bare machine -----------------------------------------------------------------------------------------------
def test_the_bare_machine_has_a_c_library_and_nothing_else(tmp_path: Path, compile_c: Compile) -> None:
    code = """
    #include <stdio.h>
    #include <stdlib.h>
    #include <unistd.h>
    int main(int n, char **words) {
        FILE *note = fopen(words[1], "w");
        if (n < 2 || !note) return n > 1;
        fprintf(note, "%s %s %d %d", getenv("PATH"), getenv("USER") ? "user" : "nobody",
            access("/usr/bin/env", F_OK), access("/bundle/new", W_OK) && fopen("/bundle/new", "w") ? 0 : -1);
        return 0;
    }"""
    program = compile_c(tmp_path / "program" / "lipwright", code)
    bundle, machine = bundled("bare", program, tmp_path / "scratch")
    assert bundle.run("HOME/note").code == 0
    said = (bundle.home / "note").read_text(encoding="utf-8")
    assert said == ("/nowhere nobody -1 -1" if machine == "bare machine" else "/nowhere nobody 0 -1")


# --- what is told ---------------------------------------------------------------------------------------------------
def write_film(path: Path, pictures: list[int]) -> Path:
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for value in pictures:
            frame = av.VideoFrame.from_ndarray(np.full((96, 64), value, np.uint8), format="yuv420p")
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    return path


def test_films_are_the_same_only_bit_for_bit_and_in_length(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", [10, 20, 30])
    others = {"same": [10, 20, 30], "one level": [10, 20, 31], "shorter": [10, 20], "longer": [10, 20, 30, 30]}
    same = {name: same_film(film, write_film(tmp_path / "other.mp4", what)) for name, what in others.items()}
    assert same == {"same": True, "one level": False, "shorter": False, "longer": False}


def built(*changes: trim.Change) -> Built:
    return Built(
        lipwright="0.1.0",
        python="3.11.7",
        openvino=True,
        glibc="2.36",
        folder_bytes=400_000_000,
        file_bytes=150_000_000,
        wheel_bytes=170_000_000,
        installed_bytes=600_000_000,
        install_seconds=12.0,
        trimmed=[*changes],
    )


def tried() -> dict[str, Any]:
    folder = Attempt("folder", "bare machine", built().folder_bytes, 0.3, 0.2, 3.0, 2.0, 4.0)
    folder.same_pictures, folder.speed, folder.frames_a_second = (
        {"openvino": True},
        {"openvino": 0.99},
        {"openvino": 40},
    )
    file = Attempt("file", "bare machine", built().file_bytes, 0.4, 0.3, 5.5, 2.5, 4.5)
    attempts = [asdict(one) | {"misses": one.misses()} for one in (folder, file)]
    return {"build": asdict(built()), "installed_ready_seconds": 4.0, "attempts": attempts}


def test_aims_that_are_missed_are_named() -> None:
    one = Attempt("folder", "bare machine", 351_000_000, 1.1, 0.2, 4.1, 2.0, 4.0)
    one.same_pictures, one.speed = {"openvino": False}, {"openvino": 0.94}
    told = "; ".join(one.misses())
    for words in ("350 MB", "help", "first frame", "other pictures", "5% slower"):
        assert words in told
    assert Attempt("file", "bare machine", 351_000_000).misses() == []


def test_the_table_of_a_try_has_a_column_for_each_form() -> None:
    lines = markdown(summary(tried()["attempts"]))
    assert lines[0] == "|  | folder | file |" and lines[1] == "|---|---|---|"
    assert "| size, MB | 400 | 150 |" in lines
    assert "| frames a second, against installed | openvino 40, x 0.990 | - |" in lines


def test_deploying_takes_the_copies_and_then_the_work_of_one() -> None:
    assert Way("any", 125_000_000, 7.0).seconds(100, 1.0) == pytest.approx(107.0)
    file, folder, pip = ways(tried())
    assert [way.bytes for way in (file, folder, pip)] == [150_000_000, 400_000_000, 170_000_000]
    assert [way.work_seconds for way in (file, folder, pip)] == pytest.approx([3.0 + 4.5, 1.0 + 4.0, 12.0 + 4.0])
    rows = table([file, folder, pip], 100, [1.0, 10.0])
    assert rows[0][-1] == "100 servers, 10 Gbit/s" and rows[1][1:] == ["150", "7.5", "128 s", "20 s"]


def test_what_was_not_done_yet_is_named_with_its_command(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="build a bundle first"):
        try_it(Paths(tmp_path), 1)
    with pytest.raises(SystemExit, match="--try first"):
        tell_deploy_times(Paths(tmp_path), 100, [1.0])


def test_a_build_is_remembered(tmp_path: Path) -> None:
    before = built(trim.Change("a", "b", 3))
    before.write(tmp_path / "build.json")
    assert Built.read(tmp_path / "build.json") == before


# --- licences -------------------------------------------------------------------------------------------------------
def used_by(name: str, extras: frozenset[str], found: dict[str, importlib.metadata.Distribution]) -> None:
    """Every distribution that ``name`` with ``extras`` brings to this machine."""
    distribution = importlib.metadata.distribution(name)
    found[normal(name)] = distribution
    for line in distribution.requires or []:
        wanted = Requirement(line)
        environments = [{"extra": extra} for extra in (extras or {""})]
        needed = wanted.marker is None or any(wanted.marker.evaluate(one) for one in environments)
        if needed and normal(wanted.name) not in found:
            used_by(wanted.name, frozenset(wanted.extras), found)


def licences() -> dict[str, str]:
    """Distribution -> its licence in NOTICE."""
    text = (ROOT / "NOTICE").read_text(encoding="utf-8")
    return {
        m[1]: m[2].strip() for m in re.finditer(r"^- ([a-z0-9-]+): ([^.,\n]+(?:\.\d[^.,\n]*)*)", text, re.MULTILINE)
    }


def test_notice_names_every_distribution_of_a_bundle_with_its_licence() -> None:
    found: dict[str, importlib.metadata.Distribution] = {}
    used_by("lipwright", frozenset(EXTRAS.split(",")), found)
    del found["lipwright"]
    named = licences()
    assert not set(found) - set(named), "add them to NOTICE"
    for name, distribution in found.items():
        expression = distribution.metadata.json.get("license_expression")
        assert expression is None or named[name] == expression, name


# --- the whole ------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_bundle_does_without_python_what_the_installed_package_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = Paths(tmp_path)
    made = build(paths, openvino=True)
    assert made.openvino and not list(paths.folder.rglob("torch"))
    named = licences()
    infos = {normal(path.name.partition("-")[0]) for path in paths.folder.rglob("*.dist-info")}
    assert infos - {"lipwright"} <= set(named)
    texts = [path for path in paths.folder.rglob("*") if re.match(r"LICEN[CS]E|COPYING|ThirdParty", path.name)]
    assert len(texts) > 30
    assert try_it(paths, 1) == 0, capsys.readouterr().out
    tried = json.loads((tmp_path / "try.json").read_text(encoding="utf-8"))
    for one in tried["attempts"]:
        assert one["failed"] == []
    assert tried["attempts"][0]["same_pictures"] == {"openvino": True, "onnxruntime": True}
    assert tell_deploy_times(paths, 100, [1.0]) == 0
    shutil.rmtree(paths.folder)
    left = subprocess.run([paths.file, "--help"], env={"HOME": str(tmp_path)}, capture_output=True, check=False)
    assert left.returncode == 0, "the single file needs the folder beside it"
