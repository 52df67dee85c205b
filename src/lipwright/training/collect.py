"""From an avatar without a generator to a training pack: its pictures, landmarks, sound, and weights to start from."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lipwright import patch
from lipwright.audio.decode import hear
from lipwright.audio.mel import mel_slices
from lipwright.avatar import FEATURES, LANDMARKS, RECTS, TEMPLATE, Avatar, builtin_avatar
from lipwright.contract import (
    BORDER,
    CROP_SIZE,
    FEATURE_DIM,
    FPS,
    ROI_SIZE,
    SAMPLES_PER_FRAME,
    FloatArray,
    UInt8Array,
)
from lipwright.errors import AvatarError
from lipwright.face import LIPS, MESH_POINTS, POSE_POINTS
from lipwright.runtimes import open_runtime
from lipwright.training.disguise import disguise
from lipwright.training.mouth import mouth_code
from lipwright.training.pack import Pack
from lipwright.training.pictures import KeptPictures
from lipwright.video import VideoReader

if TYPE_CHECKING:
    from lipwright.models.generator import Width

log = logging.getLogger(__name__)

#: Share of the film, at its end, that no training sees.
HELD_OUT = 0.1
#: Seconds of changed sound that are enough, and how many copies there are at least and at most.
_CHANGED_SECONDS = 1200
_COPIES = (3, 11)
#: Mel slices encoded at a time.
_SLICES = 256
#: The template's own sound in a prepared avatar.
_SOUND = "sound.flac"
#: The files of an avatar that a training learns from.
_TAUGHT_BY = (TEMPLATE, RECTS, LANDMARKS, FEATURES)
#: Whose weights a training begins from where no base is given.
PRESENTER = "lipwright's presenter"


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a training begins from."""

    name: str
    """Whose weights they are; empty: nobody's."""
    weights: Mapping[str, npt.NDArray[Any]]
    """By their names; none: from nothing."""


