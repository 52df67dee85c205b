"""tools/speech: training the encoder and packing what it hears, on a made-up pack of a few seconds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lipwright.contract import FEATURE_DIM, MEL_WINDOW, N_MELS
from lipwright.training.speech import Speech
from tools.speech import pack_speech, train_encoder
from tools.speech.train_encoder import VOCAL_TRACTS, Course, Ear, SpeechPack, roughen, tract_matrices, warp_bands

NAMES = ["sil", "pbm", "aa"]
MIDDLE = len(VOCAL_TRACTS) // 2


def made_up(path: Path) -> Path:
    """Two utterances to learn from and one to be asked; each class is a band of its own, and its track its number."""
    rng = np.random.default_rng(0)
    frames, versions = 150, 2
    classes = np.repeat(rng.integers(3, size=frames // 5), 5)
    start = np.arange(frames) * MEL_WINDOW
    mel = rng.normal(-3, 0.3, (versions, frames * MEL_WINDOW, N_MELS))
    for frame, kind in enumerate(classes):
        mel[:, start[frame] : start[frame] + MEL_WINDOW, 25 * kind : 25 * kind + 25] += 4
    np.savez(
        path,
        mel=mel.astype(np.float16),
        start=start,
        classes=classes.astype(np.int8),
        tracks=np.repeat(classes[:, None], 19, 1).astype(np.float16),
        split=np.repeat([0, 0, 1], 50).astype(np.int8),
        splits=np.array(["train", "heldout_voice"]),
        names=np.array(NAMES),
        utterance=np.repeat([0, 1, 2], 50),
    )
    return path


@pytest.fixture(scope="module")
def pack_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up(tmp_path_factory.mktemp("pack") / "speech.npz")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_encoder, "BATCH", 16)
    monkeypatch.setattr(train_encoder, "WARM_UP", 5)


# --- other voices -----------------------------------------------------------------------------------------------------
def test_the_middle_tract_changes_nothing_and_the_others_move_bands() -> None:
    assert VOCAL_TRACTS[MIDDLE] == 1
    torch.testing.assert_close(tract_matrices()[MIDDLE], torch.eye(N_MELS), atol=1e-4, rtol=0)
    low, high = (warp_bands(torch.tensor([factor]))[0] for factor in (0.8, 1.25))
    peak = torch.zeros(N_MELS)
    peak[40] = 1
    assert int((low @ peak).argmax()) < 36 and int((high @ peak).argmax()) > 44
    # Every row is a mean of bands: a flat spectrum stays flat.
    torch.testing.assert_close(tract_matrices().sum(2), torch.ones(len(VOCAL_TRACTS), N_MELS))


def test_roughened_slices_stay_in_range_and_are_reproducible() -> None:
    mel = torch.rand(64, 1, N_MELS, MEL_WINDOW) * 8 - 4
    before = mel.clone()
    one, two, other = (roughen(mel, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert one.shape == mel.shape and one.min() >= -4 and one.max() <= 4
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(mel, before)
    changed = (one - mel).abs().mean(dim=(1, 2, 3))
    assert changed.min() > 0.05


# --- training ---------------------------------------------------------------------------------------------------------
def loss_of(ear: Ear, pack: SpeechPack) -> float:
    frames = train_encoder.training_frames(pack)
    objective = train_encoder.Objective(pack, frames)
    mel = pack.slices(frames, np.zeros(len(frames), np.int64))
    tracks = torch.from_numpy(pack.tracks[frames].astype(np.float32))
    with torch.no_grad():
        return float(objective(ear.eval()(mel), torch.from_numpy(pack.classes[frames].astype(np.int64)), tracks))


def begun(pack: SpeechPack, steps: int, checkpoint: Path) -> Path:
    Course(pack, steps, "cpu").save(checkpoint)
    return checkpoint


def test_twenty_steps_lower_the_loss(pack_file: Path, tmp_path: Path) -> None:
    pack = SpeechPack.load(pack_file)
    torch.manual_seed(0)
    before = loss_of(Ear(len(NAMES), 19), pack)
    ear, steps = train_encoder.train(pack, "cpu", begun(pack, 20, tmp_path / "checkpoint.pth"))
    assert steps == 20
    assert loss_of(ear, pack) < 0.8 * before


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_training_that_was_stopped_ends_with_the_same_bits(
    at: int, pack_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = SpeechPack.load(pack_file)
    kept = begun(pack, 5, tmp_path / "checkpoint.pth")
    monkeypatch.setattr(train_encoder, "CHECKPOINT_SECONDS", 0)
    learn = Course.learn

    def until(course: Course) -> float:
        if course.step == at:
            raise Killed
        return learn(course)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Course, "learn", until)
        train_encoder.train(pack, "cpu", kept)
    ear, steps = train_encoder.train(pack, "cpu", kept)
    undisturbed, _ = train_encoder.train(pack, "cpu", begun(pack, 5, tmp_path / "other.pth"))
    assert steps == 5
    states = ear.state_dict(), undisturbed.state_dict()
    assert [name for name, weights in states[0].items() if not torch.equal(weights, states[1][name])] == []


def test_minutes_are_turned_into_steps(pack_file: Path) -> None:
    pack = SpeechPack.load(pack_file)
    assert train_encoder.steps_in(1e-9, pack, "cpu") == 1
    assert train_encoder.steps_in(10, pack, "cpu") > 60


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["train_encoder", *map(str, arguments), "--device", "cpu"])
    train_encoder.main()


def test_the_command_writes_its_files(pack_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_command(monkeypatch, pack_file, tmp_path, "--steps", "2")
    files = ["asked.json", "audio_encoder.pth", "heads.pth", "report.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == files
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["steps"] == 2
    assert report["heldout_voice"]["frames"] == 50
    ear = Ear(len(NAMES), 19)
    ear.encoder.load_state_dict(torch.load(tmp_path / "audio_encoder.pth", weights_only=True))
    ear.heads.load_state_dict(torch.load(tmp_path / "heads.pth", weights_only=True))


def test_what_is_finished_is_not_trained_again_and_nothing_else_gets_its_folder(
    pack_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_command(monkeypatch, pack_file, tmp_path, "--minutes", "1e-9")
    made = (tmp_path / "audio_encoder.pth").stat().st_mtime_ns
    run_command(monkeypatch, pack_file, tmp_path, "--minutes", "1e-9")
    assert (tmp_path / "audio_encoder.pth").stat().st_mtime_ns == made
    with pytest.raises(SystemExit, match="was begun with other files or arguments"):
        run_command(monkeypatch, pack_file, tmp_path, "--steps", "2")
    with pytest.raises(SystemExit, match=r"none\.npz cannot be read"):
        run_command(monkeypatch, tmp_path / "none.npz", tmp_path, "--steps", "2")


def test_steps_and_minutes_are_not_given_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train_encoder", "a", "b", "--steps", "2", "--minutes", "1"])
    with pytest.raises(SystemExit):
        train_encoder.main()


# --- what the generators listen to ------------------------------------------------------------------------------------
def test_packed_features_are_the_encoders_and_keep_to_their_utterance(pack_file: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    ear = Ear(len(NAMES), 19).eval()
    torch.save(ear.encoder.state_dict(), tmp_path / "encoder.pth")
    pack_speech.pack_features(pack_file, tmp_path / "encoder.pth", tmp_path / "heard.npz", minutes=1)
    speech, pack = Speech.load(tmp_path / "heard.npz"), SpeechPack.load(pack_file)
    assert speech.features.shape == (2 * len(pack.mel), 100, FEATURE_DIM)
    assert speech.first.tolist() == [0] * 50 + [50] * 50
    assert speech.last.tolist() == [49] * 50 + [99] * 50
    np.testing.assert_array_equal(speech.mouth, pack.tracks[:100, :14].astype(np.float32))
    for version in range(2):
        mel = pack.slices(np.arange(100), np.full(100, version))
        with torch.inference_mode():
            expected = ear.encoder(mel).numpy()
        own = speech.features[2 * version].astype(np.float32)
        assert np.abs(own - expected).max() < 0.03 * np.abs(expected).max()  # computed in bf16, kept in f16
        assert not np.array_equal(speech.features[2 * version], speech.features[2 * version + 1])
