"""A person in a room: everything that is made once and then filmed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipwright.contract import FloatArray
from tools.presenter.arrays import f32
from tools.presenter.clothes import Clothes, jumper
from tools.presenter.colour import linear
from tools.presenter.figure import Figure
from tools.presenter.hair import brows, past_hairline, scalp_hair
from tools.presenter.head import SKIN, HeadModel
from tools.presenter.mesh import smoothstep
from tools.presenter.noise import Noise
from tools.presenter.person import Person
from tools.presenter.strands import Lashes, Strands, lashes

_TOOTH, _GUM, _TONGUE = (0.86, 0.82, 0.745), (0.68, 0.36, 0.35), (0.70, 0.36, 0.355)
#: What a vertex of the mouth is made of, as the shader counts.
TOOTH, GUM, TONGUE = 0.0, 1.0, 2.0
_CAVITY_CM = 0.035
"""Below its surroundings by this much, a place between teeth is fully dark."""


@dataclass(frozen=True)
class Scene:
    """A person, dressed and combed."""

    figure: Figure
    clothes: Clothes
    strands: Strands
    lashes: Lashes
    tint: FloatArray
    """[V, 3] linear colour of the parts that have no texture."""
    matter: FloatArray
    """[V, 2] of the mouth: tooth, gum or tongue, and cavity 0..1; of the lids' shadow: 1 at the rim."""
    depth: FloatArray
    """[V] 0..1 how much light reaches the inside of the mouth; 1 everywhere else."""
    open: FloatArray
    """[V] 0..1 how much light the hair lets through to the skin; 1 on bare skin."""
    noise: Noise

    @classmethod
    def of(cls, head: HeadModel, person: Person) -> Scene:
        """Grow, dress and colour the person; the same for the same seed."""
        figure, noise = Figure(head, person), Noise(person.seed)
        rng = np.random.default_rng(person.seed)
        strands = Strands.join([scalp_hair(rng, figure, noise), *brows(rng, figure, noise)])
        tint, matter, depth = _mouth(figure, noise)
        hidden = smoothstep(-2.0, 0.4, past_hairline(figure, noise, head.neutral)) * head.vertices_of(*SKIN)
        return cls(
            figure, jumper(figure, noise), strands, lashes(rng, figure), tint, matter, depth, 1 - 0.9 * hidden, noise
        )


def _mouth(figure: Figure, noise: Noise) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Tint, matter and depth of all vertices."""
    head, place = figure.head, figure.head.neutral
    teeth, soft = head.vertices_of("teeth"), head.vertices_of("gums_tongue")
    tongue = figure.tongue > 0.5
    tint = np.ones_like(place)
    y, z = place[:, 1], place[:, 2]
    upper = y > -3.3
    root = np.where(upper, smoothstep(-2.1, -1.2, y), smoothstep(-4.7, -5.4, y))
    enamel = linear(_TOOTH) * (1 + 0.14 * (noise.at(place, 2.0) - 0.5))[:, None]
    yellow = 1 - root[:, None] * f32([0.14, 0.26, 0.42])
    back = 1 - 0.40 * smoothstep(9.6, 6.5, z)[:, None]
    tint[teeth] = (enamel * yellow * back)[teeth]
    flesh = np.where(tongue[:, None], linear(_TONGUE), linear(_GUM)) * (1 + 0.3 * (noise.at(place, 2.0) - 0.5))[:, None]
    tint[soft] = flesh[soft]
    matter = np.zeros((len(place), 2), np.float32)
    matter[soft, 0] = np.where(tongue, TONGUE, GUM)[soft]
    cavity = smoothstep(0, _CAVITY_CM, figure.surface.cavity(figure.rest, 3))
    matter[teeth, 1] = cavity[teeth]
    for side in ("L", "R"):
        part = f"eye_occl_{side}"
        rim = figure.surface.boundary(head.triangles_of(part)) & head.vertices_of(part)
        matter[rim, 0] = 1
    lit = 0.10 + 0.90 * smoothstep(5.5, 10.4, z + 0.06 * np.abs(place[:, 0]) ** 1.6)
    depth = np.where(teeth | soft, lit, 1).astype(np.float32)
    return tint.astype(np.float32), matter, depth
