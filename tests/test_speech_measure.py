"""tools/speech/measure.py: every measure on sound and faces whose answer is known."""

from __future__ import annotations

import json
import wave
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from lipwright.audio.decode import hear
from lipwright.audio.mel import mel_slices
from lipwright.contract import FEATURE_DIM, FloatArray
from tools.speech import measure
from tools.speech.articulation import TRACKS, Measures
from tools.speech.phones import CLASSES, Phone, Shape
from tools.speech.train_encoder import Ear, SpeechPack, score

WORDS = {"wood", "cutters", "fourteen", "fifty", "five", "and", "the", "forty", "two", "don't"}
REST, PBM, AA, AH, AX = (CLASSES.index(c) for c in ("sil", "pbm", "aa", "ah", "ax"))


@pytest.fixture(scope="module")
def ear() -> Ear:
    torch.manual_seed(0)
    return Ear(len(CLASSES), len(TRACKS) + 5).eval()


def babbling(seconds: float, seed: int = 0) -> FloatArray:
    """Noise whose level comes and goes four times a second."""
    n = int(seconds * 16000)
    level = 0.1 + 0.1 * np.sin(2 * np.pi * 4 * np.arange(n) / 16000)
    return np.asarray(np.random.default_rng(seed).standard_normal(n) * level, np.float32)


def test_the_files_of_a_training_come_back(tmp_path: Path, ear: Ear) -> None:
    torch.save(ear.encoder.state_dict(), tmp_path / "e.pth")
    torch.save(ear.heads.state_dict(), tmp_path / "h.pth")
    again = measure.load_ear(tmp_path / "e.pth", tmp_path / "h.pth")
    mel = np.random.default_rng(0).standard_normal((3, 1, 80, 16)).astype(np.float32)
    with torch.no_grad():
        expected = ear.heads.classes(ear.encoder(torch.from_numpy(mel))).argmax(1).numpy()
    assert np.array_equal(measure.guessed(again, measure.features(again, mel)), expected)


def test_coarse_classes_share_out_all_classes_once() -> None:
    names = " ".join(measure.COARSE.values()).split()
    assert sorted(names) == sorted(CLASSES)
    assert len(measure.COARSE) == 14


def test_the_gap_is_where_a_pack_has_it() -> None:
    fields = list(Measures.__dataclass_fields__)
    assert [*TRACKS, *fields][measure.GAP_TRACK] == "gap"


def test_figures_of_known_guesses() -> None:
    truth = np.array([PBM] * 4 + [AA] * 4 + [REST] * 2)
    guess = np.array([PBM, AA, PBM, PBM, PBM, AA, AX, AA, REST, AA])
    value = measure.Score.of("x", measure.tally(guess, truth)).value
    assert value["accuracy"] == pytest.approx(0.6)
    assert value["closed_recall"] == value["closed_precision"] == pytest.approx(0.75)
    assert value["rest_recall"] == pytest.approx(0.5)
    assert value["rest_precision"] == pytest.approx(1)
    assert value["rounded_recall"] == 0


def test_coarse_accuracy_forgives_a_neighbour() -> None:
    value = measure.Score.of("x", measure.tally(np.array([AX, AA]), np.array([AH, AH]))).value
    assert (value["accuracy"], value["coarse"]) == (0, 0.5)


def test_the_interval_is_that_of_independent_blocks() -> None:
    hits = np.repeat(np.random.default_rng(1).random(400) < 0.7, measure.BLOCK)
    found = measure.Score.of("x", measure.tally(np.where(hits, AA, PBM), np.full(len(hits), AA)))
    half = 1.96 * np.sqrt(0.7 * 0.3 / 400)
    assert found.high["accuracy"] - found.low["accuracy"] == pytest.approx(2 * half, rel=0.15)
    assert found.low["accuracy"] < found.value["accuracy"] < found.high["accuracy"]


def pack_of(classes: np.ndarray, utterance: np.ndarray) -> SpeechPack:
    n = len(classes)
    mel = np.random.default_rng(0).standard_normal((1, n + 16, 80)).astype(np.float16)
    return SpeechPack(
        mel=mel,
        start=np.arange(n),
        classes=classes.astype(np.int8),
        tracks=np.zeros((n, 19), np.float16),
        split=np.ones(n, np.int8),
        splits=["train", "heldout_voice"],
        names=list(CLASSES),
        utterance=utterance,
    )


