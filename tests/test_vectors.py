"""Test vectors for other languages: what is written, what the page about them says, and how answers are judged."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from avatars import make_avatar, tiny_generator
from lipwright import cli
from lipwright.avatar import Avatar, builtin_sound
from lipwright.check import check_against, write_vectors
from lipwright.check.limits import F32, LEVEL, REDUCED
from lipwright.check.report import Report
from lipwright.errors import LipwrightError, MediaError
from lipwright.runtimes import open_runtime
from lipwright.trial import generator_of

FRAMES = 4
PAGE = Path(__file__).parent.parent / "docs" / "vectors.md"
Array = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return make_avatar(tmp_path_factory.mktemp("avatar"))


@pytest.fixture
def folder(avatar: Avatar, tmp_path: Path) -> Path:
    write_vectors(avatar, builtin_sound(), tmp_path / "vectors", FRAMES)
    return tmp_path / "vectors"


def read(folder: Path, name: str, *shape: int) -> Array:
    return np.fromfile(folder / name, "<f4").reshape(-1, *shape)


def expected(folder: Path) -> Array:
    return read(folder, "expected_output.bin", 3, 320, 320)


def judged(folder: Path, output: npt.NDArray[Any], tmp_path: Path, limits: Any = F32) -> Report:
    np.ascontiguousarray(output).tofile(folder / "output.bin")
    return check_against(folder, tmp_path / "report", limits)


# --- writing --------------------------------------------------------------------------------------------------------


def test_the_files_are_what_the_networks_get_and_give(avatar: Avatar, folder: Path) -> None:
    visual, audio = read(folder, "visual_input.bin", 6, 320, 320), read(folder, "audio_input.bin", 32, 16, 16)
    assert len(visual) == len(audio) == FRAMES
    runtime = open_runtime(generator_of(avatar), "generator", "onnxruntime", "f32")
    for k in range(FRAMES):
        assert np.array_equal(runtime.run(visual[k : k + 1], audio[k : k + 1])[0], expected(folder)[k])
    assert np.array_equal(visual[:, :3, :5], visual[:, 3:, :5])  # above the mask both halves agree
    assert not visual[:, 3:, 5:310, 5:315].any()
    assert visual[:, :3, 5:310, 5:315].mean() > 0.1


def test_metadata_describes_every_file(folder: Path) -> None:
    metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["frames"] == FRAMES
    for name, record in metadata["arrays"].items():
        content = (folder / name).read_bytes()
        assert (record["dtype"], record["byte_order"], record["order"]) == ("float32", "little", "C")
        assert len(content) == 4 * np.prod(record["shape"])
        assert hashlib.sha256(content).hexdigest() == record["sha256"]
    assert metadata["template_frames"] == list(range(FRAMES))
    assert metadata["limits"] == {
        "f32": {"max_abs": F32.max_abs},
        "reduced": {"mean_abs": REDUCED.mean_abs, "p999_abs": REDUCED.p999_abs, "lip_gap_r": REDUCED.lip_gap_r},
    }


def test_what_is_there_is_not_touched_without_being_told(avatar: Avatar, folder: Path) -> None:
    before = sorted(p.name for p in folder.iterdir())
    with pytest.raises(MediaError, match="--force"):
        write_vectors(avatar, builtin_sound(), folder, 1)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(MediaError, match=r"other files \(notes.txt\)"):
        write_vectors(avatar, builtin_sound(), folder, 1, replace=True)
    assert sorted(p.name for p in folder.iterdir()) == sorted([*before, "notes.txt"])
    (folder / "notes.txt").unlink()
    assert write_vectors(avatar, builtin_sound(), folder, 1, replace=True)["frames"] == 1


def test_a_broken_run_leaves_nothing(avatar: Avatar, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_vectors(avatar, builtin_sound(), tmp_path / "v", 3, look=stop)
    assert list(tmp_path.iterdir()) == []


def test_more_frames_than_there_are(avatar: Avatar, tmp_path: Path) -> None:
    with pytest.raises(LipwrightError, match="give 12 frames"):
        write_vectors(avatar, builtin_sound(), tmp_path / "v", 13)


# --- judging --------------------------------------------------------------------------------------------------------


def test_the_right_answer_is_good(folder: Path, tmp_path: Path) -> None:
    report = judged(folder, expected(folder) + np.float32(5e-5), tmp_path)
    assert not report.broken
    assert (tmp_path / "report" / "sheet-output.png").is_file()


def test_the_f32_limit_breaks(folder: Path, tmp_path: Path) -> None:
    output = expected(folder)
    output[1, 2, 160, 160] += 2e-4
    assert [f.what for f in judged(folder, output, tmp_path).broken] == ["output.bin: largest difference"]
    assert not judged(folder, output, tmp_path, REDUCED).broken


def test_the_limits_of_reduced_precision_break(folder: Path, tmp_path: Path) -> None:
    shifted = judged(folder, expected(folder) + np.float32(0.6 * LEVEL), tmp_path, REDUCED)
    assert [f.what for f in shifted.broken] == ["output.bin: mean difference"]
    spotted = expected(folder)
    spotted[:, :, :2, :160] += np.float32(6 * LEVEL)  # 0.3 % of the values
    assert [f.what for f in judged(folder, spotted, tmp_path, REDUCED).broken] == ["output.bin: 99.9th percentile"]


SLIPS: dict[str, Callable[[Array], npt.NDArray[Any]]] = {
    "red and blue": lambda x: x[:, ::-1],
    "divide by 255": lambda x: x * 255,
    "-1..1": lambda x: x * 2 - 1,
    "[N, H, W, C]": lambda x: x.transpose(0, 2, 3, 1),
    "rows and columns": lambda x: x.transpose(0, 1, 3, 2),
    "upside down": lambda x: x[:, :, ::-1],
    "big-endian": lambda x: x.astype(">f4"),
    "sigmoid is missing": lambda x: np.log(np.clip(x, 1e-6, 1 - 1e-6) / (1 - np.clip(x, 1e-6, 1 - 1e-6))),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_the_usual_slips_are_named(slip: str, folder: Path, tmp_path: Path) -> None:
    report = judged(folder, SLIPS[slip](expected(folder)), tmp_path)
    assert report.broken
    notes = [finding.seen for finding in report.findings if finding.verdict == "note"]
    assert any(slip in note for note in notes), notes


def test_values_that_are_no_numbers(folder: Path, tmp_path: Path) -> None:
    output = expected(folder)
    output[0, 0, 0, :3] = np.nan
    broken = {f.what: f.seen for f in judged(folder, output, tmp_path).broken}
    assert broken["output.bin: NaN or infinite values"] == "3"
    assert "output.bin: largest difference" in broken


def test_a_file_of_another_size(folder: Path, tmp_path: Path) -> None:
    (finding,) = judged(folder, expected(folder).astype(np.float16), tmp_path).broken
    assert finding.seen.endswith("float16? write float32")


def test_folders_that_are_no_vectors(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LipwrightError, match=r"there is no .*output.bin"):
        check_against(folder, tmp_path / "r")
    expected(folder)[:1].tofile(folder / "expected_output.bin")
    with pytest.raises(LipwrightError, match=r"expected_output.bin is missing or was changed"):
        check_against(folder, tmp_path / "r")
    with pytest.raises(LipwrightError, match="lipwright vectors writes"):
        check_against(tmp_path, tmp_path / "r")


# --- the command and the page ---------------------------------------------------------------------------------------


def run(*args: str | Path) -> int:
    with pytest.raises(SystemExit) as leaving:
        cli.main([str(arg) for arg in args])
    return int(leaving.value.code or 0)


def test_the_command_ends_with_1_where_a_limit_is_broken(
    avatar: Avatar, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    vectors, report = tmp_path / "v", tmp_path / "report"
    assert run("vectors", avatar.path, "-o", vectors, "--frames", "2") == 0
    other = open_runtime(tiny_generator(tmp_path / "other.onnx", gain=0.3), "generator", "onnxruntime", "f32")
    visual, audio = read(vectors, "visual_input.bin", 6, 320, 320), read(vectors, "audio_input.bin", 32, 16, 16)
    other.run(visual, audio).tofile(vectors / "output.bin")
    assert run("check", "--against", vectors, "-o", report) == 1
    expected(vectors).tofile(vectors / "output.bin")
    capfd.readouterr()
    assert run("check", "--against", vectors, "-o", report, "--json") == 0
    assert json.loads(capfd.readouterr().out)["broken"] == 0
    assert "All 2 limits are kept" in (report / "check.html").read_text(encoding="utf-8")


def test_the_example_of_the_page_runs(tmp_path: Path) -> None:
    avatar = make_avatar(tmp_path)
    write_vectors(avatar, builtin_sound(), tmp_path / "vectors", 2)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.splitlines()) <= 20
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not check_against(tmp_path / "vectors", tmp_path / "report").broken


def test_the_page_names_every_key_of_the_metadata(folder: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    keys = [*metadata, *metadata["arrays"]["visual_input.bin"], *metadata["generator"], *metadata["arrays"]]
    assert [key for key in keys if f"`{key}`" not in text] == []
