"""From a pose to the light that reaches the lens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from lipwright.contract import FloatArray
from tools.presenter import gl
from tools.presenter.arrays import BoolArray, IntArray, f32
from tools.presenter.backdrop import room
from tools.presenter.camera import Camera
from tools.presenter.colour import linear
from tools.presenter.figure import PIVOT, Pose
from tools.presenter.head import SIDES, SKIN
from tools.presenter.irradiance import Illumination, Received, scattered
from tools.presenter.lights import room_light
from tools.presenter.mesh import normalised, rotation
from tools.presenter.place import Place
from tools.presenter.scene import Scene
from tools.presenter.skin import skin_textures
from tools.presenter.strands import POINTS

if TYPE_CHECKING:
    import moderngl

#: Pictures are drawn this many times larger: hairs are thinner than a pixel.
SUPERSAMPLING = 2
_SAMPLES = 4
_SAMPLE_ALPHA_TO_COVERAGE = 0x809E
"""OpenGL's GL_SAMPLE_ALPHA_TO_COVERAGE."""
_BRIGHTEST = 6.0
"""Linear light is cut here, so that a single sparkle does not flicker."""
#: Hairs a row of the textures that hold what changes.
_ROW = 512
#: What a vertex is given anew in every frame, and once, in floats.
_MOVING = {"pos": 3, "nrm": 3, "irradiance": 3, "seen": 4, "mean": 3}
_FIXED = {"uv": 2, "tint": 3, "place": 3, "matter": 2}
_STRAND = {"pos": 3, "along": 3, "tint": 3, "side": 1, "way": 1, "hair": 1}
#: Radius of the pupil as a share of the iris's.
_PUPIL = 0.36
#: Inside the mouth red light gets farther than blue.
_MOUTH_COLOURS = f32([0.9, 1.15, 1.2])
#: Channels that draw each of the four folds of the skin.
_FOLDS = (
    (("browInnerUp", 0.8), ("browOuterUp", 0.6)),
    (("mouthSmile", 1.4), ("mouthUpperUp", 0.55), ("cheekSquint", 0.5), ("mouthStretch", 0.3)),
    (("mouthPucker", 1.1), ("mouthFunnel", 0.5)),
    (("browDown", 1.5),),
)


