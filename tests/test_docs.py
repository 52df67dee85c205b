"""The documents say what the code does: numbers, commands, options, links, and a word on every public function."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from lipwright import cli, contract
from lipwright.audio.mel import mel_filters
from lipwright.cli.app import app
from lipwright.contract import AVE, CENTRED, lookahead_ms
from test_readme import BLOCK
from tools.site_hooks import FETCHED

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "lipwright"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONTRACT = ROOT / "docs" / "contract.md"
README_LINES = 150

FENCED = re.compile(r"^```\w*\n.*?^```$", re.MULTILINE | re.DOTALL)


def page_id(page: Path) -> str:
    return page.name


# --- numbers of the contract ----------------------------------------------------------------------------------------


def test_every_constant_of_the_contract_page_has_the_codes_value() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([^|]+) \|", CONTRACT.read_text(encoding="utf-8"), re.MULTILINE)
    said = {name: ast.literal_eval(value) for name, value in rows}
    assert said == {name: getattr(contract, name) for name in said}
    numbers = {
        name for name, value in vars(contract).items() if name.isupper() and isinstance(value, int | float | tuple)
    }
    assert numbers <= set(said), f"not on the page: {sorted(numbers - set(said))}"


def numbers_of_the_contract() -> dict[float, str]:
    """Every number that prose on the contract page may use, and where it comes from."""
    c = contract
    x, y, width, height = c.MASK_XYWH
    window = c.AUDIO_SHAPE
    found = {
        **{float(value): name for name, value in vars(c).items() if name.isupper() and isinstance(value, int | float)},
        x: "mask",
        width: "mask",
        height: "mask",
        x + width - 1: "last masked column",
        y + height - 1: "last masked row",
        x + width: "end of the masked columns",
        y + height: "end of the masked rows",
        c.ROI_SIZE - y - height: "rim below the mask",
        c.BORDER + c.ROI_SIZE: "end of the ROI in the crop",
        window[0]: "AUDIO_SHAPE",
        c.WINDOW_SIZE * c.FEATURE_DIM: "values of a window",
        c.INPUT.shape[1]: "channels of the input",
        c.OUTPUT.shape[1]: "channels of the output",
        4 * c.INPUT.shape[1] * c.ROI_SIZE**2: "bytes of an input",
        4 * c.WINDOW_SIZE * c.FEATURE_DIM: "bytes of a window",
        4 * c.OUTPUT.shape[1] * c.ROI_SIZE**2: "bytes of an output",
        round(100 * (c.CROP_SIZE / c.ROI_SIZE - 1), 2): "per cent that an ROI taken for the crop is too large",
        c.MEL_PER_FRAME / 2: "middle of a frame in mel columns",
        c.MEL_WINDOW - 1: "last mel column of a feature",
        c.SAMPLES_PER_FRAME - 1: "last sample of a frame",
        len(mel_filters()): "mel bands",
        0.5: "the grey of an example",
    }
    looks = {ms: "look-ahead" for n in range(c.WINDOW_FUTURE + 1) for ms in (lookahead_ms(n), lookahead_ms(n, AVE))}
    return {float(k): v for k, v in (found | looks).items()}


#: Not the contract's: counting words, channels, levels, versions, frame rates and landmark models of others.
OTHERS = {
    *range(8),
    *(20, 100, 1e-5, 255, 16, 235),
    *(0.11, 29.97, 29, 30, 601, 709),
    *(31, 52, 68, 110, 468),
}


def test_every_number_of_the_contract_page_is_the_codes() -> None:
    text = FENCED.sub("", CONTRACT.read_text(encoding="utf-8"))
    text = re.sub(r"UNet-328|UNet328|SyncTalk_2D|uint8|float\d+|sha256|int32", "", text)
    known = numbers_of_the_contract()
    said = {float(number) for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e-\d+)?", text)}
    wrong = sorted(number for number in said if number not in known and number not in OTHERS)
    assert not wrong, f"docs/contract.md says {wrong}, which lipwright.contract does not"


def test_the_look_ahead_table_is_the_codes() -> None:
    for name, alignment in (("ours", CENTRED), ("imported", AVE)):
        row = re.search(rf"^\| {name}, ms \|(.*)\|$", CONTRACT.read_text(encoding="utf-8"), re.MULTILINE)
        assert row is not None
        said = [float(cell) for cell in row[1].split("|")]
        assert said == [lookahead_ms(n, alignment) for n in range(contract.WINDOW_FUTURE + 1)]


@pytest.mark.parametrize("name", ["README.md", "contract.md", "credentials.md", "index.md"])
def test_pages_with_examples_run_them(name: str) -> None:
    page = next(page for page in PAGES if page.name == name)
    assert BLOCK.search(page.read_text(encoding="utf-8"))


# --- commands -------------------------------------------------------------------------------------------------------


def command_lines(text: str) -> Iterator[str]:
    """Every use of the command on a page: lines of code blocks, fenced or indented, and code in a sentence."""
    joined = text.replace("\\\n", " ")
    for block in FENCED.findall(joined):
        yield from re.findall(r"^(?:\$ )?(lipwright [^\n#|]+)", block, re.MULTILINE)
    prose = FENCED.sub("", joined)
    yield from re.findall(r"^ {4}(?:\$ )?(lipwright [^\n#|]+)", prose, re.MULTILINE)
    for sentence in re.split(r"(?<=[.;]) |\n\n", prose):
        if "to come" not in sentence:
            yield from re.findall(r"`(lipwright [^`\n]+)`", sentence)


def faults(line: str) -> list[str]:
    group = typer.main.get_command(app)
    words = [word.strip("[]") for word in shlex.split(line.replace("'", ""))[1:]]
    name = next((word for word in words if not word.startswith("-")), None)
    commands = group.commands  # type: ignore[attr-defined]
    if name is None or name not in commands:
        return [] if name is None or not name.islower() else [f"`{line}`: there is no command {name}"]
    options = {option for p in commands[name].params for option in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
    used = {word.split("=")[0] for word in words if re.fullmatch(r"--?[a-z][\w=-]*", word)}
    return [f"`{line}`: {name} has no {option}" for option in sorted(used - options)]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_on_a_page_exists_with_its_options(page: Path) -> None:
    assert cli.main is not None  # importing the command has registered its parts
    found = [fault for line in command_lines(page.read_text(encoding="utf-8")) for fault in faults(line)]
    assert not found


def test_a_wrong_command_or_option_would_be_found() -> None:
    text = "Say `lipwright rendr x.wav` or\n\n    lipwright render x.wav --oout y.mp4 \\\n        --frames 3\n"
    found = [fault for line in command_lines(text) for fault in faults(line)]
    assert [fault.rsplit(": ", 1)[1] for fault in found] == ["render has no --oout", "there is no command rendr"]
    assert not list(command_lines("`lipwright sing` is to come."))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_module_that_a_page_runs_exists(page: Path) -> None:
    for module in re.findall(r"python -m (tools[\w.]+)", page.read_text(encoding="utf-8")):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


# --- links ----------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.is_file(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}"


def test_the_readme_is_short() -> None:
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) <= README_LINES


def test_the_site_names_every_page() -> None:
    said = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    missing = [page.name for page in PAGES[1:] if f"- {page.name}\n" not in said]
    assert not missing, f"add them to nav in mkdocs.yml: {missing}"


def test_the_site_fetches_nothing() -> None:
    page = (
        '<script src=https://x.example/a.js></script><a href="https://y.example">y</a><link href="//z.example/z.css">'
    )
    assert FETCHED.findall(page) == ["https://x.example/a.js", "//z.example/z.css"]


# --- docstrings -----------------------------------------------------------------------------------------------------

ARRAYS = re.compile(r"\b(?:\w*Array|NDArray)\b")
#: How a docstring tells a shape: [n, 512], "of this shape", or the names of the values, as (centre x, centre y, side).
SHAPE = re.compile(r"\[|shape|\(\w[\w ]*, ")
#: Rooms that programs use; docs/api.md shows them.
SHOWN = set(re.findall(r"^::: lipwright\.(\w+)", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE))


def functions(body: list[ast.stmt], owner: ast.ClassDef | None = None) -> Iterator[tuple[str, ast.FunctionDef, str]]:
    """Public functions and methods: name, node, and what the class's docstrings say as a whole."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from functions(node.body, node)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            around: list[ast.ClassDef | ast.FunctionDef] = [] if owner is None else [owner]
            around += [n for n in owner.body if isinstance(n, ast.FunctionDef)] if owner else []
            said = " ".join(ast.get_docstring(n) or "" for n in (node, *around))
            yield f"{owner.name}.{node.name}" if owner else node.name, node, said


