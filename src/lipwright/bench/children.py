"""Each task in a process of its own: cold starts are cold, and memory belongs to what is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from lipwright.bench.measures import Failed, Measured, Task

Look = Callable[[int, int], None]
"""Hears how many of how many frames are done."""


def measure(task: Task, look: Look) -> Measured | Failed:
    """Do ``task`` in a fresh process; the process ends with this call, whatever ends it."""
    env = {**os.environ, **({"ONEDNN_MAX_CPU_ISA": task.isa} if task.isa else {})}
    with tempfile.TemporaryDirectory(prefix="lipwright-bench-") as folder, _log(folder) as log:
        own = {**task.as_json(), "folder": folder}
        command = [sys.executable, "-m", "lipwright.bench.worker", str(time.time()), json.dumps(own)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
        try:
            answer = _listen(child, look)
            child.wait()
        finally:
            child.kill()
            child.wait()
            assert child.stdout is not None
            child.stdout.close()
        if "measured" in answer:
            return Measured.of(answer["measured"])
        return Failed(task.label, task.kind, answer.get("failed") or _last_words(folder, child.returncode))


def _listen(child: subprocess.Popen[str], look: Look) -> dict[str, Any]:
    """The child's last message."""
    assert child.stdout is not None
    answer: dict[str, Any] = {}
    for line in child.stdout:
        answer = _message(line) or answer
        if "done" in answer:
            look(answer["done"], answer["total"])
    return answer


def _message(line: str) -> dict[str, Any] | None:
    """A line of the protocol; libraries sometimes print others."""
    try:
        data = json.loads(line)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _log(folder: str) -> IO[str]:
    return (Path(folder) / "stderr.txt").open("w", encoding="utf-8")


def _last_words(folder: str, code: int) -> str:
    lines = (Path(folder) / "stderr.txt").read_text(encoding="utf-8", errors="replace").split("\n")
    said = next((line for line in reversed(lines) if line.strip()), "nothing")
    return f"the process ended with code {code} and said: {said.strip()}"