class Painter:
    """Draws one scene from one camera; without a ``place`` in the usual room.

    Raises:
        RuntimeUnavailableError: there is no OpenGL.
    """

    def __init__(
        self, scene: Scene, camera: Camera, supersampling: int = SUPERSAMPLING, place: Place | None = None
    ) -> None:
        self.scene, self.camera, self.supersampling = scene, camera, supersampling
        self.place = place or Place()
        self.context = gl.open_context()
        self.size = camera.width * supersampling, camera.height * supersampling
        figure = scene.figure
        self.vertices = len(figure.rest)
        lights = room_light(self.place.light)
        head = figure.head
        solid = head.triangles_of("face", "head_neck", "sclera_L", "sclera_R") & (
            figure.visible | head.triangles_of("sclera_L", "sclera_R")
        )
        occluders = np.concatenate([head.triangles[solid], scene.clothes.triangles + self.vertices])
        total = self.vertices + len(scene.clothes.points)
        self.illumination = Illumination(self.context, lights, occluders, total)
        self.lamps = dict(zip(("lampTo", "lampColour", "lampSize"), lights.lamps(), strict=True))
        self.corner_of = np.concatenate([head.position_of, np.arange(self.vertices, total)])
        self._open_surfaces()
        self._open_strands()
        self._open_backdrop()
        self._open_frames()

    def _open_frames(self) -> None:
        context = self.context
        colour = context.renderbuffer(self.size, 4, samples=_SAMPLES, dtype="f2")
        self.frame = context.framebuffer([colour], context.depth_renderbuffer(self.size, samples=_SAMPLES))
        self.picture = context.texture(self.size, 4, dtype="f2")
        self.resolved = context.framebuffer([self.picture])

    def _open_backdrop(self) -> None:
        behind = room(*self.size, self.scene.figure.person.seed, self.place.backdrop)
        self.room = gl.texture(self.context, behind[::-1])
        target = gl.program(self.context, "backdrop.vert", "backdrop.frag")
        gl.assign(target, room=0)
        corners = self.context.buffer(f32([0, 0, 1, 0, 0, 1, 1, 1]).tobytes())
        self.backdrop = self.context.vertex_array(target, [(corners, "2f", "corner")])

    def _program(self, fragment: str) -> moderngl.Program:
        made = gl.program(self.context, "surface.vert", fragment)
        gl.assign(made, view=self.camera.matrix, eye=f32(self.camera.eye), **self.lamps)
        gl.assign(made, iris=linear(self.scene.figure.person.iris))
        return made

    def _open_surfaces(self) -> None:
        scene, head = self.scene, self.scene.figure.head
        self.textures = skin_textures(self.context, scene.figure, scene.noise)
        corners = len(self.corner_of)
        self.moving = self.context.buffer(reserve=corners * 4 * sum(_MOVING.values()))
        cloth = np.zeros((len(scene.clothes.points), 2), np.float32)
        fixed = [
            np.concatenate([head.uv, scene.clothes.uv]),
            np.concatenate([scene.tint, scene.clothes.colour])[self.corner_of],
            np.concatenate([head.neutral, scene.clothes.points])[self.corner_of],
            np.concatenate([scene.matter, cloth])[self.corner_of],
        ]
        self.fixed = self.context.buffer(np.concatenate(fixed, axis=1).astype("f4").tobytes())
        names = ("skin", "mouth", "cloth", "eye", "wet", "lidshadow")
        self.programs = {name: self._program(f"{name}.frag") for name in names}
        units = ("albedo0", "albedo1", "relief0", "relief1", "wrinkle0")
        gl.assign(self.programs["skin"], **{name: k for k, name in enumerate(units)})
        self.surfaces = {
            "skin": self._surface("skin", head.corners[head.triangles_of(*SKIN) & scene.figure.bare]),
            "cloth": self._surface("cloth", scene.clothes.triangles + len(head.position_of)),
            "mouth": self._surface("mouth", head.corners[head.triangles_of("gums_tongue", "teeth")]),
        }
        for side in SIDES:
            for part, shader in (("iris", "eye"), ("sclera", "eye"), ("lacrimal", "wet"), ("eye_occl", "lidshadow")):
                name = f"{part}_{side}"
                self.surfaces[name] = self._surface(shader, head.corners[head.triangles_of(name)])

    def _surface(self, shader: str, corners: IntArray) -> moderngl.VertexArray:
        target = self.programs[shader]
        content = []
        for buffer, attributes in ((self.moving, _MOVING), (self.fixed, _FIXED)):
            form, names = gl.layout(target, attributes)
            if names:
                content.append((buffer, form, *names))
        return self.context.vertex_array(target, content, self.context.buffer(corners.astype("i4").tobytes()))

    def _open_strands(self) -> None:
        scene = self.scene
        self.strand = gl.program(self.context, "strand.vert", "strand.frag")
        camera = self.camera
        gl.assign(self.strand, view=camera.matrix, eye=f32(camera.eye), pivot=PIVOT, **self.lamps)
        gl.assign(self.strand, moved=0, light=1, thinnest=camera.pixel / self.supersampling)
        hair = _ribbons(scene.strands.points, scene.strands.width, scene.strands.colour)
        self.hair = self._ribbon_array(self.context.buffer(hair.tobytes()), len(scene.strands.width))
        lash = _ribbons(scene.lashes.of(scene.figure.rest), scene.lashes.width, scene.lashes.colour)
        self.lash_rows = lash
        self.lash_buffer = self.context.buffer(lash.tobytes() or bytes(4))
        self.lash = self._ribbon_array(self.lash_buffer, len(scene.lashes.width))
        rows = -(-max(len(scene.strands.width), len(scene.lashes.width)) // _ROW)
        self.roots, self.root_light, self.nowhere, self.lash_light = (
            self.context.texture((_ROW, rows), 4, dtype="f4") for _ in range(4)
        )
        self.nowhere.write(bytes(_ROW * rows * 16))
        self.lash_light.write(np.full(_ROW * rows * 4, 0.5, "f4").tobytes())
        self.root_rest = scene.strands.roots.of(scene.figure.rest)
        self.root_neck = scene.strands.roots.of(scene.figure.neck[:, None])

    def _ribbon_array(self, buffer: moderngl.Buffer, count: int) -> moderngl.VertexArray:
        first = (np.arange(count) * POINTS * 2)[:, None, None] + (np.arange(POINTS - 1) * 2)[None, :, None]
        corners = np.concatenate([first + np.array([0, 1, 2]), first + np.array([1, 3, 2])], axis=2).astype("i4")
        form, names = gl.layout(self.strand, _STRAND)
        index = self.context.buffer(corners.tobytes() or np.zeros(3, "i4").tobytes())
        return self.context.vertex_array(self.strand, [(buffer, form, *names)], index)

    def paint(self, pose: Pose) -> FloatArray:
        """[height, width, 4]: linear light RGB, and how far out of focus each pixel is, 0..1."""
        with self.context:
            return self._paint(pose)

    def _paint(self, pose: Pose) -> FloatArray:
        figure = self.scene.figure
        shaped = figure.shaped(pose)
        positions = figure.posed(shaped, pose)
        cloth = self.scene.clothes
        everywhere = np.concatenate([positions, cloth.posed(pose)])
        normals = np.concatenate([figure.surface.normals(positions), cloth.normals])
        received = self._received(everywhere, normals)
        rows = [everywhere, normals, received.irradiance, received.seen, received.mean]
        self.moving.write(np.concatenate(rows, axis=1)[self.corner_of].astype("f4").tobytes())
        self._move_strands(shaped, positions, received)
        self._draw(pose)
        self.context.copy_framebuffer(self.resolved, self.frame)
        width, height = self.size
        picture = np.frombuffer(self.picture.read(), "f2").reshape(height, width, 4)[::-1].astype(np.float32)
        small = cv2.resize(mended(picture), (self.camera.width, self.camera.height), interpolation=cv2.INTER_AREA)
        return f32(small)

    def _received(self, positions: FloatArray, normals: FloatArray) -> Received:
        """Light at all vertices, spread in the skin and weakened inside the mouth."""
        received = self.illumination.receive(positions, normals)
        head = slice(0, self.vertices)
        skin = self.scene.figure.head.vertices_of(*SKIN)
        soft = scattered(self.scene.figure.surface, received.irradiance[head])
        light = np.where(skin[:, None], soft, received.irradiance[head])
        received.irradiance[head] = light * self.scene.depth[:, None] ** _MOUTH_COLOURS
        received.irradiance[head] *= 0.5 + 0.5 * self.scene.open[:, None]
        received.seen[head] *= (self.scene.depth * self.scene.open)[:, None]
        return received

    def _move_strands(self, shaped: FloatArray, positions: FloatArray, received: Received) -> None:
        roots = self.scene.strands.roots
        moved = np.concatenate([roots.of(shaped) - self.root_rest, self.root_neck], axis=1)
        bare = np.maximum(self.scene.open, 0.05)[:, None]
        _write_rows(self.roots, moved)
        _write_rows(self.root_light, roots.of(received.seen[: self.vertices] / bare))
        lashes = self.scene.lashes
        points = lashes.of(positions)
        if len(points):
            rows = self.lash_rows
            rows[..., :3] = points[:, :, None]
            rows[..., 3:6] = _along(points)[:, :, None]
            self.lash_buffer.write(rows.tobytes())

    def _draw(self, pose: Pose) -> None:
        context, textures = self.context, self.textures
        self.frame.use()
        self.frame.clear(depth=1.0)
        context.enable_only(context.NOTHING)
        self.room.use(0)
        self.backdrop.render(context.TRIANGLE_STRIP)
        context.enable(context.DEPTH_TEST)
        used = (*textures.albedo, *textures.relief, textures.wrinkle[0])
        for k, texture in enumerate(used):
            texture.use(k)
        gl.assign(self.programs["skin"], folds=self._folds(pose))
        for program in self.programs.values():
            gl.assign(program, focus=float(pose.shift[2]) + 9.5)
        for name in ("skin", "mouth", "cloth"):
            self.surfaces[name].render()
        self._draw_eyes(pose)
        self._draw_strands(pose)

    def _folds(self, pose: Pose) -> FloatArray:
        """[4] 0..1 how deep each fold of the skin is: means of both sides."""
        channels = self.scene.figure.channels
        strength = []
        for recipe in _FOLDS:
            total = 0.0
            for name, gain in recipe:
                mine = [k for k, c in enumerate(channels) if c.removesuffix("_L").removesuffix("_R") == name]
                total += gain * float(pose.weights[mine].mean()) if mine else 0.0
            strength.append(np.clip(total, 0, 1))
        return f32(strength)

    def _draw_eyes(self, pose: Pose) -> None:
        context, figure, program = self.context, self.scene.figure, self.programs["eye"]
        turn = rotation(pose.turn)
        gaze = rotation(f32([0, pose.gaze[0], 0])) @ rotation(f32([pose.gaze[1], 0, 0]))
        opaque_alpha = (context.ONE, context.ONE_MINUS_SRC_ALPHA)
        for side, eye in figure.eyes.items():
            centre = turn @ (eye.centre - PIVOT) + PIVOT + pose.shift
            gl.assign(program, centre=centre, axis=turn @ gaze @ eye.axis, pupil=_PUPIL, cornea=0)
            self.surfaces[f"iris_{side}"].render()
            context.enable(context.BLEND)
            context.blend_func = opaque_alpha
            gl.assign(program, cornea=1)
            self.surfaces[f"sclera_{side}"].render()
            self.surfaces[f"eye_occl_{side}"].render()
            self.surfaces[f"lacrimal_{side}"].render()
            context.disable(context.BLEND)

    def _draw_strands(self, pose: Pose) -> None:
        gl.assign(self.strand, turn=pose.turn.astype(np.float32), shift=pose.shift.astype(np.float32))
        self.context.enable_direct(_SAMPLE_ALPHA_TO_COVERAGE)
        # alpha is coverage here: what is out of focus keeps the value of what lies behind the hair
        self.frame.color_mask = (True, True, True, False)
        for array, moved, light, stiff in (
            (self.hair, self.roots, self.root_light, 1.0),
            (self.lash, self.nowhere, self.lash_light, 0.0),
        ):
            moved.use(0)
            light.use(1)
            gl.assign(self.strand, stiff=stiff)
            array.render()
        self.frame.color_mask = (True, True, True, True)
        self.context.disable_direct(_SAMPLE_ALPHA_TO_COVERAGE)


def _along(points: FloatArray) -> FloatArray:
    """[n, POINTS, 3] unit tangents of strands; without strands nothing."""
    return normalised(np.gradient(points, axis=1)) if len(points) else points


def _ribbons(points: FloatArray, width: FloatArray, colour: FloatArray) -> FloatArray:
    """[n, POINTS, 2, 12] the two edges of every strand at every point, as _STRAND names them."""
    n = len(points)
    way = np.linspace(0, 1, POINTS, dtype=np.float32)
    rows = np.zeros((n, POINTS, 2, sum(_STRAND.values())), np.float32)
    rows[..., :3] = points[:, :, None]
    rows[..., 3:6] = _along(points)[:, :, None]
    rows[..., 6:9] = colour[:, None, None]
    half = width[:, None] * (1 - 0.8 * way[None] ** 2)
    rows[:, :, 0, 9], rows[:, :, 1, 9] = -half, half
    rows[..., 10] = way[None, :, None]
    rows[..., 11] = np.arange(n)[:, None, None]
    return rows


def _write_rows(texture: moderngl.Texture, values: FloatArray) -> None:
    """Values [n, 4] into a texture of _ROW columns."""
    rows = np.zeros((texture.size[1] * _ROW, 4), "f4")
    rows[: len(values)] = values
    texture.write(rows.tobytes())


def mended(picture: FloatArray) -> FloatArray:
    """Light cut at _BRIGHTEST; a pixel that is no number (at grazing edges) becomes the mean of its neighbours."""
    # one sum a pixel asks all channels at once: 3.7 million pixels are looked at in every frame
    bad = ~np.isfinite(picture.sum(axis=-1))
    clean = f32(np.where(bad[..., None], 0, picture)) if bad.any() else picture
    clean = f32(clean.clip(0, _BRIGHTEST))
    if bad.any():
        _fill(clean, bad)
    return clean


def _fill(picture: FloatArray, bad: BoolArray) -> None:
    """Give bad pixels [h, w] of a picture [h, w, c] the mean of the good ones among their 5 x 5, in place."""
    size, reach = (5, 5), 2
    (top, left), (bottom, right) = (found(np.nonzero(bad), axis=1) for found in (np.min, np.max))
    box = slice(max(top - reach, 0), bottom + reach + 1), slice(max(left - reach, 0), right + reach + 1)
    part, where = picture[box], bad[box]
    share = cv2.blur((~where).astype(np.float32), size)
    part[where] = (cv2.blur(part, size) / np.maximum(share, 1e-3)[..., None])[where]
