"""The skin's textures, made once for a person: colour, relief, gloss, and the folds that expressions bring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lipwright.contract import FloatArray
from tools.presenter import gl
from tools.presenter.arrays import BoolArray, f32
from tools.presenter.colour import linear
from tools.presenter.figure import Figure
from tools.presenter.hair import brow_density, curve, past_hairline
from tools.presenter.head import SKIN
from tools.presenter.noise import Noise

if TYPE_CHECKING:
    import moderngl

#: Pixels of the texture tiles: the face, and neck, scalp and ears.
TILES = (2048, 1024)
#: Landmarks of the outer lips: upper from corner to corner, lower back.
_UPPER_RIM, _LOWER_RIM = list(range(48, 55)), [*range(54, 60), 48]
#: Freckles lie in this part of the face's tile: u, v, width, height.
_FRECKLED = (0.1, 0.15, 0.8, 0.75)
#: Distances from the lips' rim are told in these parts of the tile's width.
_PARTS = 1000


@dataclass(frozen=True)
class SkinTextures:
    """One texture for each tile: [albedo], [relief: height, lips, gloss], [wrinkle: four folds]."""

    albedo: list[moderngl.Texture]
    relief: list[moderngl.Texture]
    wrinkle: list[moderngl.Texture]


def lip_rim(figure: Figure) -> FloatArray:
    """[n, 2] the lips' outer rim in texture coordinates of the face's tile."""
    head = figure.head
    face = head.vertices_of("face")[head.position_of] & (head.uv[:, 0] < 1)
    vertex_of = np.zeros(len(head.neutral), np.int64)
    vertex_of[head.position_of[face]] = np.flatnonzero(face)
    landmark = head.uv[vertex_of[head.landmarks]]
    return np.concatenate([curve(landmark[_UPPER_RIM], 120), curve(landmark[_LOWER_RIM], 120)])


def marks(figure: Figure, rng: np.random.Generator, size: int) -> FloatArray:
    """[size, size, 2] signed distance from the lips' rim (positive inside), and freckles 0..1; row 0 is v = 0."""
    lips = np.zeros((size, size), np.uint8)
    cv2.fillPoly(lips, [np.rint(lip_rim(figure) * size).astype(np.int32)], 255)
    inside = cv2.distanceTransform(lips, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform(255 - lips, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    spots = np.zeros((size, size), np.float32)
    u, v, width, height = _FRECKLED
    for _ in range(figure.person.skin.freckles):
        x, y = (u, v) + rng.random(2) * (width, height)
        radius, depth = size / 2048 * rng.uniform(0.8, 2.4), rng.uniform(0.1, 0.5)
        middle = (int(x * size * 8), int(y * size * 8))
        cv2.circle(spots, middle, int(radius * 8), depth, -1, cv2.LINE_AA, 3)
    return np.stack([(inside - outside) / size * _PARTS, cv2.GaussianBlur(spots, (0, 0), 0.8)], axis=-1)


def filled(picture: FloatArray, drawn: BoolArray) -> FloatArray:
    """What was not drawn [h, w] takes the value of the nearest pixel that was: no seams when textures are filtered."""
    _, labels = cv2.distanceTransformWithLabels(
        (~drawn).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.zeros(int(labels.max()) + 1, np.int64)
    nearest[labels[drawn]] = np.flatnonzero(drawn)
    return np.asarray(picture.reshape(-1, picture.shape[-1])[nearest[labels]])


class _Baker:
    def __init__(self, context: moderngl.Context, figure: Figure, noise: Noise) -> None:
        self.context, self.figure, head = context, figure, figure.head
        self.program = gl.program(context, "bake.vert", "bake.frag")
        face = head.neutral
        brow = np.maximum(*(brow_density(figure, noise, side, face) for side in ("L", "R")))
        each = np.concatenate([face, past_hairline(figure, noise, face)[:, None], brow[:, None]], axis=1)
        self.rows = np.concatenate([head.uv, each[head.position_of]], axis=1).astype(np.float32)
        person, skin = figure.person, figure.person.skin
        gl.assign(
            self.program,
            tone=linear(skin.tone),
            lipTone=linear(skin.lips),
            hairTone=linear(person.hair.colour),
            redness=skin.redness,
            stubble=skin.stubble,
            age=skin.age,
            oil=skin.oil,
            seed=person.seed,
            marks=0,
        )

    def bake(self, tile: int, size: int) -> list[FloatArray]:
        """Albedo [size, size, 3], relief [.., 3] and wrinkle [.., 4] of one tile."""
        head, context = self.figure.head, self.context
        mine = np.floor(head.uv[head.corners].mean(axis=1)[:, 0]).astype(int) == tile
        rows = self.rows - f32([tile, 0, 0, 0, 0, 0, 0])
        buffer = context.buffer(rows.tobytes())
        corners = context.buffer(head.corners[mine & head.triangles_of(*SKIN)].astype("i4").tobytes())
        rng = np.random.default_rng((self.figure.person.seed, tile))
        given = gl.texture(context, marks(self.figure, rng, size))
        targets = [context.texture((size, size), 4, dtype="f4") for _ in range(3)]
        frame = context.framebuffer(targets)
        frame.use()
        frame.clear()
        given.use(0)
        gl.assign(self.program, tile=tile)
        form, names = gl.layout(self.program, {"uv": 2, "place": 3, "hair": 1, "brow": 1})
        context.vertex_array(self.program, [(buffer, form, *names)], corners).render()
        pictures = [np.frombuffer(t.read(), "f4").reshape(size, size, 4) for t in targets]
        resources: list[moderngl.Framebuffer | moderngl.Texture | moderngl.Buffer] = [frame, given, buffer, corners]
        for used in (*resources, *targets):
            used.release()
        drawn = pictures[0][..., 3] > 0
        return [filled(p[..., :n], drawn) for p, n in zip(pictures, (3, 3, 4), strict=True)]


def skin_textures(context: moderngl.Context, figure: Figure, noise: Noise) -> SkinTextures:
    """Draw all tiles of a person's skin."""
    baker = _Baker(context, figure, noise)
    tiles = [[gl.texture(context, p) for p in baker.bake(k, size)] for k, size in enumerate(TILES)]
    albedo, relief, wrinkle = (list(column) for column in zip(*tiles, strict=True))
    return SkinTextures(albedo, relief, wrinkle)
