"""The memory that a training on the processor takes and gives back at every step, kept between them."""

from __future__ import annotations

import ctypes
import platform

from lipwright.runtimes.machine import memory_gib

#: Parameters of glibc's mallopt (malloc.h, mallopt(3)): the number of blocks that may be mapped by themselves, and
#: how much may lie free at the end of the heap before it is given back; -1 for any amount.
_MMAP_MAX, _TRIM_THRESHOLD = -4, -1
#: Memory of machines that can spare what it costs: three of them, where a training takes four.
ROOMY_GIB = 14


def keep_pages() -> bool:
    """Let this process keep the pages that it frees, where its C library is glibc and the machine has the memory.

    Every large tensor is a mapping of its own otherwise, cleared page by page by the kernel when it is first written
    and given back when it is freed, in each step anew: up to a third of a training's time at 320 x 320 (DECISIONS.md,
    "Who clears the pages of a training?"). The price: free memory stays with the process to its end, in pieces that
    do not always fit the next tensor.

    Returns:
        Whether it does now. What is computed is the same to the bit.
    """
    if not _glibc() or (memory_gib() or 0) < ROOMY_GIB:
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_MMAP_MAX, 0)) and bool(libc.mallopt(_TRIM_THRESHOLD, -1))


def give_back_pages() -> None:
    """Give the system all pages that are free now, so that what was broken up does not add up over hours.

    To be called now and then, as often as a checkpoint is written: the next step fetches what it needs anew.
    """
    if _glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
