"""The long walk over a film: who is where in every picture, what the pictures look like, and the template.

It goes in pieces of ``PIECE_FRAMES``. Each piece leaves a film and an array file behind, written under another name
and renamed when whole, so that a walk killed at any moment goes on with the next piece and ends with the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from lipwright.contract import FloatArray, UInt8Array
from lipwright.digest import known_sha256
from lipwright.durable import take_name
from lipwright.errors import AvatarError
from lipwright.face import MESH_POINTS, Face, FaceFinder
from lipwright.prepare.footage import FilmReader
from lipwright.prepare.looks import Looks, thumbnail
from lipwright.prepare.template import PIECE_FRAMES, encode

IntArray = npt.NDArray[np.int32]
Arrays = dict[str, npt.NDArray[Any]]

#: Faces followed at the same time; further ones are not looked at.
MAX_FACES = 4
#: New faces are looked for every so many frames, and in every frame while there is none.
SEARCH_EVERY = 10
#: Mean step of a thumbnail, in grey levels, after which no face is taken to be where it was.
JUMP = 8.0
#: A face nearer to another than this, in sizes of the larger one, is the same face.
SAME_PLACE = 0.5
#: Counted up when what a piece holds changes: pieces of another version are made anew.
VERSION = 3
#: Says in a work folder which film its pieces are of.
_NOTE = "job.json"


@dataclass(frozen=True)
class Seen:
    """What was seen in N pictures, with M sightings of faces in them."""

    thumbs: UInt8Array
    """[N, 18, 32, 3] BGR: the pictures, tiny."""
    frame: IntArray
    """[M] in which picture, rising."""
    slot: IntArray
    """[M] which face, 0..MAX_FACES - 1; a number keeps its face between two cuts only."""
    landmarks: FloatArray
    """[M, 468, 3] in pixels."""
    looks: FloatArray
    """[M, 4] the fields of ``Looks``: sharpness, burnt-out share, brightness, redness of the lips."""

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Pieces one after the other as one."""
        starts = np.cumsum([0, *(len(part.thumbs) for part in parts[:-1])])
        moved = [part.frame + start for part, start in zip(parts, starts, strict=True)]
        rest = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)}
        return cls(**{**rest, "frame": np.concatenate(moved).astype(np.int32)})


class Follower:
    """Follows up to ``MAX_FACES`` faces from picture to picture.

    A face keeps its number while it is followed, and gets it back when it appears again where it was last seen.
    """

    def __init__(self, finder: FaceFinder) -> None:
        self._finder = finder
        self._last: dict[int, Face] = {}
        self._here: list[int] = []
        self._wait = 0
        self._thumb: UInt8Array | None = None

    def follow(self, frame: UInt8Array, thumb: UInt8Array) -> dict[int, Face]:
        """The faces of the next picture ([H, W, 3] BGR) by number."""
        jumped = self._thumb is None or picture_step(self._thumb, thumb) > JUMP
        self._thumb = thumb
        faces = {} if jumped else self._tracked(frame)
        self._wait -= 1
        if not faces or len(faces) < len(self._here) or self._wait <= 0:
            self._wait = SEARCH_EVERY
            self._add_new(faces, self._finder.find(frame))
        self._last |= faces
        self._here = sorted(faces)
        return faces

    def _tracked(self, frame: UInt8Array) -> dict[int, Face]:
        """The faces of the last picture that are still there; of two that became one, the first."""
        faces: dict[int, Face] = {}
        for slot in self._here:
            face = self._finder.track(frame, self._last[slot])
            if face and not any(_same_place(face, other) for other in faces.values()):
                faces[slot] = face
        return faces

    def _add_new(self, faces: dict[int, Face], found: Iterable[Face]) -> None:
        for face in found:
            if not any(_same_place(face, other) for other in faces.values()):
                slot = self._free_slot(face, faces)
                if slot is not None:
                    faces[slot] = face

    def _free_slot(self, face: Face, taken: dict[int, Face]) -> int | None:
        """The number of a face last seen in this place, else one never used, else any that is free."""
        free = [slot for slot in range(MAX_FACES) if slot not in taken]
        known = [slot for slot in free if slot in self._last and _same_place(face, self._last[slot])]
        unused = [slot for slot in free if slot not in self._last]
        return next(iter(known + unused + free), None)

    def state(self) -> Arrays:
        """All it remembers, as arrays."""
        slots = sorted(self._last)
        points = [self._last[slot].landmarks for slot in slots]
        return {
            "slots": np.array(slots, np.int32),
            "points": np.array(points, np.float32).reshape(-1, MESH_POINTS, 3),
            "scores": np.array([self._last[slot].score for slot in slots], np.float64),
            "here": np.array(self._here, np.int32),
            "wait": np.array(self._wait),
            "thumb": np.zeros(0, np.uint8) if self._thumb is None else self._thumb,
        }

    def restore(self, state: Arrays) -> None:
        """Remember what ``state`` gave."""
        faces = zip(state["slots"].tolist(), state["points"], state["scores"].tolist(), strict=True)
        self._last = {slot: Face(points.astype(np.float32), score) for slot, points, score in faces}
        self._here = state["here"].tolist()
        self._wait = int(state["wait"].item())
        self._thumb = state["thumb"].astype(np.uint8) if state["thumb"].size else None


def picture_step(a: UInt8Array, b: UInt8Array) -> float:
    """Mean absolute difference of two thumbnails in grey levels."""
    return float(np.abs(a.astype(np.int16) - b).mean())


