"""What is known about a clip because it was made: where the landmarks are and how far the lips are apart."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lipwright.contract import FPS, FloatArray
from lipwright.errors import LipwrightError
from tools.presenter.figure import Figure
from tools.presenter.script import Script


@dataclass(frozen=True)
class Truth:
    """N frames."""

    landmarks: FloatArray
    """[N, 68, 2] pixels, x to the right and y down from the upper left corner of the picture."""
    lip_gap: FloatArray
    """[N] opening between the inner lips in space, cm."""

    @classmethod
    def of(cls, figure: Figure, script: Script) -> Truth:
        """Project what the script says.

        Raises:
            LipwrightError: the script was written for another head model.
        """
        if figure.channels != script.channels:
            raise LipwrightError(f"{script.name} was written for another head model: write the script again")
        points = [script.camera.project(figure.landmarks(script.pose(k))) for k in range(script.frames)]
        return cls(np.stack(points).astype(np.float32), figure.lip_gap(script.weights))

    def save(self, stem: Path, script: Script) -> None:
        """Write STEM_truth.npz and STEM_truth.json, as ``film`` reads them."""
        arrays = Path(f"{stem}_truth.npz")
        part = arrays.with_suffix(".part.npz")
        np.savez_compressed(part, allow_pickle=False, landmarks68=self.landmarks, lip_gap=self.lip_gap)
        part.replace(arrays)
        spoken = {"fps": FPS, "text": script.text, "phones": script.phones, "person": script.person.name}
        written = Path(f"{stem}_truth.json.part")
        written.write_text(json.dumps(spoken, indent=1), encoding="utf-8")
        written.replace(Path(f"{stem}_truth.json"))
