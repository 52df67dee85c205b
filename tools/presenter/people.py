"""People who do not exist, each in a room and before a camera of their own: as many as one wants, from a seed."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tools.presenter.backdrop import Backdrop
from tools.presenter.camera import Camera
from tools.presenter.colour import linear
from tools.presenter.lens import Look
from tools.presenter.lights import Lamp, Light
from tools.presenter.person import Colour, Hair, Person, Skin
from tools.presenter.place import Place

Rng = np.random.Generator

#: Identities of the head model that are used, how strongly (standard deviations), and what is never exceeded.
IDENTITIES, _SPREAD, _MOST = 20, 0.8, 1.9
#: Skin, lips (sRGB) and redness from very fair (0) to very dark (1).
_DARKNESS = (0.0, 0.17, 0.34, 0.5, 0.67, 0.84, 1.0)
_TONES = (
    *((0.81, 0.645, 0.56), (0.785, 0.595, 0.50), (0.71, 0.52, 0.42), (0.62, 0.44, 0.35)),
    *((0.50, 0.34, 0.265), (0.40, 0.265, 0.21), (0.31, 0.205, 0.165)),
)
_LIPS = (
    *((0.72, 0.45, 0.43), (0.70, 0.42, 0.40), (0.65, 0.36, 0.34), (0.60, 0.30, 0.29)),
    *((0.48, 0.26, 0.24), (0.40, 0.22, 0.21), (0.33, 0.19, 0.185)),
)
_REDNESS = (1.1, 1.0, 0.8, 0.6, 0.4, 0.28, 0.2)
#: Hair and eyes by name, and how often each is met in fair people; the dark ones are all there is in dark people.
_HAIR_COLOURS = {
    "black": ((0.085, 0.072, 0.066), 0.20),
    "dark brown": ((0.16, 0.115, 0.088), 0.25),
    "brown": ((0.255, 0.19, 0.142), 0.22),
    "fair": ((0.50, 0.40, 0.27), 0.15),
    "red": ((0.40, 0.20, 0.11), 0.08),
    "grey": ((0.46, 0.45, 0.44), 0.10),
}
_DARK_HAIR = ("black", "dark brown")
_EYE_COLOURS = (
    ((0.17, 0.11, 0.07), 0.30),
    ((0.25, 0.19, 0.14), 0.20),
    ((0.24, 0.30, 0.34), 0.30),
    ((0.25, 0.28, 0.19), 0.20),
)
_DARK_EYES = ((0.12, 0.08, 0.055), (0.17, 0.11, 0.07))
#: Darker than this all hair and eyes are dark.
_ALL_DARK = 0.55
#: The golden ratio's fraction: numbers one after the other fall evenly over any scale.
_EVENLY = 0.6180339887498949
#: The usual picture's height in space (cm), exposure, light on a face that looks at the camera, and skin (luminance).
_USUAL_HEIGHT, _USUAL_EXPOSURE, _USUAL_LIGHT, _USUAL_SKIN = 38.3, 0.76, 2.1, 0.36
#: A camera corrects this much of what a skin is darker or fairer than the usual one.
_CORRECTED = 0.32
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
#: What the room's light from everywhere adds on a face, for each of its strength.
_ROOM_SHARE = 0.8
_SIZES = ((1280, 720), (960, 540))


@dataclass(frozen=True)
class Sitter:
    """Somebody who is filmed, and how."""

    person: Person
    camera: Camera
    look: Look
    place: Place


def sitter(seed: int, number: int) -> Sitter:
    """One of the people of a seed; skins of people numbered one after the other spread evenly from fair to dark."""
    rng = np.random.default_rng((seed, number, 11))
    person = somebody(rng, f"p{number:03d}", number, (float(rng.random()) * 0.1 + number * _EVENLY) % 1)
    light = some_light(rng)
    return Sitter(
        person, some_camera(rng), some_look(rng, light, person.skin.tone), Place(light, some_backdrop(rng, light))
    )


# --- who --------------------------------------------------------------------------------------------------------------
def somebody(rng: Rng, name: str, number: int, darkness: float) -> Person:
    """Looks from chance; ``darkness`` of the skin 0..1."""
    age = float(rng.beta(1.3, 1.6))
    beard = bool(rng.random() < 0.5)
    hair = _hair(rng, darkness, age, beard)
    return Person(
        name=name,
        seed=100 + number,
        identity=_identity(rng),
        skin=_skin(rng, darkness, age, beard),
        hair=hair,
        iris=_iris(rng, darkness),
        cloth=_cloth(rng),
        rest=_rest(rng),
        lopsided=round(float(rng.normal(0, 0.045)), 3),
    )


def _identity(rng: Rng) -> tuple[float, ...]:
    strengths = (rng.normal(0, _SPREAD, IDENTITIES)).clip(-_MOST, _MOST)
    return tuple(round(float(v), 3) for v in strengths)


def _skin(rng: Rng, darkness: float, age: float, beard: bool) -> Skin:
    freckled = max(0.0, 1 - 1.6 * darkness)
    return Skin(
        tone=_varied(rng, _between(darkness, _TONES), 0.015),
        redness=round(float(np.interp(darkness, _DARKNESS, _REDNESS) * rng.uniform(0.7, 1.25)), 3),
        stubble=round(float(rng.uniform(0.15, 1.0)), 3) if beard else 0.0,
        freckles=int(rng.gamma(0.8, 90) * freckled) + int(rng.integers(5, 40)),
        age=round(age, 3),
        lips=_varied(rng, _between(darkness, _LIPS), 0.025),
        oil=round(float(rng.uniform(0.5, 1.25)), 3),
    )


def _hair(rng: Rng, darkness: float, age: float, beard: bool) -> Hair:
    name = _hair_colour(rng, darkness, age)
    colour = _varied(rng, _HAIR_COLOURS[name][0], 0.015)
    brow = tuple(round(v * float(rng.uniform(0.6, 0.85)), 3) for v in colour)
    tied = not beard and rng.random() < 0.75
    return Hair(
        style="tied" if tied else "short",
        colour=colour,
        brow_colour=(brow[0], brow[1], brow[2]),
        strands=int(rng.integers(38_000, 50_000)),
        brow_strands=int(rng.integers(380, 680)),
        brow_height=round(float(rng.uniform(0.85, 1.05) if tied else rng.uniform(1.0, 1.3)), 3),
        lash_length=round(float(rng.uniform(1.05, 1.35) if tied else rng.uniform(0.85, 1.1)), 3),
        hairline=round(float(rng.uniform(0.0, 0.7) - 0.8 * age * beard), 3),
    )


def _hair_colour(rng: Rng, darkness: float, age: float) -> str:
    if rng.random() < 1.6 * (age - 0.55):
        return "grey"
    names = [name for name in _HAIR_COLOURS if darkness < _ALL_DARK or name in _DARK_HAIR]
    chance = np.array([_HAIR_COLOURS[name][1] for name in names])
    return names[int(rng.choice(len(names), p=chance / chance.sum()))]


def _iris(rng: Rng, darkness: float) -> Colour:
    if darkness > _ALL_DARK:
        return _varied(rng, _DARK_EYES[int(rng.integers(len(_DARK_EYES)))], 0.01)
    chance = [each for _, each in _EYE_COLOURS]
    return _varied(rng, _EYE_COLOURS[int(rng.choice(len(chance), p=chance))][0], 0.02)


def _cloth(rng: Rng) -> Colour:
    """Muted, from nearly black to light grey."""
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), 0.8 * rng.beta(1.3, 3.0), rng.uniform(0.10, 0.66))
    return round(red, 3), round(green, 3), round(blue, 3)


def _rest(rng: Rng) -> tuple[tuple[str, float], ...]:
    """The face's own expression: a little more or less friendly, awake, surprised; left and right differ somewhat."""
    found: list[tuple[str, float]] = []
    for name, most in (("mouthSmile", 0.20), ("eyeSquint", 0.16), ("browOuterUp", 0.14), ("browDown", 0.10)):
        strength = float(rng.uniform(0, most))
        found += [(f"{name}_{side}", round(strength * float(rng.uniform(0.85, 1.15)), 3)) for side in ("L", "R")]
    return tuple(found)