def collect(
    avatar: Avatar,
    beginning: Beginning | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Pack:
    """Everything a training needs of ``avatar``; the last tenth is held out.

    Args:
        avatar: as ``lipwright prepare`` makes it.
        beginning: where a training starts; None: as `find_beginning` says.
        progress: told what is done, and how much of how much.

    Raises:
        AvatarError: as `trainable`, or the template has fewer frames than it should.
    """
    features, landmarks = trainable(avatar)
    beginning = beginning or find_beginning(avatar)
    count = avatar.frame_count
    shown = KeptPictures.of(rois(avatar, progress))
    if len(shown) != count:
        raise AvatarError(f"{avatar.template} ends after {len(shown)} of {count} frames: prepare the film again")
    seen = np.isfinite(landmarks).all(axis=(1, 2)) & (avatar.rects[:, 0] >= 0)
    points = np.nan_to_num(roi_points(landmarks[..., :2], avatar.rects))
    return Pack(
        rois=shown,
        landmarks=points,
        still=np.array(POSE_POINTS),
        lips=np.array(LIPS),
        mouth=np.nan_to_num(mouth_code(np.where(seen[:, None, None], landmarks, np.nan))),
        features=np.concatenate([features[None], changed_features(avatar, progress)]).astype(np.float16),
        held_out=(count - round(count * HELD_OUT), count),
        unusable=tuple(int(k) for k in np.flatnonzero(~seen)),
        cuts=tuple(
            sorted({at for segment in avatar.manifest.segments for at in (segment.start, segment.stop)} - {0, count})
        ),
        base=beginning.weights,
        base_name=beginning.name,
        film=film_of(avatar),
    )


def film_of(avatar: Avatar) -> str:
    """What tells the film and sound of one avatar from those of another: sha256 over those of its files."""
    files = avatar.manifest.files
    return hashlib.sha256("".join(files.get(name, "-") for name in _TAUGHT_BY).encode()).hexdigest()


def trainable(avatar: Avatar) -> tuple[FloatArray, FloatArray]:
    """Features [N, 512] and landmarks [N, 468, 3] of an avatar.

    Raises:
        AvatarError: it has no features of its own sound, or no face-mesh landmarks: ``lipwright prepare`` makes both.
    """
    features, landmarks = avatar.features, avatar.landmarks
    if features is None:
        raise AvatarError(
            f"{avatar.path} has no features of its own sound and cannot be trained: make it again with "
            "`lipwright prepare`, and give the sound with --audio if the film has none"
        )
    if landmarks is None or landmarks.shape[1:] != (MESH_POINTS, 3):
        raise AvatarError(f"{avatar.path} has no {MESH_POINTS} landmarks: make it again with `lipwright prepare`")
    return features, landmarks


def rois(avatar: Avatar, progress: Callable[[str, int, int], None] = lambda *_: None) -> Iterator[UInt8Array]:
    """N pictures [320, 320, 3] BGR; black where there is no face."""
    with VideoReader(avatar.template) as film:
        for k, picture in zip(range(avatar.frame_count), film, strict=False):
            usable = avatar.rect(k).usable
            crop = patch.crop(picture, avatar.rect(k), avatar.manifest.resize) if usable else None
            yield np.zeros((ROI_SIZE, ROI_SIZE, 3), np.uint8) if crop is None else patch.roi(crop)
            progress("cutting out the face", k, avatar.frame_count)


def roi_points(points: FloatArray, rects: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> FloatArray:
    """[N, P, 2] pixels of the frame to pixels of the ROI."""
    side = np.maximum(rects[:, 2] - rects[:, 0], 1)
    moved = (points - rects[:, None, :2]) * (CROP_SIZE / side)[:, None, None] - BORDER
    return np.asarray(moved, dtype=np.float32)


# --- sound ----------------------------------------------------------------------------------------------------------
def changed_features(avatar: Avatar, progress: Callable[[str, int, int], None] = lambda *_: None) -> FloatArray:
    """[V, N, 512]: the avatar's own sound in other voices, rooms and wires, which move nothing in time.

    No copies where the package holds no sound or no encoder to hear them with.
    """
    count = avatar.frame_count
    path = avatar.path / _SOUND
    if avatar.encoder is None or not path.is_file():
        log.warning("%s has no %s or no audio encoder: other voices cannot be practised", avatar.path, _SOUND)
        return np.zeros((0, count, FEATURE_DIM), np.float32)
    samples = _sound(path, count)
    encoder = open_runtime(avatar.encoder, "encoder", precision="f32")
    fewest, most = _COPIES
    copies = min(max(round(_CHANGED_SECONDS * FPS / count), fewest), most)
    found = np.zeros((copies, count, FEATURE_DIM), np.float32)
    for version in range(copies):
        progress("changing the voice", version, copies)
        changed = disguise(samples, np.random.default_rng((7, version)))
        slices = mel_slices(changed, avatar.manifest.encoder.alignment.to_contract())
        heard = [encoder.run(slices[k : k + _SLICES]) for k in range(0, len(slices), _SLICES)]
        found[version] = np.concatenate(heard)[:count]
    return found


def _sound(path: Path, frames: int) -> FloatArray:
    """[640 frames] 16 kHz mono."""
    heard = hear(path)
    whole = np.zeros(frames * SAMPLES_PER_FRAME, np.float32)
    whole[: min(len(whole), len(heard))] = heard[: len(whole)]
    return whole


# --- where to start -------------------------------------------------------------------------------------------------
def find_beginning(avatar: Avatar, base: Avatar | None = None, width: Width | None = None) -> Beginning:
    """The weights of the base's generator, or of the presenter's; nothing where he would not understand.

    Args:
        avatar: who is to be trained.
        base: an avatar whose generator is the start; None: the built-in presenter, if both have the same audio encoder.
        width: of the generator to be trained: a base that has two gives the one that is as wide; None: full.

    Raises:
        AvatarError: the base has no generator, or another audio encoder.
    """
    # torch: the rest of this module is also used by `lipwright check`, which needs none
    from lipwright.training.base import exported_weights, whole_weights

    bound = avatar.manifest.encoder.sha256
    if base is None:
        presenter = _drawing(Avatar.open(builtin_avatar()), width) if builtin_avatar().is_dir() else None
        if presenter is None or presenter.generator is None or presenter.manifest.encoder.sha256 != bound:
            log.warning(
                "%s hears by another encoder than the presenter: its generator begins from nothing", avatar.path
            )
            return Beginning("", {})
        return Beginning(PRESENTER, exported_weights(presenter.generator))
    if base.manifest.encoder.sha256 != bound:
        raise AvatarError(
            f"{base.path} hears by another audio encoder than {avatar.path}: prepare the film with "
            f"--audio-encoder {base.encoder}"
        )
    check_base(base)
    name = PRESENTER if base.path == builtin_avatar() else base.name
    base = _drawing(base, width)
    if base.weights is not None and base.quality == "full":
        return Beginning(name, whole_weights(base.weights))
    assert base.generator is not None, "check_base asked for it"
    return Beginning(name, exported_weights(base.generator))


def check_base(base: Avatar) -> None:
    """Raise AvatarError unless an avatar has what a training begins from: a generator, and the encoder it hears by."""
    if base.generator is None and base.weights is None:
        raise AvatarError(f"{base.path} has no generator to start from: train it first, or leave --base away")
    if base.encoder is None:
        raise AvatarError(f"{base.path} has no audio encoder to hear the film by: leave --base away")


def _drawing(base: Avatar, width: Width | None) -> Avatar:
    """The base with its generator of this width, if it has two."""
    return base.at("fast") if width == "mobile" and "fast" in base.qualities else base
