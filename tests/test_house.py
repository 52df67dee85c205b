"""The house keeps its own rules: import law, public names, origins of weights, size of built-in data, clean text."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import lipwright
from tools.make_demo_sound import everything_said

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "lipwright"
MODULES = sorted(SOURCE.rglob("*.py"))

#: Lower never imports higher; rooms of one floor never import each other.
FLOORS = (
    {"errors"},
    {"contract", "closing", "digest", "durable"},
    {"libav", "picture", "grain"},
    {"audio", "video", "patch", "models"},
    {"runtimes", "credentials"},
    {"face", "avatar"},
    {"quality"},
    {"render", "prepare", "training", "export"},
    {"trial", "export_avatar"},
    {"create", "check", "bench", "doctor"},
    {"serve"},
    {"cli"},
    {"__main__"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MAY_IMPORT_TORCH = {"models", "training", "export", "quality"}
#: Nothing outside the standard library that takes long or may be missing loads with `import lipwright`.
HEAVY = {"torch", "openvino", "onnxruntime", "fastapi", "uvicorn", "aiortc", "grpc", "numpy", "cv2", "av"}
WEIGHTS_AND_MEDIA = {
    *(".onnx", ".pth", ".pt", ".ckpt", ".safetensors", ".npz", ".npy", ".bin", ".tflite", ".mp4", ".mkv", ".webm"),
    *(".flac", ".wav", ".mp3", ".ogg", ".png", ".jpg", ".jpeg", ".webp", ".gif"),
}
BUILT_IN_LIMIT = 36_000_000


def room_of(module: Path) -> str:
    return module.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_modules(module: Path) -> Iterator[str]:
    """Dotted names of all that a file imports anywhere in it; ``from a import b`` gives a.b."""
    package = ["lipwright", *module.relative_to(SOURCE).parts[:-1]]
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def rooms_imported(module: Path) -> set[str]:
    names = {name.split(".")[1] for name in imported_modules(module) if name.startswith("lipwright.")}
    return names - {"__version__"}


def repository_files() -> list[Path]:
    """The files git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def text_files() -> list[Path]:
    return [p for p in repository_files() if p.suffix not in WEIGHTS_AND_MEDIA]


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_import_law(module: Path) -> None:
    room = room_of(module)
    if room == "__init__":
        return
    assert room in FLOOR_OF, f"{room} stands on no floor: add it to FLOORS and to docs/architecture.md"
    for other in rooms_imported(module) - {room}:
        assert other in FLOOR_OF, f"{module.name} imports lipwright.{other}, which is no room: import from its room"
        assert FLOOR_OF[other] < FLOOR_OF[room], f"{room} must not import {other}"


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_only_torch_rooms_import_torch(module: Path) -> None:
    if room_of(module) not in MAY_IMPORT_TORCH and module != SOURCE / "runtimes" / "torch.py":
        torch = {name for name in imported_modules(module) if name.split(".")[0] in {"torch", "torchvision"}}
        assert not torch


def test_public_names() -> None:
    expected = {"Avatar", "Renderer", "render", "Frame", "LipwrightError", "__version__"}
    assert set(lipwright.__all__) == expected
    assert {name for name in dir(lipwright) if name in expected} == expected
    for name in expected:
        assert getattr(lipwright, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lipwright.nothing


def in_fresh_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_import_is_light() -> None:
    code = "import sys, lipwright; print(*{name.split('.')[0] for name in sys.modules})"
    assert not HEAVY & set(in_fresh_python(code).split())


def test_using_the_public_names_loads_no_torch_openvino_or_server() -> None:
    code = "import sys; from lipwright import *; print(*{name.split('.')[0] for name in sys.modules})"
    assert not {"torch", "openvino", "fastapi", "uvicorn", "aiortc", "grpc"} & set(in_fresh_python(code).split())


@pytest.mark.parametrize("first", ["import lipwright.render", "from lipwright import render", "import lipwright.cli"])
def test_render_is_the_function_whatever_came_first(first: str) -> None:
    code = f"{first}\nimport lipwright, types\nprint(isinstance(lipwright.render, types.FunctionType))"
    assert in_fresh_python(code) == "True"


def test_version_has_one_home() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    assert lipwright.__version__ == importlib.metadata.version("lipwright") == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_weight_and_media_file_has_its_line_in_models_md() -> None:
    lines = (ROOT / "MODELS.md").read_text(encoding="utf-8").splitlines()
    listed = {m[1]: m[2] for line in lines if (m := re.match(r"\| `([^`]+)` \|.*`([0-9a-f]{64})` \|$", line))}
    files = [path for path in repository_files() if path.suffix in WEIGHTS_AND_MEDIA]
    found = {p.relative_to(ROOT).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    assert listed == found


def test_built_in_data_is_small() -> None:
    total = sum(path.stat().st_size for path in (SOURCE / "data").rglob("*") if path.is_file())
    assert total <= BUILT_IN_LIMIT


def test_text_names_no_place_of_one_machine() -> None:
    places = re.compile(
        r"(?<![\w.~$}>])/(?:work|home|root|Users|opt)/\w" + "|" + "python" + r"hosted\.|pypi" + r"\.org"
    )
    for path in text_files():
        found = places.findall(path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(ROOT)}: {found}"


def test_demo_sentences_stand_nowhere_else() -> None:
    home = ROOT / "tools" / "demo_sentences.txt"
    sentences = {sentence.lower() for sentence in everything_said()}
    for path in text_files():
        if path != home:
            text = path.read_text(encoding="utf-8").lower()
            assert not [s for s in sentences if s in text], f"{path.relative_to(ROOT)} repeats a demo sentence"
