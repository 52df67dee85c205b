"""A user's film as the networks want it: whole pictures, no woven half ones; standard colours; square pixels.

Cameras and television store two half pictures, 20 ms apart, in one (interlacing): whatever moves has combs, lips before
all. Telephones film in HDR, whose numbers mean other colours. Camcorders (HDV, AVCHD, DV) store pictures narrower than
they are to be shown: a face would be squeezed. All three are put right by FFmpeg's own filters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
from av.filter import Graph
from av.video.stream import VideoStream

from lipwright.video import HDR, VideoReader

#: Every half picture becomes a whole one at its own time; those that are whole already pass as they are.
_WEAVE = ("bwdif", "mode=send_field:deint=interlaced")
#: To BT.709 by the light that the numbers stand for. HDR's white (203 cd/m2) becomes white; brighter light is cut off.
_STANDARD = (
    (
        "scale",
        "out_primaries=bt709:out_transfer=bt709:out_color_matrix=bt709:out_range=tv:intent=relative_colorimetric",
    ),
    ("format", "yuv420p"),
)


class FilmReader(VideoReader):
    """A film as 25 pictures a second, like `VideoReader`, without combs, in BT.709 and in square pixels."""

    def _size_of(self, stream: VideoStream, first: av.VideoFrame) -> tuple[int, int]:
        return square_size(first.width, first.height, stream.sample_aspect_ratio)

    def _judge_colours(self, first: av.VideoFrame) -> None:
        """Whatever they are, they are put right."""

    def _timed(
        self, frames: Iterable[av.VideoFrame], origin: Fraction
    ) -> Iterator[tuple[Fraction, Fraction, av.VideoFrame]]:
        return super()._timed(scaled(in_standard_colours(progressive(frames)), self._size), origin)


def square_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Even width and height in square pixels of a picture stored in others, ``aspect`` times as wide as high.

    The side that is short of pixels grows, so that none is lost. Nothing changes where the file does not say.
    """
    if not aspect or aspect == 1:
        return width, height
    return (_even(width * aspect), height) if aspect > 1 else (width, _even(height / aspect))


def _even(side: Fraction) -> int:
    return 2 * round(side / 2)


def progressive(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """The frames in order; each interlaced one becomes two whole ones, one for each half and at its time."""
    weave: _Filters | None = None
    for frame in frames:
        if weave is None and frame.interlaced_frame:
            weave = _Filters(_WEAVE)
        if weave is None:
            yield frame
        else:
            yield from weave.push(frame)
    if weave is not None:
        yield from weave.flush()


def in_standard_colours(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """The frames in order; HDR ones (HLG and PQ) as 8-bit BT.709."""
    convert = _Filters(*_STANDARD)
    for frame in frames:
        if frame.color_trc in HDR:
            yield from convert.push(frame)
        else:
            yield frame


def scaled(frames: Iterable[av.VideoFrame], size: tuple[int, int]) -> Iterator[av.VideoFrame]:
    """The frames in order, as wide and high as ``size``; those that are so already pass as they are."""
    stretch = _Filters(("scale", f"{size[0]}:{size[1]}:flags=bicubic"))
    for frame in frames:
        if (frame.width, frame.height) == size:
            yield frame
        else:
            yield from stretch.push(frame)


class _Filters:
    """A chain of FFmpeg's filters, set up for the frames that come."""

    def __init__(self, *chain: tuple[str, str]) -> None:
        """``chain``: names of filters with their options, in order."""
        self._chain = chain
        self._kind: tuple[int, int, str] | None = None
        self._graph = Graph()

    def push(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """What is ready after one more frame; a frame of another size or format begins a new chain."""
        kind = (frame.width, frame.height, frame.format.name)
        if kind != self._kind:
            yield from self.flush()
            self._graph, self._kind = self._configured(frame), kind
        self._graph.vpush(frame)
        yield from self._ready()

    def flush(self) -> Iterator[av.VideoFrame]:
        """The rest."""
        if self._kind is not None:
            self._graph.vpush(None)
            yield from self._ready()

    def _configured(self, frame: av.VideoFrame) -> Graph:
        graph = Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        chain = [graph.add(name, options) for name, options in self._chain]
        graph.link_nodes(source, *chain, graph.add("buffersink")).configure()
        return graph

    def _ready(self) -> Iterator[av.VideoFrame]:
        while True:
            try:
                yield self._graph.vpull()
            except (BlockingIOError, EOFError):
                return
