"""Turn a corpus into what trainings read.

    python -m tools.speech.pack_speech mel CORPUS OUT.npz --versions 4
    python -m tools.speech.pack_speech features OUT.npz audio_encoder.pth FEATURES.npz

``mel`` writes mel columns of every utterance, clean and in changed copies (voice, room, microphone, noise, codec);
``features`` sends them through a trained encoder, for the audio branch of a generator.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lipwright.audio.mel import MelColumns
from lipwright.contract import CENTRED, FEATURE_DIM, FPS, MEL_WINDOW, FloatArray
from lipwright.models.audio_encoder import AudioEncoder
from tools.speech.articulation import measures
from tools.speech.corpus import Utterance, load
from tools.speech.distort import distort
from tools.speech.phones import CLASSES
from tools.speech.train_encoder import VOCAL_TRACTS, Int64Array, SpeechPack, tract_matrices

log = logging.getLogger("pack_speech")

SPLITS = ["train", "heldout_voice", "heldout_language", "heldout_sentence"]
_REST = CLASSES.index("sil")


def mel_columns(samples: FloatArray, frames: int) -> npt.NDArray[np.float16]:
    """[columns, 80]: all that the features of ``frames`` frames read, from column ``CENTRED.start(0)`` on."""
    stream = MelColumns(CENTRED.start(0))
    last = CENTRED.start(frames - 1) + MEL_WINDOW - 1
    columns = np.concatenate([stream.push(samples), stream.finish(last)])
    return columns[: last + 1 - CENTRED.start(0)].astype(np.float16)


def versions(utterance: Utterance, index: int, count: int) -> Iterator[npt.NDArray[np.float16]]:
    """Mel columns of the utterance as it is, and of ``count - 1`` changed copies that keep its timing."""
    samples = np.asarray(utterance.samples / 32768, dtype=np.float32)
    frames = len(utterance.classes)
    yield mel_columns(samples, frames)
    for version in range(1, count):
        yield mel_columns(distort(np.random.default_rng((index, version)), samples), frames)


def pack_mel(corpus: Path, out: Path, count: int) -> None:
    """Write OUT.npz for ``train_encoder.py``."""
    mel: list[list[npt.NDArray[np.float16]]] = [[] for _ in range(count)]
    start, classes, tracks, split, owner = [], [], [], [], []
    at, began = 0, time.monotonic()
    for index, utterance in enumerate(load(corpus, SPLITS)):
        for version, columns in enumerate(versions(utterance, index, count)):
            mel[version].append(columns)
        frames = len(utterance.classes)
        start.append(at + np.array([CENTRED.start(k) - CENTRED.start(0) for k in range(frames)]))
        classes.append(np.where(utterance.rest, _REST, utterance.classes).astype(np.int8))
        seen = measures(utterance.tracks).stack()
        tracks.append(np.concatenate([utterance.tracks, seen], axis=1).astype(np.float16))
        split.append(np.full(frames, SPLITS.index(utterance.split), np.int8))
        owner.append(np.full(frames, index, np.int64))
        at += len(mel[0][-1])
        if index % 100 == 0:
            log.info("%d utterances, %.0f min of sound, %.0f s", index, at / 4800, time.monotonic() - began)
    part = out.with_suffix(".part.npz")
    np.savez(
        part,
        mel=np.stack([np.concatenate(m) for m in mel]),
        start=np.concatenate(start),
        classes=np.concatenate(classes),
        tracks=np.concatenate(tracks),
        split=np.concatenate(split),
        utterance=np.concatenate(owner),
        splits=np.array(SPLITS),
        names=np.array(CLASSES),
    )
    part.replace(out)


def pack_features(pack_path: Path, encoder_path: Path, out: Path, minutes: float) -> None:
    """Write features of the first ``minutes`` of the training split for ``lipwright.training.speech``.

    Every version of the pack is written as it is, and once more with another vocal tract for every utterance.
    """
    encoder = AudioEncoder().eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    encoder.load_state_dict(torch.load(encoder_path, weights_only=True))
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
        with torch.autocast("cpu", torch.bfloat16):
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
    features = commands.add_parser("features")
    features.add_argument("pack", type=Path)
    features.add_argument("encoder", type=Path)
    features.add_argument("out", type=Path)
    features.add_argument("--minutes", type=float, default=40)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.command == "mel":
        pack_mel(options.corpus, options.out, options.versions)
    else:
        pack_features(options.pack, options.encoder, options.out, options.minutes)


if __name__ == "__main__":
    main()
