"""The one table of mouth targets, and the maps from the phones of each speech engine to it.

A *mouth-shape class* is what phones have in common to the eye: /p b m/ look alike. Every phone of every engine ends up
as one or more *shapes*: a class and the share of the phone's time that it lasts (a diphthong is two shapes).

flite and festival's English voices speak in the CMU set and have a table. espeak-ng and festival's other voices are
mapped by rule from what the phone is (manner, place, height, rounding), so that a new language needs no new table.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

#: The 13 channels of a mouth, in the order of every track. Names with a capital are driven left and right alike
#: (``LowerDown`` is ``mouthLowerDown_L`` and ``_R`` of the ICT head); ``tongueUp`` is the raised tongue tip.
CHANNELS = (
    "jawOpen",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "LowerDown",
    "UpperUp",
    "Stretch",
    "Smile",
    "mouthRollLower",
    "mouthRollUpper",
    "Press",
    "mouthShrugLower",
    "tongueUp",
)

#: Class -> the 13 channels at its target, 0..1.
TARGETS: dict[str, tuple[float, ...]] = {
    #      jaw close funnel pucker lowDn upUp stretch smile rollL rollU press shrugL tongue
    "sil": (0.00, 0.020, 0.00, 0.00, 0.00, 0.00, 0.00, 0.05, 0.00, 0.00, 0.05, 0.00, 0.0),
    "pbm": (0.06, 0.085, 0.00, 0.04, 0.00, 0.00, 0.00, 0.00, 0.10, 0.06, 0.40, 0.04, 0.0),
    "fv": (0.05, 0.00, 0.00, 0.00, 0.00, 0.28, 0.05, 0.00, 0.36, 0.00, 0.00, 0.16, 0.0),
    "th": (0.13, 0.00, 0.00, 0.00, 0.18, 0.12, 0.05, 0.00, 0.00, 0.00, 0.00, 0.00, 0.8),
    "tdn": (0.11, 0.00, 0.00, 0.00, 0.20, 0.14, 0.08, 0.00, 0.00, 0.00, 0.00, 0.00, 0.9),
    "l": (0.16, 0.00, 0.00, 0.00, 0.16, 0.12, 0.04, 0.00, 0.00, 0.00, 0.00, 0.00, 1.0),
    "sz": (0.045, 0.00, 0.04, 0.00, 0.30, 0.22, 0.14, 0.05, 0.00, 0.00, 0.00, 0.00, 0.4),
    "sh": (0.06, 0.00, 0.34, 0.22, 0.12, 0.08, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.4),
    "kg": (0.15, 0.00, 0.00, 0.00, 0.12, 0.08, 0.05, 0.00, 0.00, 0.00, 0.00, 0.00, 0.1),
    "hh": (0.18, 0.00, 0.00, 0.00, 0.10, 0.06, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.0),
    "y": (0.09, 0.00, 0.00, 0.05, 0.15, 0.12, 0.18, 0.08, 0.00, 0.00, 0.00, 0.00, 0.3),
    "r": (0.09, 0.00, 0.16, 0.34, 0.06, 0.04, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.3),
    "w": (0.05, 0.00, 0.10, 0.80, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.0),
    "uw": (0.08, 0.00, 0.14, 0.66, 0.02, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.0),
    "uh": (0.13, 0.00, 0.16, 0.40, 0.06, 0.02, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.0),
    "ow": (0.20, 0.00, 0.20, 0.45, 0.02, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.0),
    "ao": (0.32, 0.00, 0.22, 0.16, 0.05, 0.02, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.0),
    "aa": (0.40, 0.00, 0.00, 0.00, 0.14, 0.08, 0.02, 0.00, 0.00, 0.00, 0.00, 0.00, 0.0),
    "ah": (0.27, 0.00, 0.00, 0.00, 0.14, 0.08, 0.05, 0.00, 0.00, 0.00, 0.00, 0.00, 0.0),
    "ax": (0.18, 0.00, 0.00, 0.00, 0.12, 0.07, 0.05, 0.00, 0.00, 0.00, 0.00, 0.00, 0.0),
    "ae": (0.33, 0.00, 0.00, 0.00, 0.24, 0.18, 0.20, 0.06, 0.00, 0.00, 0.00, 0.00, 0.0),
    "eh": (0.25, 0.00, 0.00, 0.00, 0.22, 0.14, 0.18, 0.06, 0.00, 0.00, 0.00, 0.00, 0.0),
    "iy": (0.10, 0.00, 0.00, 0.00, 0.26, 0.18, 0.32, 0.14, 0.00, 0.00, 0.00, 0.00, 0.2),
    "ih": (0.15, 0.00, 0.00, 0.00, 0.20, 0.12, 0.18, 0.06, 0.00, 0.00, 0.00, 0.00, 0.1),
    "er": (0.13, 0.00, 0.20, 0.20, 0.08, 0.05, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.2),
    # Shapes that English does not have: lips near each other without touching (Spanish b between vowels),
    # and the rounded front vowels, close (French u, German ü) and mid (French eu, German ö).
    "bv": (0.07, 0.040, 0.00, 0.06, 0.02, 0.02, 0.00, 0.00, 0.04, 0.02, 0.04, 0.02, 0.0),
    "ue": (0.08, 0.00, 0.14, 0.62, 0.03, 0.02, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.2),
    "oe": (0.20, 0.00, 0.20, 0.36, 0.05, 0.03, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.1),
}
#: Class of id k. The order is part of the corpus format.
CLASSES = tuple(TARGETS)
REST = "sil"
CLOSED = frozenset({"pbm"})
ROUNDED = frozenset({"w", "uw", "uh", "ow", "ao", "ue", "oe"})
#: What an unknown sound looks like: the neutral vowel.
FALLBACK = "ax"
#: Share of a diphthong that its first target lasts.
FIRST_SHARE = 0.6
#: Share of the vowel in a symbol of a consonant and a vowel (Russian ja).
CONSONANT_VOWEL_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class Shape:
    """A mouth-shape class and the share (0..1) of its phone's time that it lasts."""

    name: str
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Phone:
    """One phone of an utterance."""

    symbol: str
    """As the engine wrote it; ``pau`` for a pause."""
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    shapes: tuple[Shape, ...]
    """What the mouth does, in order; shares sum to 1."""