def _same_place(a: Face, b: Face) -> bool:
    (ax, ay), (bx, by) = _centre(a), _centre(b)
    return math.hypot(ax - bx, ay - by) < SAME_PLACE * max(a.size, b.size)


def _centre(face: Face) -> tuple[float, float]:
    x1, y1, x2, y2 = face.box
    return (x1 + x2) / 2, (y1 + y2) / 2


def is_work_folder(folder: Path) -> bool:
    """Whether ``Pieces`` wrote there before, and nobody else."""
    return (folder / _NOTE).is_file()


class Pieces:
    """The folder in which the walk leaves its pieces.

    Args:
        folder: made if it is not there. Pieces of another film, or of another version of this walk, are removed.
        video: the film that is walked over.

    Raises:
        AvatarError: the folder holds something else: it will be removed in the end, and nobody's files with it.
    """

    def __init__(self, folder: Path, video: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        job = fingerprint(video)
        note = folder / _NOTE
        if not is_work_folder(folder) and any(not path.name.startswith("part-") for path in folder.iterdir()):
            raise AvatarError(f"{folder} is needed for the pieces of the film, but holds other files: move it away")
        if not note.is_file() or note.read_text(encoding="utf-8") != job:
            for old in folder.glob("piece-*"):
                old.unlink()
            write_atomically(note, lambda part: part.write_text(job, encoding="utf-8"))

    def done(self) -> int:
        """How many pieces are whole, counted from the first."""
        return next(k for k in count() if not self._arrays(k).is_file())

    def film(self, piece: int) -> Path:
        """The film of a piece; there is one if the piece is whole."""
        return self._folder / f"piece-{piece:05d}.mp4"

    def _arrays(self, piece: int) -> Path:
        return self._folder / f"piece-{piece:05d}.npz"

    def write(self, piece: int, pictures: Iterable[UInt8Array], seen: Callable[[], Arrays]) -> None:
        """Encode the pictures; then write what ``seen`` says of them, which makes the piece whole."""
        write_atomically(self.film(piece), lambda part: encode(pictures, part))
        write_atomically(self._arrays(piece), lambda part: np.savez(part, allow_pickle=False, **seen()))

    def read(self, piece: int) -> tuple[Seen, Arrays]:
        """What was seen in a piece, and the follower's state at its end."""
        with np.load(self._arrays(piece)) as data:
            arrays = {name: data[name] for name in data.files}
        own = {f.name for f in fields(Seen)}
        return Seen(**{name: arrays[name] for name in own}), {n: v for n, v in arrays.items() if n not in own}


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file beside ``path`` with the same suffix, then give it its name when it is on the disk.

    Raises:
        AvatarError: the disk refuses.
    """
    part = path.with_name(f"part-{path.name}")
    try:
        write(part)
        take_name(part, path)
    except OSError as error:
        raise AvatarError(
            f"{path} cannot be written ({error.strerror or error}): free some space or choose another folder, and call "
            "again: it goes on where it was"
        ) from error


def fingerprint(video: Path) -> str:
    """What tells one film, as this version looks at it, from another, whatever it is called and wherever it lies."""
    return f"{VERSION} {known_sha256(video)}"


def walk(video: Path, pieces: Pieces, tell: Callable[[int, int | None], None]) -> Seen:
    """Look at every picture of ``video``, going on where an earlier walk over ``pieces`` was stopped.

    Args:
        video: the film.
        pieces: where to leave what is done.
        tell: called at the start and after every piece with the frames done, and in all if the file says so.

    Raises:
        MediaError: the film cannot be read.
    """
    done = pieces.done()
    follower = Follower(FaceFinder())
    if done:
        follower.restore(pieces.read(done - 1)[1])
    with FilmReader(video) as film:
        frames = film.read(done * PIECE_FRAMES)
        tell(done * PIECE_FRAMES, film.frames)
        for piece in count(done):
            first = next(frames, None)
            if first is None:
                break
            length = _walk_piece(pieces, piece, chain([first], islice(frames, PIECE_FRAMES - 1)), follower)
            tell(piece * PIECE_FRAMES + length, film.frames)
    return Seen.joined([pieces.read(piece)[0] for piece in range(pieces.done())])


def _walk_piece(pieces: Pieces, piece: int, frames: Iterable[UInt8Array], follower: Follower) -> int:
    """Look at the pictures of one piece; returns how many there were."""
    thumbs: list[UInt8Array] = []
    sightings: list[tuple[int, int, Face, Looks]] = []

    def watched() -> Iterator[UInt8Array]:
        """The pictures on their way to the encoder, each looked at."""
        for index, frame in enumerate(frames):
            thumbs.append(thumbnail(frame))
            for slot, face in sorted(follower.follow(frame, thumbs[-1]).items()):
                sightings.append((index, slot, face, Looks.of(frame, face.landmarks)))
            yield frame

    pieces.write(piece, watched(), lambda: _arrays(thumbs, sightings) | follower.state())
    return len(thumbs)


def _arrays(thumbs: Sequence[UInt8Array], sightings: Sequence[tuple[int, int, Face, Looks]]) -> Arrays:
    """The fields of ``Seen``."""
    return {
        "thumbs": np.stack(thumbs),
        "frame": np.array([index for index, *_ in sightings], np.int32),
        "slot": np.array([slot for _, slot, *_ in sightings], np.int32),
        "landmarks": np.array([face.landmarks for _, _, face, *_ in sightings], np.float32).reshape(-1, MESH_POINTS, 3),
        "looks": np.array([looks.values() for *_, looks in sightings], np.float32).reshape(-1, 4),
    }
