"""Sound in, finished frames out: ``Renderer`` chunk by chunk, ``render`` from a file."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np

from lipwright.audio.decode import SoundReader
from lipwright.avatar import Avatar
from lipwright.closing import Closing
from lipwright.contract import WINDOW_FUTURE, Border, FloatArray, UInt8Array
from lipwright.errors import ContractError
from lipwright.picture import Frame
from lipwright.render.ahead import ahead, side_by_side
from lipwright.render.networks import Networks
from lipwright.render.painter import Painter, Still
from lipwright.render.template import Walk
from lipwright.render.voice import Moment, Voice
from lipwright.runtimes import Precision, all_lanes

#: Takes prepared and takes drawn ahead of the one that is being finished.
PREPARED_AHEAD = 4
DRAWN_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Take:
    """A moment with the template frame that is shown in it."""

    moment: Moment
    """What is heard."""
    still: Still
    """What is shown, but for the mouth."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A take that has been through the generator."""

    take: Take
    """What was prepared."""
    answer: UInt8Array | None
    """[320, 320, 3] the new ROI, BGR; None where there was nothing to redraw."""


class Options(TypedDict, total=False):
    """Keyword arguments of ``Renderer``, where they are explained."""

    runtime: str
    precision: Precision
    start: int | None
    lookahead: int
    batch: int
    border: Border
    networks: Networks | None


