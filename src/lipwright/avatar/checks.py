"""``Avatar.verify``: everything that can be wrong with a package, each thing by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from lipwright.avatar.storage import existing
from lipwright.contract import FPS, NO_RECT, Quality, Rect, UInt8Array
from lipwright.digest import sha256
from lipwright.errors import AvatarError, LipwrightError
from lipwright.runtimes import open_runtime
from lipwright.video import VideoReader

if TYPE_CHECKING:
    from lipwright.avatar.package import Avatar

#: Frames whose skin is looked at, and every how many frames.
COLOUR_SAMPLES = 8
COLOUR_STRIDE = 5
#: Skin reflects more red than blue, whatever its shade; blue this many times red is not skin.
SWAPPED_RATIO = 1.1


def problems(avatar: Avatar) -> list[str]:
    """Every problem of ``avatar`` in a sentence; a check that fails does not stop the others."""
    found = _wrong_hashes(avatar)
    checks: list[Callable[[Avatar], None]] = [_read_features, _read_landmarks]
    checks += [partial(_open_generator, quality=quality) for quality in avatar.qualities]
    for check in (*checks, _open_encoder, _check_film):
        found += _complaint(check, avatar)
    return found


def _complaint(check: Callable[[Avatar], None], avatar: Avatar) -> list[str]:
    try:
        check(avatar)
    except LipwrightError as error:
        return [str(error)]
    return []


def _wrong_hashes(avatar: Avatar) -> list[str]:
    return [
        f"{avatar.path / name}: sha256 is not the one in avatar.json: the file was changed or damaged"
        for name, expected in avatar.manifest.files.items()
        if sha256(existing(avatar.path, name)) != expected
    ]


def _read_features(avatar: Avatar) -> None:
    _ = avatar.features


def _read_landmarks(avatar: Avatar) -> None:
    landmarks = avatar.landmarks
    if landmarks is not None and np.isinf(landmarks).any():
        frame = int(np.isinf(landmarks).any(axis=(1, 2)).argmax())
        raise AvatarError(f"{avatar.path}: landmarks.npy holds infinite values, first in frame {frame}")


def _open_generator(avatar: Avatar, quality: Quality) -> None:
    model = avatar.at(quality).generator
    if model is not None:
        check_network(model, "generator")


def _open_encoder(avatar: Avatar) -> None:
    if avatar.encoder is not None:
        check_network(avatar.encoder, "encoder")


def check_network(model: Path, kind: Literal["generator", "encoder"]) -> None:
    """Raise a LipwrightError unless ``model`` loads and its inputs and outputs can be told apart by shape."""
    open_runtime(model, kind, runtime="onnxruntime", threads=1)


def _check_film(avatar: Avatar) -> None:
    sizes = avatar.manifest.sizes
    with VideoReader(avatar.template) as film:
        if (film.width, film.height) != (sizes.width, sizes.height):
            raise AvatarError(
                f"{avatar.template} shows {film.width} x {film.height}, avatar.json says {sizes.width} x {sizes.height}"
            )
        if abs(sizes.frames / film.fps - Fraction(sizes.frames, FPS)) > Fraction(1, FPS):
            raise wrong_rate(avatar.template, film.fps)
        if film.frames != sizes.frames:  # the header may be rounded: counting decides
            count = sum(1 for _ in film)
            if count != sizes.frames:
                raise AvatarError(f"{avatar.template} has {count} frames, avatar.json says {sizes.frames}")
        rects = (avatar.rect(k) for k in range(avatar.frame_count))
        if colours_look_swapped(zip(film, rects, strict=False)):
            raise AvatarError(
                f"{avatar.template}: the face is bluer than it is red: red and blue look swapped (RGB written as BGR?)"
            )


def wrong_rate(film: Path, rate: Fraction) -> AvatarError:
    """What to say of a template that does not run at 25 fps."""
    return AvatarError(
        f"{film} runs at {float(rate):g} frames a second, not {FPS}: its rects and features cannot fit; "
        f"make a new avatar from it with `lipwright create {film.name}`"
    )


def colours_look_swapped(frames: Iterable[tuple[UInt8Array, Rect]]) -> bool:
    """Whether the middle of the face is clearly bluer than red in frames [H, W, 3] BGR with their rects.

    A suspicion, not a proof: coloured light can do the same.
    """
    usable = ((image, rect) for image, rect in frames if rect != NO_RECT)
    skin = [_skin(image, rect) for image, rect in islice(usable, 0, COLOUR_SAMPLES * COLOUR_STRIDE, COLOUR_STRIDE)]
    if not skin:
        return False
    blue, _, red = np.mean(skin, axis=0)
    return bool(blue > SWAPPED_RATIO * red)


def _skin(image: UInt8Array, rect: Rect) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Mean B, G, R of the middle half of the rect, where there is neither hair nor background."""
    dx, dy = rect.width // 4, rect.height // 4
    middle = image[rect.y1 + dy : rect.y2 - dy, rect.x1 + dx : rect.x2 - dx]
    return np.asarray(middle.reshape(-1, 3).mean(axis=0), dtype=np.float64)
