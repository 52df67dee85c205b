"""The measured process: one task in, what came of it out, as lines of JSON on stdout.

``python -m lipwright.bench.worker BORN TASK``: BORN is the time (seconds since 1970) at which the process was started,
so that loading Python and the libraries counts. No library that runs networks is imported before the task asks for it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from itertools import islice, pairwise
from pathlib import Path
from statistics import fmean
from threading import Thread
from typing import TYPE_CHECKING, Any

from lipwright.bench.measures import Measured, Pace, Task
from lipwright.errors import LipwrightError

if TYPE_CHECKING:
    from lipwright.avatar import Avatar
    from lipwright.render import Networks

#: Progress is told at most so often, in seconds.
_TELL = 0.5


def main() -> None:
    """Do the task of the command line."""
    born, task = float(sys.argv[1]), Task.of(json.loads(sys.argv[2]))
    try:
        with _card() as card:
            measured = WORK[task.kind](task, born, _teller(task.frames * task.jobs))
        _say({"measured": asdict(replace(measured, card_mb=card()))})
    except LipwrightError as error:
        _say({"failed": str(error)})


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _teller(total: int) -> Callable[[int], None]:
    """Tells how many of ``total`` frames are done, not too often."""
    last = 0.0

    def tell(done: int) -> None:
        nonlocal last
        if time.monotonic() - last > _TELL:
            last = time.monotonic()
            _say({"done": done, "total": total})

    return tell


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process, in units of 10^6 bytes.

    Not ``ru_maxrss`` where Linux says better: that counts the memory of the parent until this program was loaded.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


@contextmanager
def _card() -> Iterator[Callable[[], float | None]]:
    """How much more of the first card's memory is used now than at the beginning."""
    from lipwright.trial import ask_nvidia

    before = ask_nvidia("memory.used")

    def used() -> float | None:
        now = ask_nvidia("memory.used")
        return (float(now[0][0]) - float(before[0][0])) * 2**20 / 1e6 if before and now else None

    yield used


# --- tasks ----------------------------------------------------------------------------------------------------------


def inference(task: Task, born: float, tell: Callable[[int], None]) -> Measured:
    """The generator alone on real questions; times are those of a frame, also where a call draws several."""
    import numpy as np

    from lipwright.avatar import Avatar
    from lipwright.runtimes import open_runtime, redraw
    from lipwright.trial import generator_of, questions

    avatar = Avatar.open(task.avatar).at(task.quality)
    runtime = open_runtime(generator_of(avatar), "generator", task.runtime, task.precision)
    loaded = time.time() - born
    asked = [(q.roi[np.newaxis], q.window[np.newaxis]) for q in questions(avatar, Path(task.sound), _DIFFERENT)]
    if task.batch > 1:
        rows = np.arange(task.batch) % len(asked)
        asked = [(np.concatenate([asked[i][0] for i in rows]), np.concatenate([asked[i][1] for i in rows]))]
    begin = time.time()
    redraw(runtime, *asked[0])
    first = loaded + time.time() - begin
    for i in range(task.warm_up):
        redraw(runtime, *asked[i % len(asked)])
    times = []
    for i in range(task.frames):
        begin = time.perf_counter()
        redraw(runtime, *asked[i % len(asked)])
        times.append((time.perf_counter() - begin) / task.batch)
        tell(i + 1)
    return _measured(task, runtime.detail, loaded, first, Pace.of(times))


#: Different questions asked in turn, so that no cache holds a whole input.
_DIFFERENT = 16


def _measured(
    task: Task,
    detail: str,
    loaded: float | None,
    first: float | None,
    pace: Pace,
) -> Measured:
    """Memory is that until now."""
    return Measured(
        label=task.label,
        kind=task.kind,
        detail=detail,
        cold_load_s=loaded,
        first_frame_s=first,
        median_ms=pace.median_ms,
        p95_ms=pace.p95_ms,
        p99_ms=pace.p99_ms,
        fps=pace.fps,
        memory_mb=peak_memory_mb(),
        card_mb=None,
        frames=task.frames,
        warm_up=task.warm_up,
        stages_ms={},
        size=task.size,
    )


