"""tools/speech/measure.py: every measure on sound and faces whose answer is known."""

from __future__ import annotations

import json
import sys
import wave
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

import lipwright
from lipwright.audio.decode import hear
from lipwright.audio.mel import mel_slices
from lipwright.avatar import builtin_sound
from lipwright.contract import FEATURE_DIM, FloatArray, frame_count
from lipwright.runtimes import open_runtime
from tools.speech import lip_gap, measure
from tools.speech.articulation import TRACKS, Measures
from tools.speech.bootstrap import BLOCK
from tools.speech.phones import CLASSES, Phone, Shape
from tools.speech.train_encoder import Ear, SpeechPack, score

SHIPPED = Path(lipwright.__file__).parent / "data" / "presenter.avatar" / "audio_encoder.onnx"
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
    assert again.heads is not None
    mel = np.random.default_rng(0).standard_normal((3, 1, 80, 16)).astype(np.float32)
    with torch.no_grad():
        expected = ear.heads.classes(ear.encoder(torch.from_numpy(mel))).argmax(1).numpy()
    assert np.array_equal(measure.guessed(again.heads, measure.features(again, mel)), expected)


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


def test_a_group_whose_members_share_its_votes_wins_when_they_are_summed() -> None:
    logits = np.full((3, len(CLASSES)), -10, np.float32)
    logits[0, [AH, AX, AA]] = 1.0, 1.0, 1.2  # half open 2 e, open e^1.2
    logits[1, [AH, AX, AA]] = 1.0, 1.0, 2.0  # open alone is more
    logits[2, REST] = 1000.0  # no overflow
    truth = np.array([AX, AA, REST])
    names = list(measure.COARSE)
    assert [names[group] for group in measure.coarse_summed(logits)] == ["half open", "open", "rest"]
    score = measure.Score.heard("x", [logits], [truth])
    assert score.value["coarse"] == pytest.approx(2 / 3)
    assert score.summed is not None
    assert score.summed["value"] == 1
    assert "| 1.00 (1.00-1.00) |" in measure.frame_table([score])


def test_the_interval_is_that_of_independent_blocks() -> None:
    hits = np.repeat(np.random.default_rng(1).random(400) < 0.7, BLOCK)
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
        state=np.zeros(mel.shape[1], np.int16),
        voice=np.zeros(int(utterance.max()) + 1, np.int16),
        shift=np.zeros((1, 1, 80), np.float16),
        scatter=np.zeros((1, 13, 80), np.float16),
    )


def test_machine_speech_scores_as_in_training(ear: Ear) -> None:
    rng = np.random.default_rng(0)
    pack = pack_of(rng.integers(len(CLASSES), size=40), np.zeros(40, np.int64))
    expected = score(ear, pack, "heldout_voice", "cpu")
    found = measure.unheard(ear, ear.heads, pack, "heldout_voice", 1000)
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


def test_a_recogniser_that_is_told_no_words_hears_much_of_what_the_aligner_was_told(dev_data: Path) -> None:
    pytest.importorskip("pocketsphinx")
    samples = hear(dev_data / "speech" / "vctk_p234_005.wav")
    words = next(t for t in (dev_data / "speech" / "transcripts.tsv").read_text().splitlines() if "p234_005" in t)
    truth = measure.joined(
        measure.truth_of(measure.Aligner().align(samples, words.split("\t")[2]), frame_count(len(samples)))
    )
    heard = measure.Recogniser().hear(samples)
    assert heard.shape == truth.shape
    assert 0.5 < (heard == truth).mean() < 0.9  # 0.61: it is a recogniser, and does not know the words


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