def test_machine_speech_scores_as_in_training(ear: Ear) -> None:
    rng = np.random.default_rng(0)
    pack = pack_of(rng.integers(len(CLASSES), size=40), np.zeros(40, np.int64))
    expected = score(ear, pack, "heldout_voice", "cpu")
    found = measure.unheard(ear, pack, "heldout_voice", 1000)
    assert found.frames == expected["frames"]
    for name in set(measure.FIGURES) - {"coarse"}:
        assert found.value[name] == pytest.approx(expected[name]), name


def test_a_sample_of_a_split_is_whole_utterances() -> None:
    pack = pack_of(np.zeros(100), np.repeat(np.arange(10), 10))
    frames = measure.sampled(pack, "heldout_voice", 50)
    assert len(frames) == 50
    assert np.array_equal(np.unique(pack.utterance[frames], return_counts=True)[1], np.full(5, 10))
    assert len(measure.sampled(pack, "heldout_voice", 1000)) == 100


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("And the forty-two wood cutters.", "and the forty two wood cutters"),
        ("Woodcutters, 1455!", "wood cutters fourteen fifty five"),
        ("“Don’t” 42 'and'", "don't forty two and"),
    ],
)
def test_transcripts_become_dictionary_words(text: str, words: str) -> None:
    assert measure.words_of(text, WORDS.__contains__) == words.split()


@pytest.mark.parametrize("text", ["xylograph", "the 100", "1900"])
def test_what_nobody_can_spell_is_an_error(text: str) -> None:
    with pytest.raises(measure.TranscriptError):
        measure.words_of(text, WORDS.__contains__)


def test_a_short_pause_stays_what_it_is_and_a_long_one_rests() -> None:
    aa, pause = (Shape("aa"),), (Shape("sil"),)
    phones = [Phone("aa", 0, 0.4, aa), Phone("pau", 0.4, 1.0, pause), Phone("aa", 1.0, 1.4, aa)]
    truth = measure.truth_of(phones, 40)
    assert set(truth[:9]) == {AA}
    assert set(truth[10:24]) == {REST}
    assert set(truth[25:34]) == {AA}
    assert set(truth[35:]) == {REST}


def test_the_vowels_of_one_letter_are_one() -> None:
    assert list(measure.joined(np.array([AX, AH, AA], np.int8))) == [AH, AH, AA]


