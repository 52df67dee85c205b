"""What lies in deploy/ fits the command: parsed, and its pieces run."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import signature
from pathlib import Path
from threading import Thread

import pytest
import typer
from typer.main import get_command

from lipwright.cli.app import app
from lipwright.cli.serve import serve
from lipwright.serve.safety import OPEN_PATHS, TOKEN_VARIABLE

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
SERVICE = DEPLOY / "lipwright.service"
DOCKERFILE = DEPLOY / "Dockerfile"
PORT = signature(serve).parameters["port"].default
#: systemd's judgement of what a service could do if it were taken over, 0 to 10; above 5 it says "medium" or worse.
EXPOSURE = 2.0


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and what follows each, comments and line ends taken out."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split()[0], line.partition(" ")[2]) for line in whole.splitlines() if line.strip()]


def all_of(name: str) -> list[str]:
    return [what for instruction, what in instructions() if instruction == name]


# --- Docker ---------------------------------------------------------------------------------------------------------
def test_the_image_is_slim_pinned_and_built_in_two_stages() -> None:
    default = dict(argument.split("=") for argument in all_of("ARG"))["PYTHON"]
    assert re.fullmatch(r"3\.\d+\.\d+-slim-\w+", default), "a tag that never moves names all three numbers"
    assert all_of("FROM") == ["python:${PYTHON} AS build", "python:${PYTHON}"]
    with (ROOT / "pyproject.toml").open("rb") as file:
        least = tomllib.load(file)["project"]["requires-python"].removeprefix(">=")
    assert default.rpartition(".")[0] >= least


def test_the_image_runs_as_nobody_special_and_writes_to_one_folder() -> None:
    names = [name for name, _ in instructions()]
    user = all_of("USER")[-1]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user), "a number, so that Kubernetes sees that it is not root"
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "RUN" not in names[names.index("USER") :]
    home = all_of("VOLUME")[0]
    places = dict(pair.split("=") for pair in shlex.split(all_of("ENV")[0]))
    assert {places[name].startswith(home) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")} == {True}
    assert f"install -d -o lipwright -g lipwright {home}" in " ".join(all_of("RUN"))


def test_the_image_serves_on_the_port_of_the_command() -> None:
    assert all_of("EXPOSE") == [str(PORT)]
    command = [*json.loads(all_of("ENTRYPOINT")[0]), *json.loads(all_of("CMD")[0])]
    assert command[0] == "lipwright"
    parse(command[1:])
    assert TOKEN_VARIABLE == "LIPWRIGHT_TOKEN" and TOKEN_VARIABLE in DOCKERFILE.read_text(encoding="utf-8")


def parse(arguments: list[str]) -> None:
    """Fails where the command would say that it is used wrongly."""
    group = get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    command = group.commands[arguments[0]]
    command.make_context(arguments[0], list(arguments[1:]))


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server on a port of its own that answers everything so, and remembers what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path in OPEN_PATHS else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_tells_ready_from_not_ready(status: int, healthy: bool) -> None:
    check = json.loads(all_of("HEALTHCHECK")[0].partition("CMD ")[2])
    assert f"127.0.0.1:{PORT}/readyz" in check[-1]
    with answering(status) as port:
        command = [sys.executable, *check[1:-1], check[-1].replace(f":{PORT}/", f":{port}/")]
        done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode == 0) is healthy


def test_what_the_image_copies_is_there_and_sent_to_docker() -> None:
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in sent if line.startswith("!")}
    copied = {name for what in all_of("COPY") if "--from" not in what for name in what.split()[:-1]}
    assert copied == kept and sent.index("*") < min(sent.index(f"!{name}") for name in kept)
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_installs_what_the_extras_are_called() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    named = re.search(r"\.\[([\w,]+)\]", " ".join(all_of("RUN")))
    assert named is not None and set(named[1].split(",")) <= set(extras)


@pytest.mark.slow
def test_the_image_s_first_stage_works(tmp_path: Path) -> None:
    """The same lines, in a copy of what docker is sent, into another folder."""
    context, prefix = tmp_path / "context", tmp_path / "lipwright"
    context.mkdir()
    stage = instructions()[: [name for name, _ in instructions()].index("FROM", 2)]
    for name, what in stage:
        if name == "COPY":
            *sources, target = what.split()
            for source in sources:
                place = context / (target if target != "./" else source)
                shutil.copytree(ROOT / source, place, dirs_exist_ok=True) if (ROOT / source).is_dir() else shutil.copy(
                    ROOT / source, place
                )
        elif name == "RUN":
            lines = what.replace("/usr/local/lib/lipwright", str(prefix)).replace(
                "python -m venv", f"{sys.executable} -m venv"
            )
            subprocess.run(["bash", "-euo", "pipefail", "-c", lines], cwd=context, check=True)
    done = subprocess.run([prefix / "bin" / "lipwright", "info"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- systemd --------------------------------------------------------------------------------------------------------
def service() -> configparser.SectionProxy:
    """The last of each setting; the unit sets SystemCallFilter twice, which systemd adds up."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(SERVICE, encoding="utf-8")
    return unit["Service"]


def test_the_service_starts_the_command() -> None:
    program, *arguments = shlex.split(service()["ExecStart"])
    assert program == "/usr/local/lib/lipwright/lipwright"
    parse(arguments)


def test_the_service_writes_where_systemd_lets_it() -> None:
    unit = service()
    places = dict(pair.split("=") for pair in unit["Environment"].split())
    # lipwright adds its own name to both
    assert places["XDG_CONFIG_HOME"] == "%S" and unit["StateDirectory"] == "lipwright"
    assert places["XDG_CACHE_HOME"] == "%C" and unit["CacheDirectory"] == "lipwright"
    assert unit["ProtectSystem"] == "strict" and unit["DynamicUser"] == "yes"


def test_the_service_lets_networks_be_compiled() -> None:
    assert service()["MemoryDenyWriteExecute"] == "no"
    assert "@resources" not in re.findall(r"^SystemCallFilter=~(.*)$", SERVICE.read_text(encoding="utf-8"), re.M)[0]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="without systemd nobody can judge")
def test_systemd_has_nothing_to_say_against_the_service(tmp_path: Path) -> None:
    unit = tmp_path / SERVICE.name
    unit.write_text(
        SERVICE.read_text(encoding="utf-8").replace("/usr/local/lib/lipwright/lipwright", "/bin/true"), "utf-8"
    )
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert not [line for line in verified.stderr.splitlines() if unit.name in line]
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    judged = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    level = re.search(r"exposure level for \S+: ([\d.]+)", judged)
    assert level is not None and float(level[1]) <= EXPOSURE
