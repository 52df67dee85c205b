"""Where somebody is filmed: the light of the room and what is seen of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tools.presenter.backdrop import Backdrop
from tools.presenter.lights import Light


@dataclass(frozen=True)
class Place:
    """A room; as it is, the presenter's own."""

    light: Light = field(default_factory=Light)
    backdrop: Backdrop = field(default_factory=Backdrop)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Place:
        """From ``dataclasses.asdict``, as a script stores it."""
        return cls(Light.from_json(values["light"]), Backdrop.from_json(values["backdrop"]))
