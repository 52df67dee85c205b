"""Make the training speech: ``python -m tools.speech.make_corpus OUT --hours 3 --jobs 1``.

The same seed makes the same arrays, bit for bit, in any order and after any interruption: every utterance draws from
its own random stream, and every shard is made in a fresh process, because espeak-ng carries state from text to text.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lipwright.contract import SAMPLE_RATE
from tools.running import claim, in_a_sentence

from .corpus import Utterance, load_shard, make_utterance, save_shard
from .festival import FESTIVAL_VOICES, speak_festival
from .sounds import REST_SOUNDS
from .texts import Text, compose, held_out, texts
from .voices import (
    ESPEAK_VARIANTS,
    EspeakVoice,
    FliteVoice,
    Int16Array,
    Spoken,
    Tape,
    pause,
    speak_espeak,
    speak_flite,
)

log = logging.getLogger(__name__)

#: Part of the recipe of a corpus: raise it when the same seed makes other sound.
RECIPE = 4
UTTERANCES_PER_SHARD = 64
#: Share of utterances without speech.
REST_SHARE = 0.04
ENGLISH_SHARE = 0.75
#: Share of the English utterances that flite reads.
FLITE_SHARE = 0.72
#: Share of the other utterances that festival reads where it has a voice of the language; espeak-ng reads the rest.
FESTIVAL_SHARE = {"en": 0.5, "ca": 0.6, "cs": 0.75, "fi": 0.75, "hi": 0.6, "it": 0.6}
FLITE_WEIGHTS = {"awb": 0.33, "rms": 0.33, "kal16": 0.24, "kal": 0.04, "slt": 0.06}
#: Accents of espeak-ng for a language of the texts; the language itself where it is not listed.
ACCENTS = {"en": ("en-us", "en-us", "en", "en", "en-gb-x-rp", "en-gb-scotland"), "es": ("es", "es-419")}
PLAIN_VARIANT_SHARE = 0.1
PAUSE_SECONDS = (0.2, 1.2)
"""Short ones are more frequent: the square of a uniform draw."""
PEAK = 0.5
"""Peak of every utterance of speech, full scale 1; training varies the level."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A voice ready to read."""

    name: str
    """As in ``heldout.json``: engine and voice."""
    language: str
    speak: Callable[[str], Spoken]


def _flite_reader(rng: np.random.Generator) -> Reader:
    name = str(rng.choice(list(FLITE_WEIGHTS), p=list(FLITE_WEIGHTS.values())))
    pitch = float(rng.uniform(75, 220)) if name.startswith("kal") else 0.0
    voice = FliteVoice(name, stretch=float(np.exp(rng.uniform(np.log(0.75), np.log(1.3)))), pitch=pitch)
    return Reader(f"flite:{name}", "en", lambda text: speak_flite(text, voice))


def _espeak_reader(rng: np.random.Generator, language: str) -> Reader:
    variant = "" if rng.random() < PLAIN_VARIANT_SHARE else str(rng.choice(ESPEAK_VARIANTS))
    voice = EspeakVoice(
        str(rng.choice(ACCENTS.get(language, (language,)))),
        variant,
        speed=int(rng.uniform(115, 215)),
        pitch=int(rng.uniform(20, 80)),
        intonation=int(rng.uniform(20, 85)),
    )
    return Reader(f"espeak:{variant or 'plain'}", language, lambda text: speak_espeak(text, voice))


def _festival_reader(rng: np.random.Generator, language: str) -> Reader:
    names = [v.name for v in FESTIVAL_VOICES.values() if v.language == language]
    voice = FESTIVAL_VOICES[str(rng.choice(names))]
    stretch = float(np.exp(rng.uniform(np.log(0.8), np.log(1.3))))
    return Reader(f"festival:{voice.name}", language, lambda text: speak_festival(text, voice, stretch))


def _draw_reader(rng: np.random.Generator) -> Reader:
    language = "en"
    if rng.random() >= ENGLISH_SHARE:
        language = str(rng.choice([name for name in texts() if name != "en"]))
    elif rng.random() < FLITE_SHARE:
        return _flite_reader(rng)
    if rng.random() < FESTIVAL_SHARE.get(language, 0.0):
        return _festival_reader(rng, language)
    return _espeak_reader(rng, language)


