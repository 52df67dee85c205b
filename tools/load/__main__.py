"""The command: see the package."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from websockets.exceptions import WebSocketException

import tools.load
from lipwright import __version__
from lipwright.avatar import Avatar, builtin_avatar, builtin_sound
from lipwright.contract import FPS
from lipwright.durable import write_text
from lipwright.runtimes.base import cpu_name
from tools.load import faults
from tools.load.client import Place, RefusedError, crowd, speech, watched
from tools.load.process import SERVE, NotStartedError, Server, serving
from tools.load.report import markdown

log = logging.getLogger("load")

WHAT = ("held", "soak", "connects", "faults")
#: Sessions count as held if so many pictures a second were drawn and came.
HELD = 0.99 * FPS
MINUTE = 60.0
BROKEN = "a model that raises in the middle"


@dataclass(frozen=True)
class Plan:
    """What the command line asks for."""

    avatar: Path
    sound: Path
    picture: str
    serve: tuple[str, ...]
    """Further arguments of ``lipwright serve``."""
    cores: str | None
    most: int
    seconds: float
    soak_minutes: int
    connects: int

    def command(self, quality: str, *more: str) -> list[str]:
        """A server of this quality."""
        asked = [] if quality == "full" else ["--quality", quality]
        return [*SERVE, str(self.avatar), *asked, *self.serve, *more]

    def place(self, server: Server) -> Place:
        """Where its clients go."""
        return Place(server.address, str(server.avatars()["avatars"][0]["name"]), self.picture)


def held(plan: Plan, quality: str) -> dict[str, Any]:
    """More and more microphones until they are no longer held."""
    with serving(plan.command(quality), plan.cores) as server:
        said = list(server.said)
        count = int(server.avatars()["capacity"])
    sound, steps, most = speech(plan.sound), [], 0
    with serving(plan.command(quality, "--sessions", str(plan.most)), plan.cores) as server:
        for sessions in range(1, plan.most + 1):
            load = asyncio.run(_crowded(plan.place(server), sound, sessions, plan.seconds))
            steps.append(load)
            log.info("%s: %d speak, %.1f pictures a second", quality, sessions, load["pictures_a_second"])
            if load["pictures_a_second"] < HELD:
                break
            most = sessions
    return {"held": most, "server_says": count, "said": said, "steps": steps}


async def _crowded(place: Place, sound: bytes, sessions: int, seconds: float) -> dict[str, Any]:
    async with crowd(place, sound, sessions, seconds) as clients:
        return asdict(await watched(clients, seconds))


def soak(plan: Plan, quality: str, done: Mapping[str, Any]) -> dict[str, Any]:
    """As many sessions as were held before, or one, for a long time, with what the server holds."""
    sessions = max(int(done.get(f"held {quality}", {}).get("held", 1)), 1)
    with serving(plan.command(quality, "--sessions", str(sessions + 1)), plan.cores) as server:
        rows = asyncio.run(_minutes(plan, server, sessions))
    return {"sessions": sessions, "minutes": rows}


async def _minutes(plan: Plan, server: Server, sessions: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    place, length = plan.place(server), plan.soak_minutes * (MINUTE + 5)
    async with crowd(place, speech(plan.sound), sessions, length) as clients:
        for minute in range(1, plan.soak_minutes + 1):
            load = await watched(clients, MINUTE)
            rows.append({"minute": minute, **asdict(load), **asdict(server.holdings())})
            log.info("soak, minute %d of %d: %.1f MiB", minute, plan.soak_minutes, rows[-1]["memory_mib"])
    return rows


def connects(plan: Plan) -> dict[str, Any]:
    """Many clients one after the other."""
    with serving(plan.command("full", "--sessions", "8"), plan.cores) as server:
        return asyncio.run(faults.connects(server, plan.place(server), plan.connects))


def all_faults(plan: Plan, quality: str) -> dict[str, Any]:
    """Each fault, and what others notice of it."""
    found: dict[str, Any] = {}
    with serving(plan.command(quality, "--sessions", "16"), plan.cores) as server:
        for name, fault in faults.FAULTS.items():
            log.info("%s", name)
            found[name] = asdict(asyncio.run(faults.suffer(server, plan.place(server), fault)))
    log.info(BROKEN)
    with serving([sys.executable, "-m", "tools.load.broken", str(plan.avatar)], plan.cores) as server:
        fault = partial(faults.raising, sound=plan.sound)
        found[BROKEN] = asdict(asyncio.run(faults.suffer(server, plan.place(server), fault)))
    return found


def parts(plan: Plan, what: str, qualities: list[str], done: Mapping[str, Any]) -> dict[str, Callable[[], Any]]:
    """Name in the JSON file -> how it is measured, in order."""
    found: dict[str, Callable[[], Any]] = {}
    for quality in qualities:
        if what in ("all", "held"):
            found[f"held {quality}"] = partial(held, plan, quality)
    if what in ("all", "faults"):
        # In the quickest quality: what others miss shall come of the fault and not of too many sessions.
        found[f"faults {qualities[-1]}"] = partial(all_faults, plan, qualities[-1])
    if what in ("all", "connects"):
        found["connects"] = partial(connects, plan)
    if what in ("all", "soak"):
        found[f"soak {qualities[0]}"] = partial(soak, plan, qualities[0], done)
    return found


def machine(plan: Plan) -> dict[str, Any]:
    """Where and with what it was measured."""
    return {
        "processor": cpu_name(),
        "cores": os.cpu_count(),
        "server_cores": plan.cores,
        "system": platform.platform(),
        "python": platform.python_version(),
        "lipwright": __version__,
        "avatar": Avatar.open(plan.avatar).name,
        "date": date.today().isoformat(),
    }


def measure(todo: Mapping[str, Callable[[], Any]], results: dict[str, Any], file: Path | None) -> None:
    """Do what stands in no file yet, and keep the file up to date."""
    for k, (name, work) in enumerate(todo.items(), 1):
        if "error" not in results.get(name, {"error": "never tried"}):
            log.info("%s: measured before", name)
            continue
        log.info("%s (part %d of %d)", name, k, len(todo))
        began = time.monotonic()
        try:
            results[name] = work()
        except (NotStartedError, RefusedError, OSError, WebSocketException, TimeoutError) as error:
            log.warning("%s: %s", name, error)  # the parts after it are measured all the same
            results[name] = {"error": str(error)}
        log.info("%s: %.0f s", name, time.monotonic() - began)
        if file is not None:
            write_text(file, json.dumps(results, indent=1))


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=tools.load.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("all", *WHAT))
    parser.add_argument("--avatar", type=Path, default=builtin_avatar(), help="else the presenter")
    parser.add_argument("--quality", nargs="+", default=["full", "fast"])
    parser.add_argument("--sound", type=Path, default=builtin_sound(), help="what is said")
    parser.add_argument("--picture", choices=("jpeg", "h264"), default="jpeg")
    parser.add_argument("--cores", help="the server's, such as 0,1")
    parser.add_argument("--serve", default="", help="further arguments of lipwright serve")
    parser.add_argument("--most", type=int, default=32, help="held: sessions to try")
    parser.add_argument("--seconds", type=float, default=15.0, help="held: of each step")
    parser.add_argument("--soak-minutes", type=int, default=30)
    parser.add_argument("--connects", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="results, kept after every part")
    return parser.parse_args()


def main() -> None:
    """Measure, save, print."""
    asked = options()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    plan = Plan(
        asked.avatar,
        asked.sound,
        asked.picture,
        tuple(shlex.split(asked.serve)),
        asked.cores,
        asked.most,
        asked.seconds,
        asked.soak_minutes,
        asked.connects,
    )
    known = asked.json is not None and asked.json.is_file()
    results: dict[str, Any] = (
        json.loads(asked.json.read_text(encoding="utf-8")) if known else {"machine": machine(plan)}
    )
    measure(parts(plan, asked.what, asked.quality, results), results, asked.json)
    print(markdown(results))


if __name__ == "__main__":
    main()
