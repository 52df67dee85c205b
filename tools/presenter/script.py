"""The script of a clip on disk: who, where, and every frame's pose, computed beforehand.

NAME.json says who is filmed how and what is said; NAME.npz beside it holds the motion, NAME.wav the sound. Rendering
needs nothing else but the head model.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from lipwright.contract import FPS
from lipwright.errors import LipwrightError
from tools.presenter.camera import Camera
from tools.presenter.lens import Look
from tools.presenter.motion import Motion
from tools.presenter.person import Person
from tools.presenter.place import Place

_FORMAT = 1


@dataclass(frozen=True)
class Script(Motion):
    """A clip of N frames before it is filmed: what moves, who is seen where and how, and what is said."""

    name: str
    seed: int
    """Of the sensor's noise."""
    person: Person
    camera: Camera
    look: Look
    channels: tuple[str, ...]
    """Names of the columns of ``weights``."""
    phones: tuple[tuple[str, float, float], ...]
    """CMU symbol, start and end in seconds."""
    text: tuple[str, ...]
    place: Place = field(default_factory=Place)

    def cut(self, frames: range) -> Script:
        """A stretch of the clip as a clip of its own."""
        start, end = frames.start / FPS, frames.stop / FPS
        inside = ((s, max(a, start) - start, min(b, end) - start) for s, a, b in self.phones if a < end and b > start)
        return replace(self, phones=tuple(inside), **self.tracks(slice(frames.start, frames.stop)))

    def save(self, folder: Path) -> Path:
        """Write NAME.json and NAME.npz; returns the first."""
        folder.mkdir(parents=True, exist_ok=True)
        tracks = folder / f"{self.name}.npz"
        part = tracks.with_suffix(".part.npz")
        np.savez_compressed(part, allow_pickle=False, **self.tracks())
        part.replace(tracks)
        kept = ("name", "seed", "channels", "phones", "text")
        plain: dict[str, Any] = {"format": _FORMAT, "fps": FPS, **{n: getattr(self, n) for n in kept}}
        plain |= {n: asdict(getattr(self, n)) for n in ("person", "camera", "look")}
        if self.place != Place():
            plain["place"] = asdict(self.place)
        path = folder / f"{self.name}.json"
        written = path.with_suffix(".json.part")
        written.write_text(json.dumps(plain, indent=1), encoding="utf-8")
        written.replace(path)
        return path

    @classmethod
    def load(cls, path: Path) -> Script:
        """Read NAME.json with NAME.npz beside it.

        Raises:
            LipwrightError: a file is missing or of another format.
        """
        remedy = "write it with `python -m tools.presenter.make_script`"
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            with np.load(path.with_suffix(".npz")) as file:
                tracks = {track.name: file[track.name] for track in fields(Motion)}
        except FileNotFoundError as error:
            raise LipwrightError(f"{error.filename} is missing: {remedy}") from error
        except (ValueError, KeyError) as error:
            raise LipwrightError(f"{path} is no script ({error}): {remedy}") from error
        if plain.get("format") != _FORMAT:
            raise LipwrightError(f"{path} has format {plain.get('format')}, not {_FORMAT}: {remedy}")
        return cls(
            name=plain["name"],
            seed=plain["seed"],
            person=Person.from_json(plain["person"]),
            camera=Camera.from_json(plain["camera"]),
            look=Look(**plain["look"]),
            channels=tuple(plain["channels"]),
            phones=tuple((str(s), float(a), float(b)) for s, a, b in plain["phones"]),
            text=tuple(plain["text"]),
            place=Place.from_json(plain["place"]) if "place" in plain else Place(),
            **tracks,
        )


def digest(path: Path) -> str:
    """sha256 over both files of a script: what its frames belong to."""
    both = path.read_bytes() + path.with_suffix(".npz").read_bytes()
    return hashlib.sha256(both).hexdigest()
