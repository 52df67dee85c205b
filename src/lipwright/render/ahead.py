"""Work ahead: a stage of the pipeline runs in threads of its own behind a bounded queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, Queue
from threading import Event, Thread
from typing import NoReturn, TypeVar

T = TypeVar("T")
U = TypeVar("U")

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


def side_by_side(items: Iterator[T], work: Callable[[T], U], lanes: int) -> Generator[U, None, None]:
    """``work`` done on every item, up to ``lanes`` at once in threads; the answers in the order of the items.

    An error, of ``items`` or of ``work``, is raised behind the answers that came before it. The threads end with the
    generator.
    """
    if lanes == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(lanes, "lipwright-lane") as pool:
        under_way: deque[Future[U]] = deque()
        try:
            for job in _jobs(items, work):
                under_way.append(pool.submit(job))
                if len(under_way) > lanes:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


def _jobs(items: Iterator[T], work: Callable[[T], U]) -> Iterator[Callable[[], U]]:
    """Work on every item; an error of ``items`` becomes a last job that raises it, and so waits for its turn."""

    def fail(error: Exception) -> NoReturn:
        raise error

    try:
        for item in items:
            yield partial(work, item)
    except Exception as error:
        yield partial(fail, error)


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
