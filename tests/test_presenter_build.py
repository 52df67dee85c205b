"""tools/presenter pack and build: a film with its truth becomes a pack, and an avatar that shares another's encoder."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from lipwright.avatar import ENCODER, Avatar, builtin_avatar
from lipwright.contract import FEATURE_DIM, ROI_SIZE, SAMPLE_RATE, FloatArray
from lipwright.models.generator import Generator
from lipwright.training.data import Sampler, full_windows
from lipwright.training.folded import amplify
from lipwright.training.held_out import HeldOut
from lipwright.training.loop import Phase, Student, Trainer, save_weights
from lipwright.training.pack import Pack
from lipwright.training.speech import SpeechSampler, own_speech
from media import write_film
from people import person
from tools.presenter import build, pack, train

FRAMES = 40
WIDTH, HEIGHT = 320, 240


def landmarks() -> FloatArray:
    """[FRAMES, 68, 2]: a face that drifts to the right; temples 100 px apart, the bridge of the nose above them."""
    points = np.random.default_rng(0).uniform(-40, 40, (68, 2))
    points[[0, 16, 28]] = [[-50, 0], [50, 0], [0, -30]]
    drift = np.linspace(0, 5, FRAMES)[:, None, None] * [1, 0]
    return np.asarray(points + np.array([160, 110]) + drift, np.float32)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("film"), np.random.default_rng(1)
    pictures = [np.full((HEIGHT, WIDTH, 3), rng.integers(60, 200, 3), np.uint8) for _ in range(FRAMES)]
    sound = rng.uniform(-0.1, 0.1, (FRAMES * SAMPLE_RATE // 25, 1)).astype(np.float32)
    write_film(folder / "anna.mp4", pictures, samples=sound)
    np.savez(folder / "anna_truth.npz", landmarks68=landmarks(), lip_gap=np.zeros(FRAMES, np.float32))
    spoken = {"phones": [["pau", 0.0, 0.8], ["aa", 0.8, 1.6]]}
    (folder / "anna_truth.json").write_text(json.dumps(spoken), encoding="utf-8")
    return folder / "anna.mp4"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["x", *map(str, arguments)])


def test_a_film_is_packed_as_the_shipped_encoder_hears_it(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(monkeypatch, film, builtin_avatar(), tmp_path / "anna.npz", "--versions", 2)
    pack.main()
    packed = Pack.load(tmp_path / "anna.npz")
    assert packed.rois[:].shape == (FRAMES, ROI_SIZE, ROI_SIZE, 3) and packed.features.shape == (2, FRAMES, FEATURE_DIM)
    assert packed.held_out == (FRAMES - FRAMES // 5, FRAMES)
    assert packed.mouth[:10].tolist() != packed.mouth[-10:].tolist()
    assert not np.array_equal(packed.features[0], packed.features[1])


@pytest.fixture(scope="module")
def calm() -> Pack:
    """Somebody whose mouth stays as it is for the first 40 frames."""
    whole = person()
    mouth = whole.mouth.copy()
    mouth[:40] = mouth[0]
    return replace(whole, mouth=mouth)


def test_rest_is_what_is_heard_while_the_mouth_stays_as_it_begins(calm: Pack) -> None:
    torch.manual_seed(0)
    generator = Generator("mobile").eval()
    resting = np.arange(8, 40 - 7)  # a window is 8 frames of the past, the frame itself, and 7 of the future
    with torch.inference_mode():
        said = generator.audio_model(torch.from_numpy(full_windows(calm.features[0], resting)))
    torch.testing.assert_close(train.what_rest_sounds_like(generator, calm), said.mean(dim=(0, 2, 3)))


def test_a_presenter_is_trained_once_and_his_lips_move_as_far_as_was_asked(
    calm: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm.save(tmp_path / "anna.npz")
    count = len(calm.mouth)
    np.savez(
        tmp_path / "heard.npz",
        features=calm.features,
        mouth=calm.mouth,
        first=np.zeros(count, int),
        last=np.full(count, count - 1),
    )
    common = (tmp_path / "anna.npz", tmp_path / "heard.npz", tmp_path / "run", "--width", "mobile", "--device", "cpu")
    moved = mock.Mock(side_effect=amplify)
    monkeypatch.setattr(train, "amplify", moved)
    call(monkeypatch, *common, "--gain", "1.5", "--steps", "listen=2", "speak160=1", "--checks", "1")
    train.main()
    weights = torch.load(tmp_path / "run" / "generator.pth", weights_only=True)
    Generator("mobile").load_state_dict(weights)
    record = json.loads((tmp_path / "run" / "training.json").read_text(encoding="utf-8"))
    assert [phase["name"] for phase in record["phases"]] == ["listen", "speak160"]
    assert list(record["likeness_db"]) == ["speak160"] and record["likeness_db"]["speak160"][0][0] == 1
    assert (record["gain"], moved.call_args.args[2]) == (1.5, 1.5)
    train.main()
    again = torch.load(tmp_path / "run" / "generator.pth", weights_only=True)
    assert all(torch.equal(weights[name], again[name]) for name in weights), "all of it was done already"
    call(monkeypatch, *common, "--steps", "listen=3")
    with pytest.raises(SystemExit) as left:
        train.main()
    assert "choose another folder" in str(left.value)


def test_a_presenter_who_stops_getting_better_is_taught_no_further(
    calm: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    likeness = iter([20.0, 21.0, 22.0, 22.0, 21.9, 21.8, 21.9])
    monkeypatch.setattr(train, "draw", mock.Mock())
    monkeypatch.setattr(HeldOut, "score", lambda *_: mock.Mock(psnr=next(likeness)))
    student, sampler = Student(calm, "mobile"), Sampler(calm, calm.training_frames(), 1)
    trainer = Trainer(student, tmp_path, bf16=False)
    phase = Phase("speak160", size=160, batch=2, steps=20, rate=1e-4)
    train.run(
        trainer,
        [phase],
        sampler,
        SpeechSampler(own_speech(calm), 2),
        has_ear=True,
        watch=train.watching(calm, "cpu", 20),
    )
    record = trainer.records["speak160"]
    assert record.ended == "score"
    assert record.scores == [[1, 21.0], [2, 22.0], [3, 22.0], [4, 21.9], [5, 21.8], [6, 21.9]]


def test_a_second_presenter_shares_the_first_ones_encoder(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    save_weights(Generator("mobile"), tmp_path / "generator.pth")
    call(monkeypatch, film, tmp_path / "generator.pth", builtin_avatar(), tmp_path / "anna.avatar", "--first", 10)
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--frames", "20", "--store", "int8"])
    build.main()
    anna, first = Avatar.open(tmp_path / "anna.avatar"), Avatar.open(builtin_avatar())
    assert (anna.path / ENCODER).read_bytes() == (first.path / ENCODER).read_bytes()
    assert anna.manifest.encoder.sha256 == first.manifest.encoder.sha256
    assert anna.manifest.models.audio_encoder == first.manifest.models.audio_encoder
    assert anna.manifest.name == "anna" and anna.frame_count == 20 and anna.landmarks is not None
    assert np.array_equal(anna.landmarks, landmarks()[10:30])
    assert anna.at("fast").generator == anna.generator
    assert anna.manifest.models.generator_weights is None and not list(anna.path.rglob("*.pth"))
