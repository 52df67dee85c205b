"""tools/speech: training the encoder and packing what it hears, on a made-up pack of a few seconds."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lipwright
from lipwright.contract import FEATURE_DIM, MEL_WINDOW, N_MELS
from lipwright.errors import LipwrightError
from lipwright.models.audio_encoder import AudioEncoder
from lipwright.runtimes import open_runtime
from lipwright.training.speech import Speech
from tools.speech import pack_speech, train_encoder
from tools.speech.teacher import heir, load_encoder, unlikeness
from tools.speech.train_encoder import (
    VOCAL_TRACTS,
    Course,
    Ear,
    SpeechPack,
    as_people,
    roughen,
    tract_matrices,
    warp_bands,
)

SHIPPED = Path(lipwright.__file__).parent / "data" / "presenter.avatar" / "audio_encoder.onnx"
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
        state=np.repeat([0, 1, 2], 50 * MEL_WINDOW).astype(np.int16),
        voice=np.array([0, 1, 0], np.int16),
        shift=np.array([[0, 1, 0], [0.5, -0.5, 0]], np.float16)[:, :, None].repeat(N_MELS, 2),
        scatter=np.full((3, 13, N_MELS), 0.05, np.float16),
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


# --- people -----------------------------------------------------------------------------------------------------------
def moved(pack: SpeechPack, frames: list[int], seed: int = 0) -> torch.Tensor:
    """What is added to [frames, 1, 80, 16] slices in the middle of mel's range."""
    zeros = torch.zeros(len(frames), 1, N_MELS, MEL_WINDOW)
    return as_people(pack, np.array(frames), zeros, torch.Generator().manual_seed(seed))


def test_slices_move_towards_where_people_have_them_and_scatter(pack_file: Path) -> None:
    still = dataclasses.replace(SpeechPack.load(pack_file), scatter=np.zeros((3, 13, N_MELS), np.float16))
    # Frame 20 is of voice 0 and state 0, 70 of voice 1 and state 1, 120 of the state that nobody knows.
    nothing, less, unknown = (moved(still, [frame] * 400)[:, 0, 40, 8] for frame in (20, 70, 120))
    assert not nothing.any() and not unknown.any()
    assert less.max() <= 0 and -0.5 <= less.min() < -0.45
    assert (less == 0).float().mean() == pytest.approx(1 - train_encoder.PEOPLE_SHARE, abs=0.06)
    pack = SpeechPack.load(pack_file)
    scattered = moved(pack, [120] * 400)
    assert scattered[:, 0, 40, 8].mean().abs() < 0.02
    # 13 numbers of 0.05, times 0 to 1: variance 13 * 0.05^2 / 3 of four slices in five.
    assert scattered[:, 0, 40, 8].std() == pytest.approx(float(np.sqrt(0.8 * 13 * 0.05**2 / 3)), rel=0.15)
    assert torch.equal(moved(pack, [20, 70], 4), moved(pack, [20, 70], 4))
    assert not torch.equal(moved(pack, [20, 70], 4), moved(pack, [20, 70], 5))


def test_where_one_phone_becomes_the_next_the_move_is_smooth(pack_file: Path) -> None:
    pack = SpeechPack.load(pack_file)
    step = dataclasses.replace(
        pack, state=(np.arange(len(pack.state)) % MEL_WINDOW >= 8).astype(np.int16), scatter=pack.scatter * 0
    )
    curve = moved(step, [20] * 50)[:, 0, 40].abs().amax(0)
    assert curve[5] == 0 and curve[10] > 0.9
    assert torch.diff(curve).max() < 0.3


def test_a_pack_of_an_older_version_is_refused(pack_file: Path, tmp_path: Path) -> None:
    with np.load(pack_file) as data:
        np.savez(tmp_path / "old.npz", **{name: data[name] for name in data if name not in ("scatter", "shift")})
    with pytest.raises(LipwrightError, match="packed by an older version: pack the corpus again"):
        SpeechPack.load(tmp_path / "old.npz")


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


# --- a teacher --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def teacher() -> AudioEncoder:
    return load_encoder(SHIPPED)