# --- where and how ----------------------------------------------------------------------------------------------------
def some_light(rng: Rng) -> Light:
    """A key light from somewhere in front, a weaker one from the other side, one behind, and what the room gives."""
    side = float(rng.choice([-1.0, 1.0]))
    warmth = float(rng.uniform(-1, 1))
    return Light(
        key=_lamp(rng, side * rng.uniform(8, 70), rng.uniform(5, 48), (0.28, 0.62), rng.uniform(1.3, 2.6), warmth),
        fill=_lamp(
            rng, -side * rng.uniform(25, 75), rng.uniform(-8, 25), (0.4, 0.65), rng.uniform(0.2, 0.85), -0.5 * warmth
        ),
        rim=_lamp(
            rng,
            float(rng.choice([-1.0, 1.0])) * rng.uniform(120, 155),
            rng.uniform(15, 45),
            (0.2, 0.4),
            rng.uniform(0, 0.55),
            float(rng.uniform(-1, 1)),
        ),
        room=round(float(rng.uniform(0.28, 0.62)), 3),
    )


def _lamp(rng: Rng, aside: float, above: float, spread: tuple[float, float], strength: float, warmth: float) -> Lamp:
    """A lamp by its angles in degrees; ``warmth`` -1 bluish daylight .. 1 an evening lamp."""
    a, b = np.radians(aside), np.radians(above)
    towards = tuple(round(float(v), 4) for v in (np.sin(a) * np.cos(b), np.sin(b), np.cos(a) * np.cos(b)))
    warm = 0.5 * (warmth + 1)
    colour = tuple(
        round(float(cool + warm * (hot - cool)), 4) for cool, hot in ((0.93, 1.0), (0.98, 0.90), (1.05, 0.76))
    )
    return Lamp(
        (towards[0], towards[1], towards[2]),
        round(float(rng.uniform(*spread)), 3),
        (colour[0], colour[1], colour[2]),
        round(float(strength), 3),
    )


