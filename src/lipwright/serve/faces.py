"""An avatar that is loaded and ready to be drawn: its networks, its film, what its frames cost."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np

from lipwright.avatar import Avatar, Disclosure
from lipwright.contract import AUDIO_SHAPE, FPS, SAMPLE_RATE, Border, FloatArray, TensorSpec, UInt8Array, lookahead_ms
from lipwright.picture import Picture
from lipwright.render import Networks, Painter, Still, Walk
from lipwright.render.voice import Voice
from lipwright.runtimes import Precision, Runtime, all_lanes
from lipwright.serve.capacity import Costs, capacity, measure_batches, measured_ms, quicker
from lipwright.serve.lanes import SideBySide
from lipwright.serve.pictures import jpeg

logger = logging.getLogger(__name__)


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
        open_wide: opens the same generator with several lanes, which ``measure`` tries; None: there is no such thing.

    Raises:
        AvatarError: its film is not the one it describes.
    """

    def __init__(
        self,
        avatar: Avatar,
        networks: Networks,
        border: Border = "soft",
        disclosure: Disclosure | None = None,
        open_wide: Callable[[], Runtime] | None = None,
    ) -> None:
        manifest = avatar.manifest
        self.disclosure = disclosure or Disclosure.of(avatar, None)
        self.avatar = avatar
        self.name = avatar.name
        self._open_wide = open_wide
        self._generator = SideBySide(networks.generator)
        self.networks = Networks(self._generator, OneAtATime(networks.encoder))
        self.border: Border = border
        self.painter = Painter(avatar, self.networks, border)
        self.width: int = self.painter.width
        self.height: int = self.painter.height
        self._alignment = manifest.encoder.alignment.to_contract()
        self._walk = Walk.of(avatar)
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
        networks = partial(Networks.open, avatar, runtime, precision)
        lanes = all_lanes()
        wide = (lambda: networks(lanes=lanes).generator) if lanes > 1 else None
        return cls(avatar, networks(), border, disclosure, wide)

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

    def finish(self, still: Still, answer: UInt8Array | None) -> Picture:
        """The picture as it may be shown; ``answer`` is what the painter's ``draw`` gave. For any thread."""
        return self.disclosure.shown(self.painter.finish(still, answer))

    def measure(self, several: bool = True) -> Costs:
        """What its frames cost on this machine now; takes seconds.

        Where ``several`` sessions are to be held, frames are also drawn side by side by a network with several lanes,
        which is kept if more sessions fit into a tick by it.
        """
        # A frame that is shown as it is costs nothing: measure one with a mouth.
        still = next(
            (found for tick in range(self.avatar.frame_count) if (found := self.still(tick)).mouth), self.still(0)
        )
        costs = self._costs(still)
        return self._widened(still, costs) if several else costs

    def _costs(self, still: Still) -> Costs:
        """By one call of the generator at a time."""
        (drawn,) = self.painter.draw([still], np.zeros((1, *AUDIO_SHAPE), np.float32))
        voice = self.new_voice(SAMPLE_RATE, 1, 0)()
        noise = np.random.default_rng(0).normal(0, 0.1, (SAMPLE_RATE // FPS, 1)).astype(np.float32)
        others = itertools.count(1)
        return Costs(
            shared_ms=measured_ms(lambda: self.still(next(others))),
            own_ms=measured_ms(lambda: (voice.push(noise), jpeg(self.finish(still, drawn).bgr))),
            draw_ms=measure_batches(lambda size: self._draw(still, size)),
        )

    def _widened(self, still: Still, costs: Costs) -> Costs:
        """The same with several lanes, if more sessions fit into a tick by them."""
        wide = self._open_wide() if self._open_wide else None
        if wide is None or wide.lanes == 1:
            return costs
        counts = range(2, wide.lanes + 1)
        self._generator.spread(wide, counts)
        spread = tuple((size, measured_ms(lambda size=size: self._draw(still, size))) for size in counts)  # type: ignore[misc]
        widened = replace(costs, draw_ms=quicker(costs.draw_ms, spread))
        before, after = capacity([costs]), capacity([widened])
        logger.info("%s: %d sessions by one call at a time, %d by %d lanes", self.name, before, after, wide.lanes)
        if after <= before:
            self._generator.close()
            return costs
        self._generator.spread(wide, {size for size, ms in spread if (size, ms) in widened.draw_ms})
        return widened

    def _draw(self, still: Still, count: int) -> list[UInt8Array | None]:
        return self.painter.draw([still] * count, np.zeros((count, *AUDIO_SHAPE), np.float32))

    def close(self) -> None:
        self._generator.close()
        self.painter.close()
