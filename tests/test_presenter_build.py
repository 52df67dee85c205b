"""tools/presenter pack and build: a film with its truth becomes a pack, and an avatar that shares another's encoder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lipwright.avatar import ENCODER, Avatar, builtin_avatar
from lipwright.contract import FEATURE_DIM, ROI_SIZE, SAMPLE_RATE, FloatArray
from lipwright.models.generator import Generator
from lipwright.training.loop import save_weights
from lipwright.training.pack import Pack
from media import write_film
from tools.presenter import build, pack

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
