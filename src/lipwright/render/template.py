"""The avatar's own film, frame by frame: which one has its turn, and its picture, in flat memory."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import chain, islice, pairwise
from pathlib import Path

import av
from av.error import FFmpegError

from lipwright.avatar import Avatar
from lipwright.closing import Closing
from lipwright.errors import LipwrightError, MediaError
from lipwright.libav import Damage, decoded, open_input
from lipwright.picture import BgrPicture, Picture, of_frame
from lipwright.video import Orientation, ToPicture, picture_stream

#: Memory for decoded frames: 97 of 720p, 43 of 1080p.
CACHE_BYTES = 128 * 2**20
#: Most frames of a chunk, which is decoded from its first frame on whatever is wanted of it.
CHUNK_FRAMES = 50


class Walk:
    """Which template frame has its turn: forwards and backwards through one segment, never a jump.

    ``walk(i)`` for i = 0, 1, 2 .. in a segment of n frames: 0 .. n-1, n-2 .. 1, 0, 1 .., counted from ``start``.

    Args:
        count: frames of the template.
        start: template frame of i = 0; the walk stays in the segment it lies in.
        segments: (first, stop) of the stretches without a cut; none: the whole template.

    Raises:
        LipwrightError: ``start`` is no frame of the template or lies in no segment.
    """

    def __init__(self, count: int, start: int = 0, segments: Sequence[tuple[int, int]] = ()) -> None:
        if not 0 <= start < count:
            raise LipwrightError(f"the template has the frames 0..{count - 1}: it cannot start at {start}")
        around = [(first, stop) for first, stop in segments or [(0, count)] if first <= start < stop]
        if not around:
            raise LipwrightError(f"template frame {start} lies in no segment without cuts: start at one of {segments}")
        self._first, stop = around[0]
        self._last = stop - 1 - self._first
        self._start = start - self._first

    @classmethod
    def of(cls, avatar: Avatar, start: int | None = None) -> Walk:
        """Through an avatar's template, from ``start`` or from where its manifest begins; raises as ``Walk`` does."""
        return cls(avatar.frame_count, avatar.manifest.start_frame if start is None else start, avatar.segments)

    def __call__(self, i: int) -> int:
        """The template frame of film frame ``i``."""
        position = (self._start + i) % max(2 * self._last, 1)
        return self._first + self._last - abs(self._last - position)


