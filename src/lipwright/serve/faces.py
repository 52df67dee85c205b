"""An avatar that is loaded and ready to be drawn: its networks, its film, what its frames cost."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np

from lipwright.avatar import Avatar, Disclosure
from lipwright.contract import AUDIO_SHAPE, SAMPLE_RATE, Border, FloatArray, TensorSpec, lookahead_ms
from lipwright.picture import Picture
from lipwright.render import Networks, Painter, Still, Walk
from lipwright.render.voice import Voice
from lipwright.runtimes import Precision, Runtime
from lipwright.serve.capacity import Costs, measure_batches, measured_ms
from lipwright.serve.pictures import jpeg


class OneAtATime:
    """A runtime that several threads may run: each waits until the one before is done."""

    lanes = 1

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = Lock()
        self.name = runtime.name
        self.detail = runtime.detail

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._runtime.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._runtime.outputs

    def run(self, *arrays: FloatArray) -> FloatArray:
        """As ``Runtime.run``."""
        with self._lock:
            return self._runtime.run(*arrays)


class Face:
    """One avatar with all that sessions of it share.

    The drawing thread alone calls ``still``, ``measure`` and the painter; everything else is for any thread.

    Args:
        avatar: who speaks.
        networks: its networks.
        border: as ``Painter``.
        disclosure: what its pictures and films must say; None: a mark if no consent is on file, no credentials.

    Raises:
        AvatarError: its film is not the one it describes.
    """

    def __init__(
        self, avatar: Avatar, networks: Networks, border: Border = "soft", disclosure: Disclosure | None = None
    ) -> None:
        manifest = avatar.manifest
        self.disclosure = disclosure or Disclosure.of(avatar, None)
        self.avatar = avatar
        self.name = avatar.name
        self.networks = Networks(networks.generator, OneAtATime(networks.encoder))
        self.border: Border = border
        self.painter = Painter(avatar, self.networks, border)
        self.width: int = self.painter.width
        self.height: int = self.painter.height
        self._alignment = manifest.encoder.alignment.to_contract()
        segments = [(segment.start, segment.stop) for segment in manifest.segments]
        self._walk = Walk(avatar.frame_count, manifest.start_frame, segments)
        self._last: tuple[int, Still] | None = None
        self.rest = self.new_voice(SAMPLE_RATE, 1, 0)().rest
        self.poster = jpeg(self.disclosure.shown(self.still(0).picture).bgr)
        """The first picture as JPEG."""

    @classmethod
    def open(
        cls,
        avatar: Avatar,
        runtime: str = "auto",
        precision: Precision = "auto",
        border: Border = "soft",
        disclosure: Disclosure | None = None,
    ) -> Self:
        """Load the networks of ``avatar`` and its film.

        Raises:
            AvatarError: it cannot speak, or its film is not the one it describes.
            RuntimeUnavailableError: the runtime or precision that was asked for is not there.
        """
        return cls(avatar, Networks.open(avatar, runtime, precision), border, disclosure)

    @property
    def path(self) -> Path:
        """The avatar's folder."""
        return self.avatar.path

    def lookahead_ms(self, lookahead: int) -> float:
        """Sound needed from the start of a frame on, for so many future features."""
        return lookahead_ms(lookahead, self._alignment)

    def new_voice(self, rate: int, channels: int, lookahead: int) -> Callable[[], Voice]:
        """Makes voices for sound of this kind."""
        padding = self.avatar.manifest.window.padding
        return lambda: Voice(rate, channels, self.networks, self._alignment, padding, lookahead)

    def still(self, tick: int) -> Still:
        """The template frame of ``tick``, which all sessions of the avatar show at once; the last one is kept."""
        if self._last is None or self._last[0] != tick:
            self._last = (tick, self.painter.still(self._walk(tick)))
        return self._last[1]

    def finish(self, still: Still, answer: FloatArray | None) -> Picture:
        """The picture as it may be shown; ``answer`` is what the painter's ``draw`` gave. For any thread."""
        return self.disclosure.shown(self.painter.finish(still, answer))

    def measure(self) -> Costs:
        """What its frames cost on this machine now; takes a second or two."""
        # A frame that is shown as it is costs nothing: measure one with a mouth.
        still = next(
            (found for tick in range(self.avatar.frame_count) if (found := self.still(tick)).mouth), self.still(0)
        )
        window = np.zeros((1, *AUDIO_SHAPE), np.float32)
        (drawn,) = self.painter.draw([still], window)
        voice = self.new_voice(SAMPLE_RATE, 1, 0)()
        noise = np.random.default_rng(0).normal(0, 0.1, (SAMPLE_RATE // 25, 1)).astype(np.float32)
        others = itertools.count(1)
        return Costs(
            shared_ms=measured_ms(lambda: self.still(next(others))),
            own_ms=measured_ms(lambda: (voice.push(noise), jpeg(self.finish(still, drawn).bgr))),
            draw_ms=measure_batches(lambda size: self.painter.draw([still] * size, np.repeat(window, size, axis=0))),
        )

    def close(self) -> None:
        self.painter.close()
