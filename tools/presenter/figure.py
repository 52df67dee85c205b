"""One person's head in motion: from channel weights and a pose to positions in space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipwright.contract import FloatArray
from lipwright.errors import LipwrightError
from tools.presenter.arrays import BoolArray, IntArray
from tools.presenter.head import LOWER_LID, LOWER_LIP, SIDES, SKIN, UPPER_LID, UPPER_LIP, HeadModel
from tools.presenter.mesh import Surface, bent, normalised, rotation, smoothstep
from tools.presenter.person import Person

#: The joint of the neck about which the head turns, cm.
PIVOT = np.array([0, -7.5, -1.0], np.float32)
#: A tongue that the model does not have: its tip rises by this at full strength, cm.
_TONGUE_UP = np.array([0, 0.75, 0.25], np.float32)
TONGUE_UP = "tongueUp"
#: Below and beside these (cm, on the mean head) the model's own shoulders are hidden under the clothes.
_HIDDEN_BELOW, _HIDDEN_BESIDE = -9.5, 6.9
#: Below this nobody shows skin, even where a jumper's fold lies deeper than the chest.
_DRESSED_BELOW = -16.0


@dataclass(frozen=True)
class Pose:
    """Everything that moves, in one frame."""

    weights: FloatArray
    """[channels] strength of each channel."""
    gaze: FloatArray
    """[2] yaw (to the head's left) and pitch (down) of the eyes in the head, radians."""
    turn: FloatArray
    """[3] rotation vector of the head, radians."""
    shift: FloatArray
    """[3] the whole body, cm."""
    breath: float
    """0 out .. 1 in."""


@dataclass(frozen=True)
class Eye:
    """An eyeball at rest."""

    centre: FloatArray
    """[3] cm."""
    axis: FloatArray
    """[3] through the middle of the cornea."""
    vertices: BoolArray
    """[V] what turns with it."""


def fit_eye(points: FloatArray, moving: BoolArray) -> Eye:
    """Sphere through the white of the eye (least squares without the cornea's bulge); the axis goes to the bulge."""
    m = points.astype(np.float64)
    centre = (m.min(axis=0) + m.max(axis=0)) / 2
    radius = 0.0
    for _ in range(3):
        white = m[m[:, 2] < centre[2] + 1.15]
        solved = np.linalg.lstsq(np.c_[2 * white, np.ones(len(white))], (white**2).sum(axis=1), rcond=None)[0]
        centre = solved[:3]
        radius = float(np.sqrt(solved[3] + centre @ centre))
    distance = np.linalg.norm(m - centre, axis=1)
    bulge = (distance > (radius + distance.max()) / 2) & (m[:, 2] > centre[2])
    axis = (m[bulge] - centre).mean(axis=0) if bulge.any() else np.array([0, 0, 1.0])
    return Eye(centre.astype(np.float32), normalised(axis.astype(np.float32)), moving)


class Figure:
    """A head model with one person's face."""

    def __init__(self, head: HeadModel, person: Person) -> None:
        self.head, self.person = head, person
        strengths = np.asarray(person.identity, np.float32)
        if len(strengths) > len(head.identities):
            raise LipwrightError(
                f"{person.name} needs {len(strengths)} identities, the head model has {len(head.identities)}: "
                "convert it again with --identities 20"
            )
        self.rest = head.neutral + np.tensordot(strengths, head.identities[: len(strengths)], 1)
        self.surface = Surface(head.triangles, head.welded)
        self.channels = (*head.expression_names, TONGUE_UP)
        self._deltas = np.concatenate([head.expressions, self._tongue()[None]]).reshape(len(self.channels), -1)
        self.neck = smoothstep(-14.5, -7.0, self.rest[:, 1] + 0.25 * (self.rest[:, 2] - 2))
        self.eyes = {side: self._eye(side) for side in SIDES}

    def _tongue(self) -> FloatArray:
        """[V, 3] the tip and the front of the tongue rise; the gums, which are one mesh with it, do not."""
        x, y, z = np.abs(self.head.neutral[:, 0]), self.head.neutral[:, 1], self.head.neutral[:, 2]
        return (self.tongue * smoothstep(4.5, 8.5, z) * smoothstep(2.1, 1.2, x) * smoothstep(-5.4, -4.7, y))[
            :, None
        ] * _TONGUE_UP

    @property
    def tongue(self) -> FloatArray:
        """[V] 1 on the tongue, 0 on the gums."""
        x, y, z = np.abs(self.head.neutral[:, 0]), self.head.neutral[:, 1], self.head.neutral[:, 2]
        inside = smoothstep(2.2, 1.7, x) * smoothstep(-2.2, -2.8, y) * smoothstep(9.6, 9.0, z)
        return np.asarray(inside * self.head.vertices_of("gums_tongue"), dtype=np.float32)

    def _eye(self, side: str) -> Eye:
        white = self.head.vertices_of(f"sclera_{side}")
        return fit_eye(self.rest[white], white | self.head.vertices_of(f"iris_{side}"))

    @property
    def visible(self) -> BoolArray:
        """[T] triangles of the skin that no cloth hides."""
        middle = self.head.neutral[self.head.triangles].mean(axis=1)
        hidden = (middle[:, 1] < _HIDDEN_BELOW) & (np.abs(middle[:, 0]) > _HIDDEN_BESIDE)
        return np.asarray(self.head.triangles_of(*SKIN) & ~(hidden & self.head.triangles_of("face", "head_neck")))

    @property
    def bare(self) -> BoolArray:
        """[T] triangles of the skin that may be seen: the visible ones above the chest."""
        middle = self.head.neutral[self.head.triangles].mean(axis=1)
        chest = self.head.triangles_of("face", "head_neck") & (middle[:, 1] < _DRESSED_BELOW)
        return np.asarray(self.visible & ~chest)

    def vector(self, weights: dict[str, float]) -> FloatArray:
        """[channels] from names.

        Raises:
            LipwrightError: the head has no such channel.
        """
        unknown = set(weights) - set(self.channels)
        if unknown:
            raise LipwrightError(f"the head has no channels {sorted(unknown)}: use one made by convert_head")
        return np.array([weights.get(c, 0.0) for c in self.channels], np.float32)

    def shaped(self, pose: Pose) -> FloatArray:
        """[V, 3] expression and gaze, before the head turns."""
        points = self.rest + (pose.weights @ self._deltas).reshape(-1, 3)
        yaw, pitch = (rotation(v) for v in (np.array([0, pose.gaze[0], 0]), np.array([pose.gaze[1], 0, 0])))
        for eye in self.eyes.values():
            points[eye.vertices] = (points[eye.vertices] - eye.centre) @ (yaw @ pitch).T + eye.centre
        return np.asarray(points, dtype=np.float32)

    def posed(self, shaped: FloatArray, pose: Pose) -> FloatArray:
        """[V, 3] the same with the neck bent and the body shifted."""
        return np.asarray(bent(shaped, self.neck, pose.turn, PIVOT) + pose.shift, dtype=np.float32)

    def landmarks(self, pose: Pose) -> FloatArray:
        """[68, 3] in space."""
        points: IntArray = self.head.landmarks
        shaped = self.rest[points] + np.einsum("c,cvk->vk", pose.weights, self._deltas3[:, points])
        return np.asarray(bent(shaped, self.neck[points], pose.turn, PIVOT) + pose.shift, dtype=np.float32)

    def closing(self, side: str) -> float:
        """Strength of ``eyeBlink`` at which this person's lids of one side meet."""
        upper, lower = (self.head.landmarks[list(ids[side])] for ids in (UPPER_LID, LOWER_LID))
        rest = self.rest + (self.vector(dict(self.person.rest)) @ self._deltas).reshape(-1, 3)
        apart = float((rest[upper, 1] - rest[lower, 1]).mean())
        delta = self._deltas3[self.channels.index(f"eyeBlink_{side}")]
        closes = float((delta[lower, 1] - delta[upper, 1]).mean())
        return apart / closes if closes > 0 else 1.0

    @property
    def _deltas3(self) -> FloatArray:
        return self._deltas.reshape(len(self.channels), -1, 3)

    def lip_gap(self, weights: FloatArray) -> FloatArray:
        """[...] opening between the inner lips in cm for weights [..., channels]; it is linear in them."""
        upper, lower = (self.head.landmarks[list(ids)] for ids in (UPPER_LIP, LOWER_LIP))
        apart = self.rest[upper, 1] - self.rest[lower, 1]
        each = (self._deltas3[:, upper, 1] - self._deltas3[:, lower, 1]).mean(axis=1)
        return np.asarray(apart.mean() + weights @ each, dtype=np.float32)
