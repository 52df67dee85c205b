"""What the machines read: sentences, sentences from a small grammar, shuffled words, numbers and invented words.

All of it is drawn from ``texts.json`` (sources: README.md of this folder), but for the English prose, whose words come
from Debian's dictionary. ``heldout.json`` lists what training never hears and was written before the first corpus.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from lipwright.errors import LipwrightError

_HERE = Path(__file__).parent
#: Letters that join two vowels or words are cut off when a sentence is taken apart.
_EDGE_MARKS = '.,;:!?¿¡«»()"、。，؟،'
#: Scripts without spaces between words: their sentences are not shuffled.
_UNSPACED = frozenset({"cmn", "ja"})
_FINAL_MARKS = (".", ".", ".", "?", "!", "...")
#: Debian's wamerican: SCOWL by Kevin Atkinson, free to use and distribute.
DICTIONARY = Path("/usr/share/dict/american-english")
#: Share of the English texts that is prose, and of its words that are common ones.
_PROSE_SHARE, _COMMON_SHARE = 0.75, 0.45


class HeldOut(BaseModel):
    """Content of ``heldout.json``."""

    model_config = ConfigDict(extra="forbid")

    written: str
    voices: list[str]
    languages: list[str]
    sentences: dict[str, list[str]]
    never: list[str]

    def split(self, voice: str, language: str, text_split: str) -> str:
        """Name of the part an utterance belongs to; language outranks voice, voice outranks sentence."""
        if language in self.languages:
            return "heldout_language"
        return "heldout_voice" if voice in self.voices else text_split


class LanguageTexts(BaseModel):
    """One language of ``texts.json``."""

    model_config = ConfigDict(extra="forbid")

    sentences: list[str]
    onsets: list[str]
    nuclei: list[str]
    codas: list[str]
    subjects: list[str] = []
    verbs: list[str] = []
    objects: list[str] = []
    places: list[str] = []
    common: list[str] = []


@dataclass(frozen=True, slots=True)
class Text:
    """One thing to read aloud."""

    id: str
    """Language, kind and, for listed sentences, their number: ``de/sentence/3``."""
    text: str
    split: str = "train"
    """``train`` or ``heldout_sentence``."""


@lru_cache(maxsize=1)
def held_out() -> HeldOut:
    """What training never hears."""
    return HeldOut.model_validate_json((_HERE / "heldout.json").read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def texts() -> dict[str, LanguageTexts]:
    """Language -> its texts."""
    content = json.loads((_HERE / "texts.json").read_text(encoding="utf-8"))
    return {language: LanguageTexts.model_validate(value) for language, value in content.items()}


def _pick(rng: np.random.Generator, options: list[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _grammar(rng: np.random.Generator, words: LanguageTexts) -> str:
    parts = [_pick(rng, words.subjects), _pick(rng, words.verbs), _pick(rng, words.objects), _pick(rng, words.places)]
    return _capital(" ".join(parts)) + "."


def _shuffled(rng: np.random.Generator, words: LanguageTexts) -> str:
    bag = [w.strip(_EDGE_MARKS) for s in words.sentences for w in s.split()]
    bag = [w for w in bag if w]
    chosen = [_pick(rng, bag).lower() for _ in range(int(rng.integers(3, 9)))]
    if len(chosen) > 5 and rng.random() < 0.5:
        chosen[len(chosen) // 2] += ","
    return _capital(" ".join(chosen)) + _pick(rng, list(_FINAL_MARKS))


def _invented(rng: np.random.Generator, words: LanguageTexts) -> str:
    """Pronounceable words that mean nothing, rich in p, b, m and rounded vowels."""

    def syllable() -> str:
        return _pick(rng, words.onsets) + _pick(rng, words.nuclei) + _pick(rng, words.codas)

    made = ["".join(syllable() for _ in range(int(rng.integers(1, 4)))) for _ in range(int(rng.integers(3, 8)))]
    separator = ", " if rng.random() < 0.3 else " "
    return _capital(separator.join(made)) + "."


@lru_cache(maxsize=1)
def dictionary() -> list[str]:
    """English words of 3 to 12 plain letters.

    Raises:
        LipwrightError: no dictionary is installed.
    """
    try:
        words = DICTIONARY.read_text(encoding="utf-8").split()
    except OSError as error:
        raise LipwrightError(f"{DICTIONARY} is not there: apt install wamerican") from error
    return [word for word in words if re.fullmatch("[a-z]{3,12}", word)]


def _prose(rng: np.random.Generator, words: LanguageTexts) -> str:
    """Words of the dictionary among common ones: no sense, but the sounds of a whole language side by side."""

    def word() -> str:
        if rng.random() < _COMMON_SHARE:  # the first of them are the commonest
            return words.common[int(rng.integers(len(words.common)) * rng.random())]
        return _pick(rng, dictionary())

    chosen = [word() + ("," if k > 2 and rng.random() < 0.1 else "") for k in range(int(rng.integers(5, 16)))]
    return _capital(" ".join(chosen).strip(",")) + "."


def _numbers(rng: np.random.Generator) -> str:
    kind = int(rng.integers(3))
    if kind == 0:
        return " ".join(str(int(rng.integers(0, 100))) for _ in range(int(rng.integers(3, 8)))) + "."
    if kind == 1:
        return f"{int(rng.integers(1, 10_000))}, {int(rng.integers(1, 1000))}."
    return ", ".join(str(int(d)) for d in rng.integers(0, 10, int(rng.integers(4, 9)))) + "."


def compose(rng: np.random.Generator, language: str) -> Text:
    """Draw something to read in ``language`` (a key of ``texts.json``)."""
    words, held = texts()[language], held_out().sentences.get(language, [])
    if held and rng.random() < 0.05:
        k = int(rng.integers(len(held)))
        return Text(f"{language}/heldout/{k}", held[k], "heldout_sentence")
    if words.common and rng.random() < _PROSE_SHARE:
        return Text(f"{language}/prose", _prose(rng, words))
    draw = rng.random()
    if draw < 0.35:
        k = int(rng.integers(len(words.sentences)))
        return Text(f"{language}/sentence/{k}", words.sentences[k])
    if draw < 0.65:
        if words.subjects and rng.random() < 0.7:
            return Text(f"{language}/grammar", _grammar(rng, words))
        if language not in _UNSPACED:
            return Text(f"{language}/shuffled", _shuffled(rng, words))
    if draw < 0.88:
        return Text(f"{language}/invented", _invented(rng, words))
    return Text(f"{language}/numbers", _numbers(rng))


def normalised(text: str) -> str:
    """Letters only, for comparing sentences."""
    return re.sub(r"\W+", " ", text.lower()).strip()