def test_without_heads_only_what_needs_them_is_left_out(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        write_wav(tmp_path / name, babbling(1))
    shipped = measure.load_ear(SHIPPED, None)
    people = [measure.Recording("a.wav", babbling(1), None)]
    scores, bad, streaming = measure.people_measures(shipped, tmp_path, people)
    films = {"film": lip_gap.figures(two_inputs(125), lip_gap.Lips(babbling(125 / 16000).astype(np.float64), ()))}
    table = measure.Report(scores, bad, films, streaming).table()
    assert not scores
    assert measure.WITHOUT_HEADS in table
    assert "own head" not in table
    assert len(bad) == len(measure.CONDITIONS)
    assert streaming.mel_identical and streaming.feature_difference == 0


def two_inputs(frames: int) -> dict[str, FloatArray]:
    rng = np.random.default_rng(3)
    return {name: rng.standard_normal((frames, 40)).astype(np.float32) for name in ("features", "log-mel")}


def test_the_shipped_encoder_is_heard_as_a_renderer_hears_it() -> None:
    mel = mel_slices(babbling(0.4))
    shipped = measure.load_ear(SHIPPED, None)
    runtime = open_runtime(SHIPPED, "encoder", precision="f32", threads=1)
    expected = np.concatenate([runtime.run(one[np.newaxis]) for one in mel])
    assert np.array_equal(measure.features(shipped, mel), expected)


def test_heads_may_listen_to_a_shipped_encoder(tmp_path: Path, ear: Ear) -> None:
    torch.save(ear.heads.state_dict(), tmp_path / "h.pth")
    shipped = measure.load_ear(SHIPPED, tmp_path / "h.pth")
    assert isinstance(shipped, measure.ShippedEar)
    assert shipped.heads is not None
    feature = measure.features(shipped, mel_slices(babbling(0.4)))
    np.testing.assert_array_equal(
        measure.class_logits(shipped.heads, feature), measure.class_logits(ear.heads, feature)
    )


@pytest.mark.parametrize("condition", list(measure.TOLERANCES))
def test_the_shipped_encoder_hears_through_a_disguise_within_the_stated_tolerance(condition: str) -> None:
    demo = hear(builtin_sound())[: 4 * 16000]
    shipped = measure.load_ear(SHIPPED, None)
    clean = measure.features(shipped, mel_slices(demo))
    [changed] = measure.disturbed(shipped, {"demo": demo}, condition, {})
    change = measure.relative_change([clean], [changed])
    assert 0.02 < change <= measure.TOLERANCES[condition]


@pytest.mark.slow
def test_of_real_people_too_the_shipped_encoder_hears_within_the_stated_tolerances(dev_data: Path) -> None:
    sounds = {r.name: r.samples for r in measure.recordings(dev_data / "speech", None)}
    shipped = measure.load_ear(SHIPPED, None)
    clean = [measure.features(shipped, mel_slices(sound)) for sound in sounds.values()]
    for condition, most in measure.TOLERANCES.items():
        change = measure.relative_change(clean, measure.disturbed(shipped, sounds, condition, {}))
        assert 0.1 < change <= most, condition


def test_the_command_measures_a_shipped_encoder_on_aligned_recordings(
    dev_data: Path, ear: Ear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pocketsphinx")
    name = "vctk_p234_001.wav"
    (tmp_path / "speech").mkdir()
    (tmp_path / "speech" / name).symlink_to(dev_data / "speech" / name)
    (tmp_path / "speech" / "another.wav").symlink_to(dev_data / "speech" / "vctk_p234_005.wav")
    told = (dev_data / "speech" / "transcripts.tsv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "speech" / "transcripts.tsv").write_text(next(line for line in told if line.startswith(name)) + "\n")
    torch.save(ear.heads.state_dict(), tmp_path / "h.pth")
    monkeypatch.setattr(measure, "FILMS", ("film.wav",))
    monkeypatch.setattr(measure, "VideoReader", nullcontext)  # the film is a sound alone
    monkeypatch.setattr(lip_gap, "watched", lambda film: lip_gap.Lips(np.random.default_rng(0).random(130), (60,)))
    (tmp_path / "video").mkdir()
    write_wav(tmp_path / "video" / "film.wav", babbling(5))
    asked = [str(SHIPPED), str(tmp_path / "h.pth"), "--data", str(tmp_path), "--json", str(tmp_path / "told.json")]
    threads = str(torch.get_num_threads())  # which this must not change for the tests behind it
    monkeypatch.setattr(sys, "argv", ["measure", *asked, "--threads", threads])
    measure.main()
    table, figures = capsys.readouterr().out, json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))
    rows = [score["name"] for score in figures["frames"]]
    assert rows[:2] == [name, "real recordings, all"] and rows[2].startswith("the same, were the answer always")
    assert rows[3] == "the aligner's model, not told the words"
    assert all(f"| {row} |" in table for row in rows) and figures["streaming"]["mel_identical"]
    assert [bad["name"] for bad in figures["robustness"]] == list(measure.CONDITIONS)


def test_the_page_states_the_tolerances_of_the_code() -> None:
    page = (Path(__file__).parents[1] / "docs" / "voice.md").read_text(encoding="utf-8")
    for condition, most in measure.TOLERANCES.items():
        assert f"| {condition} | <= {most:.2f} |" in page


def test_beyond_a_tolerance_is_said() -> None:
    assert measure.Robustness("telephone", 0.61).verdict == "beyond 0.60"
    assert measure.Robustness("telephone", 0.60).verdict == "within 0.60"
    assert measure.Robustness("babble at 10 dB", 9.0).verdict == ""


def test_streaming_is_seen_to_be_the_same(ear: Ear) -> None:
    found = measure.streamed(ear, babbling(2))
    assert found.mel_identical
    assert found.feature_difference < 1e-4 * found.feature_largest


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
    lips = lip_gap.Lips(np.random.default_rng(0).random(130), (60,))
    monkeypatch.setattr(lip_gap, "watched", lambda film: lips)
    monkeypatch.setattr(measure, "VideoReader", nullcontext)  # the film is a sound alone
    write_wav(tmp_path / "film.wav", babbling(5))
    films = {"film": measure.film_figures(ear, tmp_path / "film.wav")}
    report = measure.Report(scores, bad, films, streaming)

    assert [s.name for s in scores[:3]] == ["a.wav", "b.wav", "real recordings, all"]
    assert scores[2].frames == 60
    written = json.loads(report.json())
    film = written["films"]["film"]
    assert film["difference"]["r"] == pytest.approx(film["features"]["r"] - film["log-mel"]["r"])
    assert film["own head, not fitted"]["low"] <= film["own head, not fitted"]["high"]
    assert [s.summed is None for s in scores] == [False, False, False, True]
    for line in ("| a.wav | 30 |", "| telephone |", "| difference, drift removed |", "mel slices identical"):
        assert line in report.table()


def test_the_encoder_is_as_wide_as_the_read_out_expects(ear: Ear) -> None:
    assert measure.features(ear, mel_slices(babbling(0.2))).shape == (5, FEATURE_DIM)