def render(task: Task, born: float, tell: Callable[[int], None]) -> Measured:
    """A whole render as a user has it: sound file to film."""
    from lipwright.avatar import Avatar
    from lipwright.bench.stages import stages
    from lipwright.render import Networks
    from lipwright.runtimes import all_lanes

    avatar = Avatar.open(task.avatar).at(task.quality)
    networks = Networks.open(avatar, task.runtime, task.precision, all_lanes())
    loaded = time.time() - born
    marks, closed = _film(task, avatar, networks, Path(task.folder) / "film.mp4", tell)
    first = marks[0] - _clock() + time.time() - born
    times = [after - before for before, after in pairwise(marks)][task.warm_up :]
    pace = Pace.of(times, closed - marks[task.warm_up])
    found = _measured(task, networks.generator.detail, loaded, first, pace)
    single = Networks.open(avatar, task.runtime, task.precision)
    alone = stages(avatar, single, Path(task.sound), min(task.frames, _STAGED), Path(task.folder))
    return replace(found, stages_ms=alone)


#: Frames over which single stages are looked at.
_STAGED = 50


def _clock() -> float:
    return time.perf_counter()


def _film(
    task: Task, avatar: Avatar, networks: Networks, path: Path, tell: Callable[[int], None]
) -> tuple[list[float], float]:
    """Render and encode warm-up and measured frames; when each was handed over, and when the film was closed."""
    from lipwright.audio.decode import SoundReader
    from lipwright.render import Renderer
    from lipwright.video import VideoWriter

    marks: list[float] = []
    sizes = avatar.manifest.sizes
    with SoundReader(Path(task.sound)) as sound:
        with (
            VideoWriter(path, sizes.width, sizes.height, sound.rate, sound.channels) as film,
            Renderer(avatar, sound.rate, sound.channels, networks=networks) as renderer,
            closing(renderer.stream(sound)) as frames,
        ):
            for frame in islice(frames, task.warm_up + task.frames + 1):
                film.write(frame.picture, frame.samples)
                marks.append(_clock())
                tell(len(marks))
        return marks, _clock()


def baseline(task: Task, born: float, tell: Callable[[int], None]) -> Measured:
    """The family's sequential pipeline."""
    from lipwright.avatar import Avatar
    from lipwright.bench.baseline import sequential, unpack
    from lipwright.runtimes import open_runtime
    from lipwright.trial import generator_of

    avatar, folder = Avatar.open(task.avatar).at(task.quality), Path(task.folder)
    generator = open_runtime(generator_of(avatar), "generator", task.runtime, task.precision)
    jpegs = unpack(avatar, folder)
    spent, whole = sequential(avatar, Path(task.sound), generator, task.frames, folder, jpegs, tell)
    each = [sum(parts) for parts in zip(*(spent[name] for name in spent), strict=False)]
    told = {name: 1000 * fmean(seconds) for name, seconds in spent.items()}
    return replace(_measured(task, generator.detail, None, None, Pace.of(each, whole)), stages_ms=told)


def jobs(task: Task, born: float, tell: Callable[[int], None]) -> Measured:
    """Several films at once from one loaded model."""
    from lipwright.avatar import Avatar
    from lipwright.render import Networks
    from lipwright.runtimes import all_lanes

    avatar = Avatar.open(task.avatar).at(task.quality)
    networks = Networks.open(avatar, task.runtime, task.precision, all_lanes())
    done: list[tuple[list[float], float]] = []
    errors: list[Exception] = []

    def work(number: int) -> None:
        try:
            path = Path(task.folder) / f"film{number}.mp4"
            done.append(_film(task, avatar, networks, path, lambda count: tell(count * task.jobs)))
        except Exception as error:  # told by the main thread: a thread of its own has nobody to tell
            errors.append(error)

    begin = _clock()
    threads = [Thread(target=work, args=(number,)) for number in range(task.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    times = [b - a for marks, _ in done for a, b in pairwise(marks)]
    whole = max(closed for _, closed in done) - begin
    speeds = [len(marks) / (closed - begin) for marks, closed in done]
    found = _measured(task, networks.generator.detail, None, None, Pace.of(times, whole))
    return replace(found, fairness=min(speeds) / max(speeds))


WORK: dict[str, Callable[[Task, float, Callable[[int], None]], Measured]] = {
    "inference": inference,
    "render": render,
    "baseline": baseline,
    "jobs": jobs,
}

if __name__ == "__main__":
    main()