def _assemble(rng: np.random.Generator, spoken: list[Spoken]) -> Spoken:
    """Sentences one after the other, with a pause before, between and after."""
    tape = Tape()

    def rest() -> None:
        shortest, longest = PAUSE_SECONDS
        samples = int((shortest + (longest - shortest) * rng.random() ** 2) * SAMPLE_RATE)
        tape.rest(samples / SAMPLE_RATE)

    for sentence in spoken:
        rest()
        tape.say(sentence)
    rest()
    return tape.whole()


def _level(samples: Int16Array) -> Int16Array:
    peak = int(np.abs(samples.astype(np.int32)).max(initial=1))
    return np.round(samples * (PEAK * 32767 / peak)).astype(np.int16)


def _speech(rng: np.random.Generator, index: int) -> Utterance:
    reader = _draw_reader(rng)
    parts: list[Text] = [compose(rng, reader.language)]
    for _ in range(int(rng.integers(0, 3))):
        more = compose(rng, reader.language)
        if more.split == parts[0].split:
            parts.append(more)
    spoken = _assemble(rng, [reader.speak(part.text) for part in parts])
    return make_utterance(
        _level(spoken.samples),
        spoken.phones,
        id=f"u{index:06d}",
        voice=reader.name,
        language=reader.language,
        text_id=" ".join(p.id for p in parts),
        text=" ".join(p.text for p in parts),
        split=held_out().split(reader.name, reader.language, parts[0].split),
    )


def _rest(rng: np.random.Generator, index: int) -> Utterance:
    kind = str(rng.choice(list(REST_SOUNDS)))
    samples = int(rng.uniform(3, 8) * SAMPLE_RATE)
    sound = REST_SOUNDS[kind](rng, samples)
    if kind != "silence":
        sound = sound * np.float32(10 ** rng.uniform(-1.5, 0.3))
    pcm = np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16)
    return make_utterance(
        pcm,
        [pause(0, samples / SAMPLE_RATE)],
        id=f"u{index:06d}",
        voice="none",
        language="none",
        text_id=f"rest/{kind}",
        text="",
        split="train",
    )


def make_one(seed: int, index: int) -> Utterance:
    """Utterance ``index`` of the corpus of ``seed``."""
    rng = np.random.default_rng([seed, index])
    return _rest(rng, index) if rng.random() < REST_SHARE else _speech(rng, index)


def _make_shard(task: tuple[Path, int, int]) -> float:
    """Write one shard; returns its seconds of sound."""
    path, seed, shard = task
    first = shard * UTTERANCES_PER_SHARD
    made = [make_one(seed, k) for k in range(first, first + UTTERANCES_PER_SHARD)]
    save_shard(path, made)
    return sum(u.seconds for u in made)


def make_corpus(out: Path, hours: float, jobs: int = 1, seed: int = 0) -> float:
    """Make shards until ``out`` holds ``hours`` of sound; returns the hours there are.

    Raises:
        LipwrightError: ``out`` holds a corpus of another recipe, or a speech engine is missing.
    """
    claim(out, {"recipe": RECIPE, "seed": seed, "utterances_per_shard": UTTERANCES_PER_SHARD})
    done = 0.0
    shard = 0
    while (path := out / f"shard_{shard:04d}.npz").exists():
        done += sum(u.seconds for u in load_shard(path)) / 3600
        shard += 1
    started, before = time.monotonic(), done
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=1) as pool:
        while done < hours:
            tasks = [(out / f"shard_{k:04d}.npz", seed, k) for k in range(shard, shard + jobs)]
            for seconds in pool.map(_make_shard, tasks, chunksize=1):
                done += seconds / 3600
            shard += jobs
            left = (hours - done) * (time.monotonic() - started) / max(done - before, 1e-9)
            log.info("%.2f of %.2f h, %d shards, %.0f s left", done, hours, shard, max(0.0, left))
    return done


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with in_a_sentence():
        make_corpus(arguments.out, arguments.hours, arguments.jobs, arguments.seed)


if __name__ == "__main__":
    main()
