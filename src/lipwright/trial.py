"""What a generator is judged with: real questions, from an avatar and a sound, and the ways this machine can run it."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Self

import numpy as np

from lipwright import patch
from lipwright.audio.decode import SoundReader, ToNetwork
from lipwright.audio.mel import MelStream
from lipwright.audio.window import FeatureWindow
from lipwright.avatar import Avatar
from lipwright.contract import FloatArray, Rect, UInt8Array
from lipwright.errors import AvatarError, LipwrightError, MediaError, RuntimeUnavailableError
from lipwright.runtimes import Precision, Runtime, has_nvidia, open_runtime
from lipwright.runtimes.base import PRECISIONS, cpu_count, cpu_has, cpu_name
from lipwright.runtimes.choice import installed_version, is_installed
from lipwright.runtimes.machine import memory_gib, speed_flags
from lipwright.video import VideoReader

#: The plainest way: every installation has it, and the others are compared with it.
REFERENCE = "onnxruntime"
#: Libraries whose version changes the speed of the networks.
_LIBRARIES = ("numpy", "av", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "openvino", "torch")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long work is."""

    step: str
    done: int
    total: int | None
    """None: unknown."""


Look = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a generator."""

    runtime: str
    """As ``--runtime`` takes it, ``onnxruntime:cuda`` for example."""
    precision: Precision
    """f32, bf16 or f16."""

    def __str__(self) -> str:
        return f"{self.runtime}/{self.precision}"

    def open(self, model: Path, threads: int | None = None) -> Runtime:
        """Open a generator this way; raises as ``open_runtime``."""
        return open_runtime(model, "generator", self.runtime, self.precision, threads)

    @classmethod
    def parse(cls, text: str) -> list[Self]:
        """``openvino/bf16`` to that way; ``openvino`` to all of its precisions that this machine has natively.

        Raises:
            RuntimeUnavailableError: no such precision.
        """
        runtime, _, precision = text.partition("/")
        if not precision:
            return [cls(runtime, known) for known in native_precisions(runtime)]
        for known in PRECISIONS:
            if known == precision and known != "auto":
                return [cls(runtime, known)]
        raise RuntimeUnavailableError(f"{text!r}: a way to run a network is RUNTIME/f32, RUNTIME/bf16 or RUNTIME/f16")


def native_precisions(runtime: str) -> tuple[Precision, ...]:
    """What a runtime computes in on this machine without emulating it."""
    name, _, provider = runtime.partition(":")
    if name == "onnxruntime":
        return ("f32", "f16") if provider == "tensorrt" else ("f32",)
    if provider == "cuda":
        return ("f32", "bf16", "f16")
    return ("f32", "bf16") if cpu_has("bf16") else ("f32",)


def ways() -> list[Way]:
    """Every way that this machine could run a generator, the reference first; whether one works, opening it shows."""
    from lipwright.runtimes.onnx import available_providers

    accelerated = [f"{REFERENCE}:{p}" for p in available_providers() if p != "cpu"]
    others = ["openvino"] if is_installed("openvino") else []
    torch = ["torch", *(["torch:cuda"] if has_nvidia() else [])] if is_installed("torch") else []
    names = [REFERENCE, *accelerated, *others, *torch]
    return [Way(name, precision) for name in names for precision in native_precisions(name)]


@dataclass(frozen=True, slots=True)
class Question:
    """What the generator is asked for one frame."""

    frame: int
    """Frame of the template."""
    rect: Rect
    """Where the face is in it."""
    crop: UInt8Array
    """[328, 328, 3] BGR, the rect as the network's world."""
    window: FloatArray
    """[32, 16, 16] what is heard around the frame."""

    @property
    def roi(self) -> UInt8Array:
        """[320, 320, 3] BGR, a view."""
        return patch.roi(self.crop)

    @property
    def image(self) -> FloatArray:
        """[6, 320, 320] 0..1 BGR: the ROI, and again with the mouth hidden."""
        return patch.to_input(self.roi, self.roi)

    @property
    def inputs(self) -> tuple[FloatArray, FloatArray]:
        """A batch of one for ``Runtime.run``."""
        return self.image[np.newaxis], self.window[np.newaxis]


def generator_of(avatar: Avatar) -> Path:
    """The avatar's generator.

    Raises:
        AvatarError: it has none.
    """
    if avatar.generator is None:
        raise AvatarError(f"{avatar.path} has no generator to look at: lipwright train makes one")
    return avatar.generator


def questions(avatar: Avatar, sound: Path, count: int, start: int | None = None) -> list[Question]:
    """At most ``count`` questions: usable frames of the template in a row, with the sound's windows from its beginning.

    Args:
        avatar: who is asked about.
        sound: what is heard; the encoder of the avatar listens.
        count: how many; fewer where the template or the sound is shorter.
        start: first template frame; None: the one the avatar names.

    Raises:
        AvatarError: no usable frame from ``start`` on, or no audio encoder.
        MediaError: the sound or the template cannot be read.
    """
    first = avatar.manifest.start_frame if start is None else start
    usable = np.flatnonzero(avatar.rects[first:, 0] >= 0)[:count] + first
    if not len(usable):
        raise AvatarError(f"{avatar.path}: no frame from {first} on has a usable face: name another with --start")
    heard = windows(avatar, sound, len(usable))
    frames = [int(k) for k in usable[: len(heard)]]
    seen = zip(frames, pictures(avatar, frames), heard, strict=True)
    return [Question(k, avatar.rect(k), crop_of(avatar, picture, k), window) for k, picture, window in seen]


