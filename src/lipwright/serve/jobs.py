"""Render jobs: a sound file in, an MP4 out, drawn behind the live sessions and cancelled whenever the client likes."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from queue import Empty, Queue
from typing import Literal

from lipwright.audio.decode import SoundReader
from lipwright.contract import FPS, FloatArray, TensorSpec, UInt8Array
from lipwright.credentials import SYNTHETIC
from lipwright.errors import LipwrightError, MediaError
from lipwright.render import Networks, Renderer
from lipwright.runtimes import Redrawn, Runtime
from lipwright.serve.engine import Engine
from lipwright.serve.faces import Face
from lipwright.serve.safety import Limits
from lipwright.video import VideoWriter

logger = logging.getLogger(__name__)

State = Literal["waiting", "running", "done", "failed", "cancelled"]

#: Seconds for which a result is kept, and how often what is older is looked for.
KEPT_SECONDS = 3600.0
FORGET_EVERY = 60.0
#: Seconds after which a client may ask again for a place among the jobs.
RETRY_AFTER = 30
#: How much lower than live work the jobs' threads stand (Linux: nice).
NICE = 5


class JobsFullError(LipwrightError):
    """As many jobs wait as are allowed."""

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} jobs wait already: try again in {RETRY_AFTER} s")
        self.retry_after = RETRY_AFTER


class TooLongError(LipwrightError):
    """The sound is longer than this server renders."""


class CancelledJobError(LipwrightError):
    """The job was cancelled by its client."""


@dataclass
class Job:
    """One sound that is rendered, or was."""

    id: str
    face: Face
    sound: Path
    result: Path
    """The film, once ``state`` is done."""
    duration: float
    """Seconds of sound by its header."""
    state: State = "waiting"
    frames: int = 0
    """Done so far."""
    error: str | None = None
    """Why it failed."""
    began: float | None = None
    ended: float | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    finished: threading.Event = field(default_factory=threading.Event)

    @property
    def frames_expected(self) -> int:
        return ceil(self.duration * FPS)

    def seconds_left(self, now: float) -> float | None:
        """By the speed so far; None before the first frame."""
        if self.state != "running" or not self.frames or self.began is None:
            return None
        return (now - self.began) / self.frames * max(self.frames_expected - self.frames, 0)


class Behind:
    """A generator that draws when no live frame waits."""

    lanes = 1

    def __init__(self, engine: Engine, face: Face) -> None:
        self._engine = engine
        self._face = face
        self.name = face.networks.generator.name
        self.detail = face.networks.generator.detail

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._face.networks.generator.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._face.networks.generator.outputs

    def run(self, *arrays: FloatArray) -> FloatArray:
        """As ``Runtime.run``; waits for its turn."""
        return self._engine.infer(self._face.name, *arrays)

    def redraw(self, rois: UInt8Array, windows: FloatArray) -> Redrawn:
        """As ``runtimes.redraw``; waits for its turn."""
        return self._engine.redraw(self._face.name, rois, windows)


class Jobs:
    """All jobs of a server; one runs at a time, in a thread of its own.

    Args:
        engine: draws for them.
        limits: how many may wait, and how long a sound may be.
        clock: seconds that never go back.
    """

    def __init__(self, engine: Engine, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._limits = limits
        self.clock = clock
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._uploads = 0
        self._queue: Queue[Job | None] = Queue()
        self._thread = threading.Thread(target=self._work, name="lipwright-jobs", daemon=True)

    def start(self) -> None:
        """Be ready for uploads and jobs, until ``close``."""
        self._folder = tempfile.TemporaryDirectory(prefix="lipwright-")
        self._thread.start()

    @contextmanager
    def upload(self) -> Iterator[Path]:
        """Where a sound may be written; while it comes it counts as one of the jobs that wait.

        Raises:
            JobsFullError: too many wait.
        """
        assert self._folder is not None, "start comes first"
        with self._lock:
            if self._uploads + sum(not job.finished.is_set() for job in self._jobs.values()) >= self._limits.jobs:
                raise JobsFullError(self._limits.jobs)
            self._uploads += 1
        try:
            yield Path(self._folder.name) / f"{secrets.token_hex(8)}.sound"
        finally:
            with self._lock:
                self._uploads -= 1

    def submit(self, face: Face, sound: Path) -> Job:
        """Take a sound in; the file is the job's from now on.

        Raises:
            MediaError: it holds no sound that can be read.
            TooLongError: it is longer than the limit.
        """
        try:
            duration = self._duration(sound)
        except LipwrightError:
            sound.unlink(missing_ok=True)
            raise
        job = Job(secrets.token_hex(16), face, sound, sound.with_suffix(".mp4"), duration)
        with self._lock:
            self._jobs[job.id] = job
        self._queue.put(job)
        self._engine.metrics.count("lipwright_jobs_total")
        logger.info("job %s: %.1f s for %s", job.id, duration, face.name)
        return job

    def get(self, job_id: str) -> Job | None:
        """The job of that id, as long as it is kept."""
        with self._lock:
            return self._jobs.get(job_id)

    def remove(self, job: Job) -> None:
        """Cancel a job and forget it with its files."""
        job.cancelled.set()
        with self._lock:
            self._jobs.pop(job.id, None)
        if job.finished.is_set():
            _unlink(job)
        elif job.began is None:  # it will find itself cancelled when its turn comes, before it looks for its sound
            job.sound.unlink(missing_ok=True)

    def close(self) -> None:
        """Cancel everything and remove all files."""
        with self._lock:
            for job in self._jobs.values():
                job.cancelled.set()
        self._queue.put(None)
        self._thread.join()
        if self._folder is not None:
            self._folder.cleanup()

    def _duration(self, sound: Path) -> float:
        try:
            with SoundReader(sound) as reader:
                duration = reader.duration
        except MediaError as error:
            raise MediaError(str(error).replace(str(sound), "the sound sent")) from error
        self._check_length(duration or 0.0)
        return duration or 0.0

    def _check_length(self, seconds: float) -> None:
        if seconds > self._limits.upload_seconds:
            raise TooLongError(
                f"the sound is longer than the {self._limits.upload_seconds:g} s that this server renders: cut it"
            )

    def _forget_old(self) -> None:
        now = self.clock()
        with self._lock:
            old = [job for job in self._jobs.values() if job.ended is not None and now - job.ended > KEPT_SECONDS]
        for job in old:
            self.remove(job)

    # --- the jobs' thread -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        _step_back()
        while (job := self._next()) is not None:
            self._run(job)

    def _next(self) -> Job | None:
        """The next job, waited for; None: there will be no more. What nobody has fetched for an hour goes meanwhile."""
        while True:
            self._forget_old()
            with suppress(Empty):
                return self._queue.get(timeout=FORGET_EVERY)

    def _run(self, job: Job) -> None:
        job.began = self.clock()
        try:
            self._render(job)
            job.state = "done"
        except CancelledJobError:
            job.state = "cancelled"
        except Exception as error:  # the jobs after it must not suffer
            job.state, job.error = "failed", str(error).replace(str(job.sound), "the sound sent")
            logger.warning("job %s failed: %s", job.id, job.error)
        job.ended = self.clock()
        job.finished.set()
        job.sound.unlink(missing_ok=True)
        if job.cancelled.is_set():
            _unlink(job)

    def _render(self, job: Job) -> None:
        if job.cancelled.is_set():
            raise CancelledJobError("cancelled")
        job.state = "running"
        face = job.face
        generator: Runtime = Behind(self._engine, face)
        networks = Networks(generator, face.networks.encoder)
        with (
            SoundReader(job.sound) as sound,
            self._film(job, sound) as film,
            Renderer(face.avatar, sound.rate, sound.channels, networks=networks, border=face.border) as renderer,
            closing(renderer.stream(sound)) as frames,
        ):
            for frame in frames:
                if job.cancelled.is_set():
                    raise CancelledJobError("cancelled")
                self._check_length(frame.index / FPS)
                film.write(face.disclosure.shown(frame.picture), frame.samples)
                job.frames += 1

    def _film(self, job: Job, sound: SoundReader) -> VideoWriter:
        face = job.face
        size, seal = (face.width, face.height), face.disclosure.seal
        return VideoWriter(job.result, *size, sound.rate, sound.channels, comment=SYNTHETIC, seal=seal)


def _unlink(job: Job) -> None:
    job.sound.unlink(missing_ok=True)
    job.result.unlink(missing_ok=True)


def _step_back() -> None:
    """Let live work go first: on Linux niceness belongs to a thread, and those it starts inherit it."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