def test_a_teacher_is_what_an_avatar_ships(teacher: AudioEncoder, tmp_path: Path) -> None:
    mel = np.random.default_rng(0).uniform(-4, 4, (4, 1, N_MELS, MEL_WINDOW)).astype(np.float32)
    said = teacher(torch.from_numpy(mel))
    shipped = open_runtime(SHIPPED, "encoder", precision="f32").run(mel)
    torch.testing.assert_close(said, torch.from_numpy(shipped), atol=1e-4, rtol=1e-4)
    torch.save(teacher.state_dict(), tmp_path / "encoder.pth")
    assert torch.equal(load_encoder(tmp_path / "encoder.pth")(torch.from_numpy(mel)), said)


def test_an_heir_says_what_its_teacher_says_and_learns_with_norms_that_fit(teacher: AudioEncoder) -> None:
    mel = roughen(torch.rand(64, 1, N_MELS, MEL_WINDOW) * 8 - 4, torch.Generator().manual_seed(0))
    said, new = teacher(mel), heir(teacher, mel)
    assert unlikeness(new(mel), said) < 1e-6 and not new.training
    assert all(parameter.requires_grad for parameter in new.parameters())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert unlikeness(new.train()(mel), said) < 1e-3  # by the norms of the batch itself
    torch.nn.init.zeros_(next(new.parameters()))
    assert unlikeness(teacher(mel), said) == 0


def test_unrelated_features_are_twice_their_variance_apart() -> None:
    one, other = torch.randn(2, 2000, 8, generator=torch.Generator().manual_seed(0))
    assert unlikeness(one, one) == 0
    assert float(unlikeness(one, other)) == pytest.approx(2, abs=0.1)


def test_who_has_a_teacher_learns_and_stays_understood(teacher: AudioEncoder, pack_file: Path, tmp_path: Path) -> None:
    pack = SpeechPack.load(pack_file)
    clean = pack.slices(np.arange(100), np.zeros(100, np.int64))
    likeness = []
    for name, master in (("heir", teacher), ("stranger", None)):
        checkpoint = tmp_path / f"{name}.pth"
        Course(pack, 30, "cpu", master).save(checkpoint)
        ear, _ = train_encoder.train(pack, "cpu", checkpoint, master)
        assert loss_of(ear, pack) < 0.8 * loss_of(Course(pack, 30, "cpu", master).average, pack)
        with torch.no_grad():
            likeness.append(float(unlikeness(ear.encoder(clean), teacher(clean))))
    assert likeness[0] < 0.5 and likeness[0] < likeness[1] / 3


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize(("at", "taught"), [(0, False), (1, False), (3, False), (2, True)])
def test_a_training_that_was_stopped_ends_with_the_same_bits(
    at: int, taught: bool, teacher: AudioEncoder, pack_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack, master = SpeechPack.load(pack_file), teacher if taught else None
    kept = begun(pack, 5, tmp_path / "checkpoint.pth")
    monkeypatch.setattr(train_encoder, "CHECKPOINT_SECONDS", 0)
    learn = Course.learn

    def until(course: Course) -> float:
        if course.step == at:
            raise Killed
        return learn(course)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Course, "learn", until)
        train_encoder.train(pack, "cpu", kept, master)
    ear, steps = train_encoder.train(pack, "cpu", kept, master)
    undisturbed, _ = train_encoder.train(pack, "cpu", begun(pack, 5, tmp_path / "other.pth"), master)
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


def test_the_training_needs_no_more_than_numpy_opencv_and_torch() -> None:
    """It runs on a bare machine with a graphics card."""
    code = "import sys, tools.speech.train_encoder; print(*{n.split('.')[0] for n in sys.modules})"
    root = Path(__file__).parents[1]
    environment = {"PYTHONPATH": f"{root / 'src'}:{root}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, check=True, capture_output=True, text=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {
        "scipy",
        "av",
        "onnx",
        "onnxruntime",
        "openvino",
        "pydantic",
        "rich",
        "typer",
    }


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
