"""The memory that a training on the processor takes and gives back at every step, kept between them."""

from __future__ import annotations

import ctypes
import platform

#: Parameters of glibc's mallopt (malloc.h, mallopt(3)): the number of blocks that may be mapped by themselves, and
#: how much may lie free at the end of the heap before it is given back; -1 for any amount.
_MMAP_MAX, _TRIM_THRESHOLD = -4, -1


def keep_pages() -> bool:
    """Let this process keep the pages that it frees; answers whether its C library could be asked: glibc can.

    Every large tensor is a mapping of its own otherwise, cleared page by page by the kernel when it is first written
    and given back when it is freed, in each step anew: a third of a training's time at 320 x 320 (DECISIONS.md, "Who
    clears the pages of a training?"). The price: free memory stays with the process to its end, and is broken up a
    little, a fifth more at the peak.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_MMAP_MAX, 0)) and bool(libc.mallopt(_TRIM_THRESHOLD, -1))