class UnknownPhoneError(ValueError):
    """No rule covers this phone: add its letter to the tables of ``phones.py``."""


def target_matrix() -> npt.NDArray[np.float64]:
    """[classes, 13] targets in the order of CLASSES and CHANNELS."""
    return np.array([TARGETS[c] for c in CLASSES])


def _glide(first: str, last: str) -> tuple[Shape, ...]:
    return (Shape(first, FIRST_SHARE), Shape(last, 1 - FIRST_SHARE))


# --- CMU set (flite, festival's English voices) -----------------------------------------------------------------------
_CMU_CLASSES = {
    "sil": "pau h# sil brth",
    "pbm": "p b m em",
    "fv": "f v",
    "th": "th dh",
    "tdn": "t d n dx en nx",
    "l": "l el",
    "sz": "s z",
    "sh": "sh zh ch jh",
    "kg": "k g ng",
    "hh": "hh hv",
    "y": "y",
    "r": "r",
    "w": "w",
    "uw": "uw",
    "uh": "uh",
    "ao": "ao",
    "aa": "aa",
    "ah": "ah",
    "ax": "ax",
    "ae": "ae",
    "eh": "eh",
    "iy": "iy",
    "ih": "ih ix",
    "er": "er axr",
}
_CMU_GLIDES = {"ay": ("aa", "iy"), "ey": ("eh", "iy"), "oy": ("ao", "iy"), "aw": ("aa", "uw"), "ow": ("ow", "uw")}
CMU: dict[str, tuple[Shape, ...]] = {
    phone: (Shape(name),) for name, members in _CMU_CLASSES.items() for phone in members.split()
} | {phone: _glide(*pair) for phone, pair in _CMU_GLIDES.items()}


def shapes_of_cmu(symbol: str) -> tuple[Shape, ...]:
    """Shapes of a phone of the CMU set.

    Raises:
        UnknownPhoneError: the phone is not in the set.
    """
    try:
        return CMU[symbol]
    except KeyError:
        raise UnknownPhoneError(f"phone {symbol!r} is not in the CMU set: add it to _CMU_CLASSES") from None


