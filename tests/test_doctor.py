"""The picture of the installation is true, and what is broken is named with its remedy."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from lipwright import doctor
from lipwright.doctor import Installation, examine
from lipwright.runtimes import onnx as onnx_runtime
from lipwright.runtimes.choice import installed_version
from networks import write_alien


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def installation(own_cache: Path) -> Installation:
    return examine()


def state(installation: Installation, name: str) -> doctor.RuntimeState:
    return next(r for r in installation.runtimes if r.name == name)


def pretend_versions(monkeypatch: pytest.MonkeyPatch, **changed: str | None) -> None:
    """Some distributions have another version or None, all others are as they are; ``_`` stands for ``-``."""
    real = installed_version
    names = {name.replace("_", "-"): value for name, value in changed.items()}
    monkeypatch.setattr(doctor, "installed_version", lambda name: names[name] if name in names else real(name))


def test_it_is_true(installation: Installation, own_cache: Path) -> None:
    assert installation.python == platform.python_version()
    assert installation.libraries["numpy"] == np.__version__
    assert installation.libraries["onnxruntime"] == onnxruntime.__version__
    assert 1 <= installation.processor.cores <= (os.cpu_count() or 1)
    assert installation.memory_gib is None or installation.memory_gib > 0.5
    assert installation.cache == str(own_cache / "lipwright")


def test_a_healthy_installation_has_no_problem(installation: Installation) -> None:
    assert installation.problems == ()
    assert all(installation.codecs.values())
    assert "encode libx264" in installation.codecs


def test_it_names_the_extras_of_the_package(installation: Installation) -> None:
    assert set(installation.extras) == {"train", "serve", "webrtc", "grpc", "all"}
    assert installation.extras["train"] == ()


def test_it_becomes_json(installation: Installation) -> None:
    assert json.loads(json.dumps(asdict(installation)))["python"] == platform.python_version()


def test_it_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    examine()
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_runtimes_are_loaded_without_a_model(installation: Installation) -> None:
    assert state(installation, "onnxruntime:cpu").detail == f"onnxruntime {onnxruntime.__version__} loads"
    assert all(r.works and r.milliseconds is None for r in installation.runtimes if r.name.endswith(":cpu"))


def test_runtimes_are_tried_with_a_model(tmp_path: Path) -> None:
    tried = examine(write_alien(tmp_path / "m.onnx"))
    onnx_state, torch_state = state(tried, "onnxruntime:cpu"), state(tried, "torch:cpu")
    assert onnx_state.works
    assert onnx_state.milliseconds is not None
    assert 0 < onnx_state.milliseconds < 10_000
    assert torch_state.works and torch_state.milliseconds is None
    assert "torch 2" in torch_state.detail and "no weights for it" in torch_state.detail


def test_a_model_that_is_none_is_told_and_not_raised(tmp_path: Path) -> None:
    tried = examine(tmp_path / "nothing.onnx")
    assert not any(r.works for r in tried.runtimes)
    assert "there is no model file" in state(tried, "openvino").detail


def test_a_missing_library_is_told_with_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    installation = examine()
    assert "pip install openvino" in state(installation, "openvino").detail
    assert "pip install 'lipwright[train]'" in state(installation, "torch:cpu").detail


def test_a_missing_core_library_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_versions(monkeypatch, numpy=None)
    assert "numpy is not installed: pip install --force-reinstall lipwright" in examine().problems


def test_two_distributions_in_one_folder_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_versions(monkeypatch, onnxruntime_gpu=onnxruntime.__version__, opencv_python="5.0")
    first, second = examine().problems
    assert "onnxruntime and onnxruntime-gpu overwrite" in first
    assert "pip uninstall -y opencv-python-headless opencv-python" in second


def test_onnxruntime_gpu_alone_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_versions(monkeypatch, onnxruntime=None, onnxruntime_gpu=onnxruntime.__version__)
    assert examine().problems == ()


def test_an_onnxruntime_of_another_version_than_installed_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_versions(monkeypatch, onnxruntime="1.0.0")
    (problem,) = examine().problems
    assert "but 1.0.0 is installed: pip install --force-reinstall onnxruntime" in problem


def test_an_onnxruntime_without_content_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace())
    installation = examine()
    assert any("the installation of onnxruntime is broken" in problem for problem in installation.problems)
    assert not state(installation, "onnxruntime:cpu").works


def test_a_cache_that_cannot_be_written_is_a_problem(own_cache: Path) -> None:
    own_cache.write_text("a file where the folder should be")
    (problem,) = examine().problems
    assert "set XDG_CACHE_HOME" in problem


def test_every_provider_of_onnxruntime_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_runtime, "available_providers", lambda: ("cpu", "cuda"))
    names = [r.name for r in examine().runtimes]
    assert names[:2] == ["onnxruntime:cpu", "onnxruntime:cuda"]
