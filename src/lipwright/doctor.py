"""A picture of the installation: what is there, what works, how fast, and what to do about the rest. Prints nothing."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path

from lipwright.errors import LipwrightError, RuntimeUnavailableError
from lipwright.runtimes import Kind, has_nvidia, open_runtime
from lipwright.runtimes.base import cpu_count, cpu_has, cpu_name
from lipwright.runtimes.choice import cache_folder, installed_version, is_installed, time_runtime
from lipwright.runtimes.machine import memory_gib, on_x86, speed_flags
from lipwright.runtimes.onnx_card import CARDS
from lipwright.runtimes.torch import has_weights

#: Distributions that write into one folder: of each group only one may be installed.
_RIVALS = (
    ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml"),
    ("opencv-python-headless", "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
)
#: PyAV's name of what lipwright needs of ffmpeg, and the direction.
_CODECS = (("libx264", "w"), ("aac", "w"), ("h264", "r"), ("hevc", "r"), ("aac", "r"), ("mp3", "r"), ("opus", "r"))
_CORE = "core"
#: The extras for those who work on lipwright itself; their absence says nothing to a user.
_DEVELOPERS = ("dev", "docs")


@dataclass(frozen=True, slots=True)
class Processor:
    """What the networks run on where there is no accelerator."""

    name: str
    cores: int
    """Logical ones this process may use."""
    flags: tuple[str, ...]
    """Instruction sets that matter here; empty where the system does not tell."""
    bf16: bool
    """Native bfloat16: OpenVINO then takes half the time."""


@dataclass(frozen=True, slots=True)
class RuntimeState:
    """One way to run a network."""

    name: str
    """As ``--runtime`` takes it."""
    works: bool
    """It ran the network; or, where it was given none that it reads, its library loads."""
    detail: str
    """What is active, or why it does not work and what to do."""
    milliseconds: float | None
    """Quickest of some runs with one frame; None if it was not run."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Everything ``lipwright doctor`` shows; plain values all the way down, so that it becomes JSON as it is."""

    lipwright: str
    python: str
    system: str
    processor: Processor
    memory_gib: float | None
    """Physical memory; None where the system does not tell."""
    libraries: dict[str, str | None]
    """Distribution -> version, None if it is not installed: the core ones and those of every extra."""
    extras: dict[str, tuple[str, ...]]
    """Extra -> distributions it lacks; empty: ready."""
    codecs: dict[str, bool]
    """``encode libx264`` and so on -> whether the ffmpeg inside PyAV has it."""
    runtimes: tuple[RuntimeState, ...]
    cache: str
    """Folder of remembered decisions."""
    problems: tuple[str, ...]
    """What is wrong, each with its remedy; empty: all is well."""
    hints: tuple[str, ...]
    """What could be better."""


def examine(model: Path | None = None, kind: Kind = "generator") -> Installation:
    """Look at this installation; nothing in it is changed, and nothing that is missing or broken raises.

    Args:
        model: a network to try every runtime with (a few seconds), the built-in presenter's for example; without one
            the runtimes are only loaded.
        kind: which network it is.
    """
    needs = _requirements()
    libraries = {name: installed_version(name) for names in needs.values() for name in names}
    runtimes = tuple(_runtime_state(name, model, kind) for name in _runtime_names())
    absent = [name for name in needs[_CORE] if not _has(name)]
    core = [f"{name} is not installed: pip install --force-reinstall lipwright" for name in absent]
    codecs = _codecs()
    return Installation(
        lipwright=installed_version("lipwright") or "not installed",
        python=platform.python_version(),
        system=platform.platform(),
        processor=Processor(cpu_name(), cpu_count(), speed_flags(), cpu_has("bf16")),
        memory_gib=memory_gib(),
        libraries=libraries,
        extras={e: tuple(n for n in names if not _has(n)) for e, names in needs.items() if e != _CORE},
        codecs=codecs,
        runtimes=runtimes,
        cache=str(cache_folder()),
        problems=(*core, *_rivals(), *_unmatched_onnxruntime(), *_missing_codecs(codecs), *_unwritable_cache()),
        hints=tuple(_hints(runtimes)),
    )


def _requirements() -> dict[str, tuple[str, ...]]:
    """``core`` and every extra -> the distributions it names for this machine, from the package's own metadata."""
    found: dict[str, list[str]] = {_CORE: []}
    for line in requires("lipwright") or []:
        name, extra = re.match(r"[\w.-]+", line), re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if name and name[0] != "lipwright" and ("platform_machine" not in line or on_x86()):
            found.setdefault(extra[1] if extra else _CORE, []).append(name[0])
    return {key: tuple(names) for key, names in found.items() if key not in _DEVELOPERS}


