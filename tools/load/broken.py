"""A server whose generator raises whenever somebody speaks; where the lips rest it draws.

    python -m tools.load.broken AVATAR --port 0

For the fault "a model that raises in the middle" of ``python -m tools.load``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from lipwright.avatar import Avatar, builtin_avatar
from lipwright.contract import FloatArray, TensorSpec
from lipwright.errors import LipwrightError
from lipwright.render import Networks
from lipwright.runtimes import Runtime
from lipwright.serve.engine import Engine
from lipwright.serve.faces import Face
from lipwright.serve.http import create_app
from lipwright.serve.listen import address_of, bind, server
from lipwright.serve.safety import Policy

#: More than take part in the fault.
SESSIONS = 8


class Breaking:
    """A generator that draws lips at rest alone, once ``rest`` is known. See ``Runtime``."""

    lanes = 1

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.name, self.detail = runtime.name, runtime.detail
        self.rest: FloatArray | None = None

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._runtime.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._runtime.outputs

    def run(self, *arrays: FloatArray) -> FloatArray:
        """As ``Runtime.run``, but for windows in which somebody speaks."""
        rest = self.rest
        if rest is not None and any(not np.array_equal(window, rest) for window in arrays[1]):
            raise LipwrightError("the model broke in the middle")
        return self._runtime.run(*arrays)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("avatar", nargs="?", type=Path, default=builtin_avatar())
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    avatar = Avatar.open(options.avatar)
    networks = Networks.open(avatar)
    generator = Breaking(networks.generator)
    face = Face(avatar, Networks(generator, networks.encoder))
    engine, policy, socket = Engine([face], sessions=SESSIONS), Policy(), bind("127.0.0.1", options.port)
    engine.start()
    generator.rest = face.rest
    try:
        listening = server(create_app(engine, policy), policy.limits)
        print(f"http://{address_of(socket)}", file=sys.stderr, flush=True)
        listening.run(sockets=[socket])
    finally:
        engine.stop()


if __name__ == "__main__":
    main()
