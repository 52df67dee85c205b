"""The corpus on disk: shards of utterances, written once and read by training.

A shard is one ``.npz`` with

* ``audio`` int16 [samples], 16 kHz mono, all utterances after each other; utterance k owns
  ``audio_at[k] : audio_at[k + 1]``, a whole number of video frames (640 samples);
* ``tracks`` float32 [frames, 14], ``classes`` int8 [frames] and ``rest`` bool [frames] (see ``articulation``);
  utterance k owns ``frame_at[k] : frame_at[k + 1]``;
* ``meta`` str [utterances]: JSON with id, voice, language, text_id, text, split and phones.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lipwright.contract import SAMPLE_RATE, SAMPLES_PER_FRAME

from . import articulation
from .phones import Phone, Shape

Int16Array = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Utterance:
    """One stretch of sound with its truth."""

    id: str
    voice: str
    """Engine and voice, ``espeak:f3``; ``none`` for sounds that are not speech."""
    language: str
    text_id: str
    text: str
    split: str
    """``train``, ``heldout_voice``, ``heldout_language`` or ``heldout_sentence``."""
    samples: Int16Array
    """[640 n] 16 kHz mono."""
    phones: tuple[Phone, ...]
    tracks: npt.NDArray[np.float32]
    """[n, 14]: the 13 channels before sealing, then ``clo``."""
    classes: npt.NDArray[np.int8]
    """[n] index into ``phones.CLASSES`` at the time of the mouth (``articulation.LEAD`` ahead of the sound)."""
    rest: npt.NDArray[np.bool_]
    """[n] nobody speaks."""

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


def make_utterance(
    samples: Int16Array,
    phones: Sequence[Phone],
    *,
    id: str,
    voice: str,
    language: str,
    text_id: str,
    text: str,
    split: str,
) -> Utterance:
    """Utterance with its truth derived from the phones; the sound is filled up with silence to whole frames."""
    frames = -(-len(samples) // SAMPLES_PER_FRAME)
    padded = np.zeros(frames * SAMPLES_PER_FRAME, np.int16)
    padded[: len(samples)] = samples
    phones = tuple(phones)
    return Utterance(
        id,
        voice,
        language,
        text_id,
        text,
        split,
        padded,
        phones,
        articulation.tracks(phones, frames),
        articulation.classes(phones, frames),
        articulation.rest(phones, frames),
    )


def _phone_to_json(phone: Phone) -> list[Any]:
    shapes = [[s.name, round(s.share, 4)] for s in phone.shapes]
    return [phone.symbol, round(phone.start, 5), round(phone.end, 5), shapes]


def _phone_from_json(row: list[Any]) -> Phone:
    return Phone(row[0], row[1], row[2], tuple(Shape(name, share) for name, share in row[3]))


_META_FIELDS = ("id", "voice", "language", "text_id", "text", "split")


def save_shard(path: Path, utterances: Sequence[Utterance]) -> None:
    """Write a shard; the file appears only when it is whole."""
    meta = [
        json.dumps(
            {f: getattr(u, f) for f in _META_FIELDS} | {"phones": [_phone_to_json(p) for p in u.phones]},
            ensure_ascii=False,
        )
        for u in utterances
    ]
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(
            file,
            audio=np.concatenate([u.samples for u in utterances]),
            audio_at=np.cumsum([0] + [len(u.samples) for u in utterances]),
            tracks=np.concatenate([u.tracks for u in utterances]),
            classes=np.concatenate([u.classes for u in utterances]),
            rest=np.concatenate([u.rest for u in utterances]),
            frame_at=np.cumsum([0] + [len(u.classes) for u in utterances]),
            meta=np.array(meta),
        )
    part.replace(path)


def load_shard(path: Path) -> list[Utterance]:
    """Every utterance of one shard, in order."""
    with np.load(path, allow_pickle=False) as z:
        audio, tracks, classes, rest = z["audio"], z["tracks"], z["classes"], z["rest"]
        audio_at, frame_at, metas = z["audio_at"], z["frame_at"], z["meta"]
    utterances = []
    for k, text in enumerate(metas):
        meta = json.loads(str(text))
        a, f = slice(audio_at[k], audio_at[k + 1]), slice(frame_at[k], frame_at[k + 1])
        phones = tuple(_phone_from_json(p) for p in meta["phones"])
        utterances.append(
            Utterance(
                id=meta["id"],
                voice=meta["voice"],
                language=meta["language"],
                text_id=meta["text_id"],
                text=meta["text"],
                split=meta["split"],
                samples=audio[a],
                phones=phones,
                tracks=tracks[f],
                classes=classes[f],
                rest=rest[f],
            )
        )
    return utterances


def load(folder: Path, splits: Collection[str] = ("train",)) -> Iterator[Utterance]:
    """Utterances of a corpus that belong to ``splits``, shard by shard."""
    for path in sorted(folder.glob("shard_*.npz")):
        yield from (u for u in load_shard(path) if u.split in splits)
