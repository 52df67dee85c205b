"""An OpenGL context without a window, and shaders from the folder beside this file."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lipwright.contract import FloatArray
from lipwright.errors import RuntimeUnavailableError

if TYPE_CHECKING:
    import moderngl

_SHADERS = Path(__file__).with_name("shaders")
_VERSION = 330
#: Debian's names.
PACKAGES = "libegl1 libgl1 libgl1-mesa-dri"


def open_context() -> moderngl.Context:
    """A context on EGL: the graphics card where there is one, Mesa's software renderer otherwise.

    Raises:
        RuntimeUnavailableError: moderngl, EGL or a driver is missing.
    """
    try:
        library = import_module("moderngl")
    except ImportError as error:
        raise RuntimeUnavailableError("moderngl is not installed: pip install moderngl") from error
    try:
        context: moderngl.Context = library.create_context(standalone=True, backend="egl", require=_VERSION)
    except Exception as error:  # moderngl raises bare Exception
        raise RuntimeUnavailableError(f"EGL gives no OpenGL context ({error}): apt install {PACKAGES}") from error
    return context


def source(name: str) -> str:
    """Text of a shader; a line ``#include "other"`` stands for that file."""
    text = (_SHADERS / name).read_text(encoding="ascii")
    return re.sub(r'^#include "(.+)"$', lambda m: source(m[1]), text, flags=re.MULTILINE)


def program(context: moderngl.Context, vertex: str, fragment: str) -> moderngl.Program:
    """A program of two shader files."""
    head = f"#version {_VERSION}\n"
    return context.program(vertex_shader=head + source(vertex), fragment_shader=head + source(fragment))


def transform(
    context: moderngl.Context, vertex: str, outputs: list[str], constants: dict[str, int]
) -> moderngl.Program:
    """A program whose vertex shader writes ``outputs`` into a buffer; ``constants`` become macros."""
    head = f"#version {_VERSION}\n" + "".join(f"#define {k} {v}\n" for k, v in constants.items())
    return context.program(vertex_shader=head + source(vertex), varyings=tuple(outputs))


def assign(target: moderngl.Program, **uniforms: Any) -> None:
    """Set uniforms; arrays by their bytes, a [4, 4] matrix in OpenGL's order. What the compiler dropped is skipped."""
    for name, value in uniforms.items():
        if name not in target:
            continue
        uniform = target[name]
        if isinstance(value, np.ndarray):
            kind = "i4" if value.dtype.kind == "i" else "f4"
            ordered = np.swapaxes(value, -1, -2) if value.shape[-2:] == (4, 4) else value
            uniform.write(np.ascontiguousarray(ordered, kind).tobytes())  # type: ignore[union-attr]
        else:
            uniform.value = value  # type: ignore[union-attr]


def texture(context: moderngl.Context, values: FloatArray) -> moderngl.Texture:
    """Half-float texture with mipmaps from [h, w, c]; row 0 is v = 0."""
    height, width, channels = values.shape
    made = context.texture((width, height), channels, np.ascontiguousarray(values, "f2").tobytes(), dtype="f2")
    made.build_mipmaps()
    made.filter = (context.LINEAR_MIPMAP_LINEAR, context.LINEAR)
    return made


def layout(target: moderngl.Program, attributes: dict[str, int]) -> tuple[str, list[str]]:
    """Format and names for floats in this order; attributes the compiler dropped are skipped over."""
    parts = [f"{n}f" if name in target else f"{4 * n}x" for name, n in attributes.items()]
    return " ".join(parts), [name for name in attributes if name in target]
