"""tools/presenter/renew_ear: a new encoder for an avatar whose generators stay."""

from __future__ import annotations

import shutil
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from lipwright.avatar import ENCODER, FAST_GENERATOR, GENERATOR, Avatar, builtin_avatar
from lipwright.errors import LipwrightError
from lipwright.models.audio_encoder import AudioEncoder
from tools.presenter import renew_ear
from tools.speech.teacher import load_encoder


@pytest.fixture
def avatar(tmp_path: Path) -> Avatar:
    return Avatar.open(shutil.copytree(builtin_avatar(), tmp_path / "presenter.avatar"))


@pytest.fixture
def heirs_weights(tmp_path: Path) -> Path:
    """The shipped encoder, all but the same."""
    encoder = load_encoder(builtin_avatar() / ENCODER)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(1.001)
    torch.save(encoder.state_dict(), tmp_path / "heir.pth")
    return tmp_path / "heir.pth"


def noise(path: Path, seconds: float) -> Path:
    samples = np.random.default_rng(0).integers(-300, 300, round(seconds * 16_000), np.int16)
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(samples.tobytes())
    return path


def test_generators_stay_and_the_avatar_is_bound_to_a_new_ear(
    avatar: Avatar, heirs_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = avatar.manifest
    sound = noise(tmp_path / "room.wav", 11)
    monkeypatch.setattr(sys, "argv", ["x", *map(str, (avatar.path, heirs_weights, sound)), "--store", "int8"])
    renew_ear.main()
    renewed = Avatar.open(avatar.path)
    new = renewed.manifest
    assert [new.files[name] for name in (GENERATOR, FAST_GENERATOR)] == [
        old.files[name] for name in (GENERATOR, FAST_GENERATOR)
    ]
    assert new.files[ENCODER] != old.files[ENCODER] and new.encoder.sha256 == new.files[ENCODER]
    assert new.encoder.alignment == old.encoder.alignment
    assert new.models.audio_encoder is not None and "its predecessor as its teacher" in new.models.audio_encoder.origin
    features = renewed.features
    assert features is not None and features.shape == (avatar.frame_count, 512)
    heard = torch.from_numpy(renew_ear._features(renewed.path / ENCODER, sound, new.encoder.alignment.to_contract()))
    torch.testing.assert_close(torch.from_numpy(features), heard[: avatar.frame_count], atol=1e-5, rtol=0)


def test_an_encoder_of_another_language_is_refused(avatar: Avatar, tmp_path: Path) -> None:
    torch.manual_seed(1)
    torch.save(AudioEncoder().state_dict(), tmp_path / "stranger.pth")
    with pytest.raises(LipwrightError, match=r"speaks another language .* train it with --teacher"):
        renew_ear.renew(avatar, tmp_path / "stranger.pth", noise(tmp_path / "room.wav", 11), "int8")
    assert Avatar.open(avatar.path).manifest == avatar.manifest


def test_a_sound_shorter_than_the_template_is_refused(avatar: Avatar, heirs_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(LipwrightError, match="shorter than the template: it has to last 250 frames"):
        renew_ear.renew(avatar, heirs_weights, noise(tmp_path / "short.wav", 3), "int8")