# --- IPA (espeak-ng) --------------------------------------------------------------------------------------------------
#: Place -> manner -> letters. Only what the eye can tell apart is kept.
_CONSONANTS = {
    ("bilabial", "stop"): "pbɓƥ",
    ("bilabial", "nasal"): "mʙ",
    ("bilabial", "fricative"): "ɸβ",
    ("labiodental", "fricative"): "fvʋɱⱱ",
    ("dental", "fricative"): "θð",
    ("alveolar", "stop"): "tdʈɖɗ",
    ("alveolar", "nasal"): "nɳ",
    ("alveolar", "trill"): "rɾɽ",
    ("alveolar", "lateral"): "lɫɭɬɮʎʟɺ",
    ("alveolar", "sibilant"): "sz",
    ("alveolopalatal", "sibilant"): "ɕʑ",
    ("postalveolar", "sibilant"): "ʃʒʂʐɧ",
    ("alveolar", "approximant"): "ɹɻ",
    ("palatal", "stop"): "cɟʄ",
    ("palatal", "nasal"): "ɲ",
    ("palatal", "fricative"): "çʝj",
    ("velar", "stop"): "kgɡɠqɢʛ",
    ("velar", "nasal"): "ŋɴ",
    ("velar", "fricative"): "xɣχʁʀɰ",
    ("glottal", "stop"): "ʔʡ",
    ("glottal", "fricative"): "hɦħʕʜʢ",
    ("labiovelar", "approximant"): "wʍɥ",
}
_MANNER = {letter: (place, manner) for (place, manner), letters in _CONSONANTS.items() for letter in letters}
_PLACE_CLASS = {
    "labiodental": "fv",
    "dental": "th",
    "alveolopalatal": "sz",
    "postalveolar": "sh",
    "palatal": "y",
    "velar": "kg",
    "glottal": "hh",
    "labiovelar": "w",
}
_ALVEOLAR_CLASS = {"stop": "tdn", "nasal": "tdn", "trill": "tdn", "lateral": "l", "sibilant": "sz", "approximant": "r"}
#: Height 0 (close) .. 3 (open), front / central / back, rounded -> letters.
_VOWELS = {
    (0.0, "front", False): "i",
    (0.5, "front", False): "ɪᵻ",
    (1, "front", False): "e",
    (2, "front", False): "ɛε",
    (2.5, "front", False): "æ",
    (3, "front", False): "a",
    (0, "front", True): "yʏ",
    (1, "front", True): "ø",
    (2, "front", True): "œɶ",
    (0, "central", False): "ɨ",
    (0, "central", True): "ʉ",
    (1, "central", False): "ɘə",
    (1, "central", True): "ɵ",
    (2, "central", False): "ɐɞ",
    (0, "back", False): "ɯ",
    (1, "back", False): "ɤ",
    (2, "back", False): "ʌ",
    (3, "back", False): "ɑ",
    (0, "back", True): "u",
    (0.5, "back", True): "ʊᵿ",
    (1, "back", True): "o",
    (2, "back", True): "ɔɒ",
}
_VOWEL_FEATURES = {letter: features for features, letters in _VOWELS.items() for letter in letters}
_ROUNDED_BY_HEIGHT = {0.0: "uw", 0.5: "uh", 1.0: "ow", 2.0: "ao"}
_FRONT_BY_HEIGHT = {0.0: "iy", 0.5: "ih", 1.0: "eh", 2.0: "eh", 2.5: "ae", 3.0: "aa"}
_UNROUNDED_BY_HEIGHT = {0.0: "ih", 1.0: "ax", 2.0: "ah", 3.0: "aa"}
#: The vowel of English "bird", with or without a written r: lips a little rounded.
_RHOTIC = frozenset("ɚɝɜ")
_LABIALISED = "ʷ"
#: Spellings of espeak-ng that are not IPA, or whose marks change the shape: Mandarin retroflexes, the Swedish sj-sound,
#: the Czech fricative trill, and the Japanese u, whose lips are pressed narrow.
_SPELLINGS = {"s.": "ʂ", "z.": "ʐ", "sx": "ɧ", "r\u031d": "ʒ", "ɯᵝ": "ʊ", "?": "ʔ"}
#: Letters that espeak-ng prints in one language for another sound.
_LANGUAGE_SPELLINGS = {
    "ru": {"y": "ɨ"},
    "uk": {"y": "ɨ"},
    "ro": {"y": "ɨ"},
    "vi": {"y": "ɨ"},
    "de": {"ɜ": "ɐ"},
}
#: Tone digits and letters, length, stress and other marks that the lips do not show.
_SILENT_MARKS = frozenset("ːˑˈˌʲʰʱˤˀˠˁʼ˞.-'ˑ^~‿͜͡|#;,:!?\"*`_ʻˇ") | frozenset("0123456789") | frozenset("˥˦˧˨˩↗↘→↑↓")


