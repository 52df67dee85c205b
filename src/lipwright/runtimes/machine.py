"""What of this machine decides how fast networks are, for those who report it."""

from __future__ import annotations

import os
import platform

from lipwright.runtimes.base import cpu_flags

#: Instruction sets that change the speed of the networks.
_SPEED_FLAGS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "bf16"),
)


def speed_flags() -> tuple[str, ...]:
    """The processor's instruction sets that change the speed of the networks; empty where the system does not tell."""
    return tuple(flag for flag in _SPEED_FLAGS if flag in cpu_flags())


def memory_gib() -> float | None:
    """Physical memory; None where the system does not tell."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def on_x86() -> bool:
    """Whether this is an x86-64 processor: where OpenVINO belongs to the core."""
    return platform.machine() in ("x86_64", "AMD64")
