"""What users get wrong: each gives one clear line and exit code 1, or works; never a traceback, nothing left behind."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import subprocess
import sys
import time
import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from avatars import Parts, face_images, make_avatar, write_film
from command import Outcome
from lipwright.cli import main

COMMAND = (sys.executable, "-m", "lipwright")
#: Linux: prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE) makes even root respect a read-only folder in what it executes.
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_avatar(tmp_path_factory.mktemp("avatar"), Parts(features=False, landmarks=False)).path


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """An empty folder for the output."""
    folder = tmp_path / "there"
    folder.mkdir()
    return folder


@pytest.fixture
def render(avatar: Path, there: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """`lipwright render SOUND -o there/film.mp4 ...` in this process."""

    def run(sound: Path, *flags: str, out: str | None = None) -> Outcome:
        target = str(there / "film.mp4") if out is None else out
        with pytest.raises(SystemExit) as leaving:
            main(["render", str(sound), "-o", target, "--avatar", str(avatar), "--runtime", "onnxruntime", *flags])
        captured = capfd.readouterr()
        return Outcome(int(leaving.value.code or 0), captured.out, captured.err)

    return run


def render_command(avatar: Path, sound: Path, out: Path) -> list[str]:
    return [*COMMAND, "render", str(sound), "-o", str(out), "--avatar", str(avatar), "--runtime", "onnxruntime"]


def assert_refused(outcome: Outcome, folder: Path, *words: str) -> None:
    """One line that says what is wrong, exit code 1, nothing written."""
    assert outcome.code == 1, outcome
    assert outcome.out == ""
    assert outcome.err.startswith("lipwright: ")
    assert outcome.err.count("\n") == 1, outcome.err
    assert "Traceback" not in outcome.err
    assert "unexpected" not in outcome.err
    for word in words:
        assert word in outcome.err
    assert not folder.is_dir() or list(folder.iterdir()) == []


def assert_made(outcome: Outcome, folder: Path, frames: int) -> None:
    """The film is there, alone, and as long as its sound."""
    assert outcome.code == 0, outcome.err
    assert [path.name for path in folder.iterdir()] == ["film.mp4"]
    with av.open(str(folder / "film.mp4")) as film:
        assert film.streams.video[0].frames == frames
        assert film.streams.audio[0].duration


# --- sounds ---------------------------------------------------------------------------------------------------------


def hum(seconds: float, rate: int = 16_000, channels: int = 1) -> npt.NDArray[np.float64]:
    """[n, channels], -1..1."""
    times = np.arange(round(seconds * rate)) / rate
    tone = 0.4 * np.sin(2 * np.pi * 150 * times) * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * times))
    return np.repeat(tone[:, None], channels, axis=1)


def write_wav(path: Path, samples: npt.NDArray[np.float64], rate: int = 16_000, width: int = 2) -> Path:
    """PCM of 1 (unsigned) or 2 bytes a sample."""
    levels = {1: (samples * 127 + 128).astype("u1"), 2: (samples * 32_767).astype("<i2")}[width]
    with wave.open(str(path), "wb") as writer:
        writer.setparams((samples.shape[1], width, rate, 0, "NONE", ""))
        writer.writeframes(levels.tobytes())
    return path


def write_flac(path: Path, samples: npt.NDArray[np.float64], rate: int = 16_000) -> Path:
    """Mono 16-bit FLAC."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=rate)
        frame = av.AudioFrame.from_ndarray((samples.T * 32_767).astype(np.int16), "s16", "mono")
        frame.sample_rate = rate
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def write_float_wav(path: Path, samples: npt.NDArray[np.float32], rate: int = 16_000) -> Path:
    """Mono float32 WAV, which can hold NaN."""
    data = samples.astype("<f4").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, rate, 4 * rate, 4, 32)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    path.write_bytes(struct.pack("<4sI", b"RIFF", len(body)) + body)
    return path


@pytest.mark.parametrize(
    ("seconds", "rate", "channels", "width", "frames"),
    [
        pytest.param(0.6, 16_000, 1, 1, 15, id="8 bit"),
        pytest.param(0.6, 192_000, 2, 2, 15, id="192 kHz"),
        pytest.param(0.6, 48_000, 6, 2, 15, id="5.1"),
        pytest.param(0.01, 44_100, 1, 2, 1, id="0.01 s"),
        pytest.param(0.601, 11_025, 2, 2, 16, id="11 kHz, no whole frame at the end"),
    ],
)
def test_unusual_sound_works(
    render: Callable[..., Outcome],
    there: Path,
    tmp_path: Path,
    seconds: float,
    rate: int,
    channels: int,
    width: int,
    frames: int,
) -> None:
    sound = write_wav(tmp_path / "sound.wav", hum(seconds, rate, channels), rate, width)
    assert_made(render(sound), there, frames)


def test_truncated_sound_is_used_as_far_as_it_goes(render: Callable[..., Outcome], there: Path, tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "sound.wav", hum(2.0))
    sound.write_bytes(sound.read_bytes()[:32_044])
    assert_made(render(sound), there, 25)


