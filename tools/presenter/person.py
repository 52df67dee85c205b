"""Who is shown: a few numbers from which face, skin, hair, eyes and clothes are made."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from lipwright.errors import LipwrightError

Colour = tuple[float, float, float]
"""sRGB, 0..1."""


@dataclass(frozen=True)
class Skin:
    """How the skin looks."""

    tone: Colour = (0.785, 0.595, 0.50)
    redness: float = 1.0
    """Of cheeks, nose and ears; 1 is that of a fair skin."""
    stubble: float = 0.0
    """Shaved beard, 0 none .. 1 dark."""
    freckles: int = 60
    age: float = 0.4
    """Depth of lines and unevenness, 0 young .. 1 old."""
    lips: Colour = (0.70, 0.42, 0.40)
    oil: float = 1.0


@dataclass(frozen=True)
class Hair:
    """Hair, brows and lashes."""

    style: Literal["short", "tied"] = "short"
    colour: Colour = (0.255, 0.19, 0.142)
    brow_colour: Colour = (0.20, 0.145, 0.105)
    strands: int = 46_000
    brow_strands: int = 500
    """Each side."""
    brow_height: float = 1.12
    """Factor on the brows' thickness."""
    lash_length: float = 1.0
    hairline: float = 0.0
    """cm by which the hairline is lowered."""


@dataclass(frozen=True)
class Person:
    """A person that does not exist."""

    name: str
    seed: int
    """Of everything random in the looks."""
    identity: tuple[float, ...]
    """Strength of each identity of the head model, standard deviations."""
    skin: Skin = field(default_factory=Skin)
    hair: Hair = field(default_factory=Hair)
    iris: Colour = (0.25, 0.19, 0.14)
    cloth: Colour = (0.20, 0.24, 0.31)
    rest: tuple[tuple[str, float], ...] = ()
    """Channels that are always on: the face's own expression."""
    lopsided: float = 0.05
    """How much stronger the left side of the mouth moves than the right one."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Person:
        """From ``dataclasses.asdict``, as a script stores it.

        Raises:
            LipwrightError: an unknown or missing field.
        """
        legal = {f.name for f in fields(cls)}
        if set(values) != legal:
            raise LipwrightError(
                f"a person has the fields {sorted(legal)}, not {sorted(values)}: write the script again"
            )
        plain = _tuples(values)
        plain["rest"] = tuple((str(name), float(x)) for name, x in values["rest"])
        plain["skin"], plain["hair"] = Skin(**_tuples(values["skin"])), Hair(**_tuples(values["hair"]))
        return cls(**plain)


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON's lists as tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


_KIND = (("mouthSmile_L", 0.13), ("mouthSmile_R", 0.11), ("eyeSquint_L", 0.10), ("eyeSquint_R", 0.10))

ROBIN = Person(
    name="robin",
    seed=5,
    identity=(
        *(-0.52, -0.85, 0.51, -0.83, 1.51, 0.69, -0.27, 0.43, 1.21, 2.13),
        *(-0.69, 0.8, 0.39, -0.21, 0.82, 0.38, 0.81, -0.39, 0.0, 0.3),
    ),
    skin=Skin(stubble=0.8, freckles=60, age=0.5),
    hair=Hair(),
    rest=_KIND,
)
MIRA = Person(
    name="mira",
    seed=8,
    identity=(
        *(0.87, 0.0, -0.4, -1.91, 0.01, 0.7, 0.78, -0.4, 1.67, 1.46),
        *(-0.17, -0.12, 0.72, -0.19, 0.17, 0.91, 0.89, -0.4, -0.34, -0.41),
    ),
    skin=Skin(tone=(0.62, 0.44, 0.35), redness=0.6, freckles=25, age=0.2, lips=(0.60, 0.30, 0.29), oil=0.9),
    hair=Hair(
        style="tied",
        colour=(0.17, 0.12, 0.09),
        brow_colour=(0.11, 0.085, 0.07),
        brow_strands=450,
        brow_height=0.95,
        lash_length=1.25,
        hairline=0.5,
    ),
    iris=(0.17, 0.11, 0.07),
    cloth=(0.42, 0.24, 0.22),
    rest=(*_KIND, ("browOuterUp_L", 0.10), ("browOuterUp_R", 0.10)),
    lopsided=-0.04,
)
PEOPLE = {p.name: p for p in (ROBIN, MIRA)}