def crop_of(avatar: Avatar, picture: UInt8Array, frame: int) -> UInt8Array:
    """The crop [328, 328, 3] of template frame ``frame``, whose picture [H, W, 3] is given."""
    return patch.crop(picture, avatar.rect(frame), avatar.manifest.resize)


def pictures(avatar: Avatar, frames: Sequence[int]) -> Iterator[UInt8Array]:
    """Whole template frames [H, W, 3] BGR, by rising numbers."""
    wanted = set(frames)
    first, stop = min(wanted), max(wanted) + 1
    with VideoReader(avatar.template) as film:
        for k, picture in zip(range(first, stop), film.read(first, stop), strict=False):
            if k in wanted:
                yield picture


def windows(avatar: Avatar, sound: Path, count: int) -> FloatArray:
    """[n, 32, 16, 16] the first windows of ``sound``, at most ``count``, as the avatar's encoder hears them.

    Raises:
        AvatarError: the avatar has no audio encoder.
        LipwrightError: there is not a single frame of sound.
    """
    if avatar.encoder is None:
        raise AvatarError(f"{avatar.path} has no audio encoder: import it again with --audio-encoder FILE")
    encoder = open_runtime(avatar.encoder, "encoder", precision="f32", threads=1)
    manifest = avatar.manifest
    window = FeatureWindow(manifest.window.padding)
    found: list[FloatArray] = []
    for mel in _mels(sound, MelStream(manifest.encoder.alignment.to_contract())):
        found.extend(window.push(encoder.run(mel)))
        if len(found) >= count:
            return np.stack(found[:count])
    found.extend(window.flush())
    if not found:
        raise LipwrightError(f"{sound} holds no sound: choose another file")
    return np.stack(found[:count])


def _mels(sound: Path, stream: MelStream) -> Iterator[FloatArray]:
    """Slices [m, 1, 80, 16] as they become complete."""
    with SoundReader(sound) as reader:
        network = ToNetwork(reader.rate, reader.channels)
        for chunk in reader:
            yield stream.push(network.push(chunk))
        yield stream.push(network.flush())
    yield stream.flush()


# --- what judges write ----------------------------------------------------------------------------------------------


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears under its name only when it is whole; one that is there is replaced.

    Raises:
        MediaError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        raise MediaError(f"{path} cannot be written ({error.strerror or error}): choose another folder") from error


def as_json(value: object) -> bytes:
    """Plain values as JSON text; what is infinite or no number becomes null."""
    return (json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n").encode()


def plain(value: object) -> object:
    """The same values without infinite ones, which JSON does not know: None instead."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


# --- where it was measured ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stamp:
    """The machine and the versions that a figure belongs to."""

    lipwright: str
    python: str
    system: str
    processor: str
    cores: int
    """Logical ones this process may use."""
    flags: tuple[str, ...]
    """Instruction sets that change the speed of the networks."""
    memory_gib: float | None
    card: str | None
    """NVIDIA card, its memory and driver; None without one."""
    libraries: dict[str, str]
    """Versions of what is installed and matters here."""

    def lines(self) -> list[str]:
        """For people."""
        memory = "" if self.memory_gib is None else f", {self.memory_gib:.0f} GiB"
        return [
            f"{self.processor}, {self.cores} cores{memory}, {' '.join(self.flags) or 'no flags known'}",
            *([self.card] if self.card else []),
            f"lipwright {self.lipwright}, Python {self.python}, {self.system}",
            ", ".join(f"{name} {number}" for name, number in self.libraries.items()),
        ]


def stamp() -> Stamp:
    """Look at this machine."""
    versions = {name: installed_version(name) for name in _LIBRARIES}
    return Stamp(
        lipwright=installed_version("lipwright") or "not installed",
        python=platform.python_version(),
        system=platform.platform(),
        processor=cpu_name(),
        cores=cpu_count(),
        flags=speed_flags(),
        memory_gib=memory_gib(),
        card=_card(),
        libraries={name: number for name, number in versions.items() if number},
    )


def _card() -> str | None:
    rows = ask_nvidia("name,memory.total,driver_version")
    return f"{rows[0][0]}, {rows[0][1]} MiB, driver {rows[0][2]}" if rows else None


def ask_nvidia(fields: str) -> list[list[str]]:
    """What ``nvidia-smi`` says of ``fields``, a row for each card; nothing where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None or not has_nvidia():
        return []
    query = [program, f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return (
        [[value.strip() for value in line.split(",")] for line in done.stdout.splitlines()]
        if not done.returncode
        else []
    )
