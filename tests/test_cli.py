"""The command: what it prints, what it writes, how it leaves."""

from __future__ import annotations

import contextlib
import logging
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest

from avatars import FACE, Parts, face_images, face_rects, make_avatar, small_features, tiny_generator, write_film
from command import Command, Outcome
from lipwright import avatar as avatar_room
from lipwright import cli, export_avatar
from lipwright.avatar import FAST_GENERATOR, WEIGHTS, Avatar, ModelRecord, builtin_sound
from lipwright.contract import BuiltIn
from lipwright.errors import AvatarError

COMMANDS = {
    *("demo", "render", "prepare", "train", "create", "serve", "import", "export"),
    *("info", "check", "vectors", "bench", "verify", "consent", "doctor"),
}
DEMO = builtin_sound()
ON_ONNX = ("--runtime", "onnxruntime")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return make_avatar(tmp_path_factory.mktemp("avatar"))


@pytest.fixture
def presenter(tiny: Avatar, monkeypatch: pytest.MonkeyPatch) -> Avatar:
    """The tiny avatar in the place of the built-in one."""
    monkeypatch.setattr(avatar_room, "builtin_avatar", lambda name="presenter": tiny.path)
    return tiny


# --- usage ----------------------------------------------------------------------------------------------------------


def test_help_names_the_commands(lipwright: Command) -> None:
    outcome = lipwright("--help")
    assert outcome.code == 0
    assert set(re.findall(r"^│ (\w+)  ", outcome.out.partition("Commands")[2], re.MULTILINE)) == COMMANDS
    for command in COMMANDS:
        assert command in outcome.out
        assert lipwright(command, "-h").code == 0


@pytest.mark.parametrize(
    "args",
    [
        ("sing",),
        ("render",),
        ("render", DEMO),
        ("render", DEMO, "-o", "x.mp4", "--lookahead", "8"),
        ("render", DEMO, "-o", "x.mp4", "--frames", "0"),
        ("render", DEMO, "-o", "x.mp4", "--precision", "int8"),
        ("info", "--unknown"),
    ],
)
def test_wrong_usage_is_code_2(lipwright: Command, args: tuple[str | Path, ...]) -> None:
    outcome = lipwright(*args)
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Usage: lipwright" in outcome.err


def test_module_runs_as_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "lipwright", "info", "nobody"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("lipwright: no avatar 'nobody'")


# --- errors ---------------------------------------------------------------------------------------------------------


def raise_error(error: Exception) -> Callable[[str | None], Avatar]:
    def fail(_name: str | None) -> Avatar:
        raise error

    return fail


def test_own_errors_are_one_line(lipwright: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.package, "open_avatar", raise_error(AvatarError("it is\nbroken: mend it")))
    assert lipwright("info") == Outcome(1, "", "lipwright: it is broken: mend it\n")
    told = lipwright("info", "--debug")
    assert told.code == 1
    assert "Traceback" in told.err
    assert told.err.endswith("lipwright: it is broken: mend it\n")


def test_unexpected_errors_are_one_line(lipwright: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.package, "open_avatar", raise_error(ZeroDivisionError("by zero")))
    line = "lipwright: unexpected ZeroDivisionError: by zero"
    assert lipwright("info") == Outcome(1, "", f"{line}; run again with --debug to see where\n")
    told = lipwright("info", "--debug")
    assert "Traceback" in told.err
    assert told.err.endswith(f"{line}\n")


def test_signals_and_log_are_as_before(lipwright: Command, presenter: Avatar) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    handlers = list(logging.getLogger("lipwright").handlers)
    assert lipwright("info", "--debug").code == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert logging.getLogger("lipwright").handlers == handlers


# --- render and demo ------------------------------------------------------------------------------------------------


def test_render_writes_a_film_and_says_so(lipwright: Command, presenter: Avatar, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    outcome = lipwright("render", DEMO, "-o", film, "--frames", "30", "--json", *ON_ONNX)
    assert outcome.err == ""
    result = outcome.json
    assert (result["output"], result["avatar"], result["frames"], result["seconds"]) == (str(film), "tiny", 30, 1.2)
    assert "onnxruntime" in result["generator"]
    assert "onnxruntime" in result["audio_encoder"]
    assert result["frames_a_second"] > 0
    with av.open(str(film)) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        assert (picture.frames, picture.width, picture.height) == (30, *[presenter.manifest.sizes.width, 240])
        assert sound.rate == 16_000


def test_render_says_one_line_to_people(lipwright: Command, presenter: Avatar, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    outcome = lipwright("render", DEMO, "-o", film, "--frames", "5", "--avatar", presenter.path, *ON_ONNX)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"{film}: 5 frames, 0.20 s, ")
    assert outcome.out.count("\n") == 1


def read_picture(path: Path) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(path)), np.uint8)


