"""A library that is not installed is one clear line with the pip command, said before anything was begun."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from avatars import Parts, make_avatar
from command import Command
from lipwright import avatar as avatar_room
from lipwright.avatar import Avatar, builtin_sound
from lipwright.cli.serve import _NEEDED, _missing, _webrtc
from live import costly_face, running, serving

ROOT = Path(__file__).parent.parent
CORE = "lipwright: {} is not installed: pip install --force-reinstall lipwright\n"


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return make_avatar(tmp_path_factory.mktemp("avatar"), Parts(frames=8))


@pytest.fixture(autouse=True)
def presenter(avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> Avatar:
    """The tiny avatar in the place of the built-in one."""
    monkeypatch.setattr(avatar_room, "builtin_avatar", lambda name="presenter": avatar.path)
    return avatar


#: Module that is not there; the command that needs it; what its one line says.
CASES = [
    ("torch", ["create", "me.mp4", "-o", "me.avatar"], r"torch is not installed: pip install 'lipwright\[train\]'"),
    ("onnx", ["create", "me.mp4", "-o", "me.avatar"], r"onnx is not installed: pip install 'lipwright\[train\]'"),
    ("torch", ["train", "AVATAR"], r"torch is not installed: pip install 'lipwright\[train\]'"),
    ("torch", ["train", "AVATAR", "--pack", "p.npz"], r"torch is not installed: pip install 'lipwright\[train\]'"),
    ("torch", ["render", "DEMO", "-o", "film.mp4", "--runtime", "torch"], r"pip install 'lipwright\[train\]'"),
    ("fastapi", ["serve"], r"fastapi is not installed: pip install 'lipwright\[serve\]'"),
    ("uvicorn", ["serve"], r"uvicorn is not installed: pip install 'lipwright\[serve\]'"),
    ("websockets", ["serve"], r"websockets is not installed: pip install 'lipwright\[serve\]'"),
    ("grpc", ["serve", "--grpc-port", "0"], r"grpcio is not installed: pip install 'lipwright\[grpc\]'"),
    ("grpc_health", ["serve", "--grpc-port", "0"], r"grpcio-health-checking is not .*'lipwright\[grpc\]'"),
    ("grpc_reflection", ["serve", "--grpc-port", "0"], r"grpcio-reflection is not .*'lipwright\[grpc\]'"),
    ("google.protobuf", ["serve", "--grpc-port", "0"], r"protobuf is not installed: pip install 'lipwright\[grpc\]'"),
    ("c2pa", ["render", "DEMO", "-o", "film.mp4"], r"pip install c2pa-python; or render with --no-credentials"),
    ("c2pa", ["verify", "DEMO"], r"credentials need c2pa, which cannot be loaded .*: pip install c2pa-python"),
    ("cryptography", ["consent", "AVATAR", "--shown", "a", "--by", "a", "--for", "b"], CORE.format("cryptography")),
    ("cryptography", ["render", "DEMO", "-o", "film.mp4"], CORE.format("cryptography")),
    ("openvino", ["render", "DEMO", "-o", "film.mp4", "--runtime", "openvino"], r"pip install openvino"),
]


@pytest.mark.parametrize(
    ("module", "command", "line"),
    CASES,
    ids=[f"{module}-{command[0]}-{k}" for k, (module, command, _) in enumerate(CASES)],
)
def test_a_missing_library_is_one_line_and_nothing_was_begun(
    module: str,
    command: list[str],
    line: str,
    lipwright: Command,
    avatar: Avatar,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    hide(module, monkeypatch)
    outcome = lipwright(
        *({"AVATAR": str(avatar.path), "DEMO": str(builtin_sound())}.get(word, word) for word in command)
    )
    assert outcome.code == 1
    assert re.search(line, outcome.err) and outcome.err.count("\n") == 1, outcome.err
    assert {path.name for path in tmp_path.iterdir()} <= {"config"}


def hide(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were not installed, for those who import it anew and for those who only look."""
    for loaded in [name for name in sys.modules if name.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)


def test_every_library_of_a_door_is_looked_for() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for extra, modules in _NEEDED.items():
        named = {re.split(r"[>=<\[]", line)[0] for line in extras[extra]} - {"lipwright"}
        assert set(modules.values()) == named
        assert _missing(extra) is None


def test_the_trainer_on_another_machine_says_what_it_lacks(tmp_path: Path) -> None:
    code = "import runpy, sys; sys.modules['torch'] = None; runpy.run_module('lipwright.training', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, "pack.npz", "RUN"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "lipwright: torch is not installed: pip install 'lipwright[train]'\n"


@pytest.fixture
def url(avatar: Avatar, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[str]:
    """A server without aiortc."""
    hide("aiortc", monkeypatch)
    attached = _webrtc()
    said = "lipwright: WebRTC is off: aiortc is not installed: pip install 'lipwright[webrtc]'\n"
    assert capfd.readouterr().err == said
    with running(costly_face(avatar)[0], sessions=1) as engine, serving(engine, attachments=attached) as address:
        yield f"http://{address}"


@pytest.mark.parametrize("path", ["whip", "whep"])
def test_a_server_without_webrtc_tells_its_clients(url: str, path: str) -> None:
    request = urllib.request.Request(f"{url}/v1/avatars/tiny/{path}", b"v=0", {"Content-Type": "application/sdp"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 501
    assert "pip install 'lipwright[webrtc]'" in json.load(refused.value)["error"]["message"]
