"""Light that arrives at the vertices: every light's shadow, then what skin does to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lipwright.contract import FloatArray
from tools.presenter import gl
from tools.presenter.arrays import IntArray, f32
from tools.presenter.camera import look_at
from tools.presenter.lights import Lights
from tools.presenter.mesh import Surface

if TYPE_CHECKING:
    import moderngl

_DEPTH_MAP = 256
"""Pixels of each light's shadow map."""
#: The lit ball: its middle and radius, how far off the lights' cameras stand and how deep they see (cm).
_MIDDLE, _RADIUS, _DISTANCE, _DEPTH = f32([0, -4, 0]), 25.0, 60.0, 45.0
#: How light spreads in skin before it leaves: steps over the mesh, and the share that leaves after each, by colour.
_SPREAD = (
    (0, (0.20, 0.44, 0.58)),
    (1, (0.00, 0.00, 0.32)),
    (2, (0.18, 0.32, 0.10)),
    (5, (0.25, 0.24, 0.0)),
    (11, (0.37, 0.0, 0.0)),
)


@dataclass(frozen=True)
class Received:
    """What V vertices receive."""

    irradiance: FloatArray
    """[V, 3] linear."""
    seen: FloatArray
    """[V, 4] 0..1 share of key, fill, rim and room that is not in shadow."""
    mean: FloatArray
    """[V, 3] direction most light comes from."""


def _light_views(lights: Lights) -> FloatArray:
    """[n, 4, 4] world -> clip of an orthographic camera at each light."""
    box = np.diag(f32([1 / _RADIUS, 1 / _RADIUS, -1 / _DEPTH, 1]))
    box[2, 3] = -_DISTANCE / _DEPTH
    views = []
    for d in lights.direction:
        up = f32([0, 1, 0] if abs(d[1]) < 0.95 else [1, 0, 0])
        views.append(box @ look_at(_MIDDLE + d * _DISTANCE, _MIDDLE, up))
    return f32(views)


class Illumination:
    """Shadow maps of all lights in one atlas, gathered at every vertex.

    Args:
        occluders: [T, 3] triangles that throw shadows.
        count: V, number of vertices.
    """

    def __init__(self, context: moderngl.Context, lights: Lights, occluders: IntArray, count: int) -> None:
        self.context, n = context, len(lights.direction)
        self.across = int(np.ceil(np.sqrt(n)))
        down = -(-n // self.across)
        self.views = _light_views(lights)
        self.positions, self.normals = (context.buffer(reserve=count * 12) for _ in range(2))
        self.atlas = context.depth_texture((self.across * _DEPTH_MAP, down * _DEPTH_MAP))
        self.atlas.compare_func = "<="
        self.frame = context.framebuffer(depth_attachment=self.atlas)
        self.depth = gl.program(context, "depth.vert", "depth.frag")
        corners = context.buffer(occluders.astype("i4").tobytes())
        self.shapes = context.vertex_array(self.depth, [(self.positions, "3f", "pos")], corners)
        self.gather = gl.transform(context, "gather.vert", ["irradiance", "seen", "mean"], {"COUNT": n})
        gl.assign(self.gather, view=self.views, direction=lights.direction, colour=lights.colour, group=lights.group)
        gl.assign(self.gather, tiles=(self.across, down), atlas=0)
        both = [(self.positions, "3f", "pos"), (self.normals, "3f", "nrm")]
        self.vertices, self.count = context.vertex_array(self.gather, both), count
        self.found = context.buffer(reserve=count * 40)

    def receive(self, positions: FloatArray, normals: FloatArray) -> Received:
        """Light at vertices [V, 3]."""
        self.positions.write(positions.astype("f4").tobytes())
        self.normals.write(normals.astype("f4").tobytes())
        self.context.enable_only(self.context.DEPTH_TEST)
        self.frame.use()
        self.frame.clear(depth=1.0)
        for k, view in enumerate(self.views):
            corner = (k % self.across) * _DEPTH_MAP, (k // self.across) * _DEPTH_MAP
            self.frame.viewport = (*corner, _DEPTH_MAP, _DEPTH_MAP)
            gl.assign(self.depth, view=view)
            self.shapes.render()
        self.atlas.use(0)
        self.vertices.transform(self.found, self.context.POINTS, self.count)
        values = np.frombuffer(self.found.read(), "f4").reshape(-1, 10)
        return Received(values[:, :3].copy(), values[:, 3:7].copy(), values[:, 7:].copy())


def scattered(surface: Surface, irradiance: FloatArray) -> FloatArray:
    """Light after its way through skin: red spreads over centimetres, blue hardly. [V, 3] -> [V, 3]."""
    light, step = irradiance[surface.first], 0
    found = np.zeros_like(light)
    for after, share in _SPREAD:
        for _ in range(after - step):
            light = surface.spread(light)
        step = after
        found += light * f32(share)
    return np.asarray(found[surface.welded])
