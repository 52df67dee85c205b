"""The template film: encoded in pieces, to the same bytes every time, and joined without encoding again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

import av

from lipwright.avatar.films import write_pictures
from lipwright.contract import FPS, UInt8Array
from lipwright.video import KEYFRAME_INTERVAL

#: Frames of a piece. Each begins with a key frame, and the template needs one that often.
PIECE_FRAMES = KEYFRAME_INTERVAL
#: x264: no difference to be seen (47.5 dB on the presenter), at a third of the time that its preset "medium" takes.
#: Without ``cpu-independent`` the same pictures may give other bytes, from one call to the next on one machine.
_X264 = {"crf": "14", "preset": "veryfast", "x264-params": "cpu-independent=1"}
#: The bytes depend on the number of threads, which would be the machine's; and they work on pictures of their own
#: ("FRAME"), because slices cost quality.
_THREADS = 4


def encode(pictures: Iterable[UInt8Array], out: Path) -> None:
    """Make a silent 25 fps H.264 film of at least one picture [H, W, 3] BGR; odd sizes stay odd (4:4:4)."""
    with av.open(f"file:{out}", "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options=_X264)
        stream.codec_context.thread_type, stream.codec_context.thread_count = "FRAME", _THREADS
        write_pictures(container, stream, pictures)


def join(pieces: Sequence[Path], out: Path) -> None:
    """Put the films of all pieces one behind the other, without encoding again."""
    with av.open(f"file:{out}", "w", format="mp4", options={"movflags": "faststart"}) as target:
        stream = None
        order = count()
        for number, piece in enumerate(pieces):
            with av.open(f"file:{piece}") as source:
                video = source.streams.video[0]
                assert video.time_base is not None
                tick = round(1 / (FPS * video.time_base))
                for packet in source.demux(video):
                    if packet.pts is None or packet.dts is None:  # the empty one that ends the stream
                        continue
                    if stream is None:
                        stream = target.add_stream_from_template(video)
                        # How far decoding runs ahead of showing. A piece of one or two pictures has no such lead of
                        # its own; by the first piece's, decoding times stay evenly spaced, and the rate exact.
                        lead = packet.dts
                    packet.pts += number * PIECE_FRAMES * tick
                    packet.dts = lead + next(order) * tick
                    packet.stream = stream
                    target.mux(packet)