def all_functions() -> Iterator[tuple[Path, str, ast.FunctionDef, str]]:
    # What protoc has written says nothing that its .proto does not.
    for module in sorted(path for path in SOURCE.rglob("*.py") if "_pb2" not in path.name):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        for name, node, said in functions(tree.body):
            yield module.relative_to(SOURCE), name, node, f"{ast.get_docstring(tree)} {said}"


def test_every_public_function_is_documented() -> None:
    """Only a method of one line, or one that is documented where its name is first promised, may do without."""
    listed = list(all_functions())
    promised = {node.name for _, _, node, _ in listed if ast.get_docstring(node)} | {"forward"}
    found = [
        f"{module}: {name}"
        for module, name, node, _ in listed
        if not ast.get_docstring(node) and ("." not in name or (len(node.body) > 1 and node.name not in promised))
    ]
    assert not found


def test_functions_that_take_or_give_arrays_say_their_shape() -> None:
    # What a runtime takes and gives has the shapes of the TensorSpecs that it lists; a package's arrays are described
    # once, by the properties of Avatar.
    rooms = SHOWN - {"runtimes", "avatar"}
    found = []
    for module, name, node, said in all_functions():
        signature = f"{ast.unparse(node.args)} {ast.unparse(node.returns) if node.returns else ''}"
        if module.parts[0].removesuffix(".py") in rooms and ARRAYS.search(signature) and not SHAPE.search(said):
            found.append(f"{module}: {name}")
    assert not found
