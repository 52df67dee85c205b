"""Several films at once from networks that are loaded once: nobody waits for the others longer than his share."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from statistics import median
from threading import Barrier, Thread
from typing import Any

import pytest

from avatars import make_avatar
from lipwright.avatar import Avatar, builtin_sound
from lipwright.bench.growth import lasting
from lipwright.render import Networks, networks, render
from lipwright.runtimes import Runtime, open_runtime
from lipwright.runtimes.choice import is_installed
from lipwright.runtimes.openvino import OpenVinoRuntime

pytestmark = pytest.mark.alone

RUNTIME = "openvino" if is_installed("openvino") else "onnxruntime"
LANES = 2
FRAMES = 50
#: Seconds of a call of the slowed generator: so much that all else is little beside it.
CALL = 0.025


class Slow:
    """One request to a network, which takes its time as that of a real generator does, with a lane busy meanwhile."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def infer(self, inputs: Any) -> Any:
        time.sleep(CALL)
        return self._request.infer(inputs)


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return make_avatar(tmp_path_factory.mktemp("share"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lasting(builtin_sound(), FRAMES / 25, tmp_path_factory.mktemp("sound") / "sound.wav")


@pytest.fixture
def shared(avatar: Avatar) -> Networks:
    """Two lanes, slowed down inside of them where the library lets us."""
    opened = Networks.open(avatar, RUNTIME, lanes=LANES)
    generator = opened.generator
    if isinstance(generator, OpenVinoRuntime):
        lanes = generator._first
        assert len(lanes._idle) == LANES
        lanes._idle = [Slow(request) for request in lanes._idle]
    return opened


def at_once(avatar: Avatar, sound: Path, shared: Networks, jobs: int) -> tuple[list[int], float]:
    """Whose frame each one was, in the order in which they were there, and frames a second of all together."""
    frames: list[int] = []
    began = Barrier(jobs + 1)

    def work(job: int) -> None:
        began.wait()
        with closing(render(avatar, sound, networks=shared)) as film:
            for _ in film:
                frames.append(job)

    threads = [Thread(target=work, args=(job,)) for job in range(jobs)]
    for thread in threads:
        thread.start()
    began.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    assert all(frames.count(job) == FRAMES for job in range(jobs))
    return frames, FRAMES * jobs / (time.perf_counter() - begin)


@pytest.mark.parametrize("jobs", [2, 4])
def test_each_job_gets_its_share(jobs: int, avatar: Avatar, sound: Path, shared: Networks) -> None:
    """From when all of them draw to when the first is through; a film is opened sooner or later."""
    frames, _ = at_once(avatar, sound, shared, jobs)
    all_draw = max(frames.index(job) for job in range(jobs))
    first_through = min(len(frames) - 1 - frames[::-1].index(job) for job in range(jobs))
    together = frames[all_draw : first_through + 1]
    shares, fair = [together.count(job) for job in range(jobs)], len(together) / jobs
    assert fair >= FRAMES / 2, f"somebody waited until the first had drawn the rest of its {FRAMES}: {shares}"
    assert all(0.85 * fair <= share <= 1.15 * fair for share in shares), shares


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [2, 4])
def test_together_they_are_as_fast_as_one(jobs: int, avatar: Avatar, sound: Path, shared: Networks) -> None:
    pairs = [at_once(avatar, sound, shared, jobs)[1] / at_once(avatar, sound, shared, 1)[1] for _ in range(3)]
    assert median(pairs) >= 0.9, pairs


def test_the_networks_are_loaded_once(avatar: Avatar, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []

    def noted(model: Path, *arguments: Any, **more: Any) -> Runtime:
        loaded.append(model)
        return open_runtime(model, *arguments, **more)

    monkeypatch.setattr(networks, "open_runtime", noted)
    shared = Networks.open(avatar, "onnxruntime", lanes=LANES)
    at_once(avatar, sound, shared, 4)
    assert loaded == [avatar.generator, avatar.encoder]
