"""The documents say what the code does: numbers, links, names of tests, and a word on every public function.

Their commands: tests/test_docs_commands.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lipwright import contract
from lipwright.audio.mel import mel_filters
from lipwright.contract import AVE, CENTRED, lookahead_ms
from pages import PAGES, ROOT
from test_readme import BLOCK
from tools.site_hooks import FETCHED

SOURCE = ROOT / "src" / "lipwright"
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


@pytest.mark.parametrize("name", ["README.md", "avatar-format.md", "contract.md", "credentials.md", "index.md"])
def test_pages_with_examples_run_them(name: str) -> None:
    page = next(page for page in PAGES if page.name == name)
    assert BLOCK.search(page.read_text(encoding="utf-8"))


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


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    """By file, or by name where a file has it."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    files = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py")}
    assert set(re.findall(r"(?<![\w/])(?:tests/)?(test_\w+\.py)", text)) <= set(files)
    defined = set(re.findall(r"^(?:async )?def (test_\w+)", "\n".join(files.values()), re.MULTILINE))
    assert set(re.findall(r"`(test_\w+)`", text)) <= defined


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
#: How it tells of what kind the values are, where their type alone does not: dtype, range, unit or order.
KIND = re.compile(r"uint8|int\d+|float\d+|bool|\d\.\.|pixels|samples|levels|BGR|YUV|landmarks|gaps?\b|Hz|True", re.I)
#: Rooms in which no method goes without words of its own, not even one of a line.
IN_FULL = {"audio", "video", "patch", "picture", "runtimes", "quality", "credentials", "face"}
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


def test_rooms_in_full_have_words_for_every_class_function_and_method() -> None:
    found = []
    for module in (path for path in SOURCE.rglob("*.py") if room(path.relative_to(SOURCE)) in IN_FULL):
        for name, node in defined(ast.parse(module.read_text(encoding="utf-8")).body):
            if not ast.get_docstring(node):
                found.append(f"{module.relative_to(SOURCE)}: {name}")
    assert not found


def defined(
    body: list[ast.stmt], owner: str = ""
) -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Public classes, functions and methods by their full names."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield f"{owner}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from defined(node.body, f"{node.name}.")


def room(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def with_arrays(rooms: set[str]) -> Iterator[tuple[str, str, str]]:
    """Public functions of these rooms that take or give arrays: name, own words, and those of all around."""
    for module, name, node, said in all_functions():
        signature = f"{ast.unparse(node.args)} {ast.unparse(node.returns) if node.returns else ''}"
        if room(module) in rooms and ARRAYS.search(signature):
            yield f"{module}: {name}", ast.get_docstring(node) or "", said


def test_functions_that_take_or_give_arrays_say_their_shape() -> None:
    # What a runtime takes and gives has the shapes of the TensorSpecs that it lists; a package's arrays are described
    # once, by the properties of Avatar.
    assert [name for name, _, said in with_arrays(SHOWN - {"runtimes", "avatar"}) if not SHAPE.search(said)] == []


def test_functions_of_the_rooms_in_full_say_shape_and_kind_themselves() -> None:
    assert [name for name, own, _ in with_arrays(IN_FULL) if not (SHAPE.search(own) and KIND.search(own))] == []
