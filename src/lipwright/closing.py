"""What is closed at the end of a ``with`` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """Base of all that hold a file or a thread: the end of a ``with`` block closes it, however it ends."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything; harmless the second time."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