def test_alignment_finds_the_words_of_a_voice(dev_data: Path) -> None:
    pytest.importorskip("pocketsphinx")
    samples = hear(dev_data / "speech" / "vctk_p234_001.wav")
    phones = measure.Aligner().align(samples, "Please call Stella.")
    spoken = [phone for phone in phones if phone.symbol != "pau"]
    assert " ".join(phone.symbol for phone in spoken) == "p l iy z k ao l s t eh l ah"
    level = np.sqrt(np.mean(samples[: len(samples) // 160 * 160].reshape(-1, 160) ** 2, axis=1))
    heard = slice(round(spoken[0].start * 100), round(spoken[-1].end * 100))
    assert level[heard].mean() > 4 * np.delete(level, np.r_[heard]).mean()


def test_features_changed_by_their_own_spread_changed_by_one() -> None:
    clean = np.random.default_rng(0).standard_normal((1000, 4)).astype(np.float32) + 5
    assert measure.relative_change([clean], [clean]) == 0
    assert measure.relative_change([clean], [clean[::-1]]) == pytest.approx(np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("condition", list(measure.CONDITIONS))
def test_bad_sound_is_worse_and_in_its_place(condition: str) -> None:
    x = babbling(2)
    bad = measure.CONDITIONS[condition](x, np.random.default_rng(0), [babbling(1, 1), babbling(1, 2)])
    assert bad.shape == x.shape
    assert bad.dtype == np.float32
    r = np.corrcoef(np.abs(x).reshape(-1, 800).mean(1), np.abs(bad).reshape(-1, 800).mean(1))[0, 1]
    assert r > 0.5
    assert not np.array_equal(bad, x)


def test_streaming_is_seen_to_be_the_same(ear: Ear) -> None:
    found = measure.streamed(ear, babbling(2))
    assert found.mel_identical
    assert found.feature_difference < 1e-4 * found.feature_largest


def test_folds_test_every_frame_once_a_second_from_training() -> None:
    tested = []
    for train, test in measure.folds(250):
        assert np.abs(train[:, None] - test).min() > measure.GAP
        tested += list(test)
    assert tested == list(range(250))


def linear_world(frames: int, noise: float) -> tuple[FloatArray, measure.DoubleArray]:
    """Inputs [n, 40] and a lip gap that is a linear function of them and of noise."""
    rng = np.random.default_rng(0)
    smooth = np.stack([np.convolve(rng.standard_normal(frames + 4), np.ones(5), "valid") for _ in range(5)], 1)
    inputs = smooth @ rng.standard_normal((5, 40)) + 0.1 * rng.standard_normal((frames, 40))
    gap = smooth[:, 0] / smooth[:, 0].std() + noise * rng.standard_normal(frames)
    return inputs.astype(np.float32), gap


def test_a_linear_lip_gap_is_read_out() -> None:
    inputs, gap = linear_world(250, 0.1)
    gap[100:110] = np.nan
    r = measure.correlations(measure.read_out(inputs, gap), gap)
    assert r[0] > 0.95
    low, high = measure.interval(r[1:])
    assert low < r[0] < high


def test_within_parts_a_level_that_wanders_does_not_count() -> None:
    gap = np.random.default_rng(0).standard_normal(250)
    level = np.repeat([3.0, -5, 8, 0, -6], 50)
    assert measure.correlations(measure.within_parts(gap + level), measure.within_parts(gap))[0] == pytest.approx(1)
    assert measure.correlations(gap + level, gap)[0] < 0.4


def test_noise_is_not_read_out() -> None:
    inputs, _ = linear_world(500, 0)
    gap = np.random.default_rng(9).standard_normal(500)
    assert abs(measure.correlations(measure.read_out(inputs, gap), gap)[0]) < 0.2


def test_more_noise_wants_a_larger_penalty() -> None:
    x, clean = linear_world(60, 0)
    noisy = np.random.default_rng(2).standard_normal(60)
    wide = x.astype(np.float64)
    assert measure.best_penalty(wide, noisy) > measure.best_penalty(wide, clean)


def test_r_is_pearsons() -> None:
    rng = np.random.default_rng(0)
    gap = rng.standard_normal(300)
    said = gap + rng.standard_normal(300)
    known = rng.random(300) < 0.8
    r = measure.correlations(said, np.where(known, gap, np.nan))
    assert r[0] == pytest.approx(np.corrcoef(said[known], gap[known])[0, 1])


def write_wav(path: Path, samples: FloatArray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.round(samples * 32767).clip(-32768, 32767).astype("<i2").tobytes())


def test_the_whole_report_is_made_and_written(tmp_path: Path, ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    sounds = {name: babbling(1.2, k) for k, name in enumerate(("a.wav", "b.wav"))}
    for name, samples in sounds.items():
        write_wav(tmp_path / name, samples)
    truth = np.random.default_rng(0).integers(len(CLASSES), size=30)
    people = [measure.Recording(name, samples, measure.joined(truth)) for name, samples in sounds.items()]
    scores, bad, streaming = measure.people_measures(ear, tmp_path, people)
    monkeypatch.setattr(measure, "lip_gaps", lambda film: np.random.default_rng(0).random(130))
    monkeypatch.setattr(measure, "VideoReader", nullcontext)  # the film is a sound alone
    write_wav(tmp_path / "film.wav", babbling(5))
    films = {"film": measure.film_figures(ear, tmp_path / "film.wav")}
    report = measure.Report(scores, bad, films, streaming)

    assert [s.name for s in scores[:3]] == ["a.wav", "b.wav", "real recordings, all"]
    assert scores[2].frames == 60
    assert films["film"]["frames"]["all"] == 125
    written = json.loads(report.json())
    film = written["films"]["film"]
    assert film["difference"]["r"] == pytest.approx(film["features"]["r"] - film["log-mel"]["r"])
    for line in ("| a.wav | 30 |", "| telephone |", "mel slices identical"):
        assert line in report.table()


def test_the_encoder_is_as_wide_as_the_read_out_expects(ear: Ear) -> None:
    assert measure.features(ear, mel_slices(babbling(0.2))).shape == (5, FEATURE_DIM)
