"""Sound in, finished frames out: ``Renderer`` chunk by chunk, ``render`` from a file."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict, Unpack

import numpy as np

from lipwright import patch
from lipwright.audio.decode import SoundReader
from lipwright.avatar import Avatar
from lipwright.contract import WINDOW_FUTURE, Border, FloatArray, Frame, Rect, UInt8Array
from lipwright.errors import AvatarError, ContractError, LipwrightError
from lipwright.render.ahead import ahead
from lipwright.render.networks import Networks
from lipwright.render.template import Template, Walk
from lipwright.render.voice import Moment, Voice
from lipwright.runtimes import Precision

#: Takes prepared and takes drawn ahead of the one that is being finished.
PREPARED_AHEAD = 4
DRAWN_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Mouth:
    """The part of a picture that is redrawn."""

    rect: Rect
    """Where it lies in the picture."""
    crop: UInt8Array
    """[328, 328, 3] BGR, the rect as the network's world."""
    input: FloatArray
    """[6, 320, 320] what the generator sees, 0..1 BGR."""


@dataclass(frozen=True, slots=True)
class Take:
    """A moment with the template frame that is shown in it."""

    moment: Moment
    """What is heard."""
    picture: UInt8Array
    """[H, W, 3] BGR template frame."""
    mouth: Mouth | None
    """None where the frame has no usable face: it is shown as it is."""


@dataclass(frozen=True, slots=True)
class NewMouth:
    """The generator's answer."""

    old: Mouth
    """What it was asked about."""
    output: FloatArray
    """[3, 320, 320] the new ROI, 0..1 BGR."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A take that has been through the generator."""

    take: Take
    """What was prepared."""
    mouth: NewMouth | None
    """None where there was nothing to redraw."""


class Options(TypedDict, total=False):
    """Keyword arguments of ``Renderer``, where they are explained."""

    runtime: str
    precision: Precision
    start: int | None
    lookahead: int
    batch: int
    border: Border
    networks: Networks | None


