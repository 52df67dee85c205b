"""The film check of the CI finds what is wrong with a film."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest

from lipwright.video import VideoWriter
from tools.check_film import checks

RATE, FRAMES = 16_000, 30
FACES = Path(__file__).parent / "data" / "face"


@dataclass(frozen=True)
class Scene:
    """A film that says "ma ma ma", lips open when it is loud, beside its sound."""

    folder: Path
    samples: npt.NDArray[np.float32]

    def write(self, name: str, lips: npt.NDArray[np.bool_], samples: npt.NDArray[np.float32]) -> Path:
        open_, rest = (cv2.imread(str(FACES / f"{face}.jpg")) for face in ("open", "rest"))
        assert open_ is not None
        assert rest is not None
        path = self.folder / name
        height, width = rest.shape[:2]
        with VideoWriter(path, width, height, RATE, 1) as film:
            for is_open, sound in zip(lips, np.split(samples, len(lips)), strict=True):
                film.write(np.asarray(open_ if is_open else rest, np.uint8), sound)
        return path


@pytest.fixture(scope="module")
def loud() -> npt.NDArray[np.bool_]:
    return np.asarray(np.arange(FRAMES) // 5 % 2 == 1, np.bool_)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, loud: npt.NDArray[np.bool_]) -> Scene:
    noise = np.random.default_rng(0).normal(0, 0.1, FRAMES * 640) * np.repeat(np.where(loud, 1, 0.05), 640)
    return Scene(tmp_path_factory.mktemp("films"), noise.astype(np.float32)[:, None])


@pytest.fixture(scope="module")
def source(scene: Scene) -> Path:
    path = scene.folder / "source.flac"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=RATE)
        levels = (scene.samples.T * 32_767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(levels, "s16", "mono")
        frame.sample_rate = RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def failed(film: Path, source: Path) -> set[str]:
    return {check.name for check in checks(film, source) if not check.good}


def test_a_right_film_passes(scene: Scene, source: Path, loud: npt.NDArray[np.bool_]) -> None:
    assert failed(scene.write("right.mp4", loud, scene.samples), source) == set()


def test_lips_that_rest_are_found(scene: Scene, source: Path, loud: npt.NDArray[np.bool_]) -> None:
    film = scene.write("rest.mp4", np.zeros_like(loud), scene.samples)
    assert "lips move" in failed(film, source)


def test_lips_at_the_wrong_time_are_found(scene: Scene, source: Path, loud: npt.NDArray[np.bool_]) -> None:
    assert failed(scene.write("wrong.mp4", ~loud, scene.samples), source) == {"lips follow the sound"}


def test_sound_that_is_missing_or_late_is_found(scene: Scene, source: Path, loud: npt.NDArray[np.bool_]) -> None:
    silent = scene.write("silent.mp4", loud, np.zeros_like(scene.samples))
    assert {"sound is not silent", "sound is the source's"} <= failed(silent, source)
    late = scene.write("late.mp4", loud, np.roll(scene.samples, 640))
    assert "sound is the source's" in failed(late, source)


def test_a_film_too_short_is_found(scene: Scene, source: Path, loud: npt.NDArray[np.bool_]) -> None:
    film = scene.write("short.mp4", loud[:-2], scene.samples[: -2 * 640])
    assert failed(film, source) == {"frames", "picture lasts", "sound lasts"}