def test_render_pictures_from_any_template_frame(lipwright: Command, presenter: Avatar, tmp_path: Path) -> None:
    for start, folder in (("0", "first/"), ("4", "second")):
        out = f"{tmp_path}/{folder}"
        assert lipwright("render", DEMO, "-o", out, "--start", start, "--frames", "6", *ON_ONNX).code == 0
    names = [f"{k:06d}.png" for k in range(6)]
    assert sorted(path.name for path in (tmp_path / "second").iterdir()) == [*names, "sound.wav"]
    left_edge = (240 - FACE) // 2
    fifth = read_picture(tmp_path / "first" / names[4])
    assert np.array_equal(fifth[:, :left_edge], read_picture(tmp_path / "second" / names[0])[:, :left_edge])
    assert not np.array_equal(fifth, read_picture(tmp_path / "first" / names[0]))


def test_demo_speaks_the_built_in_sentences(lipwright: Command, presenter: Avatar, tmp_path: Path) -> None:
    film = tmp_path / "demo.mp4"
    assert lipwright("demo", "-o", film, "--json", *ON_ONNX).json["frames"] == 372
    refused = lipwright("demo", "-o", film, *ON_ONNX)
    assert refused.code == 1
    assert "--force" in refused.err


def test_the_second_one_speaks_in_a_voice_of_her_own(lipwright: Command, tmp_path: Path) -> None:
    film = tmp_path / "mira.mp4"
    outcome = lipwright("demo", "--avatar", "mira", "-o", film, "--quality", "fast", "--json", *ON_ONNX)
    assert outcome.json["frames"] == 352
    assert lipwright("demo", "--avatar", "nobody", "-o", film).code == 2


@pytest.mark.parametrize("name", get_args(BuiltIn))
def test_demo_sound_is_what_the_readme_says(name: BuiltIn) -> None:
    with av.open(str(builtin_sound(name))) as container:
        stream = container.streams.audio[0]
        assert (stream.rate, stream.channels, stream.codec_context.name) == (16_000, 1, "flac")
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert 12 <= len(samples) / 16_000 <= 15
    assert 0.5 < np.abs(samples.astype(np.float64)).max() / 32_768 < 0.9


def until_hung_up(terminal: int) -> str:
    """All that is written to a terminal, read as it comes: a full one would block the writer."""
    shown = b""
    with contextlib.suppress(OSError):  # Linux ends a pseudo terminal so
        while more := os.read(terminal, 1 << 16):
            shown += more
    return shown.decode()


def test_progress_is_shown_on_a_terminal_only(presenter: Avatar, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "lipwright", "render", str(DEMO), "-o", str(tmp_path / "film.mp4")]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [*command, "--avatar", str(presenter.path), "--frames", "80", *ON_ONNX], stderr=theirs, env=env
    ) as running:
        os.close(theirs)
        shown = until_hung_up(ours)
    os.close(ours)
    assert running.returncode == 0
    assert "/80" in shown
    assert "fps" in shown


# --- avatars --------------------------------------------------------------------------------------------------------


def test_info(lipwright: Command, presenter: Avatar) -> None:
    facts = lipwright("info", "--json").json
    assert facts["path"] == str(presenter.path)
    assert facts["manifest"]["sizes"] == {"width": 320, "height": 240, "frames": 12}
    assert facts["missing"] == []
    told = lipwright("info", presenter.path, "--verify")
    assert told.code == 0
    assert "320 x 240, 12 frames" in told.out
    assert told.out.endswith("verified: every file is right\n")


def test_info_verify_names_a_damaged_file(lipwright: Command, presenter: Avatar, tmp_path: Path) -> None:
    copy = tmp_path / "copy.avatar"
    shutil.copytree(presenter.path, copy)
    with (copy / "aud_ave.npy").open("ab") as file:
        file.write(b"more")
    assert lipwright("info", copy).code == 0
    told = lipwright("info", copy, "--verify")
    assert told.code == 1
    assert "wrong: " in told.out
    assert "aud_ave.npy" in told.out


def foreign_package(folder: Path, frames: int = 8) -> Path:
    """A package in layout C."""
    folder.mkdir()
    write_film(folder / "full_body_video.mp4", face_images(frames))
    np.save(folder / "roi_bounds.npy", face_rects(frames))
    np.save(folder / "aud_ave.npy", small_features(frames))
    tiny_generator(folder / "checkpoint" / "model_best.onnx")
    return folder


