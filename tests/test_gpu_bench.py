"""The script for cards runs with torch and OpenCV alone, counts per frame, and sees a precision that draws wrongly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avatars import make_avatar
from lipwright.contract import FloatArray, UInt8Array
from lipwright.export import export_generator
from lipwright.models.generator import Generator
from lipwright.runtimes import Redrawn, open_runtime
from networks import formula_weights, pictures, windows
from tools import gpu_bench

ROOT = Path(__file__).parent.parent
#: What a bare machine with torch and OpenCV does not have.
ABSENT = ("av", "onnxruntime", "openvino", "pydantic", "typer", "rich")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As lipwright exports it: no .pth is beside it."""
    out = tmp_path_factory.mktemp("model") / "model.onnx"
    export_generator(formula_weights(Generator("mobile")), out, pictures(1), windows(1), "f16")
    return out


def test_it_runs_on_a_bare_machine(model: Path, tmp_path: Path) -> None:
    avatar = make_avatar(tmp_path)
    blocked = "; ".join(f"sys.modules[{name!r}] = None" for name in ABSENT)
    code = f"import sys; {blocked}; from tools.gpu_bench import main; sys.exit(main(sys.argv[1:]))"
    few = ["--provider", "cpu", "--precisions", "f32", "--batches", "1", "2", "--calls", "2"]
    command = [
        sys.executable,
        "-c",
        code,
        str(avatar.path),
        "--model",
        str(model),
        "-o",
        str(tmp_path / "o.json"),
        *few,
    ]
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| f32 | 2 |" in done.stdout
    one, two = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
    assert (one["batch"], two["batch"]) == (1, 2)
    assert min(one["median_ms"], two["median_ms"], one["opening_s"]) > 0
    assert max(one["max_off"], two["max_off"]) <= 1


def test_questions_are_the_avatars(tmp_path: Path) -> None:
    avatar = make_avatar(tmp_path)
    rois, heard = gpu_bench.questions(avatar.path, 16)
    assert rois.shape == (16, 320, 320, 3)
    assert heard.shape == (16, 32, 16, 16)
    assert len({roi.tobytes() for roi in rois}) > 1


def test_another_picture_is_noticed() -> None:
    good = gpu_bench.Row("f16", 1, 1.0, 1.0, 1.0, None, None, 5, 0.5, 0.0005)
    assert good.good
    assert not replace(good, mean_off=0.6).good
    assert not replace(good, share_off=0.01).good
    assert not replace(good, mean_off=float("nan")).good


def test_a_broken_precision_ends_with_1(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    avatar = make_avatar(tmp_path)
    real = open_runtime
    opened: list[str] = []

    def black(rois: UInt8Array, _: FloatArray) -> Redrawn:
        return Redrawn(np.zeros_like(rois), np.ones(len(rois), np.bool_))

    def spoilt(*arguments: object) -> object:
        """The second one that is opened, which is measured, draws black."""
        runtime = real(*arguments)  # type: ignore[arg-type]
        opened.append(runtime.detail)
        if len(opened) > 1:
            monkeypatch.setattr(runtime, "redraw", black)
        return runtime

    monkeypatch.setattr(gpu_bench, "open_runtime", spoilt)
    few = ["--provider", "cpu", "--precisions", "f32", "--batches", "1", "--calls", "1"]
    assert gpu_bench.main([str(avatar.path), "--model", str(model), *few]) == 1
