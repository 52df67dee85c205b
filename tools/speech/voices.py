"""Machines that read aloud and tell when each phone sounds: flite and espeak-ng.

Every speaker returns 16 kHz mono int16 and phones whose times cover the sound without holes.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

from lipwright.contract import SAMPLE_RATE
from lipwright.errors import LipwrightError

from .phones import Phone, Shape, manner, shapes_of_cmu, shapes_of_ipa

Int16Array = npt.NDArray[np.int16]
PAUSE = "pau"
REST_SHAPES = (Shape("sil"),)

FLITE_VOICES = ("awb", "rms", "slt", "kal16", "kal")
#: Formant voices of espeak-ng that sound like somebody: no robots, and no long echo that would fill the closures.
ESPEAK_VARIANTS = (
    *("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "croak", "whisper", "whisperf"),
    *("klatt", "klatt2", "klatt3", "klatt4", "klatt5", "klatt6", "grandma", "grandpa", "adam", "Alex", "Andrea"),
    *("Andy", "Annie", "aunty", "belinda", "benjamin", "caleb", "david", "Diogo", "ed", "edward", "gene", "Henrique"),
    *("Hugo", "iven", "Jacky", "john", "Lee", "linda", "Mario", "max", "Michael", "michel", "miguel", "mike", "Nguyen"),
    *("norbert", "paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby", "steph", "steph2", "travis"),
    *("victor", "zac"),
)


class SpeechEngineError(LipwrightError):
    """A speech engine is missing or refuses a voice."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """One text read aloud."""

    samples: Int16Array
    """[n] 16 kHz mono."""
    phones: tuple[Phone, ...]
    """Sorted, without holes, from 0 to n / 16000 s."""


def pause(start: float, end: float) -> Phone:
    """A pause from ``start`` to ``end`` seconds."""
    return Phone(PAUSE, start, end, REST_SHAPES)


class Tape:
    """Sound and phones, one piece after the other."""

    def __init__(self) -> None:
        self._pieces: list[Int16Array] = []
        self._phones: list[Phone] = []
        self.length = 0
        """Samples so far."""

    @property
    def seconds(self) -> float:
        """How long it is so far."""
        return self.length / SAMPLE_RATE

    def rest(self, seconds: float) -> None:
        """Add digital silence."""
        start, samples = self.seconds, round(seconds * SAMPLE_RATE)
        self._add(np.zeros(samples, np.int16))
        self._phones.append(pause(start, self.seconds))

    def say(self, spoken: Spoken) -> None:
        """Add what was read aloud."""
        start = self.seconds
        self._phones += [Phone(p.symbol, p.start + start, p.end + start, p.shapes) for p in spoken.phones]
        self._add(spoken.samples)

    def whole(self) -> Spoken:
        """All of it; there is something."""
        return Spoken(np.concatenate(self._pieces), tuple(self._phones))

    def _add(self, samples: Int16Array) -> None:
        self._pieces.append(samples)
        self.length += len(samples)


def to_16k(samples: Int16Array, rate: int) -> Int16Array:
    """Resample int16 mono; exact ratios only (8000, 22050 and 16000 Hz occur)."""
    if rate == SAMPLE_RATE:
        return samples
    common = int(np.gcd(rate, SAMPLE_RATE))
    out = resample_poly(samples.astype(np.float64), SAMPLE_RATE // common, rate // common)
    return np.asarray(np.clip(np.round(out), -32768, 32767), dtype=np.int16)


# --- flite ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class FliteVoice:
    """How flite speaks. ``pitch`` (Hz) only moves kal and kal16: the other voices carry their own melody."""

    voice: str
    stretch: float = 1.0
    """Duration factor, 0.6 .. 1.6."""
    pitch: float = 0.0
    """Mean pitch in Hz; 0 keeps the voice's own."""

    def arguments(self) -> list[str]:
        pitch = ["--setf", f"int_f0_target_mean={self.pitch:.1f}"] if self.pitch else []
        return ["-voice", self.voice, "--setf", f"duration_stretch={self.stretch:.3f}", *pitch]


