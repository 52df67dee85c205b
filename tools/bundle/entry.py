"""The program inside a bundle: the command ``lipwright``, or with ``-m`` one of its modules.

``lipwright bench`` starts each measurement as ``sys.executable -m lipwright.bench.worker``; in a bundle that is this.
"""

from __future__ import annotations

import runpy
import sys

PACKAGE = "lipwright."


def main() -> None:
    """Run what the command line asks for."""
    if len(sys.argv) > 2 and sys.argv[1] == "-m" and sys.argv[2].startswith(PACKAGE):
        module = sys.argv[2]
        del sys.argv[1:3]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    from lipwright.cli import main as command

    command()


if __name__ == "__main__":
    main()
