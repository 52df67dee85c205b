"""``auto``: open every runtime that could run a model, time them on it, keep the fastest and remember the decision."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from lipwright.contract import FloatArray
from lipwright.digest import sha256
from lipwright.errors import MissingExtraError, RuntimeUnavailableError
from lipwright.runtimes.base import ISA_LIMIT, Kind, Precision, Runtime, cpu_count, cpu_flags, cpu_name
from lipwright.runtimes.redrawing import Probe, comparable

LOGGER = logging.getLogger(__name__)

#: Timed runs of each candidate, after the one that opening does; the quickest counts.
RUNS = 3
#: Two runtimes whose outputs (0..1) differ more than this on average do not run the same network.
#: Noise through random weights differs by about 0.01 between f32 and bf16.
DISAGREEMENT = 0.04
#: A change of the file's meaning or of the way to measure makes old decisions void.
_FORMAT = 2
_LIBRARIES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "openvino", "torch")

Open = Callable[[str], Runtime]
"""Opens the model of the question in a runtime named as users name it, ``openvino`` or ``onnxruntime:cuda``."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the decision depends on, beside the machine."""

    model: Path
    kind: Kind
    precision: Precision
    threads: int | None
    candidates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer."""

    runtime: str
    why: str


def choose(question: Question, open_one: Open) -> Runtime:
    """The fastest candidate that works, opened; its ``detail`` tells why.

    Raises:
        AvatarError: the model is damaged.
        ContractError: the model is not what it should be.
        RuntimeUnavailableError: no candidate works; the message has each one's reason.
    """
    file = cache_folder() / "runtimes" / f"{_key(question)}.json"
    decision = _recall(file)
    if decision is not None and decision.runtime in question.candidates:
        try:
            runtime = open_one(decision.runtime)
        except RuntimeUnavailableError as error:
            LOGGER.info("%s worked before and no longer does: %s", decision.runtime, error)
        else:
            runtime.detail += f" (auto: {decision.why}, measured earlier)"
            return runtime
    runtime, decision = _measure(question, open_one)
    runtime.detail += f" (auto: {decision.why})"
    _remember(file, decision)
    return runtime


@dataclass(frozen=True, slots=True)
class Trial:
    """A runtime that works, timed."""

    name: str
    runtime: Runtime
    output: FloatArray
    seconds: float
    """Of the quickest run with a batch of one."""

    def __str__(self) -> str:
        return f"{self.runtime.detail} {1000 * self.seconds:.3g} ms"


def _measure(question: Question, open_one: Open) -> tuple[Runtime, Decision]:
    trials: list[Trial] = []
    refused: list[str] = []
    for name in question.candidates:
        try:
            trial = time_runtime(name, open_one, question.kind)
            _require_agreement(trial, trials[0] if trials else trial)
        except (RuntimeUnavailableError, MissingExtraError) as error:
            LOGGER.info("auto: %s is out: %s", name, error)
            refused.append(f"{name}: {error}")
        else:
            LOGGER.info("auto: %s", trial)
            trials.append(trial)
    if not trials:
        raise RuntimeUnavailableError(f"no runtime runs {question.model}: {'; '.join(refused)}")
    best = min(trials, key=lambda trial: trial.seconds)
    others = [str(trial) for trial in trials if trial is not best] + refused
    why = "; ".join([f"fastest here with {1000 * best.seconds:.3g} ms", *others])
    return best.runtime, Decision(best.name, why)


def time_runtime(name: str, open_one: Open, kind: Kind) -> Trial:
    """Open, which runs it once, and time it on noise; raises what ``open_one`` raises."""
    runtime, probe = open_one(name), Probe(kind)
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        answer = probe.ask(runtime)
        times.append(time.perf_counter() - begin)
    return Trial(name, runtime, comparable(answer), min(times))


def _require_agreement(trial: Trial, reference: Trial) -> None:
    scale = max(1.0, float(np.abs(reference.output).max()))
    apart = float(np.abs(trial.output - reference.output).mean()) / scale
    if not apart <= DISAGREEMENT:
        raise RuntimeUnavailableError(f"its output is {apart:.3f} away from that of {reference.name}: other weights")


# --- memory ---------------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where lipwright keeps what it can make again: the user's cache folder (``XDG_CACHE_HOME`` goes first)."""
    home = Path.home()
    usual = {"darwin": home / "Library" / "Caches", "win32": Path(os.environ.get("LOCALAPPDATA", home))}
    base = os.environ.get("XDG_CACHE_HOME") or usual.get(sys.platform, home / ".cache")
    return Path(base) / "lipwright"


def _key(question: Question) -> str:
    """Changes with everything that could change the answer: model, wish, libraries, processor."""
    model = sha256(question.model)
    parts = [_FORMAT, model, question.kind, question.precision, question.threads, question.candidates]
    machine = [platform.machine(), cpu_name(), sorted(cpu_flags()), cpu_count(), os.environ.get(ISA_LIMIT)]
    text = json.dumps([parts, machine, [installed_version(name) for name in _LIBRARIES]])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, without importing it; None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def is_installed(module: str) -> bool:
    """Whether a module could be imported, without importing it."""
    return find_spec(module) is not None


def _recall(file: Path) -> Decision | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Decision(str(content["runtime"]), str(content["why"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        LOGGER.warning("the remembered choice of a runtime in %s is unreadable and made anew: %s", file, error)
        return None


def _remember(file: Path, decision: Decision) -> None:
    """A cache that cannot be written costs a second at the next start, no more."""
    beside = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps({"runtime": decision.runtime, "why": decision.why}), encoding="utf-8")
        beside.replace(file)
    except OSError as error:
        LOGGER.warning("the choice of a runtime is not remembered: %s", error)