class Renderer:
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
        self._avatar = avatar
        self._rate = rate
        self._batch = batch
        self._border = border
        self._walk = _walk(avatar, start)
        self._networks = networks or Networks.open(avatar, runtime, precision)
        alignment = manifest.encoder.alignment.to_contract()
        self._voice = Voice(rate, channels, self._networks, alignment, manifest.window.padding, lookahead)
        self._template = _open_template(avatar)
        self._waiting: list[Take] = []

    def feed(self, samples: FloatArray) -> list[Frame]:
        """Sound [n, channels] float32, -1..1, of any length to the frames that became ready, in order.

        Raises:
            ContractError: another shape or type, or values that are not finite.
            LipwrightError: a frame cannot be drawn.
        """
        takes = map(self._prepare, self._hear(samples))
        return list(map(self._finish, self._draw(takes)))

    def flush(self) -> list[Frame]:
        """The remaining frames: ceil(seconds * 25) in all. Nothing may be fed afterwards."""
        takes = map(self._prepare, self._voice.flush())
        return [*map(self._finish, self._draw(takes)), *map(self._finish, self._draw_waiting())]

    def stream(self, chunks: Iterable[FloatArray]) -> Generator[Frame, None, None]:
        """All frames of a whole sound, the same as by ``feed`` and ``flush``, with the stages working side by side.

        Listening and preparing run in one thread, drawing in a second, finishing in the caller's. An error of any of
        them is raised here once; the threads end with the iterator.
        """
        with (
            closing(ahead(map(self._prepare, self._hear_all(chunks)), PREPARED_AHEAD)) as takes,
            closing(ahead(self._draw_all(takes), DRAWN_AHEAD)) as drawn,
        ):
            yield from map(self._finish, drawn)

    def close(self) -> None:
        self._template.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
        """All that does not depend on the sound: the template frame and what the generator sees of it."""
        k = self._walk(moment.index)
        picture = self._template.frame(k)
        rect = self._avatar.rect(k)
        if not rect.usable:
            return Take(moment, picture, None)
        crop = patch.crop(picture, rect, self._avatar.manifest.resize)
        roi = patch.roi(crop)
        return Take(moment, picture, Mouth(rect, crop, patch.to_input(roi, roi)))

    def _draw(self, takes: Iterable[Take]) -> Iterator[Drawn]:
        """In full batches; what does not fill one waits for the next call."""
        for take in takes:
            self._waiting.append(take)
            mouths = sum(waiting.mouth is not None for waiting in self._waiting)
            if mouths in (0, self._batch):
                yield from self._draw_waiting()

    def _draw_all(self, takes: Iterable[Take]) -> Iterator[Drawn]:
        yield from self._draw(takes)
        yield from self._draw_waiting()

    def _draw_waiting(self) -> Iterator[Drawn]:
        """All takes that wait, their mouths in one call of the generator."""
        takes, self._waiting = self._waiting, []
        outputs = self._outputs([(take.mouth, take.moment) for take in takes if take.mouth])
        for take in takes:
            yield Drawn(take, NewMouth(take.mouth, next(outputs)) if take.mouth else None)

    def _outputs(self, asked: list[tuple[Mouth, Moment]]) -> Iterator[FloatArray]:
        """The generator's answers, each [3, 320, 320]; the call is filled up to the batch by repeating the last."""
        if not asked:
            return
        filled = [*asked, *asked[-1:] * (self._batch - len(asked))]
        inputs = np.stack([mouth.input for mouth, _ in filled])
        windows = np.stack([moment.window for _, moment in filled])
        yield from self._networks.draw(inputs, windows)[: len(asked)]

    def _finish(self, drawn: Drawn) -> Frame:
        """The new mouth in a copy of the template frame, with the 40 ms of sound that belong to it."""
        moment, picture = drawn.take.moment, drawn.take.picture
        if drawn.mouth is not None:
            old = drawn.mouth.old
            self._check(drawn.mouth.output, moment.index)
            prediction = patch.from_output(drawn.mouth.output)
            if self._border == "soft":
                prediction = patch.blend(patch.roi(old.crop), prediction)
            picture = patch.paste(picture, old.rect, old.crop, prediction, self._avatar.manifest.resize)
        return Frame(moment.index, picture, moment.samples)

    def _check(self, output: FloatArray, index: int) -> None:
        if not np.isfinite(output).all():
            raise LipwrightError(
                f"frame {index}: the generator's picture holds values that are not numbers "
                f"({self._networks.generator.detail}): try precision f32 or another runtime; if they stay, "
                f"the model in {self._avatar.path} is damaged"
            )


def _walk(avatar: Avatar, start: int | None) -> Walk:
    manifest = avatar.manifest
    segments = [(segment.start, segment.stop) for segment in manifest.segments]
    return Walk(avatar.frame_count, manifest.start_frame if start is None else start, segments)


def _open_template(avatar: Avatar) -> Template:
    """The avatar's film, if it is the one the manifest describes."""
    template, sizes = Template(avatar.template), avatar.manifest.sizes
    found, described = (template.width, template.height), (sizes.width, sizes.height)
    if found != described or len(template) < avatar.frame_count:
        template.close()
        raise AvatarError(
            f"{avatar.template} has {len(template)} frames of {found[0]} x {found[1]}, the avatar is made for "
            f"{avatar.frame_count} of {described[0]} x {described[1]}: put the right film back"
        )
    return template


def render(avatar: Avatar, audio: Path, **options: Unpack[Options]) -> Generator[Frame, None, None]:
    """Make ``avatar`` say the sound of the file ``audio``, streamed; ``options`` are those of ``Renderer``.

    Memory does not grow with the length of the sound. Close the iterator (``contextlib.closing``) when it is left
    before its end.

    Raises:
        MediaError: the file holds no sound that can be read.
        LipwrightError: as ``Renderer``.
    """
    with SoundReader(audio) as sound, Renderer(avatar, sound.rate, sound.channels, **options) as renderer:
        yield from renderer.stream(sound)
