"""Work ahead: a stage of the pipeline runs in a thread of its own behind a bounded queue."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")

#: Seconds between two looks at whether a thread that was told to stop has stopped.
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class _End:
    """Stands in the queue behind the last item."""

    error: BaseException | None


def ahead(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """The same items in the same order, made up to ``depth`` items ahead in a thread.

    An error of ``items`` is raised here once, behind the items that came before it. The thread starts with the first
    item that is asked for and ends with the generator: when it is exhausted, closed (use ``contextlib.closing``), or
    left by an exception such as Ctrl-C.
    """
    queue: Queue[T | _End] = Queue(maxsize=depth)
    stop = Event()
    thread = Thread(target=_fill, args=(queue, items, stop), name="lipwright-ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := queue.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        _empty(queue, thread)


def _fill(queue: Queue[T | _End], items: Iterator[T], stop: Event) -> None:
    error: BaseException | None = None
    try:
        for item in items:
            queue.put(item)
            if stop.is_set():
                return
    except BaseException as raised:  # whatever it is, the consumer must hear of it: no one else can
        error = raised
    queue.put(_End(error))


def _empty(queue: Queue[T | _End], thread: Thread) -> None:
    """Make room until the thread, which may be waiting to put an item, has ended."""
    while thread.is_alive():
        with suppress(Empty):
            queue.get(timeout=_POLL_SECONDS)
    thread.join()
