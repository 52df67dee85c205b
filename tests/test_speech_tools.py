"""tools/speech: the table of mouths, co-articulation, texts, corpus and augmentation.

The speech engines are no dependency of the project: where one is missing, its test checks that the error says what to
install.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise, product
from pathlib import Path
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from lipwright.audio.decode import hear
from lipwright.avatar import builtin_sound
from lipwright.errors import LipwrightError
from lipwright.training import disguise
from lipwright.training.sounds import coloured_noise
from tools import make_demo_sound
from tools.speech import articulation, festival, pack_speech, people, phones, sounds, voices
from tools.speech import make_corpus as make_corpus_module
from tools.speech import texts as speech_texts
from tools.speech.corpus import Utterance, load, load_shard, make_utterance, save_shard
from tools.speech.make_corpus import make_corpus, make_one
from tools.speech.phones import CLASSES, Phone, Shape
from tools.speech.texts import compose, dictionary, held_out, normalised, texts
from tools.speech.voices import EspeakVoice, FliteVoice, SpeechEngineError, Spoken

RATE = 16_000
FloatArray = npt.NDArray[np.float32]
Speech = tuple[Phone, ...]


def spell(*parts: tuple[str, float]) -> Speech:
    """Phones of the CMU set one after the other, each with its duration in seconds."""
    made, at = [], 0.0
    for symbol, seconds in parts:
        made.append(Phone(symbol, at, at + seconds, phones.shapes_of_cmu(symbol)))
        at += seconds
    return tuple(made)


def names(symbol: str, language: str = "") -> list[str]:
    return [s.name for s in phones.shapes_of_ipa(symbol, language)]


# --- phones -----------------------------------------------------------------------------------------------------------
def test_every_target_has_13_channels_in_range() -> None:
    targets = phones.target_matrix()
    assert targets.shape == (len(CLASSES), 13)
    assert targets.min() >= 0 and targets.max() <= 1


def test_cmu_set_covers_flites_phones() -> None:
    said = "aa ae ah ao aw ax ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p pau r s sh t th uh uw v w y z zh"
    for symbol in said.split():
        shapes = phones.shapes_of_cmu(symbol)
        assert sum(s.share for s in shapes) == pytest.approx(1)
        assert {s.name for s in shapes} <= set(CLASSES)
    with pytest.raises(phones.UnknownPhoneError, match="qq"):
        phones.shapes_of_cmu("qq")


@pytest.mark.parametrize(
    ("symbol", "language", "expected"),
    [
        ("", "", ["sil"]),
        ("p", "", ["pbm"]),
        ("bʰ", "hi", ["pbm"]),
        ("m̩", "sw", ["pbm"]),
        ("β", "es", ["bv"]),
        ("ʋ", "nl", ["fv"]),
        ("θ", "", ["th"]),
        ("ts", "de", ["sz"]),
        ("tʃ", "", ["sh"]),
        ("ts.h", "cmn", ["sh"]),
        ("tɕ", "pl", ["sz"]),
        ("pf", "de", ["pbm", "fv"]),
        ("r̝̊", "cs", ["sh"]),
        ("r", "it", ["tdn"]),
        ("ɹ", "en-us", ["r"]),
        ("ʁ", "fr", ["kg"]),
        ("iː", "", ["iy"]),
        ("y", "fr", ["ue"]),
        ("y", "ru", ["ih"]),
        ("ø", "", ["oe"]),
        ("ɔ̃", "fr", ["ao"]),
        ("ɯᵝ", "ja", ["uh"]),
        ("aɪ", "", ["aa", "iy"]),
        ("əʊ", "en", ["ax", "uw"]),
        ("oːɹ", "en-us", ["ow", "r"]),
        ("ja", "ru", ["y", "aa"]),
        ("kʷ", "", ["kg", "w"]),
        ("ʔe", "da", ["eh"]),
        ("ʔ", "ar", ["hh"]),
    ],
)
def test_ipa_goes_to_the_nearest_class(symbol: str, language: str, expected: list[str]) -> None:
    assert names(symbol, language) == expected


def test_every_phone_of_every_language_maps_by_rule() -> None:
    """The inventory was made by ``python -m tools.speech.inventory`` with espeak-ng 1.51."""
    path = Path(phones.__file__).with_name("inventory.json")
    inventory: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    assert len(inventory) >= len(texts())
    for language, said in inventory.items():
        assert len(said.split()) > 20, language
        for symbol in said.split():
            if symbol == voices.PAUSE:
                continue
            shapes = phones.shapes_of_ipa(symbol, language)
            assert sum(s.share for s in shapes) == pytest.approx(1)
            assert shapes[0].name != "sil", (language, symbol)
            neutral = shapes == (Shape(phones.FALLBACK),)
            assert not neutral or set(phones.ipa_letters(symbol, language)) & set("əɘɤ"), (language, symbol)


def test_unknown_ipa_letter_is_an_error() -> None:
    with pytest.raises(phones.UnknownPhoneError, match="ж"):
        phones.shapes_of_ipa("ж")


@pytest.mark.parametrize("language", sorted({v.language for v in festival.FESTIVAL_VOICES.values()}))
def test_festival_spellings_are_ipa(language: str) -> None:
    symbols = [p.split("=")[0] for p in festival._SPELLINGS.get(language, "").split()]
    for symbol in [*symbols, "p", "m", "pau"]:
        assert {s.name for s in festival.shapes_of_festival(symbol, language)} <= set(CLASSES)
    with pytest.raises(phones.UnknownPhoneError):
        festival.shapes_of_festival("%", language)


# --- articulation -----------------------------------------------------------------------------------------------------
@pytest.mark.dev_data
@pytest.mark.parametrize("name", ["presenter_v0", "presenter_v0_paired"])
def test_presenters_truth_is_reproduced_from_its_phones(dev_data: Path, name: str) -> None:
    truth = json.loads((dev_data / "video" / f"{name}_truth.json").read_text())
    lip_gap = np.load(dev_data / "video" / f"{name}_truth.npz")["lip_gap"]
    said = [Phone(p, a, b, phones.shapes_of_cmu(p)) for p, a, b in truth["phones"]]
    n = len(truth["weights"])
    # The first film was drawn from the whole of its phones, the second from the part that it lasts.
    track = articulation.tracks(said, n if name.endswith("paired") else None)[:n]
    drawn = np.array([[_channel(w, c) for c in phones.CHANNELS] for w in truth["weights"]])
    difference = np.abs(articulation.sealed(track) - drawn).max(axis=0)
    close = phones.CHANNELS.index("mouthClose")
    assert np.delete(difference, close).max() < 1e-4  # the file has four digits
    assert difference[close] < 2e-3  # dimple and asymmetry of the film move the lips a little too
    assert np.abs(articulation.measures(track).gap - lip_gap).max() < 0.01


def _channel(weights: dict[str, float], channel: str) -> float:
    if not channel[0].isupper():
        return weights[channel]
    asymmetry = 0.03 if channel == "Smile" else 0.0
    return (weights[f"mouth{channel}_L"] - asymmetry + weights[f"mouth{channel}_R"]) / 2


def test_lips_close_for_m_and_open_for_a() -> None:
    said = spell(("pau", 0.4), ("m", 0.08), ("aa", 0.3), ("m", 0.057), ("aa", 0.3), ("pau", 0.4))
    track = articulation.tracks(said)
    gap, t = articulation.measures(track).gap, articulation.frame_times(len(track))
    for a, b in ((0.4, 0.48), (0.78, 0.837)):
        inside = (t >= a) & (t < b)
        assert inside.any() and track[inside, 13].max() > 0.99 and gap[inside].min() < 0
    vowel = (t > 0.55) & (t < 0.7)
    assert gap[vowel].min() > 0.7 and track[vowel, 13].max() == 0


def test_lips_round_for_w_and_spread_for_i() -> None:
    track = articulation.tracks(spell(("pau", 0.3), ("w", 0.12), ("iy", 0.25), ("pau", 0.3)))
    m, t = articulation.measures(track), articulation.frame_times(len(track))
    w, i = np.argmin(np.abs(t - 0.36)), np.argmin(np.abs(t - 0.58))
    assert m.rounding[w] > 0.4 > 0.05 > m.rounding[i]
    assert m.width[w] < articulation.NEUTRAL_WIDTH_CM - 0.4 < articulation.NEUTRAL_WIDTH_CM < m.width[i]
    assert m.teeth[i] > 0.5 > m.teeth[w]
    assert m.stack().shape == (len(track), 5)


def test_mouth_leads_the_sound() -> None:
    said = spell(("pau", 0.495), ("f", 0.5))
    ahead, beside = articulation.classes(said), articulation.classes(said, lead=0)
    f = CLASSES.index("fv")
    assert np.argmax(ahead == f) == 12 and np.argmax(beside == f) == 12
    later = spell(("pau", 0.51), ("f", 0.5))  # starts between the sound of frame 12 (505 ms) and its mouth (525 ms)
    assert np.argmax(articulation.classes(later) == f) == 12
    assert np.argmax(articulation.classes(later, lead=0) == f) == 13


def test_neighbouring_pauses_are_one_rest_and_a_short_one_is_none() -> None:
    said = spell(("aa", 0.4), ("pau", 0.06), ("pau", 0.06), ("aa", 0.4), ("pau", 0.08), ("aa", 0.4), ("pau", 0.5))
    t = articulation.frame_times(articulation.frames_of(said))
    expected = ((t >= 0.4) & (t < 0.52)) | (t >= 1.40)
    np.testing.assert_array_equal(articulation.rest(said), expected)


def test_diphthong_takes_its_share_of_the_time() -> None:
    e = articulation.events(spell(("ay", 0.2), ("t", 0.1)))
    assert [CLASSES[c] for c in e.classes] == ["aa", "iy", "tdn"]
    np.testing.assert_allclose(e.end, [0.12, 0.2, 0.3])


# --- texts ------------------------------------------------------------------------------------------------------------
def test_held_out_and_forbidden_sentences_are_in_no_training_text() -> None:
    read = {normalised(s) for language in texts().values() for s in language.sentences}
    kept = held_out()
    never = {normalised(s) for s in kept.never}
    assert len(never) == 13
    demo = make_demo_sound.everything_said()
    assert len(demo) >= 4
    never |= {normalised(s) for s in demo}
    assert not read & never
    assert not read & {normalised(s) for sentences in kept.sentences.values() for s in sentences}


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """A dictionary of our own, with what prose leaves out: names, short words and those with other letters."""
    made = ["".join(letters) for letters in product("bdgkmp", "aeiou", "lmnrst", "aeiou")]
    path = tmp_path / "words"
    path.write_text("\n".join(["Adam", "ox", "Adam's", "café", *made]), encoding="utf-8")
    monkeypatch.setattr(speech_texts, "DICTIONARY", path)
    dictionary.cache_clear()
    yield made
    dictionary.cache_clear()


@pytest.mark.usefixtures("words")
def test_composed_texts_are_reproducible_and_named_by_their_split() -> None:
    kept = held_out()
    assert len(texts()) >= 25
    for language in texts():
        rng, again = np.random.default_rng(3), np.random.default_rng(3)
        made = [compose(rng, language) for _ in range(60)]
        assert made == [compose(again, language) for _ in range(60)]
        for text in made:
            is_held = text.text in kept.sentences.get(language, [])
            assert text.split == ("heldout_sentence" if is_held else "train")
            assert text.text.strip()


def test_prose_has_the_words_of_the_dictionary_among_common_ones(words: list[str]) -> None:
    rng = np.random.default_rng(1)
    prose = [text.text for text in (compose(rng, "en") for _ in range(200)) if text.id == "en/prose"]
    assert 120 < len(prose) < 170
    common = set(texts()["en"].common)
    read = [word for text in prose for word in re.findall("[a-z]+", text.lower())]
    assert set(read) <= common | set(words)
    assert 0.4 < np.mean([word in common for word in read]) < 0.5
    assert len(set(read) - common) > 300
    assert all(text.endswith(".") and not text.endswith(",.") and text[0].isupper() for text in prose)


@pytest.mark.usefixtures("words")
def test_without_a_dictionary_one_is_told_how_to_get_it() -> None:
    speech_texts.DICTIONARY.unlink()
    with pytest.raises(LipwrightError, match="apt install wamerican"):
        dictionary()


def test_language_outranks_voice_and_voice_outranks_sentence() -> None:
    kept = held_out()
    assert kept.split("flite:slt", "sv", "heldout_sentence") == "heldout_language"
    assert kept.split("flite:slt", "en", "heldout_sentence") == "heldout_voice"
    assert kept.split("flite:awb", "en", "heldout_sentence") == "heldout_sentence"
    assert kept.split("flite:awb", "en", "train") == "train"


def test_held_out_voices_and_languages_exist() -> None:
    known = {f"flite:{v}" for v in voices.FLITE_VOICES} | {f"espeak:{v}" for v in voices.ESPEAK_VARIANTS}
    known |= {f"festival:{v}" for v in festival.FESTIVAL_VOICES}
    assert set(held_out().voices) <= known
    assert set(held_out().languages) <= set(texts())


# --- engines ----------------------------------------------------------------------------------------------------------
def assert_whole(spoken: Spoken) -> None:
    """Sound is there, and the phones cover it without holes."""
    assert spoken.samples.dtype == np.int16 and np.abs(spoken.samples.astype(int)).max() > 3000
    assert spoken.phones[0].start == 0
    assert spoken.phones[-1].end == pytest.approx(len(spoken.samples) / RATE, abs=1e-4)
    for a, b in zip(spoken.phones, spoken.phones[1:], strict=False):
        assert a.end == b.start and a.end > a.start


def loudness(samples: npt.NDArray[np.int16], start: float, end: float) -> float:
    return float(np.sqrt(np.mean(samples[int(start * RATE) : int(end * RATE)].astype(float) ** 2)))


@pytest.mark.parametrize("voice", ["awb", "kal16"])
def test_flite(voice: str) -> None:
    if shutil.which("flite") is None:
        with pytest.raises(SpeechEngineError, match="apt install flite"):
            voices.speak_flite("Papa.", FliteVoice(voice))
        return
    spoken = voices.speak_flite("Papa, put a map up.", FliteVoice(voice, stretch=1.1))
    assert_whole(spoken)
    vowels = [p for p in spoken.phones if p.symbol in ("aa", "ae", "ah")]
    quiet = [p for p in spoken.phones if p.symbol == "pau"]
    assert vowels and min(loudness(spoken.samples, p.start, p.end) for p in vowels) > 5 * max(
        loudness(spoken.samples, p.start + 0.03, p.end - 0.03) for p in quiet if p.end - p.start > 0.1
    )


@pytest.mark.parametrize("voice", [EspeakVoice("en-us", "f3"), EspeakVoice("de"), EspeakVoice("es", "klatt2", 200)])
def test_espeak_stops_begin_with_their_closure(voice: EspeakVoice) -> None:
    try:
        spoken = voices.speak_espeak("Papa, tapa, sapa, pipa.", voice)
    except SpeechEngineError as error:
        assert "apt install espeak-ng" in str(error)
        return
    assert_whole(spoken)
    inside = [
        b for a, b in zip(spoken.phones, spoken.phones[1:], strict=False) if b.symbol == "p" and a.symbol != "pau"
    ]
    assert len(inside) >= 4
    level = loudness(spoken.samples, 0, len(spoken.samples) / RATE)
    for p in inside:
        assert 0.05 < p.end - p.start < 0.16
        assert loudness(spoken.samples, p.start + 0.005, p.start + 0.03) < 0.2 * level


def test_espeak_refuses_an_unknown_voice() -> None:
    with pytest.raises(SpeechEngineError, match=r"apt install|no voice"):
        voices.speak_espeak("a", EspeakVoice("xx-none"))


@pytest.mark.parametrize("name", ["ked_diphone", "czech_machac"])
def test_festival(name: str) -> None:
    try:
        spoken = festival.speak_festival('Papa, mapa "kufr" mama.', festival.FESTIVAL_VOICES[name])
    except SpeechEngineError as error:
        assert festival.FESTIVAL_VOICES[name].package in str(error)
        return
    assert_whole(spoken)
    assert {"p", "m"} <= {p.symbol for p in spoken.phones}


@pytest.mark.skipif(shutil.which("flite") is None, reason="apt install flite")
@pytest.mark.parametrize("voice", ["rms", "slt"])
def test_the_sentences_of_the_demo_are_read_aloud_again(
    voice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = builtin_sound().with_name(make_demo_sound.PLACES[voice])
    monkeypatch.setattr(sys, "argv", ["make_demo_sound", str(tmp_path / "demo.flac"), "--voice", voice])
    make_demo_sound.main()
    anew, said = (json.loads(path.with_suffix(".json").read_text()) for path in (tmp_path / "demo.flac", kept))
    assert [name for name, _, _ in anew] == [name for name, _, _ in said]
    np.testing.assert_allclose([times for _, *times in anew], [times for _, *times in said], atol=2e-3)
    # Another processor may round otherwise.
    np.testing.assert_allclose(hear(tmp_path / "demo.flac"), hear(kept), atol=0.01)
    assert all(before[2] == after[1] for before, after in pairwise(said)) and said[0][1] == 0
    assert said[-1][2] == pytest.approx(len(hear(kept)) / RATE, abs=1e-3)
    assert sum(name in ("p", "b", "m") for name, _, _ in said) >= 8


# --- corpus -----------------------------------------------------------------------------------------------------------
def an_utterance(name: str, split: str) -> Utterance:
    said = spell(("pau", 0.3), ("m", 0.1), ("ay", 0.31), ("pau", 0.2))
    sound = np.random.default_rng(len(name)).integers(-9000, 9000, int(0.91 * RATE)).astype(np.int16)
    return make_utterance(
        sound, said, id=name, voice="flite:awb", language="en", text_id="en/x", text="my “Ü”", split=split
    )


def test_shard_comes_back_as_it_was(tmp_path: Path) -> None:
    written = [an_utterance("a", "train"), an_utterance("bcd", "heldout_voice")]
    save_shard(tmp_path / "shard_0000.npz", written)
    assert [p.name for p in tmp_path.iterdir()] == ["shard_0000.npz"]
    for before, after in zip(written, load_shard(tmp_path / "shard_0000.npz"), strict=True):
        assert (after.id, after.split, after.text) == (before.id, before.split, before.text)
        assert len(after.samples) == 23 * 640 and after.tracks.shape == (23, 14) and after.rest.sum() > 5
        for field in ("samples", "tracks", "classes", "rest"):
            np.testing.assert_array_equal(getattr(after, field), getattr(before, field))
        np.testing.assert_array_equal(articulation.tracks(after.phones, 23), after.tracks)
    assert [u.id for u in load(tmp_path)] == ["a"]
    assert [u.id for u in load(tmp_path, ("train", "heldout_voice"))] == ["a", "bcd"]


def test_corpora_of_two_recipes_do_not_mix(tmp_path: Path) -> None:
    make_corpus(tmp_path, hours=0, seed=1)
    with pytest.raises(LipwrightError, match=r"begun with other .*choose another folder"):
        make_corpus(tmp_path, hours=0, seed=2)


def test_utterances_are_reproducible() -> None:
    index = next(k for k in range(400) if np.random.default_rng([0, k]).random() < 0.05)
    one, two = make_one(0, index), make_one(0, index)
    assert one.voice == "none" and one.rest.all() and one.tracks[:, 13].max() == 0
    np.testing.assert_array_equal(one.samples, two.samples)
    assert one.id == two.id


#: The first five of seed 1 are read by espeak-ng and flite, or are rest.
SHARD = """
import sys; from pathlib import Path; from tools.speech import make_corpus as made
made.UTTERANCES_PER_SHARD = 5
made._make_shard((Path(sys.argv[1]), 1, 0))
"""


@pytest.mark.skipif(not all(map(shutil.which, ("flite", "espeak-ng"))), reason="apt install flite espeak-ng")
def test_a_shard_is_made_anew_to_the_bit(tmp_path: Path) -> None:
    """Also by users who have never played a sound: their first process draws numbers that the clock has seeded."""
    made = [tmp_path / "one.npz", tmp_path / "two.npz"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    for path in made:
        home = path.with_suffix("")
        home.mkdir()
        own = kept | {"HOME": str(home)}
        subprocess.run([sys.executable, "-c", SHARD, str(path)], check=True, cwd=Path(__file__).parents[1], env=own)
    first, second = (path.read_bytes() for path in made)
    assert first == second
    voices_of = {utterance.voice.split(":")[0] for utterance in load_shard(made[0])}
    assert voices_of == {"espeak", "flite", "none"}


def read_by_flite(index: int) -> bool:
    """Whether utterance ``index`` of seed 0 is speech of flite: no engine but this one is needed to make it."""
    rng = np.random.default_rng([0, index])
    if rng.random() < make_corpus_module.REST_SHARE:
        return False
    return make_corpus_module._draw_reader(rng).name.startswith("flite:")


def test_speech_is_reproducible_in_any_order() -> None:
    index, other = islice((k for k in range(400) if read_by_flite(k)), 2)
    if shutil.which("flite") is None:
        with pytest.raises(SpeechEngineError, match="apt install flite"):
            make_one(0, index)
        return
    one = make_one(0, index)
    make_one(0, other)
    two = make_one(0, index)
    assert one.voice.startswith("flite:") and not one.rest.all()
    for field in ("samples", "tracks", "classes", "rest"):
        assert getattr(one, field).tobytes() == getattr(two, field).tobytes(), field
    assert (one.id, one.text, one.phones) == (two.id, two.text, two.phones)
    assert one.samples.tobytes() != make_one(1, index).samples.tobytes()


@pytest.mark.parametrize("kind", list(sounds.REST_SOUNDS))
def test_rest_sounds(kind: str) -> None:
    x = sounds.REST_SOUNDS[kind](np.random.default_rng(4), 2 * RATE)
    assert x.dtype == np.float32 and x.shape == (2 * RATE,) and np.isfinite(x).all()
    level = float(np.sqrt(np.mean(x**2)))
    assert level < 0.01 if kind == "silence" else 0.05 < level < 0.11
    np.testing.assert_array_equal(x, sounds.REST_SOUNDS[kind](np.random.default_rng(4), 2 * RATE))


# --- augmentation -----------------------------------------------------------------------------------------------------
def buzz(pitch: float = 120, formant: float = 700) -> FloatArray:
    """Two seconds of a vowel-like buzz in bursts of 150 ms every 400 ms."""
    t = np.arange(2 * RATE) / RATE
    x = np.zeros_like(t)
    for k in range(1, int(7000 / pitch)):
        x += np.exp(-(((k * pitch - formant) / 250) ** 2)) * np.sin(2 * np.pi * k * pitch * t + k * k)
    on = (t % 0.4 > 0.1) & (t % 0.4 < 0.25)
    return np.asarray(0.3 * x / np.abs(x).max() * np.convolve(on, np.ones(80) / 80, "same"), dtype=np.float32)


def envelope(x: FloatArray) -> npt.NDArray[np.float64]:
    """Loudness of every millisecond."""
    return np.asarray(np.convolve(np.abs(x.astype(float)), np.ones(160) / 160, "same")[::16])


def delay_ms(x: FloatArray, y: FloatArray) -> int:
    a, b = envelope(x), envelope(y)
    a, b = a - a.mean(), b - b.mean()
    return int(np.argmax(np.correlate(b, a, "full")[len(a) - 51 : len(a) + 50])) - 50


def centre_hz(x: FloatArray) -> float:
    spectrum = np.abs(np.fft.rfft(x)) ** 2
    return float((spectrum * np.fft.rfftfreq(len(x), 1 / RATE)).sum() / spectrum.sum())


def pitch_hz(x: FloatArray) -> float:
    part = x[int(0.93 * RATE) : int(1.03 * RATE)].astype(float)
    own = np.correlate(part, part, "full")[len(part) - 1 :]
    return RATE / (np.argmax(own[RATE // 300 : RATE // 60]) + RATE // 300)


CHANGES: dict[str, Callable[[FloatArray, np.random.Generator], FloatArray]] = {
    "reverb": disguise.reverberate,
    "microphone": disguise.microphone,
    "noise": disguise.add_noise,
    "babble": lambda x, rng: disguise.mix(x, disguise.babble(rng, [np.roll(x, 900), buzz(210)], len(x)), 10),
    "gain": lambda x, rng: disguise.gain(x, -20),
    "clip": lambda x, rng: disguise.clip(x, 12),
    "telephone": lambda x, rng: disguise.telephone(x),
    "opus": lambda x, rng: disguise.through_codec(x, "opus", 12_000),
    "aac": lambda x, rng: disguise.through_codec(x, "aac", 16_000),
    "mp3": lambda x, rng: disguise.through_codec(x, "mp3", 16_000),
    "tract": lambda x, rng: disguise.change_tract(x, 1.15),
    "pitch up": lambda x, rng: disguise.change_pitch(x, 1.3),
    "pitch down": lambda x, rng: disguise.change_pitch(x, 0.75),
    "tape": lambda x, rng: disguise.change_pitch(x, 1.2, keep_tract=False),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_changes_keep_every_sound_in_its_place(change: str) -> None:
    x = buzz()
    before = x.copy()
    y = CHANGES[change](x, np.random.default_rng(2))
    assert y.dtype == np.float32 and y.shape == x.shape and np.isfinite(y).all()
    assert np.abs(y - x).max() > 1e-3
    assert abs(delay_ms(x, y)) <= (20 if change == "reverb" else 8)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(y, CHANGES[change](x, np.random.default_rng(2)))


def test_tract_moves_formants_and_pitch_moves_pitch() -> None:
    x = buzz(pitch=120)
    shorter = disguise.change_tract(x, 1.2)
    assert centre_hz(shorter) / centre_hz(x) == pytest.approx(1.2, abs=0.08)
    assert pitch_hz(shorter) == pytest.approx(120, rel=0.03)
    higher = disguise.change_pitch(x, 1.3)
    assert pitch_hz(higher) == pytest.approx(156, rel=0.03)
    assert centre_hz(higher) / centre_hz(x) == pytest.approx(1.0, abs=0.12)
    tape = disguise.change_pitch(x, 1.2, keep_tract=False)
    assert pitch_hz(tape) == pytest.approx(144, rel=0.03)
    assert centre_hz(tape) / centre_hz(x) == pytest.approx(1.2, abs=0.08)


def test_mix_meets_the_ratio() -> None:
    x, noise = buzz(), coloured_noise(np.random.default_rng(0), 2 * RATE)
    added = disguise.mix(x, noise, 6) - x
    assert 20 * np.log10(disguise.speech_level(x) / np.sqrt(np.mean(added**2))) == pytest.approx(6, abs=0.1)


def test_telephone_is_narrow() -> None:
    noise = coloured_noise(np.random.default_rng(0), 2 * RATE, 0.0)
    power = np.abs(np.fft.rfft(disguise.telephone(noise))) ** 2
    f = np.fft.rfftfreq(len(noise), 1 / RATE)
    inside = power[(f > 400) & (f < 3200)].mean()
    assert power[f < 120].mean() < 0.01 * inside and power[f > 4300].mean() < 0.01 * inside


def test_digital_silence_stays_harmless() -> None:
    silence = np.zeros(RATE, np.float32)
    for change in CHANGES.values():
        y = change(silence, np.random.default_rng(0))
        assert np.isfinite(y).all() and len(y) == RATE


def test_disguise_is_reproducible_and_bounded() -> None:
    x, others = buzz(), [buzz(200), buzz(90)]
    outcomes = []
    for seed in range(12):
        y = disguise.disguise(x, np.random.default_rng(seed), others)
        assert y.dtype == np.float32 and y.shape == x.shape and np.abs(y).max() <= 1
        np.testing.assert_array_equal(y, disguise.disguise(x, np.random.default_rng(seed), others))
        outcomes.append(float(np.sqrt(np.mean(y**2))))
    assert max(outcomes) > 4 * min(outcomes)


#: What each chance of a disguise lets happen.
MADE = {
    "voice": "_other_voice",
    "reverb": "reverberate",
    "microphone": "microphone",
    "noise": "add_noise",
    "clip": "clip",
    "codec": "through_codec",
    "telephone": "telephone",
}


@pytest.mark.parametrize("chance", [*MADE, None])
def test_a_disguise_changes_what_its_chances_say_and_nothing_else(chance: str | None) -> None:
    wanted = {name: float(name == chance) for name in MADE}
    with contextlib.ExitStack() as stack:
        made = {
            name: stack.enter_context(mock.patch.object(disguise, change, wraps=getattr(disguise, change)))
            for name, change in MADE.items()
        }
        disguise.disguise(buzz(), np.random.default_rng(0), chances=disguise.Chances(**wanted))
    assert {name: spy.call_count for name, spy in made.items()} == wanted
    assert set(wanted) == {field.name for field in dataclasses.fields(disguise.Chances)}


def test_noise_is_drawn_from_0_to_30_db_and_every_kind_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = mock.Mock(return_value=np.zeros(8, np.float32))
    monkeypatch.setattr(disguise, "mix", mixed)
    kinds = {name: mock.Mock(return_value=np.zeros(8)) for name in ("music", "hum", "coloured_noise", "babble")}
    for name, kind in kinds.items():
        monkeypatch.setattr(disguise, name, kind)
    for seed in range(300):
        disguise.add_noise(np.ones(8, np.float32), np.random.default_rng(seed), [np.ones(8, np.float32)])
    drawn = [call.args[2] for call in mixed.call_args_list]
    assert 0 <= min(drawn) < 1 and 29 < max(drawn) <= 30 and np.mean(drawn) == pytest.approx(15, abs=2)
    assert all(kind.call_count > 30 for kind in kinds.values())


def test_what_is_held_out_is_not_in_the_mean_of_its_voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = spell(("pau", 0.3), ("m", 0.2), ("ay", 0.3), ("pau", 0.2))
    sound = np.random.default_rng(0).integers(-9000, 9000, RATE).astype(np.int16)
    told = {"voice": "flite:awb", "language": "en", "text_id": "en/x", "text": "my"}
    splits = ("train", "heldout_sentence")
    save_shard(tmp_path / "shard_0.npz", [make_utterance(sound, said, id=s, split=s, **told) for s in splits])
    moved = mock.Mock(side_effect=people.shifts)
    monkeypatch.setattr(pack_speech, "shifts", moved)
    pack_speech.pack_mel(tmp_path, tmp_path / "pack.npz", 1, 1)
    counted = moved.call_args.args[2]
    half = len(counted) // 2
    assert (counted[:half] != people.UNKNOWN).any() and (counted[half:] == people.UNKNOWN).all()
    with np.load(tmp_path / "pack.npz") as packed:
        assert (packed["state"][half:] != people.UNKNOWN).any(), "they are still known where they are asked"


def test_what_is_held_out_does_not_even_babble_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = ("train", "heldout_voice", "train", "heldout_sentence")
    made = [
        make_utterance(
            np.full(640 * 5, 100 * (k + 1), np.int16),
            [Phone("pau", 0.0, 0.2, (Shape("sil"),))],
            **{"id": f"u{k}", "voice": "flite:rms", "language": "en", "text_id": "x", "text": "x", "split": split},
        )
        for k, split in enumerate(splits)
    ]
    save_shard(tmp_path / "shard_0.npz", made)
    heard: list[list[int]] = []

    def remember(utterance: Utterance, others: Sequence[FloatArray], count: int) -> dict[str, FloatArray]:
        heard.append([round(float(other[0]) * 32768) for other in others])
        return {}

    monkeypatch.setattr(pack_speech, "utterance_pack", remember)
    pack_speech.shard_pack((tmp_path / "shard_0.npz", 2))
    assert heard == [[300], [100, 300], [100], [100, 300]]