class Renderer(Closing):
    """Makes an avatar say what it is fed, frame by frame.

    Neither pictures nor samples depend on how the sound was cut into chunks, not in a single bit: the generator always
    runs on ``batch`` frames at once, and the last call of a film is filled up.

    Args:
        avatar: who speaks.
        rate: samples a second of the sound; a multiple of 25 (resample others to 48000).
        channels: of the sound, 1 or 2.
        runtime: the library that runs the networks: auto, onnxruntime, openvino, torch.
        precision: of the generator: auto, f32, bf16, f16.
        start: template frame to begin with; None: the one the avatar names.
        lookahead: future features awaited before a frame is drawn, 0..7 (``contract.lookahead_ms`` says how long).
        batch: frames drawn at once; frames come out in such groups.
        border: ``soft`` blends the border of the redrawn region into the frame; ``exact`` pastes it as the family does.
        networks: the avatar's networks if they are loaded already; ``runtime`` and ``precision`` are unused then.

    Raises:
        AvatarError: the avatar cannot speak, or its film is not the one it describes.
        ContractError: rate, channels, look-ahead or batch are outside their ranges.
        LipwrightError: there is no template frame ``start``.
        RuntimeUnavailableError: the runtime or precision that was asked for is not there.
    """

    def __init__(
        self,
        avatar: Avatar,
        rate: int,
        channels: int,
        *,
        runtime: str = "auto",
        precision: Precision = "auto",
        start: int | None = None,
        lookahead: int = WINDOW_FUTURE,
        batch: int = 1,
        border: Border = "soft",
        networks: Networks | None = None,
    ) -> None:
        if batch < 1:
            raise ContractError(f"a batch holds at least 1 frame, not {batch}")
        manifest = avatar.manifest
        self._rate = rate
        self._batch = batch
        self._walk = Walk.of(avatar, start)
        self._networks = networks or Networks.open(avatar, runtime, precision)
        alignment = manifest.encoder.alignment.to_contract()
        self._voice = Voice(rate, channels, self._networks, alignment, manifest.window.padding, lookahead)
        self._painter = Painter(avatar, self._networks, border)
        self._waiting: list[Take] = []

    def feed(self, samples: FloatArray) -> list[Frame]:
        """Sound [n, channels] float32, -1..1, of any length to the frames that became ready, in order.

        Raises:
            ContractError: another shape or type, or values that are not finite.
            LipwrightError: a frame cannot be drawn.
        """
        takes = map(self._prepare, self._hear(samples))
        return list(self._finished(self._groups(takes)))

    def flush(self) -> list[Frame]:
        """The remaining frames: ceil(seconds * 25) in all. Nothing may be fed afterwards."""
        takes = map(self._prepare, self._voice.flush())
        return list(self._finished(self._all_groups(takes)))

    def stream(self, chunks: Iterable[FloatArray]) -> Generator[Frame, None, None]:
        """All frames of a whole sound, the same as by ``feed`` and ``flush``, with the stages working side by side.

        Listening and preparing run in one thread, drawing in as many as the generator has lanes, finishing in the
        caller's. An error of any of them is raised here once; the threads end with the iterator.
        """
        lanes = self._networks.generator.lanes
        with (
            closing(ahead(map(self._prepare, self._hear_all(chunks)), PREPARED_AHEAD)) as takes,
            closing(side_by_side(self._all_groups(takes), self._draw, lanes)) as groups,
            closing(ahead(chain.from_iterable(groups), DRAWN_AHEAD)) as drawn,
        ):
            yield from map(self._finish, drawn)

    def close(self) -> None:
        self._painter.close()

    # The stages, in the order a frame passes them.

    def _hear(self, samples: FloatArray) -> Iterator[Moment]:
        """Second by second, so that a long chunk is not heard as a whole before its first frame is drawn."""
        for begin in range(0, len(samples), self._rate):
            yield from self._voice.push(samples[begin : begin + self._rate])

    def _hear_all(self, chunks: Iterable[FloatArray]) -> Iterator[Moment]:
        for samples in chunks:
            yield from self._hear(samples)
        yield from self._voice.flush()

    def _prepare(self, moment: Moment) -> Take:
        return Take(moment, self._painter.still(self._walk(moment.index)))

    def _groups(self, takes: Iterable[Take]) -> Iterator[list[Take]]:
        """Takes that are drawn in one call: full batches; what does not fill one waits for the next call."""
        for take in takes:
            self._waiting.append(take)
            mouths = sum(waiting.still.mouth is not None for waiting in self._waiting)
            if mouths in (0, self._batch):
                yield self._all_waiting()

    def _all_groups(self, takes: Iterable[Take]) -> Iterator[list[Take]]:
        yield from self._groups(takes)
        yield self._all_waiting()

    def _all_waiting(self) -> list[Take]:
        waiting, self._waiting = self._waiting, []
        return waiting

    def _draw(self, takes: list[Take]) -> list[Drawn]:
        """All mouths of the takes in one call of the generator."""
        if not takes:
            return []
        windows = np.stack([take.moment.window for take in takes])
        return list(map(Drawn, takes, self._painter.draw([take.still for take in takes], windows, self._batch)))

    def _finished(self, groups: Iterable[list[Take]]) -> Iterator[Frame]:
        return map(self._finish, chain.from_iterable(map(self._draw, groups)))

    def _finish(self, drawn: Drawn) -> Frame:
        """The finished picture with the 40 ms of sound that belong to it."""
        moment = drawn.take.moment
        return Frame(moment.index, self._painter.finish(drawn.take.still, drawn.answer), moment.samples)


def render(avatar: Avatar, audio: Path, **options: Unpack[Options]) -> Generator[Frame, None, None]:
    """Make ``avatar`` say the sound of the file ``audio``, streamed; ``options`` are those of ``Renderer``.

    Memory does not grow with the length of the sound. Close the iterator (``contextlib.closing``) when it is left
    before its end.

    Raises:
        MediaError: the file holds no sound that can be read.
        LipwrightError: as ``Renderer``.
    """
    if options.get("networks") is None:
        wanted = options.get("runtime", "auto"), options.get("precision", "auto")
        options["networks"] = Networks.open(avatar, *wanted, lanes=all_lanes())
    with SoundReader(audio) as sound, Renderer(avatar, sound.rate, sound.channels, **options) as renderer:
        yield from renderer.stream(sound)