class Template(Closing):
    """Random access to the frames of a film by index; frame k is the k-th of the file.

    Frames are kept as the decoder gave them (a 4:2:0 picture needs half the memory of BGR), in chunks that begin at
    key frames where possible. A walk forwards decodes each frame when it has its turn; a walk backwards decodes, with
    each frame of a chunk, a share of what the chunk before it takes, from its key frame on, so that no frame waits for
    many. What lies beyond the segment that the walk is in is not decoded for it. The chunks used last stay, as many as
    fit into ``cache_bytes``; a short film stays whole.

    Not to be used by two threads at once.

    Args:
        path: the film.
        cache_bytes: memory for decoded frames.
        segments: as for ``Walk``.

    Raises:
        MediaError: the file cannot be read as a film; later, a frame cannot be decoded.
    """

    def __init__(self, path: Path, cache_bytes: int = CACHE_BYTES, segments: Sequence[tuple[int, int]] = ()) -> None:
        self._decoder = _Decoder(path)
        first = self._decoder.frame(0)
        orientation = Orientation.of(first)
        self._upright = orientation == Orientation()
        self._to_picture = ToPicture((first.width, first.height), orientation)
        self.height, self.width = self._to_picture(first).shape[:2]
        self._kept_frames = max(cache_bytes // sum(plane.buffer_size for plane in first.planes), 2)
        limit = min(CHUNK_FRAMES, self._kept_frames // 2)
        self._segments = [*segments, (0, len(self))]
        firsts = {first for first, _ in self._segments}
        self._starts = sorted(firsts.union(_chunk_starts(self._decoder.keys, len(self), limit)))
        self._chunks: OrderedDict[int, list[av.VideoFrame]] = OrderedDict()
        self._last = 0

    def __len__(self) -> int:
        return len(self._decoder)

    def frame(self, k: int) -> Picture:
        """Frame ``k``."""
        start = self._start_of(k)
        picture = self._picture(self._chunk(start, k + 1 - start)[k - start])
        first, stop = next((first, stop) for first, stop in self._segments if first <= k < stop)
        if k == self._last - 1 and start > first:
            self._read_behind(start, k)
        elif k == self._last + 1:
            self._read_ahead(start, k, stop)
        self._last = k
        return picture

    def close(self) -> None:
        self._chunks.clear()
        self._decoder.close()

    def _start_of(self, k: int) -> int:
        return self._starts[bisect_right(self._starts, k) - 1]

    def _chunk(self, start: int, count: int) -> list[av.VideoFrame]:
        """The chunk that begins at ``start``, with at least ``count`` frames decoded."""
        chunk = self._chunks.setdefault(start, [])
        self._chunks.move_to_end(start)
        while len(chunk) < count:
            self._make_room()
            chunk.append(self._decoder.frame(start + len(chunk)))
        return chunk

    def _read_behind(self, start: int, k: int) -> None:
        """Decode of the chunk before ``start`` as much as a walk that has come down to ``k`` must with each frame."""
        before = self._start_of(start - 1)
        ready = len(self._chunks.get(before, []))
        wanted = before + ready
        if wanted < start:
            share = -(-(self._decoder.way_to(wanted) + start - wanted) // (k - start + 1))
            self._chunk(before, ready + share - self._decoder.approach(wanted, share))

    def _read_ahead(self, start: int, k: int, stop: int) -> None:
        """Bring the decoder back, which a walk backwards has left elsewhere, before the chunk after this one begins."""
        following = self._starts[bisect_right(self._starts, k)] if start < self._starts[-1] else len(self)
        wanted = following + len(self._chunks.get(following, []))
        whole = len(self._chunks[start]) == following - start
        if whole and wanted < stop:
            self._decoder.approach(wanted, -(-self._decoder.way_to(wanted) // (following - k)))

    def _picture(self, frame: av.VideoFrame) -> Picture:
        """As it is stored where that needs no turning and is our kind of YUV."""
        stored = of_frame(frame) if self._upright else None
        return stored or BgrPicture(self._to_picture(frame))

    def _make_room(self) -> None:
        """Let go of the chunks that were not used for longest; the newest, which is being filled, stays."""
        while len(self._chunks) > 1 and sum(map(len, self._chunks.values())) >= self._kept_frames:
            self._chunks.popitem(last=False)


def _chunk_starts(keys: Sequence[int], count: int, limit: int) -> list[int]:
    """Where to cut a film of ``count`` frames into chunks of at most ``limit``: at key frames where possible.

    What is too long between two of them is cut evenly: a short chunk leaves little time to decode the one before it.
    """
    starts = [0]
    for key, following in pairwise([*keys, count]):
        pieces = -(-(following - key) // limit)
        while following - starts[-1] > limit:
            starts.append(key if key > starts[-1] else starts[-1] - (key - following) // pieces)
    return starts


class _Decoder:
    """Decodes any frame of a film; quickly if it lies shortly behind the last one or behind a key frame."""

    def __init__(self, path: Path) -> None:
        self._damage = Damage(path)
        self._container = open_input(path)
        self._stream = picture_stream(self._container, path)
        self._times, self.keys = self._scan()
        self._index = {time: k for k, time in enumerate(self._times)}
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._next = len(self._times)

    def __len__(self) -> int:
        return len(self._times)

    def frame(self, k: int) -> av.VideoFrame:
        """Frame ``k`` as the decoder gives it."""
        if not self._near(k):
            self._restart(k)
        for frame in self._frames:
            self._next = self._position(frame) + 1
            if self._next > k:
                break
        if self._next != k + 1:
            raise self._lost(k)
        return frame

    def way_to(self, k: int) -> int:
        """How many frames must be decoded before frame ``k``."""
        return k - (self._next if self._near(k) else self._key_before(k))

    def approach(self, k: int, most: int) -> int:
        """Decode at most ``most`` frames on the way to frame ``k``; how many there were."""
        if not self._near(k):
            self._restart(k)
        count = min(most, k - self._next)
        for frame in islice(self._frames, count):
            self._next = self._position(frame) + 1
        return count

    def close(self) -> None:
        self._container.close()

    def _near(self, k: int) -> bool:
        """Whether going on is the shortest way to frame ``k``."""
        return self._key_before(k) <= self._next <= k

    def _scan(self) -> tuple[list[int], list[int]]:
        """Time stamps of all frames in the order they are shown, and which of them are key frames."""
        try:
            shown = sorted(
                (packet.pts, packet.is_keyframe)
                for packet in self._container.demux(self._stream)
                if packet.pts is not None and not packet.is_discard
            )
        except FFmpegError as error:
            raise MediaError(f"{self._damage.path} is cut short or damaged: copy it again") from error
        if not shown:
            raise MediaError(f"{self._damage.path} holds no frame with a time stamp: convert it to MP4")
        # Whatever the file says of its first frame, there is nothing before it to begin from.
        keys = [k for k, (_, is_key) in enumerate(shown) if is_key or k == 0]
        return [time for time, _ in shown], keys

    def _restart(self, k: int) -> None:
        """Begin again at the last key frame from which ``k`` is reached: some containers seek past their mark."""
        for key in reversed(self.keys[: bisect_right(self.keys, k)]):
            self._seek(self._times[key])
            frames = decoded(self._container, self._stream, self._damage)
            first = next(frames, None)
            if first is not None and self._position(first) <= k:
                self._frames, self._next = chain([first], frames), self._position(first)
                return
        raise self._lost(k)

    def _seek(self, time: int) -> None:
        try:
            self._container.seek(time, stream=self._stream)
        except FFmpegError as error:
            raise MediaError(f"{self._damage.path} cannot be searched: convert it to MP4") from error

    def _key_before(self, k: int) -> int:
        return self.keys[bisect_right(self.keys, k) - 1]

    def _position(self, frame: av.VideoFrame) -> int:
        """The index of a decoded frame; one with an unknown time stamp is taken for the next."""
        return self._next if frame.pts is None else self._index.get(frame.pts, self._next)

    def _lost(self, k: int) -> MediaError:
        return MediaError(f"{self._damage.path}: frame {k} cannot be decoded: the film is damaged, copy it again")
