"""What is said in a clip: sentences read aloud, with the time of every phone.

Sentences come from the texts of ``tools.speech``; those that are held out are kept for the paired films, those of the
demo are left out, and so are the held-out voices.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.signal import resample_poly

from lipwright.contract import SAMPLE_RATE, SAMPLES_PER_FRAME
from lipwright.errors import LipwrightError
from tools.make_demo_sound import everything_said
from tools.speech.phones import Phone
from tools.speech.texts import held_out, normalised, texts
from tools.speech.voices import FliteVoice, Int16Array, Spoken, Tape, cover, speak_flite

#: Seconds between sentences; one in five is a longer one, in which one would breathe.
_PAUSE, _LONG_PAUSE = (0.30, 0.75), (0.9, 1.6)
#: Seconds of rest at the end.
_TAIL = 1.6
#: Loudest sample of a sentence, and the noise of the room (root mean square), shares of full scale.
_PEAK, _ROOM = 0.7, 2e-4


@dataclass(frozen=True)
class Reader:
    """A voice, and by how much it is lifted: pitch and vocal tract together, as in a smaller person."""

    voice: FliteVoice
    lift: Fraction = Fraction(1)

    def speak(self, text: str) -> Spoken:
        """Read ``text``; phones keep to the sound.

        Raises:
            SpeechEngineError: flite is not installed.
        """
        slow = FliteVoice(self.voice.voice, self.voice.stretch * float(self.lift), self.voice.pitch)
        spoken = speak_flite(text, slow)
        sound = resample_poly(spoken.samples.astype(np.float64), self.lift.denominator, self.lift.numerator)
        faster = float(self.lift)
        phones = [Phone(p.symbol, p.start / faster, p.end / faster, p.shapes) for p in spoken.phones]
        loudest = max(float(np.abs(sound).max(initial=1)), 1.0)
        samples = np.rint(sound * (_PEAK * 32767 / loudest)).astype(np.int16)
        return Spoken(samples, cover(phones, len(samples) / SAMPLE_RATE))


#: Person -> readers, taken in turn. flite's rms speaks the demo; the others make the lips follow more than one voice.
READERS = {
    "robin": (
        *(Reader(FliteVoice("rms", 0.95)), Reader(FliteVoice("rms", 1.02)), Reader(FliteVoice("awb", 0.95))),
        *(Reader(FliteVoice("rms", 0.88)), Reader(FliteVoice("kal16", 1.0, 105))),
    ),
    "mira": (
        *(Reader(FliteVoice("rms", 0.95), Fraction(29, 25)), Reader(FliteVoice("awb", 0.98), Fraction(6, 5))),
        *(Reader(FliteVoice("rms", 1.0), Fraction(6, 5)), Reader(FliteVoice("kal16", 1.0, 150), Fraction(29, 25))),
    ),
}


@dataclass(frozen=True)
class Talk:
    """A sound and what is known about it."""

    samples: Int16Array
    """[n] 16 kHz mono; whole frames."""
    phones: tuple[Phone, ...]
    """Without holes, from 0 to the end."""
    text: tuple[str, ...]

    @property
    def frames(self) -> int:
        """Length in frames of the film."""
        return len(self.samples) // SAMPLES_PER_FRAME


def sentences(seed: int) -> list[str]:
    """All that may be said in training, in an order that depends on ``seed``."""
    forbidden = {*held_out().never, *(s for part in held_out().sentences.values() for s in part)}
    forbidden |= everything_said()
    never = {normalised(s) for s in forbidden}
    allowed = [s for s in texts()["en"].sentences if normalised(s) not in never]
    order = np.random.default_rng((seed, 1)).permutation(len(allowed))
    return [allowed[k] for k in order]


def unheard(seed: int) -> list[str]:
    """What a paired film says: sentences that no encoder or ear was taught to hear, in an order of ``seed``.

    The others are read aloud in the encoder's training too, also in these voices.
    """
    held = held_out().sentences["en"]
    return [held[k] for k in np.random.default_rng((seed, 3)).permutation(len(held))]


def talk(readers: tuple[Reader, ...], said: list[str], calm: float, seconds: float, seed: int) -> Talk:
    """``calm`` seconds of listening, then sentences until ``seconds`` are full.

    Raises:
        LipwrightError: there are not enough sentences.
        SpeechEngineError: flite is not installed.
    """
    rng, tape, text = np.random.default_rng((seed, 2)), Tape(), []
    tape.rest(calm)
    for k, sentence in enumerate(said):
        if tape.seconds >= seconds - _TAIL:
            break
        tape.say(readers[k % len(readers)].speak(sentence))
        text.append(sentence)
        tape.rest(float(rng.uniform(*(_LONG_PAUSE if rng.random() < 0.2 else _PAUSE))))
    if tape.seconds < seconds - _TAIL:
        raise LipwrightError(f"{len(said)} sentences last {tape.seconds:.0f} s: ask for at most that many seconds")
    tape.rest(_TAIL + -tape.length % SAMPLES_PER_FRAME / SAMPLE_RATE)
    whole = tape.whole()
    sound = whole.samples[: len(whole.samples) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME]
    noise = rng.normal(0, _ROOM * 32767, len(sound))
    loud = np.rint(sound + noise).clip(-32768, 32767).astype(np.int16)
    return Talk(loud, cover(whole.phones, len(loud) / SAMPLE_RATE), tuple(text))
