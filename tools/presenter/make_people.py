"""Write the scripts of many people, for a generator that shall know mouths before it meets anybody.

    python -m tools.presenter.make_people head.npz PEOPLE/ --people 60 --seconds 12

Each has a face, a skin, hair, a light, a room, a camera and voices of its own (``people``). PEOPLE/p000.json and .npz
are a script; PEOPLE/p000_known.npz is what else a training needs: rects, landmarks, mouth code, and what the audio
encoder of an avatar hears. Needs flite; filming does not. People who are there are not written again.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lipwright.audio.mel import mel_slices
from lipwright.avatar import Avatar, builtin_avatar
from lipwright.contract import FPS, Alignment, FloatArray
from lipwright.errors import LipwrightError
from lipwright.runtimes import open_runtime
from lipwright.training.disguise import disguise
from tools.presenter.animation import perform
from tools.presenter.figure import Figure
from tools.presenter.film import LIPS, STILL, Film
from tools.presenter.film_people import Known
from tools.presenter.head import HeadModel
from tools.presenter.make_script import script_of
from tools.presenter.people import Sitter, sitter
from tools.presenter.script import Script
from tools.presenter.talk import Reader, Talk, sentences, talk
from tools.presenter.truth import Truth
from tools.running import claim, digest_of, in_a_sentence
from tools.speech.voices import FliteVoice

log = logging.getLogger("people")

Hear = Callable[[FloatArray], FloatArray]
"""[n] samples of 16 kHz mono to [N, 512] features."""

#: Seconds of rest before the first sentence.
_CALM = 0.4
#: Flite's voices; slt is held out.
_VOICES = ("rms", "awb", "kal16")
#: Each person reads with so many voices, lifted by so many 25ths: bearded people and others.
_READERS = 2
_LIFTS = {True: (21, 28), False: (26, 34)}
#: Mel slices encoded at a time.
_SLICES = 256


def readers(rng: np.random.Generator, bearded: bool) -> tuple[Reader, ...]:
    """Two of flite's voices with a pitch, a vocal tract and a speed of their own."""
    found = []
    for voice in rng.choice(_VOICES, _READERS, replace=False):
        pitch = float(rng.uniform(90, 150)) if voice == "kal16" else 0.0
        lift = Fraction(int(rng.integers(*_LIFTS[bearded])), 25)
        found.append(Reader(FliteVoice(str(voice), float(rng.uniform(0.86, 1.1)), pitch), lift))
    return tuple(found)


def hearing(avatar: Avatar) -> Hear:
    """What the avatar's audio encoder makes of a sound.

    Raises:
        LipwrightError: the avatar has no encoder.
    """
    if avatar.encoder is None:
        raise LipwrightError(f"{avatar.path} has no audio encoder: choose another --avatar")
    runtime, alignment = open_runtime(avatar.encoder, "encoder", precision="f32"), avatar.manifest.encoder.alignment

    def hear(samples: FloatArray) -> FloatArray:
        return _features(runtime.run, alignment.to_contract(), samples)

    return hear


def _features(run: Callable[[FloatArray], FloatArray], alignment: Alignment, samples: FloatArray) -> FloatArray:
    slices = mel_slices(samples, alignment)
    return np.concatenate([run(slices[k : k + _SLICES]) for k in range(0, len(slices), _SLICES)])


def script_for(figure: Figure, who: Sitter, said: Talk, frames: int, seed: int) -> Script:
    """The first ``frames`` of a person's talk, in the person's own place."""
    motion = perform(figure, said.phones, said.frames, seed)
    script = script_of(who.person.name, seed, figure, motion, said)
    script = replace(script, camera=who.camera, look=who.look, place=who.place)
    return script.cut(range(frames))


def known(figure: Figure, script: Script, said: Talk, hear: Hear, versions: int) -> Known:
    """Rects, landmarks, mouth and sound of a script.

    Raises:
        LipwrightError: the face leaves the picture.
    """
    truth = Truth.of(figure, script)
    film = Film(Path(script.name), truth.landmarks, truth.lip_gap, list(said.phones))
    rects, frames = film.rects(), script.frames
    if rects.min() < 0 or (rects[:, 2:].max(axis=0) > (script.camera.width, script.camera.height)).any():
        raise LipwrightError(f"the face of {script.name} leaves the picture: choose another --seed")
    return Known(
        rects=rects,
        landmarks=film.roi_landmarks(),
        still=STILL.astype(np.int64),
        lips=LIPS.astype(np.int64),
        mouth=film.mouth,
        features=_sounds(said, hear, versions)[:, :frames],
    )


def _sounds(said: Talk, hear: Hear, versions: int) -> npt.NDArray[np.float16]:
    """[V, N, 512]: the sound itself, then changed copies with the same timing."""
    samples = (said.samples / 32768).astype(np.float32)
    copies = [samples, *(disguise(samples, np.random.default_rng((7, v))) for v in range(1, versions))]
    return np.stack([hear(copy) for copy in copies]).astype(np.float16)


def make_people(
    head: HeadModel, out: Path, people: range, seconds: float, seed: int, versions: int, hear: Hear
) -> list[Path]:
    """Write the people of these numbers; returns their scripts.

    Raises:
        LipwrightError: flite is missing, or a face leaves the picture.
    """
    paths = []
    for number in people:
        who = sitter(seed, number)
        path = out / f"{who.person.name}.json"
        paths.append(path)
        if Known.path(path).exists():
            continue
        rng, figure, own = np.random.default_rng((seed, number, 12)), Figure(head, who.person), 1000 * seed + number
        voices = readers(rng, bearded=who.person.skin.stubble > 0)
        said = talk(voices, sentences(own), _CALM, seconds, own)
        script = script_for(figure, who, said, min(said.frames, round(seconds * FPS)), own)
        found = known(figure, script, said, hear, versions)
        found.save(script.save(out))
        log.info("%s: %d frames, %d sentences", path, script.frames, len(said.text))
    return paths


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("head", type=Path, help="head model made by convert_head")
    parser.add_argument("out", type=Path, help="folder")
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=12, help="of each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--versions", type=int, default=3, help="of the sound: itself, and changed voices and rooms")
    parser.add_argument("--avatar", type=Path, default=builtin_avatar(), help="whose audio encoder shall be understood")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with in_a_sentence():
        avatar = Avatar.open(options.avatar)
        hear, head = hearing(avatar), HeadModel.load(options.head)
        told = {"seconds": options.seconds, "seed": options.seed, "versions": options.versions}
        claim(
            options.out,
            told | {"head": digest_of(options.head), "encoder": avatar.encoder and digest_of(avatar.encoder)},
        )
        people = range(options.people)
        make_people(head, options.out, people, options.seconds, options.seed, options.versions, hear)
    size = sum(path.stat().st_size for path in options.out.iterdir())
    log.info("%s: %d people, %.1f MB", options.out, options.people, size / 1e6)


if __name__ == "__main__":
    main()
