"""Test vectors for implementations in other languages, and the judge of what they compute from them.

``docs/vectors.md`` describes the format for their authors.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from lipwright import patch
from lipwright.avatar import Avatar
from lipwright.check.difference import Meter
from lipwright.check.findings import Finding
from lipwright.check.limits import F32, LEVEL, REDUCED, SWAP_NEARER, Limits
from lipwright.check.lips import likeness, lip_gaps
from lipwright.check.parity import Comparison, chosen
from lipwright.check.sheets import four_way, write_png
from lipwright.contract import AUDIO, INPUT, OUTPUT, FloatArray, TensorSpec, UInt8Array
from lipwright.digest import sha256
from lipwright.errors import LipwrightError, MediaError
from lipwright.trial import REFERENCE, Way, generator_of, questions

SECTION = "vectors"
SHEET = "sheet-output.png"
FORMAT = "lipwright-vectors"
VERSION = 1
VISUAL, SOUND, EXPECTED, METADATA = "visual_input.bin", "audio_input.bin", "expected_output.bin", "metadata.json"
#: What another implementation computed, in the same folder.
OUTPUT_FILE = "output.bin"
#: Little-endian float32 in C order, whatever machine writes or reads it.
DTYPE = np.dtype("<f4")

_FILES: dict[str, tuple[TensorSpec, str]] = {
    VISUAL: (INPUT, "BGR 0..1: channels 0-2 the reference ROI, 3-5 the same with the mouth hidden"),
    SOUND: (AUDIO, "16 features of 512 values, row-major, in this shape"),
    EXPECTED: (OUTPUT, "BGR 0..1: the new ROI, as onnxruntime computes it in f32"),
}

DoubleArray = npt.NDArray[np.float64]
Look = Callable[[int, int], None]
"""Hears how many of how many frames are done."""


def write_vectors(
    avatar: Avatar,
    sound: Path,
    out: Path,
    frames: int,
    *,
    replace: bool = False,
    look: Look = lambda done, total: None,
) -> dict[str, Any]:
    """Write ``frames`` real frames as a folder of test vectors: whole under its name, or not at all.

    Returns:
        The content of ``metadata.json``.

    Raises:
        AvatarError: the avatar cannot speak, or has fewer usable frames.
        MediaError: the folder is there already, holds other files, or cannot be written.
    """
    _check_target(out, replace)
    asked = questions(avatar, sound, frames)
    if len(asked) < frames:
        raise LipwrightError(f"{avatar.name} and {sound.name} give {len(asked)} frames together: ask for no more")
    runtime = Way(REFERENCE, "f32").open(generator_of(avatar))
    part = out.with_name(f".{out.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        with ExitStack() as stack:
            files = {name: stack.enter_context((part / name).open("wb")) for name in _FILES}
            for done, question in enumerate(asked, 1):
                inputs = question.inputs
                _append(files, inputs, runtime.run(*inputs))
                look(done, len(asked))
        described = _metadata(avatar, sound, [q.frame for q in asked], runtime.detail, part)
        (part / METADATA).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
        part.replace(out)
    except OSError as error:
        raise MediaError(f"{out} cannot be written ({error.strerror or error}): choose another folder") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return described


def _append(files: Mapping[str, BinaryIO], inputs: tuple[FloatArray, FloatArray], output: FloatArray) -> None:
    for name, array in zip(_FILES, (*inputs, output), strict=True):
        files[name].write(np.ascontiguousarray(array, DTYPE).tobytes())


def _check_target(out: Path, replace: bool) -> None:
    """Refuse what is there, unless it is older vectors and they may be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not replace:
        raise MediaError(f"{out} is there already: choose another name, or replace it with --force")
    known = {*_FILES, METADATA, OUTPUT_FILE}
    foreign = [p.name for p in out.iterdir() if p.name not in known] if out.is_dir() else [out.name]
    if foreign:
        raise MediaError(f"{out} holds other files ({min(foreign)}): empty it or choose another folder")


def _metadata(avatar: Avatar, sound: Path, frames: list[int], detail: str, folder: Path) -> dict[str, Any]:
    model = generator_of(avatar)
    arrays = {
        name: {
            "shape": [len(frames), *spec.shape[1:]],
            "dtype": spec.dtype,
            "byte_order": "little",
            "order": "C",
            "meaning": meaning,
            "sha256": sha256(folder / name),
        }
        for name, (spec, meaning) in _FILES.items()
    }
    return {
        "format": FORMAT,
        "version": VERSION,
        "frames": len(frames),
        "arrays": arrays,
        "your_output": {**arrays[EXPECTED], "file": OUTPUT_FILE, "sha256": None},
        "limits": {
            "f32": {"max_abs": F32.max_abs},
            "reduced": {"mean_abs": REDUCED.mean_abs, "p999_abs": REDUCED.p999_abs, "lip_gap_r": REDUCED.lip_gap_r},
        },
        "generator": {"file": model.name, "sha256": sha256(model), "runtime": detail},
        "avatar": avatar.name,
        "template_frames": frames,
        "sound": sound.name,
        "made_with": f"lipwright {version('lipwright')}",
    }


