"""lipwright turns speech into a video of a given person saying it.

The names of ``__all__`` are the public ones. They load when first used, so that ``import lipwright`` stays quick.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lipwright.avatar import Avatar
    from lipwright.errors import LipwrightError
    from lipwright.picture import Frame
    from lipwright.render import Renderer, render

    __version__: str

__all__ = ["Avatar", "Frame", "LipwrightError", "Renderer", "__version__", "render"]

_HOMES = {
    "Avatar": "lipwright.avatar",
    "Frame": "lipwright.picture",
    "LipwrightError": "lipwright.errors",
    "Renderer": "lipwright.render",
    "render": "lipwright.render",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("lipwright")
    if name not in _HOMES:
        raise AttributeError(f"module 'lipwright' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Keeps ``lipwright.render`` the function, though importing the module of that name would bind the module."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name == "render" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