def test_truncated_compressed_sound_is_used_with_one_warning(
    render: Callable[..., Outcome], there: Path, tmp_path: Path
) -> None:
    sound = write_flac(tmp_path / "sound.flac", hum(4.0))
    sound.write_bytes(sound.read_bytes()[: sound.stat().st_size // 2])
    outcome = render(sound)
    assert outcome.code == 0
    assert outcome.err.count("\n") == 1
    assert "damaged or cut short" in outcome.err
    assert [path.name for path in there.iterdir()] == ["film.mp4"]


def test_sound_that_is_none_is_refused(render: Callable[..., Outcome], there: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.wav"
    empty.touch()
    header_only = tmp_path / "header.wav"
    header_only.write_bytes(write_wav(tmp_path / "whole.wav", hum(0.1)).read_bytes()[:20])
    no_samples = write_wav(tmp_path / "none.wav", np.zeros((0, 1)))
    text = tmp_path / "text.wav"
    text.write_text("This is a letter and not a sound.\n" * 50)
    silent_film = write_film(tmp_path / "silent.mp4", face_images(5))
    not_a_number = hum(1.0)[:, 0].astype(np.float32)
    not_a_number[9_000] = np.nan
    broken = write_float_wav(tmp_path / "nan.wav", not_a_number)
    for sound in (empty, header_only, no_samples, text, silent_film, broken, tmp_path / "missing.wav", tmp_path):
        assert_refused(render(sound), there, str(sound))


# --- outputs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "speech.wav", hum(0.4))


def test_missing_output_folder(render: Callable[..., Outcome], there: Path, speech: Path) -> None:
    out = there / "nowhere" / "film.mp4"
    assert_refused(render(speech, out=str(out)), there, str(out.parent), "create it")


def test_existing_output_stays_without_force(render: Callable[..., Outcome], there: Path, speech: Path) -> None:
    film, pictures = there / "film.mp4", there / "pictures"
    film.write_text("precious")
    pictures.mkdir()
    (pictures / "000000.png").write_text("precious")
    for out in (film, pictures):
        outcome = render(speech, out=str(out))
        assert (outcome.code, outcome.err.count("\n")) == (1, 1)
        assert "--force" in outcome.err
    assert film.read_text() == (pictures / "000000.png").read_text() == "precious"
    assert render(speech, "--force").code == 0
    assert film.stat().st_size > 1000


def test_force_still_spares_a_folder_of_other_files(render: Callable[..., Outcome], there: Path, speech: Path) -> None:
    (there / "thesis.txt").write_text("precious")
    outcome = render(speech, "--force", out=str(there))
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert [path.name for path in there.iterdir()] == ["thesis.txt"]


def test_output_of_another_kind_is_wrong_usage(render: Callable[..., Outcome], there: Path, speech: Path) -> None:
    outcome = render(speech, out=str(there / "film.avi"))
    assert outcome.code == 2
    assert "OUT.mp4" in outcome.err
    assert list(there.iterdir()) == []


def test_unknown_avatar_start_and_runtime(render: Callable[..., Outcome], there: Path, speech: Path) -> None:
    assert_refused(render(speech, "--avatar", "nobody"), there, "nobody")
    assert_refused(render(speech, "--start", "999"), there, "999")
    assert_refused(render(speech, "--runtime", "abacus"), there, "abacus", "onnxruntime")


def respect_permissions() -> None:
    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0):
        raise OSError("root cannot be made to respect permissions here")


def limit_file_size() -> None:
    """The next best thing to a full disk: writing fails in the middle of the film."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def in_subprocess(command: list[str], prepare: Callable[[], None]) -> Outcome:
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=prepare)
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_read_only_output_folder(avatar: Path, there: Path, speech: Path) -> None:
    there.chmod(0o555)
    try:
        outcome = in_subprocess(render_command(avatar, speech, there / "film.mp4"), respect_permissions)
    finally:
        there.chmod(0o755)
    assert_refused(outcome, there, "film.mp4", "may write to")


@pytest.mark.parametrize("name", ["film.mp4", "pictures"])
def test_full_disk(avatar: Path, there: Path, tmp_path: Path, name: str) -> None:
    sound = write_wav(tmp_path / "sound.wav", hum(8.0))
    outcome = in_subprocess(render_command(avatar, sound, there / name), limit_file_size)
    assert_refused(outcome, there, name)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_result_that_nobody_can_read(avatar: Path, there: Path, speech: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            render_command(avatar, speech, there / "film.mp4"), stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (1, "lipwright: No space left on device\n")
    assert [path.name for path in there.iterdir()] == ["film.mp4"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle(avatar: Path, there: Path, tmp_path: Path, number: signal.Signals) -> None:
    sound = write_wav(tmp_path / "sound.wav", hum(300.0))
    process = subprocess.Popen(render_command(avatar, sound, there / "film.mp4"), stderr=subprocess.PIPE, text=True)
    while not any(path.stat().st_size for path in there.iterdir()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert err.count("\n") == 1
    assert "stopped" in err
    assert list(there.iterdir()) == []