def _has(distribution: str) -> bool:
    """Whether it is installed, or one that brings the same module (onnxruntime-gpu for onnxruntime)."""
    group = next((group for group in _RIVALS if distribution in group), (distribution,))
    return any(installed_version(name) for name in group)


# --- runtimes -------------------------------------------------------------------------------------------------------


def _runtime_names() -> list[str]:
    """Every runtime and provider that this installation could have."""
    from lipwright.runtimes.onnx import available_providers

    try:
        onnxruntime = [f"onnxruntime:{provider}" for provider in available_providers()]
    except LipwrightError:
        onnxruntime = ["onnxruntime:cpu"]
    return [*onnxruntime, "openvino", "torch:cpu", *(["torch:cuda"] if has_nvidia() else [])]


def _runtime_state(name: str, model: Path | None, kind: Kind) -> RuntimeState:
    try:
        if model is None:
            return RuntimeState(name, True, _loaded(name), None)
        if name.startswith("torch") and model.is_file() and not has_weights(model):
            untimed = "not timed: there are no weights for it in or beside the network"
            return RuntimeState(name, True, f"{_loaded(name)}; {untimed}", None)
        trial = time_runtime(name, lambda runtime: open_runtime(model, kind, runtime), kind)
    except LipwrightError as error:
        return RuntimeState(name, False, str(error), None)
    return RuntimeState(name, True, trial.runtime.detail, 1000 * trial.seconds)


def _loaded(name: str) -> str:
    """Load the library alone and say what it is.

    Raises:
        LipwrightError: it does not load.
    """
    if name.startswith("onnxruntime"):
        from lipwright.runtimes.onnx import library

        return f"onnxruntime {library().__version__} loads"
    if name == "openvino":
        from lipwright.runtimes.openvino import devices

        return "openvino sees " + "; ".join(f"{device}: {', '.join(what)}" for device, what in devices().items())
    from lipwright.runtimes.torch import describe

    state = describe()
    if name == "torch:cuda" and state.cuda is None:
        raise RuntimeUnavailableError(f"torch {state.version} finds no CUDA device: install a CUDA build (pytorch.org)")
    return f"torch {state.version} loads, {state.threads} threads, CUDA device: {state.cuda or 'none'}"


def _hints(runtimes: tuple[RuntimeState, ...]) -> list[str]:
    hints = []
    accelerated = [r for r in runtimes if r.works and r.name.rpartition(":")[2] in CARDS]
    if Path("/proc/driver/nvidia/version").is_file() and not accelerated:
        remedy = "a CUDA build of torch (pytorch.org), or onnxruntime-gpu in the place of onnxruntime"
        hints.append(f"there is an NVIDIA driver and nothing uses it: install {remedy}")
    if on_x86() and not is_installed("openvino"):
        hints.append("openvino is not installed: pip install openvino may double the speed on this processor")
    return hints


# --- problems -------------------------------------------------------------------------------------------------------


def _rivals() -> list[str]:
    installed = [[name for name in group if installed_version(name)] for group in _RIVALS]
    return [
        f"{' and '.join(names)} overwrite each other's files: pip uninstall -y {' '.join(names)}; then install one"
        for names in installed
        if len(names) > 1
    ]


def _unmatched_onnxruntime() -> list[str]:
    """After an uninstalled rival took files with it, the module is gone or of another version than its distribution."""
    from lipwright.runtimes.onnx import library

    versions = [v for name in _RIVALS[0] if (v := installed_version(name))]
    try:
        loaded = str(library().__version__)
    except LipwrightError as error:
        return [str(error)]
    if loaded in versions:
        return []
    expected = " and ".join(versions) or "nothing"
    return [f"onnxruntime {loaded} loads, but {expected} is installed: pip install --force-reinstall onnxruntime"]


def _codecs() -> dict[str, bool]:
    try:
        from av.codec import Codec
        from av.codec.codec import UnknownCodecError
    except ImportError:
        return {}  # a missing PyAV is told as a missing core library
    found = {}
    for name, mode in _CODECS:
        try:
            Codec(name, mode)  # type: ignore[arg-type]
        except UnknownCodecError:
            found[_codec_label(name, mode)] = False
        else:
            found[_codec_label(name, mode)] = True
    return found


def _codec_label(name: str, mode: str) -> str:
    return f"{'encode' if mode == 'w' else 'decode'} {name}"


def _missing_codecs(codecs: dict[str, bool]) -> list[str]:
    return [f"PyAV cannot {what}: pip install --force-reinstall av" for what, there in codecs.items() if not there]


def _unwritable_cache() -> list[str]:
    folder = cache_folder()
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    if existing.is_dir() and os.access(existing, os.W_OK):
        return []
    return [f"{existing} cannot be written, so decisions are not remembered: set XDG_CACHE_HOME to a folder of yours"]
