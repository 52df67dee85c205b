"""Train `people.person` in children of this process, all but the last killed (SIGKILL), each in another phase.

``python killed.py RUN``, with a plan in RUN. A process of its own, because one whose torch has run in several
threads must not be forked; and a fork has torch and the pack from its first moment, which saves half of the time.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from pathlib import Path

import torch

from lipwright.training import person as training
from lipwright.training.pack import Pack
from lipwright.training.person import Progress, train_person
from people import SCORED, person

#: What `Progress` says in the five phases.
PHASES = (
    "do lips and sound fit",
    "learning to draw",
    "learning to listen",
    "learning to speak",
    "learning the details",
)
#: Kills fall into the step after the one that was told, or into what is written after it.
_MOST_SECONDS = 0.2


def train(pack: Pack, run: Path, told: int) -> None:
    """Train, say every step to the pipe ``told``, and end this process."""

    def tell(progress: Progress) -> None:
        os.write(told, f"{progress.step}\n".encode())

    status = 1
    try:
        train_person(pack, run, progress=tell)
        status = 0
    finally:
        os._exit(status)


def begun(pack: Pack, run: Path) -> tuple[int, int]:
    """A child that trains: its id, and the pipe it tells its steps to."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        train(pack, run, tell)
    os.close(tell)
    return child, told


def kill_in(phase: str, pack: Pack, run: Path, rng: random.Random) -> None:
    """Train until a random step of ``phase`` and kill at a random moment after it.

    Raises:
        RuntimeError: it ended before.
    """
    child, told = begun(pack, run)
    chosen = None
    with os.fdopen(told, encoding="utf-8") as steps:
        for line in steps:
            found = re.fullmatch(rf"({phase}.*), step (\d+) of (\d+)\n", line)
            if not found:
                continue
            step, count = int(found[2]), int(found[3])
            chosen = chosen or rng.randint(step, count)
            if step >= chosen:
                time.sleep(rng.uniform(0, _MOST_SECONDS))
                os.kill(child, signal.SIGKILL)
                break
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise RuntimeError(f"not killed while it was {phase}: it ended with {os.waitstatus_to_exitcode(status)}")


def main() -> None:
    """Kill in every phase, then let it come to its end."""
    torch.set_num_threads(1)
    training._SCORED = SCORED
    pack, run, rng = person(), Path(sys.argv[1]), random.Random(0)
    for phase in PHASES:
        kill_in(phase, pack, run, rng)
    train_person(pack, run)


if __name__ == "__main__":
    main()