def speak_flite(text: str, voice: FliteVoice) -> Spoken:
    """Read English ``text`` with flite.

    Raises:
        SpeechEngineError: flite is not installed, or does not know the voice.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = ["flite", *voice.arguments(), "-psdur", "-t", text, "-o", str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            raise SpeechEngineError(
                f"flite voice {voice.voice!r} does not speak: apt install flite ({error})"
            ) from error
        with wave.open(str(path)) as sound:
            rate = sound.getframerate()
            samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
    samples = to_16k(samples, rate)
    phones, start = [], 0.0
    for symbol, end in re.findall(r"([a-z]+):([\d.]+)", done.stdout):
        phones.append(Phone(symbol, start, float(end), shapes_of_cmu(symbol)))
        start = float(end)
    return Spoken(samples, cover(phones, len(samples) / SAMPLE_RATE))


def cover(phones: Sequence[Phone], end: float) -> tuple[Phone, ...]:
    """Cut or lengthen so that the phones end with the sound; a remainder becomes a pause."""
    kept = [p if p.end <= end else Phone(p.symbol, p.start, end, p.shapes) for p in phones if p.start < end]
    last = kept[-1].end if kept else 0.0
    return (*kept, pause(last, end)) if end - last > 1e-6 else tuple(kept)


# --- espeak-ng --------------------------------------------------------------------------------------------------------
_EVENT_END_OF_LIST, _EVENT_PHONEME = 0, 7
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_PHONEME_EVENTS, _PHONEME_IPA = 1, 2
_CHARS_UTF8 = 1
#: "(en)" is no phone: the voice goes on in another language.
_LANGUAGE_SWITCH = "("
_SSML_PHONEMES = 0x100
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
#: Below the library's 100, at which several variants clip.
_LOUDNESS = 55
#: A voiceless stop is announced at its burst: the silence before it, up to this long, is its closure.
_MAX_CLOSURE = 0.12
#: After a pause the closure cannot be heard; the lips close this long before the burst.
_INITIAL_CLOSURE = 0.06
#: Announcements of vowels after nasals and liquids come after the vowel's onset, by about this much.
_LATE_VOWEL = 0.018
#: Samples below this share of the loudest count as silence: several variants let an echo ring into the closure. After
#: a fricative, which may be as weak as that, less is allowed.
_QUIET_SHARE = 0.05
_QUIET_SHARE_AFTER_FRICATIVE = 0.015
_SONORANTS = frozenset({"nasal", "lateral", "trill", "approximant"})


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """``espeak_EVENT`` of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True, slots=True)
class EspeakVoice:
    """How espeak-ng speaks."""

    language: str
    variant: str = ""
    speed: int = 165
    """Words a minute, 80 .. 300."""
    pitch: int = 50
    """0 .. 99."""
    intonation: int = 50
    """0 .. 99."""

    @property
    def name(self) -> str:
        return f"{self.language}+{self.variant}" if self.variant else self.language