def _vowel_class(letter: str) -> str:
    """Nearest class of a vowel by height, front or back, and rounding."""
    height, place, rounded = _VOWEL_FEATURES[letter]
    if rounded and place == "front":
        return "ue" if height < 1 else "oe"
    if rounded and place == "central" and height == 1:
        return "oe"
    if rounded:
        return _ROUNDED_BY_HEIGHT[height]
    return _FRONT_BY_HEIGHT[height] if place == "front" else _UNROUNDED_BY_HEIGHT[height]


def _consonant_class(letter: str) -> str:
    """Nearest class of a consonant by place and, where the eye can tell, manner."""
    place, manner = _MANNER[letter]
    if place == "bilabial":
        return "bv" if manner == "fricative" else "pbm"
    return _ALVEOLAR_CLASS[manner] if place == "alveolar" else _PLACE_CLASS[place]


def ipa_letters(symbol: str, language: str = "") -> list[str]:
    """The letters of an IPA symbol that the mouth shows, diacritics and tones removed.

    Raises:
        UnknownPhoneError: a letter is in no table.
    """
    spelled = unicodedata.normalize("NFD", symbol)
    for spelling, letter in {**_SPELLINGS, **_LANGUAGE_SPELLINGS.get(language, {})}.items():
        spelled = spelled.replace(spelling, letter)
    letters: list[str] = []
    for mark in spelled:
        if unicodedata.combining(mark) or mark in _SILENT_MARKS:
            continue
        if mark in _MANNER or mark in _VOWEL_FEATURES or mark in _RHOTIC or mark == _LABIALISED:
            letters.append(mark)
            continue
        raise UnknownPhoneError(f"IPA letter {mark!r} of {symbol!r} has no mouth shape: add it to a table of phones.py")
    # Aspiration and glottal reinforcement of another sound do not show.
    spoken = [x for k, x in enumerate(letters) if not (x in "hɦ" and k > 0)]
    return [x for x in spoken if x != "ʔ"] or spoken


def _classes_of_letters(letters: list[str]) -> list[str]:
    """One class a letter; an affricate of one place (ts, tʃ, dʒ) counts as its fricative, as in the CMU set."""
    classes: list[str] = []
    for k, letter in enumerate(letters):
        following = letters[k + 1] if k + 1 < len(letters) else ""
        if letter in "td" and _MANNER.get(following, ("", ""))[1] == "sibilant":
            continue
        if letter == _LABIALISED:
            classes.append("w")
        elif letter in _RHOTIC:
            classes.append("er")
        elif letter in _VOWEL_FEATURES:
            # As the end of a diphthong, near-close vowels are the glides iy and uw.
            ends = bool(classes) and letters[k - 1] in _VOWEL_FEATURES
            classes.append({"ɪ": "iy", "ʊ": "uw"}.get(letter, _vowel_class(letter)) if ends else _vowel_class(letter))
        else:
            classes.append(_consonant_class(letter))
    return [c for k, c in enumerate(classes) if k == 0 or c != classes[k - 1]]


def _unspelled_class(symbol: str) -> str:
    """Class of a symbol without letters: a pause, palatalisation that stands alone, or a mark nobody knows."""
    if not symbol.strip("_ ː:"):
        return REST
    return "y" if "ʲ" in symbol else FALLBACK


@lru_cache(maxsize=4096)
def shapes_of_ipa(symbol: str, language: str = "") -> tuple[Shape, ...]:
    """Shapes of an espeak-ng phoneme written in IPA by its voice of ``language``; an empty symbol is a pause.

    Raises:
        UnknownPhoneError: a letter is in no table.
    """
    letters = ipa_letters(symbol, language)
    classes = _classes_of_letters(letters)
    if not classes:
        return (Shape(_unspelled_class(symbol)),)
    if len(classes) == 1:
        return (Shape(classes[0]),)
    if len(classes) == 2 and letters[0] in _MANNER and letters[1] in _VOWEL_FEATURES:
        return (Shape(classes[0], 1 - CONSONANT_VOWEL_SHARE), Shape(classes[1], CONSONANT_VOWEL_SHARE))
    if len(classes) == 2:
        return _glide(classes[0], classes[1])
    return tuple(Shape(c, 1 / len(classes)) for c in classes)


def manner(symbol: str) -> str:
    """How an IPA symbol begins: ``stop`` (with a closure in the mouth), ``glottal``, ``nasal``, ``lateral``, ``trill``,
    ``approximant``, ``fricative``, ``sibilant``, ``vowel``, or nothing for a pause.
    """
    letters = ipa_letters(symbol)
    if not letters:
        return ""
    place, kind = _MANNER.get(letters[0], ("", "vowel"))
    return "glottal" if place == "glottal" else kind