def test_import(lipwright: Command, tmp_path: Path) -> None:
    source, out = foreign_package(tmp_path / "foreign"), tmp_path / "guest.avatar"
    told = lipwright("import", source, "-o", out)
    assert (told.code, told.err) == (0, "")
    assert "roi_bounds.npy" in told.out
    assert Avatar.open(out).frame_count == 8
    refused = lipwright("import", source, "-o", out)
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert lipwright("import", source, "-o", out, "--force", "--padding", "edge").code == 0
    assert Avatar.open(out).manifest.window.padding == "edge"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of an untrained mobile generator; export compares two pictures only, for speed."""
    import torch

    from lipwright.models.generator import Generator

    monkeypatch.setattr(export_avatar, "COMPARED", 2)
    torch.manual_seed(0)
    path = tmp_path / "weights.pth"
    torch.save(Generator("mobile").state_dict(), path)
    return path


def test_export_writes_parity_into_the_avatar(lipwright: Command, weights: Path, tmp_path: Path) -> None:
    silent = make_avatar(tmp_path, Parts(generator=False), name="silent")
    refused = lipwright("export", silent.path)
    assert refused.code == 1
    assert "--checkpoint" in refused.err
    parity = lipwright("export", silent.path, "--checkpoint", weights, "--json").json["parity"]["generator"]
    assert parity["max_abs_f32"] <= 1e-4
    assert parity["max_abs_rounded"] <= 1e-4
    assert parity["rounded_vs_unrounded"] <= 2 / 255
    record = Avatar.open(silent.path).manifest.models.generator
    assert record is not None
    assert record.parity is not None
    assert record.parity.model_dump() == parity
    assert (record.width, record.origin) == ("mobile", "from weights.pth")


def test_export_uses_the_weights_in_the_avatar(lipwright: Command, weights: Path, tmp_path: Path) -> None:
    before = make_avatar(tmp_path, Parts(generator=False, features=False), name="trained")
    record = ModelRecord(file=WEIGHTS, licence="CC0-1.0", origin="trained by a test")
    models = before.manifest.models.model_copy(update={"generator_weights": record})
    before.save(manifest=before.manifest.changed(models=models), contents={WEIGHTS: weights})
    told = lipwright("export", before.path, "--store", "f32")
    assert told.code == 0, told.err
    after = Avatar.open(before.path).manifest.models.generator
    assert after is not None
    assert after.parity is not None
    assert (after.licence, after.origin, after.parity.max_abs_rounded) == ("CC0-1.0", "trained by a test", None)
    assert "max_abs_f32" in told.out


def test_export_adds_a_fast_generator(lipwright: Command, weights: Path, tmp_path: Path) -> None:
    before = make_avatar(tmp_path, name="slow")
    both = lipwright("export", before.path, "--fast", weights, "--checkpoint", weights)
    assert (both.code, both.out) == (2, "")
    told = lipwright("export", before.path, "--fast", weights, "--store", "int8", "--json").json
    parity = told["parity"]["generator_fast"]
    assert (parity["stored"], parity["n_inputs"]) == ("int8", 2)
    assert parity["max_abs_f32"] <= 1e-4
    after = Avatar.open(before.path)
    assert after.qualities == ("full", "fast")
    assert after.manifest.models.generator == before.manifest.models.generator
    record = after.at("fast").drawing
    assert record is not None
    assert record.parity is not None
    assert record.parity.model_dump() == parity
    assert (record.file, record.width, record.origin) == (FAST_GENERATOR, "mobile", "from weights.pth")
    assert after.verify() == []


def test_a_generator_of_full_width_is_no_fast_one(lipwright: Command, tmp_path: Path) -> None:
    import torch

    from lipwright.models.generator import Generator

    avatar = make_avatar(tmp_path, name="slow")
    torch.save(Generator("full").state_dict(), tmp_path / "wide.pth")
    told = lipwright("export", avatar.path, "--fast", tmp_path / "wide.pth")
    assert (told.code, told.err.count("\n")) == (1, 1)
    assert "full width" in told.err
    assert "--width mobile" in told.err
    assert Avatar.open(avatar.path) == avatar


# --- installation ---------------------------------------------------------------------------------------------------


def test_doctor(lipwright: Command, presenter: Avatar) -> None:
    seen = lipwright("doctor", "--json", "--no-networks").json
    assert seen["lipwright"] == "0.1.0"
    assert any(runtime["name"] == "onnxruntime:cpu" and runtime["works"] for runtime in seen["runtimes"])
    told = lipwright("doctor")
    assert told.code == 0
    assert "onnxruntime:cpu: " in told.out
    assert " ms a frame" in told.out
