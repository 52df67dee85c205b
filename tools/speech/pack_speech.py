"""Turn a corpus into what trainings read.

    python -m tools.speech.pack_speech mel CORPUS OUT.npz --versions 4 --jobs 2
    python -m tools.speech.pack_speech features OUT.npz ENCODER FEATURES.npz

``mel`` writes mel columns of every utterance, in a quiet room and in changed copies (voice, room, microphone, noise,
codec, other speakers);
``features`` sends them through a trained encoder (its weights, .pth, or an avatar that has it), for the audio branch of
a generator.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lipwright.audio.mel import MelColumns
from lipwright.contract import CENTRED, FEATURE_DIM, FPS, MEL_WINDOW, FloatArray
from lipwright.models.audio_encoder import AudioEncoder
from lipwright.runtimes.torch import has_bf16
from lipwright.training.disguise import disguise, mix
from lipwright.training.sounds import coloured_noise
from tools.running import in_a_sentence
from tools.speech.articulation import measures
from tools.speech.corpus import Utterance, load_shard
from tools.speech.people import UNKNOWN, read_people, scatter, shifts, states
from tools.speech.phones import CLASSES
from tools.speech.teacher import load_encoder
from tools.speech.train_encoder import VOCAL_TRACTS, Int64Array, SpeechPack, tract_matrices

log = logging.getLogger("pack_speech")

SPLITS = ["train", "heldout_voice", "heldout_language", "heldout_sentence"]
_REST = CLASSES.index("sil")
#: How far the noise of the least noisy copy lies below the speech.
QUIET_ROOM_DB = (30.0, 65.0)

#: Arrays of one utterance, by their name in the pack; ``mel`` [versions, columns, 80].
Columns = dict[str, npt.NDArray[Any]]


def mel_columns(samples: FloatArray, frames: int) -> npt.NDArray[np.float16]:
    """[columns, 80]: all that the features of ``frames`` frames read, from column ``CENTRED.start(0)`` on."""
    stream = MelColumns(CENTRED.start(0))
    last = CENTRED.start(frames - 1) + MEL_WINDOW - 1
    columns = np.concatenate([stream.push(samples), stream.finish(last)])
    return columns[: last + 1 - CENTRED.start(0)].astype(np.float16)


def versions(
    samples: FloatArray, others: Sequence[FloatArray], frames: int, seed: int, count: int
) -> Iterator[npt.NDArray[np.float16]]:
    """Mel columns of the utterance in a quiet room, and of ``count - 1`` disguised copies that keep its timing.

    Not even the first copy is as silent as a machine is between its words: an encoder that has only heard digital
    silence takes the hum of a real room for speech.
    """
    rng = np.random.default_rng((seed, 0))
    yield mel_columns(mix(samples, coloured_noise(rng, len(samples), 0.5), float(rng.uniform(*QUIET_ROOM_DB))), frames)
    for version in range(1, count):
        yield mel_columns(disguise(samples, np.random.default_rng((seed, version)), others), frames)


def utterance_pack(utterance: Utterance, others: Sequence[FloatArray], count: int) -> Columns:
    """What the pack holds of one utterance; ``others`` may babble behind it."""
    frames = len(utterance.classes)
    seen = measures(utterance.tracks).stack()
    seed = int.from_bytes(utterance.id.encode(), "little")
    mel = np.stack(list(versions(sound(utterance), others, frames, seed, count)))
    return {
        "mel": mel,
        "state": states(utterance.voice, utterance.phones, mel.shape[1]),
        "voice": np.array([utterance.voice]),
        "start": np.array([CENTRED.start(k) - CENTRED.start(0) for k in range(frames)]),
        "classes": np.where(utterance.rest, _REST, utterance.classes).astype(np.int8),
        "tracks": np.concatenate([utterance.tracks, seen], axis=1).astype(np.float16),
        "split": np.full(frames, SPLITS.index(utterance.split), np.int8),
    }


def sound(utterance: Utterance) -> FloatArray:
    """[n] float32, -1..1."""
    return np.asarray(utterance.samples / 32768, dtype=np.float32)


def shard_pack(task: tuple[Path, int]) -> list[Columns]:
    """What the pack holds of every utterance of one shard; those of the training split babble behind the others.

    Only those: what is held out must not be heard in training, not even in the background.
    """
    path, count = task
    utterances = load_shard(path)
    babblers = {k: sound(u) for k, u in enumerate(utterances) if u.split == "train"}
    return [
        utterance_pack(u, [other for j, other in babblers.items() if j != k], count) for k, u in enumerate(utterances)
    ]


def pack_mel(corpus: Path, out: Path, count: int, jobs: int) -> None:
    """Write OUT.npz for ``train_encoder.py``; the same corpus gives the same bits, whatever ``jobs`` is."""
    people = read_people()  # first: hours of packing must not end at a library that is not there
    shards = sorted(corpus.glob("shard_*.npz"))
    packed: list[Columns] = []
    began = time.monotonic()
    with get_context("spawn").Pool(jobs) as pool:
        for done, made in enumerate(pool.imap(shard_pack, [(path, count) for path in shards]), 1):
            packed += made
            left = (time.monotonic() - began) / done * (len(shards) - done)
            log.info("%d of %d shards, %.0f s left", done, len(shards), left)
    columns = np.cumsum([0] + [p["mel"].shape[1] for p in packed])
    mel, state = np.concatenate([p["mel"] for p in packed], axis=1), np.concatenate([p["state"] for p in packed])
    owner = np.repeat(np.arange(len(packed)), np.diff(columns))
    learnt = np.array([SPLITS[p["split"][0]] == "train" for p in packed])[owner]
    voice = np.unique([p["voice"][0] for p in packed], return_inverse=True)[1].astype(np.int16)
    part = out.with_suffix(".part.npz")
    np.savez(
        part,
        mel=mel,
        state=state,
        voice=voice,
        # What is held out must not be heard in training, not even in the mean of its voice.
        shift=shifts(people, mel[0], np.where(learnt, state, UNKNOWN), owner, voice).astype(np.float16),
        scatter=scatter(people).astype(np.float16),
        start=np.concatenate([p["start"] + at for p, at in zip(packed, columns, strict=False)]),
        utterance=np.concatenate([np.full(len(p["start"]), k, np.int64) for k, p in enumerate(packed)]),
        splits=np.array(SPLITS),
        names=np.array(CLASSES),
        classes=np.concatenate([p["classes"] for p in packed]),
        tracks=np.concatenate([p["tracks"] for p in packed]),
        split=np.concatenate([p["split"] for p in packed]),
    )
    part.replace(out)


def pack_features(pack_path: Path, encoder_path: Path, out: Path, minutes: float) -> None:
    """Write features of the first ``minutes`` of the training split for ``lipwright.training.speech``.

    Every version of the pack is written as it is, and once more with another vocal tract for every utterance.
    """
    encoder = load_encoder(encoder_path).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pack = SpeechPack.load(pack_path)
    frames = pack.frames("train")[: round(minutes * 60 * FPS)]
    own = np.full(len(frames), len(VOCAL_TRACTS) // 2)
    other = np.random.default_rng(3).integers(len(VOCAL_TRACTS), size=pack.utterance.max() + 1)[pack.utterance[frames]]
    features = [hear(encoder, pack, frames, v, tract) for v in range(len(pack.mel)) for tract in (own, other)]
    owner = pack.utterance[frames]
    part = out.with_suffix(".part.npz")
    np.savez(
        part,
        features=np.stack(features),
        mouth=pack.tracks[frames, :14].astype(np.float32),
        first=np.searchsorted(owner, owner, side="left"),
        last=np.searchsorted(owner, owner, side="right") - 1,
    )
    part.replace(out)


@torch.inference_mode()
def hear(
    encoder: AudioEncoder, pack: SpeechPack, frames: Int64Array, version: int, tract: Int64Array
) -> npt.NDArray[np.float16]:
    """[F, 512] features of these frames of one version, each through its own vocal tract."""
    features = np.empty((len(frames), FEATURE_DIM), np.float16)
    for at in range(0, len(frames), 1024):
        chunk = slice(at, at + 1024)
        mel = pack.slices(frames[chunk], np.full(len(frames[chunk]), version))[:, 0]
        mel = (tract_matrices()[torch.from_numpy(tract[chunk])] @ mel)[:, None]
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16("cpu")):
            features[chunk] = encoder(mel.contiguous(memory_format=torch.channels_last)).float().numpy()
    log.info("version %d: %d frames", version, len(frames))
    return features


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    mel = commands.add_parser("mel")
    mel.add_argument("corpus", type=Path)
    mel.add_argument("out", type=Path)
    mel.add_argument("--versions", type=int, default=4)
    mel.add_argument("--jobs", type=int, default=1)
    features = commands.add_parser("features")
    features.add_argument("pack", type=Path)
    features.add_argument("encoder", type=Path)
    features.add_argument("out", type=Path)
    features.add_argument("--minutes", type=float, default=40)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with in_a_sentence():
        if options.command == "mel":
            pack_mel(options.corpus, options.out, options.versions, options.jobs)
        else:
            pack_features(options.pack, options.encoder, options.out, options.minutes)


if __name__ == "__main__":
    main()