class _Espeak:
    """The library of espeak-ng, opened once in a process (it keeps its state globally)."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libespeak-ng.so.1")
        except OSError as error:
            raise SpeechEngineError("libespeak-ng.so.1 is not installed: apt install espeak-ng") from error
        options = _PHONEME_EVENTS | _PHONEME_IPA
        self.rate = int(self._library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, None, options))
        if self.rate <= 0:
            raise SpeechEngineError("espeak-ng finds no data: apt install espeak-ng-data")
        # Its breath is C's rand(), which PulseAudio's library, asked by it where sound could go, seeds by the clock
        # when a user's first cookie is made. 1 is what every other process begins with.
        ctypes.CDLL(None).srand(1)
        self._sound: list[Int16Array] = []
        self._events: list[tuple[str, int]] = []
        self._callback = _Callback(self._receive)  # kept: the library calls it later
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, sound: ctypes._Pointer[ctypes.c_short], count: int, event: ctypes._Pointer[_Event]) -> int:
        if count > 0:
            self._sound.append(np.ctypeslib.as_array(sound, (count,)).copy())
        k = 0
        while event[k].type != _EVENT_END_OF_LIST:
            symbol = event[k].id.string.decode("utf-8", "ignore")
            if event[k].type == _EVENT_PHONEME and not symbol.startswith(_LANGUAGE_SWITCH):
                self._events.append((symbol, int(event[k].sample)))
            k += 1
        return 0

    def speak(self, text: str, voice: EspeakVoice) -> tuple[Int16Array, list[tuple[str, int]]]:
        """Samples at the library's rate, and (IPA symbol, sample) where each phone begins."""
        if self._library.espeak_SetVoiceByName(voice.name.encode()):
            raise SpeechEngineError(f"espeak-ng has no voice {voice.name!r}: see `espeak-ng --voices`")
        for parameter, value in (
            (_VOLUME, _LOUDNESS),
            (_RATE, voice.speed),
            (_PITCH, voice.pitch),
            (_RANGE, voice.intonation),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._sound, self._events = [], []
        data = text.encode()
        flags = _CHARS_UTF8 | _SSML_PHONEMES
        self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, flags, None, None)
        sound = np.concatenate(self._sound) if self._sound else np.zeros(0, np.int16)
        return sound, self._events


@lru_cache(maxsize=1)
def _espeak() -> _Espeak:
    return _Espeak()


def _quiet_before(samples: Int16Array, at: int, limit: int, quiet: float) -> int:
    """How many samples before ``at``, at most ``limit``, are not above ``quiet``."""
    loud = np.flatnonzero(np.abs(samples[max(0, at - limit) : at].astype(np.int32)) > quiet)
    return min(limit, at) if len(loud) == 0 else min(limit, at) - int(loud[-1]) - 1


def _phone_starts(samples: Int16Array, events: Sequence[tuple[str, int]], rate: int) -> list[int]:
    """Where phones really begin: espeak-ng announces stops at their burst, and vowels after sonorants a little late."""
    starts: list[int] = []
    loudest = float(np.abs(samples.astype(np.int32)).max(initial=1))
    for k, (symbol, at) in enumerate(events):
        floor = starts[-1] if starts else 0
        before, own = manner(events[k - 1][0]) if k else "", manner(symbol)
        start = at
        if own == "stop":
            if before:
                hissing = before in ("fricative", "sibilant", "glottal")
                quiet = loudest * (_QUIET_SHARE_AFTER_FRICATIVE if hissing else _QUIET_SHARE)
                start = at - _quiet_before(samples, at, min(int(_MAX_CLOSURE * rate), (at - floor) * 3 // 4), quiet)
            else:
                start = at - min(int(_INITIAL_CLOSURE * rate), (at - floor) // 2)
        elif own and before in _SONORANTS and own not in _SONORANTS:
            start = at - min(int(_LATE_VOWEL * rate), int(0.3 * (at - floor)))
        starts.append(max(start, floor))
    return starts


def speak_espeak(text: str, voice: EspeakVoice) -> Spoken:
    """Read ``text`` with espeak-ng in any of its languages.

    Raises:
        SpeechEngineError: the library or the voice is missing.
        UnknownPhoneError: the language has a sound without a mouth shape.
    """
    engine = _espeak()
    sound, events = engine.speak(text, voice)
    starts = _phone_starts(sound, events, engine.rate)
    end = len(sound) / engine.rate
    times = [s / engine.rate for s in starts] + [end]
    phones = [pause(0.0, times[0])] if times[0] > 0 else []
    for (symbol, _), a, b in zip(events, times, times[1:], strict=False):
        if b > a:
            phones.append(Phone(symbol or PAUSE, a, b, shapes_of_ipa(symbol, voice.language)))
    samples = to_16k(sound, engine.rate)
    return Spoken(samples, cover(phones, len(samples) / SAMPLE_RATE))