def some_camera(rng: Rng) -> Camera:
    """From arm's length to across a room, a little above or below the eyes, the face large or small in the picture."""
    width, height = _SIZES[int(rng.random() < 0.3)]
    distance = float(rng.uniform(70, 170))
    shown = _USUAL_HEIGHT * float(rng.uniform(0.75, 1.2))
    around, up = np.radians(rng.uniform(-9, 9)), np.radians(rng.uniform(-6, 7))
    target = (float(rng.uniform(-4, 4)), float(rng.uniform(-3.5, -0.8)), 3.0)
    way = (np.sin(around) * np.cos(up), np.sin(up), np.cos(around) * np.cos(up))
    eye = tuple(round(t + distance * float(w), 3) for t, w in zip(target, way, strict=True))
    return Camera(
        width=width,
        height=height,
        field=round(float(np.degrees(2 * np.arctan(shown / 2 / distance))), 3),
        eye=(eye[0], eye[1], eye[2]),
        target=(round(target[0], 3), round(target[1], 3), target[2]),
    )


def some_look(rng: Rng, light: Light, tone: Colour) -> Look:
    """A camera that measured the light and erred a little."""
    return Look(
        exposure=round(_exposure(light, tone) * float(np.exp(rng.normal(0, 0.10))), 4),
        glow=round(float(rng.uniform(0.015, 0.055)), 4),
        vignette=round(float(rng.uniform(0.0, 0.28)), 3),
        noise=round(float(rng.uniform(0.002, 0.012)), 4),
        sharpening=round(float(rng.uniform(0.0, 0.7)), 3),
        contrast=round(float(rng.uniform(1.02, 1.22)), 3),
        warmth=round(float(rng.normal(0.005, 0.018)), 4),
    )


def _exposure(light: Light, tone: Colour) -> float:
    """What brings the face to its usual brightness, and dark and fair skins some of the way."""
    arriving = _ROOM_SHARE * light.room
    for lamp in (light.key, light.fill, light.rim):
        facing = lamp.towards[2] / float(np.linalg.norm(lamp.towards))
        arriving += lamp.strength * max(facing, 0.0)
    skin = float(linear(tone) @ _LUMINANCE)
    return _USUAL_EXPOSURE * _USUAL_LIGHT / arriving * float((_USUAL_SKIN / skin) ** _CORRECTED)


def some_backdrop(rng: Rng, light: Light) -> Backdrop:
    """A wall of any colour with more or less before it; a window stands on the side of the key light."""
    hue, depth, value = rng.random(), rng.beta(1.2, 5), rng.uniform(0.25, 0.80)
    wall = tuple(round(float(v), 3) for v in colorsys.hsv_to_rgb(hue, depth, value))
    window, shelf, plant = (bool(v) for v in rng.random(3) < (0.45, 0.5, 0.5))
    return Backdrop(
        wall=(wall[0], wall[1], wall[2]),
        low_wall=(round(0.8 * wall[0], 3), round(0.8 * wall[1], 3), round(0.8 * wall[2], 3)),
        blur=round(float(rng.uniform(0.012, 0.055)), 4),
        window=window,
        shelf=shelf,
        plant=plant,
        mirrored=light.key.towards[0] > 0,
        brightness=round(float(rng.uniform(0.5, 1.2)), 3),
    )


# --- numbers ----------------------------------------------------------------------------------------------------------
def _between(darkness: float, colours: tuple[Colour, ...]) -> Colour:
    """A colour of a scale from fair to dark."""
    each = [float(np.interp(darkness, _DARKNESS, [c[k] for c in colours])) for k in range(3)]
    return each[0], each[1], each[2]


def _varied(rng: Rng, colour: Colour, spread: float) -> Colour:
    """The colour, a little lighter or darker, redder or yellower."""
    shift: npt.NDArray[np.float64] = rng.normal(0, spread) + rng.normal(0, spread / 3, 3)
    each = (np.array(colour) * (1 + 1.5 * shift) + shift / 4).clip(0.02, 0.95)
    return round(float(each[0]), 3), round(float(each[1]), 3), round(float(each[2]), 3)