# --- judging --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vectors:
    """A folder of vectors that was opened and found whole."""

    folder: Path
    frames: int
    generator: str
    """sha256 of the network they were made with."""

    @classmethod
    def open(cls, folder: Path) -> Vectors:
        """Read ``metadata.json`` and check the files against it.

        Raises:
            LipwrightError: not a folder of vectors, or files that were changed.
        """
        path = folder / METADATA
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            name, number, frames = data["format"], data["version"], int(data["frames"])
            hashes = {file: str(data["arrays"][file]["sha256"]) for file in _FILES}
            generator = str(data["generator"]["sha256"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LipwrightError(f"{path} cannot be read ({error}): lipwright vectors writes such a folder") from error
        if (name, number) != (FORMAT, VERSION) or frames < 1:
            raise LipwrightError(f"{path} is {name} {number}, this lipwright reads {FORMAT} {VERSION}")
        for file, expected in hashes.items():
            if not (folder / file).is_file() or sha256(folder / file) != expected:
                raise LipwrightError(f"{folder / file} is missing or was changed: write the vectors again")
        return cls(folder, frames, generator)

    def read(self, name: str) -> FloatArray:
        """One of the arrays, float32 in the machine's byte order, mapped from the disk."""
        spec = OUTPUT if name == OUTPUT_FILE else _FILES[name][0]
        return np.memmap(self.folder / name, DTYPE, "r", shape=(self.frames, *spec.shape[1:]))


def judge(folder: Path, limits: Limits, out: Path) -> tuple[list[Finding], Comparison | None]:
    """Score ``output.bin`` in a folder of vectors against what was expected.

    Args:
        folder: written by ``write_vectors``, with another implementation's ``output.bin`` in it.
        limits: ``F32``, or ``REDUCED`` for implementations that compute in fewer bits.
        out: folder for the sheet of pictures.

    Returns:
        The findings, and the figures; None where the file does not have the right size.

    Raises:
        LipwrightError: not a folder of vectors, or there is no ``output.bin``.
    """
    vectors = Vectors.open(folder)
    path = folder / OUTPUT_FILE
    if not path.is_file():
        raise LipwrightError(f"there is no {path}: run your implementation on {VISUAL} and {SOUND}, write it there")
    size = _size(path, vectors.frames)
    if size.verdict == "broken":
        return [size], None
    expected, got = vectors.read(EXPECTED), vectors.read(OUTPUT_FILE)
    meter = Meter()
    for one, other in zip(expected, got, strict=True):
        meter.add(one, other)
    r = likeness(_gaps(got), _gaps(expected)) if limits.lip_gap_r is not None else np.nan
    difference = meter.result(r)
    findings = [size, *difference.findings(SECTION, OUTPUT_FILE, limits)]
    if any(finding.verdict == "broken" for finding in findings):
        findings += _diagnosis(expected, got)
    places = chosen(range(vectors.frames), difference.worst, ())
    write_png(np.concatenate([_row(vectors, place) for place in places]), out / SHEET)
    return findings, Comparison(OUTPUT_FILE, f"computed elsewhere from {folder.name}", difference, SHEET, None)


def _row(vectors: Vectors, place: int) -> UInt8Array:
    reference, expected = vectors.read(VISUAL)[place, : OUTPUT.shape[1]], vectors.read(EXPECTED)[place]
    got = np.nan_to_num(vectors.read(OUTPUT_FILE)[place])
    names = (f"input, frame {place}", EXPECTED, OUTPUT_FILE)
    return four_way(patch.from_output(reference), patch.from_output(expected), patch.from_output(got), names)


def _size(path: Path, frames: int) -> Finding:
    shape = (frames, *OUTPUT.shape[1:])
    wanted, found = prod(shape) * DTYPE.itemsize, path.stat().st_size
    slips = {2: ": float16? write float32", 4: ": uint8? write float32, 0..1", 0.5: ": float64? write float32"}
    seen = f"{found} bytes{slips.get(wanted / found, '') if found else ''}"
    allowed = f"{wanted} bytes: float32 {list(shape)}"
    return Finding.limited(SECTION, f"{path.name}: size", seen, allowed, found == wanted)


def _gaps(outputs: FloatArray) -> Any:
    """Lip gaps of the ROIs themselves: the vectors hold no whole frames."""
    return lip_gaps(patch.from_output(np.nan_to_num(output)) for output in outputs)


def _diagnosis(expected: FloatArray, got: FloatArray) -> Iterator[Finding]:
    """The usual slips, tried on the first and last frame: which would bring the output nearer?"""
    few = sorted({0, len(expected) - 1})
    truth, found = np.asarray(expected[few]), np.asarray(got[few])
    plain = _apart(truth, found)
    for what, mended in _slips(found):
        apart = _apart(truth, mended)
        if apart < SWAP_NEARER * plain:
            seen = f"{what}: then the mean difference is {apart / LEVEL:.3g}/255 instead of {plain / LEVEL:.3g}/255"
            yield Finding.note(SECTION, "what may be wrong", seen)


def _slips(found: FloatArray) -> Iterator[tuple[str, DoubleArray]]:
    values = found.astype(np.float64)
    nhwc = values.reshape(-1, *OUTPUT.shape[2:], OUTPUT.shape[1])
    yield "red and blue are exchanged (RGB written as BGR)", values[:, ::-1]
    yield "the values are 0..255: divide by 255", values / 255
    yield "the values are -1..1: (x + 1) / 2", (values + 1) / 2
    yield (
        "the order is [N, H, W, C] instead of [N, C, H, W]",
        nhwc.transpose(0, 3, 1, 2),
    )
    yield "rows and columns are exchanged", values.transpose(0, 1, 3, 2)
    yield "the picture is upside down", values[:, :, ::-1]
    with np.errstate(invalid="ignore"):
        yield "the values are big-endian", found.byteswap().astype(np.float64)
    yield "the sigmoid is missing", 1 / (1 + np.exp(-np.clip(values, -50, 50)))


def _apart(truth: FloatArray, found: npt.NDArray[np.floating]) -> float:
    """Mean difference; infinite where there are values that are no numbers."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart = float(np.abs(truth.astype(np.float64) - found).mean())
    return apart if np.isfinite(apart) else float("inf")
