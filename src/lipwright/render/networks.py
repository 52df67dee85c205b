"""The two networks of an avatar, loaded once and shared by all that render it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from lipwright.avatar import Avatar
from lipwright.contract import FloatArray, UInt8Array
from lipwright.errors import AvatarError
from lipwright.runtimes import Precision, Redrawn, Runtime, open_float, open_runtime, redraw


@dataclass(frozen=True, slots=True)
class Networks:
    """Generator and audio encoder, ready to run. Several renderers may hold the same one."""

    generator: Runtime
    """Picture and window to the new ROI."""
    encoder: Runtime
    """Mel to feature."""

    @classmethod
    def open(cls, avatar: Avatar, runtime: str = "auto", precision: Precision = "auto", lanes: int = 1) -> Self:
        """Load both networks of ``avatar``.

        All arguments are the generator's: see ``open_runtime``. One lane gives the quickest single frame, as somebody
        who waits for it wants; ``all_lanes()`` the most frames a second. The encoder costs little and always runs
        alike, on one thread of the processor in float32: the features stay the same wherever the pictures are drawn.

        Raises:
            AvatarError: the avatar has no generator or no audio encoder.
            RuntimeUnavailableError: the runtime or precision that was asked for is not there.
        """
        generator = _present(avatar, avatar.generator, "generator", "lipwright train")
        encoder = _present(avatar, avatar.encoder, "audio encoder", "lipwright import with --audio-encoder")
        return cls(
            open_runtime(generator, "generator", runtime=runtime, precision=precision, lanes=lanes),
            open_runtime(encoder, "encoder", precision="f32", threads=1),
        )

    def hear(self, mel: FloatArray) -> FloatArray:
        """One mel slice [1, 80, 16] to one feature [512].

        One slice a call, always: the last bits of a matrix product depend on its size, and the feature of a frame must
        not depend on how many came with it.
        """
        feature: FloatArray = self.encoder.run(mel[np.newaxis])[0]
        return feature

    def redraw(self, rois: UInt8Array, windows: FloatArray) -> Redrawn:
        """ROIs [B, 320, 320, 3] uint8 BGR, each its own reference, with the mouths of windows [B, 32, 16, 16]."""
        return redraw(self.generator, rois, windows)

    def open_float(self) -> None:
        """Open what ``draw`` needs and ``redraw`` does not, if it is not there yet; from any thread."""
        open_float(self.generator)

    def draw(self, inputs: FloatArray, windows: FloatArray) -> FloatArray:
        """Inputs [B, 6, 320, 320], 0..1 BGR, and windows [B, 32, 16, 16] to the new ROIs [B, 3, 320, 320], 0..1 BGR."""
        return self.generator.run(inputs, windows)


def _present(avatar: Avatar, model: Path | None, what: str, remedy: str) -> Path:
    if model is None:
        raise AvatarError(f"{avatar.path} has no {what} and cannot speak: {remedy} adds one")
    return model
