"""Pack the presenter's film for training.

    python -m tools.presenter.pack FILM.mp4 ENCODER OUT.npz --versions 12

ENCODER is its weights (.pth), or an avatar that has it.

The last fifth of the film is held out. The sound is packed as it was recorded and in changed copies (another voice,
room, microphone, noise), because a generator that only ever heard one clean voice is misdriven by all others.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lipwright.audio.mel import mel_slices
from lipwright.contract import FloatArray
from lipwright.models.audio_encoder import AudioEncoder
from lipwright.training.disguise import disguise
from lipwright.training.pack import Pack
from tools.presenter.film import LIPS, STILL, Film
from tools.speech.teacher import load_encoder

log = logging.getLogger("pack")

#: Share of the film, at its end, that no training sees.
HELD_OUT = 5


def features(encoder: AudioEncoder, samples: FloatArray) -> FloatArray:
    """[N, 512] features of 16 kHz mono sound, whole."""
    slices = torch.from_numpy(mel_slices(samples))
    encoder = encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # half the time
    with torch.inference_mode():
        parts = [part.contiguous(memory_format=torch.channels_last) for part in torch.split(slices, 256)]
        return np.concatenate([encoder(part).numpy() for part in parts])


def sound_versions(encoder: AudioEncoder, samples: FloatArray, count: int) -> npt.NDArray[np.float16]:
    """[count, N, 512]: the sound itself, then changed copies with the same timing."""
    copies = [samples] + [disguise(samples, np.random.default_rng((7, v))) for v in range(1, count)]
    return np.stack([features(encoder, copy) for copy in copies]).astype(np.float16)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("film", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--versions", type=int, default=12)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    film = Film.open(options.film)
    frames = len(film.landmarks)
    Pack(
        rois=film.rois(),
        landmarks=film.roi_landmarks(),
        still=STILL,
        lips=LIPS,
        mouth=film.mouth,
        features=sound_versions(load_encoder(options.encoder), film.sound(), options.versions),
        held_out=(frames - frames // HELD_OUT, frames),
    ).save(options.out)
    log.info("%s: %d frames", options.out, frames)


if __name__ == "__main__":
    main()
