"""Build lipwright for machines without Python, try it, and say what it costs to deploy.

    python -m tools.bundle                       build/bundle/: the folder lipwright/ and one file
    python -m tools.bundle --without-openvino    the same, smaller, with onnxruntime alone
    python -m tools.bundle --try                 use what was built on a bare machine; beside the installed package
    python -m tools.bundle --deploy-times        until 100 servers serve, from what --try measured

Needs pip's access to the dependencies, gcc, and binutils. ``--try`` leaves with 1 if something does not work.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.bundle.attempt import attempt
from tools.bundle.build import ROOT, Built, Paths, build
from tools.bundle.deploy import table, ways

TRIED = "try.json"


def main() -> int:
    """Do one of the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "build" / "bundle", help="folder of everything")
    parser.add_argument("--without-openvino", action="store_true", help="onnxruntime alone: 100 MB less")
    parser.add_argument("--rounds", type=int, default=3, help="films of each runtime that --try compares in speed")
    parser.add_argument("--servers", type=int, default=100, help="for --deploy-times")
    parser.add_argument("--links", type=float, nargs="+", default=[1.0, 10.0], help="Gbit/s of their source")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--try", dest="attempt", action="store_true", help="use what was built")
    what.add_argument("--deploy-times", action="store_true", help="work out how long servers take")
    options = parser.parse_args()
    if platform.system() != "Linux":
        raise SystemExit("a bundle is built on Linux, for Linux")
    paths = Paths(options.out.resolve())
    if options.attempt:
        return try_it(paths, options.rounds)
    if options.deploy_times:
        return tell_deploy_times(paths, options.servers, options.links)
    tell_built(build(paths, openvino=not options.without_openvino), paths)
    return 0


def tell_built(built: Built, paths: Paths) -> None:
    """Where it is and how large."""
    for change in built.trimmed:
        print(f"{change.saved / 1e6:8.1f} MB less: {change.what}: {change.why}")
    print(f"{built.folder_bytes / 1e6:8.1f} MB {paths.folder}/ (needs glibc {built.glibc} or later, and zlib)")
    print(f"{built.file_bytes / 1e6:8.1f} MB {paths.file}")


def try_it(paths: Paths, rounds: int) -> int:
    """Use it, write what was found beside it, and print that; 1 if something does not work."""
    tried = attempt(paths, rounds, lambda what: print(what, file=sys.stderr, flush=True))
    (paths.out / TRIED).write_text(json.dumps(tried, indent=2), encoding="utf-8")
    print("\n".join(markdown(summary(tried["attempts"]))))
    print(json.dumps(tried["attempts"], indent=2))
    return int(any(one["failed"] or not all(one["same_pictures"].values()) for one in tried["attempts"]))


def summary(attempts: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Head and rows of the table that ``--try`` prints: one column for each form."""
    facts: list[tuple[str, str]] = [
        ("machine", "{machine}"),
        ("size, MB", "{megabytes:.0f}"),
        ("help, s (processor s)", "{help_seconds:.2f} ({help_cpu_seconds:.2f})"),
        ("first frame of a new user, from the disk, s", "{first_frame_seconds:.2f}"),
        ("the same again, s", "{next_frame_seconds:.2f}"),
        ("serve is ready, s", "{ready_seconds:.2f}"),
        ("same pictures as installed", "{pictures}"),
        ("frames a second, against installed", "{speeds}"),
        ("aims missed", "{missed}"),
        ("does not work", "{broken}"),
    ]
    rows = [[name, *(text.format(**one, **_told(one)) for one in attempts)] for name, text in facts]
    return [["", *(str(one["form"]) for one in attempts)], *rows]


def _told(one: dict[str, Any]) -> dict[str, Any]:
    speeds = (f"{r} {one['frames_a_second'][r]:g}, x {ratio:.3f}" for r, ratio in one["speed"].items())
    return {
        "megabytes": one["bytes"] / 1e6,
        "pictures": ", ".join(f"{r} {'yes' if same else 'NO'}" for r, same in one["same_pictures"].items()) or "-",
        "speeds": ", ".join(speeds) or "-",
        "missed": "; ".join(one["misses"]) or "none",
        "broken": "; ".join(one["failed"]).replace("\n", " ") or "nothing",
    }


def tell_deploy_times(paths: Paths, servers: int, links: Sequence[float]) -> int:
    """Print the table."""
    tried = paths.out / TRIED
    if not tried.is_file():
        raise SystemExit(f"there is no {tried}: run python -m tools.bundle --try first")
    print("\n".join(markdown(table(ways(json.loads(tried.read_text(encoding="utf-8"))), servers, links))))
    return 0


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]


if __name__ == "__main__":
    sys.exit(main())
